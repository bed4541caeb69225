"""The spans that every arm makes: requests with calls of a model, as they are in a service.

A request is a server span with four spans below it: chats with about 3.4 kB of messages, or small
inner spans. Standard library only, because the peers' environment has no otelbridge. All texts
and attributes are made beforehand, so that the measured loop makes spans and little else.
"""

from __future__ import annotations

import json
import random
from dataclasses import dataclass, field
from pydoc_data.topics import topics
from typing import Any, Final

CHILDREN: Final = 4
SPANS_PER_REQUEST: Final = 1 + CHILDREN
_TEXTS: Final = ("gen_ai.input.messages", "gen_ai.output.messages")
_PARENT: Final = {"otelbridge.llm.parent": "00f067aa0ba902b7"}
MODEL: Final = "gpt-4o"
#: Different requests, used in turn: the same texts do not stand twice in one export batch.
_VARIANTS: Final = 128
_QUESTION_CHARS: Final = 1_900
_SYSTEM_CHARS: Final = 500
_ANSWER_CHARS: Final = 700


@dataclass
class Chat:
    """One span below a request: what is known at its start, and what at its end."""

    name: str
    start: dict[str, Any]
    end: dict[str, Any]
    marks: dict[str, Any] = field(default_factory=dict)
    messages: list[dict[str, str]] = field(default_factory=list)
    answer: str = ""
    response_id: str = ""
    input_tokens: int = 0
    output_tokens: int = 0

    def __post_init__(self) -> None:
        self.marked_start = {**self.start, **self.marks}


@dataclass
class Request:
    """The server span's attributes, and what is below it."""

    start: dict[str, Any]
    end: dict[str, Any]
    chats: list[Chat]

    def __post_init__(self) -> None:
        texts = (self.chats[0].start, self.chats[-1].end)
        given = [text.get(key) for text, key in zip(texts, _TEXTS, strict=True)]
        self.marked_start = {**self.start, "otelbridge.llm.parent": ""}
        self.marked_end = dict(self.end)
        if all(given):
            self.marked_end |= {
                "otelbridge.llm.keep": True,
                "langfuse.observation.input": given[0],
                "langfuse.observation.output": given[1],
            }


class Requests:
    """Makes requests; equal ones for a seed.

    Args:
        shape: `chat` or `small`.
    """

    def __init__(self, shape: str, seed: int = 1) -> None:
        self._random = random.Random(seed)
        # 700 kB of English that every Python brings: compresses as prompts do.
        self._prose = "\n".join(topics[name] for name in sorted(topics))
        make = self._chat if shape == "chat" else self._small
        self.variants = [
            Request(self._server(number), {"http.response.status_code": 200},
                    [make(number * CHILDREN + index) for index in range(CHILDREN)])
            for number in range(_VARIANTS)
        ]  # fmt: skip

    def _text(self, chars: int) -> str:
        begin = self._random.randrange(len(self._prose) - chars)
        return self._prose[begin : begin + chars]

    def _server(self, number: int) -> dict[str, Any]:
        return {
            "http.request.method": "POST", "url.scheme": "http", "url.path": f"/ask/{number}",
            "http.route": "/ask/<conversation>", "server.address": "shop", "server.port": 8000,
            "network.protocol.version": "1.1", "client.address": "10.1.2.3",
            "user_agent.original": "python-httpx/0.28.1",
        }  # fmt: skip

    def _small(self, number: int) -> Chat:
        return Chat(
            name="query orders",
            start={
                "db.system.name": "postgresql", "db.namespace": "shop",
                "db.collection.name": "orders", "db.operation.name": "SELECT",
                "server.address": "db", "server.port": 5432,
            },
            end={"db.response.returned_rows": number % 40},
            marks=_PARENT,
        )  # fmt: skip

    def _chat(self, number: int) -> Chat:
        messages = [
            {"role": "system", "content": self._text(_SYSTEM_CHARS)},
            {"role": "user", "content": self._text(_QUESTION_CHARS)},
        ]
        answer = self._text(_ANSWER_CHARS)
        identity = f"chatcmpl-{self._random.randbytes(12).hex()}"
        return Chat(
            name=f"chat {MODEL}",
            start={
                "gen_ai.operation.name": "chat", "gen_ai.provider.name": "openai",
                "gen_ai.system": "openai", "gen_ai.request.model": MODEL,
                "gen_ai.request.temperature": 0.2, "gen_ai.request.max_tokens": 1024,
                "server.address": "api.openai.com", "server.port": 443,
                "gen_ai.input.messages": json.dumps(
                    [_with_parts(message["role"], message["content"]) for message in messages]
                ),
            },
            end={
                "gen_ai.response.model": f"{MODEL}-2024-08-06", "gen_ai.response.id": identity,
                "gen_ai.response.finish_reasons": ("stop",),
                "gen_ai.usage.input_tokens": 600 + number, "gen_ai.usage.output_tokens": 180,
                "gen_ai.output.messages": json.dumps([_with_parts("assistant", answer)]),
            },
            marks={**_PARENT, "otelbridge.llm.keep": True},
            messages=messages, answer=answer, response_id=identity,
            input_tokens=600 + number, output_tokens=180,
        )  # fmt: skip


def _with_parts(role: str, text: str) -> dict[str, Any]:
    return {"role": role, "parts": [{"type": "text", "content": text}]}
