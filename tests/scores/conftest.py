"""Scores against the stand-in of Langfuse's API, with spans in memory."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from otelbridge import request_ids
from otelbridge.langfuse import active, score_signals, scores
from otelbridge.settings import Settings
from otelbridge.testing.capture import capturing
from otelbridge.testing.traces import Traces
from tests.langfuse.stand_in import StandIn


@pytest.fixture(autouse=True)
def fresh_scores() -> Iterator[None]:
    """No delivery, no counts and no remembered requests before and after a test."""
    _forget()
    yield
    _forget()


def _forget() -> None:
    scores.stop(0.5)
    scores._state.counts.clear()
    scores._state.said.clear()
    scores._state.masking = None
    score_signals._known.clear()
    active.use(None)
    request_ids.forget()


@pytest.fixture(scope="session")
def running() -> Iterator[StandIn]:
    """One server for all tests of scores."""
    with StandIn("v4") as server:
        yield server


@pytest.fixture
def stand_in(running: StandIn) -> StandIn:
    """Langfuse v4, as new."""
    running.reset()
    return running


@pytest.fixture
def settings(stand_in: StandIn, monkeypatch: pytest.MonkeyPatch) -> Settings:
    """Scores go to the stand-in, environment `test`."""
    return use(stand_in, monkeypatch)


def use(stand_in: StandIn, monkeypatch: pytest.MonkeyPatch, **more: str) -> Settings:
    """Score to this stand-in from now on, by the environment."""
    known = {
        **stand_in.environment,
        "OTEL_SERVICE_NAME": "shop",
        "LANGFUSE_TRACING_ENVIRONMENT": "test",
        "LANGFUSE_PROJECT_ID": stand_in.project_id,
    }
    for name, value in (known | more).items():
        monkeypatch.setenv(name, value)
    settings = Settings.from_env()
    scores.use(settings)
    return settings


@pytest.fixture
def traces() -> Iterator[Traces]:
    """Spans of this test; see `otelbridge.testing`."""
    with capturing() as recorder:
        found = Traces(recorder)
        yield found
        found.close()
