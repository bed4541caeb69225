"""What harms a spool: damaged files, killed processes, a refused configuration, idle owners."""

from __future__ import annotations

import json
import os
import random
import shutil
import socket
import struct
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.sdk.trace import TracerProvider

from otelbridge.exporters.answers import Pauses
from otelbridge.exporters.delivery import Delivery
from otelbridge.exporters.processor import OtlpSpanProcessor
from otelbridge.exporters.sender import Sender
from otelbridge.exporters.spool import Owner, Record, Spool, folder, found, purge, records, tidy
from otelbridge.settings import Settings
from tests.exporters.fault_server import Receiver, until

ROOT = Path(__file__).parents[2]
OWNER = Owner("checkout", "http://collector:4318/v1/traces")
WEEK_SECONDS = 7 * 24 * 3600


def home(spool: Spool) -> Path:
    return spool.base / spool.owner.directory_name


def drain(spool: Spool) -> list[Record]:
    drained: list[Record] = []
    while claimed := spool.claim():
        drained += claimed.records()
        claimed.done()
    return drained


def filled(base: Path, bodies: list[bytes]) -> tuple[Spool, Path]:
    """A spool with one closed segment, and the segment."""
    spool = Spool(base, owner=OWNER)
    for number, body in enumerate(bodies):
        assert spool.put(body, number + 1)
    spool.close()
    (segment,) = home(spool).glob("*.spool1")
    return spool, segment


# -- damaged segments ------------------------------------------------------------------------------
BODIES = [b"first" * 9, b"second" * 9, b"third" * 9]


def _second(data: bytes) -> int:
    return records.scan(data).entries[1].offset


def _truncated(data: bytes) -> bytes:
    return data[:-7]


def _bit_in_payload(data: bytes) -> bytes:
    at = data.index(b"second")
    return data[:at] + bytes([data[at] ^ 1]) + data[at + 1 :]


def _bit_in_header(data: bytes) -> bytes:
    at = _second(data) + 8  # the number of spans
    return data[:at] + bytes([data[at] ^ 1]) + data[at + 1 :]


def _zeroed_page(data: bytes) -> bytes:
    at = _second(data)
    return data[:at] + bytes(40) + data[at + 40 :]


def _zeroed(data: bytes) -> bytes:
    return bytes(len(data))


def _foreign(_: bytes) -> bytes:
    return b'{"this": "is JSON of somebody else"}\n' * 5


def _huge_length(data: bytes) -> bytes:
    at = _second(data) + 4
    return data[:at] + struct.pack("<I", 0xFFFF_FFFF) + data[at + 4 :]


def _huge_length_with_its_checksum(data: bytes) -> bytes:
    at = _second(data)
    head = bytearray(data[at : at + records.HEADER_BYTES])
    head[4:8] = struct.pack("<I", 0xFFFF_FFFF)
    head[20:24] = struct.pack("<I", records._header_checksum(bytes(head)))
    return data[:at] + bytes(head) + data[at + records.HEADER_BYTES :]


@pytest.mark.parametrize(
    ("damage", "whole", "set_aside"),
    [
        (_truncated, [0, 1], 0),
        (_bit_in_payload, [0, 2], 1),
        (_bit_in_header, [0, 2], 1),
        (_zeroed_page, [0, 2], 1),
        (_zeroed, [], 0),
        (_foreign, [], 1),
        (_huge_length, [0, 2], 1),
        (_huge_length_with_its_checksum, [0], 0),
    ],
)
def test_each_kind_of_damage_costs_only_what_it_hit(
    tmp_path: Path,
    caplog: pytest.LogCaptureFixture,
    damage: Callable[[bytes], bytes],
    whole: list[int],
    set_aside: int,
):
    """Whole records before and after the damage are sent; the evidence is kept; one warning.

    A file that ends too early or in zeros is what a crash leaves: no damage, nothing to keep.
    """
    spool, segment = filled(tmp_path, BODIES)
    segment.write_bytes(damage(segment.read_bytes()))
    assert drain(spool) == [Record(BODIES[number], number + 1, False) for number in whole]
    assert spool.status().set_aside == set_aside
    assert spool.counts.get("corrupt_segments", 0) == set_aside
    assert len(caplog.records) == set_aside
    assert not spool.has_pending()
    assert spool.put(b"afterwards", 1)
    assert [record.payload for record in drain(spool)] == [b"afterwards"]


@settings(max_examples=120, suppress_health_check=[HealthCheck.too_slow])
@given(
    bodies=st.lists(st.binary(max_size=80), min_size=1, max_size=5),
    flips=st.lists(st.tuples(st.integers(0, 10_000), st.integers(1, 255)), max_size=5),
    cut=st.integers(0, 60),
    appended=st.binary(max_size=40),
)
def test_flipped_bytes_never_reach_a_receiver(
    bodies: list[bytes], flips: list[tuple[int, int]], cut: int, appended: bytes
):
    """Bytes flipped, cut and added in a file: what was not hit is sent as it was, no more."""
    with tempfile.TemporaryDirectory() as directory:
        spool, segment = filled(Path(directory), bodies)
        stored = segment.read_bytes()
        entries = records.scan(stored).entries
        data = bytearray(stored)
        for position, change in flips:
            data[position % len(data)] ^= change
        data = data[: len(data) - cut % len(data)] + appended
        segment.write_bytes(data)
        given_back = drain(spool)
        put = [Record(body, number + 1, False) for number, body in enumerate(bodies)]
        untouched = [
            record
            for record, entry in zip(put, entries, strict=True)
            if data[entry.offset : entry.end] == stored[entry.offset : entry.end]
        ]
        # A change of a state alone leaves its record whole, so more may come back.
        remaining = iter(given_back)
        assert all(record in remaining for record in untouched)
        remaining = iter(put)
        assert all(record in remaining for record in given_back)
        assert not spool.has_pending()
        if len(given_back) < len(bodies) and cut == 0 and not appended:
            assert spool.counts.get("corrupt_segments") or spool.counts.get("torn_tails")


# -- killed processes ------------------------------------------------------------------------------
WORKER = """
import os, random, sys
from pathlib import Path
from otelbridge import _guard
from otelbridge.exporters.spool import Owner, Spool
_guard.reraise = True
base, name = Path(sys.argv[1]), sys.argv[2]
dice = random.Random(name)
spool = Spool(base, owner=Owner("checkout", "http://collector:4318/v1/traces"), segment_bytes=2_000)
def say(text): os.write(1, (text + "\\n").encode())
number = 0
while not (base / "finished").exists():
    for _ in range(dice.randint(1, 6)):
        body = f"{name}.{number}".encode()
        number += 1
        if spool.put(body.ljust(dice.randint(20, 400), b" "), 1):
            say("put " + body.decode())
    claimed = spool.claim()
    if claimed is not None:
        with claimed:
            for record in claimed.records():
                say("sent " + record.payload.decode().strip())
                claimed.mark()
            claimed.done()
say("end")
"""


def test_killed_writers_and_senders_lose_nothing_and_repeat_only_what_was_under_way(
    tmp_path: Path,
):
    """Four processes put and send, eight are killed: all is sent, twice at most one for each."""
    dice = random.Random(8)
    started = 0

    def start() -> subprocess.Popen[str]:
        nonlocal started
        started += 1
        return subprocess.Popen(
            [sys.executable, "-c", WORKER, str(tmp_path), f"w{started}"],
            stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, cwd=ROOT,
        )  # fmt: skip

    lines: list[str] = []
    under_way: Counter[str] = Counter()
    workers = [start() for _ in range(4)]
    try:
        for _ in range(8):
            victim = workers.pop(dice.randrange(len(workers)))
            assert victim.stdout is not None
            said = [victim.stdout.readline().strip() for _ in range(dice.randint(1, 300))]
            victim.kill()
            said += victim.stdout.read().split("\n")[:-1]
            victim.communicate(timeout=50)
            lines += said
            sent = [line for line in said if line.startswith("sent ")]
            under_way.update(sent[-1:])
            workers.append(start())
        (tmp_path / "finished").touch()
        for worker in workers:
            out, error = worker.communicate(timeout=50)
            assert (worker.returncode, error) == (0, "")
            lines += out.split("\n")[:-1]
    finally:
        for worker in workers:
            worker.kill()
            worker.communicate()
    spool = Spool(tmp_path, owner=OWNER)
    lines += [f"sent {record.payload.decode().strip()}" for record in drain(spool)]
    put = {line.removeprefix("put ") for line in lines if line.startswith("put ")}
    sent_names = Counter(line for line in lines if line.startswith("sent "))
    assert len(put) > 500
    assert sorted(put - {line.removeprefix("sent ") for line in sent_names}) == []
    repeated = {line: times - 1 for line, times in sent_names.items() if times > 1}
    assert all(times <= under_way[line] for line, times in repeated.items()), repeated
    assert spool.counts.get("corrupt_segments", 0) == 0
    assert not spool.has_pending()


def test_new_files_that_others_sweep_up_are_written_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
):
    """A sibling that looks for litter takes files before their lock: nobody notices."""
    spool = Spool(tmp_path, owner=OWNER)
    real, taken = folder.create, []

    def create(directory: int, name: str) -> int | None:
        file = real(directory, name)
        if len(taken) == 3 or file is None:
            return file
        taken.append(name)
        os.unlink(name + "-new", dir_fd=directory)
        os.close(file)
        return None

    monkeypatch.setattr(folder, "create", create)
    assert spool.put(b"x", 1)
    assert len(taken) == 3
    assert caplog.records == []
    assert [record.payload for record in drain(spool)] == [b"x"]


# -- a directory that cannot be written ------------------------------------------------------------
READ_ONLY = """
import logging, os, sys
from pathlib import Path
from otelbridge import _guard
from otelbridge.exporters.spool import Owner, Spool
_guard.reraise = True
messages = []
class Keep(logging.Handler):
    def emit(self, record): messages.append(record.getMessage())
logging.getLogger("otelbridge").addHandler(Keep())
base = Path(sys.argv[1])
if os.geteuid() == 0:
    os.chown(base, 65534, 65534)
    os.setgid(65534)
    os.setuid(65534)
spool = Spool(base, owner=Owner("checkout", ""))
assert spool.put(b"before", 2)
spool.close()
home = base / spool.owner.directory_name
home.chmod(0o500)
for _ in range(3):
    spool._retry_at = 0.0
    assert not spool.put(b"x", 1)
sent = []
while claimed := spool.claim():
    sent += [record.payload for record in claimed.records()]
    claimed.done()
assert sent == [b"before"], sent
assert spool.claim() is None
print(len(messages), "memory only" in messages[0])
home.chmod(0o700)
assert spool.claim() is None and not spool.has_pending()
spool._retry_at = 0.0
assert spool.put(b"y", 1)
"""


def test_a_directory_without_the_right_to_write_is_one_warning():
    """What waits in it is still sent, once; put, send and remove warn together once.

    Modes say nothing to root, so the program gives its rights up where it has them.
    """
    base = Path(tempfile.mkdtemp(prefix="otelbridge-spool-"))
    try:
        done = subprocess.run(
            [sys.executable, "-c", READ_ONLY, str(base)],
            capture_output=True, text=True, timeout=50, cwd=ROOT, check=False,
        )  # fmt: skip
    finally:
        shutil.rmtree(base)
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout == "1 True\n"


# -- a refused configuration -----------------------------------------------------------------------
def body(*names: str) -> bytes:
    message = ExportTraceServiceRequest()
    scope = message.resource_spans.add().scope_spans.add()
    for name in names:
        scope.spans.add(name=name, trace_id=bytes(16), span_id=bytes(8))
    return message.SerializeToString()


class _NoPauses(Pauses):
    def next_seconds(self, asked: float | None = None, *, at_least: float = 0.0) -> float:
        return 0.0


@pytest.fixture
def receiver() -> Iterator[Receiver]:
    server = Receiver()
    yield server
    server.close()


def sender(receiver: Receiver, spool: Spool) -> Sender:
    return Sender(
        Delivery(receiver.endpoint),
        spool=spool,
        compression="none",
        timeout_seconds=10,
        pulse=lambda: None,
        name="the receiver",
        pauses=_NoPauses(),
    )


@pytest.mark.parametrize(
    ("status", "later_seconds", "left"),
    [(401, 24 * 3600 - 60, 2), (401, 24 * 3600 + 60, 0), (503, 100 * 24 * 3600, 2)],
)
def test_a_refused_configuration_keeps_spans_for_a_day_and_an_outage_for_ever(
    tmp_path: Path,
    receiver: Receiver,
    monkeypatch: pytest.MonkeyPatch,
    status: int,
    later_seconds: int,
    left: int,
):
    """After 24 hours of 401 spans are given up and counted; an outage may last."""
    spool = Spool(tmp_path, owner=OWNER)
    for name in ("a", "b"):
        assert spool.put(body(name), 1)
    receiver.behaviour = lambda _: (status, {}, b"")
    sending = sender(receiver, spool)
    now = time.time
    assert not sending.work_off()
    assert spool.status().spans == 2
    monkeypatch.setattr(time, "time", lambda: now() + later_seconds)
    sending.work_off()
    assert spool.status().spans == left
    assert sending.counts["dropped_expired"] == 2 - left
    assert spool.counts.get("dropped_expired", 0) == 2 - left
    receiver.behaviour = lambda _: (200, {}, b"")
    while sending.work_off():
        continue
    assert receiver.names == ["a", "b"][:left]
    sending.close()


def test_what_is_refused_for_itself_does_not_stand_in_the_way(tmp_path: Path, receiver: Receiver):
    """A span that no receiver takes, at the head of the spool of a silent service."""
    spool = Spool(tmp_path, owner=OWNER)
    for name in ("bad", "a", "b"):
        assert spool.put(body(name), 1)
        spool.close()
    assert spool.put(b"\xff no request at all", 5)
    receiver.behaviour = lambda names: (400 if "bad" in names else 200, {}, b"")
    sending = sender(receiver, spool)
    for _ in range(8):
        sending.work_off()
    assert receiver.names == ["a", "b"]
    assert sending.counts["dropped_rejected"] == 1
    sending.close()


@pytest.mark.parametrize(
    ("other", "named"),
    [
        ({"OTELBRIDGE_SPOOL_MAX_BYTES": "0"}, "SPOOL_MAX_BYTES=0"),
        ({"OTELBRIDGE_EXPORTER": "stock"}, "stock exporter"),
        ({}, ""),
    ],
)
def test_write_ahead_that_cannot_be_is_said(other: dict[str, str], named: str):
    """Whoever asks for write-ahead and switches the spool off is told."""
    read = Settings.from_env({"OTELBRIDGE_SPOOL_MODE": "write-ahead", **other})
    said = [warning for warning in read.warnings if "write-ahead has no effect" in warning]
    assert len(said) == bool(named)
    assert all(named in warning for warning in said)


def test_write_ahead_does_not_wait_for_an_endpoint_that_hangs(tmp_path: Path):
    """While a request hangs, what ends meanwhile goes to disk as ever."""
    silent = socket.create_server(("127.0.0.1", 0))
    endpoint = f"http://127.0.0.1:{silent.getsockname()[1]}/v1/traces"
    spool = Spool(tmp_path, owner=OWNER)
    processor = OtlpSpanProcessor(
        Delivery(endpoint), spool=spool, write_ahead=True, timeout_seconds=60
    )
    provider = TracerProvider(shutdown_on_exit=False)
    provider.add_span_processor(processor)
    tracer = provider.get_tracer("test")
    try:
        tracer.start_span("first").end()
        connection, _ = silent.accept()  # the worker is waiting for an answer from here on
        with connection:
            tracer.start_span("second").end()
            assert until(lambda: spool.status().spans == 2)
    finally:
        provider.shutdown()
        silent.close()


# -- directories of owners that are gone -----------------------------------------------------------
def _age(spool: Spool, seconds: float) -> None:
    then = time.time() - seconds
    os.utime(home(spool), (then, then))


def test_directories_that_were_empty_for_a_week_go(tmp_path: Path):
    """A new owner's first record tidies up; what holds anything, or is younger, stays."""
    spools = {}
    for name in ("empty", "young", "waiting", "damaged", "notes"):
        spools[name] = Spool(tmp_path, owner=Owner(name, ""))
        assert spools[name].put(b"x", 1)
        spools[name].close()
        if name not in ("waiting", "damaged"):
            assert len(drain(spools[name])) == 1
    (segment,) = home(spools["damaged"]).glob("*.spool1")
    segment.rename(segment.with_name(segment.name + "-bad"))
    (home(spools["notes"]) / "notes.txt").write_text("mine")
    (tmp_path / "documents").mkdir()
    for name, spool in spools.items():
        _age(spool, WEEK_SECONDS + (-60 if name == "young" else 60))
    assert Spool(tmp_path, owner=Owner("new", "")).put(b"x", 1)
    there = {path.name.rsplit("-", 2)[0] for path in tmp_path.iterdir()}
    assert there == {"young", "waiting", "damaged", "notes", "new", "documents"}
    assert (home(spools["notes"]) / "owner.json").exists()


def test_an_owner_whose_directory_went_works_on(tmp_path: Path):
    """A process that was silent for a week writes and sends as before, and describes itself."""
    silent, sibling = Spool(tmp_path, owner=OWNER), Spool(tmp_path, owner=OWNER)
    for spool in (silent, sibling):
        assert spool.put(b"old", 1)
        assert len(drain(spool)) == 1
    purge(tmp_path, OWNER.directory_name)
    assert found(tmp_path) == []
    assert sibling.put(b"of the sibling", 1)
    sibling.close()
    assert silent.has_pending()
    assert [record.payload for record in drain(silent)] == [b"of the sibling"]
    purge(tmp_path, OWNER.directory_name)
    assert silent.put(b"own", 1)
    assert json.loads((home(silent) / "owner.json").read_text())["service"] == "checkout"


def test_a_writer_that_comes_in_between_keeps_its_description(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    """A record put while its directory is being removed: it stays, and is still known by name."""
    spool = Spool(tmp_path, owner=OWNER)
    assert spool.put(b"old", 1)
    assert len(drain(spool)) == 1
    described = (home(spool) / "owner.json").read_bytes()
    real = os.rmdir

    def rmdir(*args: object, **options: object) -> None:
        assert spool.put(b"new", 1)
        real(*args, **options)  # type: ignore[arg-type]

    monkeypatch.setattr(os, "rmdir", rmdir)
    assert not tidy.remove_if_empty(tmp_path, OWNER.directory_name)
    assert (home(spool) / "owner.json").read_bytes() == described
    assert [record.payload for record in drain(spool)] == [b"new"]


def test_looking_for_work_makes_no_directory(tmp_path: Path):
    """A master that asks before it gives its rights up leaves nothing its workers cannot use."""
    spool = Spool(tmp_path / "spool", owner=OWNER)
    assert not spool.has_pending()
    assert spool.claim() is None
    spool.close()
    assert list(tmp_path.iterdir()) == []
