"""The two branches of `direct` export: what leaves the service for each store, span by span."""

from __future__ import annotations

import copy
from collections.abc import Sequence
from typing import Any

import pytest
from opentelemetry import trace
from opentelemetry.attributes import BoundedAttributes
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import SpanExporter, SpanExportResult
from opentelemetry.trace.status import Status, StatusCode

from otelbridge import _guard, semconv
from otelbridge.exporters.branches import Branch, langfuse_branch, tempo_branch
from otelbridge.processors.sdk_spans import with_attributes
from otelbridge.span_rules import Pages

SECRET = "sk-proj-abcdefghijklmnopqrstuvwx"
MASKED = "[masked:api-key]"
CHAT = {semconv.GEN_AI_OPERATION_NAME: "chat", semconv.GEN_AI_REQUEST_MODEL: "gpt-4o"}


class Keep(SpanExporter):
    """Keeps what it is given."""

    def __init__(self) -> None:
        self.spans: list[ReadableSpan] = []

    def export(self, spans: Sequence[ReadableSpan]) -> SpanExportResult:
        self.spans += spans
        return SpanExportResult.SUCCESS


def ended(name: str = "work", attributes: Any = None, resource: Any = None, **fields: Any) -> Any:
    """An ended span of the SDK."""
    provider = TracerProvider(resource=Resource({semconv.SERVICE_NAME: "svc", **(resource or {})}))
    span = provider.get_tracer("tests").start_span(name, attributes=attributes)
    for event_name, event_attributes in fields.get("events", ()):
        span.add_event(event_name, event_attributes)
    if "status" in fields:
        span.set_status(Status(StatusCode.ERROR, fields["status"]))
    span.end()
    return span


def sent(branch: Any, *spans: ReadableSpan, **arguments: Any) -> list[ReadableSpan]:
    """What a branch sends of these spans."""
    keep = Keep()
    assert branch(keep, **arguments).export(spans) is SpanExportResult.SUCCESS
    return keep.spans


@pytest.mark.parametrize("branch", [tempo_branch, langfuse_branch])
def test_secrets_leave_nowhere(branch: Any) -> None:
    """Attributes, names, events and status are masked; the span of the application stays whole."""
    attributes = {**CHAT, "note": f"key {SECRET}", "http.request.header.cookie": ("a=b",)}
    events = [(f"event {SECRET}", {"exception.message": SECRET})]
    span = ended(f"call {SECRET}", attributes, status=f"refused {SECRET}", events=events)
    (found,) = sent(branch, span)
    assert SECRET not in found.to_json()
    assert (found.name, found.status.description) == (f"call {MASKED}", f"refused {MASKED}")
    assert found.events[0].name == f"event {MASKED}"
    assert dict(found.events[0].attributes or {}) == {"exception.message": MASKED}
    assert (found.attributes or {})["note"] == f"key {MASKED}"
    assert "http.request.header.cookie" not in (found.attributes or {})
    assert SECRET in span.name
    assert span.attributes["note"] == attributes["note"]


def test_a_span_with_nothing_to_change_keeps_its_parts() -> None:
    """Events are handed on as they are; the resource is marked once for all spans."""
    span = ended("plain", {"n": 1}, events=[("retry", {"n": 2})])
    first, second = sent(tempo_branch, span, span)
    assert first.events[0] is span.events[0]
    assert dict(first.attributes or {}) == {"n": 1}
    assert first.resource is second.resource
    assert first.resource.attributes[semconv.BRANCH] == "tempo"


def test_command_lines_leave_for_neither_store() -> None:
    """What the process was started with holds secrets."""
    resource = {semconv.PROCESS_COMMAND_LINE: "app --key=zzz", semconv.PROCESS_COMMAND_ARGS: ["x"]}
    span = ended("chat", CHAT, resource)
    for branch in (tempo_branch, langfuse_branch):
        (found,) = sent(branch, span)
        keys = found.resource.attributes.keys()
        assert not {semconv.PROCESS_COMMAND_LINE, semconv.PROCESS_COMMAND_ARGS} & keys
        assert semconv.SERVICE_NAME in keys


def test_users_and_sessions_are_resources_of_their_own_in_tempo() -> None:
    """One process, many users: each span's resource names its own, and 1 is not "1"."""
    owners = [("u-1", "s"), ("u-2", "s"), ("u-1", "s"), (1, ""), ("1", "")]
    spans = [ended("w", {semconv.USER_ID: user, semconv.SESSION_ID: s}) for user, s in owners]
    provider = TracerProvider(resource=Resource({semconv.SERVICE_NAME: "svc"}))
    spans = [with_attributes(s, s.attributes, resource=provider.resource) for s in spans]
    found = sent(tempo_branch, *spans)
    keys = (semconv.LANGFUSE_USER_ID, semconv.LANGFUSE_SESSION_ID)
    shown = [tuple(span.resource.attributes.get(key) for key in keys) for span in found]
    assert shown == [("u-1", "s"), ("u-2", "s"), ("u-1", "s"), (1, None), ("1", None)]
    assert found[0].resource is found[2].resource
    assert semconv.LANGFUSE_USER_ID not in (found[0].attributes or {})


def test_other_dialects_are_in_the_view_with_current_names() -> None:
    """A span that only its emitter's keys tell to be an LLM call is normalised for both."""
    span = ended("call", {"openinference.span.kind": "LLM", "llm.token_count.prompt": "7"})
    for branch in (tempo_branch, langfuse_branch):
        (found,) = sent(branch, span)
        assert (found.attributes or {})[semconv.GEN_AI_OPERATION_NAME] == "chat"
        assert (found.attributes or {})[semconv.GEN_AI_USAGE_INPUT_TOKENS] == 7


def test_each_store_links_to_the_other() -> None:
    """With the addresses of the two, and only on spans that the other store has."""
    pages = Pages("https://lf.example", "p-7", "https://grafana.example")
    spans = [ended("chat", CHAT), ended("plain"), ended("out", {**CHAT, semconv.LLM_KEEP: False})]
    context = spans[0].get_span_context()
    trace_id, span_id = f"{context.trace_id:032x}", f"{context.span_id:016x}"
    in_tempo = [span.attributes or {} for span in sent(tempo_branch, *spans, pages=pages)]
    assert [attributes.get(semconv.LANGFUSE_URL) for attributes in in_tempo] == [
        f"https://lf.example/project/p-7/traces/{trace_id}?observation={span_id}", None, None,
    ]  # fmt: skip
    (seen,) = sent(langfuse_branch, *spans, pages=pages)
    assert str((seen.attributes or {})[semconv.GRAFANA_URL]).startswith(
        "https://grafana.example/explore?"
    )


def test_long_values_are_bounded_in_tempo_only() -> None:
    """Text is cut, JSON is replaced whole, also in events; Langfuse gets all of it."""
    long = {"text": "€" * 2000, "json": "[" + "1," * 2000 + "1]"}
    span = ended("chat", CHAT | long, events=[("e", long)])
    (in_tempo,) = sent(tempo_branch, span)
    for attributes in (in_tempo.attributes or {}, in_tempo.events[0].attributes or {}):
        assert attributes["text"] == "€" * 682
        assert attributes["json"] == "[removed: JSON of more than 2048 bytes]"
    (in_langfuse,) = sent(langfuse_branch, span)
    assert (in_langfuse.attributes or {})["text"] == long["text"]


def test_content_in_an_event_alone_is_removed_and_marked() -> None:
    """The marker says that the span lost message text, wherever it stood."""
    (dropped,) = sent(tempo_branch, ended("a", events=[("gen_ai.user.message", {"content": "x"})]))
    assert (dropped.attributes or {})[semconv.CONTENT_REMOVED] is True
    assert list(dropped.events) == []
    (emptied,) = sent(tempo_branch, ended("b", events=[("log", {"input.value": "x", "n": 1})]))
    assert (emptied.attributes or {})[semconv.CONTENT_REMOVED] is True
    assert dict(emptied.events[0].attributes or {}) == {"n": 1}


def test_a_span_that_a_rule_fails_on_is_left_out_and_counted(swallow_errors: None) -> None:
    """It must neither leave as it is nor cost its neighbours."""
    keep, before = Keep(), _guard.failures().get("branch rule: ZeroDivisionError", 0)

    def rule(span: ReadableSpan) -> ReadableSpan:
        return span if span.name != "bad" else 1 // 0  # type: ignore[return-value]

    assert Branch(rule, keep).export([ended("a"), ended("bad"), ended("b")]) is (
        SpanExportResult.SUCCESS
    )
    assert [span.name for span in keep.spans] == ["a", "b"]
    assert _guard.failures()["branch rule: ZeroDivisionError"] == before + 1


def test_a_span_without_valid_ids_is_left_out() -> None:
    """A backend refuses the whole batch for one of them."""
    span = with_attributes(ended("x"), {}, context=trace.INVALID_SPAN_CONTEXT)
    assert sent(tempo_branch, span) == sent(langfuse_branch, span) == []


def test_a_copy_of_a_span_has_attributes_like_those_of_the_sdk() -> None:
    """Read like a mapping, not changed, copied deeply, with the count of dropped ones."""
    span = ended("x", {"a": 1, "b": ("c",)})
    made = with_attributes(span, {**span.attributes, "d": 2.5})._attributes
    assert isinstance(made, BoundedAttributes)
    assert dict(made) == {"a": 1, "b": ("c",), "d": 2.5} == dict(made.items())
    assert copy.deepcopy(made) == made == made.copy()
    assert len(made) == 3
    assert "d" in made
    assert with_attributes(span, {}).dropped_attributes == span.dropped_attributes
    with pytest.raises(TypeError):
        made["a"] = 2
