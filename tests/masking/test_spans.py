"""Whole spans: every text of theirs is masked, what identifies and counts is not."""

from __future__ import annotations

from typing import Any

import pytest
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.trace import Link, SpanContext
from opentelemetry.trace.status import Status, StatusCode

from otelbridge import masks, semconv
from otelbridge.errors import ConfigError
from otelbridge.exporters.encoding import SpanEncoder, request
from otelbridge.masking.rules import Masking
from otelbridge.masking.spans import SpanMasking, masking_rule
from otelbridge.settings import Settings

MAIL, KEY = "jane.doe@example.com", "sk-proj-aB3dE5fG7hI9jK1lM3nO5"
LINKED = SpanContext(1, 2, is_remote=True)


def ended(
    name: str = "work",
    attributes: Any = None,
    resource: Any = None,
    scope: Any = None,
    links: Any = (),
    **given: Any,
) -> ReadableSpan:
    """An ended span of the SDK."""
    provider = TracerProvider(resource=Resource(resource or {}))
    tracer = provider.get_tracer("tests", attributes=scope)
    span = tracer.start_span(name, attributes=attributes, links=links)
    for event_name, event_attributes in given.get("events", ()):
        span.add_event(event_name, event_attributes)
    if "status" in given:
        span.set_status(Status(StatusCode.ERROR, given["status"]))
    span.end()
    assert isinstance(span, ReadableSpan)
    return span


def sent(span: ReadableSpan) -> bytes:
    return request([SpanEncoder().encode(span)])


def test_every_text_of_a_span_is_masked():
    """Name, status, attributes, lists, events, exceptions, links, resource and scope."""
    trouble = f"no reply from {MAIL} with {KEY}"
    span = ended(
        f"mail {MAIL}",
        {"note": trouble, "all": [MAIL, "b"], "app.password": "hunter", "n": 4111111111111111},
        resource={"note": MAIL, "process.command_line": f"run --key {KEY}", "service.name": "shop"},
        scope={"from": MAIL},
        links=[Link(LINKED, {"why": MAIL})],
        events=[
            (
                "exception",
                {"exception.message": trouble, "exception.stacktrace": f'  f("{KEY}")\n'},
            ),
            (f"sent to {MAIL}", {"user.id": MAIL}),
        ],
        status=trouble,
    )
    masked = SpanMasking(Masking())(span)
    wire = sent(masked)
    for secret in (MAIL, KEY, "hunter", "4111111111111111"):
        assert secret.encode() not in wire
    assert masked.name == "mail [masked:email]"
    assert masked.status.description == "no reply from [masked:email] with [masked:api-key]"
    assert masked.status.status_code is StatusCode.ERROR
    assert dict(masked.attributes or {})["all"] == ("[masked:email]", "b")
    assert dict(masked.resource.attributes) == {"note": "[masked:email]", "service.name": "shop"}
    assert span.name == f"mail {MAIL}"
    assert MAIL.encode() in sent(span)


def test_what_identifies_and_counts_stays_to_the_letter():
    """Ids, models, tokens, prices and marks, even where they look like something to mask."""
    attributes = {
        semconv.USER_ID: MAIL,
        semconv.SESSION_ID: "010-1234-5678",
        semconv.GEN_AI_REQUEST_MODEL: "ft:gpt-4o:4111111111111111",
        semconv.GEN_AI_RESPONSE_ID: "chatcmpl-010-1234-5678",
        semconv.GEN_AI_CONVERSATION_ID: MAIL,
        semconv.GEN_AI_USAGE_INPUT_TOKENS: 4111111111111111,
        semconv.GEN_AI_USAGE_COST: 4111111111111111.0,
        semconv.LANGFUSE_OBSERVATION_USAGE_DETAILS: '{"input": 4111111111111111}',
        semconv.LANGFUSE_OBSERVATION_COST_DETAILS: '{"total": 0.4111}',
        semconv.LLM_KEEP: True,
        semconv.LLM_PARENT: "4111111111111111",
        semconv.REQUEST_ID: "010-1234-5678",
        semconv.GEN_AI_TOOL_CALL_ID: "call_4111111111111111",
    }
    span = ended("chat gpt-4o", attributes, resource={"service.name": "a@b.io", "host.name": MAIL})
    assert SpanMasking(Masking())(span) is span


def test_a_clean_span_comes_back_itself_and_off_means_off():
    """Nothing is copied for nothing; `enabled=False` leaves everything."""
    span = ended("GET /items", {"url.path": "/items", "n": 3}, events=[("log", {"message": "ok"})])
    assert SpanMasking(Masking())(span) is span
    dirty = ended("GET /items", {"note": MAIL})
    assert SpanMasking(Masking(enabled=False))(dirty) is dirty
    assert masking_rule(Settings.from_env({"OTELBRIDGE_MASKING": "false"})) is None


def test_ids_parents_and_times_are_those_of_the_span():
    """The copy differs in what was masked only."""
    span = ended("work", {"note": MAIL})
    masked = SpanMasking(Masking())(span)
    for field in ("context", "parent", "start_time", "end_time", "kind", "instrumentation_scope"):
        assert getattr(masked, field) == getattr(span, field)


def test_keys_have_policies_of_their_own():
    """Drop, mask, hash, last4, keep, a function; the first that fits counts."""
    rules = Masking(
        keys={
            "app.drop": "drop",
            "app.mask": "mask",
            "app.hash": "hash",
            "app.last": "last4",
            "app.keep": "keep",
            "app.upper": str.upper,
            "app.wrong": lambda _: 1 / 0,
            "app.*": "drop",
            "app.never": "keep",
            semconv.USER_ID: "hash",
        },
        salt="a salt of this test",
    )  # fmt: skip
    keys = ("drop", "mask", "hash", "last", "keep", "upper", "wrong", "other", "never")
    attributes = {f"app.{key}": f"a value {MAIL}" for key in keys}
    span = ended("work", {**attributes, semconv.USER_ID: MAIL, "app.flag": True, "list": ["x"]})
    masked = dict(SpanMasking(rules)(span).attributes or {})
    assert masked.pop("app.hash").startswith("[hash:value:")
    assert masked.pop(semconv.USER_ID).startswith("[hash:value:")
    assert masked == {
        "app.mask": "[masked:value]",
        "app.last": "[masked:value:ecom]",
        "app.keep": f"a value {MAIL}",
        "app.upper": f"A VALUE {MAIL.upper()}",
        "app.wrong": "[masked:failed]",
        "list": ("x",),
    }


def test_captured_credentials_go_as_a_whole():
    """Headers that are secrets are left out, as at the Collector."""
    span = ended(
        "GET", {"http.request.header.authorization": ["x"], "http.request.header.accept": ["*/*"]}
    )
    masked = dict(SpanMasking(Masking())(span).attributes or {})
    assert masked == {"http.request.header.accept": ("*/*",)}
    assert masks.is_credential_header("http.request.header.cookie")


def test_the_service_leaves_nothing_for_the_collectors_patterns():
    """Each kind of `masks.MASK_PATTERNS` is found here too."""
    for text in (
        "-----BEGIN RSA PRIVATE KEY-----\nMIIEpAIBAAKCAQEA7bq\n-----END RSA PRIVATE KEY-----",
        "eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiIxMjMifQ.c2lnbmF0dXJl",
        *(
            f"{p}aB3dE5fG7hI9jK1lM3nO5pQ7"
            for p in ("sk-", "sk-ant-", "gsk_", "hf_", "ghp_", "glpat-", "xoxb-")
        ),
        *(
            f"{p}aB3dE5fG7hI9jK1lM3nO5pQ7"
            for p in ("xai-", "pplx-", "rk_live_", "sk_live_", "github_pat_")
        ),
        "AKIAIOSFODNN7EXAMPLE",
        "AIza" + "aB3dE5fG7hI9jK1lM3nO5pQ7rS9tU1vW3xY",
        "Bearer aB3dE5fG7hI9jK1lM3nO5",
        "postgres://app:hunter2@db/x",
        "https://x.example/v1?access_token=abc&sig=Zx81kQv2",
        MAIL,
    ):
        assert masks.mask_text(text) != text
        masked = SpanMasking(Masking())(ended(text)).name
        assert masked != text
        assert masks.mask_text(masked) == masked, masked


def test_rules_of_settings_and_of_code_make_the_rule():
    """The application's `Masking` wins; wrong text is a ConfigError."""
    settings = Settings.from_env({"OTELBRIDGE_MASKING_RULES": '{"allow": ["*@example.com"]}'})
    rule = masking_rule(settings)
    assert rule is not None
    assert rule(ended(MAIL)).name == MAIL
    own = masking_rule(settings, Masking())
    assert own is not None
    assert own(ended(MAIL)).name == "[masked:email]"
    with pytest.raises(ConfigError):
        masking_rule(Settings.from_env({"OTELBRIDGE_MASKING": "nothing"}))


def test_masking_stays_when_attributes_are_many():
    """A span at the attribute limit is masked in each of its values."""
    span = ended("work", {f"k{n}": f"{n} {MAIL}" for n in range(120)})
    values = dict(SpanMasking(Masking())(span).attributes or {})
    assert values == {f"k{n}": f"{n} [masked:email]" for n in range(120)}
