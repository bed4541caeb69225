"""The program under test: a service that makes spans as it is told and ends as it is told.

It starts tracing as a user does: `otelbridge.configure()` with the environment (arm `otelbridge`),
or the SDK's provider, batch processor and OTLP/HTTP exporter with their defaults (arm `stock`).
Every span's ids go to a file before the end. `Program` in `_run` is the other side of its pipes.
A resolver that hangs is a stand-in: `getaddrinfo` replaced by a wait inside C that no Python code
and no signal can end, as glibc's own is, for 10 s (two tries of 5 s, glibc's default).
"""

from __future__ import annotations

import argparse
import atexit
import ctypes
import gc
import json
import os
import random
import resource
import socket
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, TextIO

from opentelemetry import trace
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.trace import SpanKind, Tracer

HANGING_HOST = "hangs.invalid"
RESOLVER_SECONDS = 10
#: Spans of one trace: a request, three steps inside it, one LLM call.
TREE = 5


def main() -> None:
    options = _parser().parse_args()
    if options.resolver:
        _replace_resolver(None if options.resolver == "hangs" else int(options.resolver))
    if options.end == "hold":  # registered before otelbridge's own: it runs after that has ended
        atexit.register(lambda: say({"final": stats()}))
    if options.file_limit:
        resource.setrlimit(resource.RLIMIT_FSIZE, (options.file_limit, options.file_limit))
    tracer = STARTS[options.arm]()
    with Path(options.ids).open("a", encoding="ascii") as ids:
        make = Maker(tracer, ids, options.bytes)
        if options.bad:
            make.bad()
        memory = _reset_peak() if options.memory else 0
        started = time.monotonic()
        say({"started": started})
        if options.spans or options.rate:
            make.run(options.spans, options.rate)
        took = time.monotonic() - started
        ids.flush()
        report = {"made": make.made, "seconds": took}
        if options.memory:
            report["grown_bytes"] = _peak_bytes() - memory
        say({"ready": time.monotonic(), **report})
        if options.end == "hold":
            _hold(lambda: _peak_bytes() - memory if options.memory else 0)
    if options.end == "sigterm":
        time.sleep(3600)
    say({"end": time.monotonic()})
    if options.end == "sys.exit":
        sys.exit(3)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--arm", choices=list(STARTS), default="otelbridge")
    parser.add_argument("--ids", required=True, help="file to append ids to")
    parser.add_argument(
        "--spans", type=int, default=0, help="spans to make; 0 at a rate: without end"
    )
    parser.add_argument("--rate", type=float, default=0.0, help="spans a second; 0: no pauses")
    parser.add_argument("--bytes", type=int, default=0, help="of text on each span")
    parser.add_argument("--bad", action="store_true", help="also one span that receivers refuse")
    parser.add_argument("--memory", action="store_true", help="report how the memory grew")
    parser.add_argument("--file-limit", type=int, default=0, help="bytes that a file may have")
    parser.add_argument("--resolver", default="", help="`hangs`, or the port that the host is at")
    parser.add_argument("--end", choices=["normal", "sys.exit", "sigterm", "hold"], required=True)
    return parser


# -- starting ------------------------------------------------------------------------------------
def _start_otelbridge() -> Tracer:
    import otelbridge

    otelbridge.configure()
    return trace.get_tracer("bench")


def _start_stock() -> Tracer:
    from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
    from opentelemetry.sdk.trace.export import BatchSpanProcessor

    provider = TracerProvider()
    provider.add_span_processor(BatchSpanProcessor(OTLPSpanExporter()))
    trace.set_tracer_provider(provider)
    return trace.get_tracer("bench")


STARTS: dict[str, Callable[[], Tracer]] = {"otelbridge": _start_otelbridge, "stock": _start_stock}


def _replace_resolver(port: int | None) -> None:
    """The host hangs (None), or is loopback at this port."""
    real = socket.getaddrinfo
    poll = ctypes.CDLL(None).poll  # releases the GIL, as getaddrinfo does

    def resolve(host: Any, asked_port: Any, *args: Any, **kwargs: Any) -> Any:
        if host != HANGING_HOST:
            return real(host, asked_port, *args, **kwargs)
        if port is not None:
            return real("127.0.0.1", port, *args, **kwargs)
        until = time.monotonic() + RESOLVER_SECONDS
        while (left := until - time.monotonic()) > 0:
            poll(None, 0, int(left * 1000) + 1)
        raise socket.gaierror(socket.EAI_AGAIN, "no name server answered")

    socket.getaddrinfo = resolve  # type: ignore[assignment]  # takes what it is given


# -- spans ---------------------------------------------------------------------------------------
class Maker:
    """Makes spans in trees of `TREE` and writes a line for each: ids in hex, kind."""

    def __init__(self, tracer: Tracer, ids: TextIO, text_bytes: int) -> None:
        self._tracer = tracer
        self._ids = ids
        self._texts = _texts(text_bytes) if text_bytes else []
        self.made = 0

    def run(self, spans: int, rate: float) -> None:
        """So many spans, at this rate or without pauses; 0 spans at a rate: until told to end."""
        started = time.monotonic()
        first = self.made
        os.set_blocking(0, False)
        while not spans or self.made - first < spans:
            if rate:
                due = started + (self.made - first) / rate
                if (wait := due - time.monotonic()) > 0:
                    time.sleep(wait)
                if not spans and _asked_to_end():
                    break
            self.tree(min(TREE, spans - (self.made - first)) if spans else TREE)
        os.set_blocking(0, True)

    def tree(self, spans: int) -> None:
        """One trace."""
        with self._tracer.start_as_current_span(
            "GET /answers", kind=SpanKind.SERVER, attributes=self._attributes("url.query")
        ) as root:
            self._note(root, "outer")
            for number in range(1, spans):
                if number == TREE - 1:
                    name, kind, key = "chat gpt-4o", SpanKind.CLIENT, "gen_ai.input.messages"
                    fixed = {"gen_ai.operation.name": "chat", "gen_ai.request.model": "gpt-4o"}
                else:
                    name, kind, key, fixed = "step", SpanKind.INTERNAL, "app.text", {}
                with self._tracer.start_as_current_span(
                    name, kind=kind, attributes={**fixed, **self._attributes(key)}
                ) as span:
                    self._note(span, "llm" if fixed else "inner")

    def bad(self) -> None:
        """A span by the name that stand-ins refuse."""
        span = self._tracer.start_span("bad")
        self._note(span, "bad")
        span.end()

    def _attributes(self, key: str) -> dict[str, str]:
        if not self._texts:
            return {"app.step": str(self.made)}
        return {key: f"{self.made} {self._texts[self.made % len(self._texts)]}"}

    def _note(self, span: trace.Span, kind: str) -> None:
        context = span.get_span_context()
        self._ids.write(f"{context.trace_id:032x}{context.span_id:016x} {kind}\n")
        self.made += 1


def _texts(size: int) -> list[str]:
    """Texts of this size that compress about as prose does."""
    dice = random.Random(1)
    letters = "etaoinshrdlucmfwypvbgk"
    words = ["".join(dice.choices(letters, k=dice.randint(2, 9))) for _ in range(3000)]
    return [" ".join(dice.choices(words, k=size // 5))[:size] for _ in range(64)]


# -- the pipes -----------------------------------------------------------------------------------
def say(what: dict[str, Any]) -> None:
    sys.stdout.write(json.dumps(what) + "\n")
    sys.stdout.flush()


def _asked_to_end() -> bool:
    try:
        os.read(0, 1)
    except BlockingIOError:
        return False
    return True


def _hold(grown_bytes: Callable[[], int]) -> None:
    """Answer each line with the counts of the exporter, until the pipe is closed."""
    for _ in sys.stdin:
        say({"counts": stats(), "grown_bytes": grown_bytes()})


def stats() -> dict[str, Any]:
    """What the own export path counts."""
    from otelbridge.exporters.processor import OtlpSpanProcessor

    for found in gc.get_objects():
        if isinstance(found, OtlpSpanProcessor):
            spool = found._spool
            return {**found.stats(), "spool": dict(spool.counts) if spool else {}}
    return {}


def _reset_peak() -> int:
    """Forget the highest memory so far (Linux); gives the memory now, in bytes."""
    Path("/proc/self/clear_refs").write_text("5", encoding="ascii")
    return _peak_bytes()


def _peak_bytes() -> int:
    status = Path("/proc/self/status").read_text(encoding="ascii")
    return int(status.partition("VmHWM:")[2].split()[0]) * 1024


if __name__ == "__main__":
    main()
