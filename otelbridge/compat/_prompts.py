"""A prompt as the Langfuse SDK v2 gives it: `.prompt`, `.compile(...)`, `.format(...)`."""

from __future__ import annotations

from typing import Any

from otelbridge.langfuse.prompt_text import Prompt


class PromptClient:
    """A version of a prompt, with the members of v2 and those of `langfuse.prompts`.

    Attributes:
        prompt: Its text with `{{variables}}`, or chat messages; `.format(input=…)` fills in
            `{variables}` too.
    """

    def __init__(self, prompt: Prompt) -> None:
        self._prompt = prompt
        template = prompt.prompt
        self.prompt: Any = PromptText(template) if isinstance(template, str) else template

    def __getattr__(self, name: str) -> Any:
        return getattr(self._prompt, name)

    def compile(self, **variables: Any) -> Any:
        """The prompt with its variables filled in."""
        return self._prompt.compile(**variables)

    def format(self, **variables: Any) -> Any:
        """The same, by the name that older code uses."""
        template = self.prompt
        return (
            template.format(**variables) if isinstance(template, str) else self.compile(**variables)
        )

    def get_langchain_prompt(self, **variables: Any) -> Any:
        """The template with `{variables}`, as LangChain writes them."""
        filled = self.compile(**variables)
        return (
            _single_braces(filled)
            if isinstance(filled, str)
            else [
                (one.get("role", ""), _single_braces(str(one.get("content", "")))) for one in filled
            ]
        )


class PromptText(str):
    """The text of a prompt, whose `format` knows both ways to write a variable."""

    __slots__ = ()

    def format(self, *args: object, **variables: Any) -> str:
        """The text with `{{name}}` and `{name}` filled in; braces of other text stay."""
        text = str(self)
        for name, value in variables.items():
            filled = "" if value is None else str(value)
            text = text.replace("{{" + name + "}}", filled).replace("{" + name + "}", filled)
        return text


def _single_braces(text: str) -> str:
    return text.replace("{{", "{").replace("}}", "}")
