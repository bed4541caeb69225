"""Counts and content of a process that `configure` has set up."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from opentelemetry import trace

import otelbridge
from benchmarks._hostile_values import BadString
from tests.exporters.fault_server import Receiver


@pytest.fixture
def receiver() -> Iterator[Receiver]:
    made = Receiver()
    yield made
    made.close()


@pytest.fixture
def configure(receiver: Receiver) -> Iterator[Callable[..., None]]:
    def switch_on(**variables: str) -> None:
        known = {
            "OTEL_SERVICE_NAME": "s",
            "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT": receiver.endpoint,
            "OTELBRIDGE_SPOOL_DIR": os.environ["OTELBRIDGE_SPOOL_DIR"],
            "LANGFUSE_PUBLIC_KEY": "pk-lf-a",
            "LANGFUSE_SECRET_KEY": "sk-lf-b",
            "LANGFUSE_HOST": f"http://127.0.0.1:{receiver.port}",
        }
        otelbridge.configure(otelbridge.Settings.from_env(known | variables), instrument=False)

    yield switch_on
    otelbridge.shutdown(1)


@pytest.mark.parametrize("export", ["collector", "direct"])
def test_counts_by_destination(configure: Callable[..., None], export: str) -> None:
    """One stream to the Collector; in direct export one to each store, with what it left out."""
    configure(OTELBRIDGE_EXPORT=export)
    with otelbridge.chat("m", provider="p"):
        pass
    with trace.get_tracer("x").start_as_current_span("plain"):
        pass
    assert otelbridge.flush(5)
    stats = otelbridge.export_stats()
    if export == "collector":
        assert set(stats) == {"collector", "guard"}
        assert stats["collector"]["exported"] == 2
    else:
        assert stats["tempo"]["exported"] == 2
        assert (stats["langfuse"]["exported"], stats["langfuse"]["left_out"]) == (1, 1)


def test_no_content_leaves_when_settling_fails(
    configure: Callable[..., None], receiver: Receiver, swallow_errors: None
) -> None:
    """A span that cannot be looked through leaves with nothing but its name, ids and times."""
    got: list[Any] = []
    receiver.on_spans = got.extend
    configure(OTEL_INSTRUMENTATION_GENAI_CAPTURE_MESSAGE_CONTENT="NO_CONTENT")
    with trace.get_tracer("x").start_as_current_span("plain") as span:
        span.set_attribute("gen_ai.input.messages", "topsecret")
        span.set_attribute("url.full", BadString("x=topsecret"))
    assert otelbridge.flush(5)
    assert [one.name for one in got] == ["plain"]
    assert "topsecret" not in str(got[0])


def test_links_of_anything(configure: Callable[..., None], swallow_errors: None) -> None:
    """`trace_links` answers with nothing for ids that refuse to be looked at."""
    configure()
    links = otelbridge.trace_links("1" * 32, BadString("y"))
    assert links.langfuse_url is None
