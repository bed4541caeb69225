"""`otelbridge prompts`, and the stand-in's answers as Langfuse's own client reads them."""

from __future__ import annotations

import io
import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from otelbridge.cli import main
from otelbridge.langfuse import active
from otelbridge.langfuse.client import LangfuseApi
from otelbridge.langfuse.prompts import create_prompt, get_prompt
from otelbridge.settings import Settings
from tests.langfuse.stand_in import StandIn


@pytest.fixture
def langfuse(tmp_path: Path) -> Iterator[StandIn]:
    with StandIn("v4") as stand_in:
        directory = {"OTELBRIDGE_PROMPTS_DIR": str(tmp_path / "copies")}
        active.use(Settings.from_env({**stand_in.environment, **directory}))
        yield stand_in
        active.use(None)


def test_create_label_roll_back(
    langfuse: StandIn,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """A prompt's life by commands: two versions, labels, back to the first."""
    file = tmp_path / "greet.txt"
    file.write_text("Hello {{name}}\n")
    create = ["prompts", "create", "greet", str(file), "--label", "production", "--tag", "t"]
    assert main([*create, "--config", '{"model": "m"}', "--message", "first"]) == 0
    monkeypatch.setattr("sys.stdin", io.StringIO("Hi {{name}}"))
    assert main(["prompts", "create", "greet", "-"]) == 0
    assert "greet: version 2" in capsys.readouterr().out
    assert main(["prompts", "label", "greet", "2", "production", "beta"]) == 0
    assert main(["prompts", "get", "greet"]) == 0
    assert capsys.readouterr().out.endswith("Hi {{name}}\n")
    assert main(["prompts", "rollback", "greet"]) == 0
    assert "production went from version 2 to 1" in capsys.readouterr().out
    assert main(["prompts", "get", "greet", "--json"]) == 0
    answer = json.loads(capsys.readouterr().out)
    assert (answer["version"], answer["config"], answer["commitMessage"]) == (
        1,
        {"model": "m"},
        "first",
    )
    assert main(["prompts", "list"]) == 0
    assert "greet  text  versions 1, 2" in capsys.readouterr().out
    assert main(["prompts", "list", "--json", "--label", "beta"]) == 0
    assert json.loads(capsys.readouterr().out)[0]["versions"] == [2]


def test_a_json_list_is_a_chat_prompt(
    langfuse: StandIn, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """A file with messages becomes a chat prompt; text that begins with a bracket stays text."""
    file = tmp_path / "chat.json"
    file.write_text('[{"role": "user", "content": "{{q}}"}]')
    assert main(["prompts", "create", "ask", str(file), "--label", "production"]) == 0
    assert get_prompt("ask").compile(q="why") == [{"role": "user", "content": "why"}]
    file.write_text("[sic] {{q}}")
    assert main(["prompts", "create", "text", str(file)]) == 0
    assert main(["prompts", "get", "text", "--version", "1"]) == 0
    assert capsys.readouterr().out.endswith("[sic] {{q}}\n")


@pytest.mark.parametrize(
    ("words", "status", "said"),
    [
        (["get", "none"], 1, "knows no prompt 'none'"),
        (["rollback", "one"], 1, "no version before 1"),
        (["list", "--tag", "none"], 1, "lists none"),
        (["label", "one", "1", "latest"], 2, "latest"),
        (["label", "one", "nought", "x"], 2, "nought"),
        (["create", "one", "/nowhere/file"], 2, "cannot be read"),
        (["create", "one", "-", "--config", "[]"], 2, "JSON object"),
        (["get", "one", "--version", "0"], 2, "0"),
        ([], 2, "required"),
    ],
)
def test_exit_status_says_what_happened(
    langfuse: StandIn,
    words: list[str],
    status: int,
    said: str,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """1: there is no such thing; 2: the command or the set-up is wrong."""
    create_prompt("one", "x", labels=["production"])
    assert main(["prompts", *words]) == status
    assert said in capsys.readouterr().err


def test_no_answer_and_no_keys_are_errors(
    langfuse: StandIn, capsys: pytest.CaptureFixture[str]
) -> None:
    """Exit 2, with the address or the variables that are missing."""
    langfuse.down()
    assert main(["prompts", "list"]) == 2
    assert langfuse.url in capsys.readouterr().err
    langfuse.up()
    active.use(Settings.from_env({}))
    assert main(["prompts", "list"]) == 2
    assert "LANGFUSE_PUBLIC_KEY" in capsys.readouterr().err


def test_langfuses_own_client_reads_the_stand_in(langfuse: StandIn) -> None:
    """Its models accept every answer that these tests lean on, and the SDK gets the same prompt."""
    from datetime import UTC, datetime

    created = create_prompt("p", "Hello {{name}}", labels=["production"], config={"a": 1})
    create_prompt("c", [{"role": "user", "content": "x"}, {"type": "placeholder", "name": "h"}])
    langfuse.area("datasets")["sums"] = [{"id": "i1", "input": {"q": 1}, "expectedOutput": "2"}]
    langfuse.scores["s"] = {"id": "s", "traceId": "a" * 32, "observationId": "b" * 16,
                            "name": "n", "value": 1.0}  # fmt: skip
    langfuse.area("experiment_items", []).append({
        "id": "b" * 16, "traceId": "a" * 32, "startTime": "2026-11-21T12:00:00Z",
        "level": "DEFAULT", "environment": "default", "experimentId": "e",
        "experimentName": "run", "experimentItemId": "i1",
    })  # fmt: skip
    with LangfuseApi(active.current().langfuse) as api:
        text = api.call("get", lambda client: client.prompts.get("p"))
        assert (text.version, text.prompt, text.config) == (
            created.version,
            created.prompt,
            {"a": 1},
        )
        chat = api.call("get", lambda client: client.prompts.get("c", label="latest"))
        assert chat.prompt[1].name == "h"
        listed = api.call("list", lambda client: client.prompts.list())
        assert [one.name for one in listed.data] == ["c", "p"]
        moved = api.call(
            "patch", lambda client: client.prompt_version.update("p", 1, new_labels=["beta"])
        )
        assert set(moved.labels) == {"production", "latest", "beta"}
        dataset = api.call("dataset", lambda client: client.datasets.get("sums"))
        items = api.call("items", lambda client: client.dataset_items.list(dataset_name="sums"))
        assert (dataset.id, items.data[0].input) == ("ds-sums", {"q": 1})
        if hasattr(api.client, "experiments"):  # of 5.0
            start = datetime(2026, 11, 1, tzinfo=UTC)
            rows = api.call(
                "experiment",
                lambda c: c.experiments.list_items(from_start_time=start, experiment_name="run"),
            )
            assert rows.data[0].experiment_item_id == "i1"
            scores = api.call("scores", lambda c: c.scores.get_many(fields="subject"))
            assert scores.data[0].subject.trace_id == "a" * 32


@pytest.mark.parametrize(
    ("words", "told"),
    [(["prompts", "label", "greet", "x", "beta"], "a whole number from 1"),
     (["prompts", "create", "greet", "-", "--config", "{bad"], "a JSON object is needed"),
     (["experiment", "report", "e", "--from", "yesterday"], "ISO 8601"),
     (["experiment", "report", "e", "--max-drop", "much"], "0.05")],
)  # fmt: skip
def test_a_wrong_word_is_told_with_what_is_allowed(
    words: list[str], told: str, capsys: pytest.CaptureFixture[str]
) -> None:
    """Usage errors say what is allowed, not which function refused."""
    assert main(words) == 2
    message = capsys.readouterr().err
    assert told in message
    assert "invalid _" not in message
