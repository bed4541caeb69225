"""Scores of the older APIs, on `otelbridge.langfuse.scores`: arguments of then to those of now.

A score never raises into the caller: what cannot be one is logged.
"""

from __future__ import annotations

from typing import Any

from otelbridge import _guard
from otelbridge.legacy_headers import span_id_of


@_guard.guarded("compat: score", "")
def give_score(
    name: str,
    value: Any,
    *,
    trace_id: str | None = None,
    observation_id: str | None = None,
    session_id: str | None = None,
    comment: str | None = None,
    data_type: str | None = None,
    metadata: Any = None,
    config_id: str | None = None,
    id: str | None = None,
    **_: object,
) -> str:
    """The id of the score, empty text for one that cannot be given.

    Args:
        trace_id: 32 hex digits, a UUID, or an id that the application gave the request.
        observation_id: 16 hex digits; others are left out.
    """
    from otelbridge.langfuse.scores import score

    if trace_id:
        session_id = None
    try:
        return score(
            name,
            value,
            trace_id=trace_id or None,
            session_id=session_id,
            span_id=span_id_of(observation_id) if trace_id else None,
            comment=comment,
            data_type=data_type,
            metadata=metadata if isinstance(metadata, dict) else None,
            config_id=config_id,
            score_id=id,
        )
    except ValueError as error:
        _guard.logger.warning("otelbridge: a score was not given: %s", error)
        return ""
