"""Encoding of ended spans: ours against the official one, in one process, the same spans.

The official one is `encode_spans` of `opentelemetry-exporter-otlp-proto-common` and the message's
serialisation, ours `SpanEncoder` and `request`; both give the body of an export request before
compression. Arms take turns; first both bodies are read back and held against each other, so that
a fast wrong encoder has no figure. Processor time; the bar is set here: at most 0.7 x.
"""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Final

from google.protobuf.message import Message
from opentelemetry.exporter.otlp.proto.common.trace_encoder import encode_spans
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

from benchmarks._arms import otel_request
from benchmarks._chats import SPANS_PER_REQUEST, Requests
from benchmarks._results import TIMES, Row, save, spread
from otelbridge.exporters.encoding import SpanEncoder, request

BAR: Final = 0.7
SHAPES: Final = {"chat": "chat spans of 3.4 kB", "small": "small spans"}


def ended_spans(shape: str, count: int) -> list[ReadableSpan]:
    """Ended spans of the SDK, at least so many."""
    memory = InMemorySpanExporter()
    provider = TracerProvider(shutdown_on_exit=False)
    provider.add_span_processor(SimpleSpanProcessor(memory))
    make = otel_request(provider.get_tracer("benchmark"))
    variants = Requests(shape).variants
    for number in range(-(-count // SPANS_PER_REQUEST)):
        make(variants[number % len(variants)])
    return list(memory.get_finished_spans())


def arms(spans: list[ReadableSpan]) -> dict[str, Callable[[], bytes]]:
    """Both ways from spans to the bytes of a request."""
    encoder = SpanEncoder()
    return {
        "official": lambda: encode_spans(spans).SerializeToString(),
        "otelbridge": lambda: request([encoder.encode(span) for span in spans]),
    }


def same_meaning(one: bytes, other: bytes) -> bool:
    """Whether two bodies are the same message, fields in any order."""
    first, second = (ExportTraceServiceRequest.FromString(body) for body in (one, other))
    return first == second or _spans(first) == _spans(second)


def _spans(message: Any) -> list[Message]:
    found = [
        span
        for resource in message.resource_spans
        for scope in resource.scope_spans
        for span in scope.spans
    ]
    return sorted(found, key=lambda span: span.span_id)


def measure(shape: str, spans: int, rounds: int) -> dict[str, Any]:
    """Microseconds of processor time per span for both, and the ratio within rounds.

    Raises:
        ValueError: the two bodies do not mean the same.
    """
    ended = ended_spans(shape, spans)
    ways = arms(ended)
    if not same_meaning(*(way() for way in ways.values())):
        raise ValueError("the two encoders do not give the same message")
    times: dict[str, list[float]] = {name: [] for name in ways}
    for number in range(rounds):
        for name in ways if number % 2 == 0 else reversed(ways):
            started = time.process_time()
            ways[name]()
            times[name].append((time.process_time() - started) / len(ended) * 1e6)
    pairs = zip(times["otelbridge"], times["official"], strict=True)
    return {
        "spans": len(ended),
        "official_us": spread(times["official"]),
        "otelbridge_us": spread(times["otelbridge"]),
        "ratio": spread([ours / theirs for ours, theirs in pairs], 3),
    }


def main(arguments: Sequence[str] | None = None) -> int:
    """Run from the command line; exit 1 when the bar is missed."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--spans", type=int, default=2_000)
    parser.add_argument("--rounds", type=int, default=21)
    parser.add_argument("--results", type=Path, help="folder for the JSON files")
    args = parser.parse_args(arguments)
    figures = {shape: measure(shape, args.spans, args.rounds) for shape in SHAPES}
    rows = [
        Row(
            f"Encoding a span, {told}, against the official encoder",
            f"{figures[shape]['otelbridge_us']['median']:.1f} µs against "
            f"{figures[shape]['official_us']['median']:.1f} µs, "
            f"{figures[shape]['ratio']['median']:.2f} {TIMES}",
            f"≤ {BAR} {TIMES}",
        )
        for shape, told in SHAPES.items()
    ]
    save("encoder", {"rounds": args.rounds, "bar": BAR, **figures}, rows, args.results)
    met = all(figures[shape]["ratio"]["median"] <= BAR for shape in SHAPES)
    return 0 if met else 1


if __name__ == "__main__":
    sys.exit(main())
