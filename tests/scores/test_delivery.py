"""Scores through outages, refusals and the end of the process."""

from __future__ import annotations

import json
import logging
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from starlette.exceptions import HTTPException

import otelbridge
from otelbridge.langfuse import score_delivery, scores
from otelbridge.settings import Settings
from tests.langfuse.stand_in import StandIn
from tests.scores.conftest import use

TRACE = "0af7651916cd43dd8448eb211c80319c"
PATH = "/api/public/scores"
ROOT = Path(__file__).parents[2]


@pytest.mark.parametrize(
    "failure",
    [
        {"status": 429, "retry_after": 0.2},
        {"status": 500},
        {"status": 503, "retry_after": 0.1},
    ],
)
def test_failures_that_pass_cost_nothing(
    failure: dict[str, Any], stand_in: StandIn, settings: Settings, eventually: Callable[..., Any]
) -> None:
    """429 with Retry-After and server errors: every score arrives once they are over."""
    stand_in.fail(failure["status"], PATH, times=2, retry_after=failure.get("retry_after"))
    for number in range(5):
        otelbridge.score("q", number, trace_id=f"{number + 1:032x}")
    eventually(lambda: len(stand_in.scores) == 5, 30)
    assert not [name for name in scores.score_stats() if name.startswith("dropped")]


def test_retry_after_is_waited_for(
    stand_in: StandIn, settings: Settings, eventually: Callable[..., Any]
) -> None:
    """Nothing is sent before the time that Langfuse asked for."""
    stand_in.fail(429, PATH, times=1, retry_after=1.0)
    otelbridge.score("q", 1, trace_id=TRACE)
    eventually(lambda: stand_in.requests(PATH), 20)
    refused_at = time.monotonic()
    otelbridge.score("q", 2, trace_id="1" * 32)
    eventually(lambda: len(stand_in.scores) == 2, 20)
    assert time.monotonic() - refused_at >= 0.9


def test_an_outage_costs_nothing(
    stand_in: StandIn, settings: Settings, eventually: Callable[..., Any]
) -> None:
    """Refused connections: scores wait on disk and arrive when Langfuse is back."""
    stand_in.down()
    for number in range(20):
        assert otelbridge.score("q", number, trace_id=f"{number + 1:032x}")
    eventually(lambda: scores.score_stats()["queued"] == 0, 20)
    stand_in.up()
    eventually(lambda: len(stand_in.scores) == 20, 40)
    assert {one["environment"] for one in stand_in.scores.values()} == {"test"}


def test_one_bad_score_is_dropped_and_the_others_arrive(
    stand_in: StandIn, settings: Settings, eventually: Callable[..., Any]
) -> None:
    """A score that Langfuse refuses (400) is tried while others pass, then counted as dropped."""

    class Refusing(dict[str, Any]):
        def __setitem__(self, key: str, body: Any) -> None:
            if body["name"] == "poison":
                raise HTTPException(400, "config not found")
            super().__setitem__(key, body)

    stand_in.state["scores"] = Refusing()
    otelbridge.score("poison", 1, trace_id=TRACE, config_id="unknown")

    def dropped() -> bool:
        otelbridge.score("good", time.time(), trace_id=os.urandom(16).hex())
        return scores.score_stats().get("dropped_rejected") == 1

    eventually(dropped, 40)
    assert scores.flush_scores(20)
    assert {one["name"] for one in stand_in.scores.values()} == {"good"}


def test_a_missing_route_keeps_the_scores(
    stand_in: StandIn, settings: Settings, eventually: Callable[..., Any]
) -> None:
    """404 is a wrong address: nothing is dropped, and nothing is hammered."""
    stand_in.fail(404, PATH, times=1000)
    for number in range(5):
        otelbridge.score("q", number, trace_id=f"{number + 1:032x}")
    eventually(lambda: stand_in.requests(PATH) and scores.score_stats()["queued"] == 0, 20)
    assert scores.stop(1)
    tries = len(stand_in.requests(PATH))
    assert tries <= 2
    stand_in.recover()
    scores.use(settings)
    eventually(lambda: len(stand_in.scores) == 5, 20)


def test_what_a_process_left_is_sent_by_the_next_start(
    stand_in: StandIn, settings: Settings, eventually: Callable[..., Any]
) -> None:
    """`configure` alone finds it: no further score is needed."""
    stand_in.down()
    otelbridge.score("q", 1, trace_id=TRACE)
    assert scores.stop(0.5)
    stand_in.up()
    scores.use(settings)
    eventually(lambda: len(stand_in.scores) == 1, 20)


def test_without_a_spool_memory_holds_the_scores(
    stand_in: StandIn, monkeypatch: pytest.MonkeyPatch, eventually: Callable[..., Any]
) -> None:
    """OTELBRIDGE_SPOOL_MAX_BYTES=0: an outage is survived while the process lives."""
    use(stand_in, monkeypatch, OTELBRIDGE_SPOOL_MAX_BYTES="0")
    stand_in.down()
    otelbridge.score("q", 1, trace_id=TRACE)
    otelbridge.score("q", 1, request_id="unknown")
    eventually(lambda: scores.score_stats()["held"] == 2, 20)
    stand_in.up()
    eventually(lambda: len(stand_in.scores) == 1, 30)
    assert not list(Path(os.environ["OTELBRIDGE_SPOOL_DIR"]).glob("*"))


def test_what_is_lost_at_the_end_without_a_spool_is_told(
    stand_in: StandIn, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture,
    eventually: Callable[..., Any],
) -> None:  # fmt: skip
    """Memory ends with the process: `stop` says so, and the log how many."""
    use(stand_in, monkeypatch, OTELBRIDGE_SPOOL_MAX_BYTES="0")
    stand_in.down()
    otelbridge.score("q", 1, trace_id=TRACE)
    otelbridge.score("q", 1, request_id="unknown")
    eventually(lambda: scores.score_stats()["held"] == 2, 20)
    with caplog.at_level(logging.WARNING):
        assert scores.stop(0.5) is False
    assert "1 score(s) for" in caplog.text
    assert "1 score(s) of requests" in caplog.text


def test_a_directory_that_cannot_be_written_costs_nothing_but_the_disk(
    stand_in: StandIn, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """A file stands where the spool should be: scores are delivered from memory."""
    (tmp_path / "file").write_text("")
    use(stand_in, monkeypatch, OTELBRIDGE_SPOOL_DIR=str(tmp_path / "file" / "spool"))
    otelbridge.score("q", 1, trace_id=TRACE)
    assert scores.flush_scores(20)
    assert len(stand_in.scores) == 1


def test_a_full_queue_refuses_and_counts(
    stand_in: StandIn, settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Memory is bounded when the worker cannot keep up."""
    monkeypatch.setattr(score_delivery, "QUEUED", 0)
    assert otelbridge.score("q", 1, trace_id=TRACE)
    assert scores.score_stats()["dropped_queue_full"] == 1


# -- processes -------------------------------------------------------------------------------------
def program(
    text: str, stand_in: StandIn, *, check: bool = True, **more: str
) -> subprocess.CompletedProcess[str]:
    """Run a program that scores in a process of its own."""
    done = subprocess.run(
        [sys.executable, "-c", text], cwd=ROOT, capture_output=True, text=True, timeout=50,
        check=False,
        env={**os.environ, **stand_in.environment, "PYTHONPATH": str(ROOT),
             "OTEL_TRACES_EXPORTER": "none", "OTEL_SERVICE_NAME": "shop", **more},
    )  # fmt: skip
    if check:
        assert done.returncode == 0, done.stderr
    return done


START = "import os, time, otelbridge\notelbridge.configure(instrument=False)\n"
SCORE = f"otelbridge.score('q', 1, trace_id='{TRACE}')\n"


def test_a_program_that_ends_at_once_delivers(stand_in: StandIn) -> None:
    """The last line scores: Langfuse has it when the process is gone."""
    program(START + SCORE, stand_in)
    assert [one["traceId"] for one in stand_in.scores.values()] == [TRACE]


def test_a_program_without_configure_delivers(stand_in: StandIn) -> None:
    """A script that never switches tracing on may score; the environment is read."""
    program("import otelbridge\n" + SCORE, stand_in)
    assert len(stand_in.scores) == 1


@pytest.mark.parametrize("state", ["down", "hanging"])
def test_a_dead_langfuse_does_not_hold_the_exit(
    state: str, stand_in: StandIn, eventually: Callable[..., Any]
) -> None:
    """The process ends in its time; the next start delivers."""
    if state == "down":
        stand_in.down()
    else:
        stand_in.fail(503, PATH, times=1, seconds=20)
    text = START + SCORE + "begun = time.monotonic()\notelbridge.shutdown(1.5)\n"
    done = program(text + "print(time.monotonic() - begun)\n", stand_in)
    assert float(done.stdout) < 2.0 + 1.0  # with room for a slow machine
    if state == "down":
        stand_in.up()
    program(START + "time.sleep(0)\n" + _wait_for_delivery(), stand_in)
    assert [one["traceId"] for one in stand_in.scores.values()] == [TRACE]


def _wait_for_delivery() -> str:
    return (
        "deadline = time.monotonic() + 20\n"
        "while not otelbridge.score_stats()['delivered'] and time.monotonic() < deadline:\n"
        "    time.sleep(0.01)\n"
    )


def test_kill_9_keeps_what_the_worker_has_taken(stand_in: StandIn) -> None:
    """SIGKILL during an outage: the next start delivers."""
    stand_in.down()
    text = (
        START + SCORE + "from otelbridge.langfuse import scores\n"
        "while not scores._state.delivery._spool.status().records: time.sleep(0.01)\n"
        "os.kill(os.getpid(), 9)\n"
    )
    done = program(text, stand_in, check=False)
    assert done.returncode == -signal.SIGKILL
    stand_in.up()
    program(START + _wait_for_delivery(), stand_in)
    assert len(stand_in.scores) == 1


def test_a_forked_child_delivers_its_own(stand_in: StandIn) -> None:
    """Parent and child score once each, after a fork with a running worker."""
    text = (
        START + SCORE + "pid = os.fork()\n"
        "if not pid:\n"
        f"    otelbridge.score('child', 1, trace_id='{TRACE}')\n"
        "    otelbridge.flush(10)\n"
        "    os._exit(0)\n"
        "assert os.waitpid(pid, 0)[1] == 0\n"
    )
    program(text, stand_in)
    assert sorted(one["name"] for one in stand_in.scores.values()) == ["child", "q"]


def test_sigterm_delivers(stand_in: StandIn) -> None:
    """A service that is told to stop sends its scores first."""
    text = START + SCORE + f"os.kill(os.getpid(), {int(signal.SIGTERM)})\ntime.sleep(20)\n"
    done = program(text, stand_in, check=False)
    assert done.returncode == -signal.SIGTERM
    assert len(stand_in.scores) == 1


def test_the_spool_command_knows_scores(stand_in: StandIn) -> None:
    """`otelbridge spool status` counts what waits, `replay` sends it."""
    stand_in.down()
    program(START + SCORE, stand_in)
    stand_in.up()
    shown = program(
        "from otelbridge.cli import main; raise SystemExit(main(['spool', 'status', '--json']))",
        stand_in,
        check=False,
    )
    assert "scores" in shown.stdout
    json.loads(shown.stdout)
    program("from otelbridge.cli import main; main(['spool', 'replay'])", stand_in)
    assert len(stand_in.scores) == 1
