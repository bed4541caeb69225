"""The application's answers are the same whatever happens to Langfuse, at any point."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from typing import Any

import flask
import pytest

import otelbridge
from otelbridge.langfuse import scores
from otelbridge.settings import Settings
from otelbridge.testing.traces import Traces
from tests.langfuse.stand_in import StandIn

ROUNDS = 12


def shop() -> flask.Flask:
    """Answers, judges itself in the request and beside it, and takes feedback."""
    app = flask.Flask("shop")
    app.register_blueprint(otelbridge.feedback_blueprint())

    @app.get("/ask/<int:number>")
    def ask(number: int) -> str:
        with otelbridge.chat("gpt-4o", provider="openai") as call:
            call.set_output("answer")
            otelbridge.score_quality(0.5, span=call.span, comment="fine")
        otelbridge.evaluate_later(lambda: number % 2 == 0, score_name="even")
        otelbridge.score_api_call(None if number % 3 else ValueError("third"))
        return f"answer {number}"

    return app


def answers(app: flask.Flask, number: int) -> list[tuple[int, str]]:
    """What one user sees: an answer, and that the feedback on it was taken."""
    with app.test_client() as client:
        asked = client.get(f"/ask/{number}", headers={"X-Request-ID": f"r-{number}"})
        body = {"name": "user_rating", "value": 4}
        rated = client.post("/feedback", json={**body, "request_id": f"r-{number}"})
        unknown = client.post("/feedback", json={**body, "request_id": f"unknown-{number}"})
    return [
        (asked.status_code, asked.text),
        (rated.status_code, rated.text),
        (unknown.status_code, unknown.text),
    ]


@pytest.fixture
def troubles(stand_in: StandIn) -> Callable[[int], None]:
    """Something new is wrong with Langfuse in each round."""
    steps: list[Callable[[], Any]] = [
        stand_in.down,
        stand_in.up,
        lambda: stand_in.fail(500, times=5),
        lambda: stand_in.fail(429, times=5, retry_after=0.2),
        lambda: stand_in.fail(503, times=2, seconds=0.2),
        lambda: stand_in.fail(401, times=2),
        lambda: stand_in.fail(404, "/api/public/v2/", times=3),
        lambda: stand_in.fail(200, times=2, body="no object"),
    ]
    return lambda number: steps[number % len(steps)]()


def test_answers_are_unchanged(
    stand_in: StandIn, settings: Settings, troubles: Callable[[int], None], traces: Traces
) -> None:
    """Refused, hanging, limited, unauthorised, nonsense: the same bytes to every user."""
    app = shop()
    expected = [answers(app, number) for number in range(ROUNDS)]
    assert {status for one in expected for status, _ in one} == {200, 202}
    found = []
    for number in range(ROUNDS):
        troubles(number)
        found.append(answers(app, number))
    assert found == expected
    assert otelbridge.wait_for_evaluators(20)
    assert scores.score_stats()["given"] == ROUNDS * 2 * 5


@pytest.fixture
def flapping(stand_in: StandIn) -> Iterator[threading.Event]:
    """Langfuse goes and comes while the test runs."""
    done = threading.Event()

    def flap() -> None:
        while not done.is_set():
            stand_in.down()
            done.wait(0.01)
            stand_in.up()
            done.wait(0.01)

    thread = threading.Thread(target=flap)
    thread.start()
    yield done
    done.set()
    thread.join(10)


def test_nothing_is_lost_while_langfuse_comes_and_goes(
    stand_in: StandIn, settings: Settings, flapping: threading.Event,
    eventually: Callable[..., Any],
) -> None:  # fmt: skip
    """Connections die at whatever point: afterwards each score is there once."""
    ids = {otelbridge.score("q", n, trace_id=f"{n + 1:032x}") for n in range(60)}
    eventually(lambda: scores.score_stats()["delivered"] >= 5, 30)
    flapping.set()
    eventually(lambda: set(stand_in.scores) == ids, 40)
    assert not [name for name in scores.score_stats() if name.startswith("dropped")]
