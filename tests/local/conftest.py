"""A running local server in memory, an HTTP client for it, and OTLP requests to send."""

from __future__ import annotations

import os
from collections.abc import Iterator
from typing import Any

import httpx
import pytest
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.proto.common.v1.common_pb2 import AnyValue, KeyValue
from opentelemetry.proto.trace.v1.trace_pb2 import Span

from otelbridge.local.langfuse_preview import Project
from otelbridge.local.server import LocalServer

PUBLIC_KEY = "pk-lf-tests"
SECRET_KEY = "sk-lf-tests"


def any_value(value: Any) -> AnyValue:
    """A Python value as an OTLP value."""
    found = AnyValue()
    if isinstance(value, bool):
        found.bool_value = value
    elif isinstance(value, int):
        found.int_value = value
    elif isinstance(value, float):
        found.double_value = value
    elif isinstance(value, bytes):
        found.bytes_value = value
    elif isinstance(value, (list, tuple)):
        found.array_value.SetInParent()
        found.array_value.values.extend(any_value(item) for item in value)
    elif isinstance(value, dict):
        found.kvlist_value.SetInParent()
        found.kvlist_value.values.extend(pairs(value))
    elif value is not None:
        found.string_value = value
    return found


def pairs(mapping: dict[str, Any]) -> list[KeyValue]:
    """A mapping as OTLP attributes."""
    return [KeyValue(key=key, value=any_value(value)) for key, value in mapping.items()]


class Samples:
    """Makers of OTLP spans and requests; ids are random unless given."""

    pairs = staticmethod(pairs)

    @staticmethod
    def span(name: str = "work", attributes: dict[str, Any] | None = None, **fields: Any) -> Span:
        fields.setdefault("trace_id", os.urandom(16))
        fields.setdefault("span_id", os.urandom(8))
        fields.setdefault("start_time_unix_nano", 1_700_000_000_000_000_000)
        fields.setdefault("end_time_unix_nano", 1_700_000_000_250_000_000)
        return Span(name=name, attributes=pairs(attributes or {}), **fields)

    @staticmethod
    def request(
        *spans: Span, service: str = "svc", resource: dict[str, Any] | None = None
    ) -> ExportTraceServiceRequest:
        request = ExportTraceServiceRequest()
        group = request.resource_spans.add()
        group.resource.attributes.extend(pairs({"service.name": service, **(resource or {})}))
        scope = group.scope_spans.add()
        scope.scope.name = "tests"
        scope.spans.extend(spans)
        return request


@pytest.fixture(scope="session")
def samples() -> type[Samples]:
    """Makers of OTLP spans and requests."""
    return Samples


@pytest.fixture(scope="session")
def local() -> Iterator[LocalServer]:
    """One local server in memory for all tests; each test uses trace ids of its own."""
    with LocalServer(project=Project("proj", PUBLIC_KEY, SECRET_KEY)) as server:
        yield server


@pytest.fixture(scope="session")
def http() -> Iterator[httpx.Client]:
    """An HTTP client without proxies."""
    with httpx.Client(trust_env=False, timeout=10) as client:
        yield client


@pytest.fixture
def keys() -> tuple[str, str]:
    """The preview's key pair."""
    return (PUBLIC_KEY, SECRET_KEY)


class Talk:
    """Sends to and reads from the local server."""

    def __init__(self, server: LocalServer, client: httpx.Client) -> None:
        self._server = server
        self._client = client

    def send(self, request: ExportTraceServiceRequest) -> None:
        reply = self._client.post(
            f"{self._server.otlp_http_url}/v1/traces",
            content=request.SerializeToString(),
            headers={"content-type": "application/x-protobuf"},
        )
        assert reply.status_code == 200, reply.text

    def to_preview(self, request: ExportTraceServiceRequest, **options: Any) -> httpx.Response:
        headers = {"content-type": "application/x-protobuf", **options.pop("headers", {})}
        return self._client.post(
            f"{self._server.langfuse_url}/api/public/otel/v1/traces",
            content=options.pop("content", request.SerializeToString()),
            headers=headers,
            auth=options.pop("auth", (PUBLIC_KEY, SECRET_KEY)),
        )

    def tempo(self, trace_id: bytes) -> dict[str, Any]:
        reply = self._client.get(f"{self._server.tempo_url}/api/v2/traces/{trace_id.hex()}")
        assert reply.status_code == 200
        return reply.json()

    def tempo_spans(self, trace_id: bytes) -> list[dict[str, Any]]:
        groups = self.tempo(trace_id)["trace"].get("resourceSpans", [])
        return [s for g in groups for scope in g["scopeSpans"] for s in scope["spans"]]

    def observations(self, trace_id: bytes) -> list[dict[str, Any]]:
        reply = self._client.get(
            f"{self._server.langfuse_url}/api/public/v2/observations",
            params={
                "traceId": trace_id.hex(),
                "fields": "core,basic,time,io,metadata,model,usage,prompt,metrics,trace_context",
            },
            auth=(PUBLIC_KEY, SECRET_KEY),
        )
        assert reply.status_code == 200, reply.text
        return reply.json()["data"]


@pytest.fixture
def talk(local: LocalServer, http: httpx.Client) -> Talk:
    """Sends to and reads from the local server."""
    return Talk(local, http)
