"""The demo's checks hold for a right pair of views and each one fails for what it is about."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest

from otelbridge import semconv
from otelbridge.demo.checks import CHECKS, Evidence, Pair, judge
from otelbridge.demo.traffic import ALL, Case, Sent
from otelbridge.demo.views import View, ViewSpan, hex_id, parse

CANARY = "violet otter 00"
TRACE = "0af7651916cd43dd8448eb211c80319c"
ROOT, CLIENT, ENTRY, CHAT = ("0" * 15 + digit for digit in "1234")


def span(span_id: str, parent: str, name: str, service: str, **attributes: Any) -> ViewSpan:
    return ViewSpan(span_id, parent, name, service, attributes, "STATUS_CODE_UNSET", 0, 10**9)


def observation(span_id: str, parent: str, name: str, service: str, **fields: Any) -> ViewSpan:
    fields = {"userId": "alice", "sessionId": "s-1", **fields}
    return ViewSpan(span_id, parent, name, service, fields, "DEFAULT", 0, 10**9)


def view(*spans: ViewSpan) -> View:
    return View(TRACE, {one.span_id: one for one in spans}, " ".join(map(repr, spans)))


def kept(**more: Any) -> dict[str, Any]:
    return {semconv.LLM_KEEP: True, **more}


def question(outcome: str = "answer", name: str = "question") -> Pair:
    """One request through three services, as both sides have it when all is right."""
    body = {"user": "alice", "session": "s-1"}
    sent = Sent(Case(name, "/ask", body, outcome=outcome), TRACE, 200, "")
    usage = {
        semconv.GEN_AI_OPERATION_NAME: "chat",
        semconv.GEN_AI_USAGE_INPUT_TOKENS: 10,
        semconv.GEN_AI_USAGE_OUTPUT_TOKENS: 5,
        semconv.GEN_AI_USAGE_COST: 0.001,
    }
    tempo = view(
        span(ROOT, "", "POST /ask", "gateway", **kept()),
        span(CLIENT, ROOT, "POST", "gateway"),
        span(ENTRY, CLIENT, "POST /answer", "rag", **kept()),
        span(CHAT, ENTRY, "chat gpt-4o", "llm", **kept(**usage)),
    )
    langfuse = view(
        observation(
            ROOT, "", "POST /ask", "gateway", traceName="ask", input=CANARY, output="fine"
        ),
        observation(ENTRY, ROOT, "POST /answer", "rag"),
        observation(
            CHAT, ENTRY, "chat gpt-4o", "llm", input=CANARY, output="fine",
            usageDetails={"input": 10, "output": 5, "total": 15}, totalCost=0.001,
        ),
    )  # fmt: skip
    return Pair(sent, tempo, langfuse)


def plain() -> Pair:
    """A health check: in Tempo, not in Langfuse."""
    case = Case("health", "/healthz", services=frozenset({"gateway"}), llm=False, outcome="plain")
    tempo = view(span(ROOT, "", "GET /healthz", "gateway"))
    return Pair(Sent(case, TRACE, 200, "ok"), tempo, View(TRACE, {}, ""))


def evidence(*pairs: Pair, headers: dict[str, str] | None = None) -> Evidence:
    received = [{"path": "/v1/chat/completions", "headers": headers or {"Host": "provider"}}]
    return Evidence(pairs, received, CANARY)


def change(side: str, span_id: str, **fields: Any) -> Pair:
    """The good request with fields of one span replaced (`attributes` are merged)."""
    pair = question()
    found: View = getattr(pair, side)
    old = found.spans[span_id]
    if "attributes" in fields:
        fields["attributes"] = {**old.attributes, **fields["attributes"]}
    spans = {**found.spans, span_id: replace(old, **fields)}
    return replace(pair, **{side: view(*spans.values())})


def without(side: str, span_id: str) -> Pair:
    """The good request with one span missing."""
    pair = question()
    spans = [one for key, one in getattr(pair, side).spans.items() if key != span_id]
    return replace(pair, **{side: view(*spans)})


def failed(found: Evidence) -> set[str]:
    """Names of the check functions that found something."""
    names = {title: function.__name__ for title, function in CHECKS}
    return {names[check.title] for check in judge(found) if not check.ok}


def test_right_views_pass_every_check() -> None:
    """Nothing is found wrong with a whole trace, a plain request and a silent provider."""
    assert failed(evidence(question(), plain())) == set()


SABOTAGE: list[tuple[str, Callable[[], Evidence]]] = [
    ("every_request_traced", lambda: evidence(without("tempo", CHAT))),
    ("every_request_traced", lambda: evidence(without("tempo", CLIENT))),
    ("same_id_in_both", lambda: evidence(replace(question(), langfuse=View(TRACE, {}, "")))),
    ("no_content_in_tempo", lambda: evidence(change("tempo", CLIENT, name=f"POST {CANARY}"))),
    (
        "no_content_in_tempo",
        lambda: evidence(
            change("tempo", CHAT, attributes={semconv.GEN_AI_INPUT_MESSAGES: "[]"})
        ),
    ),
    ("langfuse_is_the_llm_view", lambda: evidence(without("langfuse", ENTRY))),
    (
        "langfuse_is_the_llm_view",
        lambda: evidence(change("tempo", ENTRY, attributes={semconv.LLM_KEEP: False})),
    ),
    ("unbroken_tree", lambda: evidence(change("langfuse", CHAT, parent=CLIENT))),
    ("unbroken_tree", lambda: evidence(change("langfuse", CHAT, parent=ROOT))),
    ("unbroken_tree", lambda: evidence(change("langfuse", CHAT, parent=""))),
    (
        "root_says_what_it_was",
        lambda: evidence(change("langfuse", ROOT, attributes={"output": None})),
    ),
    (
        "root_says_what_it_was",
        lambda: evidence(change("langfuse", ROOT, attributes={"traceName": None})),
    ),
    ("prompts_in_langfuse", lambda: evidence(change("langfuse", CHAT, attributes={"input": ""}))),
    (
        "tokens_and_cost",
        lambda: evidence(change("tempo", CHAT, attributes={semconv.GEN_AI_USAGE_COST: None})),
    ),
    (
        "tokens_and_cost",
        lambda: evidence(
            change("tempo", CHAT, attributes={semconv.GEN_AI_USAGE_INPUT_TOKENS: 10.0})
        ),
    ),
    (
        "tokens_and_cost",
        lambda: evidence(change("langfuse", CHAT, attributes={"totalCost": 0.002})),
    ),
    ("who_asked", lambda: evidence(change("langfuse", ENTRY, attributes={"sessionId": None}))),
    ("outcomes_are_told", lambda: evidence(question("error"))),
    ("outcomes_are_told", lambda: evidence(question("cached"))),
    ("outcomes_are_told", lambda: evidence(question(name="slow"))),
    ("outcomes_are_told", lambda: evidence(change("tempo", CHAT, status="STATUS_CODE_ERROR"))),
    (
        "nothing_for_plain_requests",
        lambda: evidence(replace(plain(), langfuse=view(observation(ROOT, "", "GET", "gateway")))),
    ),
    ("provider_saw_no_context", lambda: evidence(question(), headers={"Traceparent": "00-1"})),
    ("provider_saw_no_context", lambda: replace(evidence(question()), upstream=[])),
]


@pytest.mark.parametrize(("check", "wrong"), SABOTAGE)
def test_check_finds_what_it_is_about(check: str, wrong: Callable[[], Evidence]) -> None:
    """Each way of being wrong is found by the check that names it."""
    assert check in failed(wrong())


def test_every_check_has_a_case_that_fails_it() -> None:
    """No check is without a sabotage above."""
    assert {check for check, _ in SABOTAGE} == {function.__name__ for _, function in CHECKS}


def test_tempo_answer_is_read_with_typed_values_and_hex_ids() -> None:
    """Base64 ids become hex, integers stay integers, a missing parent is empty text."""
    answer = {
        "trace": {
            "resourceSpans": [
                {
                    "resource": {
                        "attributes": [{"key": "service.name", "value": {"stringValue": "llm"}}]
                    },
                    "scopeSpans": [
                        {
                            "spans": [
                                {
                                    "spanId": "AAECAwQFBgc=",
                                    "name": "chat",
                                    "startTimeUnixNano": "1",
                                    "endTimeUnixNano": "2000000001",
                                    "attributes": [
                                        {"key": "n", "value": {"intValue": "7"}},
                                        {"key": "cost", "value": {"doubleValue": 0.5}},
                                    ],
                                    "status": {"code": "STATUS_CODE_ERROR"},
                                }
                            ]
                        }
                    ],
                }
            ]
        }
    }
    (found,) = parse(answer)
    assert (found.span_id, found.parent, found.service) == ("0001020304050607", "", "llm")
    assert found.attributes == {"n": 7, "cost": 0.5}
    assert (found.status, found.seconds) == ("STATUS_CODE_ERROR", 2.0)


def test_ids_of_zeros_mean_none() -> None:
    """An all-zero parent is no parent, in either spelling."""
    assert hex_id("0" * 16, 8) == ""
    assert hex_id("AAAAAAAAAAA=", 8) == ""


def test_all_three_services_are_expected_of_a_question() -> None:
    """A case that names nothing else expects spans of gateway, rag and llm."""
    assert {"gateway", "rag", "llm"} == ALL == Case("x", "/ask").services
