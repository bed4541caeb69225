"""The mock provider speaks to the official openai package as the real one does."""

from __future__ import annotations

import time
from typing import Any

import httpx
import openai
import pytest


def user(text: str) -> list[Any]:
    return [{"role": "user", "content": text}]


def test_same_prompt_gets_the_same_answer_with_usage(upstream: Any) -> None:
    """Answers and ids are deterministic, and the usage adds up, cached and reasoning included."""
    ask = {"model": "gpt-4o", "messages": user("hello there [[cached=2]] [[reasoning=5]]")}
    first, second = (upstream.client().chat.completions.create(**ask) for _ in range(2))
    assert first.choices[0].message.content == second.choices[0].message.content
    assert first.id == second.id
    usage = first.usage
    assert usage.total_tokens == usage.prompt_tokens + usage.completion_tokens
    assert usage.prompt_tokens_details.cached_tokens == 2
    assert usage.completion_tokens_details.reasoning_tokens == 5
    assert usage.completion_tokens > 5


def test_stream_joins_to_the_plain_answer_and_ends_with_usage(upstream: Any) -> None:
    """The streamed words are the plain answer's; usage comes last and only when asked for."""
    client, ask = upstream.client(), {"model": "gpt-4o", "messages": user("tell me")}
    plain = client.chat.completions.create(**ask)
    chunks = list(
        client.chat.completions.create(**ask, stream=True, stream_options={"include_usage": True})
    )
    text = "".join(c.choices[0].delta.content or "" for c in chunks if c.choices)
    assert text == plain.choices[0].message.content
    assert chunks[-1].choices == []
    assert chunks[-1].usage == plain.usage
    without = list(client.chat.completions.create(**ask, stream=True))
    assert without[-1].usage is None
    assert without[-1].choices[0].finish_reason == "stop"


@pytest.mark.parametrize("stream", [False, True])
def test_tool_is_called_when_an_id_is_named(upstream: Any, stream: bool) -> None:
    """With tools on offer an id in the question becomes a call; the tool's message ends it."""
    function = {"name": "find", "parameters": {"type": "object", "required": ["number"]}}
    ask: dict[str, Any] = {
        "model": "gpt-4o",
        "messages": user("Where is A-17?"),
        "tools": [{"type": "function", "function": function}],
    }
    client = upstream.client()
    if stream:
        chunks = list(client.chat.completions.create(**ask, stream=True))
        calls = [call for c in chunks for call in c.choices[0].delta.tool_calls or []]
        reason = chunks[-1].choices[0].finish_reason
    else:
        choice = client.chat.completions.create(**ask).choices[0]
        calls, reason = choice.message.tool_calls, choice.finish_reason
    assert reason == "tool_calls"
    assert calls[0].function.name == "find"
    assert calls[0].function.arguments == '{"number": "A-17"}'
    ask["messages"].append({"role": "tool", "tool_call_id": "1", "content": "sent"})
    answer = client.chat.completions.create(**ask).choices[0]
    assert answer.finish_reason == "stop"
    assert "The tool reports sent." in answer.message.content


@pytest.mark.parametrize(
    ("status", "error"),
    [
        (401, openai.AuthenticationError),
        (429, openai.RateLimitError),
        (500, openai.InternalServerError),
    ],
)
@pytest.mark.parametrize("stream", [False, True])
def test_status_command_raises_the_packages_error(
    upstream: Any, status: int, error: type[Exception], stream: bool
) -> None:
    """`[[status=N]]` comes back as the openai package's own exception for that status."""
    with pytest.raises(error, match=str(status)):
        upstream.client().chat.completions.create(
            model="gpt-4o", messages=user(f"hi [[status={status}]]"), stream=stream
        )


def test_broken_stream_gives_chunks_then_an_error(upstream: Any) -> None:
    """`[[break=2]]` lets two chunks through, then the connection is lost."""
    chunks = iter(
        upstream.client().chat.completions.create(
            model="gpt-4o", messages=user("hi [[break=2]]"), stream=True
        )
    )
    assert next(chunks).choices[0].delta.role == "assistant"
    assert next(chunks).choices[0].delta.content
    with pytest.raises(openai.APIConnectionError):
        next(chunks)


def test_broken_answer_is_a_connection_error(upstream: Any) -> None:
    """`[[break=1]]` without a stream cuts the body; the package reports a lost connection."""
    with pytest.raises(openai.APIConnectionError):
        upstream.client().chat.completions.create(model="gpt-4o", messages=user("hi [[break=1]]"))


def test_latency_is_chosen_by_the_prompt(upstream: Any) -> None:
    """`[[latency=0.3]]` holds the first byte back for that long."""
    start = time.monotonic()
    upstream.client().chat.completions.create(model="gpt-4o", messages=user("hi [[latency=0.3]]"))
    assert time.monotonic() - start >= 0.3


def test_delay_spreads_the_chunks(upstream: Any) -> None:
    """`[[delay=0.05]]` lets time pass between chunks, the first one comes at once."""
    chunks = upstream.client().chat.completions.create(
        model="gpt-4o", messages=user("a b c [[delay=0.05]]"), stream=True
    )
    times = [time.monotonic() for _ in chunks]
    assert times[-1] - times[0] >= 0.05 * (len(times) - 2)


def test_embeddings_put_texts_with_common_words_near(upstream: Any) -> None:
    """Vectors have length one, and a question is nearer to the text that shares its words."""
    texts = ["the refund takes five days", "invoices are payable by card", "how long is a refund"]
    response = upstream.client().embeddings.create(model="text-embedding-3-small", input=texts)
    refund, invoice, question = (item.embedding for item in response.data)

    def near(vector: list[float]) -> float:
        return sum(a * b for a, b in zip(question, vector, strict=True))

    assert near(question) == pytest.approx(1.0)
    assert near(refund) > near(invoice)
    assert response.usage.prompt_tokens == response.usage.total_tokens > 0


def test_models_are_listed(upstream: Any) -> None:
    """`GET /v1/models` answers in the package's shape."""
    listed = {model.id for model in upstream.client().models.list()}
    assert {"gpt-4o", "claude-sonnet-4-5"} <= listed


def test_headers_received_are_shown_and_forgotten(upstream: Any) -> None:
    """`/_headers` shows what each request carried, in order, and `DELETE` empties it."""
    httpx.delete(f"{upstream.url}/_headers")
    httpx.get(f"{upstream.url}/v1/models", headers={"traceparent": "00-1-1-01"})
    upstream.client().models.list()
    first, second = httpx.get(f"{upstream.url}/_headers").json()
    assert first["path"] == second["path"] == "/v1/models"
    assert first["headers"]["Traceparent"] == "00-1-1-01"
    assert "Traceparent" not in second["headers"]
    assert httpx.delete(f"{upstream.url}/_headers").json() == []
