"""Which side gets which spans: raw, already through the Tempo branch, or for Langfuse."""

from __future__ import annotations

import os

import pytest

from otelbridge.local.records import from_otlp_port

PROMPT = "tell me a secret"
CHAT = {
    "gen_ai.operation.name": "chat",
    "gen_ai.request.model": "gpt-4o",
    "gen_ai.input.messages": f'[{{"role":"user","content":"{PROMPT}"}}]',
    "gen_ai.usage.input_tokens": 7,
    "gen_ai.prompt.name": "greeting",
}


def keys_of(span: dict) -> set[str]:
    return {pair["key"] for pair in span.get("attributes", [])}


def test_raw_spans_lose_their_content_on_the_tempo_side(talk, samples):
    """No message text in attributes, events or links; a mark says that it was there."""
    span = samples.span("chat", CHAT)
    span.events.add(name="gen_ai.user.message", attributes=samples.pairs({"content": PROMPT}))
    span.events.add(
        name="exception",
        attributes=samples.pairs({"exception.type": "E", "gen_ai.completion": PROMPT}),
    )
    span.links.add(
        trace_id=os.urandom(16),
        span_id=os.urandom(8),
        attributes=samples.pairs({"input.value": PROMPT, "reason": "retry"}),
    )
    talk.send(samples.request(span))
    (found,) = talk.tempo_spans(span.trace_id)
    assert PROMPT not in str(talk.tempo(span.trace_id))
    assert keys_of(found) == (CHAT.keys() - {"gen_ai.input.messages"}) | {
        "otelbridge.content.removed",
        "otelbridge.langfuse.url",
    }
    assert [event["name"] for event in found["events"]] == ["exception"]
    assert keys_of(found["events"][0]) == {"exception.type"}
    assert keys_of(found["links"][0]) == {"reason"}


def test_raw_spans_without_content_are_unchanged(samples):
    """The Tempo rule does not even copy a span that has nothing to lose."""
    span = samples.span("GET /", {"http.route": "/", "unset": None, "map": {"a": [1]}})
    span.events.add(name="exception", attributes=samples.pairs({"exception.type": "E"}))
    request = samples.request(span)
    (record,) = from_otlp_port(request).tempo
    assert record.span is request.resource_spans[0].scope_spans[0].spans[0]


def test_a_changed_span_keeps_every_other_field(samples):
    """Values of every kind, also one without a value, survive the removal of content beside."""
    others = {"unset": None, "map": {"a": [1, b"x", None]}, "list": [], "raw": b"\x00", "n": 1.5}
    span = samples.span("chat", {**others, "input.value": PROMPT}, trace_state="a=b", flags=257)
    span.dropped_attributes_count = 3
    (record,) = from_otlp_port(samples.request(span)).tempo
    expected = samples.span(
        "chat",
        {**{key: value for key, value in others.items() if value is not None}},
        trace_id=span.trace_id,
        span_id=span.span_id,
        trace_state="a=b",
        flags=257,
        dropped_attributes_count=3,
    )
    expected.attributes.extend(samples.pairs({"otelbridge.content.removed": True, "unset": None}))
    assert record.span == expected


def test_a_secret_in_the_first_of_two_attributes_with_one_key_does_not_stay(samples):
    """OTLP forbids doubled keys; the last one counts and no other is kept beside it."""
    span = samples.span("s", {"note": "sk-proj-abcdefghijklmnopqrstuvwx"})
    span.attributes.extend(samples.pairs({"note": "harmless"}))
    (record,) = from_otlp_port(samples.request(span)).tempo
    assert list(record.span.attributes) == samples.pairs({"note": "harmless"})


def test_raw_llm_spans_reach_the_preview_with_content_and_the_parent_of_the_view(talk, samples):
    """Marks decide the parent and go; what misleads Langfuse goes; prompts stay."""
    trace_id, entry = os.urandom(16), os.urandom(8)
    root = samples.span(
        "POST /ask",
        {"otelbridge.llm.keep": True, "otelbridge.llm.parent": ""},
        trace_id=trace_id,
        span_id=entry,
        parent_span_id=os.urandom(8),
    )
    clutter = samples.span("POST", trace_id=trace_id, parent_span_id=entry)
    chat = samples.span(
        "chat gpt-4o",
        {**CHAT, "otelbridge.llm.parent": entry.hex()},
        trace_id=trace_id,
        parent_span_id=clutter.span_id,
    )
    talk.send(samples.request(root, clutter, chat))
    found = {item["name"]: item for item in talk.observations(trace_id)}
    assert found.keys() == {"POST /ask", "chat gpt-4o"}
    assert found["POST /ask"]["parentObservationId"] is None
    assert found["chat gpt-4o"]["parentObservationId"] == entry.hex()
    assert PROMPT in found["chat gpt-4o"]["input"]
    shown = found["chat gpt-4o"]["metadata"]["attributes"]
    assert not {key for key in shown if key.startswith(("otelbridge.llm", "gen_ai.prompt"))}
    assert len(talk.tempo_spans(trace_id)) == 3


def test_raw_llm_spans_link_to_their_page_in_the_preview(talk, samples, local, http):
    """The link of a span in Tempo opens the trace with that observation in this server."""
    span = samples.span("chat", CHAT)
    talk.send(samples.request(span, samples.span("plain", trace_id=span.trace_id)))
    found = {item["name"]: item for item in talk.tempo_spans(span.trace_id)}
    (link,) = (
        pair["value"]["stringValue"]
        for pair in found["chat"]["attributes"]
        if pair["key"] == "otelbridge.langfuse.url"
    )
    assert link.startswith(f"{local.langfuse_url}/project/proj/traces/{span.trace_id.hex()}?")
    assert span.span_id.hex() in link
    page = http.get(link)
    assert page.status_code == 200
    assert PROMPT in page.text
    assert "otelbridge.langfuse.url" not in keys_of(found["plain"])


def test_raw_spans_of_other_emitters_and_with_secrets_are_treated_as_by_the_collector(
    talk, samples
):
    """Names of a dialect become current ones and secrets are masked, for both sides."""
    secret = "sk-proj-abcdefghijklmnopqrstuvwx"
    span = samples.span(
        f"call {secret}",
        {"openinference.span.kind": "LLM", "llm.model_name": "gpt-4o", "note": f"key {secret}"},
    )
    span.status.code, span.status.message = 2, f"refused {secret}"
    span.events.add(name="exception", attributes=samples.pairs({"exception.message": secret}))
    talk.send(samples.request(span))
    (found,) = talk.tempo_spans(span.trace_id)
    assert {"gen_ai.operation.name", "gen_ai.request.model"} < keys_of(found)
    (observation,) = talk.observations(span.trace_id)
    assert (observation["type"], observation["model"]) == ("GENERATION", "gpt-4o")
    for answer in (found, observation):
        assert secret not in str(answer)
        assert "call [masked:api-key]" in str(answer)


def test_raw_spans_of_several_users_are_found_under_the_resource_of_each(talk, samples):
    """`resource.langfuse.user.id` holds for exactly that user's spans of a request."""
    trace_id = os.urandom(16)
    spans = [
        samples.span(f"of {user}", {"user.id": user} if user else {}, trace_id=trace_id)
        for user in ("user-1", "user-2", "")
    ]
    talk.send(samples.request(*spans))
    users = {
        span["name"]: {pair["key"]: pair["value"] for pair in group["resource"]["attributes"]}.get(
            "langfuse.user.id"
        )
        for group in talk.tempo(trace_id)["trace"]["resourceSpans"]
        for scope in group["scopeSpans"]
        for span in scope["spans"]
    }
    assert users == {
        "of user-1": {"stringValue": "user-1"},
        "of user-2": {"stringValue": "user-2"},
        "of ": None,
    }


def test_raw_resources_lose_their_command_line_on_both_sides(talk, samples):
    """As in the Collector: a command line holds secrets and is of use to neither store."""
    span = samples.span("chat", CHAT)
    secrets = {"process.command_line": "app --api-key=zzz", "process.command_args": ["app", "zzz"]}
    talk.send(samples.request(span, resource={**secrets, "process.pid": 7}))
    for answer in (talk.tempo(span.trace_id), talk.observations(span.trace_id)):
        assert "zzz" not in str(answer)
        assert "process.pid" in str(answer)


@pytest.mark.parametrize(
    ("attributes", "kept"),
    [
        ({}, False),
        ({"http.route": "/"}, False),
        ({"gen_ai.operation.name": "chat"}, True),
        ({"gen_ai.operation.name": "chat", "otelbridge.llm.keep": False}, False),
        ({"otelbridge.llm.keep": True}, True),
    ],
)
def test_marks_and_the_predicate_decide_the_view(samples, attributes, kept):
    """keep=true stays, keep=false goes, an unmarked span stays when it is a gen_ai span."""
    batch = from_otlp_port(samples.request(samples.span("s", attributes)))
    assert bool(batch.langfuse) is kept
    assert len(batch.tempo) == 1


@pytest.mark.parametrize("mark", ["zz", "abc", "not hex at all", "ab" * 9])
def test_a_broken_mark_leaves_the_true_parent(samples, mark):
    """A parent mark that is no span id is not believed."""
    parent = os.urandom(8)
    span = samples.span("s", {**CHAT, "otelbridge.llm.parent": mark}, parent_span_id=parent)
    (record,) = from_otlp_port(samples.request(span)).langfuse
    assert record.span.parent_span_id == parent


def test_spans_that_passed_the_tempo_branch_are_kept_as_they_are(talk, samples):
    """Nothing is changed on them, and they do not feed the preview."""
    span = samples.span("chat", {**CHAT, "otelbridge.llm.parent": ""})
    talk.send(samples.request(span, resource={"otelbridge.branch": "tempo"}))
    (found,) = talk.tempo_spans(span.trace_id)
    assert keys_of(found) == CHAT.keys() | {"otelbridge.llm.parent"}
    assert talk.observations(span.trace_id) == []


def test_the_preview_intake_stores_spans_unchanged_and_for_langfuse_only(talk, samples):
    """The intake keeps even what the view would leave out, and the Tempo side sees nothing."""
    span = samples.span("plain", {"k": "v"})
    assert talk.to_preview(samples.request(span)).status_code == 200
    assert [item["name"] for item in talk.observations(span.trace_id)] == ["plain"]
    assert talk.tempo_spans(span.trace_id) == []


def test_the_raw_rule_for_the_preview_can_be_switched_off(samples):
    """With preview_raw=False only the intake feeds the Langfuse side."""
    batch = from_otlp_port(samples.request(samples.span("chat", CHAT)), preview_raw=False)
    assert (len(batch.tempo), len(batch.langfuse)) == (1, 0)
