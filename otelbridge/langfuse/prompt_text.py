"""A prompt of Langfuse's registry as a value: its text, filled in with variables.

Pure. Templates are Langfuse's: `{{name}}`, spaces inside the braces allowed, a variable that is not
given stays as it is written, None becomes empty text. `tests/langfuse/test_prompt_text.py` holds
that against the parser of the `langfuse` package, which costs 0.7 s to import and is not used here.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final, TypeAlias

Message: TypeAlias = dict[str, Any]
#: Langfuse's words for a message that is no placeholder.
_MESSAGE_TYPES: Final = ("message", "chatmessage")
#: A role of its own for what a placeholder was given and is no message; Langfuse's word.
NO_ROLE: Final = "NOT_GIVEN"
_OPENING: Final = "{{"
_CLOSING: Final = "}}"

_logger = logging.getLogger("otelbridge")


@dataclass(frozen=True, slots=True)
class Prompt:
    """One version of a prompt; give it to `chat(prompt=…)` and the call is linked to it.

    Attributes:
        version: 0 for a fallback.
        prompt: The template: text, or a list of chat messages (`role`, `content`) and placeholders
            (`type="placeholder"`, `name`).
        config: What was stored beside it: model, temperature, …
        labels: As they were when it was fetched.
        is_fallback: Langfuse could not give it, the text is the caller's: calls are not linked.
    """

    name: str
    version: int
    prompt: str | list[Message]
    config: Mapping[str, Any] = field(default_factory=dict)
    labels: tuple[str, ...] = ()
    tags: tuple[str, ...] = ()
    commit_message: str = ""
    is_fallback: bool = False

    @property
    def type(self) -> str:
        """`text` or `chat`."""
        return "text" if isinstance(self.prompt, str) else "chat"

    @property
    def variables(self) -> tuple[str, ...]:
        """Names of the variables in order of their first use, without placeholders."""
        texts = [self.prompt] if isinstance(self.prompt, str) else _contents(self.prompt)
        return tuple(dict.fromkeys(name for text in texts for name, *_ in _found(text)))

    @property
    def placeholders(self) -> tuple[str, ...]:
        """Names of the places for lists of messages in a chat prompt."""
        if isinstance(self.prompt, str):
            return ()
        return tuple(str(one["name"]) for one in self.prompt if _is_placeholder(one))

    def compile(self, **variables: Any) -> Any:
        """The prompt with its variables filled in: text, or a list of messages for a chat prompt.

        Args:
            variables: By name; None becomes empty text. What is not given stays `{{name}}`. A
                placeholder takes a list of messages; one that is not given stays where it is and is
                named in a warning.
        """
        if isinstance(self.prompt, str):
            return fill_in(self.prompt, variables)
        messages: list[Message] = []
        for one in self.prompt:
            messages += _compiled(one, variables)
        if missing := [name for name in self.placeholders if name not in variables]:
            _logger.warning(
                "otelbridge: prompt %r was compiled without %s; pass a list of messages for each.",
                self.name,
                ", ".join(missing),
            )
        return messages


def fill_in(template: str, variables: Mapping[str, Any]) -> str:
    """A template with the variables that are known."""
    pieces, position = [], 0
    for name, start, end in _found(template):
        pieces.append(template[position:start])
        if name in variables:
            pieces.append("" if variables[name] is None else str(variables[name]))
        else:
            pieces.append(template[start:end])
        position = end
    return "".join((*pieces, template[position:]))


def from_answer(answer: Mapping[str, Any]) -> Prompt:
    """A prompt from the JSON object that Langfuse answers, or from the copy on disk.

    Raises:
        ValueError: it is no prompt.
    """
    try:
        template = answer["prompt"]
        if answer.get("type") == "chat":
            if not isinstance(template, list) or not all(isinstance(m, Mapping) for m in template):
                raise ValueError("a chat prompt is a list of messages")
            template = [dict(message) for message in template]
        elif not isinstance(template, str):
            raise ValueError("a text prompt is text")
        config = answer.get("config")
        return Prompt(
            name=str(answer["name"]),
            version=int(answer["version"]),
            prompt=template,
            config=dict(config) if isinstance(config, Mapping) else {},
            labels=tuple(map(str, answer.get("labels") or ())),
            tags=tuple(map(str, answer.get("tags") or ())),
            commit_message=str(answer.get("commitMessage") or ""),
        )
    except (AttributeError, KeyError, TypeError) as error:
        raise ValueError(f"not a prompt: {error!r}") from error


def as_answer(prompt: Prompt) -> dict[str, Any]:
    """The JSON object that `from_answer` reads."""
    return {
        "name": prompt.name,
        "version": prompt.version,
        "type": prompt.type,
        "prompt": prompt.prompt,
        "config": dict(prompt.config),
        "labels": list(prompt.labels),
        "tags": list(prompt.tags),
        "commitMessage": prompt.commit_message,
    }


def checked_template(prompt: object) -> str | list[Message]:
    """Text or chat messages as given by a program.

    Raises:
        ValueError: neither text nor a list of messages with role and content, or placeholders.
    """
    if isinstance(prompt, str):
        return prompt
    if isinstance(prompt, Sequence) and all(_is_message(one) for one in prompt):
        return [dict(one) for one in prompt]
    raise ValueError(
        f"a prompt is text, or a list of {{'role': …, 'content': …}} and "
        f"{{'type': 'placeholder', 'name': …}}; not {prompt!r:.200}"
    )


def _found(template: str) -> list[tuple[str, int, int]]:
    """Variables of a template: name, start and end in the text."""
    found: list[tuple[str, int, int]] = []
    position = 0
    while True:
        start = template.find(_OPENING, position)
        end = -1 if start < 0 else template.find(_CLOSING, start)
        if end < 0:
            return found
        position = end + len(_CLOSING)
        found.append((template[start + len(_OPENING) : end].strip(), start, position))


def _compiled(message: Message, variables: Mapping[str, Any]) -> list[Message]:
    """What one message or placeholder of a chat prompt becomes."""
    if not _is_placeholder(message):
        return [_filled(message, variables)]
    name = message["name"]
    if name not in variables:
        return [dict(message)]
    given = variables[name]
    if not isinstance(given, list):
        return [{"role": NO_ROLE, "content": str(given)}]
    return [
        _filled(one, variables)
        if isinstance(one, Mapping)
        else {"role": NO_ROLE, "content": str(one)}
        for one in given
    ]


def _filled(message: Mapping[str, Any], variables: Mapping[str, Any]) -> Message:
    """A message without Langfuse's `type`, other members kept (tool calls)."""
    content = message.get("content", "")
    return {
        **{k: v for k, v in message.items() if k != "type" or v not in _MESSAGE_TYPES},
        "role": message.get("role", NO_ROLE),
        "content": fill_in(content, variables) if isinstance(content, str) else content,
    }


def _contents(messages: Sequence[Message]) -> list[str]:
    contents = (one.get("content") for one in messages if not _is_placeholder(one))
    return [content for content in contents if isinstance(content, str)]


def _is_placeholder(message: Mapping[str, Any]) -> bool:
    return message.get("type") == "placeholder" and isinstance(message.get("name"), str)


def _is_message(message: object) -> bool:
    if not isinstance(message, Mapping):
        return False
    return _is_placeholder(message) or ("role" in message and "content" in message)
