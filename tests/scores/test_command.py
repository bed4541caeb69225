"""`otelbridge score`."""

from __future__ import annotations

import json

import pytest

from otelbridge.cli import main
from otelbridge.langfuse.score_body import Target, score_id
from otelbridge.settings import Settings
from tests.langfuse.stand_in import StandIn

TRACE = "0af7651916cd43dd8448eb211c80319c"


@pytest.fixture(autouse=True)
def no_spans(monkeypatch: pytest.MonkeyPatch) -> None:
    """No Collector is looked for."""
    monkeypatch.setenv("OTEL_TRACES_EXPORTER", "none")


def test_a_score_from_the_shell(
    stand_in: StandIn, settings: Settings, capsys: pytest.CaptureFixture[str]
) -> None:
    """Numbers, booleans and categories; the id is that of the program's own score."""
    assert main(["score", "quality", "0.5", "--trace", TRACE, "--comment", "fine"]) == 0
    assert capsys.readouterr().out.strip() == score_id(Target(TRACE), "quality")
    assert main(["score", "ok", "true", "--session", "s-1"]) == 0
    assert main(["score", "tone", "3", "--trace", TRACE, "--type", "categorical"]) == 0
    found = {one["name"]: one for one in stand_in.scores.values()}
    assert [found[name]["value"] for name in ("quality", "ok", "tone")] == [0.5, 1, "3"]
    assert found["ok"]["sessionId"] == "s-1"


def test_a_request_is_looked_up(
    stand_in: StandIn, settings: Settings, capsys: pytest.CaptureFixture[str]
) -> None:
    """A known request is scored; an unknown one is told, exit 1."""
    stand_in.area("observations", []).append(
        {"traceId": TRACE, "startTime": "2999-01-01T00:00:00Z", "metadata": {"request_id": "r-1"}}
    )
    assert main(["score", "quality", "1", "--request", "r-1", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["delivered"] is True
    assert [one["traceId"] for one in stand_in.scores.values()] == [TRACE]
    assert main(["score", "quality", "1", "--request", "r-2"]) == 1
    assert "r-2" in capsys.readouterr().err


def test_an_outage_leaves_it_in_the_spool(
    stand_in: StandIn, settings: Settings, capsys: pytest.CaptureFixture[str]
) -> None:
    """Exit 1 and a sentence; `spool replay` sends it."""
    stand_in.down()
    assert main(["score", "quality", "1", "--trace", TRACE, "--wait", "1"]) == 1
    assert "spool" in capsys.readouterr().err
    stand_in.up()
    assert main(["spool", "replay"]) == 0
    assert len(stand_in.scores) == 1


@pytest.mark.parametrize(
    "words",
    [["quality"], ["quality", "1"], ["quality", "1", "--trace", TRACE, "--session", "s"],
     ["", "1", "--trace", TRACE], ["quality", "1", "--trace", TRACE, "--type", "float"],
     ["quality", "1", "--trace", "order-17"], ["quality", "1", "--trace", TRACE, "--span", "xx"],
     ["quality", "1", "--session", "s", "--span", "b7ad6b7169203331"],
     ["quality", "nan", "--trace", TRACE], ["ok", "fine", "--trace", TRACE, "--type", "numeric"]],
)  # fmt: skip
def test_bad_usage_is_2(words: list[str], settings: Settings) -> None:
    """What is missing or wrong in the words."""
    assert main(["score", *words]) == 2


def test_without_keys_it_says_which(capsys: pytest.CaptureFixture[str]) -> None:
    """The command needs Langfuse's keys."""
    assert main(["score", "quality", "1", "--trace", TRACE]) == 2
    assert "LANGFUSE_PUBLIC_KEY" in capsys.readouterr().err
