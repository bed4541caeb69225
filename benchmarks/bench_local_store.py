"""The local store: spans/s taken in, bytes per span on disk, memory, for gen_ai services.

The spans are those of a gateway, an agent and a retrieval service as they leave the Collector's
Tempo branch: 12 spans a trace, about 12 attributes each, no content, marks on. Two ways in, each
into a store of its own: OTLP/HTTP to a server process (`--senders` connections, bodies made
beforehand), and in this process from the bytes of a body to the commit. Prints JSON; exits 1 when
a bar is missed: 20,000 spans/s over HTTP, 255 bytes a span.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import random
import resource
import subprocess
import sys
import tempfile
import threading
import time
from collections import deque
from collections.abc import Iterator
from concurrent.futures import Future
from itertools import islice
from pathlib import Path
from typing import Any

import httpx
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest

from otelbridge.local.receivers.otlp_decode import decode
from otelbridge.local.records import from_otlp_port
from otelbridge.local.store.database import Store

BAR_SPANS_PER_SECOND = 20_000
BAR_BYTES_PER_SPAN = 255
PROTOBUF = "application/x-protobuf"
#: 2025-01-01; data sets of one seed are equal to the byte.
BASE_NS = 1_735_689_600 * 10**9
MODELS = (("openai", "gpt-4o"), ("openai", "gpt-4o-mini"), ("anthropic", "claude-sonnet-4-5"))
TOOLS = ("search_orders", "refund", "weather", "send_mail", "lookup_customer")
IN_FLIGHT = 16
BODIES_AT_A_TIME = 200


class Traces:
    """Makes traces of gen_ai services; deterministic for a seed."""

    def __init__(self, seed: int) -> None:
        self._random = random.Random(seed)
        self._number = 0

    def request(self, traces: int) -> bytes:
        """A request body with so many whole traces of 12 spans."""
        request = ExportTraceServiceRequest()
        scopes = {name: _service(request, name) for name in ("gateway", "agent", "retrieval")}
        for _ in range(traces):
            self._trace(scopes)
        return request.SerializeToString()

    def _trace(self, scopes: dict[str, Any]) -> None:
        rng = self._random
        self._number += 1
        trace_id = rng.randbytes(16)
        begin = BASE_NS + self._number * 20_000_000 + rng.randrange(10**7)
        common = {
            "user.id": f"user-{rng.randrange(500)}",
            "session.id": f"session-{self._number // 4}",
            "deployment.region": rng.choice(("eu-west-1", "us-east-1")),
            "tenant.tier": rng.choice(("free", "pro", "enterprise")),
        }
        status = rng.choices((200, 500), (97, 3))[0]
        web = {
            "http.request.method": "POST", "http.route": "/v1/answers", "url.scheme": "https",
            "url.path": "/v1/answers", "server.address": "gateway", "server.port": 8443,
            "http.response.status_code": status, "network.protocol.version": "1.1",
        }  # fmt: skip
        root = self._span(
            scopes["gateway"], trace_id, None, begin, "POST /v1/answers", 2, web, common
        )
        client = self._span(scopes["gateway"], trace_id, root, begin, "POST", 3, web, common)
        agent = self._span(
            scopes["agent"], trace_id, client, begin, "invoke_agent helper", 1,
            {
                "gen_ai.operation.name": "invoke_agent", "gen_ai.agent.name": "helper",
                "gen_ai.agent.id": "agent-7", "gen_ai.provider.name": "openai",
                "gen_ai.conversation.id": f"conv-{self._number // 4}", "otelbridge.llm.keep": True,
                "agent.steps": 3,
            }, common,
        )  # fmt: skip
        for step in range(3):
            at = begin + step * 900_000_000
            self._chat(scopes["agent"], trace_id, agent, at, common)
            tool = rng.choice(TOOLS)
            self._span(
                scopes["agent"], trace_id, agent, at, f"execute_tool {tool}", 1,
                {
                    "gen_ai.operation.name": "execute_tool", "gen_ai.tool.name": tool,
                    "gen_ai.tool.type": "function",
                    "gen_ai.tool.call.id": f"call_{rng.randbytes(9).hex()}",
                    "otelbridge.llm.keep": True, "agent.step": step,
                    "tool.cached": rng.random() < 0.2,
                }, common,
            )  # fmt: skip
            self._span(
                scopes["retrieval"], trace_id, agent, at, "query vectors", 3,
                {
                    "db.system.name": "qdrant", "db.operation.name": "query",
                    "db.namespace": "docs", "db.collection.name": "articles",
                    "server.address": "qdrant", "server.port": 6333,
                    "db.response.returned_rows": rng.randrange(20),
                }, common,
            )  # fmt: skip

    def _chat(self, scope: Any, trace_id: bytes, parent: bytes, at: int, common: Any) -> None:
        rng = self._random
        provider, model = rng.choice(MODELS)
        tokens, answer = rng.randrange(100, 8000), rng.randrange(10, 900)
        values = {
            "gen_ai.operation.name": "chat", "gen_ai.system": provider,
            "gen_ai.provider.name": provider, "gen_ai.request.model": model,
            "gen_ai.response.model": f"{model}-2025-01-01",
            "gen_ai.response.id": f"chatcmpl-{rng.randbytes(12).hex()}",
            "gen_ai.response.finish_reasons": ["stop"], "gen_ai.request.temperature": 0.2,
            "gen_ai.usage.input_tokens": tokens, "gen_ai.usage.output_tokens": answer,
            "gen_ai.usage.cost": round(tokens * 2.5e-6 + answer * 1e-5, 8),
            "otelbridge.llm.keep": True,
        }  # fmt: skip
        self._span(scope, trace_id, parent, at, f"chat {model}", 3, values, common)

    def _span(
        self, scope: Any, trace_id: bytes, parent: bytes | None, at: int, name: str, kind: int,
        values: dict[str, Any], common: dict[str, Any],
    ) -> bytes:  # fmt: skip
        rng = self._random
        start = at + rng.randrange(50_000_000)
        span = scope.spans.add(
            trace_id=trace_id, span_id=rng.randbytes(8), name=name, kind=kind,
            start_time_unix_nano=start, end_time_unix_nano=start + int(rng.expovariate(1e-9)),
        )  # fmt: skip
        if parent is not None:
            span.parent_span_id = parent
        for key, value in {
            **values, **common, "otelbridge.llm.parent": parent.hex() if parent else "",
        }.items():  # fmt: skip
            _set(span.attributes.add(key=key).value, value)
        if rng.random() < 0.03:
            span.status.code = 2
            span.status.message = "upstream timed out"
            event = span.events.add(name="exception", time_unix_nano=start + 1000)
            _set(event.attributes.add(key="exception.type").value, "TimeoutError")
        return span.span_id


def _service(request: ExportTraceServiceRequest, name: str) -> Any:
    group = request.resource_spans.add()
    for key, value in {
        "service.name": name, "service.version": "1.4.2", "telemetry.sdk.language": "python",
        "telemetry.distro.name": "otelbridge", "otelbridge.branch": "tempo", "host.name": "node-1",
    }.items():  # fmt: skip
        _set(group.resource.attributes.add(key=key).value, value)
    scope = group.scope_spans.add()
    scope.scope.name, scope.scope.version = "otelbridge.genai", "1.0"
    return scope


def _set(target: Any, value: Any) -> None:
    if isinstance(value, bool):
        target.bool_value = value
    elif isinstance(value, int):
        target.int_value = value
    elif isinstance(value, float):
        target.double_value = value
    elif isinstance(value, list):
        for item in value:
            _set(target.array_value.values.add(), item)
    else:
        target.string_value = value


def bodies(spans: int, traces_each: int, seed: int = 7) -> Iterator[tuple[bytes, int]]:
    """Request bodies with their number of spans, together at least `spans`."""
    made, source = 0, Traces(seed)
    while made < spans:
        yield source.request(traces_each), traces_each * 12
        made += traces_each * 12


def disk(directory: Path) -> int:
    """Bytes of everything in a data directory."""
    return sum(path.stat().st_size for path in directory.iterdir())


def rss_mib(pid: int) -> int:
    """Resident memory of a process (Linux)."""
    text = Path(f"/proc/{pid}/status").read_text(encoding="ascii")
    (line,) = [line for line in text.splitlines() if line.startswith("VmRSS")]
    return int(line.split()[1]) // 1024


def over_http(made: list[tuple[bytes, int]], senders: int, directory: Path) -> dict[str, Any]:
    """Ingest at the port of a server process; acknowledged spans per second."""
    command = [
        sys.executable, "-c", "import sys; from otelbridge.cli import main; sys.exit(main())",
        "local", "--json", "--data", str(directory),
        "--otlp-http", "0", "--otlp-grpc", "0", "--tempo", "0", "--langfuse", "0",
    ]  # fmt: skip
    server = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    try:
        assert server.stdout is not None
        url = json.loads(server.stdout.readline())["otlp_http"] + "/v1/traces"
        waiting, failed = deque(made), []

        def send() -> None:
            with httpx.Client(trust_env=False, timeout=60) as client:
                while True:
                    try:
                        body, _ = waiting.popleft()
                    except IndexError:
                        return
                    reply = client.post(url, content=body, headers={"content-type": PROTOBUF})
                    if reply.status_code != 200:
                        failed.append(reply.status_code)

        threads = [threading.Thread(target=send) for _ in range(senders)]
        cpu = _cpu_seconds(server.pid)
        begin = time.perf_counter()
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        seconds = time.perf_counter() - begin
        cpu = _cpu_seconds(server.pid) - cpu
        memory = rss_mib(server.pid)
    finally:
        server.terminate()
        server.wait(60)
    spans = sum(count for _, count in made)
    if failed:
        raise SystemExit(f"{len(failed)} requests were refused: {set(failed)}")
    return {
        "spans": spans,
        "spans_per_request": made[0][1],
        "spans_per_second": round(spans / seconds),
        "server_cpu_us_per_span": round(cpu / spans * 1e6, 1),
        "server_rss_mib": memory,
        "bytes_per_span": round(disk(directory) / spans, 1),
    }


def _cpu_seconds(pid: int) -> float:
    fields = Path(f"/proc/{pid}/stat").read_text(encoding="ascii").rsplit(")", 1)[1].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def in_process(spans: int, traces_each: int, directory: Path) -> dict[str, Any]:
    """Ingest without HTTP: decode, rules, rows, commit; the making of bodies is not counted."""
    store = Store(directory)
    seconds, cpu_seconds, total = 0.0, 0.0, 0
    source = bodies(spans, traces_each)
    while made := list(islice(source, BODIES_AT_A_TIME)):
        waiting: deque[Future[None]] = deque()
        begin, cpu = time.perf_counter(), time.process_time()
        for body, count in made:
            waiting.append(store.write(from_otlp_port(decode(body, PROTOBUF))))
            total += count
            if len(waiting) >= IN_FLIGHT:
                waiting.popleft().result()
        for future in waiting:
            future.result()
        seconds += time.perf_counter() - begin
        cpu_seconds += time.process_time() - cpu
    begin = time.perf_counter()
    store.refresh()
    refresh_seconds = time.perf_counter() - begin
    trace = store.query("SELECT trace_id FROM tempo_spans LIMIT 1 OFFSET ?", [total // 2])[0][0]
    begin = time.perf_counter()
    found = store.trace("tempo_spans", trace.bytes)
    trace_seconds = time.perf_counter() - begin
    assert len(found) == 12
    memory = rss_mib(os.getpid())
    store.close()
    return {
        "spans": total,
        "spans_per_second": round(total / seconds),
        "cpu_us_per_span": round(cpu_seconds / total * 1e6, 1),
        "refresh_after_load_ms": round(refresh_seconds * 1000, 1),
        "trace_by_id_ms": round(trace_seconds * 1000, 1),
        "rss_mib": memory,
        "bytes_per_span": round(disk(directory) / total, 1),
    }


def main() -> int:
    """Run from the command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--spans", type=int, default=100_000)
    parser.add_argument("--traces-per-request", type=int, default=42, help="of 12 spans each")
    parser.add_argument("--senders", type=int, default=4)
    parser.add_argument("--only", choices=("http", "in-process"))
    options = parser.parse_args()
    result: dict[str, Any] = {"python": platform.python_version(), "cpus": os.cpu_count()}
    with tempfile.TemporaryDirectory() as scratch:
        if options.only != "in-process":
            made = list(bodies(options.spans, options.traces_per_request))
            result["http"] = over_http(made, options.senders, Path(scratch) / "http")
            del made
        if options.only != "http":
            result["in_process"] = in_process(
                options.spans, options.traces_per_request, Path(scratch) / "direct"
            )
    result["peak_rss_mib"] = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024
    result["bars"] = {"http": BAR_SPANS_PER_SECOND, "bytes_per_span": BAR_BYTES_PER_SPAN}
    sys.stdout.write(json.dumps(result) + "\n")
    http = result.get("http", {"spans_per_second": BAR_SPANS_PER_SECOND, "bytes_per_span": 0})
    good = http["spans_per_second"] >= BAR_SPANS_PER_SECOND
    return 0 if good and http["bytes_per_span"] <= BAR_BYTES_PER_SPAN else 1


if __name__ == "__main__":
    sys.exit(main())
