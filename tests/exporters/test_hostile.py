"""Hostile values, hooks, clocks and log handlers: the host never notices, every span is accounted.

The cases are those of `benchmarks/hostile.py`, which runs 10,000 of them; here as many as fit.
"""

from __future__ import annotations

import asyncio
import io
import logging
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NoReturn

import pytest
from opentelemetry import trace

import otelbridge
from benchmarks import hostile
from benchmarks._hostile_values import FAULTS, HOSTILE, StandIn
from otelbridge import _guard, genai
from otelbridge.exporters.delivery import Delivery
from otelbridge.exporters.processor import OtlpSpanProcessor
from otelbridge.exporters.spool import Owner, Spool
from tests.exporters.fault_server import Receiver, until
from tests.exporters.test_processor import make_span

#: At 5 to 20 ms each.
CASES = 1_500


@pytest.fixture
def receiver() -> Iterator[Receiver]:
    made = Receiver()
    yield made
    made.close()


@pytest.fixture
def world(receiver: Receiver, tmp_path: Path, swallow_errors: None) -> Iterator[hostile.World]:
    """Tracing as in production towards a receiver; the log handler raises; the SDK is quiet."""
    sdk = logging.getLogger("opentelemetry")
    level = sdk.level
    sdk.setLevel(logging.CRITICAL)
    with hostile.world(receiver.endpoint, tmp_path) as made:
        yield made
    sdk.setLevel(level)


def dropped(processor: OtlpSpanProcessor) -> int:
    stats = processor.stats()
    return int(sum(count for name, count in stats.items() if name.startswith("dropped_")))


def test_drawn_cases(world: hostile.World, receiver: Receiver) -> None:
    """No error of ours in the host, its own as they were, every span delivered or counted."""
    hostile.run_cases(CASES)
    assert world.processor.force_flush(20_000)
    assert world.ended.spans > CASES
    assert len(receiver.names) + dropped(world.processor) == world.ended.spans
    assert world.processor.stats()["exported"] == len(receiver.names)


@pytest.mark.parametrize("action", sorted(hostile.ACTIONS))
def test_each_value_in_each_place(world: hostile.World, receiver: Receiver, action: str) -> None:
    """Every listed value with every error of the host, in one way of calling us."""
    for number, value in enumerate(sorted(HOSTILE)):
        faults = sorted(FAULTS)
        for fault in {"none", faults[number % len(faults)]}:
            hostile.run_step(action, StandIn(value), fault)
    for fault in FAULTS:
        hostile.run_step(action, "harmless", fault)
    assert world.processor.force_flush(20_000)
    assert len(receiver.names) + dropped(world.processor) == world.ended.spans


class Interrupting:
    """Being looked at ends the program, as Ctrl-C would in that moment."""

    def __init__(self, error: BaseException) -> None:
        self.error = error

    def __str__(self) -> str:
        raise self.error


@pytest.mark.parametrize(
    "error",
    [KeyboardInterrupt(), SystemExit(2), GeneratorExit(), asyncio.CancelledError()],
    ids=lambda error: type(error).__name__,
)
def test_what_ends_a_program_passes_through_our_code(
    world: hostile.World, receiver: Receiver, error: BaseException
) -> None:
    """Raised inside of telemetry, it reaches the host; the span has ended, the next ones work."""
    with pytest.raises(type(error)) as raised, otelbridge.span("interrupted") as call:
        call.set_output(Interrupting(error))
    assert raised.value is error
    with pytest.raises(type(error)) as raised, otelbridge.chat("m", provider="p") as chat:
        chat.record({"choices": [{"message": Interrupting(error)}]})
    assert raised.value is error
    with pytest.raises(type(error)) as raised, otelbridge.span("first", input=Interrupting(error)):
        pass
    assert raised.value is error
    with pytest.raises(type(error)) as raised:
        otelbridge.observe(name="argument")(lambda _given: None)(Interrupting(error))
    assert raised.value is error
    with otelbridge.span("afterwards"):
        pass
    assert trace.get_current_span() is trace.INVALID_SPAN
    assert world.processor.force_flush(5_000)
    assert sorted(receiver.names) == ["afterwards", "argument", "chat m", "first", "interrupted"]


class Raising:
    """Every look raises, and is counted."""

    def __init__(self) -> None:
        self.looks = 0

    def items(self) -> NoReturn:
        self.looks += 1
        raise LookupError("no")


def swallowed(place: str) -> int:
    return sum(count for key, count in _guard.failures().items() if key.startswith(place))


def test_the_counters_equal_the_failures(world: hostile.World) -> None:
    """So many failures of a user's object, so many in the counter of that place, one log line."""
    attributes, metadata, carrier = Raising(), Raising(), Raising()
    uses: dict[str, tuple[Raising, Callable[[], object]]] = {
        "writing the given attributes": (
            attributes,
            lambda: otelbridge.span("s", attributes=attributes).__enter__().__exit__(*[None] * 3),  # type: ignore[arg-type, func-returns-value]  # no mapping
        ),
        "request context metadata": (
            metadata,
            lambda: otelbridge.request_context(metadata=metadata).__enter__(),  # type: ignore[arg-type, func-returns-value]
        ),
        "extract": (carrier, lambda: otelbridge.extract(carrier)),
    }
    for place, (hook, use) in uses.items():
        before = swallowed(place)
        for _ in range(7):
            use()
        assert (hook.looks, swallowed(place) - before) == (7, 7), place


def test_a_handler_that_raises_costs_only_the_line(
    receiver: Receiver, tmp_path: Path, swallow_errors: None
) -> None:
    """While every log line raises, an outage and a refused span go as without."""
    answers = iter([503, 503])
    receiver.behaviour = lambda got: (next(answers, 400 if "bad" in got else 200), {}, b"")
    handler, logger = hostile.BrokenHandler(), logging.getLogger("otelbridge")
    logger.addHandler(handler)
    before = _guard.failures().get("log line", 0)
    processor = OtlpSpanProcessor(
        Delivery(receiver.endpoint),
        spool=Spool(tmp_path, owner=Owner("s", "http://e")),
        delay_seconds=0.02,
    )
    processor.sender._pauses.next_seconds = lambda *_, **__: 0.01  # type: ignore[method-assign]  # no waiting
    try:
        for name in ("a", "bad", "b"):
            processor.on_end(make_span(name))
        assert until(lambda: len(receiver.names) + dropped(processor) == 3)
    finally:
        logger.removeHandler(handler)
        processor.end(0.5)
    assert sorted(receiver.names) == ["a", "b"]
    assert _guard.failures()["log line"] > before


def test_a_closed_standard_error_is_survived(
    world: hostile.World, receiver: Receiver, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With stdout and stderr closed, failures are swallowed and spans delivered."""
    closed = io.StringIO()
    closed.close()
    monkeypatch.setattr(sys, "stderr", closed)
    monkeypatch.setattr(sys, "stdout", closed)
    hostile.run_step("chat", StandIn("bad class"), "none")
    _guard.record_failure("a place of this test", ValueError())
    monkeypatch.undo()
    assert world.processor.force_flush(5_000)
    assert len(receiver.names) == 1


HOURS_NS = 5 * 3600 * 10**9


@pytest.mark.parametrize("jump_ns", [-HOURS_NS, HOURS_NS], ids=["back", "forward"])
def test_clock_jumps(
    world: hostile.World, receiver: Receiver, monkeypatch: pytest.MonkeyPatch, jump_ns: int
) -> None:
    """All clocks jump by hours inside open spans: no error, no span that ends before its start."""
    from opentelemetry.proto.trace.v1.trace_pb2 import Span

    sent: list[Span] = []
    receiver.on_spans = sent.extend
    offset_ns = [0]
    for name in ("time_ns", "monotonic_ns", "perf_counter_ns"):
        real_ns: Callable[[], int] = getattr(time, name)
        monkeypatch.setattr(time, name, lambda real=real_ns: real() + offset_ns[0])
        short = name.removesuffix("_ns")
        real_s: Callable[[], float] = getattr(time, short)
        monkeypatch.setattr(time, short, lambda real=real_s: real() + offset_ns[0] / 1e9)
    with otelbridge.chat("m", provider="p") as call:
        world.processor.force_flush(5_000)
        offset_ns[0] = jump_ns
        call.first_chunk()
        with otelbridge.span("inner"):
            pass
    assert world.processor.force_flush(5_000)
    receiver.behaviour = lambda _: (503, {}, b"")
    with otelbridge.span("in an outage"):
        pass
    world.processor.force_flush(5_000)
    offset_ns[0] = 0
    receiver.behaviour = lambda _: (200, {}, b"")
    cpu = time.process_time()
    assert until(lambda: "in an outage" in receiver.names, 20)
    assert time.process_time() - cpu < 5  # a worker that spins would use all of it
    assert {"chat m", "inner", "in an outage"} <= {span.name for span in sent}
    for span in sent:
        assert span.end_time_unix_nano >= span.start_time_unix_nano > 0
        for attribute in span.attributes:
            if attribute.key == "gen_ai.response.time_to_first_chunk":
                assert attribute.value.double_value >= 0


def test_a_hook_that_blocks_holds_only_its_own_caller(
    world: hostile.World, receiver: Receiver
) -> None:
    """While one thread waits inside a `__str__`, spans of others are made and delivered."""
    inside, release = threading.Event(), threading.Event()

    class Blocking:
        def __str__(self) -> str:
            inside.set()
            release.wait(20)
            return "at last"

    def work() -> None:
        with otelbridge.span("blocked", input=Blocking()):
            pass

    blocked = threading.Thread(target=work)
    blocked.start()
    assert inside.wait(10)
    with otelbridge.span("free"):
        pass
    assert world.processor.force_flush(5_000)
    assert receiver.names == ["free"]
    release.set()
    blocked.join(10)
    assert world.processor.force_flush(5_000)
    assert receiver.names == ["free", "blocked"]


def test_five_megabytes_of_text(world: hostile.World, receiver: Receiver) -> None:
    """Long text, alone and in lists, as every kind of content, is delivered."""
    text = "long text \U0001f600 " * 420_000
    with otelbridge.chat("m", provider="p", messages=text) as call:
        call.set_output([{"role": "assistant", "content": text}])
    with otelbridge.execute_tool("t", arguments=[text]) as tool:
        tool.set_result(text)
    assert world.processor.force_flush(20_000)
    assert receiver.names == ["chat m", "execute_tool t"]


def test_every_created_span_is_accounted_for(
    receiver: Receiver, tmp_path: Path, swallow_errors: None
) -> None:
    """created = exported + left out + queued + held + dropped + in the spool, at every stage."""

    def rule(span: Any) -> Any:
        if span.name.startswith("broken"):
            raise ValueError("a broken rule")
        return None if span.name.startswith("outside") else span

    def make(**options: Any) -> OtlpSpanProcessor:
        made = OtlpSpanProcessor(
            Delivery(receiver.endpoint), spool=spool, rule=rule, delay_seconds=60, **options
        )
        made.sender._pauses.next_seconds = lambda *_, **__: 0.01  # type: ignore[method-assign]  # no waiting
        return made

    def accounted(*processors: OtlpSpanProcessor) -> float:
        total = float(spool.status().spans)
        for processor in processors:
            stats = processor.stats()
            total += sum(stats.get(n, 0) for n in ("exported", "left_out", "queued", "held"))
            total += dropped(processor)
        return total

    def end(processor: OtlpSpanProcessor) -> None:
        for number in range(50):
            for kind in ("kept", "outside", "broken", "refused", "unencodable"):
                fields = {"kind": None} if kind == "unencodable" else {}
                processor.on_end(make_span(f"{kind}{number}", **fields))

    spool = Spool(tmp_path, owner=Owner("s", "http://e"))
    first = make(max_spans=200, batch_spans=20)
    first._worker = threading.current_thread()  # nobody empties the queue
    end(first)
    assert first.stats()["created"] == accounted(first) == 250
    assert first.stats()["dropped_queue_full"] == 50
    first._worker = None
    first.start()
    receiver.behaviour = lambda _: (503, {}, b"")
    first.force_flush(10_000)
    assert first.stats()["created"] == accounted(first) == 250
    assert spool.status().spans > 0
    first.end(0.6)
    assert first.stats()["created"] == accounted(first) == 250
    receiver.behaviour = lambda got: (400 if any("refused" in n for n in got) else 200, {}, b"")
    second = make(max_spans=1000, batch_spans=20)
    end(second)
    second.start()
    assert until(lambda: second.force_flush(10_000) and not spool.status().spans, 20)
    second.end(1.0)
    created = first.stats()["created"] + second.stats()["created"]
    assert created == accounted(first, second) == 500
    stats = second.stats()
    assert (stats["dropped_rule"], stats["dropped_encoding"], stats["left_out"]) == (50, 50, 50)
    assert stats["dropped_rejected"] >= 50
    assert len(receiver.names) == first.stats().get("exported", 0) + stats["exported"]


def test_observe_keeps_what_a_callable_is() -> None:
    """A callable that cannot be looked at is called as it is; any `kind` is taken for a word."""

    class Shy:
        def __getattribute__(self, name: str) -> NoReturn:
            raise MemoryError(name)

        def __call__(self, given: int) -> int:
            return given + 1

    assert genai.observe(Shy())(1) == 2
    assert genai.observe(kind=[])(lambda: 3)() == 3  # type: ignore[call-overload]  # no text
