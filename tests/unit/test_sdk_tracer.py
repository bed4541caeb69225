"""The tracers of our provider do what the SDK's do, for every use of the block."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from opentelemetry import trace
from opentelemetry.sdk.trace import Tracer, TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.sdk.trace.sampling import ALWAYS_OFF, DEFAULT_ON, ParentBased, Sampler
from opentelemetry.trace import SpanKind

from otelbridge.processors.sdk_tracer import BridgeTracer, BridgeTracerProvider

Use = Callable[[trace.Tracer], None]


def ignored(tracer: trace.Tracer, error: BaseException, **options: Any) -> None:
    with pytest.raises(type(error)), tracer.start_as_current_span("block", **options):
        raise error


def decorated(tracer: trace.Tracer) -> None:
    @tracer.start_as_current_span("sync")
    def work(number: int) -> int:
        trace.get_current_span().set_attribute("number", number)
        return number

    @tracer.start_as_current_span("async", kind=SpanKind.CLIENT)
    async def later() -> int:
        await asyncio.sleep(0)
        trace.get_current_span().set_attribute("later", True)
        return 3

    assert [work(1), work(2), asyncio.run(later())] == [1, 2, 3]


def nested(tracer: trace.Tracer) -> None:
    with tracer.start_as_current_span("outer", attributes={"a": 1}) as outer:
        with tracer.start_as_current_span("inner", kind=SpanKind.CLIENT, start_time=5) as inner:
            assert trace.get_current_span() is inner
        assert trace.get_current_span() is outer
    assert trace.get_current_span() is trace.INVALID_SPAN


def left_open(tracer: trace.Tracer) -> None:
    with tracer.start_as_current_span("open", end_on_exit=False) as span:
        pass
    assert span.is_recording()
    span.set_attribute("after", True)
    span.end()


def from_generator(tracer: trace.Tracer) -> None:
    def numbers() -> Iterator[int]:
        with tracer.start_as_current_span("generator"):
            yield 1
            yield 2

    running = numbers()
    assert next(running) == 1
    del running  # GeneratorExit ends the span and is no error


USES: dict[str, Use] = {
    "nested": nested,
    "decorated": decorated,
    "left open": left_open,
    "generator": from_generator,
    "error": lambda tracer: ignored(tracer, ValueError("bad")),
    "stop": lambda tracer: ignored(tracer, StopIteration()),
    "exit": lambda tracer: ignored(tracer, SystemExit(2)),
    "no event": lambda tracer: ignored(tracer, ValueError("x"), record_exception=False),
    "no status": lambda tracer: ignored(tracer, ValueError("x"), set_status_on_exception=False),
}


def spans_of(provider: TracerProvider, use: Use) -> list[dict[str, Any]]:
    exporter = InMemorySpanExporter()
    provider.add_span_processor(SimpleSpanProcessor(exporter))
    use(provider.get_tracer("t"))
    return [
        {
            "name": span.name,
            "kind": span.kind,
            "below": span.parent is not None,
            "attributes": dict(span.attributes or {}),
            "status": (span.status.status_code, span.status.description),
            "events": [
                {k: v for k, v in (event.attributes or {}).items() if "stacktrace" not in k}
                for event in span.events
            ],
            "timed": span.start_time == 5,
        }
        for span in exporter.get_finished_spans()
    ]


@pytest.mark.parametrize("name", USES)
def test_every_use_gives_the_spans_of_the_stock_sdk(name: str) -> None:
    """Blocks, decorators, generators and errors of all kinds leave the same spans behind."""
    stock, ours = (
        spans_of(kind(shutdown_on_exit=False), USES[name])
        for kind in (TracerProvider, BridgeTracerProvider)
    )
    assert ours == stock
    assert ours


def test_a_tracer_is_the_sdks_own() -> None:
    """It stays an instance of the SDK's class, and one per scope."""
    provider = BridgeTracerProvider(shutdown_on_exit=False)
    tracer = provider.get_tracer("t")
    assert isinstance(tracer, Tracer)
    assert isinstance(tracer, BridgeTracer)
    assert provider.get_tracer("t") is tracer
    assert provider.sampler is DEFAULT_ON


@pytest.mark.parametrize(
    "sampler",
    [
        DEFAULT_ON,
        ParentBased(ALWAYS_OFF),
        ParentBased(DEFAULT_ON, local_parent_sampled=ALWAYS_OFF),
        ALWAYS_OFF,
    ],
    ids=lambda sampler: sampler.get_description()[:60],
)
def test_samplers_decide_as_behind_the_stock_sdk(sampler: Sampler) -> None:
    """Root, local and remote parents, sampled or not, get the decision that the SDK makes."""
    decided = []
    for kind in (TracerProvider, BridgeTracerProvider):
        tracer = kind(sampler=sampler, shutdown_on_exit=False).get_tracer("t")
        with tracer.start_as_current_span("root") as root:
            child = tracer.start_span("child")
        found = [root.is_recording(), child.is_recording()]
        for remote in (True, False):
            for flags in (0, 1):
                state = trace.TraceState([("k", "v")])
                parent = trace.SpanContext(7, 9, remote, trace.TraceFlags(flags), state)
                context = trace.set_span_in_context(trace.NonRecordingSpan(parent))
                span = tracer.start_span("below", context)
                got = span.get_span_context()
                found += [span.is_recording(), got.trace_state.get("k"), int(got.trace_flags) & 1]
        decided.append((found, getattr(tracer, "sampler").get_description()))  # noqa: B009
    assert decided[0] == decided[1]
