"""The examples of docs/prompts.md and docs/experiments.md run, against the stand-in."""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

import otelbridge
from otelbridge.cli import build_parser
from otelbridge.langfuse import active, scores
from otelbridge.langfuse.prompts import create_prompt
from otelbridge.settings import Settings
from tests.langfuse.recording import Recording
from tests.langfuse.stand_in import StandIn

DOCS = Path(__file__).parents[2] / "docs"


def text_of(page: str) -> str:
    return (DOCS / page).read_text(encoding="utf-8")


@pytest.fixture
def names(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[dict[str, Any]]:
    """What the examples take for granted."""
    monkeypatch.chdir(tmp_path)
    with StandIn("v4") as langfuse:
        environment = {"OTELBRIDGE_PROMPTS_DIR": "off", "OTELBRIDGE_SPOOL_DIR": str(tmp_path)}
        settings = Settings.from_env({**langfuse.environment, **environment})
        active.use(settings)
        scores.use(settings)
        for number in range(8):
            labels = ["production", "short"] if number == 6 else []
            create_prompt("support/answer", f"{number}: {{{{question}}}}", labels=labels)
        item = {"id": "i1", "input": {"text": "Why?"}, "expectedOutput": "Because."}
        langfuse.area("datasets")["support-questions"] = [item]
        create = lambda **_: {  # noqa: E731
            "choices": [{"message": {"role": "assistant", "content": '{"score": 1}'}}]
        }
        completions = SimpleNamespace(completions=SimpleNamespace(create=create))
        yield {
            "otelbridge": otelbridge, "client": SimpleNamespace(chat=completions),
            "question": "Why?", "user": SimpleNamespace(id="u-1"),
            "my_service": SimpleNamespace(answer=lambda text: "Because."),
        }  # fmt: skip
        scores.stop(5)
        active.use(None)


def test_the_examples_run(names: dict[str, Any], capsys: pytest.CaptureFixture[str]) -> None:
    """Page by page, block after block, in one namespace."""
    recording = Recording()
    for page, count in (("prompts.md", 2), ("experiments.md", 2)):
        found = re.findall(r"^```python\n(.*?)^```", text_of(page), re.DOTALL | re.MULTILINE)
        assert len(found) == count
        for block in found:
            exec(compile(block, page, "exec"), names)
    assert names["choice"] in ("control", "short")
    run = names["run"]
    assert (run.mean("exact"), run.mean("quality")) == (1.0, 1.0)
    assert "1.0" in capsys.readouterr().out
    linked = [s for s in recording.spans if "gen_ai.prompt.name" in (s.attributes or {})]
    assert linked[0].attributes is not None
    assert linked[0].attributes["gen_ai.prompt.version"] == "7"


def test_the_commands_are_understood() -> None:
    """Every `otelbridge` line of the pages is taken by the command line as it is written."""
    seen = 0
    for page in ("prompts.md", "experiments.md"):
        for line in re.findall(r"^otelbridge .*$", text_of(page), re.MULTILINE):
            # The shortest reading of a synopsis: without what stands in brackets.
            words = shlex.split(re.sub(r"\[[^\]]*\]…?", "", line).replace("…", ""))[1:]
            words = [word.replace("VERSION", "1") for word in words]
            assert callable(build_parser(words).parse_args(words).run), line
            seen += 1
    assert seen == 8
