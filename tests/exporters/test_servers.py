"""Servers with worker processes: the spans of every finished request arrive, once each.

Real servers on loopback, asked from several threads while workers are recycled, the server is
restarted and ended. Long series: benchmarks/servers.py.
"""

from __future__ import annotations

import signal
import socket
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from otelbridge.exporters.spool import Owner, Spool
from tests.exporters.fault_server import Receiver, until
from tests.exporters.servers.harness import (
    APPS,
    GUNICORN,
    UVICORN,
    Load,
    Outcome,
    Server,
    environment,
)

#: With the options that docs/servers.md names.
UWSGI = [
    *(sys.executable, "-c", "import pyuwsgi; pyuwsgi.run()", "--master", "--need-app"),
    *("--http-socket", "127.0.0.1:0", "--processes", "2", "--enable-threads", "--lazy-apps"),
    *("--hook-master-start", "unix_signal:15 gracefully_kill_them_all"),
]
#: `opentelemetry-instrument`, without looking for where its script was installed.
INSTRUMENT = [
    *(sys.executable, "-c"),
    "import sys; sys.argv[0] = 'opentelemetry-instrument';"
    "from opentelemetry.instrumentation.auto_instrumentation import run; run()",
]


@pytest.fixture
def receiver() -> Iterator[Receiver]:
    far_end = Receiver()
    yield far_end
    far_end.close()


@pytest.mark.e2e
@pytest.mark.parametrize("preload", [(), ("--preload",)], ids=["own-import", "preload"])
@pytest.mark.parametrize(
    ("worker", "workers"),
    [
        ("sync --max-requests 100 --max-requests-jitter 50", 3),
        ("gthread --threads 3", 2),
        ("gevent", 2),
    ],
    ids=["sync", "gthread", "gevent"],
)
def test_gunicorn_restarted_and_ended_under_load(
    receiver: Receiver, tmp_path: Path, worker: str, workers: int, preload: tuple[str, ...]
) -> None:
    """Recycled workers, SIGHUP and SIGTERM under load cost no span of a finished request."""
    command = [*GUNICORN, "--workers", str(workers), "--worker-class", *worker.split(), *preload]
    command.append(f"{APPS}.wsgi_app:application")
    variables = environment(receiver.endpoint, tmp_path / "spool")
    with Server(command, variables, tmp_path / "log") as server:
        load = Load(server.port)
        load.until_all_answer(workers)
        load.until(100)
        if "--max-requests" in worker:
            assert until(lambda: len(load.answers) > 2 * workers, 30), server.output()
        before = set(load.answers)
        server.signal(signal.SIGHUP)
        assert until(lambda: len(set(load.answers) - before) >= workers, 30), server.output()
        load.until_all_answer(workers)
        server.signal(signal.SIGTERM)
        code = server.ended()
        load.stop()
    outcome = Outcome(load.finished, receiver)
    outcome.assert_once_each()
    assert code == 0, server.output()
    if preload:
        assert len(outcome.import_pids) == 1  # the master's, which the workers do not repeat
    else:
        assert set(load.answers) <= outcome.import_pids


@pytest.mark.e2e
@pytest.mark.parametrize(
    "worker", ["sync", "gthread --threads 3", "gevent"], ids=["sync", "gthread", "gevent"]
)
def test_gunicorn_under_opentelemetry_instrument(
    receiver: Receiver, tmp_path: Path, worker: str
) -> None:
    """Started by `opentelemetry-instrument`, the server spans of finished requests arrive too."""
    command = [*INSTRUMENT, *GUNICORN, "--workers", "2", "--worker-class", *worker.split()]
    command.append(f"{APPS}.flask_app:application")
    variables = environment(receiver.endpoint, tmp_path / "spool")
    with Server(command, variables, tmp_path / "log") as server:
        load = Load(server.port)
        load.until_all_answer(2)
        load.until(100)
        server.signal(signal.SIGTERM)
        code = server.ended()
        load.stop()
    outcome = Outcome(load.finished, receiver)
    outcome.assert_once_each()
    assert code == 0, server.output()
    assert set(load.answers) <= outcome.import_pids


@pytest.mark.e2e
@pytest.mark.parametrize("instrument", [[], INSTRUMENT], ids=["configure", "instrument"])
def test_uvicorn_workers_ended_under_load(
    receiver: Receiver, tmp_path: Path, instrument: list[str]
) -> None:
    """Two uvicorn workers, SIGTERM under load: the spans of finished requests are there."""
    command = [*instrument, *UVICORN, "--workers", "2", f"{APPS}.asgi_app:application"]
    variables = environment(receiver.endpoint, tmp_path / "spool")
    with Server(command, variables, tmp_path / "log") as server:
        load = Load(server.port)
        load.until_all_answer(2)
        load.until(100)
        server.signal(signal.SIGTERM)
        server.ended()
        load.stop()
    outcome = Outcome(load.finished, receiver)
    outcome.assert_once_each()
    assert set(load.answers) <= outcome.import_pids


@pytest.mark.e2e
@pytest.mark.parametrize("preload", [(), ("--preload",)], ids=["own-import", "preload"])
@pytest.mark.parametrize("worker", ["uvicorn.workers.UvicornWorker", "asgi"])
def test_gunicorn_with_asgi_workers(
    receiver: Receiver, tmp_path: Path, worker: str, preload: tuple[str, ...]
) -> None:
    """uvicorn's workers, which end by a signal of their own, and gunicorn's: SIGTERM under load."""
    command = [*GUNICORN, "--worker-class", worker, "--workers", "2", *preload]
    command.append(f"{APPS}.asgi_app:application")
    variables = environment(receiver.endpoint, tmp_path / "spool", PYTHONWARNINGS="ignore")
    with Server(command, variables, tmp_path / "log") as server:
        load = Load(server.port)
        load.until_all_answer(2)
        load.until(100)
        server.signal(signal.SIGTERM)
        server.ended()
        load.stop()
    Outcome(load.finished, receiver).assert_once_each()


@pytest.mark.e2e
def test_uwsgi_ended_under_load(receiver: Receiver, tmp_path: Path) -> None:
    """uWSGI with the options that docs/servers.md names: SIGTERM under load costs no span."""
    pytest.importorskip("pyuwsgi", reason="pyuwsgi is not there for this platform")
    command = [*UWSGI, "--module", f"{APPS}.wsgi_app:application"]
    variables = environment(receiver.endpoint, tmp_path / "spool")
    with Server(command, variables, tmp_path / "log") as server:
        load = Load(server.port)
        load.until_all_answer(2)
        load.until(100)
        server.signal(signal.SIGTERM)
        server.ended()
        load.stop()
    Outcome(load.finished, receiver).assert_once_each()


@pytest.mark.e2e
@pytest.mark.parametrize("dead", ["refused", "black hole"])
def test_a_dead_far_end_costs_nothing(tmp_path: Path, dead: str) -> None:
    """What a server made while nobody took it is in the spool, and its next start delivers it."""
    with socket.create_server(("127.0.0.1", 0)) as listening:
        port = listening.getsockname()[1]
        if dead == "refused":
            listening.close()
            command = [*GUNICORN, "--workers", "2", f"{APPS}.wsgi_app:application"]
        else:
            command = [*UVICORN, "--workers", "2", f"{APPS}.asgi_app:application"]
        endpoint = f"http://127.0.0.1:{port}/v1/traces"
        variables = environment(endpoint, tmp_path / "spool")
        with Server(command, variables, tmp_path / "first") as server:
            load = Load(server.port)
            load.until_all_answer(2)
            load.until(100)
            server.signal(signal.SIGTERM)
            server.ended()
            load.stop()
    spool = Spool(tmp_path / "spool", owner=Owner("served", endpoint))
    assert spool.status().spans >= len(load.finished)
    receiver = Receiver(port=port)
    with Server(command, variables, tmp_path / "next") as server:
        assert until(lambda: set(load.finished) <= set(receiver.span_ids), 20), server.output()
        server.signal(signal.SIGTERM)
        server.ended()
    receiver.close()
    Outcome(load.finished, receiver).assert_once_each()
    assert not spool.status().spans
