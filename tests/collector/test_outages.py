"""The real Collector when a backend is away, when it crashes, and without Langfuse keys."""

from __future__ import annotations

import urllib.request
from pathlib import Path

import pytest

from otelbridge import collector as collector_module
from otelbridge import semconv

pytestmark = pytest.mark.collector

LLM = {semconv.GEN_AI_OPERATION_NAME: "chat"}


def send_requests(bench, count):
    """Send requests of one plain and two LLM spans; trace ids with the ids of their LLM spans."""
    sent = {}
    for _ in range(count):
        trace_id = bench.new_trace()
        llm = [bench.span(trace_id, LLM), bench.span(trace_id, LLM)]
        bench.send(bench.span(trace_id, {"plain": True}), *llm)
        sent[trace_id] = {span.span_id.hex() for span in llm}
    return sent


def all_arrived(bench, sent):
    """Whether every LLM span that was sent is at the Langfuse stand-in, once."""
    return all(bench.langfuse.store.of(trace_id).keys() == ids for trace_id, ids in sent.items())


def test_langfuse_outage_loses_nothing_and_does_not_disturb_tempo(make_bench):
    """While Langfuse answers 503 Tempo goes on; afterwards every LLM span arrives, once."""
    bench = make_bench()
    bench.langfuse.status = 503
    sent = send_requests(bench, 20)
    for trace_id in sent:
        assert len(bench.at_tempo(trace_id, 3)) == 3
    bench.wait(lambda: bench.langfuse.refused >= 3, "a few refused tries")
    assert not bench.langfuse.store.spans
    sent |= send_requests(bench, 5)
    bench.langfuse.status = 200
    bench.wait(lambda: all_arrived(bench, sent), "all LLM spans at Langfuse", 20)
    for trace_id in sent:
        assert len(bench.tempo.store.of(trace_id)) == 3


def test_crash_during_an_outage_loses_nothing_that_was_acknowledged(make_bench, tmp_path):
    """Killed with a full queue and started again, the Collector delivers from its disk."""
    bench = make_bench(work_dir=tmp_path)
    bench.langfuse.status = 503
    sent = send_requests(bench, 20)
    bench.wait(lambda: bench.langfuse.refused >= 1, "a refused try")
    bench.collector.kill()
    bench.langfuse.status = 200
    bench.collector.start()
    bench.wait(lambda: all_arrived(bench, sent), "all LLM spans at Langfuse", 20)


def test_without_keys_the_collector_runs_with_the_tempo_branch_only(make_bench):
    """No Langfuse keys: the second configuration runs, Tempo has all, nothing else is tried."""
    bench = make_bench(keys=False)
    sent = send_requests(bench, 3)
    for trace_id in sent:
        assert len(bench.at_tempo(trace_id, 3)) == 3
    assert bench.collector.langfuse is False
    assert bench.langfuse.refused == 0
    assert not bench.langfuse.store.spans


def test_both_branch_configuration_with_empty_keys_sends_nothing_to_langfuse(make_bench):
    """The full configuration started without keys drops that branch instead of collecting 401s."""
    root = collector_module.project_root()
    bench = make_bench(keys=False, config=collector_module.config_file(root, langfuse=True))
    (trace_id,) = send_requests(bench, 1)
    assert len(bench.at_tempo(trace_id, 3)) == 3
    name = "otelcol_processor_filter_spans_filtered"
    bench.wait(lambda: metric(bench, name, 'filter="filter/llm_view"') == 3, "3 filtered spans")
    assert metric(bench, "otelcol_exporter_sent_spans", 'exporter="otlp_http/langfuse"') == 0
    assert bench.langfuse.refused == 0


def metric(bench, name, label):
    """Sum of the Collector's own metric `name` over the series that have the label."""
    with urllib.request.urlopen(bench.collector.metrics_url, timeout=5) as answer:
        lines = answer.read().decode().splitlines()
    return sum(
        float(line.rpartition(" ")[2]) for line in lines if line.startswith(name) and label in line
    )


def test_wrong_keys_do_not_disturb_tempo_and_are_counted(make_bench):
    """401 from Langfuse is final for its batch: counted as failed, Tempo has everything."""
    bench = make_bench()
    bench.langfuse.status = 401
    (trace_id,) = send_requests(bench, 1)
    assert len(bench.at_tempo(trace_id, 3)) == 3
    bench.wait(
        lambda: metric(bench, "otelcol_exporter_send_failed_spans", "otlp_http/langfuse") == 2,
        "2 failed spans in the Collector's metrics",
    )


def test_stop_is_clean_and_removes_the_temporary_directory(make_bench):
    """SIGTERM ends the Collector with status 0 and takes its temporary queue along."""
    bench = make_bench()
    send_requests(bench, 1)
    directory: Path = bench.collector.log_path.parent
    assert directory.exists()
    assert bench.collector.stop() == 0
    assert bench.collector.pid is None
    assert not directory.exists()
