"""A Text2SQL agent: similar queries by vector search, SQL by a model, run, judged by what happened.

Run: `python text2sql.py < questions.jsonl`; a line is `{"question", "user", "session"}`. The SQL
runs on a small SQLite database in memory, which only reads. Environment: `OPENAI_BASE_URL`,
`OPENAI_API_KEY`, `MODEL`, `EMBEDDER`.
"""

import json
import os
import sqlite3
import sys
import time
from functools import cache
from typing import Any

import openai

import otelbridge

MODEL = os.environ.get("MODEL", "gpt-4o")
EMBEDDER = os.environ.get("EMBEDDER", "text-embedding-3-small")
SAMPLES = {
    "How much did each customer buy?": "SELECT customer, sum(total) FROM orders GROUP BY customer;",
    "How many orders are open?": "SELECT count(*) FROM orders WHERE state = 'open';",
    "Which refunds were paid this week?": "SELECT id, total FROM refunds WHERE paid;",  # outdated
}
SCHEMA = "CREATE TABLE orders (id INTEGER, customer TEXT, total REAL, state TEXT);"
ROWS = [(1, "Kim", 30.0, "open"), (2, "Lee", 12.5, "paid"), (3, "Kim", 7.5, "paid")]
client = openai.OpenAI(max_retries=0)


def database() -> sqlite3.Connection:
    made = sqlite3.connect(":memory:")
    made.execute(SCHEMA)
    made.executemany("INSERT INTO orders VALUES (?, ?, ?, ?)", ROWS)
    made.execute("PRAGMA query_only = ON")  # what a model writes may read and no more
    return made


def embed(texts: list[str]) -> list[list[float]]:
    with otelbridge.embeddings(EMBEDDER, provider="openai", input=texts) as call:
        response = client.embeddings.create(model=EMBEDDER, input=texts)
        call.record(response)
    return [item.embedding for item in response.data]


@cache
def index() -> list[list[float]]:
    """The vectors of the known questions, made by the first one asked."""
    return embed(list(SAMPLES))


def similar(question: str, top_k: int = 1) -> list[dict[str, Any]]:
    """The known queries nearest to a question; none when the search fails: the model goes on."""
    try:
        with otelbridge.retrieval("sql-samples", query=question, top_k=top_k) as call:
            (asked,), known = embed([question]), index()
            near = [sum(a * b for a, b in zip(asked, one, strict=True)) for one in known]
            rows = zip(SAMPLES.items(), near, strict=True)
            found = [{"id": q, "content": sql, "score": score} for (q, sql), score in rows]
            found = sorted(found, key=lambda hit: -hit["score"])[:top_k]
            call.set_documents(found)
    except openai.APIError as error:
        otelbridge.error_analysis(error)
        return []
    samples = [{"query": hit["id"], "certainty": round(hit["score"], 3)} for hit in found]
    otelbridge.event("samples_found", output=samples, metadata={"found_samples": len(found)})
    return found


def write_sql(question: str, samples: list[dict[str, Any]]) -> str:
    known = "\n".join(f"- {hit['content']}" for hit in samples)
    messages: Any = [
        {"role": "system", "content": f"One SQLite query, ended by a semicolon.\n{SCHEMA}"},
        {"role": "system", "content": f"Context:\n{known}"},
        {"role": "user", "content": question},
    ]
    with otelbridge.chat(MODEL, provider="openai", messages=messages, temperature=0.0) as call:
        response = client.chat.completions.create(model=MODEL, messages=messages, temperature=0.0)
        call.record(response)
    return str(response.choices[0].message.content).partition(";")[0] + ";"


def run_sql(sql: str) -> list[Any] | None:
    """The rows, None when the statement does not run; the span of the tool says which."""
    with otelbridge.execute_tool("run_sql", arguments={"sql": sql}) as tool:
        try:
            rows = database().execute(sql).fetchall()
        except sqlite3.Error as error:
            tool.record_exception(error)
            otelbridge.score_sql_execution(False, error)
            return None
        tool.set_result(rows)
    otelbridge.score_sql_execution(True)
    return rows


def answer(question: str, user: str = "anonymous", session: str = "") -> dict[str, Any]:
    """One question, one trace; without a session one by the time of day."""
    session = session or time.strftime("session_%Y%m%d_%H%M%S")
    with (
        otelbridge.request_context(user_id=user, session_id=session, trace_name="text2sql_query"),
        otelbridge.invoke_agent("text2sql", input=question) as agent,
    ):
        begun = time.monotonic()
        samples = similar(question)
        try:
            sql = write_sql(question, samples)
        except openai.APIError as error:
            agent.record_exception(error)
            otelbridge.score_api_call(error)
            return {"error": type(error).__name__, "trace_id": agent.trace_id}
        rows = run_sql(sql)
        otelbridge.performance("text2sql", time.monotonic() - begun)
        quality = (0.5 if rows is not None else 0.0) + (0.4 if samples else 0.0)
        otelbridge.query_quality(quality, query=sql)
        done = {"final_query": sql, "result_count": -1 if rows is None else len(rows)}
        otelbridge.event("query_completed", output=done, metadata={"rows": done["result_count"]})
        agent.set_output(done)
        return {**done, "rows": rows, "trace_id": agent.trace_id}


def main() -> None:
    otelbridge.configure(service_name="text2sql")
    for line in sys.stdin:
        print(json.dumps(answer(**json.loads(line))), flush=True)
    otelbridge.flush()


if __name__ == "__main__":
    main()
