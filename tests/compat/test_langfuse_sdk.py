"""The installed Langfuse SDK beside otelbridge: each span once at each store, one unbroken tree."""

from __future__ import annotations

import gzip
import os
import subprocess
import sys
import threading
from collections import Counter
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import (
    ExportTraceServiceRequest,
    ExportTraceServiceResponse,
)
from opentelemetry.proto.trace.v1.trace_pb2 import Span

ROOT = Path(__file__).parents[2]
APP = ROOT / "tests" / "compat" / "langfuse_sdk_app.py"
OURS = ["alone", "answer", "generate", "request", "retrieval kb"]
OF_THE_SDK = ["alone", "answer", "generate", "retrieval kb"]  # what its own filter lets through


class Stores:
    """A Collector and a Langfuse on one loopback port, told apart by the path."""

    def __init__(self) -> None:
        self.collector: list[Span] = []
        self.langfuse: list[Span] = []
        stores = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers["Content-Length"]))
                if self.headers.get("Content-Encoding") == "gzip":
                    body = gzip.decompress(body)
                into = stores.langfuse if "/api/public" in self.path else stores.collector
                if self.path.endswith("/v1/traces"):
                    sent = ExportTraceServiceRequest.FromString(body)
                    for resource in sent.resource_spans:
                        for scope in resource.scope_spans:
                            into.extend(scope.spans)
                answer = ExportTraceServiceResponse().SerializeToString()
                self.send_response(200)
                self.send_header("Content-Type", "application/x-protobuf")
                self.send_header("Content-Length", str(len(answer)))
                self.end_headers()
                self.wfile.write(answer)

            def log_message(self, *_: Any) -> None: ...

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._server.daemon_threads = True
        threading.Thread(target=self._server.serve_forever, args=(0.02,), daemon=True).start()
        self.url = f"http://127.0.0.1:{self._server.server_port}"

    def close(self) -> None:
        self._server.shutdown()
        self._server.server_close()

    def run(self, order: str, **variables: str) -> str:
        """Run the application to its end; what it logged."""
        environment = {
            **os.environ,
            "PYTHONPATH": str(ROOT),
            "OTEL_EXPORTER_OTLP_ENDPOINT": self.url,
            "LANGFUSE_HOST": self.url,
            "LANGFUSE_BASE_URL": self.url,
            "LANGFUSE_PUBLIC_KEY": "pk-lf-1",
            "LANGFUSE_SECRET_KEY": "sk-lf-1",
            **variables,
        }
        done = subprocess.run(
            [sys.executable, str(APP), order],
            env=environment, capture_output=True, text=True, timeout=50, check=False,
        )  # fmt: skip
        assert done.returncode == 0, done.stderr
        return done.stderr


@pytest.fixture
def stores() -> Iterator[Stores]:
    found = Stores()
    yield found
    found.close()


def names(spans: list[Span]) -> list[str]:
    assert max(Counter(span.span_id for span in spans).values(), default=0) <= 1, "sent twice"
    return sorted(span.name for span in spans)


def value(span: Span, key: str) -> str | None:
    return next((a.value.string_value for a in span.attributes if a.key == key), None)


@pytest.mark.parametrize("order", ["first", "late"])
def test_each_span_of_the_sdk_arrives_once_and_in_its_place(stores: Stores, order: str) -> None:
    """Through the Collector: otelbridge configured before the SDK's client, and after it."""
    log = stores.run(order)
    assert names(stores.collector) == OURS
    assert stores.langfuse == []
    by_name = {span.name: span for span in stores.collector}
    chain = ["request", "answer", "generate", "retrieval kb"]
    for parent, child in pairwise(chain):
        assert by_name[child].parent_span_id == by_name[parent].span_id, child
        assert value(by_name[child], "otelbridge.llm.parent") == by_name[parent].span_id.hex()
    assert value(by_name["generate"], "user.id") == "u-1"
    assert value(by_name["generate"], "langfuse.observation.type") == "generation"
    assert all(value(s, "langfuse.internal.is_app_root") is None for s in stores.collector)
    assert "outside of what otelbridge promises" not in log


def test_direct_export_sends_each_store_its_part_once(stores: Stores) -> None:
    """Without a Collector: all spans to the OTLP endpoint, the LLM view to Langfuse, once."""
    stores.run("first", OTELBRIDGE_EXPORT="direct")
    assert names(stores.collector) == OURS
    assert names(stores.langfuse) == OURS  # the root is a span of a helper, so in the view


def test_both_send_when_told_to(stores: Stores) -> None:
    """For a time of comparison the SDK's own export may stay on."""
    stores.run("first", OTELBRIDGE_LANGFUSE_SDK_EXPORT="true")
    assert names(stores.collector) == OURS
    assert names(stores.langfuse) == OF_THE_SDK


@pytest.mark.parametrize(
    ("variable", "value", "langfuse"),
    [("OTEL_TRACES_EXPORTER", "none", OF_THE_SDK), ("LANGFUSE_ENABLED", "false", [])],
)
def test_the_sdk_sends_where_otelbridge_has_no_way_to_langfuse(
    stores: Stores, variable: str, value: str, langfuse: list[str]
) -> None:
    """Without an exporter of ours its spans are not lost; with Langfuse off they go nowhere."""
    stores.run("first", **{variable: value})
    assert names(stores.langfuse) == langfuse


def test_without_otelbridge_the_sdk_exports_as_before(stores: Stores) -> None:
    """A program that never configures otelbridge loses nothing."""
    stores.run("never")
    assert stores.collector == []
    assert names(stores.langfuse) == OF_THE_SDK
