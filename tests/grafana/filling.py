"""Fills a real Collector, `otelbridge local` and a real Prometheus with spans of every emitter.

`filled(...)` starts them, sends waves of traffic and yields a `Fill` once Prometheus has scraped
the last one; everything is asked as of `Fill.end_s`, so that an answer does not age while tests
run. Sources: the recorded emitters (`tests/collector/emitters`) with new ids, times of now, further
users, sessions and models; the demo's services and requests; `shop.py`. Questions: `asking.py`.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, closing, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

import pytest
import yaml
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.proto.resource.v1.resource_pb2 import Resource
from opentelemetry.proto.trace.v1.trace_pb2 import ResourceSpans, ScopeSpans, Span

from otelbridge import semconv
from otelbridge.collector import CollectorProcess
from otelbridge.demo.stack import Stack, service_environment
from otelbridge.demo.traffic import send_all
from otelbridge.local.server import LocalServer
from tests.collector.conftest import from_attributes
from tests.collector.emitters import corpus
from tests.collector.metrics_bench import CALLS, Metrics, make_span, otlp_values
from tests.collector.mixing import spans_of
from tests.collector.overlaying import with_overlays
from tests.collector.prometheus_bench import Prometheus
from tests.grafana import asking

ROOT: Final = Path(__file__).resolve().parents[2]
RULES: Final = ROOT / "grafana" / "prometheus"
#: Emitter, as panels name it → the recording that stands for it.
RECORDED: Final = {
    "otelbridge": "otelbridge",
    "otel": "genai_openai",
    "openinference": "openinference",
    "openllmetry": "openllmetry",
    "litellm": "litellm",
}
SHOP: Final = "shop-helpers"
#: Emitter → the services that it fills, and no other emitter does.
SERVICES: Final = {
    emitter: (f"shop-{recording.replace('_', '-')}",) for emitter, recording in RECORDED.items()
} | {"otelbridge": ("shop-otelbridge", SHOP, "gateway", "rag", "llm")}


@dataclass(frozen=True, slots=True)
class Variant:
    """What a copy of a recording has in place of what was recorded."""

    name: str  # of its user and its session
    model: str = "gpt-4o"
    finish_reason: str = "stop"
    cached_tokens: int = 0  # where the emitter counts them
    called: bool = True  # by another service; else its request spans are roots
    leading_zero: bool = False  # in some trace id


VARIANTS: Final = (
    Variant("one"),
    Variant("two", model="gpt-4o-mini"),
    Variant("three", finish_reason="length", cached_tokens=16, called=False, leading_zero=True),
)
WAVES: Final = 3  # a series begins with the first and grows with each further one
#: With metrics of its HTTP and gRPC clients, which some panels of Bridge health say they need.
_DETAILED: Final = {"service": {"telemetry": {"metrics": {"level": "detailed"}}}}
_CANARY: Final = "amber finch"
#: Exemplars live for one flush: above the scrape interval of 1 s, so that each is scraped.
_FLUSH: Final = "1300ms"
_CACHED_TOKENS: Final = re.compile(r"\.cache_read(?:[._]input_tokens)?$")
_NETWORK_NS: Final = 2_000_000  # between a caller's span and the span that it called
_SCRAPED_SECONDS: Final = 60.0
_SETTLED: Final = 3  # looks in a row that find the same counts


@dataclass
class Fill:
    """What runs, and what was sent to it.

    Attributes:
        end_s: Seconds since 1970 as of which everything is asked; set when all is scraped.
        rules: Every rule as Prometheus evaluated it last.
        spans: Service → recorded spans that were sent.
        traces: Emitter → trace ids in hex.
        recorded: Emitter → those of them that copy a recording: each has LLM work in it, which a
            request of the demo that fails on its way has not.
    """

    local: LocalServer
    collector: CollectorProcess
    prometheus: Scraper
    start_s: float
    end_s: float = 0.0
    rules: list[dict[str, Any]] = field(default_factory=list)
    spans: Counter[str] = field(default_factory=Counter)
    traces: dict[str, set[str]] = field(default_factory=dict)
    recorded: dict[str, set[str]] = field(default_factory=dict)


class Scraper(Prometheus):
    """Prometheus with the configuration and the rules of grafana/prometheus/."""

    def reload(self, collector: CollectorProcess, rules: list[Path]) -> None:
        """Load the shipped configuration, for this Collector and each second; wait for it."""
        targets = {
            "otelbridge": collector.prometheus_url, "otelbridge-collector": collector.metrics_url,
        }  # fmt: skip
        config = yaml.safe_load((RULES / "prometheus.yaml").read_text("utf-8"))
        config["global"] = {
            "scrape_interval": "1s", "scrape_timeout": "1s", "evaluation_interval": "1s",
        }  # fmt: skip
        for job in config["scrape_configs"]:
            address = targets[job["job_name"]].removeprefix("http://").removesuffix("/metrics")
            job["static_configs"] = [{"targets": [address]}]
        config["rule_files"] = [str(one) for one in rules]
        (self._folder / "prometheus.yaml").write_text(yaml.safe_dump(config), "utf-8")
        self._process.send_signal(signal.SIGHUP)
        self.wait(
            lambda: all(job in self.get("/api/v1/status/config")["yaml"] for job in targets),
            "the shipped configuration",
        )

    def get(self, path: str, **parameters: Any) -> Any:
        """`data` of an answer of the HTTP API; fails unless its status is success."""
        return self._get(path, **parameters)

    def rest(self) -> None:
        """Scrape and evaluate nothing from now on; what is known stays to be asked."""
        (self._folder / "prometheus.yaml").write_text("{}", "utf-8")
        self._process.send_signal(signal.SIGHUP)

    @property
    def url(self) -> str:
        """Base URL of its HTTP API."""
        return f"http://{self._address}"

    def rules(self) -> list[dict[str, Any]]:
        """Every rule of every group, as evaluated last."""
        groups = self.get("/api/v1/rules")["groups"]
        return [rule for group in groups for rule in group["rules"]]


class Traffic(Stack):
    """The demo's stack; its Collector has the overlay user-metrics and Langfuse's address."""

    collector: CollectorProcess

    def _start_export(self) -> dict[str, str]:
        project = self.local.project
        assert self._binary is not None
        self.collector = CollectorProcess(
            self._binary,
            tempo_endpoint=self.local.otlp_grpc_endpoint,
            langfuse_url=self.local.langfuse_url,
            langfuse_public_key=project.public_key,
            langfuse_secret_key=project.secret_key,
            work_dir=self._log_dir / "collector",
            config=with_overlays(self._log_dir, "user-metrics", over=_DETAILED),
            environment={
                "OTELBRIDGE_COLLECTOR_METRICS_FLUSH": _FLUSH,
                "LANGFUSE_PROJECT_ID": project.project_id,
                "LANGFUSE_PUBLIC_URL": self.local.langfuse_url,
                "OTELBRIDGE_GRAFANA_URL": "http://grafana.example:3000",
            },
        )
        self._exit.enter_context(self.collector)
        return {"OTEL_EXPORTER_OTLP_ENDPOINT": self.collector.otlp_http_url}


class Helpers:
    """`shop.py` as a child process: `round(n)` makes it send one round."""

    def __init__(self, traffic: Traffic, folder: Path) -> None:
        export = {
            "OTEL_EXPORTER_OTLP_ENDPOINT": traffic.collector.otlp_http_url,
            "OTELBRIDGE_SPOOL_DIR": str(folder / "spool"),
        }
        environment = service_environment(SHOP, traffic.addresses, export, os.environ)
        environment["PYTHONPATH"] = str(ROOT)
        self._log = (folder / "shop.log").open("wb")
        self._child = subprocess.Popen(
            [sys.executable, "-m", "tests.grafana.shop"],
            env=environment,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._log,
        )

    def round(self, number: int) -> set[str]:
        """Send one round; its trace ids."""
        assert self._child.stdin is not None
        assert self._child.stdout is not None
        self._child.stdin.write(f"{number}\n".encode())
        self._child.stdin.flush()
        line = self._child.stdout.readline()
        assert line, "shop.py ended; see shop.log"
        return set(json.loads(line))

    def close(self) -> None:
        """End it."""
        assert self._child.stdin is not None
        assert self._child.stdout is not None
        self._child.stdin.close()
        try:
            self._child.wait(10)
        except subprocess.TimeoutExpired:
            self._child.kill()
            self._child.wait()
        self._child.stdout.close()
        self._log.close()


@contextmanager
def filled(folder: Path, binary: Path) -> Iterator[Fill]:
    """Everything started, filled and scraped; ended when left."""
    with ExitStack() as stack:
        traffic = stack.enter_context(
            Traffic(folder, os.environ, lambda _: None, collector_binary=str(binary))
        )
        metrics = Metrics(traffic.collector)
        for name in ("prometheus", "rules"):
            (folder / name).mkdir()
        prometheus = stack.enter_context(Scraper(folder / "prometheus"))
        prometheus.reload(traffic.collector, _hurried(folder / "rules"))
        fill = Fill(traffic.local, traffic.collector, prometheus, time.time())
        with closing(Helpers(traffic, folder)) as helpers:
            for number in range(WAVES):
                _send_wave(fill, metrics, traffic, helpers, number)
                _wait_scraped(fill)
        _wait_rules(fill)
        fill.end_s = time.time()
        # The tests that follow, also those of other modules, have the machine for themselves.
        traffic.processes.stop()
        prometheus.rest()
        yield fill


def _hurried(folder: Path) -> list[Path]:
    """Copies of the rule files whose groups are evaluated each second instead of each minute."""
    copies = []
    for path in sorted(RULES.glob("*.rules.yaml")):
        rules = yaml.safe_load(path.read_text("utf-8"))
        for group in rules["groups"]:
            group["interval"] = "1s"
        copies.append(folder / path.name)
        copies[-1].write_text(yaml.safe_dump(rules), "utf-8")
    return copies


def rules_of_files() -> list[dict[str, Any]]:
    """Every rule of the rule files of grafana/prometheus/."""
    files = [yaml.safe_load(path.read_text("utf-8")) for path in RULES.glob("*.rules.yaml")]
    return [rule for file in files for group in file["groups"] for rule in group["rules"]]


# -- sending ---------------------------------------------------------------------------------------
def _send_wave(
    fill: Fill, metrics: Metrics, traffic: Traffic, helpers: Helpers, number: int
) -> None:
    for emitter, recording in RECORDED.items():
        found = fill.recorded.setdefault(emitter, set())
        for variant in VARIANTS:
            for request in copies(emitter, recording, variant):
                assert metrics.post("/v1/traces", request) == 200
                for batch in request.resource_spans:
                    service = from_attributes(batch.resource.attributes)[semconv.SERVICE_NAME]
                    for span in spans_of(batch):
                        fill.spans[service] += 1
                        found.add(span.trace_id.hex())
        fill.traces.setdefault(emitter, set()).update(found)
    fill.traces["otelbridge"] |= helpers.round(number)
    sent = send_all(traffic.addresses.gateway, f"{_CANARY} {number}", lambda _: None)
    fill.traces["otelbridge"] |= {one.trace_id for one in sent}


def copies(emitter: str, recording: str, variant: Variant) -> list[ExportTraceServiceRequest]:
    """A recording with new ids, ended now, changed as the variant says.

    Requests of some come from a further service, `front-<emitter>`, with a client span above each:
    the service graph has no edge of a single service.
    """
    swap = {
        "user-123": f"{emitter}-user-{variant.name}",
        "conversation-7": f"{emitter}-session-{variant.name}",
        '"gpt-4o"': f'"{variant.model}"',
        '"stop"': f'"{variant.finish_reason}"',
        '\\"stop\\"': f'\\"{variant.finish_reason}\\"',  # within JSON text
    }
    pattern = re.compile("|".join(map(re.escape, swap)))
    texts, new_ids = corpus.fresh(corpus.lines(recording))
    while variant.leading_zero and not any(one[0] == "0" for one in new_ids if len(one) == 32):
        texts, new_ids = corpus.fresh(corpus.lines(recording))
    requests = [corpus.parse(pattern.sub(lambda found: swap[found[0]], text)) for text in texts]
    spans = [
        span for request in requests for batch in request.resource_spans for span in spans_of(batch)
    ]
    shift_ns = time.time_ns() - max(span.end_time_unix_nano for span in spans)
    for span in spans:
        span.start_time_unix_nano += shift_ns
        span.end_time_unix_nano += shift_ns
        for item in span.attributes:
            if _CACHED_TOKENS.search(item.key):
                item.value.int_value = variant.cached_tokens
        for event in span.events:
            event.time_unix_nano += shift_ns
    if variant.called:
        requests.append(_callers(f"front-{emitter}", spans))
    return requests


def _callers(service: str, spans: list[Span]) -> ExportTraceServiceRequest:
    """A client span above each request span, which gets its id as parent."""
    callers = []
    for span in spans:
        if span.kind == Span.SPAN_KIND_SERVER and not span.parent_span_id:
            caller = make_span("POST", kind=Span.SPAN_KIND_CLIENT, trace_id=span.trace_id)
            caller.span_id = span.parent_span_id = os.urandom(8)
            caller.start_time_unix_nano = span.start_time_unix_nano - _NETWORK_NS
            caller.end_time_unix_nano = span.end_time_unix_nano + _NETWORK_NS
            caller.status.CopyFrom(span.status)
            callers.append(caller)
    resource = Resource(attributes=otlp_values({semconv.SERVICE_NAME: service}))
    return ExportTraceServiceRequest(
        resource_spans=[ResourceSpans(resource=resource, scope_spans=[ScopeSpans(spans=callers)])]
    )


# -- waiting ---------------------------------------------------------------------------------------
def _wait_scraped(fill: Fill) -> None:
    """Until the store and Prometheus count the same spans of every service, and no more come."""
    seen: list[Mapping[str, float]] = []

    def settled() -> bool:
        stored = asking.stored_spans(fill.local.tempo_url, fill.start_s)
        calls = fill.prometheus.query(f"sum by (service_name) ({CALLS})")
        scraped = {labels[0]: value for labels, value in calls.items() if labels}
        if stored != scraped or not fill.spans.items() <= stored.items():
            seen.clear()
            return False
        if seen and seen[-1] != stored:
            seen.clear()
        seen.append(stored)
        return len(seen) >= _SETTLED

    fill.prometheus.wait(settled, "the spans of a wave", _SCRAPED_SECONDS)


def _wait_rules(fill: Fill) -> None:
    """Until each rule was evaluated after everything was scraped."""
    after = time.time()

    def evaluated(rule: dict[str, Any]) -> bool:
        return asking.unix_s(rule["lastEvaluation"]) > after

    fill.prometheus.wait(lambda: all(map(evaluated, fill.prometheus.rules())), "the rules")
    fill.rules = fill.prometheus.rules()


def skip_without_prometheus() -> None:
    """Skip before anything is started where no Prometheus is installed."""
    if shutil.which("prometheus") is None:
        pytest.skip("no prometheus binary: `apt-get install prometheus` (Debian) provides one")
