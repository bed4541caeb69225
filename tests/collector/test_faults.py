"""The real Collector under load when a backend is away, when it is killed, and when it is full."""

from __future__ import annotations

import os
import random
import re
import shutil
import stat
import subprocess
import sys
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


def test_termination_during_an_outage_keeps_what_waits_on_disk(collector_binary):
    """SIGTERM while Langfuse is away: status 0 and in time; the spans come after the next start."""
    with faults.Rig(collector_binary) as rig:
        rig.langfuse.answer = 503
        for body in LoadMaker(plain=0.0).load(300, spans_per_request=50).requests:
            assert rig.send(body)
        rig.wait(lambda: rig.langfuse.answers.get(503), "a refused try")
        assert rig.collector.stop() == 0
        rig.langfuse.answer = 200
        rig.collector.start()
        outcome = rig.settled(15)
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
PAGE = 4096  # of the database in a queue file; its first two pages describe the others


def damage_head(data):
    """Both descriptions fail their checksums: the Collector ends with an error."""
    for page in (0, 1):
        data[page * PAGE + 56] ^= 0xFF


def damage_end(data):
    """The file ends early, as after a power cut: the Collector ends with a memory fault."""
    del data[len(data) // 2 :]


def damage_last_page(data):
    """The last page that is in use is missing, which opening the file does not tell."""
    heads = (int.from_bytes(data[at : at + 8], sys.byteorder) for at in (56, PAGE + 56))
    del data[(min(heads) - 1) * PAGE :]


def damage_pages(data):
    """Everything but the descriptions is noise: the Collector panics."""
    data[2 * PAGE :] = random.Random(1).randbytes(len(data) - 2 * PAGE)


def damage_all(data):
    """No trace of a database."""
    data[:] = bytes(len(data))


def queue_files(rig):
    return sorted((rig.folder / "work" / "queue").glob("exporter_*"))


def start_by_script(rig, binary, script=ROOT / "collector" / "run.sh"):
    """Start the rig's Collector through collector/run.sh."""
    rig.collector.binary = script
    rig.collector._environment |= {
        "PATH": os.environ["PATH"],
        "OTELBRIDGE_COLLECTOR_BINARY": str(binary),
    }
    rig.collector.start()


def test_start_script_sets_a_damaged_queue_file_aside(collector_binary):
    """Whatever is wrong with one: run.sh names it, keeps it and starts; the other file stays."""
    damages = (damage_head, damage_end, damage_last_page, damage_pages, damage_all)
    with faults.Rig(collector_binary) as rig:
        rig.langfuse.answer = 503
        for body in LoadMaker(plain=0.0).load(1500).requests:
            assert rig.send(body)
        rig.wait(lambda: rig.langfuse.answers.get(503), "a refused try")
        rig.collector.kill()
        rig.langfuse.answer = 200
        rig.kept.clear()  # what the damaged file held is lost
        (file,) = [path for path in queue_files(rig) if "langfuse" in path.name]
        good = file.read_bytes()
        for count, damage in enumerate(damages, start=1):
            data = bytearray(good)
            damage(data)
            file.write_bytes(data)
            start_by_script(rig, collector_binary)
            aside = [path for path in queue_files(rig) if path.suffix == ".damaged"]
            assert len(aside) == count, damage.__name__
            named = max(aside, key=lambda path: path.stat().st_mtime_ns)
            assert named.name.startswith(file.name)
            assert named.stat().st_size > 0
            assert f"set aside: {named}" in rig.collector.log_tail(400)
            for more in LoadMaker(seed=2 + count, plain=0.0).load(100).requests:
                assert rig.send(more)
            outcome = rig.settled(10)
            assert (outcome.tempo_lost, outcome.langfuse_lost) == (0, 0), damage.__name__
            rig.collector.kill()
            file.unlink()


def test_bare_binary_does_not_start_on_a_damaged_queue_file(collector_binary):
    """Why there is a start script: the Collector ends, and says what is wrong."""
    with faults.Rig(collector_binary) as rig:
        rig.collector.stop()
        file = queue_files(rig)[0]
        data = bytearray(file.read_bytes())
        damage_all(data)
        file.write_bytes(data)
        with pytest.raises(OtelbridgeError, match="while starting"):
            rig.collector.start()
        assert "invalid database" in rig.collector.log_tail(400)


def test_start_script_leaves_a_good_queue_alone(collector_binary):
    """Spans that wait in good queue files are delivered after starts through run.sh, once."""
    with faults.Rig(collector_binary) as rig:
        rig.langfuse.answer = 503
        for body in LoadMaker(plain=0.0).load(600).requests:
            assert rig.send(body)
        rig.wait(lambda: rig.langfuse.answers.get(503), "a refused try")
        rig.collector.kill()
        start_by_script(rig, collector_binary)
        rig.collector.kill()
        assert rig.langfuse.arrivals.total == 0
        rig.langfuse.answer = 200
        rig.collector.start()
        outcome = rig.settled(15)
        assert (outcome.tempo_lost, outcome.langfuse_lost) == (0, 0)
        assert outcome.langfuse_duplicates == 0
        left = {path.name for path in (rig.folder / "work" / "queue").iterdir()}
        assert not [name for name in left if name.endswith(".damaged") or name == ".trial"]


def test_start_script_does_not_take_a_file_in_use_for_damaged(collector_binary):
    """A second Collector on the same directory does not start, and touches nothing."""
    with faults.Rig(collector_binary) as rig:
        before = {path.name for path in queue_files(rig)}
        sooner = "yaml:extensions::file_storage/queue::timeout: 1s"
        result = subprocess.run(
            [ROOT / "collector" / "run.sh", "--config", sooner],
            env={
                "PATH": os.environ["PATH"],
                "OTELBRIDGE_COLLECTOR_BINARY": str(collector_binary),
                "OTELBRIDGE_COLLECTOR_QUEUE_DIR": str(rig.folder / "work" / "queue"),
                "OTELBRIDGE_COLLECTOR_METRICS_PORT": "0",
            },
            capture_output=True,
            text=True,
            timeout=50,
            check=False,
        )
        assert result.returncode != 0
        assert "timeout" in result.stderr
        assert "damaged" not in result.stderr
        assert {path.name for path in queue_files(rig)} == before
        for body in LoadMaker(seed=3).load(100).requests:
            assert rig.send(body)
        outcome = rig.settled(10)
        assert (outcome.tempo_lost, outcome.langfuse_lost) == (0, 0)


# -- without root ----------------------------------------------------------------------------------
@pytest.mark.skipif(os.getuid() != 0, reason="runs without root already")
@pytest.mark.skipif(not shutil.which("setpriv"), reason="no setpriv to give up root with")
def test_start_script_needs_no_root(collector_binary):
    """As an unprivileged user it starts, delivers, and keeps its queue to itself."""
    nobody = 65534
    give_up = ["setpriv", f"--reuid={nobody}", f"--regid={nobody}", "--clear-groups"]
    script = ROOT / "collector" / "run.sh"
    for needed in (script, collector_binary):
        if subprocess.run([*give_up, "test", "-x", needed], check=False).returncode:
            pytest.skip(f"{needed} is not open to other users")
    with faults.Rig(collector_binary) as rig:
        rig.collector.stop()
        shutil.rmtree(rig.folder / "work" / "queue")
        os.chown(rig.folder, nobody, nobody)
        os.chown(rig.folder / "work", nobody, nobody)
        wrapper = rig.folder / "as-nobody"
        wrapper.write_text(f'#!/bin/sh\nexec {" ".join(give_up)} {script} "$@"\n', "utf-8")
        wrapper.chmod(0o755)
        start_by_script(rig, collector_binary, script=wrapper)
        for body in LoadMaker(seed=3).load(100).requests:
            assert rig.send(body)
        outcome = rig.settled(10)
        assert (outcome.tempo_lost, outcome.langfuse_lost) == (0, 0)
        queue = rig.folder / "work" / "queue"
        assert {path.stat().st_uid for path in (queue, *queue.iterdir())} == {nobody}
        assert stat.S_IMODE(queue.stat().st_mode) == 0o700
