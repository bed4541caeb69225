"""Hostile values and hooks through the public API, the own exporter and a real receiver.

Each case gives drawn values (`_hostile_values`) to a few helpers while the host's own code returns
or raises something of its own. What counts: no error of telemetry reaches the host, its results and
exceptions stay what they are, and every span is delivered or counted as dropped.
`tests/exporters/test_hostile.py` runs a part; `python -m benchmarks.hostile --cases 10000` all.
"""

from __future__ import annotations

import argparse
import json
import logging
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, Final, NoReturn

from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st
from opentelemetry import trace
from opentelemetry.sdk.trace import ReadableSpan, SpanProcessor, TracerProvider

import otelbridge
from benchmarks._hostile_values import CALLABLES, FAULTS, VALUES, real
from otelbridge import _guard, provider
from otelbridge.exporters.otlp import bridge_processor
from otelbridge.exporters.processor import OtlpSpanProcessor

Host = Callable[..., Any]


class HostHurtError(AssertionError):
    """Telemetry changed what the host's code did."""


class BrokenHandler(logging.Handler):
    """A log handler of the application's own that raises."""

    def emit(self, record: logging.LogRecord) -> NoReturn:
        raise OSError("the log is full")


def _drive(coroutine: Any) -> Any:
    try:
        coroutine.send(None)
    except StopIteration as stop:
        return stop.value
    raise HostHurtError("a coroutine that waits for nothing waited")


# -- what the host does ----------------------------------------------------------------------------
def _chat(value: Any, host: Host) -> Any:
    with otelbridge.chat(
        value, provider=value, messages=value, system=value, operation=value, temperature=value,
        top_p=value, top_k=value, max_tokens=value, frequency_penalty=value, presence_penalty=value,
        stop=value, seed=value, n=value, stream=value, tools=value, output_type=value,
        reasoning_level=value, conversation_id=value, prompt_name=value, prompt_version=value,
        cached=value, name=value, attributes=value,
    ) as call:  # fmt: skip
        call.set_messages(value)
        call.set_output(value)
        call.set_usage(
            input_tokens=value, output_tokens=value, cached_tokens=value, cache_write_tokens=value,
            reasoning_tokens=value, cost_usd=value,
        )  # fmt: skip
        call.set_response(id=value, model=value, finish_reasons=value)
        call.record(value)
        call.record_event(value)
        call.set_attribute(value, value)
        call.record_exception(value)
        return host()


def _embeddings(value: Any, host: Host) -> Any:
    with otelbridge.embeddings(
        value, provider=value, input=value, dimensions=value, encoding_formats=value,
        attributes={"x": value},
    ) as call:  # fmt: skip
        call.record(value)
        return host()


def _tool(value: Any, host: Host) -> Any:
    with otelbridge.execute_tool(
        value, arguments=value, call_id=value, description=value, type=value, attributes=value
    ) as call:
        call.set_input(value)
        result = host()
        call.set_result(value)
        return result


def _retrieval(value: Any, host: Host) -> Any:
    with otelbridge.retrieval(
        value, query=value, top_k=value, provider=value, attributes=value
    ) as call:
        call.set_documents(value)
        return host()


def _agent(value: Any, host: Host) -> Any:
    with otelbridge.invoke_agent(
        value, provider=value, model=value, input=value, id=value, description=value,
        conversation_id=value, remote=value, attributes=value,
    ) as call:  # fmt: skip
        call.set_output(value)
        return host()


def _evaluate(value: Any, host: Host) -> Any:
    with otelbridge.evaluate(value, input=value, attributes=value) as call:
        call.set_score(value, label=value, explanation=value)
        return host()


def _step(value: Any, host: Host) -> Any:
    with otelbridge.span(value, kind=value, input=value, attributes=value) as call:
        call.set_output(value)
        otelbridge.set_trace_io(input=value, output=value)
        return host()


def _async_step(value: Any, host: Host) -> Any:
    async def work() -> Any:
        async with otelbridge.chat(value, provider=value, messages=value):
            return host()

    return _drive(work())


def _observed(value: Any, host: Host) -> Any:
    @otelbridge.observe(kind=value, name=value, capture_input=True, capture_output=True)
    def work(given: Any, *more: Any, **named: Any) -> Any:
        return given if (result := host()) is None else result

    return work(value, value, named=value)


def _observed_values(value: Any, host: Host) -> Any:
    """The result is hostile, too."""
    outcome = []

    @otelbridge.observe(kind="tool")
    def work(given: Any) -> Any:
        outcome.append(host())
        return given

    if work(value) is not value:
        raise HostHurtError("another result")
    return outcome[0]


def _observed_callables(value: Any, host: Host) -> Any:
    result = None
    for make in CALLABLES.values():
        result = otelbridge.observe(make(lambda *_, **__: host()))(value, named=value)
    return result


def _observed_coroutine(value: Any, host: Host) -> Any:
    @otelbridge.observe(name=value)
    async def work(given: Any) -> Any:
        return host()

    return _drive(work(value))


def _observed_generator(value: Any, host: Host) -> Any:
    @otelbridge.observe(kind="generation")
    def work(given: Any) -> Iterator[Any]:
        yield given
        return host()

    items = work(value)
    if next(items) is not value:
        raise HostHurtError("another item")
    try:
        next(items)
    except StopIteration as stop:
        return stop.value
    raise HostHurtError("one item more")


def _observed_async_generator(value: Any, host: Host) -> Any:
    outcome = []

    @otelbridge.observe
    async def work(given: Any) -> Any:
        yield given
        outcome.append(host())

    async def consume() -> None:
        async for item in work(value):
            if item is not value:
                raise HostHurtError("another item")

    _drive(consume())
    return outcome[0]


def _stream(value: Any, host: Host) -> Any:
    outcome = []

    def source() -> Iterator[Any]:
        yield value
        outcome.append(host())
        yield value

    with otelbridge.chat("m", provider="p") as call:
        for item in call.stream(source()):
            if item is not value:
                raise HostHurtError("another item")
    return outcome[0]


def _hostile_stream(value: Any, host: Host) -> Any:
    """A source that may be no stream: it must fail, or not, as it does without us."""
    with otelbridge.chat("m", provider="p") as call:
        with suppress(Exception):
            for _, _item in zip(range(5), call.stream(value), strict=False):
                pass
        return host()


def _context(value: Any, host: Host) -> Any:
    with otelbridge.request_context(
        user_id=value, session_id=value, tags=value, metadata=value, trace_name=value, version=value
    ):
        inner = otelbridge.request_context(tags=[value], metadata={"k": value})
        with inner, otelbridge.span("inside"):
            otelbridge.current_trace_id()
        return host()


def _propagate(value: Any, host: Host) -> Any:
    with otelbridge.span("outside"):
        otelbridge.inject(value)
        otelbridge.inject({})
        otelbridge.extract(value)
        otelbridge.extract({"traceparent": value, "baggage": value})
        otelbridge.trace_links(value)
        otelbridge.trace_links()
        return host()


def _plain_api(value: Any, host: Host) -> Any:
    """Spans of OpenTelemetry's own API, which checks less than the helpers do."""
    span = trace.get_tracer("application").start_span("plain")
    for key in ("k", "gen_ai.input.messages", "url.full", "gen_ai.system", "session.id"):
        with suppress(Exception):  # the SDK's own
            span.set_attribute(key, value)
            span.add_event("event", {key: value, "exception.type": value})
    with suppress(Exception):
        span.record_exception(value)
    try:
        return host()
    finally:
        span.end()


ACTIONS: Final[dict[str, Callable[[Any, Host], Any]]] = {
    action.__name__.strip("_"): action
    for action in (
        _chat, _embeddings, _tool, _retrieval, _agent, _evaluate, _step, _async_step, _observed,
        _observed_values, _observed_callables, _observed_coroutine, _observed_generator,
        _observed_async_generator, _stream, _hostile_stream, _context, _propagate, _plain_api,
    )
}  # fmt: skip
#: (action, value, fault) of each step of a case.
STEPS: Final = st.tuples(st.sampled_from(sorted(ACTIONS)), VALUES, st.sampled_from(sorted(FAULTS)))
CASES: Final = st.lists(STEPS, min_size=1, max_size=3)


def run_step(action: str, value: Any, fault_name: str) -> None:
    """One step, by itself.

    Raises:
        HostHurtError: another result or another exception than the host's own.
    """
    fault, result = FAULTS[fault_name](), object()
    before = None if fault is None else _looks(fault)

    def host() -> Any:
        if fault is not None:
            raise fault
        return result

    step = f"{action} with {value!r} and {fault_name}"
    try:
        got = ACTIONS[action](real(value), host)
    except BaseException as error:
        if error is not fault:
            raise HostHurtError(f"{step}: {type(error).__name__} reached the host") from error
    else:
        if fault is not None or got is not result:
            raise HostHurtError(f"{step}: the host's {'exception' if fault else 'result'} is gone")
    if fault is not None and _looks(fault) != before:
        raise HostHurtError(f"{step}: the host's exception was changed")


def _looks(fault: BaseException) -> tuple[int, ...]:
    notes = getattr(fault, "__notes__", None)
    return (
        id(fault.args) if not fault.args else id(fault.args[0]),
        id(fault.__cause__), id(fault.__context__), id(notes), int(fault.__suppress_context__),
    )  # fmt: skip


# -- the world around ------------------------------------------------------------------------------
class Ended(SpanProcessor):
    """Counts ended spans beside our processor."""

    def __init__(self) -> None:
        self.spans = 0

    def on_end(self, span: ReadableSpan) -> None:
        self.spans += 1


class World:
    """A process with tracing on: the public API, our processor, a log handler that raises."""

    def __init__(self, processor: OtlpSpanProcessor, ended: Ended) -> None:
        self.processor = processor
        self.ended = ended


@contextmanager
def world(endpoint: str, directory: Path, **overrides: Any) -> Iterator[World]:
    """Tracing switched on towards an endpoint, errors swallowed as in production."""
    chosen = otelbridge.Settings.from_env(
        {
            "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT": endpoint,
            "OTELBRIDGE_SPOOL_DIR": str(directory),
            "OTEL_SERVICE_NAME": "hostile",
            "OTEL_BSP_SCHEDULE_DELAY": "200",
        },
        **overrides,
    )
    tracing, ended = TracerProvider(shutdown_on_exit=False), Ended()
    processor = bridge_processor(chosen)
    tracing.add_span_processor(ended)
    tracing.add_span_processor(provider._bridge_processor(chosen, processor))
    trace.set_tracer_provider(tracing)
    handler, logger = BrokenHandler(), logging.getLogger("otelbridge")
    logger.addHandler(handler)
    try:
        yield World(processor, ended)
    finally:
        logger.removeHandler(handler)
        tracing.shutdown()


def run_cases(cases: int, *, seed: int | None = None) -> None:
    """Draw and run that many cases; the first that hurts the host is shrunk and raised.

    Args:
        seed: None draws the same cases every time.
    """

    @settings(
        max_examples=cases,
        derandomize=seed is None,
        database=None,
        deadline=None,
        phases=(Phase.generate, Phase.shrink),
        suppress_health_check=list(HealthCheck),
    )
    @given(CASES)
    def case(steps: list[tuple[str, Any, str]]) -> None:
        for action, value, fault in steps:
            run_step(action, value, fault)

    if seed is not None:
        from hypothesis import seed as seeded

        case = seeded(seed)(case)
    case()


def main() -> int:
    """Run from the command line; exit 1 if the host was hurt or a span is not accounted for."""
    from tests.exporters.fault_server import Receiver

    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--cases", type=int, default=10_000)
    parser.add_argument("--seed", type=int)
    args = parser.parse_args()
    logging.getLogger("opentelemetry").setLevel(logging.CRITICAL)  # one line for each value
    receiver, started, hurt = Receiver(), time.monotonic(), ""
    with tempfile.TemporaryDirectory() as directory:
        with world(receiver.endpoint, Path(directory)) as made:
            try:
                run_cases(args.cases, seed=args.seed)
            except HostHurtError as error:
                hurt = str(error)
            made.processor.force_flush(20_000)
        stats = made.processor.stats()
    receiver.close()
    dropped = {name: count for name, count in stats.items() if name.startswith("dropped_")}
    result = {
        "cases": args.cases,
        "spans": made.ended.spans,
        "delivered": len(receiver.names),
        "dropped": dropped,
        "swallowed": dict(Counter(_guard.failures()).most_common()),
        "hurt": hurt,
        "seconds": round(time.monotonic() - started, 1),
    }
    sys.stdout.write(json.dumps(result, indent=1) + "\n")
    accounted = len(receiver.names) + sum(dropped.values()) == made.ended.spans
    return 1 if hurt or not accounted else 0


if __name__ == "__main__":
    sys.exit(main())
