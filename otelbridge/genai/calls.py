"""The objects that model calls give: chat, embeddings, agents.

Each knows where its input and output belong (semantic conventions) and what Langfuse needs beside.
Figures are collected while the call is open and written once, when the span ends: what the
application sets wins over what was read from a response, and that over what a stream said.
"""

from __future__ import annotations

from collections.abc import AsyncIterable, Awaitable, Iterable
from datetime import UTC, datetime, timedelta
from typing import Any, TypeVar, overload

from otelbridge import semconv
from otelbridge._guard import guard
from otelbridge.genai._config import get_config
from otelbridge.genai._events import Events, is_stream_event
from otelbridge.genai._span import CANCELLED, COMPLETE, FAILED, STOPPED, Call, is_cancel
from otelbridge.genai._values import (
    dumps,
    is_text,
    optional_text,
    text_list,
    to_count,
    to_float,
    to_json,
)
from otelbridge.genai.messages import input_messages, output_messages
from otelbridge.genai.responses import Answer, read_answer
from otelbridge.genai.stream import AsyncStream, SyncStream, open_stream
from otelbridge.processors import cost
from otelbridge.processors.cost import Cost, Usage

T = TypeVar("T")


class ModelCall(Call):
    """A call of a model: chat, text completion, embeddings (and, with the same shape, an agent)."""

    _provider_codes = True
    _priced = True
    _keeps_output = True

    def __init__(self, name: object, *, cached: bool = False, **options: Any) -> None:
        super().__init__(name, **options)
        self._cached = cached is True
        self._set_usage = Usage()
        self._set_answer = Answer()
        self._read_answer = Answer()
        self._events: Events | None = None
        self._last_event: object = None
        self._has_output = False
        self._open_streams = 0
        self._handed_over = False

    # -- what the application says --------------------------------------------------------------

    def set_messages(self, messages: object) -> None:
        """The messages sent: text, or a list in OpenAI's, Anthropic's or semconv's shape."""
        self._set_messages(semconv.GEN_AI_INPUT_MESSAGES, lambda: input_messages(messages))

    def set_input(self, value: object) -> None:
        """The messages sent; the same as `set_messages`."""
        self.set_messages(value)

    def set_output(self, value: object) -> None:
        """The answer: text, a message, or a list of messages (one per choice)."""
        if self._keeps_output and value is not None:
            self._has_output = True
            self._set_messages(semconv.GEN_AI_OUTPUT_MESSAGES, lambda: output_messages(value))

    def set_usage(
        self,
        *,
        input_tokens: int | None = None,
        output_tokens: int | None = None,
        cached_tokens: int | None = None,
        cache_write_tokens: int | None = None,
        reasoning_tokens: int | None = None,
        cost_usd: float | None = None,
    ) -> None:
        """Token counts and cost; figures that are left out stay as they were.

        Args:
            input_tokens: All of them, cached ones included.
            output_tokens: All of them, reasoning included.
            cost_usd: In USD; wins over the price list.
        """
        with guard("set_usage"):
            price = to_float(cost_usd)
            newer = Usage(
                to_count(input_tokens),
                to_count(output_tokens),
                to_count(cached_tokens),
                to_count(cache_write_tokens),
                to_count(reasoning_tokens),
                price if price is not None and price >= 0 else None,
            )
            self._set_usage = self._set_usage.merged(newer)

    def set_response(
        self,
        *,
        id: str | None = None,
        model: str | None = None,
        finish_reasons: Iterable[str] | str | None = None,
    ) -> None:
        """Id and model that the provider answered with, and one finish reason per choice."""
        with guard("set_response"):
            old = self._set_answer
            self._set_answer = Answer(
                id=optional_text(id) or old.id,
                model=optional_text(model) or old.model,
                finish_reasons=tuple(text_list(finish_reasons) or old.finish_reasons),
            )

    def record(self, response: object) -> None:
        """Read id, model, finish reasons, messages and usage from a provider's answer.

        Args:
            response: An OpenAI chat completion, Responses answer or embeddings answer, an
                Anthropic message, one stream event, or the dictionary of any; else nothing is read.
        """
        if not self._recording:
            return
        with guard("record"):
            if not is_text(response) and is_stream_event(response):
                self._add_event(response)
                return
            answer = read_answer(response, content=self._captures_output())
            if answer is not None:
                self._read_answer = answer
                if answer.messages and not self._has_output:
                    self._write({semconv.GEN_AI_OUTPUT_MESSAGES: to_json(answer.messages)})

    def record_event(self, event: object) -> None:
        """Take one event of a stream that is read without `stream()`; the first sets the clock."""
        self.first_chunk()
        if self._recording:
            with guard("record_event"):
                self._add_event(event)

    @overload
    def stream(self, source: Iterable[T]) -> SyncStream[T]: ...
    @overload
    def stream(self, source: AsyncIterable[T] | Awaitable[AsyncIterable[T]]) -> AsyncStream[T]: ...
    def stream(self, source: Any) -> Any:
        """Pass a stream through, item by item, while it is measured and read.

        Gives an iterator of the same kind (sync or async) with the same items, exceptions and
        other members. If it is not at its end when the `with` block is left, the span ends with
        the stream instead.
        """
        self._start()
        if self._recording:
            with guard("stream"):
                self._write({semconv.GEN_AI_REQUEST_STREAM: True})
                self._events = Events(content=self._captures_output())
        self._error = None
        stream = open_stream(self, source)
        with self._lock:
            self._open_streams += 1
            if self._scope is None:  # no block is open: only the stream can end the span
                self._handed_over = True
        return stream

    # -- called by the stream -------------------------------------------------------------------

    def _stream_chunk(self, chunk: object) -> None:
        self.first_chunk()
        if self._recording:
            with guard("reading a stream"):
                self._add_event(chunk)

    def _stream_ended(self, error: BaseException | None, complete: bool) -> None:
        """One stream is over; ends the span if the block has been left without doing so."""
        with self._lock:
            self._open_streams -= 1
            last = self._handed_over and self._open_streams == 0
            self._ending = COMPLETE if complete else STOPPED
            if error is not None:
                self._ending = CANCELLED if is_cancel(error) else FAILED
                self._error = error
        if error is not None and self._recording:
            with guard("recording the failure of a stream"):
                self._note_exception(error)
        if last:
            self._finish()

    def _hand_over(self) -> bool:
        with self._lock:
            self._handed_over = self._open_streams > 0
            return self._handed_over

    # -- the end --------------------------------------------------------------------------------

    def _captures_output(self) -> bool:
        return self._keeps_output and get_config().capture_content

    def _add_event(self, event: object) -> None:
        if event is self._last_event and not is_text(event):
            return  # the application records what stream() has already seen
        self._last_event = event
        if self._events is None:
            self._events = Events(content=self._captures_output())
        self._events.add(event)

    def _set_messages(self, key: str, convert: Any) -> None:
        if self._recording and get_config().capture_content:
            with guard("writing messages"):
                messages = convert()
                if messages:
                    self._write({key: dumps(messages)})

    def _final_attributes(self) -> dict[str, Any]:
        streamed = self._events.answer() if self._events is not None else Answer()
        said, read = self._set_answer, self._read_answer
        model = said.model or read.model or streamed.model
        reasons = said.finish_reasons or read.finish_reasons or streamed.finish_reasons
        if self._ending == FAILED and not said.finish_reasons:
            reasons = ("error",)
        usage = streamed.usage.merged(read.usage).merged(self._set_usage).normalised()
        result: dict[str, Any] = {
            semconv.GEN_AI_RESPONSE_ID: said.id or read.id or streamed.id,
            semconv.GEN_AI_RESPONSE_MODEL: model,
            semconv.GEN_AI_RESPONSE_FINISH_REASONS: list(reasons) or None,
            semconv.GEN_AI_EMBEDDINGS_DIMENSION_COUNT: read.dimensions,
            **_usage_attributes(usage),
            **self._first_chunk_attributes(),
        }
        written = self._has_output or read.messages
        if streamed.messages and not written and self._captures_output():
            result[semconv.GEN_AI_OUTPUT_MESSAGES] = to_json(streamed.messages)
        if self._cached:
            result[semconv.CACHED] = True
        if self._priced:
            buckets = usage.buckets()
            if buckets:
                result[semconv.LANGFUSE_OBSERVATION_USAGE_DETAILS] = dumps(buckets)
            result.update(self._cost_attributes(usage, model))
        return result

    def _first_chunk_attributes(self) -> dict[str, Any]:
        if self._first_chunk_ns is None:
            return {}
        at = datetime.fromtimestamp(0, UTC) + timedelta(
            microseconds=(self._wall_start_ns + self._first_chunk_ns) // 1_000
        )
        return {
            semconv.GEN_AI_RESPONSE_TIME_TO_FIRST_CHUNK: self._first_chunk_ns / 1e9,
            semconv.LANGFUSE_OBSERVATION_COMPLETION_START_TIME: at.isoformat(
                timespec="microseconds"
            ),
        }

    def _cost_attributes(self, usage: Usage, response_model: str | None) -> dict[str, Any]:
        found = self._cost(usage, response_model)
        if found is None:
            return {}
        return {
            semconv.GEN_AI_USAGE_COST: found.total_usd,
            semconv.LANGFUSE_OBSERVATION_COST_DETAILS: dumps(found.details()),
            semconv.COST_SOURCE: found.source,
        }

    def _cost(self, usage: Usage, response_model: str | None) -> Cost | None:
        """The caller's cost, else nothing for a cached answer, else the provider's, else the list.

        The response's model is tried first, then the requested one.
        """
        if self._set_usage.cost_usd is not None:
            return Cost(self._set_usage.cost_usd, "caller")
        if self._cached:
            return Cost(0.0, "cache", 0.0, 0.0)
        if usage.cost_usd is not None:
            return Cost(usage.cost_usd, "provider")
        if not get_config().prices:
            return None
        provider = self._identity.get(semconv.GEN_AI_PROVIDER_NAME) or ""
        requested = self._identity.get(semconv.GEN_AI_REQUEST_MODEL)
        models = [model for model in (response_model, requested) if model]
        for model in models:
            found = cost.price_usd(provider, model, usage)
            if found is not None:
                return found
        if models and usage.buckets():
            cost.warn_unknown(provider, models[0])
        return None

    def _on_start(self) -> None:
        super()._on_start()
        if self._priced and get_config().prices and not self._cached:
            cost.start_loading()


class EmbeddingsCall(ModelCall):
    """A call of an embedding model; vectors are never recorded."""

    _keeps_output = False

    def set_messages(self, messages: object) -> None:
        """The texts to embed."""
        self._set_content(semconv.LANGFUSE_OBSERVATION_INPUT, messages)


class AgentCall(ModelCall):
    """A run of an agent. Its usage is the sum of its model calls, so it carries no cost."""

    _provider_codes = False
    _priced = False


def _usage_attributes(usage: Usage) -> dict[str, Any]:
    return {
        semconv.GEN_AI_USAGE_INPUT_TOKENS: usage.input_tokens,
        semconv.GEN_AI_USAGE_OUTPUT_TOKENS: usage.output_tokens,
        semconv.GEN_AI_USAGE_CACHE_READ_INPUT_TOKENS: usage.cached_tokens,
        semconv.GEN_AI_USAGE_CACHE_WRITE_INPUT_TOKENS: usage.cache_write_tokens,
        semconv.GEN_AI_USAGE_CACHE_CREATION_INPUT_TOKENS: usage.cache_write_tokens,
        semconv.GEN_AI_USAGE_REASONING_OUTPUT_TOKENS: usage.reasoning_tokens,
    }
