"""Claude writes SQL for several teams: query cache, cost per team, a budget per team and day.

Run: `python claude_teams.py < questions.jsonl`; a line is `{"team", "database", "question"}`, a
line of output says what became of it. Environment: `ANTHROPIC_BASE_URL`, `ANTHROPIC_API_KEY`,
`MODEL`, `TEAM_DAY_USD` (5.00).
"""

import json
import os
import sys
from typing import Any

import anthropic

import otelbridge
from otelbridge import budgets

MODEL = os.environ.get("MODEL", "claude-sonnet-4-5-20250929")
CACHE_STORE_USD = 0.00025  # what a hit costs the team: its share of the cache's server
TABLES = {
    "sales": {
        "orders": "SELECT customer, sum(total) FROM orders GROUP BY customer;",
        "customers": "SELECT count(*) FROM customers;",
    },
    "stock": {"items": "SELECT name, amount FROM items WHERE amount < 10;"},
}
client = anthropic.Anthropic(max_retries=0)
cache: dict[tuple[str, str], anthropic.types.Message] = {}


def over_budget(state: budgets.BudgetState) -> None:
    """Called once at the soft limit of a team's day and once at its limit: tell people."""
    print(f"ALERT {state.level} {state.key} spent {state.spent_usd:.6f} USD", file=sys.stderr)


def ask(database: str, question: str) -> tuple[str, bool]:
    """The SQL for a question and whether it was known."""
    known = "\n".join(f"- {example}" for example in TABLES[database].values())
    asked: dict[str, Any] = {
        "model": MODEL,
        "max_tokens": 500,
        "system": f"Answer with one SQL statement that ends with a semicolon. Context:\n{known}",
        "messages": [{"role": "user", "content": question}],
    }
    hit = cache.get((database, question))
    with otelbridge.chat(
        MODEL, provider="anthropic", messages=asked["messages"], system=asked["system"],
        max_tokens=500, cached=hit is not None,
    ) as call:  # fmt: skip
        response = hit or client.messages.create(**asked)
        call.record(response)
        if hit is not None:
            call.set_usage(cost_usd=CACHE_STORE_USD)
    cache[database, question] = response
    text = "".join(block.text for block in response.content if block.type == "text")
    return text.partition(";")[0] + ";", hit is not None


def answer(team: str, database: str, question: str, session: str) -> dict[str, Any]:
    """One request of a team: one trace, refused when the team's day is spent."""
    known = (database, question) in cache
    with (
        otelbridge.request_context(
            trace_name="text2sql",
            user_id=team,
            session_id=session,
            tags=["text2sql", team, database],
            metadata={  # no text of the question here: metadata is no place for it
                "team": team,
                "database": database,
                "table_count": len(TABLES[database]),
                "query_length": len(question),
                "cached": known,
            },
        ),
        otelbridge.span("text2sql", kind="chain", input=question) as root,
    ):
        made: dict[str, Any] = {"team": team, "trace_id": root.trace_id, "cached": known}
        try:
            sql, _ = ask(database, question)
        except otelbridge.BudgetExceededError as error:
            root.record_exception(error)
            return made | {"refused": error.budget, "limit_usd": error.limit_usd}
        except anthropic.APIError as error:
            root.record_exception(error)
            otelbridge.score_api_call(error)
            return made | {"error": type(error).__name__}
        root.set_output(sql)
        root.set_attribute("langfuse.observation.metadata.generated_sql_length", len(sql))
        otelbridge.score_api_call()
        # What is not critical goes first when a team's money runs out.
        plenty = all(state.level == "ok" for state in budgets.states())
        return made | {"sql": sql, "explanations": plenty}


def main() -> None:
    otelbridge.configure(service_name="claude-teams")
    limit_usd = float(os.environ.get("TEAM_DAY_USD", "5.00"))
    budgets.declare(budgets.Budget("team-day", limit_usd=limit_usd, per=("team", "day")))
    budgets.on_alert(over_budget)
    for line in sys.stdin:
        asked = json.loads(line)
        session = asked.get("session", f"session_{asked['team']}")
        done = answer(asked["team"], asked["database"], asked["question"], session)
        print(json.dumps(done), flush=True)
    otelbridge.flush()


if __name__ == "__main__":
    main()
