"""Masking of whole spans, on the way out: in the export worker, before encoding and spool.

`SpanMasking` is a step of `exporters.otlp.export_path`, from an ended span to the span to send, for
the own exporter and for the SDK's. Name, status, attributes, events, links, resource and scope are
looked at; ids, marks, models, tokens and prices never are.
The span of the application is not changed, and comes back itself when there was nothing to mask.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import lru_cache
from typing import Any, Final

from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import Event, ReadableSpan
from opentelemetry.sdk.util.instrumentation import InstrumentationScope
from opentelemetry.trace import Link
from opentelemetry.trace.status import Status

from otelbridge import masks, semconv
from otelbridge.masking.rules import Masking, load
from otelbridge.masking.text import Action
from otelbridge.processors.sdk_spans import with_attributes
from otelbridge.settings import Settings

_Attributes = Mapping[str, Any]
#: Identity, numbers and marks: a change would break links, prices or the LLM view.
UNMASKED_KEYS: Final = frozenset(
    (
        *masks.UNMASKED_KEYS,
        semconv.GEN_AI_OPERATION_NAME,
        semconv.GEN_AI_PROVIDER_NAME,
        semconv.GEN_AI_SYSTEM,
        semconv.GEN_AI_DATA_SOURCE_ID,
        semconv.GEN_AI_REQUEST_MODEL,
        semconv.GEN_AI_RESPONSE_ID,
        semconv.GEN_AI_RESPONSE_MODEL,
        semconv.GEN_AI_RESPONSE_FINISH_REASONS,
        semconv.GEN_AI_OUTPUT_TYPE,
        semconv.GEN_AI_TOOL_CALL_ID,
        semconv.GEN_AI_AGENT_ID,
        semconv.GEN_AI_PROMPT_NAME,
        semconv.GEN_AI_PROMPT_VERSION,
        semconv.OPENAI_RESPONSE_SYSTEM_FINGERPRINT,
        semconv.LANGFUSE_ENVIRONMENT,
        semconv.LANGFUSE_RELEASE,
        semconv.LANGFUSE_VERSION,
        semconv.LANGFUSE_OBSERVATION_TYPE,
        semconv.LANGFUSE_OBSERVATION_LEVEL,
        semconv.LANGFUSE_OBSERVATION_MODEL_NAME,
        semconv.LANGFUSE_OBSERVATION_USAGE_DETAILS,
        semconv.LANGFUSE_OBSERVATION_COST_DETAILS,
        semconv.LANGFUSE_OBSERVATION_COMPLETION_START_TIME,
        semconv.LANGFUSE_OBSERVATION_PROMPT_NAME,
        semconv.LANGFUSE_OBSERVATION_PROMPT_VERSION,
        semconv.LANGFUSE_PROMPT_NAME,
        semconv.LANGFUSE_PROMPT_VERSION,
        semconv.GRAFANA_URL,
        semconv.ERROR_TYPE,
        semconv.EXCEPTION_TYPE,
    )
)
_UNMASKED_PREFIXES: Final = (
    "otelbridge.",
    semconv.GEN_AI_USAGE_PREFIX,
    "llm.token_count.",
    "telemetry.",
    "code.",
)
_UNMASKED_RESOURCE_PREFIXES: Final = (
    "telemetry.",
    "k8s.",
    "container.",
    "cloud.",
    "os.",
    "service.",
)
_COMMAND_LINES: Final = (semconv.PROCESS_COMMAND_LINE, semconv.PROCESS_COMMAND_ARGS)
_CACHED_OBJECTS: Final = 256


class SpanMasking:
    """A span in, the span to send out: a rule of the export path.

    Args:
        masking: What is looked for, and what becomes of it.
    """

    def __init__(self, masking: Masking) -> None:
        self._masking = masking
        self._texts = masking.text_masker()
        self._action = lru_cache(maxsize=4096)(self._action_of)
        self._resource_action = lru_cache(maxsize=1024)(self._resource_action_of)
        self._resources: dict[int, tuple[Resource, Resource]] = {}
        self._scopes: dict[int, tuple[InstrumentationScope, InstrumentationScope]] = {}

    def __call__(self, span: ReadableSpan) -> ReadableSpan:
        """The span with everything masked that must not leave; the same one if nothing had to be.

        Raises:
            Exception: what a span of another library raises; the export path then drops it.
        """
        if not self._masking.enabled:
            return span
        attributes = _plain(span.attributes)
        suspects = self._texts.suspects(_texts_of(span, attributes))
        changed: dict[str, Any] = {}
        masked = self._attributes(attributes, suspects, on_span=True)
        if (name := self._texts.mask(span.name, suspects)) is not span.name:
            changed["name"] = name
        told = span.status.description
        if told and (text := self._texts.mask(told, suspects)) is not told:
            changed["status"] = Status(span.status.status_code, text)
        events = [self._event(event, suspects) for event in span.events]
        if any(new is not old for new, old in zip(events, span.events, strict=True)):
            changed["events"] = events
        links = [self._link(link) for link in span.links]
        if any(new is not old for new, old in zip(links, span.links, strict=True)):
            changed["links"] = links
        if (resource := self._resource(span.resource)) is not span.resource:
            changed["resource"] = resource
        if (scope := self._scope(span.instrumentation_scope)) is not span.instrumentation_scope:
            changed["instrumentation_scope"] = scope
        if masked is attributes and not changed:
            return span
        return with_attributes(span, masked, **changed)

    # -- parts of a span ---------------------------------------------------------------------------
    def _attributes(
        self, attributes: _Attributes, suspects: set[str] | None, *, on_span: bool
    ) -> _Attributes:
        changes: dict[str, Any] = {}
        for key, value in attributes.items():
            if type(value) in (bool, float) and not self._masking.keys:
                continue
            new = self._attribute(self._action(key, on_span), key, value, suspects)
            if new is not value:
                changes[key] = new
        return _with(attributes, changes)

    def _attribute(
        self, action: Action | None, key: str, value: Any, suspects: set[str] | None = None
    ) -> Any:
        """The value to send; None to leave the attribute out."""
        if action is None:
            return self._texts.value(value, key, suspects)
        if action == "keep":
            return value
        if action == "drop":
            return None
        if isinstance(value, list | tuple):
            return tuple(self._texts.apply(action, str(item)) for item in value)
        return self._texts.apply(action, value if isinstance(value, str) else str(value))

    def _action_of(self, key: str, on_span: bool) -> Action | None:
        """`keep`, `drop`, another action of the rules, or None: look at the value."""
        chosen = self._masking.key_action(key)
        if chosen is not None:
            return chosen
        if masks.is_credential_header(key):
            return "drop"
        unmasked = key in UNMASKED_KEYS and (on_span or key not in masks.UNMASKED_KEYS)
        return "keep" if unmasked or key.startswith(_UNMASKED_PREFIXES) else None

    def _event(self, event: Event, suspects: set[str] | None) -> Event:
        before = _plain(event.attributes)
        after = self._attributes(before, suspects, on_span=False)
        name = self._texts.mask(event.name, suspects)
        if after is before and name is event.name:
            return event
        return Event(name, dict(after), event.timestamp)

    def _link(self, link: Link) -> Link:
        before = _plain(link.attributes)
        after = self._attributes(before, None, on_span=False)
        return link if after is before else Link(link.context, dict(after))

    # -- what many spans share: by identity, hashing a resource writes it as JSON ------------------
    def _resource(self, resource: Resource) -> Resource:
        if not self._masking.resource:
            return resource
        known = self._resources.get(id(resource))
        if known is None:
            if len(self._resources) >= _CACHED_OBJECTS:
                self._resources.clear()
            changes = {
                key: new
                for key, value in resource.attributes.items()
                if (new := self._attribute(self._resource_action(key), key, value)) is not value
            }
            made = resource
            if changes:
                made = Resource(dict(_with(resource.attributes, changes)), resource.schema_url)
            known = self._resources[id(resource)] = (resource, made)
        return known[1]

    def _resource_action_of(self, key: str) -> Action | None:
        chosen = self._masking.key_action(key)
        if chosen is not None:
            return chosen
        if key in _COMMAND_LINES:
            return "drop"
        unmasked = key in masks.UNMASKED_RESOURCE_KEYS
        return "keep" if unmasked or key.startswith(_UNMASKED_RESOURCE_PREFIXES) else None

    def _scope(self, scope: InstrumentationScope | None) -> InstrumentationScope | None:
        if scope is None or not scope.attributes:
            return scope
        known = self._scopes.get(id(scope))
        if known is None:
            if len(self._scopes) >= _CACHED_OBJECTS:
                self._scopes.clear()
            before = _plain(scope.attributes)
            after = self._attributes(before, None, on_span=False)
            made = scope
            if after is not before:
                made = InstrumentationScope(
                    scope.name, scope.version, scope.schema_url, dict(after)
                )
            known = self._scopes[id(scope)] = (scope, made)
        return known[1]


def _texts_of(span: ReadableSpan, attributes: _Attributes) -> list[str]:
    """Every text of a span by itself: name, status, attributes, events."""
    texts = [span.name, span.status.description or ""]
    for values in (attributes, *(event.attributes or {} for event in span.events)):
        for _, value in values.items():  # noqa: PERF102 - values() of the SDK's mappings is slow
            if isinstance(value, str):
                texts.append(value)
            elif isinstance(value, list | tuple):
                texts += [item for item in value if isinstance(item, str)]
    texts += [event.name for event in span.events]
    return texts


def _with(attributes: _Attributes, changes: Mapping[str, Any]) -> _Attributes:
    if not changes:
        return attributes
    return {key: value for key, value in {**attributes, **changes}.items() if value is not None}


def _plain(attributes: _Attributes | None) -> _Attributes:
    # The SDK's own mapping takes a lock for each value; its copy is a plain dictionary.
    copy = getattr(attributes, "copy", None)
    plain: dict[str, Any] = dict(attributes or {}) if copy is None else copy()
    return plain


def masking_rule(settings: Settings, masking: Masking | None = None) -> SpanMasking | None:
    """The rule that settings ask for, None with OTELBRIDGE_MASKING=false.

    Args:
        settings: With `masking`, `masking_rules` and `masking_salt`.
        masking: Rules of the application, in place of those of the settings.
    Raises:
        ConfigError: rules that cannot be used.
    """
    if masking is None:
        masking = load(settings.masking, settings.masking_rules or "", settings.masking_salt or "")
    return SpanMasking(masking) if masking.enabled else None
