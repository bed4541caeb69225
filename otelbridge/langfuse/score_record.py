"""A score as bytes: what the spool keeps of it, masked.

`sendable` is the body that Langfuse takes; `open_record` a score whose request has no trace yet,
with what its span will need, and `read_open_record` the way back. Used by `score_delivery`.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, replace
from typing import Any, Protocol

from otelbridge import _guard
from otelbridge.langfuse.score_body import Score, Target
from otelbridge.masking.rules import Masking, load
from otelbridge.settings import Settings


class TextMasker(Protocol):
    """What is asked of a masker."""

    def value(self, value: Any, name: str = "") -> Any:
        """The value without what must not leave."""


class _Closed:
    """Stands for rules that cannot be read: no free text leaves."""

    def value(self, value: Any, name: str = "") -> Any:
        return "[masked:failed]" if isinstance(value, str) and value else {}


def masker_of(settings: Settings, masking: Masking | None = None) -> TextMasker | None:
    """What masks free text, None where masking is off; rules that cannot be used mask all of it.

    Args:
        masking: Rules in code, in place of those of the settings.
    """
    try:
        salt = settings.masking_salt or ""
        rules = masking or load(settings.masking, settings.masking_rules or "", salt)
        return rules.text_masker() if rules.enabled else None
    except Exception as error:  # noqa: BLE001 - a file, its syntax, a rule in it
        _guard.record_failure("score masking", error)
        return _Closed()


def masked(score: Score, masker: TextMasker | None) -> Score:
    """The score with comment, metadata and free text masked; categories are no free text."""
    if masker is None:
        return score
    free = score.data_type in ("TEXT", "CORRECTION")
    metadata = masker.value(dict(score.metadata), "metadata") if score.metadata else {}
    return replace(
        score,
        comment=masker.value(score.comment, "comment") if score.comment else "",
        metadata=metadata if isinstance(metadata, Mapping) else {},
        value=masker.value(score.value, "value") if free else score.value,
    )


def sendable(score: Score) -> bytes:
    """The body of `POST /api/public/scores`."""
    return json.dumps(score.as_body(), ensure_ascii=False, allow_nan=False).encode(errors="replace")


def open_record(score: Score, request: Mapping[str, Any]) -> bytes:
    """A score whose trace has to be found, with the attributes that are known of its request."""
    whole = {"score": asdict(score), "request": dict(request)}
    return json.dumps(whole, ensure_ascii=False, default=str).encode(errors="replace")


def read_open_record(payload: bytes) -> tuple[Score, dict[str, Any]]:
    """What `open_record` wrote.

    Raises:
        ValueError: it is something else.
    """
    whole = json.loads(payload)
    try:
        fields = dict(whole["score"])
        target = Target(**fields.pop("target"))
        return Score(**fields, target=target), dict(whole["request"])
    except (KeyError, TypeError) as error:
        raise ValueError(str(error)) from error


def with_trace(score: Score, trace_id: str) -> Score:
    """The score of a request whose trace is known now; its id stays."""
    return replace(score, target=replace(score.target, trace_id=trace_id))
