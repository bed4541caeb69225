"""`otelbridge spool`: what waits is shown, sent where it belongs, copied, removed."""

from __future__ import annotations

import base64
import gzip
import json
import stat
import threading
import time
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest

from otelbridge import cli
from otelbridge.exporters.spool import Owner, Spool
from tests.exporters import fault_server


class Receiver(ThreadingHTTPServer):
    """Takes OTLP; `answers` are the statuses to give, then 200."""

    daemon_threads = True

    def __init__(self) -> None:
        self.requests: list[tuple[str, dict[str, str], bytes]] = []
        self.answers: list[int] = []
        #: Sent with each answer that is not 200.
        self.headers: dict[str, str] = {}
        super().__init__(("127.0.0.1", 0), _Handler)
        self.url = f"http://127.0.0.1:{self.server_address[1]}"

    @property
    def bodies(self) -> list[bytes]:
        return [body for _, _, body in self.requests]


class _Handler(BaseHTTPRequestHandler):
    server: Receiver

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["content-length"]))
        headers = {name.lower(): value for name, value in self.headers.items()}
        self.server.requests.append((self.path, headers, body))
        status = self.server.answers.pop(0) if self.server.answers else 200
        self.send_response(status)
        for name, value in self.server.headers.items() if status != 200 else ():
            self.send_header(name, value)
        self.send_header("content-length", "0")
        self.end_headers()

    def log_message(self, *_: Any) -> None:
        pass


@pytest.fixture
def receiver() -> Iterator[Receiver]:
    server = Receiver()
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    yield server
    server.shutdown()
    thread.join()
    server.server_close()


@pytest.fixture
def base(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, receiver: Receiver) -> Path:
    """A spool directory and an environment whose endpoint is the receiver."""
    monkeypatch.setenv("OTELBRIDGE_SPOOL_DIR", str(tmp_path / "spool"))
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", receiver.url)
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_HEADERS", "authorization=Bearer%20secret")
    return tmp_path / "spool"


def filled(base: Path, endpoint: str, *bodies: bytes, **owner: str) -> Spool:
    spool = Spool(base, owner=Owner(owner.pop("service", "checkout"), endpoint, **owner))
    for body in bodies:
        assert spool.put(body, 10)
    spool.close()
    return spool


def answer(capsys: pytest.CaptureFixture[str], *words: object) -> tuple[int, dict[str, Any]]:
    capsys.readouterr()
    code = cli.main(["spool", *map(str, words), "--json"])
    return code, json.loads(capsys.readouterr().out)


def test_status_without_any_spool_is_good(base: Path, capsys: pytest.CaptureFixture[str]):
    """Nothing on disk is no fault and makes no directory."""
    assert cli.main(["spool", "status"]) == 0
    assert "nothing waits" in capsys.readouterr().out
    assert not base.exists()


def test_status_names_service_endpoint_and_amount(base: Path, capsys: pytest.CaptureFixture[str]):
    """Each service with its endpoint; numbers for people and for programs; no secrets."""
    filled(base, "http://u:hunter2@c:4318/v1/traces", b"1", b"2")
    filled(base, "http://lf/otel", b"3", service="chat", kind="langfuse", account="pk-lf-1")
    assert cli.main(["spool", "status"]) == 0
    shown = capsys.readouterr().out
    assert "30 spans waiting" in shown
    assert "chat -> http://lf/otel [langfuse]" in shown
    assert "20 spans in 2 requests" in shown
    assert "of 256 MiB" in shown
    assert "hunter2" not in shown
    code, found = answer(capsys, "status", "--service", "chat")
    assert code == 0
    (only,) = found["spools"]
    assert (only["spans"], only["records"], only["segments"]) == (10, 1, 1)
    assert only["owner"]["kind"] == "langfuse"
    assert 0 <= only["oldest_age_seconds"] < 60


def test_status_shows_what_was_dropped_until_it_is_purged(
    base: Path, capsys: pytest.CaptureFixture[str]
):
    """Losses of processes that are gone are still to be seen."""
    spool = Spool(base, owner=Owner("checkout", "http://c/v1/traces"), max_bytes=3_000)
    for _ in range(4):
        assert spool.put(bytes(2_000), 1_000)
    spool.close()
    assert cli.main(["spool", "status"]) == 0
    assert "3,000 spans dropped at the cap" in capsys.readouterr().out
    assert cli.main(["spool", "purge", "--yes"]) == 0
    assert answer(capsys, "status")[1]["spools"] == []
    assert list(base.iterdir()) == []


def test_status_changes_no_directory_that_is_not_a_spool(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
):
    """Pointed at a home directory by mistake, it neither lists nor touches what is there."""
    (tmp_path / "documents").mkdir(mode=0o755)
    wide = tmp_path / "checkout-traces-0123456789abcdef"
    wide.mkdir(mode=0o755)
    assert answer(capsys, "status", "--dir", tmp_path)[1]["spools"] == []
    assert stat.S_IMODE((tmp_path / "documents").stat().st_mode) == 0o755
    assert stat.S_IMODE(wide.stat().st_mode) == 0o755


def test_a_directory_that_cannot_be_read_is_one_line(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
):
    """A clear error with the name of the setting, status 2."""
    (tmp_path / "file").write_text("")
    assert cli.main(["spool", "status", "--dir", str(tmp_path / "file")]) == 2
    shown = capsys.readouterr().err
    assert shown.count("\n") == 1
    assert "Not a directory" in shown
    assert "--dir" in shown


def test_an_unknown_service_is_named_with_those_there_are(
    base: Path, capsys: pytest.CaptureFixture[str]
):
    """A misspelt name is not taken for an empty spool."""
    filled(base, "http://c/v1/traces", b"1")
    assert cli.main(["spool", "status", "--service", "chekout"]) == 2
    assert "'chekout'" in (shown := capsys.readouterr().err)
    assert "checkout" in shown.partition("there are:")[2]


def test_replay_sends_to_the_endpoint_it_was_meant_for(
    base: Path, receiver: Receiver, capsys: pytest.CaptureFixture[str]
):
    """Bodies, compression and the environment's headers; the spool is empty afterwards."""
    spool = filled(base, f"{receiver.url}/v1/traces", b"one")
    assert spool.put(gzip.compress(b"two"), 5, gzipped=True)
    spool.close()
    code, found = answer(capsys, "replay")
    assert (code, found["spools"][0]["sent"], found["spools"][0]["left"]) == (0, 15, 0)
    (path, first, body), (_, second, packed) = receiver.requests
    assert (path, body, gzip.decompress(packed)) == ("/v1/traces", b"one", b"two")
    assert first["authorization"] == "Bearer secret"
    assert first["content-type"] == "application/x-protobuf"
    assert "content-encoding" not in first
    assert second["content-encoding"] == "gzip"
    assert cli.main(["spool", "replay"]) == 0
    assert "nothing to send" in capsys.readouterr().out


def test_replay_keeps_what_another_endpoint_should_get(
    base: Path, receiver: Receiver, capsys: pytest.CaptureFixture[str]
):
    """Spans for another receiver, another account or of another kind are not sent on a guess."""
    filled(base, "http://elsewhere:4318/v1/traces", b"1")
    filled(base, f"{receiver.url}/api/public/otel/v1/traces", b"2", kind="langfuse", account="pk")
    filled(base, f"{receiver.url}/v1/traces", b"3", account="another tenant")
    filled(base, f"{receiver.url}/v1/traces", b"4", kind="scores")
    filled(base, f"{receiver.url}/v1/traces", b"5", kind="drafts")
    assert cli.main(["spool", "replay"]) == 1
    said = capsys.readouterr().err
    assert "meant for http://elsewhere:4318/v1/traces" in said
    assert "OTEL_EXPORTER_OTLP_ENDPOINT" in said
    assert "LANGFUSE_HOST" in said
    assert said.count("LANGFUSE_HOST") == 2
    assert "it holds drafts" in said
    assert receiver.requests == []
    assert answer(capsys, "status")[1]["spools"][0]["spans"] == 10
    assert cli.main(["spool", "status"]) == 0
    assert "30 spans, 10 items, 10 scores waiting" in capsys.readouterr().out


def test_replay_to_another_url_takes_no_credentials_along(
    base: Path, receiver: Receiver, monkeypatch: pytest.MonkeyPatch
):
    """`--to` decides where; headers of the environment are for its own endpoint."""
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", "http://configured:4318")
    filled(base, "http://old:4318/v1/traces", b"1")
    assert cli.main(["spool", "replay", "--to", f"{receiver.url}/v1/traces"]) == 0
    assert receiver.bodies == [b"1"]
    assert "authorization" not in receiver.requests[0][1]


def test_replay_refuses_an_address_that_is_none(base: Path, capsys: pytest.CaptureFixture[str]):
    """A bad `--to` is said before anything is sent."""
    assert cli.main(["spool", "replay", "--to", "localhost:4318"]) == 2
    assert "--to 'localhost:4318' cannot be used" in capsys.readouterr().err


def test_replay_of_the_langfuse_stream_uses_the_keys_of_its_project(
    base: Path, receiver: Receiver, monkeypatch: pytest.MonkeyPatch
):
    """The stream of `direct` export goes back to the project whose public key it was for."""
    monkeypatch.setenv("LANGFUSE_HOST", receiver.url)
    monkeypatch.setenv("LANGFUSE_PUBLIC_KEY", "pk-lf-1")
    monkeypatch.setenv("LANGFUSE_SECRET_KEY", "sk-lf-1")
    endpoint = f"{receiver.url}/api/public/otel/v1/traces"
    filled(base, endpoint, b"mine", kind="langfuse", account="pk-lf-1")
    filled(base, endpoint, b"other", kind="langfuse", account="pk-lf-2")
    assert cli.main(["spool", "replay"]) == 1
    assert receiver.bodies == [b"mine"]
    expected = base64.b64encode(b"pk-lf-1:sk-lf-1").decode()
    assert receiver.requests[0][1]["authorization"] == f"Basic {expected}"


@pytest.mark.parametrize(
    ("answers", "sent"), [([200, 503], [b"1", b"2"]), ([200, 401], [b"1", b"2"])]
)
def test_replay_stops_at_a_receiver_that_cannot(
    base: Path,
    receiver: Receiver,
    capsys: pytest.CaptureFixture[str],
    answers: list[int],
    sent: list[bytes],
):
    """What is answered is not sent again; what is left stays, with the reason."""
    for body in (b"1", b"2", b"3", b"4"):
        filled(base, f"{receiver.url}/v1/traces", body)
    receiver.answers = list(answers)
    code, found = answer(capsys, "replay")
    assert code == 1
    assert receiver.bodies == sent
    assert f"HTTP {answers[-1]}" in found["spools"][0]["reason"]
    assert found["spools"][0]["left"] == 40 - found["spools"][0]["sent"]
    receiver.requests.clear()
    assert cli.main(["spool", "replay"]) == 0
    assert receiver.bodies == [b"2", b"3", b"4"]


def test_replay_passes_over_a_refused_request(
    base: Path, receiver: Receiver, capsys: pytest.CaptureFixture[str]
):
    """One that is refused once waits until the others are sent, and is then tried again."""
    for body in (b"1", b"2", b"3"):
        filled(base, f"{receiver.url}/v1/traces", body)
    receiver.answers = [400]
    assert answer(capsys, "replay")[0] == 0
    assert receiver.bodies == [b"1", b"2", b"1", b"3"]


def test_replay_takes_requests_apart(
    base: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
):
    """Too many spans at once, and one that is never taken: the others arrive, one is counted."""
    strict = fault_server.Receiver()

    def behaviour(names: list[str]) -> tuple[int, dict[str, str], bytes]:
        return (413 if len(names) > 3 else 400 if "s5" in names else 200), {}, b""

    strict.behaviour = behaviour
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT", strict.endpoint)
    spool = Spool(base, owner=Owner("checkout", strict.endpoint))
    for first, packed in ((0, False), (10, True)):
        message = ExportTraceServiceRequest()
        scope = message.resource_spans.add().scope_spans.add()
        for number in range(first, first + 10):
            scope.spans.add(name=f"s{number}", trace_id=bytes(16), span_id=bytes(8))
        body = message.SerializeToString()
        assert spool.put(gzip.compress(body) if packed else body, 10, gzipped=packed)
    spool.close()
    try:
        code, found = answer(capsys, "replay")
    finally:
        strict.close()
    (row,) = found["spools"]
    assert (code, row["sent"], row["left"], row["dropped"]) == (0, 19, 0, {"rejected": 1})
    assert sorted(strict.names) == sorted(f"s{number}" for number in range(20) if number != 5)


def test_replay_waits_when_it_is_told_how_long(
    base: Path, receiver: Receiver, capsys: pytest.CaptureFixture[str]
):
    """Retry-After is honoured as long as --wait allows; without it the first no ends the replay."""
    filled(base, f"{receiver.url}/v1/traces", b"1")
    receiver.answers, receiver.headers = [429], {"Retry-After": "1"}
    code, found = answer(capsys, "replay", "--wait", 0.5)
    assert (code, found["spools"][0]["left"], len(receiver.bodies)) == (1, 10, 1)
    assert "HTTP 429" in found["spools"][0]["reason"]
    receiver.answers = [429]
    started = time.monotonic()
    code, found = answer(capsys, "replay")
    assert time.monotonic() - started >= 1
    assert (code, found["spools"][0]["sent"], len(receiver.bodies)) == (0, 10, 3)


def test_replay_with_a_wrong_key_gives_nothing_up(
    base: Path,
    receiver: Receiver,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
):
    """The key of whoever runs the command says nothing about spans that wait for weeks."""
    spool = filled(base, f"{receiver.url}/v1/traces", b"1", b"2")
    now = time.time
    monkeypatch.setattr(time, "time", lambda: now() + 14 * 24 * 3600)
    receiver.answers = [401, 401]
    code, found = answer(capsys, "replay")
    assert (code, found["spools"][0]["left"], found["spools"][0]["dropped"]) == (1, 20, {})
    assert spool.status().spans == 20


def test_replay_of_scores_posts_json_to_the_project_they_are_for(
    base: Path,
    receiver: Receiver,
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
):
    """Bodies that are not OTLP: content type and endpoint of their kind, never taken apart."""
    monkeypatch.setenv("LANGFUSE_HOST", receiver.url)
    monkeypatch.setenv("LANGFUSE_PUBLIC_KEY", "pk-lf-1")
    monkeypatch.setenv("LANGFUSE_SECRET_KEY", "sk-lf-1")
    endpoint = f"{receiver.url}/api/public/scores"
    scores = Spool(base, owner=Owner("chat", endpoint, account="pk-lf-1", kind="scores"))
    for body in (b'{"id": "1"}', b'{"id": "2"}'):
        assert scores.put(body, 1)
    scores.close()
    assert answer(capsys, "export", tmp_path / "out")[1]["spans"] == 2
    assert {file.suffix for file in (tmp_path / "out").iterdir()} == {".json"}
    receiver.answers = [413]
    assert cli.main(["spool", "replay"]) == 0
    shown = capsys.readouterr()
    assert "chat: 1 score sent, 0 left" in shown.out
    assert "1 score dropped: too_large" in shown.err
    assert receiver.bodies == [b'{"id": "1"}', b'{"id": "2"}']
    path, headers, _ = receiver.requests[0]
    assert path == "/api/public/scores"
    assert headers["content-type"] == "application/json"
    assert headers["authorization"].startswith("Basic ")
    assert scores.put(b'{"id": "3"}', 1)
    scores.close()
    assert cli.main(["spool", "replay", "--to", f"{receiver.url}/elsewhere"]) == 0
    path, headers, body = receiver.requests[-1]
    assert (path, body) == ("/elsewhere", b'{"id": "3"}')
    assert headers["content-type"] == "application/json"
    assert "authorization" not in headers


def test_replay_leaves_what_a_running_process_holds(
    base: Path, receiver: Receiver, capsys: pytest.CaptureFixture[str]
):
    """A live writer's segment is its own; the rest is sent and the answer is no."""
    spool = filled(base, f"{receiver.url}/v1/traces", b"free")
    assert spool.put(b"held", 7)
    code, found = answer(capsys, "replay")
    assert (code, found["spools"][0]["sent"], found["spools"][0]["left"]) == (1, 10, 7)
    assert "running process" in found["spools"][0]["reason"]
    assert receiver.bodies == [b"free"]


def test_export_copies_requests_as_they_would_be_sent(
    base: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
):
    """One uncompressed request a file, for this user alone; nothing is taken out of the spool."""
    spool = filled(base, "http://c/v1/traces", b"one")
    assert spool.put(gzip.compress(b"two"), 5, gzipped=True)
    code, found = answer(capsys, "export", tmp_path / "out")
    assert (code, found["files"], found["spans"]) == (0, 2, 15)
    files = sorted((tmp_path / "out").iterdir())
    assert [file.read_bytes() for file in files] == [b"one", b"two"]
    assert {file.suffix for file in files} == {".pb"}
    assert {stat.S_IMODE(file.stat().st_mode) for file in files} == {0o600}
    assert spool.status().spans == 15
    assert answer(capsys, "export", tmp_path / "out", "--dir", tmp_path / "none")[0] == 1


def test_export_to_a_place_that_cannot_be_written_is_one_line(
    base: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
):
    """The place is named, status 2."""
    filled(base, "http://c/v1/traces", b"one")
    (tmp_path / "file").write_text("")
    assert cli.main(["spool", "export", str(tmp_path / "file")]) == 2
    shown = capsys.readouterr().err
    assert str(tmp_path / "file") in shown
    assert shown.count("\n") == 1


def test_purge_asks_first_and_leaves_running_processes_alone(
    base: Path, capsys: pytest.CaptureFixture[str]
):
    """Without --yes nothing goes; with it everything but what is in use, damaged files too."""
    spool = filled(base, "http://c/v1/traces", b"one")
    (segment,) = (base / spool.owner.directory_name).glob("*.spool1")
    segment.with_name(segment.name + "-bad").write_bytes(b"damaged")
    (base / spool.owner.directory_name / "notes.txt").write_text("mine")
    assert cli.main(["spool", "purge"]) == 2
    assert "10 spans" in (shown := capsys.readouterr().err)
    assert "--yes" in shown
    assert spool.put(b"two", 3)
    code, found = answer(capsys, "purge", "--yes")
    assert code == 1
    assert (found["files"], found["spans"], found["in_use"]) == (2, 10, 1)
    spool.close()
    assert answer(capsys, "purge", "--yes")[0] == 0
    assert spool.status().bytes == 0
    assert (base / spool.owner.directory_name / "notes.txt").exists()


def test_status_says_that_a_file_holds_nothing_to_send(
    base: Path, capsys: pytest.CaptureFixture[str]
):
    """A damaged file that nobody has set aside yet is bytes without a request, and is shown."""
    filled(base, "http://c:4318/v1/traces", b"only")
    (segment,) = base.glob("*/*.spool1")
    content = bytearray(segment.read_bytes())
    content[-1] ^= 0xFF
    segment.write_bytes(content)
    assert cli.main(["spool", "status"]) == 0
    assert f"{len(content):,} bytes in its files hold nothing to send" in capsys.readouterr().out


@pytest.mark.parametrize("option", ["--timeout=nan", "--timeout=0", "--wait=-1", "--wait=soon"])
def test_a_time_that_is_none_is_a_usage_error(option: str, base: Path, receiver: Receiver):
    """Nothing is sent, and nothing is called an outage, because of a mistyped number."""
    filled(base, f"{receiver.url}/v1/traces", b"1")
    assert cli.main(["spool", "replay", option]) == 2
    assert not receiver.requests
