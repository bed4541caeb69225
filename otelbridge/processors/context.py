"""Attributes that every span carries: the request context, environment, release; clean URLs.

Reads what `otelbridge.context` put into the baggage (here or in the service before) and the
settings. A span only ever gets what the allow-list names. Pure functions over a context and a
span's attributes; `processors.pipeline` calls them.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from opentelemetry.context import Context
from opentelemetry.util.types import AttributeValue

from otelbridge import masks, semconv
from otelbridge.context import context_attributes, request_id

_URL_KEYS: Final = (
    semconv.URL_FULL,
    semconv.URL_QUERY,
    semconv.HTTP_URL,
    semconv.HTTP_TARGET,
)


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
        found = context_attributes(context)
        if self._constant:
            found = {**self._constant, **found}
        if found and present:
            found = {key: value for key, value in found.items() if key not in present}
        if gen_ai and semconv.GEN_AI_CONVERSATION_ID not in present:
            session = found.get(semconv.SESSION_ID)
            if session is not None:
                found[semconv.GEN_AI_CONVERSATION_ID] = session
        found.update(clean_urls(present))
        return found


def entry_attributes(context: Context) -> dict[str, AttributeValue]:
    """What only the first span of a request carries: its request id."""
    value = request_id(context)
    return {semconv.REQUEST_ID: value} if value else {}


def clean_urls(present: Mapping[str, Any]) -> dict[str, AttributeValue]:
    """The URL attributes that hold a secret-named query parameter, with its value replaced."""
    changed: dict[str, AttributeValue] = {}
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
