"""Claude for several teams, end to end."""

from __future__ import annotations

import math
from typing import Any

import pytest

from tests.recipes.conftest import Recipes, one, queries

pytestmark = [pytest.mark.e2e, pytest.mark.collector]
PAGE = "claude-teams"
MODEL = "claude-sonnet-4-5-20250929"


@pytest.fixture(scope="module")
def done(recipes: Recipes) -> tuple[list[Any], str]:
    """Output of one run: a question, the same again, one of another team, one too many."""
    sales = {"team": "sales", "database": "sales"}
    return recipes.run(
        "claude_teams",
        [
            {**sales, "question": "Revenue by customer?"},
            {**sales, "question": "Revenue by customer?"},
            {**sales, "question": "And by month?"},
            {"team": "stock", "database": "stock", "question": "What runs out?"},
            {**sales, "question": "Revenue by customer?"},
        ],
        TEAM_DAY_USD="0.0007",
    )


def test_paid_call(recipes: Recipes, done: tuple[list[Any], str]) -> None:
    """The tree of the page; team, tags and metadata; cost by Anthropic's prices, once."""
    made = done[0][0]
    assert made["sql"] == "SELECT customer, sum(total) FROM orders GROUP BY customer;"
    tempo, langfuse = recipes.as_documented(PAGE, made["trace_id"])
    call = one(langfuse, f"chat {MODEL}").attributes
    usage = call["usageDetails"]
    expected = (usage["input"] * 3 + usage["output"] * 15) / 1e6
    assert math.isclose(call["totalCost"], expected, rel_tol=1e-6)
    assert one(tempo, f"chat {MODEL}").attributes["gen_ai.usage.cost"] == call["totalCost"]
    total = sum(span.attributes.get("totalCost") or 0 for span in langfuse.spans.values())
    assert math.isclose(total, expected, rel_tol=1e-6)
    assert one(langfuse, "anthropic.messages.create").attributes["type"] == "SPAN"
    assert made["trace_id"] in recipes.found(queries(PAGE)[0])
    assert call["userId"] == "sales"
    assert sorted(call["tags"]) == ["sales", "text2sql"]
    root = one(tempo, "text2sql").attributes
    prefix = "langfuse.trace.metadata."
    assert root[f"{prefix}team"] == "sales"
    assert root[f"{prefix}table_count"] == "2"
    assert root[f"{prefix}cached"] == "false"
    assert root["langfuse.observation.metadata.generated_sql_length"] == len(made["sql"])
    assert "Revenue by customer" not in tempo.raw
    assert recipes.score(made["trace_id"], "api_success")["value"] == 1.0


def test_cached_answer_costs_what_the_cache_costs(
    recipes: Recipes, done: tuple[list[Any], str]
) -> None:
    """A trace without a model call: no request left, 0.00025 USD, marked as cached."""
    made = done[0][1]
    assert (made["cached"], made["sql"]) == (True, done[0][0]["sql"])
    tempo, langfuse = recipes.as_documented(PAGE, made["trace_id"], "cached")
    call = one(tempo, f"chat {MODEL}").attributes
    assert call["otelbridge.cached"] is True
    assert call["gen_ai.usage.cost"] == 0.00025
    assert sum(s.attributes.get("totalCost") or 0 for s in langfuse.spans.values()) == 0.00025
    assert made["trace_id"] in recipes.found(queries(PAGE)[1])


def test_spent_team_is_refused_and_others_go_on(
    recipes: Recipes, done: tuple[list[Any], str]
) -> None:
    """Past the day's budget: no call, a trace with the error; cache and other teams still work."""
    refused, other, cached = done[0][2:]
    assert refused["refused"] == "team-day"
    assert other["sql"].startswith("SELECT name, amount")
    assert cached["cached"]
    assert cached["sql"]
    assert (other["explanations"], cached["explanations"]) == (True, False)
    assert "ALERT" in done[1]
    assert "team=sales" in done[1]
    tempo, langfuse = recipes.as_documented(PAGE, refused["trace_id"], "refused")
    call = one(tempo, f"chat {MODEL}").attributes
    assert call["error.type"] == "otelbridge.errors.BudgetExceededError"
    assert one(langfuse, f"chat {MODEL}").attributes["type"] == "SPAN"
    assert not any(s.attributes.get("totalCost") for s in langfuse.spans.values())
    assert refused["trace_id"] in recipes.found(queries(PAGE)[2])
