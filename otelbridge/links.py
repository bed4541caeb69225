"""A trace or span as addresses in Langfuse and Grafana, and such an address as ids again.

Pure: settings and ids in, text out; nothing is asked of either store, so a link may lead to a trace
that was not sampled or had no LLM work. The addresses themselves are made by `span_rules`, which
also writes them on spans. Used by `otelbridge.trace_links`, `otelbridge link` and `provider`.
"""

from __future__ import annotations

import json
import re
from dataclasses import asdict, dataclass
from typing import Any, Final
from urllib.parse import parse_qs, quote, unquote, urlsplit

from otelbridge import span_rules
from otelbridge.settings import Settings
from otelbridge.span_rules import Pages, Place

_TRACE_DIGITS: Final = 32
_SPAN_DIGITS: Final = 16
_HEX: Final = re.compile(r"[0-9a-f]+", re.ASCII)
#: Time range of a link whose trace's start is not known. Source: Tempo keeps blocks for 14 days
#: unless told otherwise (compactor `block_retention`, 336h).
_ANY_TIME: Final = ("now-14d", "now")
#: What may stand in a path segment as it is (RFC 3986), and `%`: an id that was copied from the
#: address bar is encoded already.
_SEGMENT: Final = "!$&'()*+,;=:@%-._~"
#: Replaced by Grafana with the value that a data link hangs on.
_GRAFANA_VALUE: Final = "${__value.raw}"


@dataclass(frozen=True, slots=True)
class TraceLinks:
    """Where one trace is in each store; None where there is no address to give.

    Attributes:
        trace_id: 32 hex digits, or None outside of a trace.
        span_id: 16 hex digits, when the links are those of one span.
        langfuse_url: Its page in Langfuse, with the observation selected when `span_id` is set.
        grafana_url: The trace in Grafana, in Explore or in the dashboard of traces.
    """

    trace_id: str | None = None
    span_id: str | None = None
    langfuse_url: str | None = None
    grafana_url: str | None = None

    def as_dict(self) -> dict[str, str | None]:
        """The four values by name, for a log line or a JSON answer."""
        return asdict(self)


NO_LINKS: Final = TraceLinks()


def pages_of(settings: Settings) -> Pages:
    """Where the two stores' pages are; a part that is not configured is empty text."""
    langfuse = settings.langfuse
    return Pages(
        langfuse_url=(langfuse.public_url or "") if langfuse.enabled else "",
        langfuse_project_id=quote(langfuse.project_id or "", safe=_SEGMENT),
        grafana_url=settings.grafana_url or "",
        grafana_links=settings.grafana_links,
    )


def links(
    pages: Pages, trace_id: str, span_id: str | None = None, start_time_ns: int | None = None
) -> TraceLinks:
    """Both addresses of a trace, or of one of its spans.

    Args:
        pages: From `pages_of`.
        trace_id: 32 hex digits.
        span_id: 16 hex digits.
        start_time_ns: Start of the trace or span in Unix nanoseconds; unknown, Grafana is asked
            for the last 14 days.
    """
    langfuse = grafana = None
    if pages.langfuse_url and pages.langfuse_project_id:
        langfuse = span_rules.langfuse_page(pages, trace_id, span_id or "")
    if pages.grafana_url and start_time_ns is not None:
        place = Place(trace_id, span_id or "", start_time_ns)
        grafana = span_rules.grafana_page(pages, place)
    elif pages.grafana_url:
        grafana = span_rules.grafana_range_page(pages, trace_id, span_id or "", _ANY_TIME)
    return TraceLinks(trace_id, span_id, langfuse, grafana)


def missing_settings(pages: Pages) -> dict[str, tuple[str, ...]]:
    """Store to the variables that its links need and that have no value."""
    needed = {
        "langfuse": (
            ("LANGFUSE_PUBLIC_URL", pages.langfuse_url),
            ("LANGFUSE_PROJECT_ID", pages.langfuse_project_id),
        ),
        "grafana": (("OTELBRIDGE_GRAFANA_URL", pages.grafana_url),),
    }
    missing = {
        store: tuple(name for name, value in variables if not value)
        for store, variables in needed.items()
    }
    return {store: names for store, names in missing.items() if names}


def grafana_trace_link(pages: Pages) -> str | None:
    """Langfuse's page of a trace with Grafana's variable for its id; None without Langfuse.

    The value of OTELBRIDGE_LANGFUSE_TRACE_LINK in `grafana/provisioning/datasources`.
    """
    if not (pages.langfuse_url and pages.langfuse_project_id):
        return None
    return span_rules.langfuse_page(pages, _GRAFANA_VALUE)


def parse_trace_id(text: str) -> str:
    """A trace id as 32 lower-case hex digits.

    Upper case is repaired, and so are missing leading zeros: Tempo's search leaves them out.

    Raises:
        ValueError: with a sentence, for anything else.
    """
    found = _digits(text, "trace id", _TRACE_DIGITS)
    if len(found) > _TRACE_DIGITS:
        raise ValueError(f"{text!r} is no trace id: {len(found)} digits, at most {_TRACE_DIGITS}")
    return found.zfill(_TRACE_DIGITS)


def parse_span_id(text: str) -> str:
    """A span id as 16 lower-case hex digits; upper case is repaired.

    Raises:
        ValueError: with a sentence, for anything else.
    """
    found = _digits(text, "span id", _SPAN_DIGITS)
    if len(found) != _SPAN_DIGITS:
        raise ValueError(f"{text!r} is no span id: {len(found)} digits, not {_SPAN_DIGITS}")
    return found


def _digits(text: str, what: str, digits: int) -> str:
    if not issubclass(type(text), str):
        raise ValueError(f"a {type(text).__name__} is no {what}")
    text = str.__str__(text)  # a class of the application's own may answer anything
    found = text.strip().lower()
    if not _HEX.fullmatch(found):
        raise ValueError(f"{text!r} is no {what}: it has {digits} hexadecimal digits, 0-9 and a-f")
    if not found.strip("0"):
        raise ValueError(f"{text!r} is no {what}: zeros alone stand for none")
    return found


def ids_of(url: str) -> tuple[str, str | None]:
    """Trace id and span id of an address of Langfuse or Grafana, of the kinds made here.

    Also reads Explore's older form (`left=`) and Langfuse's `?peek=`.

    Raises:
        ValueError: an address without a trace id.
    """
    parts = urlsplit(url.strip())
    query = parse_qs(parts.query)
    first = {name: values[0] for name, values in query.items()}
    span_id: str | None = first.get("observation")
    found = re.search(r"/traces?/([0-9A-Fa-f]+)/?$", unquote(parts.path))
    trace_id = found[1] if found else first.get("peek") or first.get("var-traceId")
    if trace_id is None:
        trace_id, span_id = _explored(first.get("panes"), first.get("left"))
    if trace_id is None:
        raise ValueError(f"{url!r} holds no trace id")
    return parse_trace_id(trace_id), parse_span_id(span_id) if span_id else None


def _explored(panes: str | None, left: str | None) -> tuple[str | None, str | None]:
    """Ids of the first pane of Explore that asks for a trace by its id."""
    try:
        found: list[Any] = list(json.loads(panes).values()) if panes else []
        found += [json.loads(left)] if left else []
        for pane in found:
            for query in pane.get("queries", ()):
                text = str(query.get("query", "")).strip()
                if len(text) == _TRACE_DIGITS and _HEX.fullmatch(text.lower()):
                    span_id = pane.get("panelsState", {}).get("trace", {}).get("spanId")
                    return text, span_id if isinstance(span_id, str) else None
    except (ValueError, AttributeError, TypeError):
        pass
    return None, None
