"""Runs over a dataset: traces, links, scores, evaluators, and Langfuse away in the middle."""

from __future__ import annotations

import json
import logging
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from otelbridge import chat
from otelbridge.errors import ConfigError, OtelbridgeError
from otelbridge.langfuse import active, runs, scores
from otelbridge.langfuse.datasets import DatasetItem, experiment_id, run_dataset
from otelbridge.langfuse.evaluation import Evaluation, JudgeError, call_evaluator, judge
from otelbridge.settings import Settings
from tests.langfuse.recording import Recording
from tests.langfuse.stand_in import StandIn

EXPERIMENT = "langfuse.experiment."
QUESTIONS = [
    {"id": "i1", "input": {"q": "1+1"}, "expectedOutput": "2", "metadata": {"level": "easy"}},
    {"id": "i2", "input": {"q": "2+2"}, "expectedOutput": "4"},
    {"id": "i3", "input": {"q": "x"}, "expectedOutput": "?"},
    {"id": "old", "input": {"q": "gone"}, "status": "ARCHIVED"},
]


@pytest.fixture(params=["v3", "v4"])
def langfuse(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[StandIn]:
    """A stand-in of each generation with the dataset `sums`, as the active project."""
    with StandIn(request.param) as stand_in:
        stand_in.area("datasets")["sums"] = [dict(item) for item in QUESTIONS]
        settings = Settings.from_env(
            {**stand_in.environment, "OTELBRIDGE_SPOOL_DIR": str(tmp_path / "spool")}
        )
        active.use(settings)
        scores.use(settings)
        yield stand_in
        scores.stop(5)
        active.use(None)


def solve(question: dict[str, str]) -> str:
    with chat("gpt-4o", provider="openai", messages=question["q"]):
        return str(eval(question["q"], {"__builtins__": {}}))


def exact(output: str, expected_output: str) -> bool:
    return output == expected_output


def test_every_item_is_run_judged_and_linked(langfuse: StandIn) -> None:
    """Three items: two right, one that raises; each has its trace, scores and link."""
    recording = Recording()
    given = {"run_name": "first", "metadata": {"model": "gpt-4o"}, "max_workers": 1}
    run = run_dataset("sums", solve, [exact], **given)
    assert [item.item_id for item in run.items] == ["i1", "i2", "i3"]
    assert [item.output for item in run.items] == ["2", "4", None]
    assert run.mean("exact") == 1.0
    assert [item.item_id for item in run.failed] == ["i3"]
    assert run.items[2].error.startswith("NameError")
    assert len({item.trace_id for item in run.items}) == 3
    assert scores.flush_scores(10)
    judged = {(s["traceId"], s["observationId"]): s["value"] for s in langfuse.scores.values()}
    assert judged == {(i.trace_id, i.span_id): 1 for i in run.items[:2]}

    expected_id = experiment_id("p-stand-in", "ds-sums", "first")
    for item in run.items:
        mine = [s for s in recording.spans if f"{s.context.trace_id:032x}" == item.trace_id]
        assert {s.name for s in mine} >= {"dataset item", "run item", "chat gpt-4o"}
        for span in mine:
            attributes = span.attributes
            assert attributes[EXPERIMENT + "name"] == "first", span.name
            assert attributes[EXPERIMENT + "id"] == expected_id
            assert attributes[EXPERIMENT + "item.id"] == item.item_id
            assert attributes[EXPERIMENT + "dataset.id"] == "ds-sums"
            assert json.loads(attributes[EXPERIMENT + "metadata"]) == {"model": "gpt-4o"}
            assert attributes[EXPERIMENT + "item.root_observation_id"] == item.span_id, span.name
            assert attributes["langfuse.environment"] == "sdk-experiment"
            assert attributes["langfuse.trace.name"] == "first"
    linked = {row["datasetItemId"]: row for row in langfuse.area("run_items", [])}
    if langfuse.generation == "v3":
        assert {key: row["traceId"] for key, row in linked.items()} == {
            item.item_id: item.trace_id for item in run.items
        }
        assert run.id == "run-first"
    else:
        assert run.id == expected_id
        assert not langfuse.requests("/api/public/dataset-run-items"), "v4 answers and forgets it"


def test_the_run_goes_on_when_langfuse_goes_away(
    langfuse: StandIn, caplog: pytest.LogCaptureFixture
) -> None:
    """After the items are read the network is cut: all items run, scores wait on disk."""
    Recording()

    def last_call(question: dict[str, str]) -> str:
        if langfuse._running is not None:
            langfuse.down()
        return solve({"q": "1+1"})

    with caplog.at_level(logging.WARNING):
        run = run_dataset("sums", last_call, [exact], max_workers=1, run_name="cut")
    assert [item.output for item in run.items] == ["2", "2", "2"]
    assert run.mean("exact") == pytest.approx(1 / 3)
    assert ("could not be linked" in caplog.text) == (langfuse.generation == "v3")
    assert not langfuse.scores
    langfuse.up()
    deadline = time.monotonic() + 40
    while len(langfuse.scores) < 3:  # the sender rests before it tries again
        assert time.monotonic() < deadline
        scores.flush_scores(1)


def test_what_cannot_run_is_said(langfuse: StandIn) -> None:
    """An unknown dataset, an empty one, no keys: an error before anything runs."""
    langfuse.area("datasets")["empty"] = []
    with pytest.raises(OtelbridgeError, match="knows no dataset 'nowhere'"):
        run_dataset("nowhere", solve)
    with pytest.raises(OtelbridgeError, match="no active items"):
        run_dataset("empty", solve)
    with pytest.raises(ValueError, match="max_workers"):
        run_dataset("sums", solve, max_workers=0)
    active.use(Settings.from_env({}))
    with pytest.raises(ConfigError, match="LANGFUSE_PUBLIC_KEY"):
        run_dataset("sums", solve)


def test_items_run_side_by_side_in_traces_of_their_own(langfuse: StandIn) -> None:
    """With three workers three items are open at once, none below the caller's span."""
    recording = Recording()
    together = threading.Barrier(3, timeout=20)

    async def meet(item: DatasetItem) -> str:
        together.wait()
        return item.id

    with chat("caller", provider="openai"):
        run = run_dataset("sums", meet, max_workers=3, run_name="side")
    assert [item.output for item in run.items] == ["i1", "i2", "i3"]
    roots = [span for span in recording.spans if span.name == "dataset item"]
    assert all(span.parent is None for span in roots)


def test_own_items_failed_evaluators_and_run_scores(langfuse: StandIn) -> None:
    """Items of the program, an evaluator that raises, one of several scores, one of the run."""
    Recording()

    def broken(output: str) -> float:
        raise KeyError("no")

    def several(*, output: str, **_: Any) -> list[Any]:
        return [Evaluation(0.25, "short", "why"), {"name": "tone", "value": "kind"}]

    def share(run: runs.Run) -> float:
        return run.mean("short")

    items = [DatasetItem("i1", "a"), DatasetItem("i2", "b")]
    run = run_dataset(
        "sums", str.upper, [broken, several], items=items, run_name="own", run_evaluators=[share]
    )
    assert [item.output for item in run.items] == ["A", "B"]
    assert run.items[0].scores == {"short": 0.25, "tone": "kind"}
    assert run.items[0].failed_evaluators == {"broken": "KeyError: 'no'"}
    assert scores.flush_scores(10)
    found = sorted((s["name"], s["value"], "datasetRunId" in s) for s in langfuse.scores.values())
    assert found == [
        ("share", 0.25, True), ("short", 0.25, False), ("short", 0.25, False),
        ("tone", "kind", False), ("tone", "kind", False),
    ]  # fmt: skip


def test_a_run_is_saved_and_loaded(tmp_path: Path) -> None:
    """A file keeps all of it; another file is refused."""
    item = runs.RunItem("i1", "t", "s", {"a": 1}, "", 0.5, {"exact": 1.0, "tone": "kind"}, {})
    run = runs.Run("first", "sums", [item], "id", "url")
    run.save(tmp_path / "run.json")
    assert runs.load(tmp_path / "run.json") == run
    assert run.samples() == {"i1": {"error": 0.0, "latency_seconds": 0.5, "score:exact": 1.0}}
    (tmp_path / "other.json").write_text('{"format": "else"}')
    for name in ("other.json", "missing.json"):
        with pytest.raises(OtelbridgeError, match="no saved run"):
            runs.load(tmp_path / name)


@pytest.mark.parametrize(
    "reply",
    [
        '{"score": 0.8, "reason": "fine"}',
        'Sure!\n```json\n{"score": "0.8", "reason": "fine"}\n```',
        {"choices": [
            {"message": {"role": "assistant", "content": '{"score":0.8,"reason":"fine"}'}}]},
        {"type": "message", "role": "assistant", "content": [
            {"type": "text", "text": '{"score":0.8,"reason":"fine"}'}]},
    ],
)  # fmt: skip
def test_a_judge_reads_what_models_reply(reply: Any) -> None:
    """Text, text with a fence, OpenAI's and Anthropic's answers; sync and async."""
    asked: list[Any] = []

    def ask(messages: list[dict[str, Any]]) -> Any:
        asked.append(messages)
        return reply

    async def ask_later(messages: list[dict[str, Any]]) -> Any:
        return reply

    given = {"input": {"q": 1}, "output": "2", "expected_output": None}
    for one in (ask, ask_later):
        (found,) = call_evaluator(judge(one, criteria="short", name="quality"), given)
        assert found == Evaluation(0.8, "quality", "fine")
    assert "short" in asked[0][0]["content"]
    assert '{"q": 1}' in asked[0][0]["content"]
    assert "{{" not in asked[0][0]["content"]


@pytest.mark.parametrize("reply", ["no idea", '{"score": 7}', '{"score": null}', "{broken}", 5])
def test_a_judge_without_a_score_fails(reply: Any) -> None:
    """It gives no score at all, rather than a 0 that nobody meant."""
    with pytest.raises(JudgeError):
        call_evaluator(judge(lambda _: reply), {"output": "x"})


def test_langfuses_own_evaluators_fit() -> None:
    """The SDK's `Evaluation` and its keyword-only style are read; something else is refused."""
    from langfuse import Evaluation as Theirs

    def theirs(*, input: Any, output: Any, expected_output: Any = None, **kwargs: Any) -> Any:
        return Theirs(name="accuracy", value=1.0, comment="right")

    assert call_evaluator(theirs, {"input": 1, "output": 2}) == [
        Evaluation(1.0, "accuracy", "right")
    ]
    with pytest.raises(TypeError, match="no evaluation"):
        call_evaluator(lambda output: object(), {"output": 1})
    assert call_evaluator(lambda output: None, {"output": 1}) == []
