"""The Text2SQL agent, end to end."""

from __future__ import annotations

from typing import Any

import pytest

from otelbridge.demo.processes import free_ports
from otelbridge.demo.views import tempo_trace
from tests.recipes.conftest import Recipes, one, queries

pytestmark = [pytest.mark.e2e, pytest.mark.collector]
PAGE = "text2sql"


@pytest.fixture(scope="module")
def done(recipes: Recipes) -> list[Any]:
    """Output of one run: SQL that runs, no SQL, and SQL that names a table that is gone."""
    who = {"user": "u-1", "session": "s-1"}
    lines = [
        {"question": "How much did each customer buy this year?", **who},
        {"question": "[[status=503]] How many orders are open?", **who},
        {"question": "Which refunds were paid this week? To kim@shop.example", "user": "u-2"},
    ]
    return recipes.run("text2sql", lines)[0]


def test_sql_that_runs(recipes: Recipes, done: list[Any]) -> None:
    """The tree of the page with retrieval, generation and tool; rows; the score says 1."""
    made = done[0]
    assert made["rows"] == [["Kim", 37.5], ["Lee", 12.5]]
    tempo, langfuse = recipes.as_documented(PAGE, made["trace_id"])
    types = {span.name: span.attributes["type"] for span in langfuse.spans.values()}
    assert types["retrieval sql-samples"] == "RETRIEVER"
    assert types["chat gpt-4o"] == "GENERATION"
    assert types["run_sql"] == "TOOL"
    call = one(langfuse, "chat gpt-4o").attributes
    usage = call["usageDetails"]
    assert call["totalCost"] == pytest.approx((usage["input"] * 2.5 + usage["output"] * 10) / 1e6)
    assert {span.attributes["sessionId"] for span in langfuse.spans.values()} == {"s-1"}
    assert recipes.score(made["trace_id"], "sql_execution_success")["value"] == 1
    quality = one(tempo, "query_quality").attributes
    assert quality["langfuse.observation.metadata.score"] == 0.9
    assert "GROUP BY" not in tempo.raw
    assert "GROUP BY" in langfuse.raw


def test_sql_that_fails(recipes: Recipes, done: list[Any]) -> None:
    """The tool's span is an error, the request goes on, the score says 0; addresses are masked."""
    made = done[2]
    assert (made["rows"], made["result_count"]) == (None, -1)
    tempo, langfuse = recipes.trace(
        made["trace_id"],
        lambda _, langfuse: "query_completed" in {s.name for s in langfuse.spans.values()},
    )
    assert one(langfuse, "run_sql").status == "ERROR"
    assert one(tempo, "invoke_agent text2sql").status != "STATUS_CODE_ERROR"
    score = recipes.score(made["trace_id"], "sql_execution_success")
    assert score["value"] == 0
    assert "refunds" in score["comment"]
    assert "kim@shop.example" not in tempo.raw + langfuse.raw
    tool_query, quality_query, score_query = queries(PAGE)
    for query in (tool_query, quality_query):
        assert made["trace_id"] in recipes.found(query), query
    url = recipes.local.tempo_url
    scores = [tempo_trace(recipes.client, url, one_id) for one_id in recipes.found(score_query)]
    judged = {
        span.attributes["otelbridge.score.trace_id"]
        for view in scores
        for span in view.spans.values()
    }
    assert made["trace_id"] in judged
    assert done[0]["trace_id"] not in judged


def test_model_that_fails(recipes: Recipes, done: list[Any]) -> None:
    """The question ends with an error and the score `api_error`; the next one is answered."""
    assert done[1]["error"] == "InternalServerError"
    assert recipes.score(done[1]["trace_id"], "api_error")["value"] == 0.0
    tempo, _ = recipes.trace(done[1]["trace_id"], lambda _, langfuse: len(langfuse.spans) >= 3)
    assert one(tempo, "invoke_agent text2sql").status == "STATUS_CODE_ERROR"


def test_search_that_fails_does_not_fail_the_request(recipes: Recipes) -> None:
    """Without the embedding model: an ERROR on the search, and an answer all the same."""
    asked = [{"question": "How many orders are open?", "user": "u-3"}]
    (made,), _ = recipes.run("text2sql", asked, EMBEDDER="no-such-model")
    assert made["final_query"]
    _, langfuse = recipes.trace(
        made["trace_id"],
        lambda _, langfuse: "query_completed" in {s.name for s in langfuse.spans.values()},
    )
    assert one(langfuse, "retrieval sql-samples").status == "ERROR"
    assert one(langfuse, "error_analysis").status == "ERROR"
    assert one(langfuse, "invoke_agent text2sql").attributes["sessionId"].startswith("session_20")


def test_answers_are_the_same_without_any_backend(recipes: Recipes, done: list[Any]) -> None:
    """Collector and Langfuse away: the same rows, and the spans wait in the spool."""
    (port,) = free_ports(1)
    away = f"http://127.0.0.1:{port}"
    asked = [{"question": "How much did each customer buy this year?"}]
    (made,), _ = recipes.run(
        "text2sql", asked, OTEL_EXPORTER_OTLP_ENDPOINT=away, LANGFUSE_HOST=away,
        OTELBRIDGE_SPOOL_DIR=str(recipes.work / "away"),
    )  # fmt: skip
    assert made["rows"] == done[0]["rows"]
    assert any(path.stat().st_size for path in (recipes.work / "away").rglob("*") if path.is_file())
