"""Scores of requests: found in this process, in Tempo, in Langfuse, or kept until they are."""

from __future__ import annotations

import logging
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import otelbridge
from otelbridge import request_ids
from otelbridge.langfuse import score_delivery, scores
from otelbridge.langfuse.resolving import Resolver, UnansweredError
from otelbridge.local.langfuse_preview import Project
from otelbridge.local.server import LocalServer
from otelbridge.settings import Settings
from otelbridge.testing.traces import Traces
from tests.langfuse.stand_in import StandIn
from tests.scores.conftest import use

TRACE = "0af7651916cd43dd8448eb211c80319c"
OTHER = "11111111111111111111111111111111"
SPAN = "b7ad6b7169203331"


@pytest.fixture(autouse=True)
def looks_often(monkeypatch: pytest.MonkeyPatch) -> None:
    """Traces are looked for often, so that tests are short."""
    monkeypatch.setattr(score_delivery, "_FIRST_LOOK_SECONDS", 0.05)
    monkeypatch.setattr(score_delivery, "_LONGEST_LOOK_SECONDS", 0.2)
    monkeypatch.setattr(score_delivery, "_TICK_SECONDS", 0.05)


def row(request_id: str, trace_id: str = TRACE) -> dict[str, Any]:
    return {
        "id": SPAN, "traceId": trace_id, "startTime": "2999-01-01T00:00:00+00:00",
        "metadata": {"request_id": request_id},
    }  # fmt: skip


def test_the_maps_are_bounded_and_keep_the_newest() -> None:
    """The oldest is forgotten; a name that is used again moves to the front."""
    recent = request_ids.Recent[int](2)
    for key, value in (("a", 1), ("b", 2), ("a", 3), ("c", 4)):
        recent.put(key, value)
    assert (recent.get("a"), recent.get("b"), recent.get("c")) == (3, None, 4)


def test_an_asgi_request_can_be_scored_by_its_id(
    stand_in: StandIn, settings: Settings, traces: Traces
) -> None:
    """Starlette behind our middleware, feedback taken by the same application."""
    import anyio
    import httpx
    from starlette.applications import Starlette
    from starlette.requests import Request
    from starlette.responses import PlainTextResponse
    from starlette.routing import Route

    from otelbridge.integrations.asgi import AsgiMiddleware

    async def ask(_: Request) -> PlainTextResponse:
        return PlainTextResponse(str(otelbridge.current_trace_id()))

    routes = [Route("/ask", ask), Route("/feedback", otelbridge.feedback_app())]
    app = AsgiMiddleware(Starlette(routes=routes))

    async def visit() -> tuple[str, int]:
        transport = httpx.ASGITransport(app)
        async with httpx.AsyncClient(transport=transport, base_url="http://shop") as client:
            asked = await client.get("/ask")
            body = {"name": "user_rating", "value": 5}
            rated = await client.post(
                "/feedback", json=body | {"request_id": asked.headers["X-Request-ID"]}
            )
        return asked.text, rated.status_code

    trace_id, status = anyio.run(visit)
    assert status == 202
    assert scores.flush_scores(20)
    assert [one["traceId"] for one in stand_in.scores.values()] == [trace_id]


def test_a_long_id_is_cut_as_the_entry_cuts_it(
    stand_in: StandIn, settings: Settings, traces: Traces
) -> None:
    """A caller that knows its own long id finds its request."""
    import flask

    app = flask.Flask("shop")
    app.add_url_rule("/", view_func=lambda: str(otelbridge.current_trace_id()))
    long_id = "r" * 180
    with app.test_client() as client:
        given = client.get("/", headers={"X-Request-ID": long_id})
    otelbridge.score("q", 1, request_id=long_id)
    assert scores.flush_scores(20)
    assert [one["traceId"] for one in stand_in.scores.values()] == [given.text]


def test_a_flask_request_can_be_scored_by_its_id(
    stand_in: StandIn, settings: Settings, traces: Traces
) -> None:
    """The id that the answer carried leads to the request's trace, from another request."""
    import flask

    app = flask.Flask("shop")

    @app.get("/ask")
    def ask() -> str:
        with otelbridge.chat("gpt-4o", provider="openai") as call:
            call.set_output("hi")
        return str(otelbridge.current_trace_id())

    with app.test_client() as client:
        given = client.get("/ask", headers={"X-Request-ID": "order-17"})
        made = client.get("/ask")
    assert given.headers["X-Request-ID"] == "order-17"
    otelbridge.score_thumbs(True, request_id="order-17")
    otelbridge.score_thumbs(True, request_id=made.headers["X-Request-ID"])
    assert scores.flush_scores(20)
    found = [one["traceId"] for one in stand_in.scores.values()]
    assert found == [given.text, made.text]
    own = traces.query('{ name = "score user_feedback" }')
    assert [span.attributes["otelbridge.score.trace_id"] for span in own] == found


@pytest.mark.parametrize("generation", ["v3", "v4"])
def test_langfuse_knows_requests_by_their_metadata(
    generation: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Observations on v4, traces on v3, by the filter on metadata."""
    with StandIn(generation) as stand_in:
        stand_in.area("observations", []).extend([row("other", OTHER), row("r-1")])
        resolver = Resolver(use(stand_in, monkeypatch))
        assert resolver.find("r-1") == TRACE
        assert resolver.find("nobody's") is None
        scores.stop(1)


def test_tempo_is_asked_in_traceql(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """A Tempo finds the spans of a request by their attribute; the id may hold quotes."""
    from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
    from opentelemetry.sdk.trace import TracerProvider
    from opentelemetry.sdk.trace.export import SimpleSpanProcessor

    with LocalServer(project=Project()) as server:
        provider = TracerProvider(shutdown_on_exit=False)
        endpoint = f"{server.otlp_http_url}/v1/traces"
        provider.add_span_processor(SimpleSpanProcessor(OTLPSpanExporter(endpoint)))
        with provider.get_tracer("test").start_as_current_span("GET /") as span:
            span.set_attribute("otelbridge.request_id", 'a "quoted" \\ id')
            trace_id = f"{span.get_span_context().trace_id:032x}"
        provider.shutdown()
        settings = Settings.from_env({"OTELBRIDGE_TEMPO_URL": server.tempo_url})
        assert Resolver(settings).find('a "quoted" \\ id') == trace_id
        assert Resolver(settings).find("another") is None


def test_stores_that_do_not_answer_say_nothing_about_a_request(
    stand_in: StandIn, monkeypatch: pytest.MonkeyPatch
) -> None:
    """No store, a dead one and one that answers nonsense are not taken for "there is none"."""
    for environment in ({}, {"OTELBRIDGE_TEMPO_URL": "http://127.0.0.1:9"}):
        with pytest.raises(UnansweredError):
            Resolver(Settings.from_env(environment)).find("r-1")
    settings = use(stand_in, monkeypatch)
    stand_in.fail(200, "/api/public/v2/observations", body=["no object"])
    with pytest.raises(UnansweredError):
        Resolver(settings).find("r-1")
    stand_in.fail(500, "/api/public/v2/observations")
    with pytest.raises(UnansweredError):
        Resolver(settings).find("r-1")


def test_an_unknown_request_waits_until_its_trace_is_there(
    stand_in: StandIn, settings: Settings, traces: Traces, eventually: Callable[..., Any]
) -> None:
    """The span reaches Langfuse after the feedback: the score follows, and so does its span."""
    made = otelbridge.score("user_rating", 4, request_id="r-1", comment="late")
    eventually(lambda: scores.score_stats().get("unresolved") == 1, 20)
    assert stand_in.requests("/api/public/scores") == []
    stand_in.area("observations", []).append(row("r-1"))
    eventually(lambda: stand_in.scores, 20)
    assert [(one["id"], one["traceId"]) for one in stand_in.scores.values()] == [(made, TRACE)]
    found = traces.assert_one('{ name = "score user_rating" }')
    assert found.attributes["otelbridge.score.trace_id"] == TRACE
    assert scores.score_stats()["resolved"] == 1
    assert otelbridge.score("user_rating", 5, request_id="r-1") == made


def test_an_unknown_request_survives_the_process(
    stand_in: StandIn, settings: Settings, eventually: Callable[..., Any]
) -> None:
    """Unresolved scores are in the spool; the next start looks for them."""
    otelbridge.score("q", 1, request_id="r-1")
    eventually(lambda: scores.score_stats().get("unresolved") == 1, 20)
    assert scores.stop(1)
    stand_in.area("observations", []).append(row("r-1"))
    scores.use(settings)
    eventually(lambda: stand_in.scores, 20)


def test_some_found_and_some_not(
    stand_in: StandIn, settings: Settings, eventually: Callable[..., Any]
) -> None:
    """Each score is settled by itself; the others stay and are not sent twice."""
    for number in range(10):
        otelbridge.score("q", number, request_id=f"r-{number}")
    stand_in.area("observations", []).extend(
        row(f"r-{n}", f"{n + 1:032x}") for n in range(0, 10, 2)
    )
    eventually(lambda: len(stand_in.scores) == 5, 20)
    stand_in.area("observations", []).extend(
        row(f"r-{n}", f"{n + 1:032x}") for n in range(1, 10, 2)
    )
    eventually(lambda: len(stand_in.scores) == 10, 20)
    assert len(stand_in.requests("/api/public/scores")) == 10


def test_after_a_day_an_unknown_request_is_given_up_and_counted(
    stand_in: StandIn, settings: Settings, traces: Traces, monkeypatch: pytest.MonkeyPatch,
    eventually: Callable[..., Any],
) -> None:  # fmt: skip
    """Both stores answered that there is none: its span says which request was meant."""
    monkeypatch.setattr(score_delivery, "UNKNOWN_SECONDS", 0.0)
    otelbridge.score("q", 1, request_id="nobody's")
    eventually(lambda: scores.score_stats().get("dropped_unresolved") == 1, 20)
    found = traces.assert_one('{ name = "score q" }')
    assert found.attributes["otelbridge.score.request_id"] == "nobody's"
    assert "otelbridge.score.trace_id" not in found.attributes


def test_while_no_store_answers_nothing_is_given_up(
    stand_in: StandIn, settings: Settings, monkeypatch: pytest.MonkeyPatch,
    eventually: Callable[..., Any],
) -> None:  # fmt: skip
    """An outage of the stores says nothing about the request: it is looked for again."""
    monkeypatch.setattr(score_delivery, "UNKNOWN_SECONDS", 0.0)
    stand_in.fail(503, "/api/public/v2/observations", times=3)
    stand_in.area("observations", []).append(row("r-1"))
    otelbridge.score("q", 1, request_id="r-1")
    eventually(lambda: stand_in.scores, 20)
    assert "dropped_unresolved" not in scores.score_stats()


def test_a_request_id_of_ours_in_place_of_a_trace_id(stand_in: StandIn, settings: Settings) -> None:
    """Ids that were made here have 32 hex digits too; the map tells them apart."""
    request_ids.remember(OTHER, TRACE, SPAN)
    otelbridge.score("q", 1, trace_id=OTHER)
    assert scores.flush_scores(20)
    assert [one["traceId"] for one in stand_in.scores.values()] == [TRACE]


def test_damaged_records_are_counted(
    stand_in: StandIn, settings: Settings, eventually: Callable[..., Any],
    caplog: pytest.LogCaptureFixture,
) -> None:  # fmt: skip
    """A record that cannot be read costs itself only."""
    delivery = scores._state.delivery
    assert delivery is not None
    assert delivery._open is not None
    assert delivery._open.put(b"no json", 1)
    otelbridge.score("q", 1, request_id="r-1")
    stand_in.area("observations", []).append(row("r-1"))
    with caplog.at_level(logging.ERROR):
        eventually(lambda: stand_in.scores, 20)
        eventually(lambda: scores.score_stats().get("dropped_damaged") == 1, 20)
