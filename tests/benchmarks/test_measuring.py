"""The measuring scripts at a size for every change: they run, and their results are whole.

Figures at this size mean nothing, but for the encoder's ratio: a loaded machine leaves it alone.
"""

from __future__ import annotations

import json
import subprocess
import urllib.request

import pytest

from benchmarks import _peers, encoder, imports, overhead, table
from benchmarks._results import ROOT
from benchmarks._sink import Sink
from otelbridge.exporters.encoding import SpanEncoder, request


def result(folder, name):
    """A result file, with what every one must say."""
    found = json.loads((folder / f"{name}.json").read_text(encoding="utf-8"))
    assert found["machine"]["cores"] >= 1
    assert found["packages"]["opentelemetry-sdk"]
    assert len(found["load_average"]) == 3
    assert found["rows"]
    assert all(row["what"] and row["figure"] for row in found["rows"])
    return found


def test_encoding_costs_less_than_the_official_encoder(tmp_path):
    """The own encoder takes clearly less processor time for the same spans, large and small."""
    encoder.main(["--spans", "300", "--rounds", "7", "--results", str(tmp_path)])
    found = result(tmp_path, "encoder")
    for shape in encoder.SHAPES:
        assert found[shape]["spans"] == 300
        assert found[shape]["ratio"]["median"] < 0.8, found[shape]


def test_an_encoder_that_says_something_else_is_noticed():
    """Bodies are compared span by span before anything is timed."""
    spans, ours = encoder.ended_spans("small", 10), SpanEncoder()
    whole = request([ours.encode(span) for span in spans])
    assert encoder.same_meaning(whole, request([ours.encode(span) for span in spans[::-1]]))
    assert not encoder.same_meaning(whole, request([ours.encode(span) for span in spans[1:]]))


@pytest.mark.timeout(120)
def test_overhead_measures_arms_whose_spans_all_arrive(tmp_path):
    """Each arm runs in a process of its own, and every span it made was received once."""
    size = ["--rounds", "1", "--requests", "4", "--warm-up", "2", "--no-peers"]
    overhead.main(["chat", *size, "--results", str(tmp_path)])
    found = result(tmp_path, "overhead_chat")
    assert found["void"] == {}
    assert set(found["arms"]) == {"stock", "bare", "exporter", "otelbridge"}
    sizes = {arm: figures["plain_bytes"]["median"] for arm, figures in found["arms"].items()}
    assert sizes["otelbridge"] == pytest.approx(sizes["stock"], rel=0.03)  # the same spans
    assert sizes["bare"] < sizes["stock"]
    for figures in found["arms"].values():
        assert figures["cpu_us"]["median"] > 0
        assert figures["thread_us"]["median"] > 0
        assert figures["plain_bytes"]["median"] > figures["wire_bytes"]["median"] > 0
    assert {bar["what"] for bar in found["bars"]} == {"cpu/stock", "thread/stock"}
    assert found["skipped"] == "--no-peers"


@pytest.mark.parametrize(
    ("code", "output", "reason"),
    [
        (0, '{"spans": 10, "cpu_us": 1.0, "thread_us": 1.0, "wall_us": 1.0}', "0 of 10 spans"),
        (1, "", "ended with 1"),
    ],
)
def test_an_arm_that_loses_spans_has_no_figure(monkeypatch, tmp_path, code, output, reason):
    """What did not arrive, or did not run, is named instead of measured, and misses the bar."""
    done = subprocess.CompletedProcess([], code, stdout=output, stderr="")
    monkeypatch.setattr(overhead.subprocess, "run", lambda *_, **__: done)
    assert not overhead.measure("chat", overhead.Size(rounds=2), None, "", tmp_path)
    found = json.loads((tmp_path / "overhead_chat.json").read_text(encoding="utf-8"))
    assert reason in found["void"]["stock"]
    assert found["arms"] == {}
    assert found["rows"] == []


def test_the_sink_counts_spans_by_their_ids():
    """A request that comes twice is seen as such, and a look empties the sink."""
    ours = SpanEncoder()
    body = request([ours.encode(span) for span in encoder.ended_spans("small", 10)])
    with Sink() as sink:
        for _ in range(2):
            post = urllib.request.Request(f"{sink.url}/v1/traces", data=body, method="POST")
            with urllib.request.urlopen(post, timeout=10) as answer:
                assert answer.status == 200
        received = sink.take()
        assert (received.spans, received.twice, received.requests) == (10, 10, 2)
        assert received.wire_bytes == received.plain_bytes == 2 * len(body)
        assert sink.take().spans == 0


@pytest.mark.timeout(120)
def test_imports_are_measured_in_fresh_interpreters(tmp_path):
    """Every arm has its time, and the ratio is taken from them."""
    imports.main(["--rounds", "1", "--no-peers", "--results", str(tmp_path)])
    found = result(tmp_path, "imports")
    assert set(found["milliseconds"]) == set(imports.ARMS)
    assert all(arm["median"] > 0 for arm in found["milliseconds"].values())
    assert found["ratio"]["median"] > 0.5  # importing otelbridge imports the SDK as well


def test_peers_that_cannot_be_installed_are_skipped_with_the_reason(monkeypatch, tmp_path):
    """Nothing half installed stays behind, and what pip said last is the reason."""
    requirements = tmp_path / "requirements.txt"
    requirements.write_text("no-such-package==1\n", encoding="utf-8")

    def run(command, **_):
        if "venv" in command:
            (tmp_path / "cache" / command[-1]).mkdir(parents=True)
            return subprocess.CompletedProcess(command, 0)
        said = "Looking\nERROR: No matching distribution found for no-such-package==1\n"
        raise subprocess.CalledProcessError(1, command, stderr=said)

    monkeypatch.setattr(_peers.subprocess, "run", run)
    with pytest.raises(_peers.PeersMissingError, match="No matching distribution"):
        _peers.peers_python(requirements, tmp_path / "cache")
    assert list((tmp_path / "cache").iterdir()) == []


def test_the_table_goes_between_the_markers_and_nowhere_else(tmp_path):
    """Only what stands between the markers changes; a second run changes nothing."""
    row = {"what": "A thing", "figure": "1 ms", "bar": ""}
    one = {
        "date": "2026-01-02T00:00:00+00:00", "python": "3.11.7", "packages": {"otelbridge": "9"},
        "machine": {"cpu": "C", "cores": 2, "memory_gib": 4.2}, "rows": [row],
    }  # fmt: skip
    (tmp_path / "a.json").write_text(json.dumps(one), encoding="utf-8")
    (tmp_path / "b.json").write_text(json.dumps({**one, "rows": []}), encoding="utf-8")
    page = tmp_path / "page.md"
    page.write_text(f"before\n{table.BEGIN}\nold\n{table.END}\nafter\n", encoding="utf-8")
    for _ in range(2):
        assert table.main(["--results", str(tmp_path), "--readme", str(page)]) == 0
        text = page.read_text(encoding="utf-8")
        assert text.startswith(f"before\n{table.BEGIN}\n2026-01-02, C, 2 cores, 4 GiB, Python")
        assert text.endswith(f"| A thing | 1 ms | {table.NONE} |\n{table.END}\nafter\n")
        assert "old" not in text


def test_no_results_and_no_markers_are_said(tmp_path, capsys):
    """Without a result or a place for the table nothing is written, and the exit status is 1."""
    page = tmp_path / "page.md"
    page.write_text("no markers\n", encoding="utf-8")
    assert table.main(["--results", str(tmp_path), "--readme", str(page)]) == 1
    assert "make bench" in capsys.readouterr().err
    with pytest.raises(table.NoTableError, match="once each"):
        table.written(page.read_text(encoding="utf-8"), "table")


def test_the_readme_has_a_place_for_the_table():
    """`make bench-table` can write its table into this README."""
    assert "new table" in table.written(
        (ROOT / "README.md").read_text(encoding="utf-8"), "new table"
    )
