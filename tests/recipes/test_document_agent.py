"""The document agent with its session budget, end to end."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from tests.recipes.conftest import Recipes, one, queries

pytestmark = [pytest.mark.e2e, pytest.mark.collector]
PAGE = "document-agent"
GOOD, CHEAP = "gpt-4o", "gpt-4o-mini"


@pytest.fixture(scope="module")
def done(recipes: Recipes, tmp_path_factory: pytest.TempPathFactory) -> list[Any]:
    """Output of one run: nine questions of one session, then two of another."""
    folder: Path = tmp_path_factory.mktemp("documents")
    (folder / "lamps.txt").write_text("The lamp has a warranty of two years.\n" * 300)
    asked = {"document": "lamps.txt", "question": "How long is the warranty?"}
    lines = [{**asked, "session": "s-long"}] * 9 + [{**asked, "session": "s-new"}]
    lines += [{**asked, "session": "s-new", "document": "../../secret.txt"}]
    return recipes.run(
        "document_agent", lines, DOCUMENTS=str(folder), SESSION_USD="0.0125",
        CHEAPER_BELOW_USD="0.0025",
    )[0]  # fmt: skip


def test_first_question_takes_the_good_model(recipes: Recipes, done: list[Any]) -> None:
    """The tree of the page; the calls' cost is the session's sum."""
    assert done[0]["models"] == [GOOD, GOOD, GOOD]
    tempo, langfuse = recipes.as_documented(PAGE, done[0]["trace_id"])
    costs = [span.attributes.get("totalCost") or 0 for span in langfuse.spans.values()]
    assert sum(costs) == pytest.approx(done[0]["session_usd"], abs=1e-6)
    last = [span for span in langfuse.spans.values() if span.name == f"chat {GOOD}"][-1]
    about = last.attributes["metadata"]
    assert (about["budget"], about["model_selected"]) == ("0.0125", GOOD)
    call = next(span for span in tempo.spans.values() if span.name == f"chat {GOOD}").attributes
    assert call["otelbridge.budget.name"] == "session"
    assert call["otelbridge.budget.limit_usd"] == 0.0125


def test_cheaper_model_near_the_end(recipes: Recipes, done: list[Any]) -> None:
    """Below what is to remain, calls go to the cheaper model, within one question too."""
    models = [model for one in done[:9] for model in one["models"]]
    assert models == sorted(models)  # gpt-4o, then gpt-4o-mini, never back
    assert {GOOD, CHEAP} == set(models)
    first = next(made for made in done if CHEAP in made["models"])
    assert first["trace_id"] in recipes.found(queries(PAGE)[0])
    assert done[0]["trace_id"] not in recipes.found(queries(PAGE)[0])


def test_spent_session_is_refused_and_another_is_not(recipes: Recipes, done: list[Any]) -> None:
    """At the limit: no call, an ERROR in the trace, words for the user; other sessions go on."""
    refused = done[8]
    assert refused["refused"] == "session"
    assert "has spent its 0.0125 USD" in refused["answer"]
    _, langfuse = recipes.as_documented(PAGE, refused["trace_id"], "refused")
    assert not any(span.attributes.get("totalCost") for span in langfuse.spans.values())
    assert one(langfuse, "invoke_agent document-agent").status == "ERROR"
    assert refused["trace_id"] in recipes.found(queries(PAGE)[1])
    assert done[9]["models"] == [GOOD, GOOD, GOOD]


def test_document_outside_the_folder_is_an_error(recipes: Recipes, done: list[Any]) -> None:
    """The tool refuses the path: no model call, ERROR on the tool and on the agent."""
    assert done[10]["error"] == "PermissionError"
    assert done[10]["models"] == []
    tempo, _ = recipes.trace(done[10]["trace_id"], lambda tempo, _: len(tempo.spans) == 2)
    assert {span.status for span in tempo.spans.values()} == {"STATUS_CODE_ERROR"}
