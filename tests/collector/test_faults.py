"""The real Collector under load when a backend is away, when it is killed, and when it is full."""

from __future__ import annotations

import os
import random
import re
from concurrent.futures import ThreadPoolExecutor

import pytest

from benchmarks import _collector_faults as faults
from benchmarks._collector import LoadMaker
from otelbridge import collector as collector_module
from otelbridge.errors import OtelbridgeError

pytestmark = pytest.mark.collector
ROOT = collector_module.project_root()


# -- Langfuse away ---------------------------------------------------------------------------------
@pytest.fixture(scope="module")
def outages(collector_binary):
    """Every kind of outage at the same time, each with a Collector of its own."""
    kinds = [kind for kind in faults.OUTAGES if faults.NGINX or "proxy" not in kind]
    with ThreadPoolExecutor(len(kinds)) as pool:
        running = {
            kind: pool.submit(
                faults.outage, collector_binary, kind, seconds=4, spans_per_second=150
            )
            for kind in kinds
        }
        return {kind: future.result() for kind, future in running.items()}


@pytest.mark.timeout(120)
@pytest.mark.parametrize("kind", faults.OUTAGES)
def test_outage_of_langfuse_loses_nothing_and_does_not_delay_tempo(outages, kind):
    """Whatever Langfuse does, all its spans arrive afterwards, and Tempo's arrive meanwhile."""
    if kind not in outages:
        pytest.skip("no nginx: `apt-get install nginx-light` (the service need not run)")
    outcome = outages[kind]
    assert outcome.llm_spans > 50
    assert (outcome.tempo_lost, outcome.langfuse_lost) == (0, 0)
    assert outcome.tempo_duplicates == 0
    assert outcome.tempo_worst_lag_seconds < 5.0


# -- crashes ---------------------------------------------------------------------------------------
@pytest.mark.timeout(120)
def test_killed_under_load_it_loses_nothing_that_was_acknowledged(collector_binary):
    """SIGKILL at random moments, restart: every acknowledged span arrives in both stores."""
    chooser = random.Random(4)
    with ThreadPoolExecutor(2) as pool:
        running = [
            pool.submit(
                faults.crashes,
                collector_binary,
                [chooser.uniform(0.2, 1.5) for _ in range(3)],
                spans_per_second=250,
                seed=seed,
            )
            for seed in (1, 2)
        ]
        outcomes = [future.result() for future in running]
    for outcome in outcomes:
        assert outcome.llm_spans > 50
        assert (outcome.tempo_lost, outcome.langfuse_lost) == (0, 0)


def test_termination_drains_what_was_acknowledged(collector_binary):
    """SIGTERM ends it with status 0; what was acknowledged is delivered then or after a start."""
    with faults.Rig(
        collector_binary, environment={"OTELBRIDGE_COLLECTOR_FLUSH_TIMEOUT": "30s"}
    ) as rig:
        for body in LoadMaker().load(300, spans_per_request=50).requests:
            assert rig.send(body)
        assert rig.tempo.arrivals.total == 0, "the part batch waits for its 30 s"
        assert rig.collector.stop() == 0
        rig.collector.start()
        rig.collector.stop()
        outcome = rig.settled(10)
    assert outcome.acknowledged >= 300
    assert (outcome.tempo_lost, outcome.langfuse_lost) == (0, 0)


# -- permanent refusals ----------------------------------------------------------------------------
def test_permanent_refusals_are_counted_and_the_log_names_the_status(collector_binary):
    """400, 401, 403, 404, 413 and a bare 500 drop the batch: counted, logged, Tempo undisturbed."""
    label = "otlp_http/langfuse"
    with faults.Rig(collector_binary) as rig:
        failed = 0
        bodies = LoadMaker(plain=0.0).load(800, spans_per_request=60).requests
        bodies = [body for body in bodies if faults.kept_ids(body)]
        for status, body in zip((400, 401, 403, 404, 413, 500), bodies, strict=False):
            rig.langfuse.answer = status
            assert rig.send(body)
            failed += len(faults.kept_ids(body))
            rig.wait(
                lambda failed=failed: (
                    rig.metric("otelcol_exporter_send_failed_spans", label) == failed
                ),
                f"{failed} spans counted as failed after {status}",
                10,
            )
            log = rig.collector.log_tail(400)
            assert re.search(rf"Dropping data.*HTTP Status Code {status}\b", log)
        rig.wait(
            lambda: rig.acknowledged.keys() <= rig.tempo.arrivals.first.keys(),
            "all spans at Tempo",
            10,
        )


@pytest.mark.skipif(not faults.NGINX, reason="no nginx: `apt-get install nginx-light`")
def test_proxy_changes_only_what_passes(collector_binary):
    """Behind the proxy 400, 401, 403, 404 and 413 stay final; only 5xx are turned into 503."""
    with faults.Rig(collector_binary, proxy=True) as rig:
        failed = 0
        bodies = LoadMaker(plain=0.0).load(800, spans_per_request=60).requests
        bodies = [body for body in bodies if faults.kept_ids(body)]
        for status, body in zip((400, 401, 403, 404, 413), bodies, strict=False):
            rig.langfuse.answer = status
            assert rig.send(body)
            failed += len(faults.kept_ids(body))
            rig.wait(
                lambda failed=failed: (
                    rig.metric("otelcol_exporter_send_failed_spans", "langfuse") == failed
                ),
                f"{failed} spans counted as failed after {status}",
                10,
            )
            assert rig.langfuse.answers[status] == 1


# -- a full queue ----------------------------------------------------------------------------------
def test_full_queue_refuses_instead_of_losing(collector_binary):
    """With Langfuse's queue full the services get 503 and keep their spans; none acked is lost."""
    small = {
        "OTELBRIDGE_COLLECTOR_LANGFUSE_QUEUE_SPANS": "100",
        "OTELBRIDGE_COLLECTOR_LANGFUSE_BATCH_SPANS": "20",
    }
    with faults.Rig(collector_binary, environment=small) as rig:
        rig.langfuse.answer = 503
        sender = faults.RawHttpSender(int(rig.collector.otlp_http_url.rpartition(":")[2]))
        statuses = []
        for body in LoadMaker(plain=0.0).load(3000, spans_per_request=60).requests:
            statuses.append(sender.once(body))
            if statuses[-1] == 200:
                rig.acknowledged.update(dict.fromkeys(faults.span_ids(body), 0.0))
                rig.kept |= faults.kept_ids(body)
        sender.close()
        assert set(statuses) == {200, 503}
        rig.langfuse.answer = 200
        outcome = rig.settled(20)
        assert (outcome.tempo_lost, outcome.langfuse_lost) == (0, 0)


# -- a damaged queue -------------------------------------------------------------------------------
def queue_files(rig):
    return sorted((rig.folder / "work" / "queue").glob("exporter_*"))


def start_by_script(rig, binary):
    """Start the rig's Collector through collector/run.sh."""
    rig.collector.binary = ROOT / "collector" / "run.sh"
    rig.collector._environment |= {
        "PATH": os.environ["PATH"],
        "OTELBRIDGE_COLLECTOR_BINARY": str(binary),
    }
    rig.collector.start()


def test_start_script_sets_a_damaged_queue_file_aside(collector_binary):
    """The bare binary does not start on a damaged file; run.sh names it, keeps it and starts."""
    with faults.Rig(collector_binary) as rig:
        (body,) = LoadMaker().load(1, spans_per_request=100).requests[:1]
        assert rig.send(body)
        rig.settled(10)
        rig.collector.stop()
        damaged = queue_files(rig)[0]
        damaged.write_bytes(b"\0" * damaged.stat().st_size)
        with pytest.raises(OtelbridgeError, match="while starting"):
            rig.collector.start()

        start_by_script(rig, collector_binary)
        aside = [path for path in queue_files(rig) if path.suffix == ".damaged"]
        assert [path.name.startswith(damaged.name) for path in aside] == [True]
        assert f"set aside: {aside[0]}" in rig.collector.log_tail(400)
        for more in LoadMaker(seed=3).load(100).requests:
            assert rig.send(more)
        outcome = rig.settled(10)
        assert (outcome.tempo_lost, outcome.langfuse_lost) == (0, 0)


def test_start_script_survives_damage_inside_a_queue_file(collector_binary):
    """Pages overwritten in the middle: the bare binary panics; run.sh starts and keeps a backup."""
    with faults.Rig(collector_binary) as rig:
        rig.langfuse.answer = 503
        for body in LoadMaker(plain=0.0).load(1500).requests:
            assert rig.send(body)
        rig.wait(lambda: rig.langfuse.answers.get(503), "a refused try")
        rig.collector.kill()
        rig.langfuse.answer = 200
        rig.kept.clear()  # what is damaged is lost
        damaged = max(queue_files(rig), key=lambda path: path.stat().st_size)
        data, page = bytearray(damaged.read_bytes()), 4096
        chooser = random.Random(1)
        for index in chooser.sample(range(2, len(data) // page), len(data) // page // 3):
            data[index * page : (index + 1) * page] = chooser.randbytes(page)
        damaged.write_bytes(data)
        with pytest.raises(OtelbridgeError, match="while starting"):
            rig.collector.start()
        start_by_script(rig, collector_binary)
        assert [path for path in queue_files(rig) if path.suffix == ".backup"]
        for more in LoadMaker(seed=3, plain=0.0).load(100).requests:
            assert rig.send(more)
        assert rig.settled(10).langfuse_lost == 0


def test_start_script_leaves_a_good_queue_alone(collector_binary):
    """Spans that wait in a good queue file are delivered after a start through run.sh."""
    with faults.Rig(collector_binary) as rig:
        rig.langfuse.answer = 503
        for body in LoadMaker(plain=0.0).load(200).requests:
            assert rig.send(body)
        rig.wait(lambda: rig.langfuse.answers.get(503), "a refused try")
        rig.collector.kill()
        rig.langfuse.answer = 200
        start_by_script(rig, collector_binary)
        outcome = rig.settled(15)
        assert (outcome.tempo_lost, outcome.langfuse_lost) == (0, 0)
        assert not [path for path in queue_files(rig) if path.suffix in {".damaged", ".backup"}]
