"""Work without a model call is LLM work: it reaches Langfuse, with root, and without a price.

Each case runs in a plain server span, over direct export and through the real Collector. What the
two stand-ins get is compared: the entry span on top, the step below it, no priced generation.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from contextlib import ExitStack, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from opentelemetry import trace
from opentelemetry.trace import SpanKind

import otelbridge
from otelbridge import BudgetExceededError, budgets
from otelbridge import semconv as s
from otelbridge.budgets import Budget
from otelbridge.compat import langfuse_v2
from otelbridge.compat.manager import LangfuseManager
from tests.collector import conftest as collector_tests
from tests.collector.conftest import Bench, LangfuseStandIn, Received
from tests.exporters.fault_server import Receiver

#: The fixtures of the Collector's own tests.
bench, collector_binary = collector_tests.bench, collector_tests.collector_binary

pytestmark = pytest.mark.timeout(120)
METADATA = s.LANGFUSE_OBSERVATION_METADATA_PREFIX
Observations = dict[str, Received]


# -- the cases -------------------------------------------------------------------------------------
def cached_answer() -> None:
    with otelbridge.chat("gpt-4o", provider="openai", messages="hi", cached=True) as call:
        call.set_output("hello")


def cached_answer_with_a_cost() -> None:
    with otelbridge.chat("gpt-4o", provider="openai", messages="hi", cached=True) as call:
        call.set_output("hello")
        call.set_usage(cost_usd=0.00025)


def cached_embedding() -> None:
    with otelbridge.embeddings("text-embedding-3-small", provider="openai", cached=True):
        pass


def refused() -> None:
    budgets.declare(Budget("nothing", 0.0))
    with (
        suppress(BudgetExceededError),
        otelbridge.chat("gpt-4o", provider="openai", messages="hi"),
    ):
        pytest.fail("the call was made")


def refused_by_hand() -> None:
    budgets.declare(Budget("nothing", 0.0))
    with suppress(BudgetExceededError):
        budgets.check()
        pytest.fail("nothing was refused")


def retrieval() -> None:
    with otelbridge.retrieval("docs", query="shipping") as call:
        call.set_documents(["one", "two"])


def failed_retrieval() -> None:
    with suppress(ConnectionError), otelbridge.retrieval("docs", query="shipping"):
        raise ConnectionError("no vector store")


def observed() -> None:
    @otelbridge.observe(name="nightly")
    def work(number: int) -> int:
        return number + 1

    work(1)


def named_request() -> None:
    with otelbridge.request_context(trace_name="nightly-import", user_id="u-1"):
        pass


def older_manager() -> None:
    manager = LangfuseManager()
    manager.trace("text2sql_query", input="orders by day")
    manager.end_trace(output="select 1")


def older_decorator() -> None:
    @langfuse_v2.observe(name="agent:step")
    def step() -> str:
        return "done"

    step()


def event() -> None:
    otelbridge.event("query_completed", output={"rows": 3}, metadata={"rows": 3})


@dataclass(frozen=True)
class Case:
    """What runs, and the one observation below the entry span: name, type, USD, more."""

    run: Callable[[], None]
    name: str | None
    kind: str = "span"
    usd: float | None = None
    has: tuple[tuple[str, Any], ...] = ()


CASES = [
    Case(cached_answer, "chat gpt-4o", "generation", 0.0,
         ((s.CACHED, True), (METADATA + "cached", True), (s.COST_SOURCE, "cache"))),
    Case(cached_answer_with_a_cost, "chat gpt-4o", "generation", 0.00025,
         ((s.CACHED, True), (s.COST_SOURCE, "caller"))),
    Case(cached_embedding, "embeddings text-embedding-3-small", "embedding", 0.0,
         ((s.CACHED, True),)),
    Case(refused, "chat gpt-4o", "span", 0.0,
         ((s.ERROR_TYPE, "otelbridge.errors.BudgetExceededError"), (s.BUDGET_NAME, "nothing"),
          (METADATA + "model_selected", "gpt-4o"))),
    Case(refused_by_hand, "budget nothing", "guardrail", None,
         ((s.ERROR_TYPE, "otelbridge.errors.BudgetExceededError"), (s.BUDGET_NAME, "nothing"))),
    Case(retrieval, "retrieval docs", "retriever", None,
         ((s.LANGFUSE_OBSERVATION_INPUT, "shipping"),)),
    Case(failed_retrieval, "retrieval docs", "retriever", None,
         ((s.ERROR_TYPE, "ConnectionError"),)),
    Case(observed, "nightly", "span", None, ((s.LANGFUSE_OBSERVATION_OUTPUT, "2"),)),
    Case(named_request, None),
    Case(older_manager, "text2sql_query", "span", None,
         ((s.LANGFUSE_OBSERVATION_OUTPUT, "select 1"),)),
    Case(older_decorator, "agent:step", "span", None, ((s.LANGFUSE_OBSERVATION_OUTPUT, "done"),)),
    Case(event, "query_completed", "event", None,
         ((METADATA + "rows", 3), (s.LANGFUSE_OBSERVATION_OUTPUT, '{"rows":3}'))),
]  # fmt: skip


# -- the two ways ----------------------------------------------------------------------------------
@dataclass
class Way:
    """How spans leave, and how to get what Langfuse was sent of a trace."""

    settings: dict[str, Any]
    at_langfuse: Callable[[bytes, int], Observations]


@pytest.fixture(params=["direct", pytest.param("collector", marks=pytest.mark.collector)])
def way(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Way]:
    """Direct export to a stand-in, or the Collector between two."""
    own = {"spool_directory": str(tmp_path / "s"), "budgets_directory": str(tmp_path / "b")}
    if request.param == "collector":
        running: Bench = request.getfixturevalue("bench")
        own["otlp_endpoint"] = running.collector.otlp_http_url
        yield Way(own, running.at_langfuse)
        return
    with ExitStack() as stack:
        langfuse, tempo = LangfuseStandIn(), Receiver()
        stack.callback(langfuse.close)
        stack.callback(tempo.close)
        direct = {
            "export": "direct", "otlp_endpoint": f"http://127.0.0.1:{tempo.port}",
            "langfuse_public_key": collector_tests.PUBLIC_KEY,
            "langfuse_secret_key": collector_tests.SECRET_KEY,
            "langfuse_host": langfuse.url, "budgets_reconcile_seconds": 0.0,
        }  # fmt: skip
        yield Way(own | direct, lambda trace_id, _: langfuse.store.of(trace_id))


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.run.__name__)
def test_it_reaches_langfuse_with_its_root_and_no_price(case: Case, way: Way) -> None:
    """Entry span, then the step with flag, cost or error; one trace without HTTP clutter."""
    otelbridge.configure(instrument=False, **way.settings)
    tracer = trace.get_tracer("web")
    with tracer.start_as_current_span("POST /ask", kind=SpanKind.SERVER) as root:
        trace_id = root.get_span_context().trace_id.to_bytes(16, "big")
        with tracer.start_as_current_span("SELECT", kind=SpanKind.CLIENT):
            pass
        case.run()
    assert otelbridge.shutdown(20)
    found = list(way.at_langfuse(trace_id, 1 if case.name is None else 2).values())
    by_name = {one.span.name: one for one in found}
    assert sorted(by_name) == sorted(filter(None, ("POST /ask", case.name)))
    entry = by_name["POST /ask"]
    assert entry.parent == ""
    if case.name is None:
        assert entry.attributes[s.LANGFUSE_TRACE_NAME] == "nightly-import"
        assert entry.attributes[s.USER_ID] == "u-1"
        return
    step = by_name[case.name]
    assert step.parent == entry.id
    assert step.attributes[s.LANGFUSE_OBSERVATION_TYPE] == case.kind
    if case.kind == "event":  # a note beside the work is not the request's answer
        assert s.LANGFUSE_OBSERVATION_OUTPUT not in entry.attributes
    details = step.attributes.get(s.LANGFUSE_OBSERVATION_COST_DETAILS)
    assert (None if details is None else json.loads(details)["total"]) == case.usd
    assert s.LANGFUSE_OBSERVATION_USAGE_DETAILS not in step.attributes
    assert {key: step.attributes.get(key) for key, _ in case.has} == dict(case.has)
    assert (step.span.status.code == 2) is any(key == s.ERROR_TYPE for key, _ in case.has)


def test_alone_each_is_a_trace_of_its_own(way: Way) -> None:
    """Without any span around it, a step is the root; also a refused one."""
    otelbridge.configure(instrument=False, **way.settings)
    budgets.declare(Budget("nothing", 0.0))
    call = otelbridge.chat("gpt-4o", provider="openai")
    with suppress(BudgetExceededError), call:
        pytest.fail("the call was made")
    assert otelbridge.shutdown(20)
    (found,) = way.at_langfuse(bytes.fromhex(call.trace_id), 1).values()
    assert (found.parent, found.span.name) == ("", "chat gpt-4o")
