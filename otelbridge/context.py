"""Who and what a request is for: user, session, tags, metadata, trace name, version, request id.

`request_context` puts them into W3C baggage, the one representation for this process and for the
services behind it; `processors.context` copies them onto every span. Inbound baggage passes the
same allow-list and the same limits. What does not fit is dropped whole and counted, never cut.
Knows nothing of providers or exporters.
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any, Final
from urllib.parse import quote_plus

from opentelemetry import baggage, trace
from opentelemetry import context as otel_context
from opentelemetry.context import Context
from opentelemetry.util.types import AttributeValue

from otelbridge import _guard, semconv, view

_logger = _guard.logger

#: Context key of the request's `X-Request-ID`.
REQUEST_ID_KEY: Final = "otelbridge.request_id"
#: Context key of the version given to `request_context`; it stays in this process.
VERSION_KEY: Final = "otelbridge.version"
#: Context key of attributes for every span of one item of a run over a dataset, in this process.
RUN_ATTRIBUTES_KEY: Final = "otelbridge.run_attributes"
#: Context key set while a `request_context(trace_name=…)` is open: the entry span is kept.
KEEP_ENTRY_KEY: Final = "otelbridge.keep_entry"
_BLOCK_KEY: Final = "otelbridge.request_block"

#: Langfuse drops user, session, tag and metadata text over 200 characters (langfuse-python 4.14,
#: propagate_attributes); the server cuts nothing.
MAX_VALUE_CHARACTERS: Final = 200
#: W3C Baggage section 3.3.2: at least 64 members and 8,192 bytes must be propagated; OTel's
#: propagator reads 4,096 bytes of one member. What stands in the baggage besides our members keeps
#: a quarter of it.
MAX_HEADER_BYTES: Final = 8192
MAX_MEMBER_BYTES: Final = 4096
MAX_BAGGAGE_BYTES: Final = 6144
MAX_BAGGAGE_MEMBERS: Final = 64

_DIRECT_KEYS: Final = (semconv.USER_ID, semconv.SESSION_ID, semconv.LANGFUSE_TRACE_NAME)
_PREFIX: Final = semconv.LANGFUSE_TRACE_METADATA_PREFIX
_REQUEST_ID_MEMBER: Final = f"{_PREFIX}request_id"
_MAX_KEY_CHARACTERS: Final = len(_PREFIX) + MAX_VALUE_CHARACTERS


def flatten_metadata(metadata: Mapping[str, Any]) -> dict[str, str]:
    """Metadata as flat text: nested mappings become dotted keys, everything else becomes text.

    `{"task": {"type": "sql"}, "cached": True, "ids": [1, 2]}` gives `{"task.type": "sql",
    "cached": "true", "ids": "[1, 2]"}`: numbers and booleans as JSON writes them, lists as JSON
    text. None and values that cannot be written are left out.
    """
    flat: dict[str, str] = {}
    _flatten(metadata, "", flat, depth=0)
    return flat


def _flatten(metadata: Mapping[Any, Any], prefix: str, flat: dict[str, str], depth: int) -> None:
    for key, value in metadata.items():
        with _guard.guard("metadata"):  # a key or value without a text costs only itself
            name = f"{prefix}{key}"
            if isinstance(value, Mapping):
                if depth < 8:  # deeper than any metadata, and an end to a mapping in itself
                    _flatten(value, f"{name}.", flat, depth + 1)
                continue
            text = _metadata_text(value)
            if text is not None:
                flat[name] = text


def _metadata_text(value: Any) -> str | None:
    if value is None:
        return None
    if isinstance(value, str):
        return value
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, int):
        return str(value)
    if isinstance(value, float):
        return repr(value) if math.isfinite(value) else None
    if isinstance(value, list | tuple | set | frozenset):
        items = sorted(value, key=str) if isinstance(value, set | frozenset) else value
        return json.dumps(list(items), ensure_ascii=False, default=str)
    return str(value)


def _text(value: Any) -> str:
    """The text of a value, empty where it has none."""
    # The SDK's baggage propagator trims what arrives; both sides must show the same text.
    with _guard.guard("request context value"):
        return str.strip(str(value))  # `str` may give a class of the application's own
    return ""


def _fits(key: str, text: str, reason: str) -> bool:
    if text and len(text) <= MAX_VALUE_CHARACTERS and _encodable(text):
        return True
    if text:
        _guard.count(f"request context: {reason}")
        _logger.debug("otelbridge: %s dropped: %s", key, reason)
    return False


def _encodable(text: str) -> bool:
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True


def _members(
    user_id: str | None,
    session_id: str | None,
    tags: Iterable[str] | None,
    metadata: Mapping[str, Any] | None,
    trace_name: str | None,
    context: Context,
) -> dict[str, str]:
    """The baggage members of a request context: name -> text, each within the limits."""
    members: dict[str, str] = {}
    direct = zip(_DIRECT_KEYS, (user_id, session_id, trace_name), strict=True)
    for key, value in direct:
        if value is not None and _fits(key, text := _text(value), "value over 200 characters"):
            members[key] = text
    with _guard.guard("request context tags"):
        given = [tags] if isinstance(tags, str) else tags or ()
        fresh = [t for t in map(_text, given) if _fits("tag", t, "tag over 200 characters")]
        known = _tags_of(baggage.get_baggage(semconv.LANGFUSE_TRACE_TAGS, context))
        if fresh:
            merged = list(dict.fromkeys((*known, *fresh)))
            members[semconv.LANGFUSE_TRACE_TAGS] = json.dumps(merged, ensure_ascii=False)
    with _guard.guard("request context metadata"):
        for given_name, given_text in flatten_metadata(metadata or {}).items():
            name, text = given_name.strip(), given_text.strip()
            if len(name) > MAX_VALUE_CHARACTERS or not _encodable(name):
                _guard.count("request context: metadata key over 200 characters")
            elif _fits(_PREFIX + name, text, "metadata value over 200 characters"):
                members[_PREFIX + name] = text
    return members


def _with_members(context: Context, members: Mapping[str, str]) -> Context:
    """The context with these members in its baggage, as far as the baggage limits allow."""
    present = {key: str(value) for key, value in baggage.get_all(context).items()}
    for key, text in members.items():
        grown = {**present, key: text}
        if not _within_limits(key, grown):
            _guard.count("request context: baggage full")
            continue
        present = grown
        context = baggage.set_baggage(key, text, context)
    return context


def _within_limits(key: str, grown: Mapping[str, str]) -> bool:
    """Whether the next service would still read all of this baggage, `key` just added."""
    sizes = {k: len(quote_plus(k)) + len(quote_plus(v)) + 2 for k, v in grown.items()}
    ours = [size for k, size in sizes.items() if is_ours(k)]
    return (
        sizes[key] <= MAX_MEMBER_BYTES
        and sum(ours) <= MAX_BAGGAGE_BYTES
        and len(ours) <= MAX_BAGGAGE_MEMBERS
        and sum(sizes.values()) <= MAX_HEADER_BYTES
    )


def is_ours(key: str) -> bool:
    """Whether a baggage member belongs to the request context (the inbound allow-list)."""
    return (
        key in _DIRECT_KEYS or key == semconv.LANGFUSE_TRACE_TAGS or key.startswith(_PREFIX)
    )


def _tags_of(value: object) -> list[str]:
    if not isinstance(value, str) or not value:
        return []
    if value.startswith("["):
        try:
            parsed = json.loads(value)
        except ValueError:
            return []
        items = parsed if isinstance(parsed, list) else []
        return [item for item in items if isinstance(item, str)]
    return [part.strip() for part in value.split(",") if part.strip()]


def context_attributes(context: Context | None) -> dict[str, AttributeValue]:
    """The span attributes that a context's baggage and request version stand for.

    Returns:
        `user.id`, `session.id`, `langfuse.trace.name`, `langfuse.version` as text,
        `langfuse.trace.tags` as a list, `langfuse.trace.metadata.<key>` as text. Members over the
        limits, wherever they come from, are left out.
    """
    attributes: dict[str, AttributeValue] = {}
    members = baggage.get_all(context)
    if members:
        for key, value in members.items():
            if not isinstance(value, str) or not is_ours(key):
                continue
            if key == semconv.LANGFUSE_TRACE_TAGS:
                tags = [t for t in _tags_of(value) if len(t) <= MAX_VALUE_CHARACTERS]
                if tags:
                    attributes[key] = tags[:MAX_BAGGAGE_MEMBERS]
            elif 0 < len(value) <= MAX_VALUE_CHARACTERS and len(key) <= _MAX_KEY_CHARACTERS:
                attributes[key] = value
            if len(attributes) >= MAX_BAGGAGE_MEMBERS:
                break
    version = otel_context.get_value(VERSION_KEY, context)
    if isinstance(version, str):
        attributes[semconv.LANGFUSE_VERSION] = version
    return attributes


@contextmanager
def request_context(
    *,
    user_id: str | None = None,
    session_id: str | None = None,
    tags: Iterable[str] | None = None,
    metadata: Mapping[str, Any] | None = None,
    trace_name: str | None = None,
    version: str | None = None,
) -> Iterator[None]:
    """Name the user, session, tags, metadata and trace name of the request inside the block.

    Every span that starts inside carries them, in this process (threads and tasks included) and,
    by baggage to trusted hosts, in the services behind it; the current span and the request's
    entry span get them too. Nested blocks add to the outer one, the inner value wins.

    Args:
        user_id, session_id, trace_name, version: text of at most 200 characters.
        tags: texts of at most 200 characters; nested blocks unite them.
        metadata: nested mappings become dotted keys, lists JSON text, booleans and numbers text.
        trace_name: names the trace in Langfuse, and puts it there even without LLM work.
    What is over a limit is dropped whole and counted (W3C Baggage 3.3.2; langfuse-python 4.14).
    """
    block = _Block()
    with _guard.guard("request_context"):
        context = otel_context.get_current()
        members = _members(user_id, session_id, tags, metadata, trace_name, context)
        context = _with_members(context, members)
        if version is not None:
            text = _text(version)
            if _fits("version", text, "version over 200 characters"):
                context = otel_context.set_value(VERSION_KEY, text, context)
        if trace_name is not None:
            context = otel_context.set_value(KEEP_ENTRY_KEY, True, context)
        _stamp_open_spans(context, trace_name is not None)
        block.enter(context)
    try:
        yield
    finally:
        block.leave()


def update_request(
    *,
    user_id: str | None = None,
    session_id: str | None = None,
    tags: Iterable[str] | None = None,
    metadata: Mapping[str, Any] | None = None,
    trace_name: str | None = None,
    version: str | None = None,
) -> None:
    """Say from anywhere in a request what `request_context` says at its beginning.

    For older APIs that name the user late. All spans of the request in this process that have not
    ended get the values, and what is sent to other services from now on; a `request_context`
    block opened inside wins. Outside of a span nothing happens.
    """
    with _guard.guard("update_request"):
        context = otel_context.get_current()
        current = trace.get_current_span(context)
        if not current.get_span_context().is_valid:
            return  # nothing would ever take the values away from this thread again
        members = _members(user_id, session_id, tags, metadata, trace_name, context)
        node = view.node_of(current)
        if node is not None:
            known = dict(node.entry.updates)
            for key, text in members.items():
                before = known[key][0] if key in known else baggage.get_baggage(key, context)
                known[key] = (before, text)
            node.entry.updates = known  # replaced, not changed: other threads may be reading
        context = _with_members(context, members)
        if version is not None and _fits("version", text := _text(version), "version too long"):
            context = otel_context.set_value(VERSION_KEY, text, context)
        if trace_name is not None:
            context = otel_context.set_value(KEEP_ENTRY_KEY, True, context)
        _stamp_open_spans(context, trace_name is not None)
        otel_context.attach(context)  # left with the scope around it, see `_Block`


def with_updates(context: Context, entry: view.Entry) -> Context:
    """The context with what `update_request` said elsewhere in the same request."""
    for key, (before, text) in entry.updates.items():
        present = baggage.get_baggage(key, context)
        if present is None or present == before:
            context = baggage.set_baggage(key, text, context)
    return context


def late_updates(entry: view.Entry, present: Mapping[str, Any]) -> dict[str, AttributeValue]:
    """The attributes that a span is short of, because `update_request` came after its start."""
    late: dict[str, AttributeValue] = {}
    for key, (before, text) in entry.updates.items():
        seen = present.get(key)
        if key == semconv.LANGFUSE_TRACE_TAGS:
            if seen is None or list(seen) == _tags_of(before):
                late[key] = tuple(_tags_of(text))
        elif seen is None or seen == before:
            late[key] = text
    return late


class _Block:
    """One `request_context` being in force; may be left anywhere, in any order.

    Tokens of `opentelemetry.context` must go back to where they came from: a generator that is
    finalised in another task would log an error, and blocks that overlap without nesting would
    leave one user's values behind in the thread. `genai._scope` does the same for spans.
    """

    __slots__ = ("_left", "_previous")

    def __init__(self) -> None:
        self._left = False
        self._previous: Context | None = None

    def enter(self, context: Context) -> None:
        self._previous = otel_context.get_current()
        otel_context.attach(otel_context.set_value(_BLOCK_KEY, self, context))

    def leave(self) -> None:
        self._left = True
        previous = self._previous
        if previous is None or otel_context.get_value(_BLOCK_KEY) is not self:
            return  # another block is on top and will go back further, or another task or thread
        self._previous = None
        outer = otel_context.get_value(_BLOCK_KEY, previous)
        while isinstance(outer, _Block) and outer._left and outer._previous is not None:
            previous = outer._previous
            outer = otel_context.get_value(_BLOCK_KEY, previous)
        otel_context.attach(previous)


def _stamp_open_spans(context: Context, named: bool) -> None:
    """Give the values to the spans that were open before they were known."""
    span = trace.get_current_span(context)
    node = view.node_of(span)
    if node is not None and named and node.own:
        node.entry.claim()
    attributes = context_attributes(context)
    if span.is_recording():
        span.set_attributes(attributes)
    entry_span = node.entry.live_span if node is not None and not node.is_entry else None
    if entry_span is not None:
        for key, value in attributes.items():
            entry_span.set_attribute(key, value)


def request_id(context: Context | None = None) -> str | None:
    """The id of the request that is being served.

    The `X-Request-ID` that came with it, else the id that the service before works under, else the
    one that the server integration made; None outside of a request.
    """
    value = otel_context.get_value(REQUEST_ID_KEY, context)
    if not isinstance(value, str):
        value = baggage.get_baggage(_REQUEST_ID_MEMBER, context)
    return value if isinstance(value, str) and value else None


def with_request_id(value: str, context: Context, *, given: bool) -> Context:
    """A context whose request has this id, which goes on to the services behind.

    Args:
        value: At most 200 characters.
        context: Before inbound headers are read into it.
        given: The caller named it in a header; one that was made gives way to the caller's baggage.
    """
    if given:
        context = otel_context.set_value(REQUEST_ID_KEY, value, context)
    return _with_members(context, {_REQUEST_ID_MEMBER: value})


def current_trace_id() -> str | None:
    """The current trace id as 32 hex digits, or None outside of a trace."""
    context = trace.get_current_span().get_span_context()
    return trace.format_trace_id(context.trace_id) if context.is_valid else None
