"""Throughput and cost of the full Collector configuration against a plain pass-through.

Bar B9: at least 0.35 x of the spans/s that receiver -> batch -> one gRPC exporter acknowledges, and
at least 0.45 x of what that delivers end to end, at bounded memory. All arms run alternately in one
run against the same load and sinks, which are processes of their own; the load is made beforehand.
The pair that decides is "sustained": both arms with the same memory limiter, prompts of 2 KB,
exporters as they are by default (gzip), and a load of several times what the memory holds. Beside
it "plain" and "full" with a load that the plain one can acknowledge into memory before it has done
any work (ours acknowledges what is on disk); the same without gzip on the gRPC leg, with Go's own
settings, and with small spans. Rates depend on the machine, ratios less so. Prints JSON; exit 1
when the bar is missed.

    python -m benchmarks.bench_collector
    python -m benchmarks.bench_collector --variant no:transform/scrub --variant set:GOGC=200
    python -m benchmarks.bench_collector --burst      50,000 spans of 20 KB at once: memory, losses
"""

from __future__ import annotations

import argparse
import itertools
import json
import multiprocessing
import os
import platform
import re
import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import dataclass, field
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import yaml

from benchmarks._collector import (
    GrpcSink,
    HttpSink,
    Load,
    LoadMaker,
    RawHttpSender,
    burst_load,
    free_ports,
    usage,
)
from benchmarks._collector_faults import merged
from otelbridge.collector import CollectorProcess, find_collector, project_root

ACCEPTED_BAR = 0.35
END_TO_END_BAR = 0.45
_CONTEXT = multiprocessing.get_context("spawn")
_DRAIN_SECONDS = 300.0
_LAYERS = ("base", "normalise", "masking", "tempo", "langfuse", "metrics")
#: What run.sh sets; on both arms of a pair, so that the ratio compares configurations.
_RUN_SH = {"GOGC": "400", "GOMEMLIMIT": "288MiB"}
_GO_DEFAULTS = {"GOGC": "100", "GOMEMLIMIT": "off"}
_PROMPT_BYTES = 2_048
_SMALL_PROMPT_BYTES = 200
#: A load of this many times `--spans` does not fit into the memory that the limiter allows.
_SUSTAINED = 5
_BURST_SPANS = 50_000
_BURST_SPAN_BYTES = 20_000
PLAIN_CONFIG: dict[str, Any] = {
    "extensions": {
        "health_check": {"endpoint": "${env:OTELBRIDGE_COLLECTOR_HEALTH_ENDPOINT}"},
    },
    "receivers": {
        "otlp": {
            "protocols": {"http": {"endpoint": "${env:OTELBRIDGE_COLLECTOR_OTLP_HTTP_ENDPOINT}"}}
        }
    },
    "processors": {"batch": {}},
    "exporters": {
        "otlp_grpc": {
            "endpoint": "${env:OTELBRIDGE_TEMPO_OTLP_ENDPOINT}",
            "tls": {"insecure": True},
        }
    },
    "service": {
        "extensions": ["health_check"],
        "telemetry": {"metrics": {"level": "none"}},
        "pipelines": {
            "traces": {"receivers": ["otlp"], "processors": ["batch"], "exporters": ["otlp_grpc"]}
        },
    },
}


# -- helper processes ------------------------------------------------------------------------------
def _sink_process(kind: str, pipe: Connection) -> None:
    """A sink: sends its address, then answers ("expect", n) with the time when n ids had come."""
    sink = GrpcSink() if kind == "grpc" else HttpSink()
    pipe.send(sink.endpoint if isinstance(sink, GrpcSink) else sink.url)
    while True:
        command, value = pipe.recv()
        if command == "stop":
            sink.close()
            return
        if command == "reset":
            sink.arrivals = type(sink.arrivals)()
            pipe.send(None)
            continue
        deadline = time.monotonic() + _DRAIN_SECONDS
        while sink.arrivals.unique < value and time.monotonic() < deadline:
            time.sleep(0.005)
        last = max(sink.arrivals.first.values(), default=0.0)
        pipe.send((last, sink.arrivals.unique, sink.arrivals.duplicates))


def _sender_process(pipe: Connection) -> None:
    """The load maker: gets the loads once, then sends one at each ("send", name, port, n)."""
    loads: dict[str, Load] = pipe.recv()
    while True:
        command, name, port, connections = pipe.recv()
        if command == "stop":
            return
        requests = loads[name].requests
        senders = [RawHttpSender(port) for _ in range(connections)]

        def run(index: int, requests: Any = requests, senders: Any = senders) -> bool:
            mine = itertools.islice(requests, index, None, len(senders))
            return all(senders[index].send(body) for body in mine)

        with ThreadPoolExecutor(connections) as pool:
            start = time.monotonic()
            good = all(pool.map(run, range(connections)))
            end = time.monotonic()
        pipe.send((start, end, good, sum(sender.resent for sender in senders)))


@dataclass
class Helpers:
    """The load maker and both sinks, running."""

    stack: ExitStack
    loads: dict[str, Load]
    pipes: dict[str, Connection] = field(default_factory=dict)
    addresses: dict[str, str] = field(default_factory=dict)

    def start(self) -> None:
        for name, target, arguments in (
            ("grpc", _sink_process, ("grpc",)),
            ("http", _sink_process, ("http",)),
            ("sender", _sender_process, ()),
        ):
            here, there = _CONTEXT.Pipe()
            process = _CONTEXT.Process(target=target, args=(*arguments, there), daemon=True)
            process.start()
            self.stack.callback(process.join, 5)
            stop = ("stop", 0) if name != "sender" else ("stop", "", 0, 0)
            self.stack.callback(here.send, stop)
            self.pipes[name] = here
        self.pipes["sender"].send(self.loads)
        for name in ("grpc", "http"):
            self.addresses[name] = self.pipes[name].recv()

    def reset(self) -> None:
        for name in ("grpc", "http"):
            self.pipes[name].send(("reset", 0))
            self.pipes[name].recv()

    def send(self, load: str, port: int, connections: int) -> tuple[float, float, bool, int]:
        self.pipes["sender"].send(("send", load, port, connections))
        result: tuple[float, float, bool, int] = self.pipes["sender"].recv()
        return result

    def expect(self, **counts: int) -> dict[str, tuple[float, int, int]]:
        for name, count in counts.items():
            self.pipes[name].send(("expect", count))
        return {name: self.pipes[name].recv() for name in counts}


# -- arms ------------------------------------------------------------------------------------------
@dataclass(frozen=True, slots=True)
class Arm:
    """One configuration to measure: its file, its variables, and whether it feeds Langfuse."""

    name: str
    config: dict[str, Any]
    environment: dict[str, str]
    langfuse: bool = True
    peer: str = "plain"
    load: str = "load"


def _uncompressed(config: dict[str, Any], exporter: str) -> dict[str, Any]:
    """The configuration without gzip towards Tempo."""
    over: dict[str, Any] = {"exporters": {exporter: {"compression": "none"}}}
    changed: dict[str, Any] = merged(config, over)
    return changed


def _limited(config: dict[str, Any], full: dict[str, Any]) -> dict[str, Any]:
    """The configuration with the memory limiter of another one in front."""
    over: dict[str, Any] = {
        "processors": {"memory_limiter": full["processors"]["memory_limiter"]},
        "service": {"pipelines": {"traces": {"processors": ["memory_limiter", "batch"]}}},
    }
    changed: dict[str, Any] = merged(config, over)
    return changed


def _without(config: dict[str, Any], stages: set[str]) -> dict[str, Any]:
    """The configuration without some processors or pipelines, and what only they fed."""
    service = config["service"]
    pipelines = {
        name: {
            **pipeline,
            "processors": [p for p in pipeline.get("processors", []) if p not in stages],
        }
        for name, pipeline in service["pipelines"].items()
        if name not in stages
    }
    while True:
        fed = {*config["receivers"], *(e for p in pipelines.values() for e in p["exporters"])}
        left = {
            name: {**pipeline, "receivers": [r for r in pipeline["receivers"] if r in fed]}
            for name, pipeline in pipelines.items()
            if fed & set(pipeline["receivers"])
        }
        if left == pipelines:
            return {**config, "service": {**service, "pipelines": pipelines}}
        pipelines = left


def _without_layer(root: Path, layer: str) -> dict[str, Any]:
    """The layers merged without one of them."""
    config: dict[str, Any] = {}
    for name in (name for name in _LAYERS if name != layer):
        text = (root / "collector" / "layers" / f"{name}.yaml").read_text(encoding="utf-8")
        config = merged(config, yaml.safe_load(text))
    return config


def make_variant(text: str, full: dict[str, Any]) -> Arm:
    """An arm from its text.

    `no:<processor or pipeline>[,...]`, `set:NAME=value[,...]` (variables), `file:<path>` (a whole
    configuration), `with:<path>[,...]` (overlays on top).
    """
    kind, _, rest = text.partition(":")
    items = rest.split(",")
    if kind == "no":
        return Arm(text, _without(full, set(items)), {})
    if kind == "set":
        return Arm(text, full, dict(item.split("=", 1) for item in items))
    if kind == "file":
        return Arm(text, yaml.safe_load(Path(rest).read_text(encoding="utf-8")), {})
    if kind == "with":
        config = full
        for item in items:
            config = merged(config, yaml.safe_load(Path(item).read_text(encoding="utf-8")))
        return Arm(text, config, {})
    raise SystemExit(f"--variant {text!r}: allowed are no:, set:, file: and with:")


def _free_port_variables(config: dict[str, Any]) -> dict[str, str]:
    """A free port for every listening variable that CollectorProcess does not know by itself."""
    text = json.dumps(config)
    known = r"OTLP_|HEALTH|METRICS_PORT|TEMPO|LANGFUSE"
    names = set(re.findall(r"\$\{env:(\w+):-127\.0\.0\.1:\d+\}", text))
    names = {name for name in names if not re.search(known, name)}
    return {
        name: f"127.0.0.1:{port}" for name, port in zip(names, free_ports(len(names)), strict=True)
    }


def measure(arm: Arm, binary: Path, helpers: Helpers, connections: int) -> dict[str, float]:
    """One run of one arm: rates, CPU and memory."""
    load = helpers.loads[arm.load]
    with tempfile.TemporaryDirectory() as folder:
        config = Path(folder) / "config.yaml"
        config.write_text(yaml.safe_dump(arm.config, width=10**6), encoding="utf-8")
        collector = CollectorProcess(
            binary,
            tempo_endpoint=helpers.addresses["grpc"],
            langfuse_url=helpers.addresses["http"],
            langfuse_public_key="pk-lf-bench",
            langfuse_secret_key="sk-lf-bench",
            work_dir=Path(folder) / "work",
            config=config,
            environment={
                "OTELBRIDGE_COLLECTOR_LOG_LEVEL": "warn",
                **_free_port_variables(arm.config),
                **_RUN_SH,
                **arm.environment,
            },
        )
        with collector:
            return _measured(arm, collector, helpers, load, connections)


def _measured(
    arm: Arm, collector: CollectorProcess, helpers: Helpers, load: Load, connections: int
) -> dict[str, float]:
    port = int(collector.otlp_http_url.rpartition(":")[2])
    assert collector.pid is not None

    def both(of: Load) -> dict[str, int]:
        return {"grpc": of.spans, **({"http": of.llm_spans} if arm.langfuse else {})}

    helpers.reset()
    helpers.send("warm", port, connections)
    helpers.expect(**both(helpers.loads["warm"]))
    helpers.reset()
    before = usage(collector.pid)
    start, acknowledged, good, resent = helpers.send(arm.load, port, connections)
    arrived = helpers.expect(**both(load))
    after = usage(collector.pid)
    for sink, expected in both(load).items():
        if arrived[sink][1] < expected or not good:
            raise SystemExit(
                f"{arm.name}: {arrived[sink][1]} of {expected} spans at {sink}, accepted: {good}\n"
                + collector.log_tail()
            )
    last = max(moment for moment, _, _ in arrived.values())
    return {
        "accepted_spans_per_second": load.spans / (acknowledged - start),
        "end_to_end_spans_per_second": load.spans / (last - start),
        "cpu_us_per_span": (after.cpu_seconds - before.cpu_seconds) / load.spans * 1e6,
        "rss_mib": after.rss_bytes / 2**20,
        "peak_rss_mib": after.peak_rss_bytes / 2**20,
        "resent_requests": resent,
    }


def _medians(runs: list[dict[str, float]]) -> dict[str, float]:
    return {key: round(statistics.median(run[key] for run in runs), 1) for key in runs[0]}


def _ratio(over: list[dict[str, float]], under: list[dict[str, float]], key: str) -> float:
    """Median of the ratios round by round: neighbours in time meet the same machine."""
    pairs = zip(over, under, strict=True)
    return round(statistics.median(a[key] / b[key] for a, b in pairs), 3)


def run(arms: list[Arm], *, spans: int, rounds: int, connections: int, binary: Path) -> Any:
    """All arms alternately, `rounds` times; medians, and ratios to each arm's peer."""
    loads = {
        "warm": LoadMaker(seed=2).load(4_000),
        "load": LoadMaker(seed=1, prompt_bytes=_PROMPT_BYTES).load(spans),
        "small": LoadMaker(seed=1, prompt_bytes=_SMALL_PROMPT_BYTES).load(spans),
    }
    if any(arm.load == "long" for arm in arms):
        loads["long"] = LoadMaker(seed=1, prompt_bytes=_PROMPT_BYTES).load(_SUSTAINED * spans)
    results: dict[str, list[dict[str, float]]] = {arm.name: [] for arm in arms}
    with ExitStack() as stack:
        helpers = Helpers(stack, loads)
        helpers.start()
        for number in range(rounds):
            order: Callable[[list[Arm]], Any] = list if number % 2 == 0 else reversed
            for arm in order(arms):
                results[arm.name].append(measure(arm, binary, helpers, connections))
    peers = {arm.name: results.get(arm.peer, results[arm.name]) for arm in arms}
    return {
        "spans": loads["load"].spans,
        "llm_view_spans": loads["load"].llm_spans,
        "rounds": rounds,
        "connections": connections,
        "cpus": os.cpu_count(),
        "machine": platform.machine(),
        "arms": {
            name: {
                **_medians(runs),
                "accepted_ratio": _ratio(runs, peers[name], "accepted_spans_per_second"),
                "end_to_end_ratio": _ratio(runs, peers[name], "end_to_end_spans_per_second"),
                "cpu_ratio": _ratio(runs, peers[name], "cpu_us_per_span"),
            }
            for name, runs in results.items()
        },
        "bar": {"accepted_ratio": ACCEPTED_BAR, "end_to_end_ratio": END_TO_END_BAR},
    }


def standard_arms(full: dict[str, Any], root: Path) -> list[Arm]:
    """The pair of the bar, then what it is made of, then the other pairs."""
    plain_raw = _uncompressed(PLAIN_CONFIG, "otlp_grpc")
    full_raw = _uncompressed(full, "otlp_grpc/tempo")
    bounded = "plain, sustained"
    arms = [
        Arm(bounded, _limited(PLAIN_CONFIG, full), {}, langfuse=False, peer=bounded, load="long"),
        Arm("full, sustained", full, {}, peer=bounded, load="long"),
        Arm(
            f"{bounded}, Go's settings",
            _limited(PLAIN_CONFIG, full),
            _GO_DEFAULTS,
            langfuse=False,
            peer=bounded,
            load="long",
        ),
        Arm("plain", PLAIN_CONFIG, {}, langfuse=False),
        Arm("full", full, {}),
        Arm("full, no metrics", _without(full, {"traces/metrics"}), {}),
        Arm("full, no masking", _without_layer(root, "masking"), {}),
    ]
    for suffix, plain, ours, environment, load in (
        ("Go's settings", PLAIN_CONFIG, full, _GO_DEFAULTS, "load"),
        ("uncompressed", plain_raw, full_raw, {}, "load"),
        ("small spans", PLAIN_CONFIG, full, {}, "small"),
        ("small spans, uncompressed", plain_raw, full_raw, {}, "small"),
    ):
        peer = f"plain, {suffix}"
        arms.append(Arm(peer, plain, environment, langfuse=False, peer=peer, load=load))
        arms.append(Arm(f"full, {suffix}", ours, environment, peer=peer, load=load))
    return arms


def burst(full: dict[str, Any], binary: Path, connections: int) -> dict[str, float]:
    """50,000 LLM spans of 20 KB as fast as they are taken; every one must reach both sinks."""
    load = burst_load(_BURST_SPANS, _BURST_SPAN_BYTES)
    loads = {"warm": LoadMaker(seed=2).load(2_000), "load": load}
    with ExitStack() as stack:
        helpers = Helpers(stack, loads)
        helpers.start()
        return measure(Arm("burst", full, {}), binary, helpers, connections)


def main() -> int:
    """Run from the command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--spans", type=int, default=80_000)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--connections", type=int, default=4)
    parser.add_argument("--config", type=Path, default=None, help="default: collector/config.yaml")
    parser.add_argument("--variant", action="append", default=[], help="a further arm, see above")
    parser.add_argument("--only", default=None, help="only arms whose name matches this pattern")
    parser.add_argument("--burst", action="store_true", help="memory under a burst, nothing else")
    arguments = parser.parse_args()
    binary = find_collector(binary=os.environ.get("OTELBRIDGE_COLLECTOR_BINARY"))
    root = project_root()
    if binary is None or root is None:
        raise SystemExit("bench_collector: no Collector binary; run `make collector` first")
    path = arguments.config or root / "collector" / "config.yaml"
    full = yaml.safe_load(path.read_text(encoding="utf-8"))
    if arguments.burst:
        sys.stdout.write(json.dumps(burst(full, binary, arguments.connections), indent=1) + "\n")
        return 0
    arms = [*standard_arms(full, root), *(make_variant(text, full) for text in arguments.variant)]
    if arguments.only:
        arms = [arm for arm in arms if re.search(arguments.only, arm.name)]
    result = run(
        arms,
        spans=arguments.spans,
        rounds=arguments.rounds,
        connections=arguments.connections,
        binary=binary,
    )
    sys.stdout.write(json.dumps(result, indent=1) + "\n")
    full_arm = result["arms"].get("full, sustained")
    if full_arm is None:
        return 0
    good = full_arm["accepted_ratio"] >= ACCEPTED_BAR
    good = good and full_arm["end_to_end_ratio"] >= END_TO_END_BAR
    return 0 if good else 1


if __name__ == "__main__":
    sys.exit(main())
