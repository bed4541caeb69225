"""Random request trees over several services: are parents in the LLM view all there, in order?

Bar B1: 0 orphans, and the same ancestor order as in the full tree. The services run in this
process over the real WSGI wrapper, propagator, httpx transport wrapper and span processor; their
wire is httpx's WSGI transport. `tests/bridge/test_trees.py` runs 1,000 trees;
`python benchmarks/bench_trees.py --trees 20000` more. Prints JSON with counts and the seed.
"""

from __future__ import annotations

import argparse
import json
import random
import sys
import time
from collections.abc import Iterable
from contextvars import Context as ContextVarsContext
from dataclasses import dataclass, field
from typing import Any

import httpx
import wrapt
from opentelemetry import context as otel_context
from opentelemetry import propagate, trace
from opentelemetry.baggage.propagation import W3CBaggagePropagator
from opentelemetry.propagators.composite import CompositePropagator
from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.trace import SpanKind
from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

from otelbridge import policy, semconv, view
from otelbridge.integrations import http_clients, wsgi
from otelbridge.processors.context import ContextAttributes
from otelbridge.processors.llm_view import ViewMarks
from otelbridge.processors.pipeline import BridgeSpanProcessor
from otelbridge.propagation import BridgePropagator, extract
from otelbridge.trust import TrustedHosts


@dataclass
class Plan:
    """One span to make: plain, LLM, or a call to another service with its own plan."""

    kind: str
    service: int
    children: list[Plan] = field(default_factory=list)


def random_plan(rng: random.Random, services: int, plain_share: float = 0.3) -> Plan:
    """A request into service 0 with 1 to about 40 spans below it."""
    budget = [rng.randint(1, 40)]
    llm_share = rng.choice((0.0, 0.1, 0.4))  # whole traces without LLM work must occur

    def grow(service: int, depth: int) -> list[Plan]:
        plans: list[Plan] = []
        for _ in range(rng.randint(0, 4)):
            if budget[0] <= 0 or depth > 8:
                break
            budget[0] -= 1
            draw = rng.random()
            if draw < llm_share:
                plans.append(Plan("llm", service, grow(service, depth + 1)))
            elif draw < llm_share + plain_share:
                plans.append(Plan("plain", service, grow(service, depth + 1)))
            else:
                callee = rng.randrange(services)
                plans.append(Plan("call", callee, grow(callee, depth + 1)))
        return plans

    return Plan("call", 0, grow(0, 0))


class World:
    """Services of one process that call each other; all spans end in one list."""

    def __init__(self, *, mode: str = "services", disabled: frozenset[int] = frozenset()) -> None:
        self.exporter = InMemorySpanExporter()
        self._mode = mode
        self._disabled = disabled
        self._providers: dict[int, TracerProvider] = {}
        self._plans: dict[str, Plan] = {}

    def _tracer(self, service: int, name: str) -> trace.Tracer:
        provider = self._providers.get(service)
        if provider is None:
            provider = self._providers[service] = TracerProvider(shutdown_on_exit=False)
            provider.add_span_processor(
                BridgeSpanProcessor(
                    context=ContextAttributes(environment=None, release=None),
                    marks=ViewMarks(mode=self._mode, enabled=service not in self._disabled),
                    next_processor=SimpleSpanProcessor(self.exporter),
                )
            )
        return provider.get_tracer(name)

    def request(self, plan: Plan) -> None:
        """Send one request into the first service from outside, without context."""
        ContextVarsContext().run(self._call, plan, None)

    def _call(self, plan: Plan, caller: int | None) -> None:
        self._plans[key := str(id(plan))] = plan
        with httpx.Client(transport=httpx.WSGITransport(app=self._serve)) as client:
            request = client.build_request(
                "GET", f"http://svc-{plan.service}/{key}", headers={"x-plan": key}
            )
            if caller is None:
                client.send(request)
                return
            plain = self._tracer(caller, "plain")
            with plain.start_as_current_span("GET", kind=SpanKind.CLIENT):
                propagate.inject(request.headers)
                client.send(request)

    def _serve(self, environ: dict[str, Any], start_response: Any) -> Iterable[bytes]:
        # A service is another process: nothing of the caller's context may leak into it.
        return ContextVarsContext().run(wsgi.serve, self._app, environ, start_response)

    def _app(self, environ: dict[str, Any], start_response: Any) -> Iterable[bytes]:
        plan = self._plans.pop(environ["HTTP_X_PLAN"])
        token = otel_context.attach(extract(environ))
        try:
            name = f"GET /svc-{plan.service}"
            tracer = self._tracer(plan.service, "plain")
            with tracer.start_as_current_span(name, kind=SpanKind.SERVER):
                for child in plan.children:
                    self._run(child, plan.service)
                start_response("200 OK", [("Content-Length", "2")])
        finally:
            otel_context.detach(token)
        return [b"ok"]

    def _run(self, plan: Plan, service: int) -> None:
        if plan.kind == "call":
            self._call(plan, service)
            return
        tracer, attributes = self._tracer(service, "plain"), {}
        if plan.kind == "llm":
            tracer = self._tracer(service, "otelbridge.genai")
            attributes = {semconv.GEN_AI_OPERATION_NAME: "chat"}
        with tracer.start_as_current_span(plan.kind, attributes=attributes):
            for child in plan.children:
                self._run(child, service)


@dataclass
class Findings:
    """What is wrong with the view of some spans; all empty when the bar is met."""

    spans: int = 0
    kept: int = 0
    orphans: list[str] = field(default_factory=list)
    wrong_order: list[str] = field(default_factory=list)
    wrong_keep: list[str] = field(default_factory=list)


def examine(spans: Iterable[ReadableSpan], mode: str = "services") -> Findings:
    """Compare the view that the marks give with the full tree."""
    by_id = {span.context.span_id: span for span in spans if span.context is not None}
    kept = {i for i, s in by_id.items() if policy.in_llm_view(s.attributes or {})}
    found = Findings(spans=len(by_id), kept=len(kept))
    working = _with_llm_work(by_id)
    for span_id, span in by_id.items():
        if (span_id in kept) != _expected_in_view(span, working, mode):
            found.wrong_keep.append(span.name)
        if span_id not in kept:
            continue
        named = policy.view_parent(span.attributes or {}, "?")
        if named and int(named, 16) not in kept:
            found.orphans.append(span.name)
        if named != _nearest_kept_ancestor(span, by_id, kept):
            found.wrong_order.append(span.name)
    return found


def _expected_in_view(span: ReadableSpan, working: set[int], mode: str) -> bool:
    attributes = span.attributes or {}
    if attributes.get(semconv.LLM_KEEP) is False:
        return False
    if mode == "all" or policy.is_gen_ai(attributes):
        return True
    is_entry = span.parent is None or (mode != "llm" and span.parent.is_remote)
    return is_entry and span.context is not None and span.context.span_id in working


def _with_llm_work(by_id: dict[int, ReadableSpan]) -> set[int]:
    working: set[int] = set()
    for span in by_id.values():
        if not _own_keep(span):
            continue
        current: ReadableSpan | None = span
        while current is not None and current.context is not None:
            working.add(current.context.span_id)
            current = by_id.get(current.parent.span_id) if current.parent else None
    return working


def _own_keep(span: ReadableSpan) -> bool:
    """Whether a span is in the view by itself, not as an entry span."""
    attributes = span.attributes or {}
    return policy.is_gen_ai(attributes) and attributes.get(semconv.LLM_KEEP) is not False


def _nearest_kept_ancestor(
    span: ReadableSpan, by_id: dict[int, ReadableSpan], kept: set[int]
) -> str:
    while span.parent is not None:
        parent_id = span.parent.span_id
        if parent_id in kept:
            return trace.format_span_id(parent_id)
        if parent_id not in by_id:
            break
        span = by_id[parent_id]
    return ""


def install() -> None:
    """Set the propagator, and wrap httpx's WSGI transport as its network transports are."""
    inner = CompositePropagator([TraceContextTextMapPropagator(), W3CBaggagePropagator()])
    propagate.set_global_textmap(BridgePropagator(inner, trusted=TrustedHosts()))
    http_clients.patch(httpx)
    if not isinstance(httpx.WSGITransport.__dict__["handle_request"], wrapt.FunctionWrapper):
        wrapt.wrap_function_wrapper(httpx.WSGITransport, "handle_request", http_clients._handle)


def run_trees(trees: int, seed: int, *, mode: str = "services", mixed: bool = False) -> Findings:
    """Make and examine that many random trees over 2 to 5 services.

    Args:
        mode: The `OTELBRIDGE_LLM_VIEW` of all services.
        mixed: In every tree one service has `LANGFUSE_ENABLED=false`.
    """
    install()
    rng = random.Random(seed)
    total = Findings()
    for _ in range(trees):
        services = rng.randint(2, 5)
        disabled = frozenset({rng.randrange(services)} if mixed else ())
        world = World(mode=mode, disabled=disabled)
        world.request(random_plan(rng, services=services))
        found = examine(world.exporter.get_finished_spans(), mode)
        total.spans += found.spans
        total.kept += found.kept
        total.orphans += found.orphans
        total.wrong_order += found.wrong_order
        total.wrong_keep += found.wrong_keep
    return total


def main() -> int:
    """Run from the command line; exit 1 if the bar is missed."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--trees", type=int, default=20_000)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--mode", choices=("services", "llm", "all"), default="services")
    parser.add_argument("--mixed", action="store_true", help="one service with Langfuse off")
    args = parser.parse_args()
    started = time.monotonic()
    found = run_trees(args.trees, args.seed, mode=args.mode, mixed=args.mixed)
    result = {
        "trees": args.trees,
        "seed": args.seed,
        "mode": args.mode,
        "mixed": args.mixed,
        "spans": found.spans,
        "kept": found.kept,
        "orphans": len(found.orphans),
        "wrong_order": len(found.wrong_order),
        "wrong_keep": len(found.wrong_keep),
        "open_calls": view.open_calls(),
        "seconds": round(time.monotonic() - started, 1),
    }
    sys.stdout.write(json.dumps(result) + "\n")
    return 1 if found.orphans or found.wrong_order or found.wrong_keep else 0


if __name__ == "__main__":
    sys.exit(main())
