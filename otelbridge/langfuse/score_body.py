"""What a score is: checked, with a deterministic id, as the JSON that Langfuse takes.

Pure. Rules are those of Langfuse's `POST /api/public/scores` (v3.225, v4.16; OpenAPI of 5.0):
exactly one target, a value that fits its type. A mistake in the program raises ValueError; a value
that only a run can bring (NaN, an empty answer) gives None with a reason, since telemetry must not
break the run. Used by `scores`.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any, Final

#: Types of Langfuse; CORRECTION is for a person's better answer.
DATA_TYPES: Final = ("NUMERIC", "BOOLEAN", "CATEGORICAL", "TEXT", "CORRECTION")
MAX_NAME_CHARACTERS: Final = 200
#: Langfuse takes a TEXT score of 1 to 500 characters.
MAX_TEXT_CHARACTERS: Final = 500
#: Ours: the body of a request may have 1 MB.
MAX_COMMENT_CHARACTERS: Final = 10_000
_WORDS: Final = {"true": 1, "false": 0, "yes": 1, "no": 0}


class BadValueError(Exception):
    """A value that cannot be a score; the message says why."""


@dataclass(frozen=True, slots=True)
class Target:
    """What is judged: exactly one of trace, session, dataset run and request.

    Attributes:
        trace_id: 32 hex digits.
        span_id: 16 hex digits of one span of the trace.
        request_id: As in `X-Request-ID`; its trace has to be found.
    """

    trace_id: str = ""
    span_id: str = ""
    session_id: str = ""
    dataset_run_id: str = ""
    request_id: str = ""

    @property
    def key(self) -> str:
        """Text that is the same for the same target, a request's trace known or not."""
        for name in ("request_id", "session_id", "dataset_run_id"):
            if value := getattr(self, name):
                return f"{name}:{value}"
        return f"trace:{self.trace_id}:{self.span_id}"

    def as_body(self) -> dict[str, str]:
        """The target's members of a body; none for a request."""
        found = {
            "traceId": self.trace_id,
            "observationId": self.span_id if self.trace_id else "",
            "sessionId": self.session_id,
            "datasetRunId": self.dataset_run_id,
        }
        return {name: value for name, value in found.items() if value}


@dataclass(frozen=True, slots=True)
class Score:
    """A checked score.

    Attributes:
        value: A number; text for CATEGORICAL, TEXT and CORRECTION.
        time_ns: When it was given, Unix nanoseconds.
        facts: `gen_ai.prompt.name`, `.version` and the variant that were judged, where known.
        first_ns: When a score of this id was first given: Langfuse replaces a score by id and time
            (API of 5.0); 0 for `time_ns`.
    """

    id: str
    name: str
    value: float | str
    data_type: str
    target: Target
    time_ns: int
    comment: str = ""
    metadata: Mapping[str, Any] = field(default_factory=dict)
    environment: str = ""
    config_id: str = ""
    facts: Mapping[str, Any] = field(default_factory=dict)
    first_ns: int = 0

    @property
    def number(self) -> float | None:
        """The value as a number, None for text."""
        return self.value if isinstance(self.value, float) else None

    @property
    def label(self) -> str | None:
        """The category, or `true` and `false`; None for numbers and free text."""
        if self.data_type == "BOOLEAN":
            return "true" if self.value else "false"
        return str(self.value) if self.data_type == "CATEGORICAL" else None

    def as_body(self) -> dict[str, Any]:
        """The JSON object of `POST /api/public/scores`; without target for an open request."""
        moment = datetime.fromtimestamp((self.first_ns or self.time_ns) / 1e9, UTC)
        body: dict[str, Any] = {
            "id": self.id,
            **self.target.as_body(),
            "name": self.name,
            "value": int(self.value) if self.data_type == "BOOLEAN" else self.value,
            "dataType": self.data_type,
            "timestamp": moment.isoformat(timespec="milliseconds").replace("+00:00", "Z"),
            "comment": self.comment,
            "metadata": dict(self.metadata),
            "environment": self.environment,
            "configId": self.config_id,
        }
        return {name: value for name, value in body.items() if value not in ("", {})}


def score_id(target: Target, name: str, source: str = "") -> str:
    """32 hex digits, the same for the same target, name and source: a repeat overwrites."""
    text = "\0".join(("otelbridge.score", target.key, name, source))
    return hashlib.blake2b(text.encode("utf-8", "replace"), digest_size=16).hexdigest()


def checked_name(name: object) -> str:
    """The name of a score.

    Raises:
        ValueError: it is no text, empty or over 200 characters.
    """
    if not isinstance(name, str) or not name.strip():
        raise ValueError(f"the name of a score is text that is not empty, not {name!r}")
    if len(name) > MAX_NAME_CHARACTERS:
        raise ValueError(f"the name of a score has at most {MAX_NAME_CHARACTERS} characters")
    return clean(name.strip())


def clean(text: str) -> str:
    """Text that UTF-8 can hold: half a surrogate pair becomes a question mark."""
    return text.encode("utf-8", "replace").decode()


def checked_type(data_type: object) -> str | None:
    """One of `DATA_TYPES` in upper case, None for None.

    Raises:
        ValueError: anything else.
    """
    if data_type is None:
        return None
    found = data_type.strip().upper() if isinstance(data_type, str) else ""
    if found not in DATA_TYPES:
        raise ValueError(f"data_type is one of {', '.join(DATA_TYPES)}, not {data_type!r}")
    return found


def typed_value(value: object, data_type: str | None) -> tuple[float | str, str]:
    """A value as Langfuse wants it, and its type.

    Without a type: booleans are BOOLEAN, numbers NUMERIC, text CATEGORICAL.

    Raises:
        BadValueError: it is neither, is not finite, or does not fit the type.
    """
    if data_type is None:
        data_type = _type_of(value)
    if data_type in ("NUMERIC", "BOOLEAN"):
        number = _number(value)
        if data_type == "BOOLEAN" and number not in (0.0, 1.0):
            raise BadValueError(f"{value!r} is neither true nor false")
        return number, data_type
    if not isinstance(value, str) or not value.strip():
        raise BadValueError(f"a {data_type} score is text that is not empty, not {value!r}")
    text = clean(value)
    if data_type == "TEXT":
        text = text[:MAX_TEXT_CHARACTERS]
    return text, data_type


def _type_of(value: object) -> str:
    if isinstance(value, bool):
        return "BOOLEAN"
    return "CATEGORICAL" if isinstance(value, str) else "NUMERIC"


def _number(value: object) -> float:
    if isinstance(value, str) and value.strip().lower() in _WORDS:
        return float(_WORDS[value.strip().lower()])
    try:
        number = float(value)  # type: ignore[arg-type]  # Decimal and numpy's numbers too
    except (TypeError, ValueError, OverflowError) as error:
        raise BadValueError(f"{value!r:.100} is no number") from error
    if not math.isfinite(number):
        raise BadValueError(f"{number} is no score")
    return number


def plain_metadata(metadata: object) -> dict[str, Any]:
    """Metadata as JSON can hold it; what cannot be written becomes text, what fails is left out."""
    if not isinstance(metadata, Mapping):
        return {}
    found: dict[str, Any] = {}
    for key, value in metadata.items():
        plain = _plain(value, depth=0)
        if plain is not None:
            found[clean(str(key))] = plain
    return found


def _plain(value: object, depth: int) -> Any:
    if value is None or isinstance(value, bool | int):
        return value
    if isinstance(value, float):
        return value if math.isfinite(value) else str(value)
    if isinstance(value, Mapping) and depth < 5:
        return {clean(str(key)): _plain(item, depth + 1) for key, item in value.items()}
    if isinstance(value, list | tuple | set | frozenset) and depth < 5:
        return [_plain(item, depth + 1) for item in value]
    return clean(str(value))
