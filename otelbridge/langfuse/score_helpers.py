"""Scores with usual names: ratings, thumbs, quality, success of an API call or of an SQL statement.

Thin over `scores.score`; each takes its targets and options too. Names and values are those that
dashboards and older code use.
"""

from __future__ import annotations

import math
from typing import Any, Final

from otelbridge.langfuse.scores import score

USER_RATING: Final = "user_rating"
USER_FEEDBACK: Final = "user_feedback"
QUALITY: Final = "quality_score"
API_SUCCESS: Final = "api_success"
API_ERROR: Final = "api_error"
SQL_EXECUTION: Final = "sql_execution_success"


def score_user_rating(rating: float, **target: Any) -> str:
    """A user's rating from 1 to 5 (halves too) as `user_rating`; beyond it the nearest of them.

    Args:
        target: Target and options of `score`.
    Returns:
        The id of the score.
    """
    return score(USER_RATING, _within(rating, 1.0, 5.0), **target)


def score_thumbs(up: bool, **target: Any) -> str:
    """A user's thumb as `user_feedback`: true is up."""
    return score(USER_FEEDBACK, bool(up), **{"data_type": "BOOLEAN", **target})


def score_quality(quality: float, **target: Any) -> str:
    """A quality from 0 to 1 as `quality_score`; beyond it the nearest of them."""
    return score(QUALITY, _within(quality, 0.0, 1.0), **target)


def score_api_call(error: BaseException | str | None = None, **target: Any) -> str:
    """Whether a request went well: `api_success` 1.0, or `api_error` 0.0 with the error as comment.

    Args:
        error: The exception, or text; None for success.
    """
    if error is None:
        return score(API_SUCCESS, 1.0, **target)
    text = f"{type(error).__name__}: {error}" if isinstance(error, BaseException) else str(error)
    return score(API_ERROR, 0.0, **{"comment": text, **target})


def score_sql_execution(success: bool, error: BaseException | str | None = None, **t: Any) -> str:
    """Whether a generated SQL statement ran, as `sql_execution_success` 1 or 0."""
    comment = {} if error is None else {"comment": str(error)}
    return score(SQL_EXECUTION, bool(success), **{"data_type": "BOOLEAN", **comment, **t})


def _within(value: float, low: float, high: float) -> float:
    """A number moved into a range; what is none is left for `score` to refuse."""
    try:
        number = float(value)
    except (TypeError, ValueError):
        return value
    return number if math.isnan(number) else min(high, max(low, number))
