"""One arm of `overhead.py` in a process of its own: makes spans, exports them, measures itself.

Runs in the project's environment or in the peers', so it imports at the top what both have. An arm
sets its library up as a user would, by its public functions, and makes a request's spans in one of
two ways: `otel`, the OpenTelemetry API with the same attributes for every arm, or `own`, what the
library offers for a model call. The last line on stdout is the figures as JSON.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Final

from opentelemetry import trace
from opentelemetry.trace import SpanKind

from benchmarks._chats import MODEL, SPANS_PER_REQUEST, Request, Requests

#: Requests between two flushes: 500 spans, which no arm exports before it is told to, so that the
#: calling thread is measured alone, and every arm sends the same batches.
_CYCLE: Final = 100
_FLUSH_MILLISECONDS = 30_000


@dataclass(frozen=True)
class Arm:
    """A library that is set up: a way to make a request's spans, and to have all delivered."""

    make: Callable[[Request], None]
    flush: Callable[[], object]


def otel_request(tracer: trace.Tracer, *, marks: bool = True) -> Callable[[Request], None]:
    """The spans of a request by the OpenTelemetry API.

    Args:
        marks: Also set, as plain attributes, what otelbridge adds by itself: all arms then export
            the same attributes.
    """

    def make(request: Request) -> None:
        with tracer.start_as_current_span(
            "POST /ask", kind=SpanKind.SERVER, attributes=request.start
        ) as server:
            for chat in request.chats:
                with tracer.start_as_current_span(
                    chat.name, kind=SpanKind.CLIENT, attributes=chat.start
                ) as span:
                    span.set_attributes(chat.end)
            server.set_attributes(request.end)

    def make_with_marks(request: Request) -> None:
        with tracer.start_as_current_span(
            "POST /ask", kind=SpanKind.SERVER, attributes=request.marked_start
        ) as server:
            for chat in request.chats:
                with tracer.start_as_current_span(
                    chat.name, kind=SpanKind.CLIENT, attributes=chat.marked_start
                ) as span:
                    span.set_attributes(chat.end)
            server.set_attributes(request.marked_end)

    return make_with_marks if marks else make


def stock(url: str, own: bool) -> Arm:
    """The SDK with its batch processor and its OTLP/HTTP exporter."""
    return _stock(marks=True)


def bare(url: str, own: bool) -> Arm:
    """The same without the attributes that otelbridge adds: smaller spans than the others'."""
    return _stock(marks=False)


def _stock(*, marks: bool) -> Arm:
    from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
    from opentelemetry.sdk.trace import TracerProvider
    from opentelemetry.sdk.trace.export import BatchSpanProcessor

    provider = TracerProvider()
    provider.add_span_processor(BatchSpanProcessor(OTLPSpanExporter()))
    return Arm(
        otel_request(provider.get_tracer("benchmark"), marks=marks),
        lambda: provider.force_flush(_FLUSH_MILLISECONDS),
    )


def exporter(url: str, own: bool) -> Arm:
    """The export path of otelbridge alone, behind the SDK's provider."""
    from opentelemetry.sdk.trace import TracerProvider

    from otelbridge.exporters.otlp import bridge_processor
    from otelbridge.settings import Settings

    provider = TracerProvider()
    provider.add_span_processor(bridge_processor(Settings.from_env()))
    return Arm(
        otel_request(provider.get_tracer("benchmark")),
        lambda: provider.force_flush(_FLUSH_MILLISECONDS),
    )


def otelbridge(url: str, own: bool) -> Arm:
    """What a user gets: otelbridge as `configure()` sets it up."""
    import otelbridge as bridge

    provider = bridge.configure()
    assert provider is not None
    tracer = provider.get_tracer("benchmark")

    def make(request: Request) -> None:
        with tracer.start_as_current_span(
            "POST /ask", kind=SpanKind.SERVER, attributes=request.start
        ) as server:
            for chat in request.chats:
                with bridge.chat(
                    MODEL, provider="openai", messages=chat.messages, temperature=0.2,
                    max_tokens=1024,
                ) as call:  # fmt: skip
                    call.set_response(
                        id=chat.response_id, model=f"{MODEL}-2024-08-06", finish_reasons="stop"
                    )
                    call.set_output(chat.answer)
                    call.set_usage(input_tokens=chat.input_tokens, output_tokens=chat.output_tokens)
            server.set_attributes(request.end)

    return Arm(
        make if own else otel_request(tracer, marks=False),
        lambda: bridge.flush(_FLUSH_MILLISECONDS / 1000),
    )


def langfuse(url: str, own: bool) -> Arm:
    """The Langfuse SDK; every span is exported, as in the other arms."""
    from langfuse import Langfuse

    client = Langfuse(
        public_key="pk-lf-benchmark", secret_key="sk-lf-benchmark", base_url=url,
        should_export_span=lambda span: True,
    )  # fmt: skip

    def make(request: Request) -> None:
        with client.start_as_current_observation(
            name="POST /ask", as_type="span", metadata=request.start
        ):
            for chat in request.chats:
                with client.start_as_current_observation(
                    name=chat.name, as_type="generation", model=MODEL, input=chat.messages,
                    model_parameters={"temperature": 0.2, "max_tokens": 1024},
                ) as generation:  # fmt: skip
                    generation.update(
                        output=chat.answer,
                        usage_details={"input": chat.input_tokens, "output": chat.output_tokens},
                    )

    return Arm(make if own else otel_request(trace.get_tracer("benchmark")), client.flush)


def logfire(url: str, own: bool) -> Arm:
    """Logfire, exporting to an OTLP backend, without console and scrubbing."""
    import logfire as fire

    fire.configure(
        send_to_logfire=False,
        console=False,
        metrics=False,
        scrubbing=False,
        inspect_arguments=False,
    )

    def make(request: Request) -> None:
        with fire.span("POST /ask", **request.start) as server:
            for chat in request.chats:
                with fire.span(
                    "chat {model}", model=MODEL, provider="openai", temperature=0.2,
                    max_tokens=1024, messages=chat.messages,
                ) as span:  # fmt: skip
                    span.set_attributes(
                        {
                            "response_id": chat.response_id, "output": chat.answer,
                            "gen_ai.usage.input_tokens": chat.input_tokens,
                            "gen_ai.usage.output_tokens": chat.output_tokens,
                        }
                    )  # fmt: skip
            server.set_attributes(request.end)

    return Arm(
        make if own else otel_request(trace.get_tracer("benchmark")),
        lambda: fire.force_flush(_FLUSH_MILLISECONDS),
    )


def traceloop(url: str, own: bool) -> Arm:
    """The Traceloop SDK (OpenLLMetry), without metrics and telemetry of its own."""
    from traceloop.sdk import Traceloop
    from traceloop.sdk.decorators import workflow
    from traceloop.sdk.instruments import Instruments
    from traceloop.sdk.tracing.manual import LLMMessage, LLMUsage, track_llm_call

    Traceloop.init(
        app_name="benchmark", api_endpoint=url, api_key="benchmark", telemetry_enabled=False,
        instruments={Instruments.OPENAI},
    )  # fmt: skip
    current: list[Request] = []

    @workflow(name="ask")
    def ask() -> None:
        for chat in current[0].chats:
            with track_llm_call(vendor="openai", type="chat") as call:
                call.report_request(
                    model=MODEL, messages=[LLMMessage(**message) for message in chat.messages]
                )
                call.report_response(model=MODEL, completions=[chat.answer])
                call.report_usage(
                    LLMUsage(
                        prompt_tokens=chat.input_tokens, completion_tokens=chat.output_tokens,
                        total_tokens=chat.input_tokens + chat.output_tokens,
                    )
                )  # fmt: skip

    def make(request: Request) -> None:
        current[:] = [request]
        ask()

    provider: Any = trace.get_tracer_provider()
    return Arm(
        make if own else otel_request(trace.get_tracer("benchmark")),
        lambda: provider.force_flush(_FLUSH_MILLISECONDS),
    )


ARMS: dict[str, Callable[[str, bool], Arm]] = {
    "stock": stock,
    "bare": bare,
    "exporter": exporter,
    "otelbridge": otelbridge,
    "langfuse": langfuse,
    "logfire": logfire,
    "traceloop": traceloop,
}


def environment(url: str, folder: str, compression: str = "gzip") -> dict[str, str]:
    """What the arms' processes are told: one sink, one compression, a queue that drops nothing.

    Args:
        folder: Where they may write files.
    """
    return {
        "OTEL_SERVICE_NAME": "benchmark",
        "OTEL_EXPORTER_OTLP_ENDPOINT": url,
        "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT": f"{url}/v1/traces",
        "OTEL_EXPORTER_OTLP_COMPRESSION": compression,
        "OTEL_BSP_MAX_QUEUE_SIZE": "20480",
        "OTELBRIDGE_SPOOL_DIR": folder,
        "OTELBRIDGE_MASKING": "false",
        "OTELBRIDGE_PRICES": "false",  # no other arm adds a cost to its spans
        "TRACELOOP_METRICS_ENABLED": "false",
        "TRACELOOP_TELEMETRY": "false",
        "HOME": folder,
    }


def measure(arm: Arm, shape: str, requests: int, warm_up: int) -> dict[str, float]:
    """Make and export spans; the first ones, and all that starts with them, are not measured.

    Returns:
        `cpu_us`: processor time of all threads per span, until all is delivered. `thread_us` and
        `wall_us`: of the calling thread per span, while it makes spans
        and nothing is exported.
    """
    variants = Requests(shape).variants
    for half in range(2):
        for number in range(warm_up):
            arm.make(variants[(number + half) % len(variants)])
        arm.flush()
        time.sleep(0.4)  # what loads in the background (prices) is there afterwards
    make = arm.make
    thread = wall = 0.0
    cpu = time.process_time()
    for first in range(0, requests, _CYCLE):
        thread_start, wall_start = time.thread_time(), time.perf_counter()
        for number in range(first, min(first + _CYCLE, requests)):
            make(variants[number % len(variants)])
        thread += time.thread_time() - thread_start
        wall += time.perf_counter() - wall_start
        arm.flush()
    cpu = time.process_time() - cpu
    spans = requests * SPANS_PER_REQUEST
    return {
        "spans": (requests + 2 * warm_up) * SPANS_PER_REQUEST,
        "cpu_us": cpu / spans * 1e6,
        "thread_us": thread / spans * 1e6,
        "wall_us": wall / spans * 1e6,
    }


def main() -> int:
    """Run from the command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("arm", choices=ARMS)
    parser.add_argument("--way", choices=("otel", "own"), default="otel")
    parser.add_argument("--shape", choices=("chat", "small"), default="chat")
    parser.add_argument("--requests", type=int, default=800)
    parser.add_argument("--warm-up", type=int, default=60)
    args = parser.parse_args()
    url = os.environ["OTEL_EXPORTER_OTLP_ENDPOINT"]
    arm = ARMS[args.arm](url, args.way == "own")
    figures = measure(arm, args.shape, args.requests, args.warm_up)
    sys.stdout.write("\n" + json.dumps(figures) + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
