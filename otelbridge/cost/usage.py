"""Token counts of one call, and what it cost.

Plain values with one convention: totals contain their parts. `normalised` turns counts without
their parts (Anthropic's) into that form. Imports nothing of the project.
"""

from __future__ import annotations

from dataclasses import dataclass, fields, replace


@dataclass(frozen=True, slots=True)
class Usage:
    """Token counts of one call; None is unknown.

    Attributes:
        input_tokens: All input tokens, cached ones and audio included.
        output_tokens: All output tokens, reasoning and audio included.
        cached_tokens: Input tokens read from the provider's cache.
        cache_write_tokens: Input tokens written to the provider's cache, for any time.
        reasoning_tokens: Output tokens spent on reasoning.
        cost_usd: What the caller or the provider says the call cost, in USD.
        cache_write_1h_tokens: Those of `cache_write_tokens` that stay for an hour (Anthropic).
        audio_input_tokens: Input tokens of audio.
        audio_output_tokens: Output tokens of audio.
    """

    input_tokens: int | None = None
    output_tokens: int | None = None
    cached_tokens: int | None = None
    cache_write_tokens: int | None = None
    reasoning_tokens: int | None = None
    cost_usd: float | None = None
    cache_write_1h_tokens: int | None = None
    audio_input_tokens: int | None = None
    audio_output_tokens: int | None = None

    @property
    def is_known(self) -> bool:
        """Whether there is anything to price."""
        return self.input_tokens is not None or self.output_tokens is not None

    def merged(self, newer: Usage) -> Usage:
        """This usage with every figure that `newer` knows taken from there."""
        values = {
            field.name: getattr(self, field.name)
            if getattr(newer, field.name) is None
            else getattr(newer, field.name)
            for field in fields(self)
        }
        return Usage(**values)

    def normalised(self) -> Usage:
        """This usage with totals that contain their parts.

        A total smaller than its own parts can only be meant without them (Anthropic counts input
        so), hence the parts are added to it.
        """
        written = self.cache_write_tokens
        if (self.cache_write_1h_tokens or 0) > (written or 0):
            written = self.cache_write_1h_tokens
        inner_in = (self.cached_tokens or 0) + (written or 0)
        inner_out = self.reasoning_tokens or 0
        total_in, total_out = self.input_tokens, self.output_tokens
        if inner_in > (total_in or 0):
            total_in = (total_in or 0) + inner_in
        if inner_out > (total_out or 0):
            total_out = (total_out or 0) + inner_out
        return replace(
            self, input_tokens=total_in, output_tokens=total_out, cache_write_tokens=written
        )

    def plus(self, other: Usage) -> Usage:
        """The sum of two usages, unknown counts being none; without a cost."""
        sums: dict[str, int | None] = {}
        for field in fields(self):
            one, two = getattr(self, field.name), getattr(other, field.name)
            known = one is not None or two is not None
            sums[field.name] = (one or 0) + (two or 0) if known else None
        return Usage(**(sums | {"cost_usd": None}))

    def buckets(self) -> dict[str, int]:
        """Disjoint token counts by Langfuse's usage names, and their `total`; empty if unknown.

        Audio stays within input and output: Langfuse versions differ in its names, and the cost is
        sent beside.
        """
        usage = self.normalised()
        if not usage.is_known:
            return {}
        cached, written = usage.cached_tokens or 0, usage.cache_write_tokens or 0
        reasoning = usage.reasoning_tokens or 0
        result = {}
        if usage.input_tokens is not None:
            result["input"] = usage.input_tokens - cached - written
        if usage.output_tokens is not None:
            result["output"] = usage.output_tokens - reasoning
        if cached:
            result["input_cached_tokens"] = cached
        if written:
            result["input_cache_creation"] = written
        if reasoning:
            result["output_reasoning_tokens"] = reasoning
        result["total"] = sum(result.values())
        return result


@dataclass(frozen=True, slots=True)
class Cost:
    """What a call cost, in USD, and who says so.

    Attributes:
        total_usd: All of it; more than input and output where a call has a price of its own.
        source: `otelbridge.cost.source`: `caller`, `cache`, `custom`, `provider`, `emitter`, or
            the price list with its version.
        date: `otelbridge.cost.date`, the day that the prices were right, YYYY-MM-DD; empty text
            where nobody says.
    """

    total_usd: float
    source: str
    input_usd: float | None = None
    output_usd: float | None = None
    date: str = ""

    def details(self) -> dict[str, float]:
        """The figures by Langfuse's cost names."""
        result = {"total": self.total_usd}
        if self.input_usd is not None:
            result["input"] = self.input_usd
        if self.output_usd is not None:
            result["output"] = self.output_usd
        return result
