"""How the canary is compared with what a store has: each fault has its own code."""

from __future__ import annotations

import dataclasses

import pytest

from otelbridge.doctor.canary_judge import Route, judge_langfuse, judge_tempo, route_of
from otelbridge.doctor.canary_read import ReadBack, StoredSpan
from otelbridge.doctor.canary_send import CALL, ROOT, STEP, CanarySpan, SentCanary
from otelbridge.doctor.collector_series import CollectorState, ExporterState
from otelbridge.doctor.findings import Finding
from otelbridge.settings import Settings

SETTINGS = Settings.from_env(
    {
        "LANGFUSE_HOST": "http://127.0.0.1:3000",
        "LANGFUSE_PUBLIC_KEY": "pk-lf-local",
        "LANGFUSE_SECRET_KEY": "sk-lf-local",
        "LANGFUSE_PROJECT_ID": "local",
    }
)
_ROOT_ID, _STEP_ID, _CALL_ID = "a" * 16, "b" * 16, "c" * 16
SENT = SentCanary(
    "1" * 32,
    "otelbridge-canary-0123456789abcdef",
    (
        CanarySpan(ROOT, _ROOT_ID, "", "", 1),
        CanarySpan(STEP, _STEP_ID, _ROOT_ID, None, 2),
        CanarySpan(CALL, _CALL_ID, _STEP_ID, _ROOT_ID, 3),
    ),
    (),
    4,
)


def codes(findings: list[Finding]) -> list[str]:
    return [one.code for one in findings]


def back(*spans: StoredSpan, body: bytes = b"", problem: str = "") -> ReadBack:
    return ReadBack(spans, body, "/api", problem, 0.0)


def as_tempo() -> list[StoredSpan]:
    return [StoredSpan(one.span_id, one.parent_id, one.name) for one in SENT.spans]


def as_langfuse() -> list[StoredSpan]:
    return [
        StoredSpan(one.span_id, one.view_parent or "", one.name, "", True, True, "local")
        for one in SENT.in_view
    ]


def test_true_copies_have_no_finding() -> None:
    """The trace as it was made, parents of zeros counting as none, is good in both stores."""
    marker = SENT.marker.encode()
    assert judge_tempo(SETTINGS, SENT, back(*as_tempo()), Route()) == []
    seen = as_langfuse()
    seen[0] = dataclasses.replace(seen[0], parent_id="0" * 16)
    assert judge_langfuse(SETTINGS, SENT, back(*seen, body=marker), Route()) == []


def test_tempo_faults_have_their_codes() -> None:
    """Text, missing spans, orphans, other parents and copies are told apart."""

    def judged(*spans: StoredSpan, body: bytes = b"") -> list[str]:
        return codes(judge_tempo(SETTINGS, SENT, back(*spans, body=body), Route()))

    root, step, call = as_tempo()
    text = b"\n\x20" + SENT.marker.encode()
    assert judged(root, step, call, body=text) == ["canary-content-in-tempo"]
    assert judged(root, step) == ["canary-spans-missing"]
    assert judged(step, call) == ["canary-orphans"]
    moved = dataclasses.replace(call, parent_id=root.span_id)
    assert judged(root, step, moved) == ["canary-parents-differ"]
    assert judged(root, step, call, call) == ["canary-duplicates"]


def test_langfuse_faults_have_their_codes() -> None:
    """Plain spans, lost text, an empty root, another project and strangers are told apart."""
    marker = SENT.marker.encode()

    def judged(*spans: StoredSpan, body: bytes = marker) -> list[str]:
        return codes(judge_langfuse(SETTINGS, SENT, back(*spans, body=body), Route()))

    root, call = as_langfuse()
    step = as_tempo()[1]
    assert judged(root, step, call) == ["canary-unfiltered"]
    assert judged(root, call, body=b"") == ["canary-content-missing"]
    assert judged(dataclasses.replace(root, has_output=False), call) == ["canary-empty-root"]
    assert judged(call) == ["canary-orphans"]
    other = [dataclasses.replace(one, project_id="other") for one in (root, call)]
    assert judged(*other) == ["canary-other-project"]
    stranger = dataclasses.replace(call, span_id="f" * 16)
    assert judged(root, call, stranger) == ["canary-duplicates"]


def collector(accepted: float, **exporter: float) -> CollectorState:
    state = ExporterState("otlp_http/langfuse", **exporter)
    return CollectorState("c", "1", {state.name: state}, frozenset(), accepted, 0)


@pytest.mark.parametrize(
    ("after", "code"),
    [
        ({"send_failed": 2}, "canary-langfuse-refused"),
        ({"queue_size": 2}, "canary-langfuse-waiting"),
        ({"sent": 2}, "canary-langfuse-elsewhere"),
        ({}, "canary-langfuse-dropped"),
    ],
)
def test_counters_tell_why_a_canary_is_absent(after: dict[str, float], code: str) -> None:
    """Refused, waiting, sent to another place, dropped: by what changed in the Collector."""
    route = route_of("langfuse", collector(10), collector(13, **after))
    findings = judge_langfuse(SETTINGS, SENT, back(problem="no"), route)
    assert codes(findings) == [code]


def test_counters_of_another_collector_tell_nothing() -> None:
    """A Collector that took no span meanwhile is not the one behind the endpoint."""
    for before, after in ((None, collector(3)), (collector(3), None), (collector(3), collector(3))):
        route = route_of("langfuse", before, after)
        findings = judge_langfuse(SETTINGS, SENT, back(problem="no"), route)
        assert codes(findings) == ["canary-not-in-langfuse"]
