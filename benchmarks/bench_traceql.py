"""TraceQL over the local store: ten queries over HTTP while spans arrive; ingest, disk and memory.

The spans are those of `bench_local_store`, each trace with the user and session of its resources
as the Collector's Tempo branch sends them. `otelbridge local` is a process of its own, 500 spans/s
come from another; the queries go round, each `--rounds` times, on one kept connection. Prints JSON;
exits 1 when a bar is missed: p50 30 ms, each 200 ms, 20,000 spans/s over HTTP, 255 bytes a span.
"""

from __future__ import annotations

import argparse
import contextlib
import http.client
import json
import multiprocessing
import os
import platform
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections import deque
from collections.abc import Iterator
from concurrent.futures import Future
from itertools import islice
from pathlib import Path
from typing import Any
from urllib.parse import urlencode, urlsplit

from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest

from benchmarks.bench_local_store import (
    BAR_BYTES_PER_SPAN,
    BAR_SPANS_PER_SECOND,
    BASE_NS,
    IN_FLIGHT,
    PROTOBUF,
    Traces,
    _service,
    _set,
    bodies,
    disk,
    over_http,
    rss_mib,
)
from otelbridge.local.receivers.otlp_decode import decode
from otelbridge.local.records import from_otlp_port
from otelbridge.local.series import default_step_ns
from otelbridge.local.store.database import Store

BAR_P50_MS = 30
BAR_WORST_MS = 200
#: Spans of a trace, and how far the begins of two traces are apart: 600 spans/s of span time.
TRACE_SPANS = 12
TRACE_GAP_NS = 20_000_000
LIVE_TRACES = 4
LIVE_SECONDS = LIVE_TRACES * TRACE_SPANS / 500
FILL_TRACES = 200
SEARCH = "/api/search"
METRICS = "/api/metrics/query_range"
QUERIES: tuple[tuple[str, str], ...] = (
    (SEARCH, '{ span.gen_ai.system = "openai" }'),
    (SEARCH, '{ span.gen_ai.request.model = "gpt-4o" && duration > 3s }'),
    (SEARCH, '{ resource.langfuse.user.id = "user-123" }'),
    (SEARCH, "{ status = error }"),
    (SEARCH, '{ kind = server } >> { span.gen_ai.system = "openai" && status = error }'),
    (SEARCH, "{ span.gen_ai.system != nil } | sum(span.gen_ai.usage.cost) > 0.01"),
    (SEARCH, '{ name =~ "chat.*" } | select(span.gen_ai.usage.input_tokens)'),
    (METRICS, "{ } | rate() by (resource.service.name)"),
    (
        METRICS,
        "{ span.gen_ai.system != nil } | quantile_over_time(duration, .5, .95) "
        "by (span.gen_ai.request.model)",
    ),
    (METRICS, "{ } | sum_over_time(span.gen_ai.usage.cost) by (resource.langfuse.user.id)"),
)


class OwnedTraces(Traces):
    """The traces with owners on their resources, the first about `begin_ns`."""

    def __init__(self, seed: int, begin_ns: int) -> None:
        super().__init__(seed)
        self._number = (begin_ns - BASE_NS) // TRACE_GAP_NS

    def request(self, traces: int) -> bytes:
        """A request body with so many whole traces, three resources each."""
        request = ExportTraceServiceRequest()
        for _ in range(traces):
            scopes = {name: _service(request, name) for name in ("gateway", "agent", "retrieval")}
            self._trace(scopes)
            root = {pair.key: pair.value for pair in scopes["gateway"].spans[0].attributes}
            for group in request.resource_spans[-len(scopes) :]:
                for key in ("user.id", "session.id"):
                    _set(
                        group.resource.attributes.add(key=f"langfuse.{key}").value,
                        root[key].string_value,
                    )
        return request.SerializeToString()


def owned_bodies(spans: int, begin_ns: int, traces_each: int) -> Iterator[tuple[bytes, int]]:
    """Request bodies with their number of spans, together at least `spans`."""
    source = OwnedTraces(7, begin_ns)
    for _ in range(-(-spans // (traces_each * TRACE_SPANS))):
        yield source.request(traces_each), traces_each * TRACE_SPANS


def fill(directory: Path, spans: int) -> dict[str, Any]:
    """Load a new data directory in this process, its newest span about now; what it cost."""
    end_ns = time.time_ns()
    begin_ns = end_ns - spans // TRACE_SPANS * TRACE_GAP_NS
    store = Store(directory)
    source, total, seconds = owned_bodies(spans, begin_ns, FILL_TRACES), 0, 0.0
    while made := list(islice(source, IN_FLIGHT)):
        waiting: deque[Future[None]] = deque()
        begin = time.perf_counter()
        for body, count in made:
            waiting.append(store.write(from_otlp_port(decode(body, PROTOBUF))))
            total += count
        for future in waiting:
            future.result()
        seconds += time.perf_counter() - begin
    store.close()
    facts = {
        "begin_ns": begin_ns,
        "end_ns": end_ns,
        "spans": total,
        "in_process_spans_per_second": round(total / seconds),
        "bytes_per_span": round(disk(directory) / total, 1),
    }
    (directory / "facts.json").write_text(json.dumps(facts), encoding="utf-8")
    return facts


@contextlib.contextmanager
def server(directory: Path) -> Iterator[tuple[dict[str, str], int]]:
    """`otelbridge local` on a data directory: its addresses and process id."""
    command = [
        sys.executable, "-c", "import sys; from otelbridge.cli import main; sys.exit(main())",
        "local", "--json", "--data", str(directory), "--retention", "off",
        "--otlp-http", "0", "--otlp-grpc", "0", "--tempo", "0", "--langfuse", "0",
    ]  # fmt: skip
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    try:
        assert process.stdout is not None
        yield json.loads(process.stdout.readline()), process.pid
    finally:
        process.terminate()
        process.wait(120)


def arrive(url: str, sent: Any, stopped: Any) -> None:
    """Send 500 spans/s of now until stopped; counts them in `sent`. Runs in its own process."""
    address = urlsplit(url)
    connection = http.client.HTTPConnection(address.netloc, timeout=60)
    source, due = OwnedTraces(11, time.time_ns()), time.monotonic()
    while not stopped.wait(max(0.0, due - time.monotonic())):
        due += LIVE_SECONDS
        body = source.request(LIVE_TRACES)
        connection.request("POST", "/v1/traces", body, {"content-type": PROTOBUF})
        reply = connection.getresponse()
        reply.read()
        if reply.status == 200:
            sent.value += LIVE_TRACES * TRACE_SPANS


def ask(
    url: str, facts: dict[str, Any], rounds: int, pause_seconds: float
) -> tuple[list[list[float]], list[int]]:
    """Milliseconds by query, and how many traces or series each found at last."""
    connection = http.client.HTTPConnection(urlsplit(url).netloc, timeout=60)
    took: list[list[float]] = [[] for _ in QUERIES]
    found = [0] * len(QUERIES)
    start_s, end_s = facts["begin_ns"] // 10**9 - 60, facts["end_ns"] // 10**9 + 60
    # The server's own choice for the range, fixed: a copy that was filled long ago asks the same.
    step = f"{default_step_ns(start_s * 10**9, end_s * 10**9) // 10**9}s"
    for _ in range(rounds):
        for index, (path, text) in enumerate(QUERIES):
            time.sleep(pause_seconds)
            given = {"q": text, "start": start_s, "end": int(time.time()) + 60}
            more = {"limit": 20} if path == SEARCH else {"step": step}
            target = f"{path}?{urlencode({**given, **more})}"
            begin = time.perf_counter()
            connection.request("GET", target)
            reply = connection.getresponse()
            body = reply.read()
            took[index].append((time.perf_counter() - begin) * 1000)
            if reply.status != 200:
                raise SystemExit(f"{text}: {reply.status} {body[:300]!r}")
            answer = json.loads(body)
            found[index] = len(answer["traces" if path == SEARCH else "series"])
    return took, found


def queries(
    directory: Path, facts: dict[str, Any], rounds: int, pause_seconds: float
) -> dict[str, Any]:
    """The ten queries while spans arrive."""
    context = multiprocessing.get_context("spawn")
    sent, stopped = context.Value("q", 0), context.Event()
    with server(directory) as (addresses, pid):
        sender = context.Process(target=arrive, args=(addresses["otlp_http"], sent, stopped))
        sender.start()
        try:
            ask(addresses["tempo"], facts, 1, 0.0)  # the first reads from disk
            before, begin = sent.value, time.perf_counter()
            took, found = ask(addresses["tempo"], facts, rounds, pause_seconds)
            seconds = time.perf_counter() - begin
            arrived = (sent.value - before) / seconds
            memory = rss_mib(pid)
        finally:
            stopped.set()
            sender.join(30)
    every = sorted(value for values in took for value in values)
    return {
        "p50_ms": round(statistics.median(every), 1),
        "p95_ms": round(every[int(len(every) * 0.95)], 1),
        "worst_ms": round(every[-1], 1),
        "arriving_spans_per_second": round(arrived),
        "server_rss_mib": memory,
        "queries": [
            {
                "q": text,
                "p50_ms": round(statistics.median(values), 1),
                "max_ms": round(max(values), 1),
                "found": count,
            }
            for (_, text), values, count in zip(QUERIES, took, found, strict=True)
        ],
    }


def ingest(spans: int, senders: int, scratch: Path) -> dict[str, Any]:
    """Ingest over HTTP alone, by spans a request; the last with owners on the resources."""
    result: dict[str, Any] = {}
    for traces_each in (42, 334):
        made = list(bodies(spans, traces_each))
        name = f"{traces_each * TRACE_SPANS} spans a request"
        result[name] = over_http(made, senders, scratch / f"ingest-{traces_each}")
    made = list(owned_bodies(spans, BASE_NS, 42))
    result["504 spans a request, owners"] = over_http(made, senders, scratch / "ingest-owned")
    return result


def filled(keep: Path | None, scratch: Path, spans: int) -> tuple[Path, dict[str, Any]]:
    """A data directory with so many spans, copied from `keep` when that has been filled before."""
    directory = scratch / "data"
    if keep is None:
        return directory, fill(directory, spans)
    if not (keep / "facts.json").exists():
        fill(keep, spans)
    shutil.copytree(keep, directory)
    facts = json.loads((directory / "facts.json").read_text(encoding="utf-8"))
    if facts["spans"] < spans:
        raise SystemExit(f"{keep} has {facts['spans']} spans only")
    return directory, facts


def main() -> int:
    """Run from the command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--spans", type=int, default=100_000)
    parser.add_argument("--rounds", type=int, default=20)
    parser.add_argument("--pause", type=float, default=0.1, help="seconds before each query")
    # As many as a Collector's exporter sends at a time by default (num_consumers).
    parser.add_argument("--senders", type=int, default=10)
    parser.add_argument("--ingest-spans", type=int, default=100_000)
    parser.add_argument("--keep", type=Path, help="fill this directory once, and use copies of it")
    parser.add_argument("--only", choices=("queries", "ingest"))
    options = parser.parse_args()
    load = os.getloadavg()[0]
    result: dict[str, Any] = {
        "python": platform.python_version(), "cpus": os.cpu_count(), "load_before": round(load, 2)
    }  # fmt: skip
    missed = []
    with tempfile.TemporaryDirectory() as name:
        if options.only != "ingest":
            directory, facts = filled(options.keep, Path(name), options.spans)
            asked = queries(directory, facts, options.rounds, options.pause)
            result["stored"], result["queries"] = facts, asked
            missed += ["p50"] if asked["p50_ms"] > BAR_P50_MS else []
            missed += ["worst"] if asked["worst_ms"] > BAR_WORST_MS else []
            missed += ["disk"] if facts["bytes_per_span"] > BAR_BYTES_PER_SPAN else []
        if options.only != "queries":
            result["ingest"] = ingest(options.ingest_spans, options.senders, Path(name))
            slow = [one["spans_per_second"] for one in result["ingest"].values()]
            missed += ["ingest"] if min(slow) < BAR_SPANS_PER_SECOND else []
    result["load_after"] = round(os.getloadavg()[0], 2)
    result["missed"] = missed
    sys.stdout.write(json.dumps(result, indent=1) + "\n")
    return 1 if missed else 0


if __name__ == "__main__":
    sys.exit(main())
