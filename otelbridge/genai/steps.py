"""The steps around model calls: tools, retrievals, evaluations.

Each knows under which attributes its input and output belong, for the semantic conventions and for
Langfuse. Nothing here counts tokens or cost.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from otelbridge import semconv
from otelbridge._guard import guard
from otelbridge.genai._config import get_config
from otelbridge.genai._span import Call
from otelbridge.genai._values import (
    content_text,
    dumps,
    optional_text,
    text_of,
    to_float,
    to_json,
    to_plain,
)


class ToolCall(Call):
    """The execution of a tool."""

    def set_arguments(self, arguments: object) -> None:
        """The arguments, as JSON text or anything that becomes JSON."""
        self._set_content(semconv.GEN_AI_TOOL_CALL_ARGUMENTS, arguments)

    def set_result(self, result: object) -> None:
        """The result, as text or anything that becomes JSON."""
        self._set_content(semconv.GEN_AI_TOOL_CALL_RESULT, result)

    def set_input(self, value: object) -> None:
        """The arguments; the same as `set_arguments`."""
        self.set_arguments(value)

    def set_output(self, value: object) -> None:
        """The result; the same as `set_result`."""
        self.set_result(value)


class RetrievalCall(Call):
    """A search in a data source."""

    def set_documents(self, documents: object) -> None:
        """What was found: a list of texts, dictionaries (`id`, `score`, `content`) or objects."""
        if not self._recording or documents is None or not get_config().capture_content:
            return
        with guard("set_documents"):
            text = dumps(_documents(documents))
            self._write(
                {
                    semconv.GEN_AI_RETRIEVAL_DOCUMENTS: text,
                    semconv.LANGFUSE_OBSERVATION_OUTPUT: text,
                }
            )

    def set_output(self, value: object) -> None:
        """What was found; the same as `set_documents`."""
        self.set_documents(value)

    def set_input(self, value: object) -> None:
        """The query."""
        self._set_content(semconv.GEN_AI_RETRIEVAL_QUERY_TEXT, value)
        self._set_content(semconv.LANGFUSE_OBSERVATION_INPUT, value)


class EvaluationCall(Call):
    """A judgement on an answer."""

    def set_score(
        self, value: float | str | None, *, label: str | None = None, explanation: str | None = None
    ) -> None:
        """The result: a number (a boolean is 0 or 1; text is taken as the label), label, reason.

        Written as span attributes and as the event `gen_ai.evaluation.result`.
        """
        if not self._recording:
            return
        with guard("set_score"):
            number = float(value) if type(value) is bool else to_float(value)
            if number is None and label is None:
                label = optional_text(value)
            capture = get_config().capture_content
            found = {
                semconv.GEN_AI_EVALUATION_SCORE_VALUE: number,
                semconv.GEN_AI_EVALUATION_SCORE_LABEL: optional_text(label),
                semconv.GEN_AI_EVALUATION_EXPLANATION: (
                    content_text(explanation) if capture and explanation is not None else None
                ),
            }
            known = {key: item for key, item in found.items() if item is not None}
            self._write(known)
            name = text_of(self._identity.get(semconv.GEN_AI_EVALUATION_NAME))
            event = {semconv.GEN_AI_EVALUATION_NAME: name, **known}
            self.span.add_event(semconv.GEN_AI_EVALUATION_RESULT_EVENT, event)
            if capture:
                self._write({semconv.LANGFUSE_OBSERVATION_OUTPUT: to_json(_score_view(known))})


def _score_view(found: Mapping[str, Any]) -> dict[str, Any]:
    return {key.rpartition(".")[2]: value for key, value in found.items()}


def _documents(documents: object) -> list[Any]:
    plain = to_plain(documents)
    items = plain if isinstance(plain, list) else [plain]
    return [item if isinstance(item, dict) else {"content": item} for item in items]
