"""Checks of the spool: each state of the directory, and what the doctor says of it."""

from __future__ import annotations

import os
import time
from pathlib import Path

import pytest

from otelbridge.doctor import run as runner
from otelbridge.doctor import spool_checks
from otelbridge.doctor.findings import Context, Finding
from otelbridge.exporters.spool import Owner, Spool

ENDPOINT = "http://127.0.0.1:4318/v1/traces"


@pytest.fixture(autouse=True)
def plain_machine(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """No container around us, and one disk; the file can be rewritten as another machine's."""
    mounts = tmp_path / "mountinfo"
    mounts.write_text("21 1 8:1 / / rw - ext4 /dev/sda1 rw\n")
    monkeypatch.setattr(spool_checks, "_MOUNTS", mounts)
    monkeypatch.setattr(spool_checks, "_CONTAINER_MARKS", ())
    return mounts


def found(base: Path, **more: str) -> dict[str, Finding]:
    environment = {"OTEL_SERVICE_NAME": "rag", "OTELBRIDGE_SPOOL_DIR": str(base), **more}
    environment.setdefault("OTEL_EXPORTER_OTLP_ENDPOINT", "http://127.0.0.1:4318")
    context = Context.of(environment, Path("/nowhere"))
    context.network = False
    return {one.code: one for one in runner.run(context, only=("spool",))}


def left_behind(
    base: Path, monkeypatch: pytest.MonkeyPatch, *, hours: float = 1.0, endpoint: str = ENDPOINT,
    max_bytes: int = 1 << 20, puts: int = 1,
) -> Spool:  # fmt: skip
    """A spool whose process ended so long ago."""
    ago_ns = time.time_ns() - int(hours * 3600e9)
    with monkeypatch.context() as patch:
        patch.setattr(time, "time_ns", lambda: ago_ns)
        spool = Spool(base, owner=Owner("rag", endpoint), max_bytes=max_bytes)
        for _ in range(puts):
            assert spool.put(os.urandom(20_000), 7)
        spool.close()
    return spool


def test_a_good_directory(tmp_path: Path) -> None:
    """One that is not there yet can be made; nothing else is said."""
    assert set(found(tmp_path / "a" / "b")) == {"spool-good"}
    assert not (tmp_path / "a").exists()


def test_other_exporters_have_no_spool(tmp_path: Path) -> None:
    """With the stock exporter, the console or none, nothing is said about the directory."""
    assert found(tmp_path, OTELBRIDGE_EXPORTER="stock") == {}
    assert found(tmp_path, OTEL_TRACES_EXPORTER="none") == {}
    assert set(found(tmp_path, OTELBRIDGE_SPOOL_MAX_BYTES="0")) == {"spool-off"}


def test_a_directory_that_cannot_be_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A file in its place, and a directory of somebody else."""
    (tmp_path / "file").write_text("")
    below_a_file = found(tmp_path / "file" / "spool")["spool-unwritable"]
    assert "is no directory" in below_a_file.evidence
    monkeypatch.setattr(os, "access", lambda path, mode: False)  # root may write anywhere
    assert "may not be written" in found(tmp_path)["spool-unwritable"].evidence


@pytest.mark.parametrize(
    ("mounts", "variables"),
    [
        ("21 1 8:1 / / rw - ext4 d rw\n22 21 0:5 / {base} rw shared:1 - tmpfs tmpfs rw\n", {}),
        ("21 1 0:9 / / rw - overlay overlay rw\n", {"KUBERNETES_SERVICE_HOST": "10.0.0.1"}),
    ],
    ids=["memory", "container"],
)
def test_a_directory_that_goes(
    plain_machine: Path, tmp_path: Path, mounts: str, variables: dict[str, str]
) -> None:
    """Memory, and a container's own layer, are named; a volume in the container is good."""
    base = tmp_path / "spool"
    plain_machine.write_text(mounts.format(base=base))
    assert set(found(base, **variables)) == {"spool-ephemeral"}
    plain_machine.write_text(f"{mounts.format(base=base)}23 21 8:2 / {base} rw - ext4 d rw\n")
    assert set(found(base, **variables)) == {"spool-good"}


def test_spans_that_nobody_sends(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Old ones of this endpoint, and of one that is no longer set; young ones are no finding."""
    left_behind(tmp_path / "young", monkeypatch, hours=0.01)
    assert set(found(tmp_path / "young")) == {"spool-good"}
    left_behind(tmp_path, monkeypatch, hours=3, puts=2)
    waiting = found(tmp_path)["spool-waiting"]
    assert "14 span(s) of rag have waited for 180 min" in waiting.what
    assert ENDPOINT in waiting.evidence
    moved = found(tmp_path, OTEL_EXPORTER_OTLP_ENDPOINT="http://127.0.0.1:9999")
    assert {"spool-other-endpoint", "spool-waiting"} & set(moved) == {"spool-other-endpoint"}


def test_what_another_service_left_is_a_note(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The fault is one of the service it belongs to; others hear of it."""
    left_behind(tmp_path, monkeypatch, hours=3)
    assert found(tmp_path)["spool-waiting"].level == "warning"
    assert found(tmp_path, OTEL_SERVICE_NAME="shop")["spool-waiting"].level == "note"


def test_a_full_spool_and_lost_spans(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Nearly at the cap, and what was dropped there."""
    left_behind(tmp_path, monkeypatch, hours=0.01, puts=5)
    full = found(tmp_path, OTELBRIDGE_SPOOL_MAX_BYTES="110000")
    assert "spool-full" in full
    left_behind(tmp_path, monkeypatch, hours=0.01, max_bytes=200_000, puts=40)
    lost = found(tmp_path, OTELBRIDGE_SPOOL_MAX_BYTES="200000")
    assert "were dropped" in lost["spool-dropped"].what


def test_damaged_files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A file that a process set aside is named with its place."""
    spool = left_behind(tmp_path, monkeypatch, hours=0.01)
    (segment,) = (tmp_path / spool.owner.directory_name).glob("*.spool1")
    data = bytearray(segment.read_bytes())
    data[-5000:-4000] = bytes(1000)
    segment.write_bytes(data)
    reader = Spool(tmp_path, owner=Owner("rag", ENDPOINT))
    claimed = reader.claim()
    if claimed is not None:
        with claimed:
            assert list(claimed.records()) == []
            claimed.done()
    assert "spool1-bad" in found(tmp_path)["spool-damaged"].evidence
