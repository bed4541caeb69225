"""Size limits on the way out: what `configure` builds applies them, with either exporter."""

from __future__ import annotations

import json

import pytest
from opentelemetry import trace

import otelbridge
from otelbridge import semconv
from tests.exporters.fault_server import Receiver


@pytest.mark.parametrize("exporter", ["bridge", "stock"])
@pytest.mark.parametrize(
    ("variable", "value"),
    [("OTELBRIDGE_ATTRIBUTE_MAX_BYTES", "2KiB"), ("OTEL_ATTRIBUTE_VALUE_LENGTH_LIMIT", "2048")],
)
def test_messages_arrive_cut_and_as_json(monkeypatch, exporter, variable, value):
    """A chat beyond the limit arrives as a shorter list of messages, and the span says so."""
    monkeypatch.setenv(variable, value)
    taken = []
    receiver = Receiver()
    receiver.on_spans = taken.extend  # of requests that are taken
    try:
        otelbridge.configure(
            instrument=False,
            otlp_endpoint=receiver.endpoint.removesuffix("/v1/traces"),
            exporter=exporter,
        )
        messages = [{"role": "user", "content": f"{n} " + "word " * 200} for n in range(9)]
        with otelbridge.chat("m", provider="p", messages=messages):
            trace.get_current_span().set_attribute("plain", "p" * 5000)
        assert otelbridge.flush(10)
    finally:
        otelbridge.shutdown(2)
        receiver.close()
    (span,) = taken
    attributes = {item.key: item.value.string_value for item in span.attributes}
    text = attributes[semconv.GEN_AI_INPUT_MESSAGES]
    assert len(text) <= 2048 < len(json.dumps(messages))
    assert [one["role"] for one in json.loads(text)].count("user") >= 1
    assert len(attributes["plain"]) <= 2048
    assert "plain=5000" in attributes[semconv.TRUNCATED]
