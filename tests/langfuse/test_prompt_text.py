"""Prompts as values, against the parser and the models of the `langfuse` package."""

from __future__ import annotations

import logging

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from otelbridge.langfuse.prompt_text import (
    Prompt,
    as_answer,
    checked_template,
    fill_in,
    from_answer,
)

PIECES = st.sampled_from(
    ["{{", "}}", "{", "}", "a", " ", "name", "{{ name }}", "{{a}}", "\n", "가"]
)
TEMPLATES = st.lists(PIECES, max_size=12).map("".join)
VALUES = st.one_of(st.none(), st.integers(), st.text(max_size=5), st.just("{{a}}"))
CHAT = [
    {"role": "system", "content": "You speak {{language}}."},
    {"type": "placeholder", "name": "history"},
    {"type": "chatmessage", "role": "user", "content": "{{question}} in {{ language }}"},
]


@settings(max_examples=300, deadline=None)
@given(TEMPLATES, st.dictionaries(st.sampled_from(["a", "name", ""]), VALUES))
def test_templates_are_filled_in_as_langfuse_does(template: str, variables: dict) -> None:
    """Any mixture of braces, names and values gives what Langfuse's own parser gives."""
    from langfuse.model import TemplateParser

    assert fill_in(template, variables) == TemplateParser.compile_template(template, variables)
    names = TemplateParser.find_variable_names(template)
    assert list(Prompt("p", 1, template).variables) == list(dict.fromkeys(names))


def test_a_chat_prompt_is_compiled_as_langfuse_does() -> None:
    """Messages, placeholders and members of given messages come out as in Langfuse's client."""
    from langfuse.api import Prompt_Chat
    from langfuse.model import ChatPromptClient

    answer = {
        "name": "p", "version": 3, "type": "chat", "prompt": CHAT, "config": {}, "labels": [],
        "tags": [],
    }  # fmt: skip
    theirs = ChatPromptClient(Prompt_Chat(**answer))
    ours = from_answer(answer)
    history = [{"role": "assistant", "content": "{{question}}?", "tool_calls": [{"id": "1"}]}]
    given = {"language": "Korean", "question": "Why", "history": history}
    assert ours.compile(**given) == theirs.compile(**given)
    assert ours.compile(language=None, history="text") == theirs.compile(
        language=None, history="text"
    )
    assert ours.variables == ("language", "question")
    assert ours.placeholders == ("history",)


def test_a_placeholder_that_is_not_given_stays_and_is_named(
    caplog: pytest.LogCaptureFixture,
) -> None:
    """It is left in the list, with one warning that names it."""
    with caplog.at_level(logging.WARNING):
        compiled = Prompt("p", 1, CHAT).compile(language="Korean", question="Why")
    assert compiled[1] == CHAT[1]
    assert "history" in caplog.text


def test_what_was_compiled_belongs_to_the_caller() -> None:
    """Changing it changes no prompt, which the cache gives to others as well."""
    prompt = Prompt("p", 1, [dict(message) for message in CHAT])
    for message in prompt.compile(language="Korean", question="Why"):
        message["content"] = message["name"] = "changed"
    assert prompt.prompt == CHAT


def test_a_prompt_survives_its_copy() -> None:
    """What is written to disk is read back as the same value."""
    prompt = Prompt("a/b", 2, CHAT, {"model": "m"}, ("production",), ("t",), "why")
    assert from_answer(as_answer(prompt)) == prompt
    text = Prompt("a", 1, "Hello {{name}}")
    assert from_answer(as_answer(text)) == text
    assert (prompt.type, text.type) == ("chat", "text")


@pytest.mark.parametrize(
    "answer",
    [
        {}, {"name": "a", "version": 1, "type": "text", "prompt": ["no"]},
        {"name": "a", "version": 1, "type": "chat", "prompt": "no"},
        {"name": "a", "version": "one", "type": "text", "prompt": "x"}, [], None,
    ],
)  # fmt: skip
def test_what_is_no_prompt_is_refused(answer: object) -> None:
    """Damaged answers and files raise ValueError, which every reader expects."""
    with pytest.raises(ValueError):  # noqa: PT011 - the class is the contract
        from_answer(answer)  # type: ignore[arg-type]


@pytest.mark.parametrize("given", [7, [{"role": "user"}], ["text"], {"role": "user"}])
def test_a_fallback_is_text_or_messages(given: object) -> None:
    """Anything else is a mistake in the program."""
    with pytest.raises(ValueError, match="a prompt is text"):
        checked_template(given)
