"""`live_traces`: the same assertions against a Tempo's HTTP API, polled."""

from __future__ import annotations

import socket
import threading
import time
from collections.abc import Iterator

import httpx
import pytest
from opentelemetry import trace
from opentelemetry.exporter.otlp.proto.common.trace_encoder import encode_spans

from otelbridge.local.server import LocalServer
from otelbridge.testing.assertions import QueryRefusedError, TraceAssertionError
from otelbridge.testing.capture import capturing
from otelbridge.testing.live import LiveTraces, TempoUnreachableError


@pytest.fixture(scope="module")
def tempo() -> Iterator[LocalServer]:
    """A local server in memory: it speaks Tempo's API."""
    with LocalServer() as server:
        yield server


@pytest.fixture
def request_body() -> bytes:
    """An OTLP request with one request of a service, made now."""
    with capturing() as recorder:
        tracer = trace.get_tracer("app")
        with tracer.start_as_current_span("POST /live"):
            attributes = {"gen_ai.usage.input_tokens": 3, "gen_ai.usage.output_tokens": 4}
            with tracer.start_as_current_span("chat live", attributes=attributes):
                pass
        return encode_spans(recorder.ended()).SerializeToString()


def send(server: LocalServer, body: bytes) -> None:
    headers = {"content-type": "application/x-protobuf"}
    with httpx.Client(trust_env=False) as client:
        url = f"{server.otlp_http_url}/v1/traces"
        assert client.post(url, content=body, headers=headers).status_code == 200


def live(url: str, **options: float) -> LiveTraces:
    return LiveTraces(url, **{"timeout_seconds": 10, "interval_seconds": 0.02, **options})


def test_spans_that_arrive_later_are_waited_for(tempo, request_body):
    """An assertion asks again until the spans are there; the rest is as with `traces`."""
    asked = live(tempo.tempo_url)
    timer = threading.Timer(0.3, send, (tempo, request_body))
    timer.start()
    chat = asked.assert_one('{ name = "POST /live" } > { name = "chat live" }')
    timer.join()
    own = f'{{ trace:id = "{chat.trace_id}" }}'
    assert chat["gen_ai.usage.input_tokens"] == 3
    assert asked.tokens(own) == (3, 4)
    assert len(asked.query(own)) == 2
    asked.assert_none(f'{{ trace:id = "{chat.trace_id}" && status = error }}')
    asked.assert_every(own, "{ duration >= 0s }")


def test_the_deadline_ends_with_near_misses_and_the_tree(tempo, request_body):
    """What did not come in time fails as in a unit test."""
    send(tempo, request_body)
    asked = live(tempo.tempo_url, timeout_seconds=0.2)
    with pytest.raises(TraceAssertionError) as caught:
        asked.assert_some('{ name = "chat live" && span.gen_ai.usage.input_tokens = 99 }')
    assert "span.gen_ai.usage.input_tokens is 3" in str(caught.value)
    assert "POST /live" in str(caught.value)


def test_older_traces_are_left_out(tempo, request_body):
    """Only traces since the start of the test are asked for."""
    send(tempo, request_body)
    later = live(tempo.tempo_url, timeout_seconds=0, since_s=time.time() + 7)
    assert later.query('{ name = "POST /live" }') == []


def test_a_dead_address_fails_at_the_deadline():
    """The address and the reason are told."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
    asked = live(f"http://127.0.0.1:{port}", timeout_seconds=0.1)
    with pytest.raises(TempoUnreachableError, match=f"127.0.0.1:{port}: .*refused"):
        asked.assert_some("{ }")


def test_what_cannot_be_asked_of_a_tempo(tempo):
    """The Langfuse view, another scheme and a wrong query are refused without waiting."""
    asked = live(tempo.tempo_url)
    with pytest.raises(ValueError, match="no Langfuse view"):
        asked.spans("langfuse")
    with pytest.raises(ValueError, match="http:// or https://"):
        LiveTraces("ftp://x")
    with pytest.raises(QueryRefusedError, match="syntax error"):
        asked.assert_some("{ name = }")


def test_the_fixture_takes_its_address_from_option_ini_and_environment(suite, tempo):
    """Option wins over ini, ini over the environment; with none of them the test is skipped."""
    test = {"test_it.py": "def test_it(live_traces):\n    print('asks', live_traces.url)\n"}
    url = tempo.tempo_url
    none = suite(test, env={"OTELBRIDGE_TEMPO_URL": ""})
    assert none.tests == {"test_it": "skipped"}
    assert "OTELBRIDGE_TEMPO_URL" in none.failures["test_it"]
    environment = suite(test, "-rP", env={"OTELBRIDGE_TEMPO_URL": url})
    assert f"asks {url}" in environment.output
    options = ("-rP", "-o", "otelbridge_tempo_url=http://ini.example")
    ini = suite(test, *options, env={"OTELBRIDGE_TEMPO_URL": url})
    assert "asks http://ini.example" in ini.output
    given = suite(test, *options, "--otelbridge-tempo-url", "http://option.example/")
    assert "asks http://option.example\n" in given.output
