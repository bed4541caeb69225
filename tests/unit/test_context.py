"""The request context: what reaches which spans, what is dropped, and that it never raises."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from opentelemetry import baggage, trace
from opentelemetry import context as otel_context
from opentelemetry.baggage.propagation import W3CBaggagePropagator
from opentelemetry.context import Context
from opentelemetry.instrumentation.threading import ThreadingInstrumentor
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

from otelbridge import _guard, semconv
from otelbridge.context import context_attributes, flatten_metadata, request_context
from otelbridge.processors.context import ContextAttributes
from otelbridge.processors.llm_view import ViewMarks
from otelbridge.processors.pipeline import BridgeSpanProcessor
from otelbridge.propagation import BridgePropagator, extract, inject
from otelbridge.trust import TrustedHosts

META = semconv.LANGFUSE_TRACE_METADATA_PREFIX
TAGS = semconv.LANGFUSE_TRACE_TAGS


class Spans:
    """A provider of its own and what it exported."""

    def __init__(self) -> None:
        self.exporter = InMemorySpanExporter()
        self.provider = TracerProvider(shutdown_on_exit=False)
        self.provider.add_span_processor(
            BridgeSpanProcessor(
                context=ContextAttributes(environment=None, release=None),
                marks=ViewMarks(mode="services", enabled=True),
                next_processor=SimpleSpanProcessor(self.exporter),
            )
        )
        self.tracer = self.provider.get_tracer("plain")

    def attributes(self, name: str) -> dict[str, Any]:
        """The attributes of the span of that name."""
        (span,) = (s for s in self.exporter.get_finished_spans() if s.name == name)
        return dict(span.attributes or {})


@pytest.fixture
def spans() -> Spans:
    """Spans that pass through otelbridge's processor."""
    return Spans()


def given_here() -> dict[str, Any]:
    """The request attributes of the current context."""
    return dict(context_attributes(otel_context.get_current()))


def behind_baggage() -> dict[str, Any]:
    """The request attributes that the next service reads from the baggage header."""
    propagator = BridgePropagator(W3CBaggagePropagator(), trusted=TrustedHosts())
    carrier = {"host": "svc"}
    propagator.inject(carrier)
    return dict(context_attributes(propagator.extract(carrier, Context())))


def test_nested_blocks_add_and_the_inner_value_wins(spans: Spans) -> None:
    """Tags unite in order without doubles; the outer values are back after the inner block."""
    with request_context(user_id="u-1", tags=["a", "b"], metadata={"k": 1, "outer": True}):
        with request_context(user_id="u-2", tags=["b", "c"], metadata={"k": 2}):
            assert given_here() == {
                "user.id": "u-2",
                TAGS: ["a", "b", "c"],
                f"{META}k": "2",
                f"{META}outer": "true",
            }
        assert given_here()["user.id"] == "u-1"
        assert given_here()[TAGS] == ["a", "b"]
    assert given_here() == {}


def test_the_current_and_the_entry_span_get_the_values_too(spans: Spans) -> None:
    """A context that becomes known in the middle of a request reaches the open spans that count."""
    start = spans.tracer.start_as_current_span
    with start("entry"), start("between"), start("current"):
        with request_context(user_id="u-1", version="v7"), start("below"):
            pass
        with start("after"):
            pass
    for name in ("entry", "current", "below"):
        assert spans.attributes(name)["user.id"] == "u-1"
        assert spans.attributes(name)[semconv.LANGFUSE_VERSION] == "v7"
    assert "user.id" not in spans.attributes("between")
    assert "user.id" not in spans.attributes("after")


def test_threads_see_the_context(spans: Spans) -> None:
    """A thread and an executor's task carry the values of the block that started them."""
    instrumentor = ThreadingInstrumentor()
    instrumentor.instrument()
    try:
        with ThreadPoolExecutor(2) as pool:
            for user in ("u-1", "u-2"):
                with request_context(user_id=user):
                    future = pool.submit(given_here)
                    seen: list[Any] = []
                    thread = threading.Thread(target=lambda out=seen: out.append(given_here()))
                    thread.start()
                    thread.join()
                    assert future.result() == seen[0] == {"user.id": user}
            assert pool.submit(given_here).result() == {}
    finally:
        instrumentor.uninstrument()


def test_concurrent_tasks_do_not_mix() -> None:
    """Each asyncio task has its own values, also over a suspension."""

    async def work(user: str) -> Any:
        with request_context(user_id=user):
            await asyncio.sleep(0)
            return given_here()["user.id"], await asyncio.to_thread(given_here)

    async def all_of_them() -> list[Any]:
        return await asyncio.gather(*(work(f"u-{n}") for n in range(20)))

    assert asyncio.run(all_of_them()) == [(f"u-{n}", {"user.id": f"u-{n}"}) for n in range(20)]


def test_a_block_left_in_another_context_is_silent(caplog: pytest.LogCaptureFixture) -> None:
    """An async generator that the loop finalises in another task logs nothing."""

    async def stream() -> Any:
        with request_context(user_id="u-1"):
            yield given_here()
            yield None

    async def main() -> Any:
        generator = stream()
        first = await asyncio.create_task(anext(generator))
        await asyncio.create_task(generator.aclose())
        return first

    assert asyncio.run(main()) == {"user.id": "u-1"}
    assert caplog.messages == []


def test_a_generator_left_early_leaves_no_context() -> None:
    """Closing a generator inside of its block brings the outer context back."""

    def stream() -> Iterator[Any]:
        with request_context(user_id="u-1"):
            yield given_here()

    generator = stream()
    assert next(generator) == {"user.id": "u-1"}
    generator.close()
    assert given_here() == {}


def test_blocks_that_end_out_of_order_leave_nothing_behind() -> None:
    """Two generators that overlap without nesting: no value survives both."""

    def stream(user: str) -> Iterator[None]:
        with request_context(user_id=user):
            yield

    first, second = stream("u-1"), stream("u-2")
    next(first)
    next(second)
    first.close()
    second.close()
    assert given_here() == {}


@pytest.mark.parametrize("length", [200, 201])
def test_a_value_over_200_characters_is_dropped_whole(length: int) -> None:
    """Nothing is ever cut: 200 characters stay as they are, 201 are left out and counted."""
    before = _guard.failures().get("request context: value over 200 characters", 0)
    with request_context(
        user_id="u" * length, session_id="s-1", tags=["t" * length, "ok"],
        metadata={"long": "m" * length, "k" * length: "v"},
    ):  # fmt: skip
        found = given_here()
    assert found["session.id"] == "s-1"
    if length == 200:
        assert found["user.id"] == "u" * 200
        assert found[TAGS] == ["t" * 200, "ok"]
        assert found[META + "long"] == "m" * 200
        assert found[META + "k" * 200] == "v"
    else:
        assert set(found) == {"session.id", TAGS}
        assert found[TAGS] == ["ok"]
        after = _guard.failures()["request context: value over 200 characters"]
        assert after > before


@pytest.mark.parametrize(
    "metadata",
    [
        {f"k{n}": str(n) for n in range(100)},
        {f"k{n}": "v" * 200 for n in range(60)},
        {f"k{n}": "ü,;=%\"" * 33 for n in range(20)},
        {"ключ" * 50: "значение" * 25, "small": "1"},
    ],
)
def test_what_is_over_the_limits_of_baggage_is_missing_in_both_services(
    metadata: dict[str, str],
) -> None:
    """At most 64 members, 8,192 bytes and 4,096 per member: here and behind baggage the same."""
    with request_context(user_id="u-1", metadata=metadata):
        here, there = given_here(), behind_baggage()
    assert here == there
    assert here["user.id"] == "u-1"
    assert 1 <= len(here) <= 64
    for key, value in here.items():
        assert key == "user.id" or metadata[key.removeprefix(META)] == value


def test_many_tags_are_the_same_in_both_services() -> None:
    """A list of tags that makes no baggage member is dropped as a whole, the outer tags stay."""
    with request_context(tags=["outer"]):
        with request_context(tags=[f"{n}" + "ü" * 190 for n in range(40)]):
            assert given_here() == behind_baggage() == {TAGS: ["outer"]}
        with request_context(tags=[str(n) for n in range(100)]):
            assert given_here() == behind_baggage()


def test_foreign_baggage_does_not_push_ours_out() -> None:
    """The application's own baggage counts: what fits here still arrives in the next service."""
    token = otel_context.attach(baggage.set_baggage("theirs", "x" * 4000))
    try:
        with request_context(user_id="u-1", metadata={f"k{n}": "v" * 200 for n in range(60)}):
            here, there = given_here(), behind_baggage()
    finally:
        otel_context.detach(token)
    assert here == there
    assert here["user.id"] == "u-1"
    assert "theirs" not in here


TEXTS = [
    "plain", "ünïcödé ✓ 日本", "a,b", "a=b", "100%", "%2C", "a;b", 'say "hi"', "a\nb", "a\tb",
    "a+b c", " padded ", "\u00a0nbsp\u00a0", "\\", "{}", "[1", "\x00", "x;y=z,w",
]  # fmt: skip


@pytest.mark.parametrize("text", TEXTS)
def test_values_are_identical_in_the_next_service(text: str) -> None:
    """Whatever the characters: user, tags and metadata keys and values survive the header."""
    with request_context(
        user_id=text, session_id=text, tags=[text, "second"], trace_name=text,
        metadata={"key": text, text: "value"}, version="v1",
    ):  # fmt: skip
        here, there = given_here(), behind_baggage()
    assert here.pop(semconv.LANGFUSE_VERSION) == "v1"
    assert here == there
    assert here["user.id"] == text.strip()


@given(st.text(max_size=220), st.dictionaries(st.text(max_size=220), st.text(max_size=220)))
def test_any_text_is_identical_in_the_next_service(text: str, metadata: dict[str, str]) -> None:
    """Generated texts as user, tag, metadata key and value."""
    with request_context(user_id=text, tags=[text], metadata=metadata):
        assert given_here() == behind_baggage()


class Hostile:
    """Its text cannot be had."""

    def __str__(self) -> str:
        raise RuntimeError("no text")

    __repr__ = __str__


def test_hostile_values_cost_only_themselves(swallow_errors: None) -> None:
    """Objects without text, surrogates, cycles, huge and odd numbers leave the others alone."""
    cycle: dict[str, Any] = {"name": "c"}
    cycle["self"] = cycle
    ring: list[Any] = []
    ring.append(ring)
    hostile = Hostile()
    with request_context(
        user_id=hostile,  # type: ignore[arg-type]  # that is the test
        session_id="s-1",
        tags=["ok", hostile, "\ud800"],  # type: ignore[list-item]  # that is the test
        metadata={
            "good": 1, "object": hostile, "surrogate": "\ud800", "\ud800": "key",
            "nan": float("nan"), "inf": float("-inf"), "huge": 10**5000, "bytes": b"\xff",
            "cycle": cycle, "ring": ring, 7: "seven", None: "none", hostile: "key",
            "nested": {"list": [1, "a", None], 2: {"deep": True}}, "none": None, "empty": "",
        },
    ):  # fmt: skip
        here, there = given_here(), behind_baggage()
    assert here == there
    assert here["session.id"] == "s-1"
    assert here[TAGS] == ["ok"]
    assert "user.id" not in here
    expected = {
        "good": "1", "7": "seven", "None": "none", "nested.list": '[1, "a", null]',
        "nested.2.deep": "true", "cycle.name": "c",
    }  # fmt: skip
    for key, value in expected.items():
        assert here[META + key] == value
    for key in ("object", "surrogate", "nan", "inf", "huge", "ring", "none", "empty"):
        assert META + key not in here


@pytest.mark.parametrize(
    "arguments",
    [{"tags": 5}, {"metadata": [1]}, {"metadata": "text"}, {"tags": Hostile()}],
    ids=["tags-int", "metadata-list", "metadata-text", "tags-object"],
)
def test_arguments_of_a_wrong_type_do_not_raise(
    swallow_errors: None, arguments: dict[str, Any]
) -> None:
    """The block runs, and the well-formed arguments hold."""
    with request_context(user_id="u-1", **arguments):
        assert given_here() == {"user.id": "u-1"}


def test_tags_given_as_one_text_are_one_tag() -> None:
    """A string is a tag, not its letters."""
    with request_context(tags="beta"):
        assert given_here() == {TAGS: ["beta"]}


def test_metadata_becomes_flat_text() -> None:
    """Nested keys are dotted, booleans and numbers are written as JSON does, lists as JSON."""
    nested = {"task": {"type": "sql", "n": {"x": 1.5}}, "cached": True, "ids": [1, 2], "no": None}
    assert flatten_metadata(nested) == {
        "task.type": "sql",
        "task.n.x": "1.5",
        "cached": "true",
        "ids": "[1, 2]",
    }


def test_an_exception_in_the_block_passes_through(spans: Spans) -> None:
    """The host's error is the host's, and the context is gone afterwards."""
    with pytest.raises(KeyError, match="mine"), request_context(user_id="u-1"):
        raise KeyError("mine")
    assert given_here() == {}


def test_a_named_trace_keeps_its_entry_span(spans: Spans) -> None:
    """`trace_name` puts the trace into the view without LLM work, opened before or in the span."""
    with request_context(trace_name="checkout"), spans.tracer.start_as_current_span("outside"):
        pass
    start = spans.tracer.start_as_current_span
    with start("entry"), start("child"), request_context(trace_name="checkout"):
        pass
    assert spans.attributes("outside")[semconv.LLM_KEEP] is True
    assert spans.attributes("entry")[semconv.LLM_KEEP] is True
    assert spans.attributes("entry")[semconv.LANGFUSE_TRACE_NAME] == "checkout"
    assert semconv.LLM_KEEP not in spans.attributes("child")


def test_the_session_is_the_conversation_of_gen_ai_spans_only(spans: Spans) -> None:
    """`gen_ai.conversation.id` is the session id, unless the span brought its own."""
    key = semconv.GEN_AI_CONVERSATION_ID
    gen_ai = {semconv.GEN_AI_OPERATION_NAME: "chat"}
    with request_context(session_id="s-1"):
        spans.tracer.start_span("plain").end()
        spans.tracer.start_span("chat", attributes=gen_ai).end()
        spans.tracer.start_span("own", attributes={**gen_ai, key: "c-9"}).end()
    assert key not in spans.attributes("plain")
    assert spans.attributes("chat")[key] == "s-1"
    assert spans.attributes("own")[key] == "c-9"


@pytest.mark.parametrize(
    ("header", "expected"),
    [
        ("user.id=u-1,other=x,langfuse.trace.metadata.k=v", {"user.id": "u-1", META + "k": "v"}),
        ("user.id=u-1;meta=1;other", {"user.id": "u-1"}),
        ("user.id=" + "u" * 201, {}),
        ("user.id=", {}),
        ("langfuse.trace.tags=a%2Cb", {TAGS: ["a", "b"]}),
        ("langfuse.trace.tags=%5Bnot json", {}),
        ("langfuse.trace.tags=%5B1%2C%22a%22%2Cnull%5D", {TAGS: ["a"]}),
        ("langfuse.observation.input=secret,otelbridge.llm.keep=true", {}),
        ("user.id=ok," + ",".join(f"x{n}=y" for n in range(170)), {"user.id": "ok"}),
        ("user.id=ok," + "x=" + "y" * 9000, {}),
        ("x=" + "y" * 4200 + ",user.id=ok", {"user.id": "ok"}),
    ],
)
def test_inbound_baggage_passes_the_same_list_and_limits(
    header: str, expected: dict[str, Any]
) -> None:
    """Foreign members, oversize values and malformed tags become no attributes."""
    propagator = BridgePropagator(W3CBaggagePropagator(), trusted=TrustedHosts())
    context = propagator.extract({"baggage": header}, Context())
    assert dict(context_attributes(context)) == expected


def test_many_inbound_metadata_members_are_capped() -> None:
    """A caller cannot fill a span with attributes."""
    propagator = BridgePropagator(W3CBaggagePropagator(), trusted=TrustedHosts())
    header = ",".join(f"{META}k{n}=v" for n in range(150))
    context = propagator.extract({"baggage": header}, Context())
    assert len(context_attributes(context)) == 64


def test_inject_by_hand_carries_the_request_context() -> None:
    """`inject` into a queue message and `extract` behind it give the same attributes."""
    from opentelemetry import propagate

    before = propagate.get_global_textmap()
    propagate.set_global_textmap(BridgePropagator(W3CBaggagePropagator(), trusted=TrustedHosts()))
    try:
        message: dict[str, str] = {}
        with request_context(user_id="ü-1", tags=["a,b"]):
            inject(message, form="queue")
        assert dict(context_attributes(extract(message, Context()))) == {
            "user.id": "ü-1",
            TAGS: ["a,b"],
        }
    finally:
        propagate.set_global_textmap(before)


def test_without_a_provider_the_block_is_a_no_op_of_the_same_shape() -> None:
    """Nothing is configured: the block runs and the no-op span takes the values silently."""
    tracer = trace.NoOpTracerProvider().get_tracer("t")
    with tracer.start_as_current_span("x"), request_context(user_id="u-1", trace_name="n"):
        assert given_here()["user.id"] == "u-1"
