"""The spool within one process: what goes in comes out, once, in order, below the cap."""

from __future__ import annotations

import errno
import gzip
import json
import os
import signal
import stat
import threading
import time
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from otelbridge.exporters.spool import Claimed, Owner, Record, Spool, found, records, survey

OWNER = Owner("checkout", "http://collector:4318/v1/traces")


@pytest.fixture
def spool(tmp_path: Path) -> Spool:
    return Spool(tmp_path / "spool", owner=OWNER)


def home(spool: Spool) -> Path:
    return spool.base / spool.owner.directory_name


def segments(spool: Spool) -> list[Path]:
    return sorted(home(spool).glob("*.spool1"))


def drain(spool: Spool) -> list[Record]:
    drained: list[Record] = []
    while claimed := spool.claim():
        drained += claimed.records()
        claimed.done()
    return drained


def payloads(spool: Spool) -> list[bytes]:
    return [record.payload for record in drain(spool)]


def test_what_is_put_is_claimed_in_order_with_its_description(spool: Spool):
    """Payload, spans and compression come back; a sent spool is empty."""
    body = gzip.compress(b"second")
    assert spool.put(b"first", 3)
    assert spool.put(body, 4, gzipped=True)
    assert spool.has_pending()
    assert drain(spool) == [Record(b"first", 3, False), Record(body, 4, True)]
    assert not spool.has_pending()
    assert segments(spool) == []
    assert spool.counts == {
        "spooled_spans": 7, "spooled_records": 2, "sent_spans": 7, "sent_records": 2,
    }  # fmt: skip


def test_nothing_is_touched_before_the_first_put(spool: Spool):
    """A master that only configures makes no directory that its workers cannot use."""
    assert not spool.base.exists()
    assert spool.status().segments == 0
    assert not spool.base.exists()


def test_directory_and_files_are_for_their_user_alone(spool: Spool):
    """0700 and 0600 whatever the umask is; a wider mode of the directory is taken back."""
    old = os.umask(0)
    try:
        assert spool.put(b"x", 1)
    finally:
        os.umask(old)
    assert stat.S_IMODE(spool.base.stat().st_mode) == 0o700
    assert stat.S_IMODE(home(spool).stat().st_mode) == 0o700
    assert {stat.S_IMODE(path.stat().st_mode) for path in home(spool).iterdir()} == {0o600}
    spool.close()
    home(spool).chmod(0o755)
    assert spool.put(b"y", 1)
    assert stat.S_IMODE(home(spool).stat().st_mode) == 0o700


def test_owners_in_one_directory_are_kept_apart(tmp_path: Path):
    """Another service, endpoint, account or kind never gets these spans."""
    owners = [
        OWNER,
        Owner("search", OWNER.endpoint),
        Owner("checkout", "http://other:4318/v1/traces"),
        Owner("checkout", OWNER.endpoint, account="pk-lf-1"),
        Owner("checkout", OWNER.endpoint, kind="scores"),
    ]
    spools = [Spool(tmp_path, owner=owner) for owner in owners]
    for number, spool in enumerate(spools):
        assert spool.put(str(number).encode(), 1)
    assert len(found(tmp_path)) == len(owners)
    assert [payloads(spool) for spool in spools] == [[b"0"], [b"1"], [b"2"], [b"3"], [b"4"]]


def test_neither_passwords_nor_accounts_are_written_beside_the_segments(tmp_path: Path):
    """The description names service and endpoint; a password in the URL stays out of it."""
    owner = Owner("../../etc/passwd", "http://me:hunter2@c:4318/v1/traces", account="pk-lf-77")
    spool = Spool(tmp_path, owner=owner)
    assert spool.put(b"x", 1)
    (directory,) = tmp_path.iterdir()
    described = json.loads((directory / "owner.json").read_text())
    assert described["service"] == "../../etc/passwd"
    assert "hunter2" not in str(described) + directory.name
    assert "pk-lf-77" not in str(described) + directory.name
    assert survey(tmp_path, directory.name).owner == described


def test_a_segment_is_sealed_at_its_size(tmp_path: Path):
    """Segments stay small; a record larger than one gets a segment of its own."""
    spool = Spool(tmp_path, owner=OWNER, segment_bytes=1000)
    sizes = [300, 300, 300, 5000, 10]
    for size in sizes:
        assert spool.put(bytes(size), 1)
    assert len(segments(spool)) == 3
    assert [len(payload) for payload in payloads(spool)] == sizes


def test_marked_records_are_not_given_again(spool: Spool):
    """What was answered before an interruption is not sent twice."""
    for number in range(4):
        spool.put(b"%d" % number, 1)
    with spool.claim() as claimed:
        assert isinstance(claimed, Claimed)
        assert claimed.spans == 4
        remaining = claimed.records()
        next(remaining)
        claimed.mark()
        next(remaining)
        claimed.mark(dropped="rejected")
        next(remaining)
        assert claimed.records_left == 2
    assert spool.status().records == 2
    assert payloads(spool) == [b"2", b"3"]
    assert spool.counts["dropped_rejected"] == 1
    assert spool.counts["sent_spans"] == 3


def test_a_segment_whose_records_are_all_marked_is_gone_after_keep(spool: Spool):
    """Nothing is left on disk of what was delivered one by one."""
    spool.put(b"a", 1)
    with spool.claim() as claimed:
        for _ in claimed.records():
            claimed.mark()
    assert segments(spool) == []


def test_a_claim_that_is_lost_is_free_again(spool: Spool):
    """A sender that forgets its claim does not lock the data away."""
    spool.put(b"a", 1)
    claimed = spool.claim()
    assert claimed is not None
    assert spool.claim() is None
    del claimed
    assert payloads(spool) == [b"a"]


def test_what_is_put_and_claimed_is_nobody_elses_until_kept(tmp_path: Path):
    """Stored before it is sent (write-ahead): others take over only what was not sent."""
    mine, other = Spool(tmp_path, owner=OWNER), Spool(tmp_path, owner=OWNER)
    assert mine.put(b"sent", 2)
    assert other.claim() is None
    sent = mine.claim()
    assert mine.put(b"kept", 3)
    kept = mine.claim()
    assert sent is not None
    assert kept is not None
    assert mine.status().spans == 5
    assert other.claim() is None
    assert [record.payload for record in sent.records()] == [b"sent"]
    sent.done()
    kept.keep()
    assert payloads(other) == [b"kept"]
    assert mine.counts["sent_spans"] == 2


def test_the_cap_drops_the_oldest_and_counts_it(tmp_path: Path, caplog: pytest.LogCaptureFixture):
    """Never more than the cap on disk, the newest survive, what is gone is counted in spans."""
    cap = 50_000
    spool = Spool(tmp_path, owner=OWNER, max_bytes=cap, segment_bytes=5_000)
    for number in range(200):
        assert spool.put(b"%03d" % number + bytes(997), 2)
        assert sum(path.stat().st_size for path in segments(spool)) <= cap
    kept = [int(payload[:3]) for payload in payloads(spool)]
    assert kept == list(range(200 - len(kept), 200))
    assert len(kept) >= 40
    assert spool.counts["dropped_cap"] == 2 * (200 - len(kept))
    assert spool.status().dropped_spans == 2 * (200 - len(kept))
    assert [record.message for record in caplog.records if "OTELBRIDGE_SPOOL_MAX" in record.message]
    assert len(caplog.records) == 1


def test_the_cap_takes_this_process_s_own_segment_if_it_is_the_oldest(tmp_path: Path):
    """A single segment that fills the spool gives way as well."""
    spool = Spool(tmp_path, owner=OWNER, max_bytes=3_000, segment_bytes=3_000)
    for number in range(5):
        assert spool.put(b"%d" % number + bytes(1200), 1)
    assert [payload[:1] for payload in payloads(spool)] == [b"4"]
    assert spool.counts["dropped_cap"] == 4


def test_what_can_never_fit_is_refused(tmp_path: Path):
    """A body above the cap is no reason to drop everything else."""
    spool = Spool(tmp_path, owner=OWNER, max_bytes=3_000)
    assert spool.put(b"small", 1)
    assert not spool.put(bytes(3_000), 9)
    assert spool.counts["refused_too_large"] == 9
    assert payloads(spool) == [b"small"]


def test_a_spool_full_of_claimed_segments_refuses(tmp_path: Path, caplog):
    """What is being sent is not pulled away from its sender to make room."""
    spool = Spool(tmp_path, owner=OWNER, max_bytes=3_000)
    assert spool.put(bytes(2_000), 1)
    claimed = spool.claim()
    assert claimed is not None
    assert not spool.put(bytes(2_000), 5)
    assert spool.counts["refused_full"] == 5
    claimed.done()
    assert spool.put(bytes(2_000), 5)
    assert len(caplog.records) == 1


@pytest.mark.parametrize("jump_seconds", [-3600, 3600, -4_000_000_000])
def test_a_clock_that_jumps_changes_neither_order_nor_age(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, jump_seconds: int
):
    """Segments keep the order in which they were begun; an age is never negative."""
    spool = Spool(tmp_path, owner=OWNER, segment_bytes=10)
    spool.put(b"1", 1)
    real_ns, real = time.time_ns, time.time
    with monkeypatch.context() as patch:
        patch.setattr(time, "time_ns", lambda: max(0, real_ns() + jump_seconds * 10**9))
        patch.setattr(time, "time", lambda: max(0.0, real() + jump_seconds))
        spool.put(b"2", 1)
        age_seconds = spool.status().oldest_age_seconds
        assert age_seconds is not None
        assert age_seconds >= 0
    spool.put(b"3", 1)
    assert payloads(spool) == [b"1", b"2", b"3"]


def test_a_directory_removed_under_us_is_made_again(spool: Spool):
    """Somebody who tidies up costs what they removed and nothing after it."""
    assert spool.put(b"gone", 1)
    for path in home(spool).iterdir():
        path.unlink()
    home(spool).rmdir()
    assert spool.put(b"new", 1)
    for path in segments(spool):
        path.unlink()
    assert spool.put(b"newest", 1)
    assert payloads(spool) == [b"newest"]


def test_threads_share_a_spool(tmp_path: Path):
    """Puts and claims of several threads meet; each record comes out once."""
    spool = Spool(tmp_path, owner=OWNER, segment_bytes=2_000)
    out: list[bytes] = []
    finished = threading.Event()

    def writer(name: int) -> None:
        for number in range(100):
            assert spool.put(b"%d-%d" % (name, number), 1)

    def reader() -> None:
        while True:
            last = finished.is_set()
            claimed = spool.claim()
            if claimed is not None:
                out.extend(record.payload for record in claimed.records())
                claimed.done()
            elif last:
                return

    writers = [threading.Thread(target=writer, args=(name,)) for name in range(4)]
    readers = [threading.Thread(target=reader) for _ in range(2)]
    for thread in writers + readers:
        thread.start()
    for thread in writers:
        thread.join()
    finished.set()
    for thread in readers:
        thread.join()
    out += payloads(spool)
    assert sorted(out) == sorted(b"%d-%d" % (a, b) for a in range(4) for b in range(100))


def test_a_signal_handler_inside_put_may_use_the_spool(
    spool: Spool, monkeypatch: pytest.MonkeyPatch
):
    """SIGTERM while a record is written: puts and claims of the handler neither hang nor harm."""
    seen: list[object] = []

    def handler(*_: object) -> None:
        seen.append(spool.put(b"handler", 1))
        seen.append(spool.claim())
        spool.close()

    real = records.encode
    spool.put(b"before", 1)
    original = signal.signal(signal.SIGUSR1, handler)
    write = os.pwrite

    def interrupted(*args: object) -> int:
        if not seen:
            seen.append("signal")
            os.kill(os.getpid(), signal.SIGUSR1)
        return write(*args)  # type: ignore[arg-type]

    try:
        monkeypatch.setattr(os, "pwrite", interrupted)
        assert spool.put(b"interrupted", 1)
    finally:
        signal.signal(signal.SIGUSR1, original)
    assert records.encode is real
    assert seen == ["signal", True, None]
    assert sorted(payloads(spool)) == [b"before", b"handler", b"interrupted"]


def test_fsync_follows_the_policy(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """`always` syncs each put, `never` none, `interval` when it is due or asked for."""
    synced: list[int] = []
    monkeypatch.setattr(os, "fsync", synced.append)

    def syncs(action) -> int:
        before = len(synced)
        action()
        return len(synced) - before

    always = Spool(tmp_path, owner=Owner("a", ""), fsync="always")
    never = Spool(tmp_path, owner=Owner("n", ""), fsync="never")
    interval = Spool(tmp_path, owner=Owner("i", ""), fsync="interval")
    assert syncs(lambda: always.put(b"1", 1)) == 2  # the file and its name
    assert syncs(lambda: always.put(b"2", 1)) == 1
    assert syncs(lambda: (never.put(b"1", 1), never.sync(), never.close())) == 0
    assert syncs(lambda: interval.put(b"1", 1)) == 0
    assert syncs(interval.sync) == 2
    assert syncs(interval.sync) == 0
    assert syncs(lambda: interval.put(b"2", 1)) == 0
    assert syncs(interval.close) == 1
    # Write-ahead: nothing for what is sent at once, the disk for what stays.
    assert syncs(lambda: payloads(interval)) == 0
    assert syncs(lambda: interval.put(b"3", 1)) == 0
    assert syncs(lambda: payloads(interval)) == 0
    assert syncs(lambda: interval.put(b"4", 1)) == 0
    claimed = interval.claim()
    assert claimed is not None
    assert syncs(interval.sync) == 2
    assert syncs(claimed.keep) == 0


# -- damage ----------------------------------------------------------------------------------------
def test_a_segment_cut_at_any_byte_gives_every_whole_record(tmp_path: Path):
    """A writer killed anywhere in a write costs the record that it was writing, silently."""
    spool = Spool(tmp_path, owner=OWNER)
    bodies = [b"", b"one", b"\xf5\x0bOR" * 5, bytes(40), b"last" * 9]
    for body in bodies:
        assert spool.put(body, 1)
    spool.close()
    (path,) = segments(spool)
    whole = path.read_bytes()
    ends = [entry.end for entry in records.scan(whole).entries]
    assert len(ends) == len(bodies)
    for length in range(len(whole) + 1):
        path.write_bytes(whole[:length])
        path.chmod(0o600)
        assert payloads(spool) == bodies[: sum(end <= length for end in ends)]
        assert list(home(spool).glob("*-bad")) == []
        assert segments(spool) == []


def test_a_damaged_segment_is_set_aside_and_the_rest_of_it_sent(
    spool: Spool, caplog: pytest.LogCaptureFixture
):
    """One flipped byte costs one record; the file stays for inspection; one warning for all."""
    for round_number in range(2):
        for number in range(3):
            assert spool.put(b"record %d" % number * 10, 1)
        spool.close()
        (path,) = segments(spool)
        data = bytearray(path.read_bytes())
        data[data.index(b"record 1") + 3] ^= 0x40
        path.write_bytes(data)
        assert payloads(spool) == [b"record 0" * 10, b"record 2" * 10]
        assert len(list(home(spool).glob("*-bad"))) == round_number + 1
    assert spool.status().set_aside == 2
    assert spool.counts["corrupt_segments"] == 2
    assert len(caplog.records) == 1
    assert "set aside" in caplog.text
    assert not spool.has_pending()


def test_a_file_of_rubbish_is_set_aside(spool: Spool, caplog: pytest.LogCaptureFixture):
    """A segment without one whole record is never given to a sender."""
    spool.put(b"x", 1)
    spool.close()
    (path,) = segments(spool)
    path.write_bytes(os.urandom(500))
    assert spool.claim() is None
    assert spool.status().set_aside == 1
    assert "set aside" in caplog.text


def test_damage_after_the_claim_is_noticed_too(spool: Spool):
    """A record is checked again when it is read."""
    spool.put(b"first", 1)
    spool.put(b"second", 1)
    claimed = spool.claim()
    assert claimed is not None
    path = home(spool) / claimed.name
    path.write_bytes(path.read_bytes().replace(b"first", b"fi?st"))
    assert [record.payload for record in claimed.records()] == [b"second"]
    claimed.done()
    assert spool.status().set_aside == 1
    assert spool.counts["dropped_damaged"] == 1


def test_a_disk_that_cannot_be_read_is_no_endless_loop(
    spool: Spool, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
):
    """A segment with a read error is set aside, not taken for sent and not tried for ever."""
    spool.put(b"first", 3)
    claimed = spool.claim()
    assert claimed is not None

    def broken(*_: object) -> bytes:
        raise OSError(errno.EIO, "Input/output error")

    with monkeypatch.context() as patch:
        patch.setattr(os, "pread", broken)
        assert list(claimed.records()) == []
    claimed.keep()
    assert spool.claim() is None
    assert spool.status().set_aside == 1
    assert spool.counts["dropped_damaged"] == 3
    assert "sent_spans" not in spool.counts
    assert len(caplog.records) == 2


def test_set_aside_files_count_against_the_cap_and_go_first(tmp_path: Path):
    """Evidence does not crowd out data."""
    spool = Spool(tmp_path, owner=OWNER, max_bytes=10_000, segment_bytes=3_000)
    spool.put(bytes(2_000), 1)
    spool.close()
    (path,) = segments(spool)
    path.write_bytes(os.urandom(2_000))
    assert spool.claim() is None
    for _ in range(4):
        assert spool.put(bytes(2_300), 1)
    assert spool.status().set_aside == 0
    assert spool.status().bytes <= 10_000
    assert spool.counts.get("dropped_cap", 0) == 0


@settings(max_examples=150, suppress_health_check=[HealthCheck.too_slow])
@given(
    bodies=st.lists(st.binary(max_size=60), min_size=1, max_size=6),
    damage=st.lists(st.tuples(st.integers(0, 10_000), st.integers(1, 255)), min_size=1, max_size=4),
    cut=st.integers(0, 40),
)
def test_records_away_from_the_damage_survive_it(
    bodies: list[bytes], damage: list[tuple[int, int]], cut: int
):
    """Bytes changed anywhere: untouched records come back unchanged, nothing else comes back."""
    whole = records.MAGIC + b"".join(records.encode(body, 1, gzipped=False) for body in bodies)
    entries = records.scan(whole).entries
    data = bytearray(whole)
    for position, change in damage:
        data[position % len(data)] ^= change
    length = max(0, len(data) - cut)
    broken = bytes(data[:length])
    survivors = [
        body
        for body, entry in zip(bodies, entries, strict=True)
        if entry.end <= length
        and broken[entry.offset : entry.end] == whole[entry.offset : entry.end]
    ]
    scanned = records.scan(broken)
    seen = [broken[entry.payload_offset : entry.end] for entry in scanned.pending]
    # A change of the state alone leaves a record whole, so more than the untouched may come back.
    remaining = iter(seen)
    assert all(body in remaining for body in survivors)
    assert all(body in bodies for body in seen)
    if len(scanned.entries) < len(bodies):
        assert scanned.torn or scanned.damaged_bytes or length in [0, 8, *(e.end for e in entries)]


@settings(max_examples=100, suppress_health_check=[HealthCheck.too_slow])
@given(st.binary(max_size=300))
def test_any_bytes_can_be_scanned(data: bytes):
    """No file content makes the reader fail."""
    for prefix in (b"", records.MAGIC):
        scanned = records.scan(prefix + data)
        assert scanned.damaged_bytes <= len(prefix + data)
        assert sum(entry.payload_bytes for entry in scanned.entries) <= len(data)


def test_a_torn_tail_of_zeros_is_no_damage():
    """After a power cut a file may have its length and not its bytes."""
    whole = records.MAGIC + records.encode(b"body", 1, gzipped=False)
    scanned = records.scan(whole + bytes(100))
    assert (len(scanned.entries), scanned.torn, scanned.damaged_bytes) == (1, True, 0)
    assert records.scan(bytes(100)) == records.Scan((), True, 0)


def test_two_that_look_at_once_both_see_everything(tmp_path: Path) -> None:
    """The worker and whoever reads the counts list the directory at the same time."""
    spool = Spool(tmp_path, owner=Owner("svc", "http://e"))
    assert spool.put(b"x" * 100, 1)
    seen: list[bool] = []

    def look() -> None:
        seen.extend(spool.usage()[0] > 0 and spool.has_pending() for _ in range(2_000))

    threads = [threading.Thread(target=look) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert all(seen)
    assert len(seen) == 8_000
