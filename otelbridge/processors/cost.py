"""Token usage as buckets, and its price in USD from the bundled list of `genai-prices`.

Works offline. The price list takes a few hundred milliseconds to load, so a daemon thread loads it
from the first model call on; until one second after that, spans that need a price wait for it. A
provider or model that is not in the list has no price: None, never zero. Imports level 0 only.
"""

from __future__ import annotations

import importlib.metadata
import os
import threading
import time
from dataclasses import dataclass, fields
from typing import Any, Final

from otelbridge import _guard

_logger = _guard.logger

#: `gen_ai.provider.name` (semantic conventions, and the spellings before 1.37) to the provider id
#: of genai-prices 0.2. A name that is not here is tried as it stands: `groq`, `openrouter`, ….
PRICE_PROVIDERS: Final = {
    "anthropic": "anthropic",
    "aws.bedrock": "aws",
    "az.ai.inference": "azure",
    "az.ai.openai": "azure",
    "azure.ai.inference": "azure",
    "azure.ai.openai": "azure",
    "cohere": "cohere",
    "deepseek": "deepseek",
    "gcp.gemini": "google",
    "gcp.gen_ai": "google",
    "gcp.vertex_ai": "google",
    "gemini": "google",
    "groq": "groq",
    "mistral_ai": "mistral",
    "moonshot_ai": "moonshotai",
    "openai": "openai",
    "perplexity": "perplexity",
    "vertex_ai": "google",
    "x_ai": "x-ai",
    "xai": "x-ai",
}

_WAIT_SECONDS: Final = 1.0
_MAX_WARNED: Final = 1_000


@dataclass(frozen=True, slots=True)
class Usage:
    """Token counts of one call; None is unknown.

    Attributes:
        input_tokens: All input tokens, cached ones included.
        output_tokens: All output tokens, reasoning included.
        cached_tokens: Input tokens read from the provider's cache.
        cache_write_tokens: Input tokens written to the provider's cache.
        reasoning_tokens: Output tokens spent on reasoning.
        cost_usd: What the caller or the provider says the call cost, in USD.
    """

    input_tokens: int | None = None
    output_tokens: int | None = None
    cached_tokens: int | None = None
    cache_write_tokens: int | None = None
    reasoning_tokens: int | None = None
    cost_usd: float | None = None

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
        inner_in = (self.cached_tokens or 0) + (self.cache_write_tokens or 0)
        inner_out = self.reasoning_tokens or 0
        total_in, total_out = self.input_tokens, self.output_tokens
        if inner_in > (total_in or 0):
            total_in = (total_in or 0) + inner_in
        if inner_out > (total_out or 0):
            total_out = (total_out or 0) + inner_out
        return Usage(
            total_in,
            total_out,
            self.cached_tokens,
            self.cache_write_tokens,
            self.reasoning_tokens,
            self.cost_usd,
        )

    def buckets(self) -> dict[str, int]:
        """Disjoint token counts by Langfuse's usage names, and their `total`; empty if unknown."""
        usage = self.normalised()
        if usage.input_tokens is None and usage.output_tokens is None:
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
    """What a call cost, in USD, and who says so (`otelbridge.cost.source`)."""

    total_usd: float
    source: str
    input_usd: float | None = None
    output_usd: float | None = None

    def details(self) -> dict[str, float]:
        """The figures by Langfuse's cost names."""
        result = {"total": self.total_usd}
        if self.input_usd is not None:
            result["input"] = self.input_usd
        if self.output_usd is not None:
            result["output"] = self.output_usd
        return result


class _PriceList:
    """The lazily loaded `genai_prices` module."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._ready = threading.Event()
        self._started = False
        self._deadline = 0.0
        self._module: Any = None
        self._source = ""
        self._warned: set[tuple[str, str]] = set()

    def start(self) -> None:
        if self._started:
            return
        with self._lock:
            if self._started:
                return
            self._deadline = time.monotonic() + _WAIT_SECONDS
            self._started = True
        threading.Thread(target=self._load, name="otelbridge-prices", daemon=True).start()

    def _load(self) -> None:
        try:
            import genai_prices  # 0.2-0.35 s, and pydantic: not at start-up
            from genai_prices.data_snapshot import get_snapshot

            get_snapshot()
            self._source = f"genai-prices {importlib.metadata.version('genai-prices')}"
            self._module = genai_prices
        # Missing or broken: costs are left out, the calls go on.
        except Exception as error:  # noqa: BLE001 - an import may raise anything
            _guard.record_failure("loading the price list", error)
        finally:
            self._ready.set()

    def wait(self, timeout_seconds: float = _WAIT_SECONDS) -> None:
        """Wait until a load that has begun is over, at most this long."""
        if self._started:
            self._ready.wait(timeout_seconds)

    def module(self) -> Any:
        """The module, or None; waits for it until a second after its load began."""
        self.start()
        if not self._ready.is_set():
            self._ready.wait(max(0.0, self._deadline - time.monotonic()))
        return self._module

    @property
    def source(self) -> str:
        return self._source

    def warn_unknown(self, provider: str, model: str) -> None:
        with self._lock:
            if (provider, model) in self._warned or len(self._warned) >= _MAX_WARNED:
                return
            self._warned.add((provider, model))
        _logger.warning(
            "otelbridge: no price is known for model %r of provider %r; its spans carry no cost. "
            "Give the cost with set_usage(cost_usd=...), or set the provider to one of %s.",
            model,
            provider,
            ", ".join(sorted(set(PRICE_PROVIDERS))),
        )


_prices = _PriceList()


def _before_fork() -> None:
    """Let a load that has begun come to its end, within the limit."""
    _prices.wait()


def _after_fork() -> None:
    """A child has no loader thread: what is not loaded there is loaded anew."""
    global _prices  # noqa: PLW0603 - the one process-wide list, replaced whole
    if not _prices._ready.is_set():
        _prices = _PriceList()


if hasattr(os, "register_at_fork"):
    # A fork while the loader holds import locks would leave them locked in the child for ever.
    os.register_at_fork(before=_before_fork, after_in_child=_after_fork)


def start_loading() -> None:
    """Begin to load the price list in the background; returns at once."""
    _prices.start()


def price_usd(provider: str, model: str, usage: Usage) -> Cost | None:
    """The price of a call, or None when it is not known.

    Args:
        provider: `gen_ai.provider.name`.
        model: The model as the request or the response names it.
        usage: Token counts; input includes cached tokens, output includes reasoning.
    """
    usage = usage.normalised()
    if not model or not provider or (usage.input_tokens is None and usage.output_tokens is None):
        return None
    prices = _prices
    module = prices.module()
    if module is None:
        return None
    try:
        calculated = module.calc_price(
            module.Usage(
                input_tokens=usage.input_tokens,
                output_tokens=usage.output_tokens,
                cache_read_tokens=usage.cached_tokens,
                cache_write_tokens=usage.cache_write_tokens,
            ),
            model_ref=model,
            provider_id=PRICE_PROVIDERS.get(provider.lower(), provider.lower()),
        )
    except LookupError:
        return None
    return Cost(
        total_usd=float(calculated.total_price),
        source=prices.source,
        input_usd=float(calculated.input_price),
        output_usd=float(calculated.output_price),
    )


def warn_unknown(provider: str, model: str) -> None:
    """Log, once per model, that no price is known for it."""
    if _prices.module() is not None:
        _prices.warn_unknown(provider, model)
