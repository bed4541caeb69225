"""Experiments: who gets which variant, and where it is written."""

from __future__ import annotations

import hashlib
import math
from collections import Counter
from typing import Any

import pytest
from opentelemetry import baggage, context
from opentelemetry.baggage.propagation import W3CBaggagePropagator

from otelbridge import chat, request_context, span
from otelbridge.langfuse.experiments import Variant, assigned, tag_of, variant, variant_in
from tests.langfuse.recording import Recording

HALVES = {"A": 0.5, "B": 0.5}
METADATA = "langfuse.trace.metadata."


def test_the_hash_is_the_documented_one() -> None:
    """Other programs can compute it: weighted rendezvous over 52 bits of SHA-256."""
    for unit in (f"user-{n}" for n in range(50)):
        best = {}
        for name, weight in {"A": 1, "B": 3}.items():
            digest = hashlib.sha256(f"checkout\0{unit}\0{name}".encode()).hexdigest()
            best[weight / -math.log((int(digest[:13], 16) + 0.5) / 2**52)] = name
        assert assigned("checkout", unit, {"A": 1, "B": 3}) == best[max(best)]
    units = [f"u{n}" for n in range(12)]
    assert "".join(assigned("checkout", unit, HALVES) for unit in units) == "AAAAAABAABBB", (
        "a change of this line moves users of running experiments to another variant"
    )


def test_shares_are_kept_and_experiments_are_independent() -> None:
    """20,000 users: shares within 1.5 points, and the second experiment halves both halves."""
    users = [f"user-{number}" for number in range(20_000)]
    weights = {"control": 7, "long": 2, "short": 1}
    counts = Counter(assigned("one", user, weights) for user in users)
    for name, weight in weights.items():
        assert counts[name] / len(users) == pytest.approx(weight / 10, abs=0.015)
    both = Counter((assigned("x", u, HALVES), assigned("y", u, HALVES)) for u in users)
    for count in both.values():
        assert count / len(users) == pytest.approx(0.25, abs=0.015)


def test_a_changed_weight_moves_only_those_it_must() -> None:
    """Raised from 1 to 3 of 10, `b` takes units from both others, which swap none."""
    units = [f"user-{number}" for number in range(5_000)]
    low, high = {"a": 5, "b": 1, "c": 4}, {"a": 5, "b": 3, "c": 4}
    moves = Counter((assigned("r", unit, low), assigned("r", unit, high)) for unit in units)
    assert {one for one in moves if one[0] != one[1]} == {("a", "b"), ("c", "b")}
    assert assigned("r", "any", {"a": 0, "b": 1}) == "b"


def test_the_unit_is_the_requests_user_then_its_session() -> None:
    """Without an argument the request decides; an argument wins over it."""
    with request_context(user_id="u1", session_id="s1"):
        assert variant("e1", HALVES, mark=False) == assigned("e1", "u1", HALVES)
        assert variant("e2", HALVES, key="k", mark=False) == assigned("e2", "k", HALVES)
    with request_context(session_id="s1"):
        assert variant("e3", HALVES, mark=False) == assigned("e3", "s1", HALVES)


def test_chance_decides_without_a_unit() -> None:
    """Both variants turn up, for no unit and when asked for although there is one."""
    assert {variant("n", HALVES, mark=False) for _ in range(64)} == {"A", "B"}
    drawn = {variant("n", HALVES, user_id="u", random=True, mark=False) for _ in range(64)}
    assert drawn == {"A", "B"}


def test_every_span_of_the_request_carries_it() -> None:
    """Open spans and later ones have variant, experiment and tag, and a second call keeps it."""
    recording = Recording()
    with span("request"):
        with span("first"):
            chosen = variant("checkout", {"A": 1, "B": 0})
        with chat("gpt-4o", provider="openai"):
            assert variant("checkout", {"A": 0, "B": 1}) == chosen, "chosen in a block that is left"
        assert variant("checkout", {"A": 0, "B": 1}) == chosen
    for one in recording.spans:
        assert one.attributes[METADATA + "variant"] == chosen, one.name
        assert one.attributes[METADATA + "experiment.checkout"] == chosen
        assert list(one.attributes["langfuse.trace.tags"]) == ["experiment:checkout"]
    assert len(recording.spans) == 3


def test_the_next_service_takes_the_same_variant() -> None:
    """The choice is in the baggage; a variant that is not in the weights there is not taken."""
    Recording()
    with span("request"):
        first = variant("checkout", HALVES, random=True)
        headers: dict[str, str] = {}
        W3CBaggagePropagator().inject(headers)
    received = W3CBaggagePropagator().extract(headers, context.Context())
    token = context.attach(received)
    try:
        assert {variant("checkout", HALVES, random=True, mark=False) for _ in range(32)} == {first}
        assert variant("checkout", {"C": 1}, mark=False) == "C"
    finally:
        context.detach(token)


def test_nothing_stays_behind_outside_of_a_request() -> None:
    """A worker without spans asks for one user after another: each gets its own variant."""
    users = [f"user-{number}" for number in range(40)]
    assert [variant("e", HALVES, user_id=user) for user in users] == [
        assigned("e", user, HALVES) for user in users
    ]
    for user in users:
        with request_context(user_id=user):
            assert variant("e", HALVES) == assigned("e", user, HALVES)
    assert not baggage.get_all()


def test_two_experiments_at_once_are_both_found() -> None:
    """`variant` is the inner one's, each experiment keeps a key of its own."""
    outer, inner = Variant("one", "A"), Variant("two", "B")
    metadata = {**outer.metadata, **inner.metadata}
    assert metadata["variant"] == "B"
    assert (variant_in(metadata, "one"), variant_in(metadata, "two")) == ("A", "B")
    assert variant_in({"experiment": {"one": "A"}}, "one") == "A"
    assert variant_in({"experiment": "one"}, "one") is None
    assert variant_in(None, "one") is None
    assert outer.tags == [tag_of("one")]


@pytest.mark.parametrize(
    ("name", "weights"),
    [
        ("", HALVES), ("with space", HALVES), ("a.b", HALVES), ("e", {}), ("e", {"A": 0}),
        ("e", {"A": -1, "B": 2}), ("e", {"A": float("nan")}), ("e", {" A": 1}), ("e", {"": 1}),
        ("e", {"x" * 65: 1}), ("e", {"A": "1"}), ("e", ["A", "B"]),
    ],
)  # fmt: skip
def test_names_and_weights_are_checked(name: str, weights: Any) -> None:
    """A mistake in the program raises; nothing is assigned by accident."""
    with pytest.raises(ValueError):  # noqa: PT011 - the class is the contract
        variant(name, weights)
