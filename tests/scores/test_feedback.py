"""`POST /feedback` under Flask and Starlette: the same answers, whatever is sent."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import HealthCheck, given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st

import otelbridge
from otelbridge.langfuse import feedback, scores
from otelbridge.settings import Settings
from tests.langfuse.stand_in import StandIn

TRACE = "0af7651916cd43dd8448eb211c80319c"
GOOD = {"trace_id": TRACE, "name": "user_rating", "value": 5, "comment": "good"}
Post = Callable[..., tuple[int, dict[str, Any]]]


@pytest.fixture(params=["flask", "starlette"])
def post(request: pytest.FixtureRequest) -> Post:
    """Post bytes or JSON to the route; status and JSON of the answer."""
    send = _flask() if request.param == "flask" else _starlette()

    def send_body(
        body: object, content_type: str = "application/json", method: str = "POST"
    ) -> Any:
        raw = body if isinstance(body, bytes) else json.dumps(body).encode()
        return send(method, raw, content_type)

    return send_body


def _flask() -> Callable[[str, bytes, str], Any]:
    import flask

    app = flask.Flask("shop")
    app.register_blueprint(otelbridge.feedback_blueprint(names=["user_rating", "user_feedback"]))

    def send(method: str, raw: bytes, content_type: str) -> Any:
        with app.test_client() as client:
            answer = client.open("/feedback", method=method, data=raw, content_type=content_type)
        return answer.status_code, answer.get_json(silent=True)

    return send


def _starlette() -> Callable[[str, bytes, str], Any]:
    import anyio
    import httpx
    from starlette.applications import Starlette
    from starlette.routing import Route

    own = otelbridge.feedback_app(names=["user_rating", "user_feedback"])
    app = Starlette(routes=[Route("/feedback", own)])

    def send(method: str, raw: bytes, content_type: str) -> Any:
        async def call() -> Any:
            transport = httpx.ASGITransport(app)
            async with httpx.AsyncClient(transport=transport, base_url="http://shop") as client:
                headers = {"content-type": content_type}
                return await client.request(method, "/feedback", content=raw, headers=headers)

        answer = anyio.run(call)
        return answer.status_code, answer.json() if answer.content else None

    return send


def test_feedback_is_taken(post: Post, stand_in: StandIn, settings: Settings) -> None:
    """202 with the id of the score, which Langfuse gets."""
    status, answer = post(GOOD)
    assert status == 202
    assert scores.flush_scores(20)
    assert [(one["id"], one["value"], one["comment"]) for one in stand_in.scores.values()] == [
        (answer["id"], 5.0, "good")
    ]


@pytest.mark.parametrize(
    "body",
    [
        b"", b"{", b"[]", b"null", b'"text"', b"\xff\xfe", b"[" * 10_000,
        {}, {**GOOD, "trace_id": None}, {**GOOD, "request_id": "r"}, {**GOOD, "trace_id": 5},
        {**GOOD, "trace_id": "x" * 300}, {**GOOD, "trace_id": "0" * 32}, {**GOOD, "name": ""},
        {**GOOD, "name": 3}, {**GOOD, "name": "not-taken"}, {**GOOD, "value": None},
        {**GOOD, "value": [1]}, {**GOOD, "value": "x" * 501}, {**GOOD, "comment": "x" * 5001},
        {**GOOD, "comment": {}}, {**GOOD, "data_type": "FLOAT"}, {**GOOD, "metadata": {}},
        b'{"trace_id": "' + TRACE.encode() + b'", "name": "user_rating", "value": NaN}',
    ],
)  # fmt: skip
def test_bodies_that_say_nothing_usable_are_400(
    body: object, post: Post, settings: Settings
) -> None:
    """Each has an answer with a reason; nothing is scored."""
    status, answer = post(body)
    assert (status, bool(answer["message"])) == (400, True)
    assert scores.score_stats()["given"] == 0


def test_limits_have_their_own_status(post: Post, settings: Settings) -> None:
    """413 for a long body, 415 for a form, 405 for a GET."""
    assert post({**GOOD, "comment": "x" * feedback.MAX_BODY_BYTES})[0] == 413
    assert post(b"name=user_rating", "application/x-www-form-urlencoded")[0] == 415
    assert post(b"", method="GET")[0] == 405


JSON = st.recursive(
    st.none() | st.booleans() | st.floats() | st.text(max_size=20) | st.integers(),
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=9), inner, max_size=3)
    ),
    max_leaves=6,
)  # fmt: skip


@given(
    body=st.fixed_dictionaries(
        {}, optional=dict.fromkeys(("trace_id", "request_id", "name", "value", "comment"), JSON)
    )
)
@hypothesis_settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_no_body_breaks_the_route(body: dict[str, Any], settings: Settings) -> None:
    """Any JSON object gives 202 or 400."""
    status, _ = feedback.give(json.dumps(body).encode(), "application/json")
    assert status in (202, 400)


def test_a_body_without_a_length_is_not_read_to_its_end() -> None:
    """An ASGI client that never stops sending is answered after the limit."""
    import anyio

    received, answers = [], []

    async def receive() -> dict[str, Any]:
        received.append(1)
        return {"type": "http.request", "body": b"x" * 4096, "more_body": True}

    async def send(message: dict[str, Any]) -> None:
        answers.append(message)

    async def call() -> None:
        scope = {"type": "http", "method": "POST", "headers": []}
        await otelbridge.feedback_app()(scope, receive, send)

    anyio.run(call)
    assert answers[0]["status"] == 413
    assert len(received) <= 6


def test_one_name_may_be_given_as_text() -> None:
    """A text is one name and not the set of its letters, which would take nothing."""
    assert feedback._taken("user_rating") == {"user_rating"}
    assert feedback._taken(["a", "b"]) == {"a", "b"}
    assert feedback._taken(None) is None
