"""Attributes that every span carries: the request context, environment, release; clean URLs.

Reads what `otelbridge.context` put into the baggage (here or in the service before) and the
settings. A span only ever gets what the allow-list names. Pure functions over a context and a
span's attributes; `processors.pipeline` calls them.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from opentelemetry import trace
from opentelemetry.context import Context
from opentelemetry.util.types import AttributeValue

from otelbridge import masks, semconv
from otelbridge.context import RUN_ATTRIBUTES_KEY, context_attributes, request_id

_URL_KEYS: Final = (
    semconv.URL_FULL,
    semconv.URL_QUERY,
    semconv.HTTP_URL,
    semconv.HTTP_TARGET,
)
_url_keys: Final = frozenset(_URL_KEYS)
#: The SDK keeps the name of this key to itself.
_SPAN_KEY: Final = next(iter(trace.set_span_in_context(trace.INVALID_SPAN, Context())))


class ContextAttributes:
    """The attributes of request and deployment that a starting span gets.

    Args:
        environment: Already normalised as Langfuse does; empty for none.
        release: Empty for none.
    """

    def __init__(self, *, environment: str | None, release: str | None) -> None:
        self._constant: dict[str, AttributeValue] = {}
        if environment:
            self._constant[semconv.LANGFUSE_ENVIRONMENT] = environment
        if release:
            self._constant[semconv.LANGFUSE_RELEASE] = release

    def at_start(
        self, present: Mapping[str, Any], context: Context, *, gen_ai: bool
    ) -> dict[str, AttributeValue]:
        """What to add to a span that starts in this context with these attributes present."""
        # Without a request that was named, a context holds the current span at most.
        named = len(context) > 1 or (context and _SPAN_KEY not in context)
        found = context_attributes(context) if named else {}
        if self._constant:
            found = {**self._constant, **found}
        if named and isinstance(of_run := context.get(RUN_ATTRIBUTES_KEY), Mapping):
            found.update(of_run)
        if found and present:
            found = {key: value for key, value in found.items() if key not in present}
        if gen_ai and found and semconv.GEN_AI_CONVERSATION_ID not in present:
            session = found.get(semconv.SESSION_ID)
            if session is not None:
                found[semconv.GEN_AI_CONVERSATION_ID] = session
        if named and (value := request_id(context)):
            found[semconv.REQUEST_ID] = value
        if not _url_keys.isdisjoint(present):
            found.update(clean_urls(present))
        return found


def clean_urls(present: Mapping[str, Any]) -> dict[str, AttributeValue]:
    """The URL attributes that hold a secret-named query parameter, with its value replaced."""
    changed: dict[str, AttributeValue] = {}
    if _url_keys.isdisjoint(present):
        return changed
    for key in _URL_KEYS:
        value = present.get(key)
        if isinstance(value, str) and "=" in value:
            clean = masks.mask_query(value)
            if clean != value:
                changed[key] = clean
    return changed


def both_provider_names(present: Mapping[str, Any]) -> dict[str, AttributeValue]:
    """`gen_ai.provider.name` or the deprecated `gen_ai.system`, whichever of the two is missing."""
    provider = present.get(semconv.GEN_AI_PROVIDER_NAME)
    system = present.get(semconv.GEN_AI_SYSTEM)
    if provider is not None and system is None:
        return {semconv.GEN_AI_SYSTEM: provider}
    if system is not None and provider is None:
        return {semconv.GEN_AI_PROVIDER_NAME: system}
    return {}
