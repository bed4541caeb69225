"""The objects that model calls give: chat, embeddings, agents.

Each knows where its input and output belong (semantic conventions) and what Langfuse needs beside.
Figures are collected while the call is open and written once, when the span ends: what the
application sets wins over what was read from a response, and that over what a stream said.
"""

from __future__ import annotations

from collections.abc import AsyncIterable, Awaitable, Iterable
from datetime import UTC, datetime, timedelta
from typing import Any, TypeVar, overload

from otelbridge import budgets, semconv
from otelbridge._guard import guard
from otelbridge.budgets.checking import refusal, request_attributes, span_attributes
from otelbridge.cost import pricing
from otelbridge.cost.pricelist import Terms
from otelbridge.cost.spans import cost_attributes, usage_attributes
from otelbridge.cost.usage import Cost, Usage
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
        self._batch = False
        self._service_tier = ""
        self._set_answer = Answer()
        self._read_answer = Answer()
        self._events: Events | None = None
        self._last_event: object = None
        self._has_output = False
        self._open_streams = 0
        self._handed_over = False
        self._refused = False
        #: Whose budgets a call counts for that no span will tell of.
        self._spends_for: dict[str, Any] | None = None

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
        cache_write_1h_tokens: int | None = None,
        audio_input_tokens: int | None = None,
        audio_output_tokens: int | None = None,
        batch: bool | None = None,
    ) -> None:
        """Token counts and cost; figures that are left out stay as they were.

        Args:
            input_tokens: All of them, cached ones and audio included.
            output_tokens: All of them, reasoning and audio included.
            cost_usd: In USD; wins over the price list.
            cache_write_1h_tokens: Those of `cache_write_tokens` that stay for an hour.
            batch: Whether the call was part of a batch, which has prices of its own.
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
                to_count(cache_write_1h_tokens),
                to_count(audio_input_tokens),
                to_count(audio_output_tokens),
            )
            self._set_usage = self._set_usage.merged(newer)
            self._batch = self._batch if batch is None else batch is True

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
        if not self._is_read:
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
        if self._is_read:
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
        if self._is_read:
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
        if self._is_read:
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
        return self._keeps_output and self._recording and get_config().capture_content

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

    @property
    def _is_read(self) -> bool:
        """Whether answers are looked at: for the span, or for a budget alone."""
        return self._recording or self._spends_for is not None

    def _finish_unrecorded(self) -> None:
        """A call of a trace that is not sampled has been paid for all the same."""
        request, self._spends_for = self._spends_for, None
        if request is None or self._refused:
            return
        streamed = self._events.answer() if self._events is not None else Answer()
        read = self._read_answer
        usage = streamed.usage.merged(read.usage).merged(self._set_usage).normalised()
        model = self._set_answer.model or read.model or streamed.model
        self._service_tier = read.service_tier or streamed.service_tier or ""
        found = self._cost(usage, model)
        if found is not None and found.total_usd > 0:
            budgets.add(found.total_usd, request)

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
            **usage_attributes(usage),
            **self._first_chunk_attributes(),
        }
        written = self._has_output or read.messages
        if streamed.messages and not written and self._captures_output():
            result[semconv.GEN_AI_OUTPUT_MESSAGES] = to_json(streamed.messages)
        if self._cached:
            result[semconv.CACHED] = True
            result[semconv.LANGFUSE_OBSERVATION_METADATA_PREFIX + "cached"] = True
        self._service_tier = read.service_tier or streamed.service_tier or ""
        if self._service_tier:
            result[semconv.OPENAI_RESPONSE_SERVICE_TIER] = self._service_tier
        if self._batch:
            result[semconv.COST_PROCESSING] = "batch"
        if self._refused:
            result[semconv.LANGFUSE_OBSERVATION_COST_DETAILS] = '{"total":0}'
        elif self._priced:
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
        return {} if found is None else cost_attributes(found)

    def _cost(self, usage: Usage, response_model: str | None) -> Cost | None:
        """As `pricing.cost_of`; with `prices` off only what was said."""
        said = self._set_usage.cost_usd
        if not get_config().prices and said is None and not self._cached:
            return None if usage.cost_usd is None else Cost(usage.cost_usd, "provider")
        requested = self._identity.get(semconv.GEN_AI_REQUEST_MODEL)
        return pricing.cost_of(
            pricing.PricedCall(
                provider=self._identity.get(semconv.GEN_AI_PROVIDER_NAME) or "",
                models=tuple(model for model in (response_model, requested) if model),
                usage=usage,
                terms=Terms(self._wall_start_ns, self._service_tier, self._batch),
                cached=self._cached,
                caller_usd=said,
            )
        )

    def _start(self) -> None:
        """Start the span; a budget that refuses the call ends it at once.

        Raises:
            BudgetExceededError: see `budgets.check`.
        """
        asks = self._priced and not self._cached and not self._started and budgets.in_force()
        if not asks:
            super()._start()
            return
        found = budgets.states()
        error = refusal(found)
        if error is not None:
            self._observation_type = "span"  # no model is called: nothing to count or estimate
        super()._start()
        if self._recording:
            with guard("budget attributes"):
                model = self._identity.get(semconv.GEN_AI_REQUEST_MODEL) or ""
                self._write(span_attributes(found, model))
        else:
            self._spends_for = request_attributes()
        if error is not None:
            self._refused = True
            self._finish(error)
            raise error

    def _on_start(self) -> None:
        super()._on_start()
        if self._priced and get_config().prices and not self._cached:
            pricing.start_loading()


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
