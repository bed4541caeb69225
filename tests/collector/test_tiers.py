"""Tail sampling and load balancing: which traces are kept whole, by whom, and what still counts."""

from __future__ import annotations

import json
import random

import pytest

from benchmarks._collector import free_ports
from benchmarks._collector_faults import merged
from otelbridge import semconv
from tests.collector.conftest import http_get
from tests.collector.overlaying import CONFIGS, FOLDER, LLM, load, with_overlays

pytestmark = pytest.mark.collector

PREFIX = "OTELBRIDGE_COLLECTOR_SAMPLING_"
SAMPLING = {
    f"{PREFIX}WAIT": "1s",
    "OTELBRIDGE_COLLECTOR_METRICS_FLUSH": "200ms",
}
CALL = {
    **LLM,
    semconv.GEN_AI_REQUEST_MODEL: "gpt-4o",
    semconv.GEN_AI_USAGE_INPUT_TOKENS: 10,
    semconv.GEN_AI_USAGE_OUTPUT_TOKENS: 5,
    semconv.USER_ID: "u-1",
}


def total(url, name, label=""):
    """Sum of the samples of a series in a Prometheus page."""
    lines = http_get(url).decode().splitlines()
    return sum(
        float(line.rpartition(" ")[2])
        for line in lines
        if line.startswith((name + "{", name + " ")) and label in line
    )


def decided(bench):
    """Traces that tail sampling has decided on, by its last policy."""
    name = "otelcol_processor_tail_sampling_count_traces_sampled_total"
    return total(bench.collector.metrics_url, name, 'policy="share"')


def trace_ids(store):
    return {item.span.trace_id for item in store.spans}


# -- sampling --------------------------------------------------------------------------------------
@pytest.mark.parametrize("base", CONFIGS)
def test_sampling_keeps_errors_slow_and_expensive_traces_whole(make_bench, tmp_path, base):
    """They are whole in both stores; the rest, at 0 percent, is in neither."""
    keys = base == CONFIGS[0]
    bench = make_bench(
        keys=keys,
        config=with_overlays(tmp_path, "sampling", base=base),
        environment={**SAMPLING, f"{PREFIX}PERCENT": "0", f"{PREFIX}LLM_PERCENT": "0"},
    )
    traces = {kind: bench.new_trace() for kind in ("error", "slow", "expensive", "plain")}
    for kind, trace_id in traces.items():
        root = bench.span(trace_id, {semconv.LLM_KEEP: True})
        llm = bench.span(trace_id, LLM, parent=root.span_id.hex())
        if kind == "error":
            llm.status.code = 2
        if kind == "slow":
            root.end_time_unix_nano = root.start_time_unix_nano + 6_000_000_000
        cost = 0.25 if kind == "expensive" else 0.02
        llm.attributes.add(key=semconv.GEN_AI_USAGE_COST).value.double_value = cost
        bench.send(root, bench.span(trace_id, parent=root.span_id.hex()))
        bench.send(llm)
    for kind in ("error", "slow", "expensive"):
        assert len(bench.at_tempo(traces[kind], 3)) == 3
        if keys:
            bench.wait(lambda t=traces[kind]: len(bench.langfuse.store.of(t)) == 2, "the LLM view")
    bench.wait(lambda: decided(bench) == 4, "the decision on all four traces")
    assert not bench.tempo.store.of(traces["plain"])
    assert not bench.langfuse.store.of(traces["plain"])


def test_metrics_count_what_sampling_leaves_out(make_bench, tmp_path):
    """A share of the traces is kept, the same in both stores; calls and tokens count all."""
    bench = make_bench(
        config=with_overlays(tmp_path, "sampling", "user-metrics"),
        environment={**SAMPLING, f"{PREFIX}PERCENT": "30", f"{PREFIX}LLM_PERCENT": "0"},
    )
    chooser, count = random.Random(11), 60
    traces = [chooser.randbytes(16) for _ in range(count)]
    for trace_id in traces:
        root = bench.span(trace_id, {semconv.LLM_KEEP: True})
        bench.send(root, bench.span(trace_id, CALL, parent=root.span_id.hex()))
    url = bench.collector.prometheus_url
    for name, expected in {
        "traces_spanmetrics_calls_total": 2 * count,
        "otelbridge_gen_ai_tokens_total": 15 * count,
        "otelbridge_gen_ai_user_tokens_total": 15 * count,
    }.items():
        bench.wait(lambda n=name, e=expected: total(url, n) == e, f"{expected} in {name}")
    bench.wait(lambda: decided(bench) == count, "the decision on all traces")
    bench.wait(
        lambda: trace_ids(bench.tempo.store) == trace_ids(bench.langfuse.store) != set(),
        "the same traces in both stores",
    )
    kept = trace_ids(bench.tempo.store)
    assert 0 < len(kept) < count
    bench.wait(lambda: len(bench.tempo.store.spans) == 2 * len(kept), "both spans of each")


def test_llm_work_is_kept_while_plain_traffic_is_sampled(make_bench, tmp_path):
    """Whole traces by the predicate of the LLM view, in both stores; a mark of false is no work."""
    bench = make_bench(
        config=with_overlays(tmp_path, "sampling"),
        environment={**SAMPLING, f"{PREFIX}PERCENT": "0"},
    )
    below = {
        "marked": {semconv.LLM_KEEP: True},
        "unmarked": {semconv.GEN_AI_REQUEST_MODEL: "m"},
        "dialect": {"openinference.span.kind": "LLM"},
        "outside": {**LLM, semconv.LLM_KEEP: False},
        "plain": {"http.request.method": "GET"},
    }
    traces = {kind: bench.new_trace() for kind in below}
    for kind, trace_id in traces.items():
        root = bench.span(trace_id)
        child = bench.span(trace_id, below[kind], parent=root.span_id.hex())
        bench.send(child)  # in requests of their own, as different services send them
        bench.send(root, bench.span(trace_id, parent=root.span_id.hex()))
    kept = {traces[kind] for kind in ("marked", "unmarked", "dialect")}
    for trace_id in kept:
        assert len(bench.at_tempo(trace_id, 3)) == 3
        bench.wait(lambda t=trace_id: bench.langfuse.store.of(t), "the LLM span at Langfuse")
    bench.wait(lambda: decided(bench) == len(traces), "the decision on all traces")
    assert trace_ids(bench.tempo.store) == trace_ids(bench.langfuse.store) == kept


def test_late_spans_follow_the_decision_on_their_trace(make_bench, tmp_path):
    """Spans after the wait: those of a kept trace pass, and even a late error saves no other."""
    bench = make_bench(
        config=with_overlays(tmp_path, "sampling"),
        environment={**SAMPLING, f"{PREFIX}PERCENT": "0"},
    )
    kept, gone, after = (bench.new_trace() for _ in range(3))
    failed = bench.span(kept)
    failed.status.code = 2
    bench.send(failed, bench.span(gone))
    bench.at_tempo(kept, 1)
    bench.wait(lambda: decided(bench) == 2, "both decisions")
    late_error = bench.span(gone)
    late_error.status.code = 2
    bench.send(bench.span(kept, LLM, parent=failed.span_id.hex()), late_error)
    assert len(bench.at_tempo(kept, 2)) == 2
    bench.wait(lambda: len(bench.langfuse.store.of(kept)) == 1, "the late LLM span at Langfuse")
    last = bench.span(after)
    last.status.code = 2
    bench.send(last)  # goes the same way behind it
    bench.at_tempo(after, 1)
    assert not bench.tempo.store.of(gone)


def test_more_traces_than_fit_make_senders_wait_and_lose_no_error(make_bench, tmp_path):
    """Memory holds so many traces and no more; each one is decided, and whole."""
    bench = make_bench(
        config=with_overlays(tmp_path, "sampling"),
        environment={**SAMPLING, f"{PREFIX}PERCENT": "0", f"{PREFIX}TRACES": "20"},
    )
    failed, plain = ([bench.new_trace() for _ in range(35)] for _ in range(2))
    for broken, fine in zip(failed, plain, strict=True):
        root = bench.span(broken)
        root.status.code = 2
        bench.send(root, bench.span(broken, parent=root.span_id.hex()), bench.span(fine))
    bench.wait(lambda: all(len(bench.tempo.store.of(t)) == 2 for t in failed), "all errors, whole")
    bench.wait(lambda: decided(bench) == 70, "the decision on all traces")
    assert trace_ids(bench.tempo.store) == set(failed)
    name = "otelcol_processor_tail_sampling_sampling_trace_dropped_too_early_total"
    assert total(bench.collector.metrics_url, name) == 0


def test_a_stop_decides_what_waits(make_bench, tmp_path):
    """SIGTERM long before the wait is over: what was acknowledged is decided and delivered."""
    bench = make_bench(
        config=with_overlays(tmp_path, "sampling"),
        work_dir=tmp_path / "work",
        environment={**SAMPLING, f"{PREFIX}PERCENT": "0", f"{PREFIX}WAIT": "120s"},
    )
    kept, gone = bench.new_trace(), bench.new_trace()
    root = bench.span(kept)
    root.status.code = 2
    bench.send(root, bench.span(kept, LLM, parent=root.span_id.hex()), bench.span(gone))
    bench.collector.stop()
    bench.collector.start()  # sends what the stop left in the queues on disk
    assert len(bench.at_tempo(kept, 2)) == 2
    bench.wait(lambda: len(bench.langfuse.store.of(kept)) == 1, "the LLM span at Langfuse")
    assert not bench.tempo.store.of(gone)


# -- load balancing --------------------------------------------------------------------------------
def front_config(folder, ports):
    """The front tier's files, its members given by port instead of by a name."""
    members = [f"127.0.0.1:{port}" for port in ports]
    config = merged(
        load(FOLDER / "layers" / "base.yaml"), load(FOLDER / "overlays" / "load-balancing.yaml")
    )
    config["exporters"]["loadbalancing"]["resolver"] = {"static": {"hostnames": members}}
    path = folder / "front.yaml"
    # JSON is YAML, and keeps `${env:...}` on one line.
    path.write_text(json.dumps(config), encoding="utf-8")
    return path


def test_load_balancing_never_splits_a_trace_and_outlives_a_member(make_bench, tmp_path):
    """Two members share the traces, each whole at one; with one killed nothing is lost."""
    ports = free_ports(2)
    members = [make_bench(otlp_grpc_port=port, work_dir=tmp_path / str(port)) for port in ports]
    front = make_bench(config=front_config(tmp_path, ports))

    def send(count, seed):
        """Traces over three services: each in three requests, all traces in each request."""
        chooser = random.Random(seed)
        traces = [chooser.randbytes(16) for _ in range(count)]
        for service in ("gateway", "agent", "search"):
            spans = [front.span(trace, LLM) for trace in traces for _ in range(2)]
            front.send(*spans, resource={"service.name": service})
        return traces

    def arrived(trace_id):
        """The trace's span ids at each member; duplicates count once."""
        return [
            {item.id for item in member.tempo.store.spans if item.span.trace_id == trace_id}
            for member in members
        ]

    traces = send(40, seed=1)
    front.wait(lambda: all(sum(map(len, arrived(t))) == 6 for t in traces), "6 spans of each trace")
    assert {tuple(sorted(map(len, arrived(t)))) for t in traces} == {(0, 6)}
    assert all(member.tempo.store.spans for member in members)

    members[1].collector.kill()
    traces = send(20, seed=2)
    members[1].collector.start()
    front.wait(
        lambda: all(len(set().union(*arrived(t))) == 6 for t in traces),
        "6 spans of each trace that was sent while a member was away",
        45,
    )


def test_load_balancing_finds_its_members_by_resolving_the_host(make_bench, tmp_path):
    """The file as it is: the second tier is what the host resolves to."""
    bench = make_bench()
    config = merged(
        load(FOLDER / "layers" / "base.yaml"), load(FOLDER / "overlays" / "load-balancing.yaml")
    )
    path = tmp_path / "front.yaml"
    path.write_text(json.dumps(config), encoding="utf-8")
    _, _, port = bench.collector.otlp_grpc_endpoint.rpartition(":")
    front = make_bench(
        config=path,
        environment={
            "OTELBRIDGE_COLLECTOR_TIER_HOST": "127.0.0.1",
            "OTELBRIDGE_COLLECTOR_TIER_PORT": port,
        },
    )
    trace_id = front.new_trace()
    front.send(front.span(trace_id, LLM))
    bench.wait(lambda: bench.tempo.store.spans, "the span at the second tier's Tempo")
