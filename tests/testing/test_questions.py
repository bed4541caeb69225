"""`traces`: queries, sums, views, lints, and what a failed assertion says."""

from __future__ import annotations

import threading

import pytest
from opentelemetry import trace

import otelbridge
from otelbridge.testing.assertions import QueryRefusedError, TraceAssertionError, TraceQLWarning

SECRET_QUESTION = "How many geese crossed the road?"


@pytest.fixture
def service(traces):
    """One request of an agent that calls a model and a tool."""
    tracer = trace.get_tracer("clerk")
    with (
        otelbridge.request_context(user_id="u-1"),
        tracer.start_as_current_span("POST /ask", kind=trace.SpanKind.SERVER),
        otelbridge.invoke_agent("clerk"),
    ):
        with otelbridge.chat("gpt-4o", provider="openai", messages=SECRET_QUESTION) as call:
            call.set_output("Forty.")
            call.set_usage(input_tokens=12, output_tokens=30, cost_usd=0.25)
        with otelbridge.execute_tool("count_geese"):
            pass
        with tracer.start_as_current_span("SELECT geese"):
            pass
    return traces


def failure(call, *arguments, **options):
    with pytest.raises(TraceAssertionError) as caught:
        call(*arguments, **options)
    return str(caught.value)


def test_a_query_gives_spans_with_content(service):
    """Spans are those that the service wrote: ids, parent, service and message text."""
    chat = service.assert_one('{ name = "POST /ask" } >> { name = "chat gpt-4o" }')
    agent = service.assert_one('{ name = "invoke_agent clerk" }')
    assert (chat.parent_id, chat.trace_id) == (agent.span_id, agent.trace_id)
    assert (chat.kind, chat.status, chat["gen_ai.request.model"]) == ("client", "unset", "gpt-4o")
    assert SECRET_QUESTION in chat["gen_ai.input.messages"]
    assert chat.get("absent") is None
    assert chat.duration_ns == int(chat.duration_seconds * 1e9 + 0.5)
    assert SECRET_QUESTION not in repr(chat)
    assert [span.name for span in service.query("{ kind = client } | count() = 1")] == [chat.name]


def test_spans_that_end_later_are_in_the_next_answer(service):
    """The store grows with the test; a trace of an earlier answer may get more spans."""
    service.assert_count("{ }", 5)
    root = service.assert_one("{ nestedSetParent < 0 }")
    context = trace.SpanContext(int(root.trace_id, 16), int(root.span_id, 16), False)
    parent = trace.set_span_in_context(trace.NonRecordingSpan(context))
    trace.get_tracer("late").start_span("afterwards", context=parent).end()
    service.assert_count("{ }", 6)
    service.assert_one('{ name = "POST /ask" } > { name = "afterwards" }')


def test_spans_of_other_threads_are_waited_for(traces):
    """A query waits for spans that a running thread has begun."""
    begun, may_end = threading.Event(), threading.Event()

    def work():
        with trace.get_tracer("app").start_as_current_span("slow"):
            begun.set()
            may_end.wait(10)

    thread = threading.Thread(target=work)
    thread.start()
    begun.wait(10)
    threading.Timer(0.1, may_end.set).start()
    traces.assert_one('{ name = "slow" }')
    thread.join(10)


def test_sums(service):
    """Tokens and cost are summed over the spans of a query."""
    assert service.tokens() == (12, 30)
    assert service.tokens('{ span.gen_ai.operation.name = "chat" }').total == 42
    assert service.tokens('{ name = "execute_tool count_geese" }') == (0, 0)
    assert service.cost_usd() == 0.25


def test_views_show_what_each_store_gets(service):
    """Tempo gets every span without message text; Langfuse the LLM view with its own parents."""
    assert "SELECT geese" in service.tree("tempo")
    assert "SELECT geese" not in service.tree("langfuse")
    service.assert_none("{ span.gen_ai.input.messages != nil }", view="tempo")
    service.assert_one("{ span.gen_ai.input.messages != nil }", view="langfuse")
    service.assert_one(
        '{ name = "chat gpt-4o" && span.otelbridge.content.removed = true }', view="tempo"
    )
    service.assert_tree(
        """
        POST /ask
          invoke_agent clerk
            chat gpt-4o
            execute_tool count_geese
        """,
        view="langfuse",
    )
    with pytest.raises(ValueError, match="view='grafana'"):
        service.spans("grafana")


def test_a_dialect_is_asked_by_current_names_in_a_view(traces):
    """The views have the names that the Collector adds, the raw spans only their own."""
    attributes = {"openinference.span.kind": "LLM", "llm.model_name": "gpt-4o"}
    with trace.get_tracer("openinference.instrumentation.x").start_as_current_span(
        "ChatCompletion", attributes=attributes
    ):
        pass
    traces.assert_none('{ span.gen_ai.request.model = "gpt-4o" }')
    traces.assert_one('{ span.gen_ai.request.model = "gpt-4o" }', view="langfuse")


def test_a_failure_says_which_condition_fails(service):
    """The near miss names the condition, how many match without it, and the value there is."""
    text = failure(
        service.assert_one, '{ name = "chat gpt-4o" && span.gen_ai.usage.input_tokens > 100 }'
    )
    assert "exactly 1 span expected, 0 found" in text
    assert "without `span.gen_ai.usage.input_tokens > 100` 1 span would match" in text
    assert "'chat gpt-4o'; span.gen_ai.usage.input_tokens is 12" in text
    assert "└─ SELECT geese" in text
    assert SECRET_QUESTION not in text


def test_a_failure_names_a_similar_key_and_another_type(service):
    """A misspelt key shows its neighbour; a value of another type says so."""
    text = failure(service.assert_some, "{ span.gen_ai.usage.input_token > 1 }")
    assert "is absent (there is span.gen_ai.usage.input_tokens)" in text
    text = failure(service.assert_some, '{ resource.gen_ai.request.model = "gpt-4o" }')
    assert "is absent (there is span.gen_ai.request.model)" in text
    text = failure(service.assert_some, '{ span.gen_ai.usage.input_tokens = "12" }')
    assert 'is 12, which is an integer; `"12"` is not' in text


def test_a_failure_says_which_relation_fails(service):
    """Both sides match but not in that relation: the true place is told."""
    text = failure(service.assert_one, '{ name = "POST /ask" } > { name = "chat gpt-4o" }')
    assert "no right one is a child of a left one" in text
    assert "'chat gpt-4o' is below POST /ask / invoke_agent clerk" in text
    text = failure(service.assert_one, '{ name = "POST /ask" } >> { name = "chat gpt-5" }')
    assert '`{ name = "chat gpt-5" }` matches nothing by itself' in text
    assert "name is 'chat gpt-4o'" in text


def test_a_failure_says_which_stage_of_a_pipeline_fails(service):
    """The stage that leaves nothing is named with what came to it."""
    text = failure(service.assert_some, '{ name =~ "chat .*" } | count() > 1')
    assert "`| count() > 1` leaves none of them: 'chat gpt-4o'" in text


def test_too_many_are_pointed_at_in_the_tree(service):
    """What matched and should not have is marked."""
    text = failure(service.assert_none, '{ name = "chat gpt-4o" }')
    assert "no spans expected, 1 found" in text
    assert "◄ match" in next(line for line in text.splitlines() if "chat gpt-4o  [" in line)


def test_nothing_captured_is_said_so(traces):
    """A test whose code makes no span at all learns that."""
    text = failure(traces.assert_one, '{ name = "chat gpt-4o" }')
    assert "no span was captured at all" in text
    assert "(no spans)" in text


def test_assert_every(service):
    """Passes when each span has it; else says which lack what; no span at all is a failure."""
    found = service.assert_every("{ }", '{ span.user.id = "u-1" }')
    assert len(found) == 5
    text = failure(
        service.assert_every, '{ name =~ "chat .*|POST .*" }',
        '{ kind = client && span.gen_ai.request.model = "gpt-4o" }',
    )  # fmt: skip
    assert "1 of 2 spans" in text
    assert "'POST /ask': `kind = client` holds for none of 1 span; kind is 'server'" in text
    assert "exactly" not in failure(service.assert_every, '{ name = "nobody" }', "{ }")


def test_a_lint_fails_an_assertion_unless_allowed(service):
    """A typed literal would miss the doubles in Tempo: the assertion is refused, or allowed."""
    with pytest.raises(QueryRefusedError) as caught:
        service.assert_none("{ span.gen_ai.usage.cost < 0 }")
    text = str(caught.value)
    assert "typed_literal at column 26" in text
    assert "allow=('typed_literal',)" in text
    service.assert_none("{ span.gen_ai.usage.cost < 0 }", allow=("typed_literal",))
    service.assert_none("{ span.gen_ai.usage.cost < 0 }", allow="typed_literal")
    service.assert_none("{ span.gen_ai.usage.cost < 0.0 }")
    # The stored values are integers: no trap, no lint.
    service.assert_none("{ span.gen_ai.usage.input_tokens < 0 }")


def test_a_lint_of_a_question_is_a_warning(service):
    """`query` answers, and warns."""
    with pytest.warns(TraceQLWarning, match="typed_literal"):
        assert service.query("{ span.gen_ai.usage.cost < 1 }") != []
    assert service.query("{ span.gen_ai.usage.cost < 1 }", allow=("typed_literal",)) != []


@pytest.mark.parametrize(
    ("query", "message", "caret"),
    [
        ("{ name = }", "syntax error", "           ^"),
        ("{ name = 1 }", "", ""),
        ("{ } | rate()", "metrics_query_on_search", ""),
    ],
)
def test_a_refused_query_shows_where(service, query, message, caret):
    """Syntax, type and metrics queries fail with the place in the text."""
    with pytest.raises(QueryRefusedError) as caught:
        service.assert_some(query)
    assert message in str(caught.value)
    assert caret in str(caught.value)
    assert query in str(caught.value)


def test_sums_refuse_what_is_no_number(traces):
    """Text, negative numbers, NaN and halves of tokens fail with the span and the value."""
    tracer = trace.get_tracer("app")
    for key, value in (("input_tokens", "12"), ("input_tokens", 1.5), ("output_tokens", -1),
                       ("cost", float("nan")), ("cost", "free"), ("cost", -0.5)):  # fmt: skip
        name = f"call {value}"
        with tracer.start_as_current_span(name, attributes={f"gen_ai.usage.{key}": value}):
            pass
        question = traces.cost_usd if key == "cost" else traces.tokens
        text = failure(question, f'{{ name = "{name}" }}')
        assert f"gen_ai.usage.{key} of {name!r} is {value!r}, not a" in text
