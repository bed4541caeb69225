"""The own export path against a receiver that answers as the test wants."""

from __future__ import annotations

import os
import socket
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from socketserver import StreamRequestHandler, ThreadingTCPServer
from typing import Any

import pytest
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceResponse
from opentelemetry.sdk.trace import ReadableSpan
from opentelemetry.trace import SpanContext, SpanKind, TraceFlags

from otelbridge.exporters.answers import Pauses
from otelbridge.exporters.delivery import Delivery
from otelbridge.exporters.processor import OtlpSpanProcessor
from otelbridge.exporters.spool import Owner, Spool
from tests.exporters.fault_server import Receiver, until


def make_span(name: str, **fields: Any) -> ReadableSpan:
    own = SpanContext(1, hash(name) & (2**64 - 1) or 1, False, TraceFlags(1))
    return ReadableSpan(**{"name": name, "context": own, "start_time": 1, "end_time": 2} | fields)


def names(count: int) -> list[str]:
    return [f"s{number}" for number in range(count)]


@pytest.fixture
def receiver() -> Iterator[Receiver]:
    made = Receiver()
    yield made
    made.close()


class Quick(Pauses):
    """Pauses that tests need not wait for."""

    def next_seconds(self, asked: float | None = None, *, at_least: float = 0.0) -> float:
        return 0.02 if asked is None else asked


@pytest.fixture
def make(receiver: Receiver, tmp_path: Path) -> Iterator[Callable[..., OtlpSpanProcessor]]:
    """Build a processor; it is shut down after the test."""
    made: list[OtlpSpanProcessor] = []

    def build(
        endpoint: str | None = None, *, spool: bool = True, quick: bool = True, **options: Any
    ) -> OtlpSpanProcessor:
        endpoint = endpoint or receiver.endpoint
        kept = Spool(tmp_path / "spool", owner=Owner("svc", "http://e")) if spool else None
        processor = OtlpSpanProcessor(
            Delivery(endpoint), spool=kept, **{"delay_seconds": 0.05} | options
        )
        if quick:
            processor.sender._pauses = Quick()
        made.append(processor)
        return processor

    yield build
    for processor in made:
        processor.end(0.3)


def end(processor: OtlpSpanProcessor, wanted: list[str]) -> None:
    for name in wanted:
        processor.on_end(make_span(name))


Make = Callable[..., OtlpSpanProcessor]


def test_delivers_all_over_one_connection(receiver: Receiver, make: Make) -> None:
    """Spans arrive once each, gzipped, in batches, over one kept-alive connection."""
    processor = make(batch_spans=50, delay_seconds=60)
    end(processor, names(220))
    assert processor.force_flush(5000)
    assert sorted(receiver.names) == sorted(names(220))
    assert receiver.connections == 1
    assert all(len(request) <= 50 for request in receiver.requests)
    assert receiver.request_headers[0]["content-encoding"] == "gzip"
    assert processor.stats()["exported"] == 220


@pytest.mark.parametrize("status", [408, 429, 500, 502, 503, 504])
def test_an_outage_by_answer_loses_nothing(receiver: Receiver, make: Make, status: int) -> None:
    """Spans refused for a while arrive once each when the endpoint is back."""
    failures = iter([status] * 4)
    receiver.behaviour = lambda _: (next(failures, 200), {}, b"")
    processor = make(batch_spans=10)
    end(processor, names(35))
    assert until(lambda: len(receiver.names) >= 35)
    assert sorted(receiver.names) == sorted(names(35))
    # The receiver has a request a moment before its answer is counted.
    assert until(lambda: processor.stats()["exported"] == 35)


def test_an_outage_without_a_spool_waits_in_memory(receiver: Receiver, make: Make) -> None:
    """Where no spool can be used, spans of an outage wait in memory."""
    failures = iter([503] * 4)
    receiver.behaviour = lambda _: (next(failures, 200), {}, b"")
    processor = make(batch_spans=10, spool=False)
    end(processor, names(35))
    assert until(lambda: len(receiver.names) >= 35)
    assert sorted(receiver.names) == sorted(names(35))


@pytest.mark.parametrize(
    "head", [b"HTTP/1.0 200 OK\r\n\r\n", b"HTTP/1.1 200 OK\r\nConnection: close\r\n\r\n"]
)
def test_an_answer_after_which_the_peer_closes_is_an_answer(make: Make, head: bytes) -> None:
    """Proxies and small servers close after each answer, some a while later: one is enough."""
    seen: list[int] = []
    never = threading.Event()

    class Handler(StreamRequestHandler):
        def handle(self) -> None:
            length = 0
            while (line := self.rfile.readline().strip().lower()) != b"":
                if line.startswith(b"content-length:"):
                    length = int(line.partition(b":")[2])
            seen.append(len(self.rfile.read(length)))
            self.wfile.write(head)
            never.wait(0.2)

    with ThreadingTCPServer(("127.0.0.1", 0), Handler) as server:
        threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True).start()
        processor = make(f"http://127.0.0.1:{server.server_address[1]}/v1/traces")
        for name in ("a", "b"):
            end(processor, [name])
            assert processor.force_flush(10_000)
        server.shutdown()
    assert len(seen) == 2
    assert "failures" not in processor.stats()


def test_retry_after_is_waited_for(receiver: Receiver, make: Make) -> None:
    """After 429 with Retry-After 1 the endpoint is left alone for a second."""
    times: list[float] = []

    def behave(_: list[str]) -> tuple[int, dict[str, str], bytes]:
        times.append(time.monotonic())
        return (429, {"Retry-After": "1"}, b"") if len(times) == 1 else (200, {}, b"")

    receiver.behaviour = behave
    processor = make()
    end(processor, ["a"])
    assert until(lambda: times)
    end(processor, ["b"])
    assert until(lambda: sorted(receiver.names) == ["a", "b"])
    assert 1.0 <= times[1] - times[0] < 2.5


def test_too_large_requests_are_split(receiver: Receiver, make: Make) -> None:
    """After 413 a batch is halved until it fits; the span that never fits is dropped."""
    receiver.behaviour = lambda got: (413 if len(got) > 3 or "s5" in got else 200, {}, b"")
    processor = make(delay_seconds=60)
    end(processor, names(20))
    processor.force_flush(5000)
    assert sorted(receiver.names) == sorted(set(names(20)) - {"s5"})
    assert processor.stats()["dropped_too_large"] == 1


@pytest.mark.parametrize("bad", [{"s0"}, {"s6", "s7"}, {"s19"}])
def test_a_bad_span_is_isolated(receiver: Receiver, make: Make, bad: set[str]) -> None:
    """After 400 the bad spans alone are dropped and counted, all others arrive once."""
    receiver.behaviour = lambda got: (400 if bad & set(got) else 200, {}, b"")
    processor = make(delay_seconds=60)
    end(processor, names(20))
    processor.force_flush(5000)
    assert sorted(receiver.names) == sorted(set(names(20)) - bad)
    assert processor.stats()["dropped_rejected"] == len(bad)


def test_a_span_that_faults_the_receiver_is_found(receiver: Receiver, make: Make) -> None:
    """A span that makes the receiver answer 500 does not hold back or cost the others for ever."""
    receiver.behaviour = lambda got: (500 if "s3" in got else 200, {}, b"")
    processor = make()
    end(processor, names(10))
    processor.force_flush(5000)
    sent = iter(range(1000))

    def settled() -> bool:
        processor.on_end(make_span(f"later{next(sent)}"))
        return processor.stats().get("dropped_rejected") == 1

    assert until(settled)
    assert set(names(10)) - set(receiver.names) == {"s3"}


@pytest.mark.parametrize("status", [301, 307, 401, 403, 404, 400])
def test_a_wrong_configuration_is_said_once_and_loses_nothing(
    receiver: Receiver, make: Make, caplog: pytest.LogCaptureFixture, status: int
) -> None:
    """Answers that only a person can mend: one line in the log, spans kept and sent later."""
    receiver.behaviour = lambda _: (status, {"Location": "http://127.0.0.1:9/"}, b"")
    processor = make()
    end(processor, names(5))
    assert until(lambda: processor.stats().get("failures", 0) >= 3)
    receiver.behaviour = lambda _: (200, {}, b"")
    assert until(lambda: len(receiver.names) >= 5)
    assert sorted(receiver.names) == names(5)
    assert len([r for r in caplog.records if "refuses spans" in r.message]) == 1


def test_partial_success_is_counted(receiver: Receiver, make: Make) -> None:
    """Spans that a 200 names as rejected count as dropped and not as exported."""
    body = ExportTraceServiceResponse()
    body.partial_success.rejected_spans = 2
    receiver.behaviour = lambda _: (200, {}, body.SerializeToString())
    processor = make(delay_seconds=60)
    end(processor, names(5))
    assert processor.force_flush(5000)
    stats = processor.stats()
    assert (stats["exported"], stats["dropped_partial_success"]) == (3, 2)


def refused_port() -> int:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port: int = free.getsockname()[1]
    return port


class Silent:
    """Accepts connections and answers nothing, or a byte of a header every 50 ms."""

    def __init__(self, trickle: bool = False) -> None:
        self.socket = socket.create_server(("127.0.0.1", 0))
        self.endpoint = f"http://127.0.0.1:{self.socket.getsockname()[1]}/v1/traces"
        self.trickle = trickle
        self.closed = threading.Event()
        self.peers: list[socket.socket] = []
        self.threads = [threading.Thread(target=self.accept, daemon=True)]
        self.threads[0].start()

    def accept(self) -> None:
        while True:
            try:
                peer, _ = self.socket.accept()
            except OSError:
                return
            self.peers.append(peer)
            if self.trickle:
                self.threads.append(threading.Thread(target=self.drip, args=(peer,), daemon=True))
                self.threads[-1].start()

    def drip(self, peer: socket.socket) -> None:
        data = iter(b"HTTP/1.1 200 OK\r\nx-slow: " + b"a" * 10_000)
        while not self.closed.wait(0.05):
            try:
                peer.send(bytes([next(data)]))
            except OSError:
                return

    def close(self) -> None:
        self.closed.set()
        self.socket.shutdown(socket.SHUT_RDWR)
        self.socket.close()
        for thread in self.threads:
            thread.join(2)
        for peer in self.peers:
            peer.close()


@pytest.fixture(params=["refused", "silent", "trickle", "dns"])
def dead_endpoint(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """An endpoint that cannot be delivered to, in each of the ways."""
    if request.param == "refused":
        yield f"http://127.0.0.1:{refused_port()}/v1/traces"
    elif request.param == "dns":
        hang = threading.Event()
        real = socket.getaddrinfo

        def resolve(host: str, *args: Any, **kwargs: Any) -> Any:
            if host == "hangs.invalid":
                hang.wait(20)
                raise socket.gaierror(socket.EAI_AGAIN, "timed out")
            return real(host, *args, **kwargs)

        monkeypatch.setattr(socket, "getaddrinfo", resolve)
        yield "http://hangs.invalid/v1/traces"
        hang.set()
    else:
        silent = Silent(trickle=request.param == "trickle")
        yield silent.endpoint
        silent.close()


@pytest.mark.parametrize("count", [100, 2000])
def test_the_end_is_bounded_and_loses_nothing(
    receiver: Receiver, make: Make, dead_endpoint: str, count: int
) -> None:
    """With a dead endpoint shutdown keeps its 1.5 s; the next start delivers every span."""
    processor = make(dead_endpoint, quick=False)
    end(processor, names(count))
    started = time.monotonic()
    processor.end(1.5)
    took = time.monotonic() - started
    assert took <= 3.0
    next_start = make()
    next_start.start()
    assert until(lambda: len(set(receiver.names)) >= count)
    assert sorted(set(receiver.names)) == sorted(names(count))
    assert len(receiver.names) == count


@pytest.mark.parametrize(("queued_bytes", "seconds"), [(0, 1.0), (60_000_000, 0.375)])
def test_a_queue_of_large_spans_gets_more_of_the_time_at_the_end(
    make: Make, queued_bytes: int, seconds: float
) -> None:
    """Of 1.5 s delivery has the first second; less of it when much must be written to disk."""
    processor = make()
    processor._queue.bytes = queued_bytes
    started = time.monotonic()
    processor.end(1.5)
    ended = time.monotonic()
    assert started + seconds <= processor.sender.stop_at <= ended + seconds


def test_a_full_queue_moves_to_the_spool_while_the_endpoint_hangs(
    receiver: Receiver, make: Make
) -> None:
    """A worker that waits for a silent endpoint goes on emptying the queue; nothing is dropped."""
    silent = Silent()
    processor = make(silent.endpoint, max_spans=1000, batch_spans=100, timeout_seconds=60)
    end(processor, ["first"])
    assert until(lambda: silent.peers)
    for number in range(30):
        end(processor, [f"{number}-{name}" for name in names(100)])
        assert until(lambda: processor.stats()["queued"] <= 500)
    assert "dropped_queue_full" not in processor.stats()
    processor.end(0.6)
    worker = processor._worker
    assert until(lambda: worker is not None and not worker.is_alive(), 1)
    silent.close()
    make().start()
    assert until(lambda: len(receiver.names) >= 3001)
    assert len(set(receiver.names)) == len(receiver.names) == 3001


def test_a_queue_that_fills_too_fast_does_not_hold_up_requests(
    receiver: Receiver, make: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Spans that come faster than they are moved cost a request neither its turn nor its time."""
    processor = make(batch_spans=1, timeout_seconds=0.1)
    monkeypatch.setattr(type(processor._queue), "fill", property(lambda _: 1.0))
    monkeypatch.setattr(processor, "_relieve", lambda: threading.Event().wait(0.15))
    end(processor, ["a"])
    assert until(lambda: receiver.names == ["a"])
    assert "failures" not in processor.stats()


def test_a_full_queue_drops_inner_steps_first(make: Make) -> None:
    """At the cap, steps outside the LLM view go before other spans, those before the view's."""
    processor = make(max_spans=100)
    processor.start = lambda: None  # type: ignore[method-assign]  # nobody takes spans away
    parent = SpanContext(1, 5, False, TraceFlags(1))
    for number in range(40):
        for kind, fields in (
            ("inner", {"parent": parent}),
            ("server", {"kind": SpanKind.SERVER}),
            ("llm", {"parent": parent, "attributes": {"otelbridge.llm.keep": True}}),
            ("gen", {"parent": parent, "attributes": {"gen_ai.operation.name": "chat"}}),
        ):
            processor.on_end(make_span(f"{kind}{number}", **fields))
    left = [span.name for span in processor._queue.take(1000, 10**9)]
    kept = {kind: sum(name.startswith(kind) for name in left) for kind in ("inner", "llm", "gen")}
    assert len(left) == 100
    assert kept == {"inner": 0, "llm": 40, "gen": 40}
    assert processor.stats()["dropped_queue_full"] == 60


def test_memory_is_bounded_by_bytes(make: Make) -> None:
    """Spans of 100 kB each: what waits beyond the first 64 stays near the bound."""
    processor = make(queue_bytes=5_000_000)
    processor.start = lambda: None  # type: ignore[method-assign]  # nobody takes spans away
    for number in range(300):
        processor.on_end(make_span(f"s{number}", attributes={"text": "x" * 100_000}))
    assert processor._queue.bytes <= 5_000_000
    assert processor._queue.spans <= 64 + 50 + 8
    assert processor.stats()["dropped_queue_full"] == 300 - processor._queue.spans


def test_a_forked_child_starts_empty_and_exports(receiver: Receiver, make: Make) -> None:
    """The child sends its own spans over a connection of its own, and none of the parent's."""
    processor = make(delay_seconds=60)
    end(processor, ["first"])
    assert processor.force_flush(5000)
    end(processor, ["before"])
    child = os.fork()
    if child == 0:
        code = 1
        try:
            end(processor, ["child"])
            code = 0 if processor.force_flush(5000) else 2
        finally:
            os._exit(code)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
    end(processor, ["after"])
    assert processor.force_flush(5000)
    assert sorted(receiver.names) == ["after", "before", "child", "first"]
    assert receiver.connections == 2


def test_an_idle_connection_closed_by_the_peer_costs_no_failure(
    receiver: Receiver, make: Make
) -> None:
    """A kept-alive connection that the receiver closed is opened again without a pause."""
    receiver.behaviour = lambda _: (200, {"Connection": "close"}, b"")
    processor = make(delay_seconds=60)
    for name in ("a", "b"):
        end(processor, [name])
        assert processor.force_flush(5000)
    assert receiver.names == ["a", "b"]
    assert "failures" not in processor.stats()
