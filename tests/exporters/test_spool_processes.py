"""The spool between real processes: killed writers and senders, forks, a disk that refuses."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from otelbridge.exporters.spool import Owner, Spool, folder, records

ROOT = Path(__file__).parents[2]
OWNER = Owner("checkout", "http://collector:4318/v1/traces")
PREAMBLE = """
import os, sys, time
from pathlib import Path
from otelbridge import _guard
from otelbridge.exporters.spool import Owner, Spool
_guard.reraise = True
OWNER = Owner("checkout", "http://collector:4318/v1/traces")
BASE = Path(sys.argv[1])
def say(text): os.write(1, (text + "\\n").encode())
"""
WRITER = (
    PREAMBLE
    + """
spool = Spool(BASE, owner=OWNER, segment_bytes=20_000)
name, count = sys.argv[2], int(sys.argv[3])
for number in range(count):
    body = f"{name}-{number}-".encode() + bytes(50 + number * 37 % 2000)
    if spool.put(body, 1):
        say(f"{name}-{number}")
"""
)
READER = (
    PREAMBLE
    + """
spool = Spool(BASE, owner=OWNER)
while True:
    last = (BASE / "finished").exists()
    claimed = spool.claim()
    if claimed is None:
        if last:
            break
        time.sleep(0.002)
        continue
    for record in claimed.records():
        say(record.payload.rstrip(b"\\0").rstrip(b"-").decode())
        claimed.mark()
    claimed.done()
"""
)

Start = Callable[..., "subprocess.Popen[str]"]


@pytest.fixture
def start(tmp_path: Path) -> Iterator[Start]:
    """Starts a program with the spool directory and words as arguments; ends it after the test."""
    started: list[subprocess.Popen[str]] = []

    def run(code: str, *words: object, base: Path | None = None) -> subprocess.Popen[str]:
        process = subprocess.Popen(
            [sys.executable, "-c", code, str(base or tmp_path), *map(str, words)],
            stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, cwd=ROOT,
        )  # fmt: skip
        started.append(process)
        return process

    yield run
    for process in started:
        process.kill()
        process.communicate()


def finished(process: subprocess.Popen[str]) -> list[str]:
    out, error = process.communicate(timeout=50)
    assert (process.returncode, error) == (0, "")
    return out.split()


def names(spool: Spool) -> list[str]:
    """What is in a spool, emptied."""
    seen = []
    while claimed := spool.claim():
        seen += [record.payload.rstrip(b"\0").rstrip(b"-").decode() for record in claimed.records()]
        claimed.done()
    return seen


def test_writers_and_senders_of_several_processes_meet_each_record_once(
    tmp_path: Path, start: Start
):
    """Three writers and three senders at once: nothing lost, nothing twice."""
    readers = [start(READER) for _ in range(3)]
    writers = [start(WRITER, f"w{number}", 150) for number in range(3)]
    written = [name for writer in writers for name in finished(writer)]
    (tmp_path / "finished").touch()
    read = [name for reader in readers for name in finished(reader)]
    assert len(written) == 450
    assert Counter(read) == Counter(written)
    assert Spool(tmp_path, owner=OWNER).status().bytes == 0


def test_a_writer_killed_at_any_moment_loses_nothing_that_was_answered(
    tmp_path: Path, start: Start
):
    """kill -9 in the middle of puts: every record that `put` said yes to is there, whole."""
    lost, total = [], 0
    for round_number in range(8):
        writer = start(WRITER, f"r{round_number}", 100_000)
        assert writer.stdout is not None
        answered = [writer.stdout.readline().strip() for _ in range(1 + round_number * 23)]
        writer.kill()
        answered += writer.stdout.read().split()
        writer.wait(timeout=20)
        seen = names(Spool(tmp_path, owner=OWNER))
        assert len(seen) == len(set(seen))
        assert len(seen) <= len(answered) + 1  # the put that was under way
        lost += sorted(set(answered) - set(seen))
        total += len(answered)
    assert total > 100
    assert lost == []


def test_a_sender_that_is_killed_frees_its_claim(tmp_path: Path, start: Start):
    """No stale lock: the next process sends what was left, without what was answered already."""
    spool = Spool(tmp_path, owner=OWNER)
    for number in range(5):
        assert spool.put(b"%d" % number, 1)
    spool.close()
    sender = start(
        PREAMBLE + "spool = Spool(BASE, owner=OWNER)\n"
        "claimed = spool.claim()\n"
        "remaining = claimed.records()\n"
        "next(remaining); claimed.mark(); next(remaining); claimed.mark()\n"
        "say('claimed')\n"
        "sys.stdin.read() or time.sleep(60)\n"
    )
    assert sender.stdout is not None
    assert sender.stdout.readline() == "claimed\n"
    assert spool.claim() is None
    sender.kill()
    sender.wait(timeout=20)
    assert names(spool) == ["2", "3", "4"]


def test_write_ahead_survives_the_death_of_its_process(tmp_path: Path, start: Start):
    """A body that was on its way when the process died is there for the next one."""
    writer = start(
        PREAMBLE + "spool = Spool(BASE, owner=OWNER)\n"
        "assert spool.put(b'on its way', 7)\nclaimed = spool.claim()\n"
        "say('stored')\nos.kill(os.getpid(), 9)\n"
    )
    writer.communicate(timeout=20)
    assert writer.returncode == -signal.SIGKILL
    spool = Spool(tmp_path, owner=OWNER)
    assert spool.status().spans == 7
    assert names(spool) == ["on its way"]


def test_an_unfinished_file_of_a_dead_writer_is_taken_up(tmp_path: Path):
    """A writer killed before its segment got its name leaves records or nothing, never litter."""
    spool = Spool(tmp_path, owner=OWNER)
    assert spool.put(b"x", 1)
    spool.close()
    (segment,) = (tmp_path / OWNER.directory_name).glob("*.spool1")
    segment.rename(segment.with_name(segment.name + "-new"))
    empty = segment.with_name(segment.name.replace("-", "-9", 1) + "-new")
    empty.touch(0o600)
    assert names(spool) == ["x"]
    assert [path.name for path in segment.parent.iterdir()] == ["owner.json"]


def test_a_forked_child_starts_empty_handed(tmp_path: Path, start: Start):
    """Children write files of their own, and their end frees no lock of the parent."""
    done = start(
        PREAMBLE
        + """
spool = Spool(BASE, owner=OWNER)
spool.put(b"held", 1)
held = spool.claim()
spool.put(b"parent-1", 1)
for child in range(3):
    if os.fork() == 0:
        assert spool.counts == {}, spool.counts
        # The parent is writing one and sending the other.
        assert child or spool.claim() is None
        assert spool.put(b"child-%d" % child, 1)
        os._exit(0)
    assert os.wait()[1] == 0
say(f"{len(list((BASE / OWNER.directory_name).glob('*.spool1')))}")
pid = os.fork()
if pid == 0:
    time.sleep(60)
    os._exit(0)
spool.put(b"parent-2", 1)
spool.close()
held.keep()
other = Spool(BASE, owner=OWNER)
seen = []
while claimed := other.claim():
    seen += [record.payload.decode() for record in claimed.records()]
    claimed.done()
os.kill(pid, 9)
os.wait()
say(",".join(seen))
"""
    )
    files, seen = finished(done)
    assert files == "5"
    assert seen == "held,parent-1,parent-2,child-0,child-1,child-2"


def test_a_child_that_kept_its_copies_holds_no_lock(start: Start):
    """A fork that ran no hooks: what the parent lets go is free while the child lives."""
    done = start(
        PREAMBLE
        + """
import weakref
from otelbridge.exporters.spool import queue
spool = Spool(BASE, owner=OWNER)
spool.put(b"held", 1)
held = spool.claim()
spool.put(b"written", 1)
queue._spools = weakref.WeakSet()
pid = os.fork()
if pid == 0:
    time.sleep(60)
    os._exit(0)
spool.close()
held.keep()
other = Spool(BASE, owner=OWNER)
first, second = other.claim(), other.claim()
say(f"{first.spans + second.spans}")
os.kill(pid, 9)
os.wait()
"""
    )
    assert finished(done) == ["2"]


def test_processes_make_room_one_at_a_time_and_wait_for_nobody_long(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    """Listing and writing are one step for others; a stopped process stops no other."""
    spool = Spool(tmp_path, owner=OWNER)
    assert spool.put(b"1", 1)
    other = os.open(tmp_path / OWNER.directory_name, os.O_RDONLY)
    listed: list[bool] = []
    real = folder.files

    def files(directory: int) -> list[folder.File]:
        listed.append(folder.lock(other))
        return real(directory)

    try:
        with monkeypatch.context() as patch:
            patch.setattr(folder, "files", files)
            assert Spool(tmp_path, owner=OWNER).put(b"2", 1)
        assert listed == [False]
        assert folder.lock(other)
        started = time.monotonic()
        assert Spool(tmp_path, owner=OWNER).put(b"3", 1)
        assert time.monotonic() - started < 2
    finally:
        os.close(other)


def test_the_cap_holds_over_processes(tmp_path: Path, start: Start):
    """Four writers against one cap: never more on disk, and every record is there or counted."""
    cap = 300_000
    code = PREAMBLE + (
        f"spool = Spool(BASE, owner=OWNER, max_bytes={cap})\n"
        "say('begun')\n"
        "for number in range(150):\n"
        "    assert spool.put(bytes(4_000), 1)\n"
        "say(str(spool.counts.get('dropped_cap', 0)))\n"
    )
    writers = [start(code) for _ in range(4)]
    home = tmp_path / OWNER.directory_name
    largest = 0
    while any(writer.poll() is None for writer in writers):
        if home.exists():
            sizes = 0
            for path in home.glob("*-*.spool1*"):
                try:
                    sizes += path.stat().st_size
                except FileNotFoundError:
                    continue
            largest = max(largest, sizes)
    dropped = 0
    for writer in writers:
        out, error = writer.communicate(timeout=50)
        assert writer.returncode == 0, error
        dropped += int(out.split()[1])
    status = Spool(tmp_path, owner=OWNER).status()
    assert status.bytes <= cap
    assert status.spans + dropped == 600
    assert status.dropped_spans == dropped
    # A listing is no snapshot: between two of its files one may be dropped and another grow.
    assert cap / 2 < largest <= cap * 1.2


# -- a disk that refuses ---------------------------------------------------------------------------
def test_a_file_size_limit_costs_nothing_but_what_does_not_fit(tmp_path: Path, start: Start):
    """A write that fails half-way leaves the segment as it was, with one warning."""
    done = start(
        PREAMBLE
        + """
import logging, resource
messages = []
class Keep(logging.Handler):
    def emit(self, record): messages.append(record.getMessage())
logging.getLogger("otelbridge").addHandler(Keep())
resource.setrlimit(resource.RLIMIT_FSIZE, (10_000, 10_000))
spool = Spool(BASE, owner=OWNER)
answers = []
for _ in range(6):
    answers.append(int(spool.put(bytes(3_000), 1)))
spool._retry_at = 0.0
answers.append(int(spool.put(b"small", 1)))
say("".join(map(str, answers)))
say(str(spool.counts["refused_unwritable"]))
say(str(len(messages)))
say(str(os.stat(next((BASE / OWNER.directory_name).glob("*.spool1"))).st_size))
"""
    )
    answers, refused, warnings, size = finished(done)
    assert answers == "1110001"
    assert (refused, warnings) == ("3", "1")
    each = records.HEADER_BYTES + 3_000
    assert int(size) == len(records.MAGIC) + 3 * each + records.HEADER_BYTES + len(b"small")
    assert len(names(Spool(tmp_path, owner=OWNER))) == 4


@pytest.fixture
def tiny_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of 256 KiB."""
    place = tmp_path / "tiny"
    place.mkdir()
    mount = shutil.which("mount")
    if mount is None or os.geteuid() != 0:
        pytest.skip("mounting a small file system needs root")
    tried = subprocess.run(
        [mount, "-t", "tmpfs", "-o", "size=256k", "none", str(place)],
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    if tried.returncode:
        pytest.skip(f"no small file system here: {tried.stderr.strip()}")
    yield place
    subprocess.run(["umount", "-l", str(place)], check=True)


def test_a_full_disk_is_one_warning_and_heals(tiny_disk: Path, caplog: pytest.LogCaptureFixture):
    """Bodies are refused while the disk is full, what is stored stays whole, and it goes on."""
    spool = Spool(tiny_disk, owner=OWNER)
    answers = []
    for number in range(12):
        spool._retry_at = 0.0  # instead of waiting for the next try
        answers.append(spool.put(b"%02d" % number + bytes(40_000), 1))
    stored = sum(answers)
    assert 4 <= stored <= 6
    assert answers == sorted(answers, reverse=True)
    assert len(caplog.records) == 1
    assert "cannot be used" in caplog.text
    assert "memory only" in caplog.text
    assert names(spool) == [f"{number:02d}" for number in range(stored)]
    spool._retry_at = 0.0
    assert spool.put(bytes(40_000), 1)
    assert spool.counts["refused_unwritable"] == 12 - stored


def test_a_read_only_disk_is_one_warning(tiny_disk: Path, caplog: pytest.LogCaptureFixture):
    """Nothing can be stored or claimed, and nothing raises; what was there is still counted."""
    spool = Spool(tiny_disk, owner=OWNER)
    assert spool.put(b"before", 2)
    spool.close()
    subprocess.run(["mount", "-o", "remount,ro", str(tiny_disk)], check=True)
    try:
        for _ in range(3):
            spool._retry_at = 0.0
            assert not spool.put(b"x", 1)
        assert spool.claim() is None
        assert spool.status().spans == 2
        assert spool.counts["refused_unwritable"] == 3
        assert [r.message for r in caplog.records if "memory only" in r.message]
        assert len(caplog.records) == 1  # one cause, whatever it hinders
    finally:
        subprocess.run(["mount", "-o", "remount,rw", str(tiny_disk)], check=True)
    assert names(spool) == ["before"]


def _file(place: Path) -> None:
    place.write_text("not a directory")


def _dangling(place: Path) -> None:
    place.symlink_to(place.with_name("nowhere") / "deep")


def _file_for_owner(place: Path) -> None:
    place.mkdir()
    (place / OWNER.directory_name).write_text("")


def _link_for_owner(place: Path) -> None:
    place.mkdir()
    target = place.with_name("elsewhere")
    target.mkdir()
    (place / OWNER.directory_name).symlink_to(target)


@pytest.mark.parametrize("spoil", [_file, _dangling, _file_for_owner, _link_for_owner])
def test_a_directory_that_cannot_be_one_is_one_warning(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, spoil: Callable[[Path], None]
):
    """A file, or a link to somewhere else, in place of the directory: memory only."""
    place = tmp_path / "spool"
    spoil(place)
    spool = Spool(place, owner=OWNER)
    for _ in range(3):
        spool._retry_at = 0.0
        assert not spool.put(b"x", 1)
    assert spool.claim() is None
    spool.close()
    assert not spool.has_pending()
    assert len(caplog.records) == 1
    assert list(tmp_path.glob("elsewhere/*")) == []


@pytest.mark.skipif(os.geteuid() != 0, reason="giving a file away needs root")
def test_another_user_s_directory_is_not_used(tmp_path: Path, caplog: pytest.LogCaptureFixture):
    """Whoever prepared a directory under our name gets nothing."""
    (tmp_path / OWNER.directory_name).mkdir(mode=0o777)
    os.chown(tmp_path / OWNER.directory_name, 12345, 12345)
    spool = Spool(tmp_path, owner=OWNER)
    assert not spool.put(b"secret", 1)
    assert list((tmp_path / OWNER.directory_name).iterdir()) == []
    assert "another user" in caplog.text


def test_links_and_pipes_in_place_of_segments_are_left_alone(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
):
    """No link is followed, a second name is no segment, a pipe does not hold us up."""
    spool = Spool(tmp_path, owner=OWNER)
    assert spool.put(b"mine", 1)
    spool.close()
    home = tmp_path / OWNER.directory_name
    (segment,) = home.glob("*.spool1")
    kept = segment.read_bytes()
    victims = [tmp_path / "linked", tmp_path / "named twice"]
    for victim in victims:
        victim.write_bytes(kept)
    (home / f"{1:020d}-1-{'a' * 12}.spool1").symlink_to(victims[0])
    os.link(victims[1], home / f"{2:020d}-1-{'b' * 12}.spool1")
    os.mkfifo(home / f"{3:020d}-1-{'c' * 12}.spool1")
    (home / f"{4:020d}-1-{'d' * 12}.spool1").mkdir()
    assert spool.status().records == 1
    assert names(spool) == ["mine"]
    assert [victim.read_bytes() for victim in victims] == [kept, kept]
    assert len(caplog.records) == 1
    assert "left alone" in caplog.text


def test_status_of_a_running_spool_is_seen_from_outside(tmp_path: Path, start: Start):
    """Another process counts what is being written without disturbing it."""
    writer = start(WRITER + "\nsay('end'); sys.stdin.read() or time.sleep(60)", "w", 20)
    assert writer.stdout is not None
    while writer.stdout.readline() != "end\n":
        pass
    status = Spool(tmp_path, owner=OWNER).status()
    assert (status.records, status.spans) == (20, 20)
    assert status.owner["service"] == "checkout"
    assert json.dumps(status.owner)
