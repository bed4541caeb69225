"""A prompt and the calls that used it: what spans say, and what each store gets of it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from otelbridge import chat
from otelbridge.langfuse.prompt_text import Prompt
from otelbridge.langfuse_policy import langfuse_attributes
from otelbridge.policy import is_content_key
from tests.langfuse.recording import Recording

KEYS = (
    "gen_ai.prompt.name", "gen_ai.prompt.version",
    "langfuse.observation.prompt.name", "langfuse.observation.prompt.version",
)  # fmt: skip
GREET = Prompt("greet", 7, "Hello {{name}}")


@pytest.fixture
def written() -> Callable[..., dict[str, Any]]:
    """Makes a call with these arguments; the attributes of its span."""
    recording = Recording()

    def call(**given: Any) -> dict[str, Any]:
        with chat("gpt-4o", provider="openai", messages=GREET.compile(name="Ada"), **given):
            pass
        return dict(recording.spans[-1].attributes or {})

    return call


def test_a_call_is_linked_to_the_version_it_used(written: Callable[..., dict[str, Any]]) -> None:
    """Name and version for both stores, the number as a number where Langfuse wants one."""
    attributes = written(prompt=GREET)
    assert [attributes[key] for key in KEYS] == ["greet", "7", "greet", 7]
    assert type(attributes[KEYS[3]]) is int


def test_each_store_gets_what_it_can_read(written: Callable[..., dict[str, Any]]) -> None:
    """Langfuse: the link and the real input; Tempo: the identity, none of it content."""
    attributes = written(prompt=GREET)
    sent = langfuse_attributes(attributes)
    assert sent[KEYS[2]] == "greet"
    assert sent[KEYS[3]] == 7
    assert not [key for key in sent if key.startswith("gen_ai.prompt")]
    assert "Hello Ada" in sent["gen_ai.input.messages"]
    assert not any(map(is_content_key, KEYS))


def test_a_fallback_is_not_linked(written: Callable[..., dict[str, Any]]) -> None:
    """Text that Langfuse never had names no version of it."""
    fallback = Prompt("greet", 0, "Hi", is_fallback=True)
    assert not set(KEYS) & set(written(prompt=fallback))
    assert not set(KEYS) & set(written(prompt=None))


def test_what_is_given_by_hand_wins(written: Callable[..., dict[str, Any]]) -> None:
    """`prompt_name` and `prompt_version` are not mixed with the object's."""
    attributes = written(prompt=GREET, prompt_name="other", prompt_version=2)
    assert [attributes[key] for key in KEYS] == ["other", "2", "other", 2]


def test_the_langfuse_sdks_prompts_link_too(written: Callable[..., dict[str, Any]]) -> None:
    """A prompt client of the SDK has the same members; its fallbacks are not linked either."""
    from langfuse.api import Prompt_Text
    from langfuse.model import TextPromptClient

    theirs = Prompt_Text(name="greet", version=3, prompt="x", config={}, labels=[], tags=[])
    assert written(prompt=TextPromptClient(theirs))[KEYS[3]] == 3
    assert KEYS[0] not in written(prompt=TextPromptClient(theirs, is_fallback=True))


@pytest.mark.parametrize("odd", ["text", 5, object(), {"name": "x"}])
def test_anything_else_as_a_prompt_does_no_harm(
    odd: object, written: Callable[..., dict[str, Any]]
) -> None:
    """The call goes on without a link."""
    assert not set(KEYS) & set(written(prompt=odd))
