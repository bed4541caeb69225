"""A trace as a tree: order, orphans, cycles, and the text of `otelbridge trace`."""

from __future__ import annotations

import re
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from otelbridge.cli._tree import duration_text, render_tree
from otelbridge.local.nodes import observation_node, tempo_nodes
from otelbridge.local.tree import Node, arrange

MS = 1_000_000


def node(span_id: str, parent: str = "", start: int = 0, length: int = 10, **more: Any) -> Node:
    fields = {"service": "web", "name": f"span {span_id}", "kind": "server"} | more
    return Node(
        span_id=span_id, parent_id=parent, start_ns=start * MS, duration_ns=length * MS, **fields
    )


def shape(nodes: list[Node]) -> list[tuple[str, int, bool]]:
    return [(item.node.span_id, item.depth, item.orphan) for item in arrange(nodes)]


def test_children_stand_under_their_parent_by_start_time_then_id():
    """The order of arrival does not matter."""
    nodes = [node("d", "a", 5), node("c", "a", 5), node("a"), node("b", "a", 1), node("e", "b", 9)]
    assert shape(nodes) == [
        ("a", 0, False), ("b", 1, False), ("e", 2, False), ("c", 1, False), ("d", 1, False)
    ]  # fmt: skip


def test_a_span_whose_parent_is_not_there_is_an_orphan_at_the_top():
    """Its own children stay under it."""
    assert shape([node("b", "gone", 1), node("c", "b", 2), node("a")]) == [
        ("a", 0, False), ("b", 0, True), ("c", 1, False)
    ]  # fmt: skip


@given(st.lists(st.tuples(st.integers(0, 12), st.integers(0, 14), st.integers(0, 5)), max_size=14))
def test_every_span_is_placed_once_whatever_the_parents_say(links):
    """Cycles, self-parents and missing parents lose and repeat nothing."""
    nodes = {a: node(str(a), str(b) if b else "", start) for a, b, start in links}
    placed = arrange(nodes.values())
    assert sorted(item.node.span_id for item in placed) == sorted(map(str, nodes))


def test_a_chain_of_thousands_is_drawn():
    """Agent loops make chains deeper than Python's recursion limit."""
    chain = [node("0")] + [node(str(n), str(n - 1), n) for n in range(1, 3000)]
    lines = render_tree(chain).splitlines()
    assert len(lines) == 3002
    assert max(map(len, lines)) < 200


def test_the_text_shows_service_bar_duration_model_tokens_cost_and_status():
    """One line a span, in that order, and a summary."""
    text = render_tree(
        [
            node("a", length=100, name="POST /ask"),
            node("b", "a", 20, 50, service="llm", name="chat", kind="chat", model="gpt-4o",
                 input_tokens=1203, output_tokens=44, cost_usd=0.0125),
            node("c", "a", 90, 5, service="llm", name="tool", error=True, status_message="boom"),
            node("d", "gone", 95, 1, name="lost"),
        ],
        title="tempo view",
    )  # fmt: skip
    title, head, root, chat, tool, lost, footer = text.splitlines()
    assert title == "tempo view"
    assert head.split() == ["service", "span", "duration", "model", "tokens", "in/out", "cost"]
    assert re.fullmatch(r"web +POST /ask +█{18} +100\.0 ms", root)
    assert re.fullmatch(r"llm +├─ chat +·+█+·+ +50\.0 ms +gpt-4o +1,203 / 44 +\$0\.012500", chat)
    assert re.fullmatch(r"llm +└─ tool +·+█+·* +5\.0 ms +ERROR boom", tool)
    assert re.fullmatch(r"web +lost +·+█·* +1\.0 ms +orphan of gone", lost)
    assert footer == (
        "4 spans, 2 services, 100.0 ms, 1,203 tokens in, 44 out, $0.012500, 1 error, 1 orphan"
    )


@pytest.mark.parametrize("kind", ["AGENT", "invoke_agent"])
def test_the_summary_does_not_count_an_agents_usage_twice(kind):
    """An agent repeats the tokens and cost of its generations."""
    usage = {"input_tokens": 10, "output_tokens": 1, "cost_usd": 0.5}
    text = render_tree([node("a", kind=kind, **usage), node("b", "a", kind="chat", **usage)])
    assert "10 tokens in, 1 out, $0.500000" in text.splitlines()[-1]


def test_colours_change_nothing_but_colours():
    """With the escape sequences taken out, the text is the plain one."""
    nodes = [node("a"), node("b", "a", error=True, status_message="x"), node("c", "gone")]
    coloured = render_tree(nodes, title="t", colour=True)
    assert "\x1b[" in coloured
    assert re.sub(r"\x1b\[\d+m", "", coloured) == render_tree(nodes, title="t")


def test_control_characters_of_foreign_names_never_reach_the_terminal():
    """Names, services, models, messages and content are cleaned."""
    evil = "a\x1b[2J\x07\r\nb\x9b\u202e"
    text = render_tree(
        [node("a", service=evil, name=evil, model=evil, error=True, status_message=evil,
              content={"input": evil, "output": {"k": evil}})],
        title=evil,
        content=True,
    )  # fmt: skip
    assert not re.search(r"[\x00-\x09\x0b-\x1f\x7f-\x9f\u202e]", text)


def test_content_is_shown_only_when_asked_for():
    """Input and output stand under their span."""
    nodes = [node("a", content={"input": '{"q": 1}', "output": "two\nlines"})]
    assert "lines" not in render_tree(nodes)
    shown = render_tree(nodes, content=True)
    assert "input: {" in shown
    assert '"q": 1' in shown
    assert "output: two" in shown


def test_an_empty_trace_says_so():
    """No spans is an answer, not an error."""
    assert render_tree([], title="t") == "t\n(no spans)"


@pytest.mark.parametrize(
    ("nanoseconds", "text"),
    [(0, "0 µs"), (410_000, "410 µs"), (12_340_000, "12.3 ms"), (1_830_000_000, "1.83 s")],
)
def test_durations_have_a_fitting_unit(nanoseconds, text):
    """Microseconds, milliseconds or seconds."""
    assert duration_text(nanoseconds) == text


def test_nodes_read_tempo_v1_v2_and_otlp_json():
    """base64 and hexadecimal ids, enum names and numbers give the same node."""
    span = {
        "spanId": "AAAAAAAAAAE=", "parentSpanId": "AAAAAAAAAAI=", "name": "chat",
        "kind": "SPAN_KIND_CLIENT", "startTimeUnixNano": "5", "endTimeUnixNano": "9",
        "attributes": [
            {"key": "gen_ai.operation.name", "value": {"stringValue": "chat"}},
            {"key": "gen_ai.response.model", "value": {"stringValue": "m"}},
            {"key": "gen_ai.usage.input_tokens", "value": {"intValue": "3"}},
            {"key": "gen_ai.usage.cost", "value": {"doubleValue": 0.5}},
        ],
        "status": {"code": "STATUS_CODE_ERROR", "message": "no"},
    }  # fmt: skip
    hexed = span | {"spanId": "0" * 15 + "1", "parentSpanId": "0" * 15 + "2", "status":
                    {"code": 2, "message": "no"}}  # fmt: skip
    resource = {"attributes": [{"key": "service.name", "value": {"stringValue": "llm"}}]}

    def groups(item):
        return [{"resource": resource, "scopeSpans": [{"spans": [item]}]}]

    v2, v1 = {"trace": {"resourceSpans": groups(span)}}, {"batches": groups(span)}
    otlp = {"resourceSpans": groups(hexed)}
    expected = Node(
        "0" * 15 + "1", "0" * 15 + "2", "llm", "chat", "chat", 5, 4, "m", 3, None, 0.5, True, "no"
    )
    for document in (v2, v1, otlp):
        assert tempo_nodes(document) == [expected]
    assert tempo_nodes({"trace": {}, "metrics": {}}) == []


def test_nodes_read_langfuses_own_shapes():
    """Metadata as JSON text, cost as text, v3's cost name, missing fields."""
    found = observation_node(
        {"id": "ab", "startTime": "2026-01-01T00:00:00.000Z", "endTime": "2026-01-01T00:00:01.5Z",
         "metadata": {"resourceAttributes": '{"service.name": "llm"}'},
         "calculatedTotalCost": "0.25", "usageDetails": {"input": 1, "input_cached_tokens": 2}}
    )  # fmt: skip
    assert (found.service, found.cost_usd, found.input_tokens) == ("llm", 0.25, 3)
    assert (found.duration_ns, found.output_tokens) == (1500 * MS, None)
    assert observation_node({"id": "x", "metadata": "text", "startTime": "?"}).name == ""
