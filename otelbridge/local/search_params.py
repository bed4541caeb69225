"""Query parameters of Tempo's search, tag and metrics endpoints, as Tempo 3.0.3 reads them.

Text in, checked values out; a `ParameterError` carries the text of the 400 answer. Limits and
defaults are Tempo's, except that a search without start and end looks at everything that is stored.
Neighbour: `search_api` has the routes.
"""

from __future__ import annotations

import datetime
import math
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

from otelbridge.local.traceql.printing import go_duration

#: Tempo 3.0.3 `query_frontend`: defaults and ceilings.
DEFAULT_LIMIT: Final = 20
MAX_LIMIT: Final = 262_144
DEFAULT_SPSS: Final = 3
MAX_SPSS: Final = 100
MAX_SEARCH_SECONDS: Final = 168 * 3600
MAX_METRICS_SECONDS: Final = 24 * 3600
DEFAULT_METRICS_SECONDS: Final = 3600
MAX_STEPS: Final = 10_000
_SECOND: Final = 1_000_000_000
_INT64: Final = 2**63 - 1
_UNITS_NS: Final[dict[str, int]] = {
    "ns": 1, "us": 1_000, "µs": 1_000, "ms": 1_000_000, "s": _SECOND, "m": 60 * _SECOND,
    "h": 3600 * _SECOND, "d": 86_400 * _SECOND, "w": 7 * 86_400 * _SECOND,
    "y": 365 * 86_400 * _SECOND,
}  # fmt: skip
_DURATION: Final = re.compile(r"([0-9]+(?:\.[0-9]*)?|\.[0-9]+)(ns|us|µs|ms|[smhdwy])")
_LOGFMT: Final = re.compile(r'([^\s="]+)(?:=("(?:[^"\\]|\\.)*"|[^\s"]*))?')
_STATUS_WORDS: Final = ("ok", "error", "unset")


class ParameterError(ValueError):
    """A parameter is refused; the text is what the client reads."""


@dataclass(frozen=True, slots=True)
class SearchParameters:
    """Of `/api/search`. Seconds since 1970; `start_s` 0 and `end_s` 0 mean: all that is stored."""

    query: str
    start_s: int
    end_s: int
    limit: int
    spss: int


@dataclass(frozen=True, slots=True)
class MetricsParameters:
    """Of the metrics endpoints, in nanoseconds; `step_ns` None lets the range decide."""

    query: str
    start_ns: int
    end_ns: int
    step_ns: int | None


def search_parameters(given: Mapping[str, str]) -> SearchParameters:
    """Parameters of a search.

    Raises:
        ParameterError: one of them is refused.
    """
    query = given.get("q", "")
    legacy = [name for name in ("tags", "minDuration", "maxDuration") if given.get(name)]
    if query and given.get("tags"):
        raise ParameterError("invalid request: can't specify tags and q in the same query")
    start_s, end_s = window(given)
    limit = _integer(given, "limit", DEFAULT_LIMIT)
    if "limit" in given and limit <= 0:
        raise ParameterError("invalid limit: must be a positive number")
    if limit > MAX_LIMIT:
        raise ParameterError(f"limit {limit} exceeds max limit {MAX_LIMIT}")
    spss = _integer(given, "spss", DEFAULT_SPSS)
    if spss < 0:
        raise ParameterError("invalid spss: must be a non-negative number")
    if spss > MAX_SPSS:
        raise ParameterError(f"spans per span set exceeds {MAX_SPSS}. received {spss}")
    if not query and legacy:
        query = _legacy_query(given)
    return SearchParameters(query, start_s, end_s, limit, spss or DEFAULT_SPSS)


def window(given: Mapping[str, str], max_seconds: int = MAX_SEARCH_SECONDS) -> tuple[int, int]:
    """`start` and `end` in seconds; (0, 0) when neither is given.

    Raises:
        ParameterError: only one is given, they are reversed or too far apart.
    """
    start_s, end_s = _integer(given, "start", 0), _integer(given, "end", 0)
    if not start_s and not end_s:
        return 0, 0
    if not start_s or not end_s:
        raise ParameterError("please provide non-zero values for http parameters start and end")
    if start_s >= end_s:
        raise ParameterError(
            f"http parameter start must be before end. received start={start_s} end={end_s}"
        )
    if end_s - start_s > max_seconds:
        raise ParameterError(
            f"range specified by start and end exceeds {go_duration(max_seconds * _SECOND)}. "
            f"received start={start_s} end={end_s}"
        )
    return start_s, end_s


def metrics_parameters(
    given: Mapping[str, str], now_ns: int, *, with_step: bool
) -> MetricsParameters:
    """Parameters of a metrics query; the default range is the last hour.

    Raises:
        ParameterError: one of them is refused.
    """
    query = given.get("q") or given.get("query") or ""
    end_ns = _time(given["end"], "end") if given.get("end") else now_ns
    if given.get("since") and not given.get("start"):
        start_ns = end_ns - _duration_ns(given["since"])
    elif given.get("start"):
        start_ns = _time(given["start"], "start")
    else:
        start_ns = end_ns - DEFAULT_METRICS_SECONDS * _SECOND
    if end_ns <= start_ns:
        raise ParameterError("end must be greater than start")
    if end_ns - start_ns > MAX_METRICS_SECONDS * _SECOND:
        raise ParameterError(
            f"metrics query time range {go_duration(end_ns - start_ns)} exceeds the maximum "
            f"allowed duration of {go_duration(MAX_METRICS_SECONDS * _SECOND)}"
        )
    step_ns = None
    if with_step and given.get("step"):
        step_ns = _duration_ns(given["step"])
        smallest = (end_ns - start_ns) // MAX_STEPS
        if step_ns <= 0 or step_ns < smallest:
            raise ParameterError(
                f"step of {go_duration(step_ns)} is too small, minimum step for given range is "
                f"{go_duration(smallest)}"
            )
    return MetricsParameters(query, start_ns, end_ns, step_ns)


def tag_limit(given: Mapping[str, str]) -> int:
    """`limit` of the tag endpoints; 0 for none."""
    limit = _integer(given, "limit", 0)
    if limit < 0:
        raise ParameterError("invalid limit: must be a non-negative number")
    return limit


def _integer(given: Mapping[str, str], name: str, default: int) -> int:
    text = given.get(name, "")
    if not text:
        return default
    if not re.fullmatch(r"[+-]?[0-9]+", text, re.ASCII):
        raise ParameterError(f'invalid {name}: strconv.Atoi: parsing "{text}": invalid syntax')
    if len(text) > 20 or abs(int(text)) > _INT64:
        raise ParameterError(f'invalid {name}: strconv.Atoi: parsing "{text}": value out of range')
    return int(text)


def _time(text: str, name: str) -> int:
    """Seconds, fractions of seconds, nanoseconds (19 digits) or RFC 3339, in nanoseconds."""
    if re.fullmatch(r"[0-9]{1,19}", text, re.ASCII):
        return int(text) if len(text) > 10 else int(text) * _SECOND
    if re.fullmatch(r"[0-9]{1,11}\.[0-9]*", text, re.ASCII):
        whole, _, fraction = text.partition(".")
        return int(whole) * _SECOND + int((fraction + "0" * 9)[:9])
    try:
        moment = datetime.datetime.fromisoformat(text)
        if moment.tzinfo is None:
            raise ValueError
        seconds = math.floor(moment.replace(microsecond=0).timestamp())
    except (ValueError, OverflowError):
        raise ParameterError(
            f'invalid {name}: "{text}" is no time: give seconds, nanoseconds or RFC 3339'
        ) from None
    return seconds * _SECOND + moment.microsecond * 1000


def _duration_ns(text: str) -> int:
    """A duration of Go or Prometheus, or plain seconds, in nanoseconds."""
    if re.fullmatch(r"[0-9]{1,9}(\.[0-9]{0,9})?", text, re.ASCII):
        return int(float(text) * _SECOND)
    total, at = 0.0, 0
    while at < len(text):
        found = _DURATION.match(text, at)
        if found is None or len(text) > 64:
            raise ParameterError(
                f'rpc error: code = Code(400) desc = cannot parse "{text[:64]}" to a valid duration'
            )
        total += float(found[1]) * _UNITS_NS[found[2]]
        at = found.end()
    return int(min(total, float(2**62)))


# -- the older parameters --------------------------------------------------------------------------
def _legacy_query(given: Mapping[str, str]) -> str:
    """`tags` (logfmt), `minDuration` and `maxDuration` (of the trace) as TraceQL."""
    conditions = [_legacy_condition(key, value) for key, value in _logfmt(given.get("tags", ""))]
    for name, operator in (("minDuration", ">="), ("maxDuration", "<=")):
        if given.get(name):
            try:
                nanoseconds = _duration_ns(given[name])
            except ParameterError:
                raise ParameterError(
                    f'invalid {name}: time: invalid duration "{given[name][:64]}"'
                ) from None
            conditions.append(f"traceDuration {operator} {nanoseconds}ns")
    return "{ " + " && ".join(conditions) + " }"


def _logfmt(text: str) -> list[tuple[str, str]]:
    pairs = []
    for key, value in _LOGFMT.findall(text):
        quoted = value.startswith('"')
        pairs.append((key, re.sub(r"\\(.)", r"\1", value[1:-1]) if quoted else value))
    return pairs


def _legacy_condition(key: str, value: str) -> str:
    text = '"' + value.replace("\\", "\\\\").replace('"', '\\"') + '"'
    if key == "status" and value in _STATUS_WORDS:
        return f"status = {value}"
    if key == "error" and value in ("true", "false"):
        return f"status {'=' if value == 'true' else '!='} error"
    names = {"name": "name", "root.name": "rootName", "root.service.name": "rootServiceName"}
    if key in names:
        return f"{names[key]} = {text}"
    attribute = '."' + key.replace("\\", "\\\\").replace('"', '\\"') + '"'
    alternatives = [f"{attribute} = {text}"]
    if value in ("true", "false") or re.fullmatch(r"-?[0-9]+(\.[0-9]+)?", value, re.ASCII):
        alternatives.append(f"{attribute} = {value}")
    return "(" + " || ".join(alternatives) + ")"
