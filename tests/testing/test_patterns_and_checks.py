"""Tree patterns, and the checks for content, orphans, secrets and open spans."""

from __future__ import annotations

import pytest
from opentelemetry import trace
from opentelemetry.trace import SpanContext, TraceFlags

import otelbridge
from otelbridge.testing.assertions import TraceAssertionError
from otelbridge.testing.trees import PatternError, read_pattern


def failure(call, *arguments, **options):
    with pytest.raises(TraceAssertionError) as caught:
        call(*arguments, **options)
    return str(caught.value)


def make(tree, parent=None):
    """Spans of nested dictionaries: name to children."""
    context = trace.set_span_in_context(parent) if parent is not None else None
    for name, children in tree.items():
        span = trace.get_tracer("app").start_span(name.strip(), context=context)
        make(children, span)
        span.end()


GEESE = {"POST /ask": {"agent": {"chat a": {}, "chat b": {}, "tool x": {}}, "SELECT": {}}}


@pytest.mark.parametrize(
    "pattern",
    [
        """
        POST /ask
          agent
            chat a
            chat b
            tool x
          SELECT
        """,
        """
        POST /ask
            SELECT
            agent
                tool *
                chat ?
                chat a
        """,
        "POST /ask\n  ...",
        "*\n\tagent\n\t\t...\n\tSELECT",
        "POST /ask\n  agent\n    tool x\n    ...\n  ...",
        'POST /ask\n  agent { name = "agent" && span:childCount = 3 }\n    ...\n  SELECT',
    ],
)
def test_patterns_that_hold(traces, pattern):
    """Children in any order, wildcards, `...` for others, filters behind a name."""
    make(GEESE)
    traces.assert_tree(pattern, allow=("child_count",))


@pytest.mark.parametrize(
    ("pattern", "finding"),
    [
        ("POST /ask", "below 'POST /ask' there is also 'agent'"),
        ("POST /ask\n  agent\n    ...", "below 'POST /ask' there is also 'SELECT'"),
        ("POST /ask\n  ...\n  chat a", "below 'POST /ask' there is no 'chat a'"),
        ("POST /ask\n  SELECT\n  agent\n    chat *\n    chat *", "also 'tool x'"),
        ("POST /ask\n  SELECT\n  agent\n    chat *\n    chat *\n    tool *\n    tool *",
         "below 'agent' there is no 'tool *'"),
        ("agent\n  ...", "at the top there is no 'agent'"),
        ('POST /ask { kind = server }\n  ...', "'POST /ask' does not satisfy { kind = server }"),
    ],
)  # fmt: skip
def test_patterns_that_do_not(traces, pattern, finding):
    """What is missing, superfluous or unlike is said and marked."""
    make(GEESE)
    text = failure(traces.assert_tree, pattern)
    assert finding in text
    assert "trace " in text


def test_a_wildcard_does_not_take_the_span_of_a_narrower_line(traces):
    """Lines are assigned as a whole: `chat *` first leaves `chat a` to its own line."""
    make({"root": {"chat a": {}, "chat b": {"deep": {}}}})
    traces.assert_tree("root\n  chat *\n    deep\n  chat ?")
    traces.assert_tree("root\n  chat ?\n    ...\n  chat a")


def test_every_trace_has_its_root_in_the_pattern(traces):
    """A second trace is a second root; an orphan fits no line."""
    make({"one": {}})
    make({"two": {}})
    traces.assert_tree("two\none")
    assert "also 'two'" in failure(traces.assert_tree, "one")
    lost = trace.NonRecordingSpan(SpanContext(7, 7, False, TraceFlags(1)))
    make({"three": {}}, lost)
    text = failure(traces.assert_tree, "one\ntwo\nthree")
    assert "at the top there is no 'three'" in text
    assert "'three' is an orphan: its parent 0000000000000007 is not there" in text


@pytest.mark.parametrize(
    ("pattern", "message"),
    [("", "has no line"), ("  \n ", "has no line"), ("a\n    b\n  c", "'c' is indented as no")],
)
def test_patterns_that_cannot_be_read(pattern, message):
    """An empty pattern and a crooked one are refused."""
    with pytest.raises(PatternError, match=message):
        read_pattern(pattern)


# -- checks ----------------------------------------------------------------------------------------

QUESTION = "Which of my neighbours owns a red car?"


def chat(answer="The one at number seven."):
    with otelbridge.chat("gpt-4o", provider="openai", messages=QUESTION) as call:
        call.set_output(answer)


def test_content_in_the_view_is_right(traces):
    """Message text on LLM spans is where it belongs; so are tools and their descriptions."""
    described = "Finds the car of a neighbour"
    tools = [{"type": "function", "name": "find_car", "description": described}]
    with (
        trace.get_tracer("app").start_as_current_span("POST /ask"),
        otelbridge.chat("gpt-4o", provider="openai", messages=QUESTION, tools=tools) as call,
    ):
        call.set_output("yes")
        with otelbridge.execute_tool("find_car", description=described):
            pass
    traces.assert_no_content_outside_view()


def test_content_outside_of_the_view_is_found(traces):
    """A content key on a span that no LLM work is near, without its text in the message."""
    with trace.get_tracer("app").start_as_current_span("job") as span:
        span.set_attribute("gen_ai.input.messages", QUESTION)
        span.add_event("gen_ai.user.message", {"content": QUESTION})
    text = failure(traces.assert_no_content_outside_view)
    assert "'job' is outside of the LLM view and has gen_ai.input.messages" in text
    assert "'job' is outside of the LLM view and has the event gen_ai.user.message" in text
    assert QUESTION not in text


@pytest.mark.parametrize("place", ["name", "attribute", "list", "event", "status", "llm span"])
def test_repeated_message_text_is_found_wherever_it_stands(traces, place):
    """Text of a message under any other name would reach Tempo."""
    told = f"log: {QUESTION}"
    tracer = trace.get_tracer("app")
    name = told if place == "name" else "job"
    with tracer.start_as_current_span(name) as span:
        chat()
        if place == "attribute":
            span.set_attribute("app.note", told)
        elif place == "list":
            span.set_attribute("app.notes", ["a", told])
        elif place == "event":
            span.add_event("log", {"message": told})
        elif place == "status":
            span.set_status(trace.StatusCode.ERROR, told)
        elif place == "llm span":
            with otelbridge.span("thinking"):
                trace.get_current_span().set_attribute("app.note", told)
    text = failure(traces.assert_no_content_outside_view)
    assert "repeats message text in" in text


def test_short_answers_are_no_leak(traces):
    """A word like yes stands in many places by chance."""
    with trace.get_tracer("app").start_as_current_span("job", attributes={"app.ok": "yes"}):
        chat(answer="yes")
    traces.assert_no_content_outside_view()


def test_a_parent_in_another_process_is_no_orphan(traces):
    """The caller of a service is not captured; a parent that was lost in this process is told."""
    remote = SpanContext(0xABC, 0xDEF, True, TraceFlags(1))
    make({"served": {"inner": {}}}, trace.NonRecordingSpan(remote))
    traces.assert_no_orphans()
    assert "parent 0000000000000def in another process" in traces.tree()
    lost = SpanContext(0xABC, 0xBAD, False, TraceFlags(1))
    make({"lost": {}}, trace.NonRecordingSpan(lost))
    text = failure(traces.assert_no_orphans, view=None)
    assert "'lost' is an orphan: its parent 0000000000000bad is not captured" in text
    assert "served' is an orphan" not in text


@pytest.mark.parametrize(
    ("key", "value", "kind"),
    [
        ("app.key", "sk-proj-aaaaaaaaaaaaaaaaaaaa", "api-key"),
        ("app.url", "postgres://me:hunter22@db/x", "password"),
        ("app.mail", "goose@pond.example", "email"),
        ("url.full", "https://h.example/?api_key=abcdef123", "parameter"),
    ],
)
def test_secrets_are_found(traces, key, value, kind):
    """What the masks would replace is named by kind and place, not repeated; it may be allowed."""
    with trace.get_tracer("app").start_as_current_span("job") as span:
        span.add_event("seen", {key: value})
        span.set_attribute("user.id", "goose@pond.example")
    text = failure(traces.assert_no_secrets)
    assert f"'job' has a secret ({kind}) in event seen: {key}" in text
    assert value not in text
    traces.assert_no_secrets(allow=(kind,))


def test_masked_values_and_credential_headers(traces):
    """A marker of the masks is no secret; a header that is one as a whole is."""
    attributes = {"a": "[masked:api-key]", "http.request.header.authorization": ["Basic x"]}
    with trace.get_tracer("app").start_as_current_span("job", attributes=attributes):
        pass
    text = failure(traces.assert_no_secrets)
    assert "credential header, http.request.header.authorization" in text
    assert "has a secret" not in text


def test_open_spans_are_in_the_tree(traces):
    """A span that never ended is named, and shown at its place."""
    tracer = trace.get_tracer("app")
    with tracer.start_as_current_span("root"):
        forgotten = tracer.start_span("forgotten")
        make({"below": {}}, forgotten)
    text = failure(traces.assert_all_ended)
    assert "'forgotten' was not ended" in text
    lines = [line.strip() for line in text.splitlines()[-3:]]
    assert lines == ["root", "└─ forgotten  [not ended]   ◄ here", "└─ below"]
    forgotten.end()
    traces.assert_all_ended()
