"""A Collector under steady load with sinks that misbehave: used by the fault tests and benchmark.

A `Rig` is one Collector, its two sinks and a load of `spans_per_second`; what was acknowledged is
compared with what arrived. Several rigs may run at the same time.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import subprocess
import tempfile
import threading
import time
import urllib.request
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

import yaml
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest

from benchmarks._collector import (
    GrpcSink,
    HttpSink,
    LoadMaker,
    RawHttpSender,
    free_ports,
    span_ids,
)
from otelbridge import semconv
from otelbridge.collector import CollectorProcess, config_file, project_root

_SPANS_PER_REQUEST = 25
_WAIT_SECONDS = 60.0
NGINX = shutil.which("nginx", path=os.environ.get("PATH", "") + ":/usr/sbin:/usr/local/sbin")


def merged(base: Any, over: Any) -> Any:
    """Two configurations as the Collector merges them: maps key by key, all else replaced."""
    if isinstance(base, dict) and isinstance(over, dict):
        both = {key: merged(base[key], over[key]) for key in base.keys() & over.keys()}
        return {**base, **over, **both}
    return over


def kept_ids(body: bytes) -> set[bytes]:
    """Ids of the spans in a request that belong to the LLM view."""
    return {
        span.trace_id + span.span_id
        for resource in ExportTraceServiceRequest.FromString(body).resource_spans
        for scope in resource.scope_spans
        for span in scope.spans
        if any(item.key == semconv.LLM_KEEP and item.value.bool_value for item in span.attributes)
    }


@dataclass(frozen=True, slots=True)
class Outcome:
    """What a rig's load came to. Lost: acknowledged, and not at the sink in the end.

    `langfuse_queued` tells spans that still wait (late) from those that are gone.
    """

    acknowledged: int
    resent_requests: int
    tempo_lost: int
    tempo_duplicates: int
    tempo_worst_lag_seconds: float
    llm_spans: int
    langfuse_lost: int
    langfuse_duplicates: int
    langfuse_queued: int


class Rig:
    """One Collector between two sinks, under load; a context manager.

    `over` is merged into the configuration, `proxy` puts nginx in front of the Langfuse sink.
    """

    def __init__(
        self,
        binary: Path,
        *,
        over: dict[str, Any] | None = None,
        environment: dict[str, str] | None = None,
        proxy: bool = False,
        spans_per_second: int = 250,
        seed: int = 1,
    ) -> None:
        self._stack = ExitStack()
        self._binary = binary
        self._over = over or {}
        self._environment = environment or {}
        self._proxy = proxy
        self._rate = spans_per_second
        self._maker = LoadMaker(seed=seed, plain=0.2)
        self._stop = threading.Event()
        self._thread: threading.Thread | None = None
        self.acknowledged: dict[bytes, float] = {}
        self.kept: set[bytes] = set()
        self.refused = 0

    # -- life --------------------------------------------------------------------------------------
    def __enter__(self) -> Self:
        with ExitStack() as stack:
            self.folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
            self.tempo = GrpcSink()
            stack.callback(self.tempo.close)
            self.langfuse = HttpSink()
            stack.callback(self.langfuse.close)
            ports = free_ports(6)
            url = self.langfuse.url
            if self._proxy:
                url = f"http://127.0.0.1:{ports[5]}"
                self._start_proxy(stack, ports[5])
            self.collector = self._make_collector(url, ports)
            stack.enter_context(self.collector)
            self._sender = RawHttpSender(ports[0])
            stack.callback(self._sender.close)
            stack.callback(self.stop_load)
            self._stack = stack.pop_all()
        return self

    def __exit__(self, *_: object) -> None:
        self._stack.close()

    def _make_collector(self, url: str, ports: list[int]) -> CollectorProcess:
        root = project_root()
        assert root is not None
        text = config_file(root, langfuse=True).read_text(encoding="utf-8")
        config = self.folder / "config.yaml"
        config.write_text(
            yaml.safe_dump(merged(yaml.safe_load(text), self._over), width=10**6), "utf-8"
        )
        return CollectorProcess(
            self._binary,
            tempo_endpoint=self.tempo.endpoint,
            langfuse_url=url,
            langfuse_public_key="pk-lf-made-up",
            langfuse_secret_key="sk-lf-made-up",
            otlp_http_port=ports[0],
            otlp_grpc_port=ports[1],
            health_port=ports[2],
            metrics_port=ports[3],
            work_dir=self.folder / "work",
            config=config,
            environment={
                "OTELBRIDGE_COLLECTOR_FLUSH_TIMEOUT": "100ms",
                "OTELBRIDGE_COLLECTOR_RETRY_MAX_INTERVAL": "1s",
                "OTELBRIDGE_COLLECTOR_PROMETHEUS_ENDPOINT": f"127.0.0.1:{ports[4]}",
                **self._environment,
            },
        )

    def _start_proxy(self, stack: ExitStack, port: int) -> None:
        root = project_root()
        assert root is not None
        assert NGINX is not None
        process = subprocess.Popen(
            [str(root / "collector" / "nginx" / "run.sh")],
            env={
                "PATH": f"{Path(NGINX).parent}:/usr/bin:/bin",
                "LANGFUSE_PROXY_UPSTREAM": self.langfuse.url,
                "LANGFUSE_PROXY_LISTEN": f"127.0.0.1:{port}",
                "LANGFUSE_PROXY_DIR": str(self.folder / "nginx"),
            },
            stdin=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        stack.callback(process.wait, 10)
        stack.callback(process.terminate)
        self.wait(lambda: _answers(f"http://127.0.0.1:{port}/healthz"), "the proxy's answer")

    # -- load --------------------------------------------------------------------------------------
    def start_load(self) -> None:
        """Send at the rate, in a thread, until `stop_load`; what is refused is sent again."""
        self._stop.clear()
        self._thread = threading.Thread(target=self._send, daemon=True)
        self._thread.start()

    def _send(self) -> None:
        due = time.monotonic()
        while not self._stop.is_set():
            for body in self._maker.load(300, spans_per_request=_SPANS_PER_REQUEST).requests:
                if not self.send(body):
                    return
                due += len(span_ids(body)) / self._rate
                if self._stop.wait(max(0.0, due - time.monotonic())):
                    return

    def send(self, body: bytes) -> bool:
        """Send one request until it is acknowledged; False when the load is to stop before."""
        if not self._sender.send(body, give_up=self._stop):
            return False
        now = time.monotonic()
        self.acknowledged.update(dict.fromkeys(span_ids(body), now))
        self.kept |= kept_ids(body)
        return True

    def stop_load(self) -> None:
        """End the load; returns once its thread has ended."""
        self._stop.set()
        if self._thread is not None:
            self._thread.join()
            self._thread = None

    # -- looking -----------------------------------------------------------------------------------
    def wait(
        self, condition: Callable[[], Any], what: str, timeout_seconds: float = _WAIT_SECONDS
    ) -> None:
        """Poll until it holds; TimeoutError otherwise."""
        deadline = time.monotonic() + timeout_seconds
        while not condition():
            if time.monotonic() > deadline:
                raise TimeoutError(f"{what}: not within {timeout_seconds:g} s")
            time.sleep(0.02)

    def pass_time(self, seconds: float) -> None:
        """Let the load run for a while: an outage has a length."""
        end = time.monotonic() + seconds
        self.wait(lambda: time.monotonic() > end, "the end of a while", seconds + 5)

    def metric(self, name: str, label: str = "") -> float:
        """Sum of the Collector's own metric over the series that hold the label text."""
        with urllib.request.urlopen(self.collector.metrics_url, timeout=5) as answer:
            lines = answer.read().decode().splitlines()
        return sum(
            float(line.rpartition(" ")[2])
            for line in lines
            if line.startswith(name) and label in line
        )

    def settled(self, timeout_seconds: float = _WAIT_SECONDS) -> Outcome:
        """The outcome, once all that was acknowledged has arrived or the time is over."""
        with contextlib.suppress(TimeoutError):  # the outcome says what is missing
            self.wait(
                lambda: (
                    self.acknowledged.keys() <= self.tempo.arrivals.first.keys()
                    and self.kept <= self.langfuse.arrivals.first.keys()
                ),
                "all spans",
                timeout_seconds,
            )
        first = self.tempo.arrivals.first
        lags = [first[item] - at for item, at in self.acknowledged.items() if item in first]
        return Outcome(
            acknowledged=len(self.acknowledged),
            resent_requests=self._sender.resent,
            tempo_lost=len(self.acknowledged.keys() - first.keys()),
            tempo_duplicates=self.tempo.arrivals.duplicates,
            tempo_worst_lag_seconds=round(max(lags, default=0.0), 2),
            llm_spans=len(self.kept),
            langfuse_lost=len(self.kept - self.langfuse.arrivals.first.keys()),
            langfuse_duplicates=self.langfuse.arrivals.duplicates,
            langfuse_queued=self._queued(),
        )

    def _queued(self) -> int:
        if self.collector.pid is None:
            return 0
        return int(self.metric("otelcol_exporter_queue_size", "otlp_http/langfuse"))


def _answers(url: str) -> bool:
    try:
        with urllib.request.urlopen(url, timeout=1):
            return True
    except OSError:
        return False


# -- outages ---------------------------------------------------------------------------------------
#: What the Langfuse side does in an outage; "500 behind the proxy" needs nginx.
OUTAGES = ("refused", "black hole", "429", "503", "500 behind the proxy")


def _timeout(seconds: float) -> dict[str, Any]:
    """The exporter's timeout; a black hole is noticed by it alone, and 30 s outlast a short test.

    Too short a timeout makes retries of whole batches time out again on a busy machine.
    """
    return {"exporters": {"otlp_http/langfuse": {"timeout": f"{seconds:g}s"}}}


def outage(
    binary: Path,
    kind: str,
    *,
    seconds: float,
    spans_per_second: int,
    timeout_seconds: float | None = None,
    retry_max_seconds: float = 1.0,
) -> Outcome:
    """Load, `seconds` of outage in the middle of it, recovery; what was lost.

    `timeout_seconds` is the Langfuse exporter's; default: its 30 s, less for a black hole.
    """
    if timeout_seconds is None and kind == "black hole":
        timeout_seconds = min(30.0, max(2.0, seconds / 4))
    with Rig(
        binary,
        over=_timeout(timeout_seconds) if timeout_seconds else {},
        environment={"OTELBRIDGE_COLLECTOR_RETRY_MAX_INTERVAL": f"{retry_max_seconds:g}s"},
        proxy=kind.startswith("500"),
        spans_per_second=spans_per_second,
    ) as rig:
        rig.start_load()
        rig.wait(lambda: rig.langfuse.arrivals.total, "the first span at Langfuse")
        begin_outage(rig.langfuse, kind)
        rig.pass_time(seconds)
        end_outage(rig.langfuse)
        count = rig.langfuse.arrivals.total
        rig.wait(lambda: rig.langfuse.arrivals.total > count, "a span after the outage")
        rig.stop_load()
        return rig.settled(_WAIT_SECONDS + 2 * retry_max_seconds)


def begin_outage(sink: HttpSink, kind: str) -> None:
    """Make the sink misbehave."""
    if kind == "refused":
        sink.refuse()
    elif kind == "black hole":
        sink.answer = kind
    else:
        sink.retry_after_seconds = 1 if kind == "429" else None
        sink.answer = int(kind.split(maxsplit=1)[0])


def end_outage(sink: HttpSink) -> None:
    """Make the sink behave again."""
    sink.answer = 200
    sink.accept()


def crashes(
    binary: Path,
    moments_seconds: list[float],
    *,
    spans_per_second: int,
    seed: int,
    over: dict[str, Any] | None = None,
) -> Outcome:
    """SIGKILL and restart at each moment (seconds after the last start) under load."""
    with Rig(binary, over=over, spans_per_second=spans_per_second, seed=seed) as rig:
        rig.start_load()
        for moment in moments_seconds:
            rig.pass_time(moment)
            rig.collector.kill()
            rig.collector.start()
        before = len(rig.acknowledged)
        rig.wait(lambda: len(rig.acknowledged) > before, "an acknowledgement after the last start")
        rig.stop_load()
        return rig.settled(15)
