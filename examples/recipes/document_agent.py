"""An agent that reads documents, with a budget per session and a cheaper model near its end.

Run: `python document_agent.py < questions.jsonl`; a line is `{"session", "document", "question"}`,
the document being a path below the folder `DOCUMENTS`. Environment: `OPENAI_BASE_URL`,
`OPENAI_API_KEY`, `SESSION_USD` (0.50), `CHEAPER_BELOW_USD` (0.10).
"""

import json
import os
import sys
from pathlib import Path
from typing import Any

import openai

import otelbridge
from otelbridge import budgets

GOOD, CHEAP = "gpt-4o", "gpt-4o-mini"
CHEAPER_BELOW_USD = float(os.environ.get("CHEAPER_BELOW_USD", "0.10"))
FOLDER = Path(os.environ.get("DOCUMENTS", ".")).resolve()
PART_CHARACTERS, PARTS = 4000, 2
client = openai.OpenAI(max_retries=0)


def read(name: str) -> list[str]:
    """A document in parts. The model names no files: the path is the caller's, and checked."""
    with otelbridge.execute_tool("read_document", arguments={"name": name}) as tool:
        path = (FOLDER / name).resolve()
        if not path.is_relative_to(FOLDER):
            raise PermissionError(f"{name} is not among the documents")
        text = path.read_text(encoding="utf-8")
        tool.set_result({"characters": len(text)})
    return [text[i : i + PART_CHARACTERS] for i in range(0, len(text), PART_CHARACTERS)]


def nearest(parts: list[str], question: str) -> list[str]:
    """The parts that share most words with the question."""
    words = {word for word in question.lower().split() if len(word) > 3}
    with otelbridge.retrieval("document", query=question, top_k=PARTS) as call:
        found = sorted(parts, key=lambda part: -sum(part.lower().count(word) for word in words))
        call.set_documents(found[:PARTS])
    return found[:PARTS]


def complete(step: str, text: str, question: str) -> tuple[str, str]:
    """The answer of a model and which one it was; chosen anew for each call."""
    model = otelbridge.choose_model(GOOD, CHEAP, below_usd=CHEAPER_BELOW_USD)
    messages: Any = [
        {"role": "system", "content": f"{step} Context:\n- {text}"},
        {"role": "user", "content": question},
    ]
    with otelbridge.chat(model, provider="openai", messages=messages) as call:
        response = client.chat.completions.create(model=model, messages=messages)
        call.record(response)
    return str(response.choices[0].message.content), model


def answer(session: str, document: str, question: str) -> dict[str, Any]:
    """One question of a session: a note on each part, then one answer from the notes."""
    with (
        otelbridge.request_context(
            session_id=session, trace_name="document_question", metadata={"task": "document"}
        ),
        otelbridge.invoke_agent("document-agent", input=question) as agent,
    ):
        models: list[str] = []
        made: dict[str, Any] = {"session": session, "trace_id": agent.trace_id, "models": models}
        try:
            notes = []
            for part in nearest(read(document), question):
                note, model = complete("Take a note.", part, question)
                notes.append(note)
                models.append(model)
            text, model = complete("Answer from the notes.", " ".join(notes), question)
            models.append(model)
        except otelbridge.BudgetExceededError as error:
            agent.record_exception(error)
            text = f"This session has spent its {error.limit_usd} USD."
            made["refused"] = error.budget
        except (OSError, openai.APIError) as error:
            agent.record_exception(error)
            text = "This question cannot be answered now."
            made["error"] = type(error).__name__
        agent.set_output(text)
        spent = next((one.spent_usd for one in budgets.states()), 0.0)
        return made | {"answer": text, "session_usd": round(spent, 6)}


def main() -> None:
    otelbridge.configure(service_name="document-agent")
    limit_usd = float(os.environ.get("SESSION_USD", "0.50"))
    soft_usd = max(0.0, limit_usd - CHEAPER_BELOW_USD)
    budgets.declare(
        budgets.Budget("session", limit_usd=limit_usd, soft_usd=soft_usd, per="session")
    )
    for line in sys.stdin:
        print(json.dumps(answer(**json.loads(line))), flush=True)
    otelbridge.flush()


if __name__ == "__main__":
    main()
