"""Planted secrets through the real Collector: none of them leaves it, identifiers do."""

from __future__ import annotations

import random
import re

import pytest

from otelbridge import masks, semconv, span_rules

pytestmark = pytest.mark.collector

LETTERS = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789"
#: One maker for each of `masks.MASK_PATTERNS`: secret text from a random body.
MAKERS = (
    lambda body: f"-----BEGIN RSA PRIVATE KEY-----\n{body}\n-----END RSA PRIVATE KEY-----",
    lambda body: f"eyJ{body}.eyJ{body}.{body}",
    lambda body: f"sk-proj-{body}",
    lambda body: f"Bearer {body}",
    lambda body: f"postgres://app:{body}@db/x",
    lambda body: f"https://api.example/v1?key={body}&x=1",
    lambda body: f"{body}@example.com",
)
#: Ways in which secrets stand in text.
FRAMES = ("{}", "before {} after", '{{"a": "{}"}}', "line\n{}\nline", "\u00fc\u20ac {} \u20ac")


def bodies(count, seed):
    """Random bodies that no other test plants."""
    generator = random.Random(seed)
    return ["".join(generator.choices(LETTERS, k=24)) for _ in range(count)]


def test_every_mask_pattern_has_a_maker_here_and_a_trigger_that_it_cannot_match_without():
    """A pattern added to the table needs a case; a trigger that is too narrow would leak."""
    assert len(MAKERS) == len(masks.MASK_PATTERNS) == len(masks.MASK_TRIGGERS)
    for maker, (pattern, _), triggers in zip(
        MAKERS, masks.MASK_PATTERNS, masks.MASK_TRIGGERS, strict=True
    ):
        for body in bodies(3, pattern):
            assert re.search(pattern, maker(body)), pattern
            assert any(part in maker(body) for part in triggers), pattern
    for prefix in ("sk-ant-", "gsk_", "hf_", "xai-", "pplx-", "AIza", "AKIA", "ASIA", "ghp_"):
        assert any(part in prefix for part in masks.MASK_TRIGGERS[2]), prefix
    for prefix in ("gho_", "ghs_", "github_pat_", "glpat-", "xoxb-", "rk_live_", "sk_live_"):
        assert any(part in prefix for part in masks.MASK_TRIGGERS[2]), prefix


def test_no_planted_secret_leaves_the_collector_anywhere(bench):
    """200 secrets in attributes, event attributes, event and span names and status messages."""
    trace_id, spans, planted = bench.new_trace(), [], []
    keys = ("url.full", "gen_ai.input.messages", "my.note", "langfuse.trace.name", "db.statement")
    for number, body in enumerate(bodies(200, "everywhere")):
        secret = FRAMES[number % len(FRAMES)].format(MAKERS[number % len(MAKERS)](body))
        place = number // len(MAKERS) % 5
        attributes = {semconv.LLM_KEEP: True, "number": number}
        attributes |= {keys[number % len(keys)]: secret} if place == 0 else {}
        events = [
            ("exception", {"exception.message": secret} if place == 1 else {}),
            (secret if place == 2 else "event", {}),
        ]
        name = secret if place == 3 else "work"
        span = bench.span(trace_id, attributes, name=name, events=events)
        span.status.message = secret if place == 4 else ""
        spans.append(span)
        planted.append(body.encode())
    bench.send(*spans)
    for store in (bench.tempo.store, bench.langfuse.store):
        bench.wait(lambda store=store: len(store.of(trace_id)) == len(spans), "all spans")
        received = store.of(trace_id).values()
        leaked = [b for r in received for b in planted if b in r.span.SerializeToString()]
        assert leaked == []


def test_masked_text_equals_that_of_the_policy(bench):
    """Attribute values, names and status messages: as masks.mask_text, on both branches."""
    trace_id, sent = bench.new_trace(), {}
    for number, maker in enumerate(MAKERS):
        for frame in FRAMES:
            text = frame.format(maker(bodies(1, f"{number}{frame}")[0]))
            attributes = {semconv.LLM_KEEP: True, "text": text, "list": ["a"], "n": 1}
            span = bench.span(trace_id, attributes, name=text)
            span.status.message = text
            bench.send(span)
            sent[span.span_id.hex()] = (attributes, text)
    bench.settle()
    for received in (
        bench.at_tempo(trace_id, len(sent)),
        bench.at_langfuse(trace_id, len(sent)),
    ):
        for span_id, (attributes, text) in sent.items():
            masked = masks.mask_text(text)
            assert masked != text
            assert received[span_id].attributes["text"] == masked
            assert span_rules.entered(attributes)["text"] == masked
            assert received[span_id].span.name == masked
            assert received[span_id].span.status.message == masked


def test_identifiers_are_never_masked(bench):
    """A user id that is a mail address stays one, while the same text elsewhere is masked."""
    trace_id, mail = bench.new_trace(), "person@example.com"
    attributes = dict.fromkeys(masks.UNMASKED_KEYS, mail) | {"note": mail}
    bench.send(bench.span(trace_id, {semconv.LLM_KEEP: True, **attributes}))
    (tempo,) = bench.at_tempo(trace_id, 1).values()
    (langfuse,) = bench.at_langfuse(trace_id, 1).values()
    at_tempo = {**tempo.attributes, **tempo.resource}
    for key in masks.UNMASKED_KEYS:
        assert at_tempo[key] == langfuse.attributes[key] == mail
    assert at_tempo["note"] == langfuse.attributes["note"] == "[masked:email]"


@pytest.mark.parametrize(
    "key",
    [
        "http.request.header.authorization",
        "http.request.header.cookie",
        "http.response.header.set-cookie",
        "http.request.header.x-api-key",
        "http.request.header.x-goog-api-key",
        "rpc.grpc.request.metadata.authorization",
    ],
)
def test_captured_credential_headers_are_removed(bench, key):
    """Header attributes are lists, which no pattern reaches, so these go as a whole."""
    trace_id = bench.new_trace()
    attributes = {semconv.LLM_KEEP: True, key: ["secret-1"], "http.request.header.accept": ["*"]}
    bench.send(bench.span(trace_id, attributes))
    (tempo,) = bench.at_tempo(trace_id, 1).values()
    (langfuse,) = bench.at_langfuse(trace_id, 1).values()
    assert tempo.attributes == span_rules.entered(attributes)
    assert langfuse.attributes == {"http.request.header.accept": ["*"]}


def test_harmless_text_is_left_as_it_is(bench):
    """Text that triggers a search and matches nothing arrives unchanged."""
    trace_id = bench.new_trace()
    harmless = {
        "a": "a = b, 5 @ 3 EUR, basic idea, the bearer of news, task-force, hf_ or sk-1",
        "b": "https://example.com/x?page=2&sort=up#key",
        "c": "token_count=12 eyJ? -----BEGIN -----",
        "d": "grüße \u20ac $1 ${1} $$ \\1 100%",
    }
    bench.send(bench.span(trace_id, {semconv.LLM_KEEP: True, **harmless}))
    (langfuse,) = bench.at_langfuse(trace_id, 1).values()
    assert langfuse.attributes == harmless


def test_without_the_masking_layer_text_passes_unmasked_and_is_still_repaired(
    make_bench, render_layers
):
    """Leaving the layer out switches masking off and nothing else."""
    bench = make_bench(config=render_layers("base", "normalise", "tempo", "langfuse"))
    trace_id = bench.new_trace()
    span = bench.span(trace_id, {semconv.LLM_KEEP: True, "note": "a@example.com INVALID"})
    body = bench.request([span]).SerializeToString().replace(b"INVALID", b"ab\xff\xfecde")
    assert bench.post(body) == 200
    (langfuse,) = bench.at_langfuse(trace_id, 1).values()
    assert langfuse.attributes == {"note": "a@example.com ab\ufffd\ufffdcde"}


@pytest.mark.parametrize("odd", [float("nan"), float("inf")])
def test_a_value_that_json_cannot_write_does_not_switch_masking_off(bench, odd):
    """NaN and infinity beside a secret: it is masked all the same."""
    trace_id = bench.new_trace()
    secret = bodies(1, str(odd))[0]
    attributes = {semconv.LLM_KEEP: True, "odd": odd, "text": f"sk-proj-{secret}"}
    span = bench.span(trace_id, attributes)
    bench.send(span)
    bench.settle()
    for received in (bench.at_tempo(trace_id, 1), bench.at_langfuse(trace_id, 1)):
        assert received[span.span_id.hex()].attributes["text"] == "[masked:api-key]"
