"""The stand-in of Langfuse's API refuses what Langfuse refuses."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import httpx
import pytest

from otelbridge.errors import ConfigError
from otelbridge.langfuse.client import LangfuseApi, LangfuseApiError
from otelbridge.settings import Settings
from tests.langfuse.stand_in import Generation, StandIn

TRACE = "0af7651916cd43dd8448eb211c80319c"
GOOD = {"id": "s-1", "traceId": TRACE, "name": "quality", "value": 0.5}


@pytest.fixture(scope="module", params=["v3", "v4"])
def running(request: pytest.FixtureRequest) -> Iterator[StandIn]:
    """One server for each generation."""
    generation: Generation = request.param
    with StandIn(generation) as server:
        yield server


@pytest.fixture
def stand_in(running: StandIn) -> StandIn:
    """Each generation, as new."""
    running.reset()
    return running


def api(stand_in: StandIn, **changed: str) -> LangfuseApi:
    settings = Settings.from_env(stand_in.environment | changed)
    return LangfuseApi(settings.langfuse, timeout_seconds=5)


ROUTES = {
    "/api/public/v3/scores": ("v4",),
    "/api/public/v2/scores": ("v3",),
    "/api/public/v2/observations": ("v4",),
    "/api/public/observations": ("v3",),
    "/api/public/traces": ("v3",),
    "/api/public/projects": ("v3", "v4"),
    "/api/public/health": ("v3", "v4"),
    "/api/public/nothing": (),
}


@pytest.mark.parametrize("path", ROUTES)
def test_each_generation_has_its_routes(path: str, stand_in: StandIn) -> None:
    """404 where the other generation answers."""
    with api(stand_in) as client:
        if stand_in.generation in ROUTES[path]:
            assert client.request("GET", path)
        else:
            with pytest.raises(LangfuseApiError) as caught:
                client.request("GET", path)
            assert caught.value.status == 404


def test_keys_are_checked(stand_in: StandIn) -> None:
    """A wrong secret is refused, none but for the health; the public key alone may write scores."""
    with api(stand_in, LANGFUSE_SECRET_KEY="sk-wrong") as client, pytest.raises(ConfigError):
        client.project()
    assert httpx.get(f"{stand_in.url}/api/public/health").status_code == 200
    assert httpx.get(f"{stand_in.url}/api/public/projects").status_code == 401
    bearer = {"authorization": f"Bearer {stand_in.public_key}"}
    post = httpx.post(f"{stand_in.url}/api/public/scores", json=GOOD, headers=bearer)
    get = httpx.get(f"{stand_in.url}/api/public/projects", headers=bearer)
    assert (post.status_code, get.status_code) == (200, 403)


BAD: list[dict[str, Any]] = [
    {"name": None}, {"name": ""}, {"value": None}, {"value": [1]}, {"traceId": None},
    {"sessionId": "s"}, {"traceId": None, "sessionId": "s", "observationId": "o"},
    {"dataType": "BOOLEAN"}, {"dataType": "TEXT", "value": "x" * 501}, {"dataType": "FLOAT"},
    {"dataType": "CATEGORICAL"}, {"environment": "Prod EU"}, {"environment": "langfuse-x"},
    {"trace_id": TRACE}, {"timestamp": "2026-11-21T10:00:00"}, {"metadata": "text"},
]  # fmt: skip


@pytest.mark.parametrize("change", BAD)
def test_bodies_that_break_a_rule_are_400(change: dict[str, Any], stand_in: StandIn) -> None:
    """One rule each, of the OpenAPI document or of the worker behind it."""
    body = {key: value for key, value in (GOOD | change).items() if value is not None}
    with api(stand_in) as client:
        with pytest.raises(LangfuseApiError) as caught:
            client.request("POST", "/api/public/scores", body=body)
        assert caught.value.status == 400
        client.request("POST", "/api/public/scores", body=GOOD)
    assert list(stand_in.scores) == ["s-1"]


def test_failures_come_as_ordered(stand_in: StandIn) -> None:
    """As often as asked, for the path and method asked, with Retry-After; then no more."""
    stand_in.fail(429, "/api/public/projects", times=1, retry_after=7)
    with api(stand_in) as client:
        assert client.request("GET", "/api/public/health")
        with pytest.raises(LangfuseApiError) as caught:
            client.request("GET", "/api/public/projects")
        assert (caught.value.status, caught.value.retry_after_seconds) == (429, 7)
        assert client.request("GET", "/api/public/projects")
    assert [one.status for one in stand_in.requests("/api/public/projects")] == [429, 200]


def test_an_outage_and_its_end(stand_in: StandIn) -> None:
    """`down` refuses connections, `up` listens at the same address."""
    stand_in.down()
    with api(stand_in) as client:
        with pytest.raises(LangfuseApiError, match="LANGFUSE_HOST") as caught:
            client.request("GET", "/api/public/projects")
        assert caught.value.status is None
        stand_in.up()
        assert client.project().id == stand_in.project_id


def test_the_official_client_sends_its_list_of_scores(stand_in: StandIn) -> None:
    """What the installed package writes is taken, and told apart from a single score."""
    from langfuse.api import scores

    if not hasattr(scores, "CreateScoresRequest"):
        pytest.skip("this version of the langfuse package writes one score a request")
    one = scores.CreateScoreRequest(name="quality", value=0.5, trace_id=TRACE, id="s-1")
    with api(stand_in) as client:
        client.call("POST", lambda generated: generated.scores.create(request=[one]))
    assert list(stand_in.scores) == ["s-1"]


def test_calls_make_no_spans(stand_in: StandIn) -> None:
    """The API's own requests are not traced, whatever instruments httpx."""
    from otelbridge.testing.capture import capturing

    with capturing() as recorder, api(stand_in) as client:
        client.project()
        client.request("GET", "/api/public/health")
        assert len(stand_in.seen) == 2
        assert not recorder.ended()
