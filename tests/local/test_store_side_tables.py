"""The side tables: nested-set numbers, root and extent of each trace, whatever came in which order.

The numbering is checked against a recursive one written here; the store against itself when the
spans come shuffled, in small requests, twice, with refreshes in between and over a restart.
"""

from __future__ import annotations

import random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from otelbridge.errors import StoreError
from otelbridge.local.records import from_otlp_port
from otelbridge.local.store import arrow, database, side_tables
from otelbridge.local.store.database import Store
from otelbridge.local.store.numbering import Node, number
from otelbridge.local.store.retention import Limits

TREE = (
    "SELECT t.trace_id, s.name, t.nested_left, t.nested_right, t.nested_parent, t.child_count "
    "FROM span_tree AS t JOIN tempo_spans AS s USING (trace_id, span_id) ORDER BY ALL"
)
TRACES = (
    "SELECT trace_id, start_ns, end_ns, root_span_id, root_name, root_service, span_count "
    "FROM trace_info ORDER BY ALL"
)


def sides(store: Store) -> tuple[list, list, int]:
    """Everything the side tables say, and their number of rows."""
    with store.snapshot() as found:
        rows = found.query("SELECT count(*) FROM span_tree")[0][0]
        return found.query(TREE), found.query(TRACES), rows


def simple_numbers(nodes: dict[int, Node]) -> dict[int, tuple[int, int, int]]:
    """Left, right and parent by recursion; spans that no root reaches are absent."""
    found: dict[int, tuple[int, int, int]] = {}
    counter = 0

    def below(parent: int | None) -> list[int]:
        ordered = sorted((node[:2], key) for key, node in nodes.items() if node[3] == parent)
        return [key for _, key in ordered]

    def visit(key: int, above: int) -> None:
        nonlocal counter
        counter += 1
        left = counter
        for child in below(key):
            visit(child, left)
        counter += 1
        found[key] = (left, counter, above)

    for root in below(None):
        visit(root, -1)
    return found


@settings(derandomize=True, max_examples=300, deadline=None)
@given(
    st.lists(
        st.tuples(
            st.integers(0, 3),  # start: equal ones are common
            st.one_of(st.none(), st.integers(0, 13)),  # parents that are missing, later, itself
            st.integers(0, 9),
        ),
        min_size=1,
        max_size=12,
    )
)
def test_numbers_are_those_of_the_simple_recursion(spans):
    """Any parents, cycles and self-parents included: lefts, rights, parents, children, extent."""
    nodes = {
        key: (start, -start - length, key, parent, f"n{key}", 1)
        for key, (start, parent, length) in enumerate(spans)
    }
    rows, facts = number(nodes)
    expected = simple_numbers(nodes)
    assert {row[0]: row[1:4] for row in rows} == {
        key: expected.get(key, (0, 0, 0)) for key in nodes
    }
    for key, *_, children in rows:
        assert children == sum(node[3] == key for node in nodes.values())
    roots = [node for node in nodes.values() if node[3] is None]
    assert facts.root == (max(roots) if roots else None)
    assert facts.start_ns == min(node[0] for node in nodes.values())
    assert facts.end_ns == max(-node[1] for node in nodes.values())
    assert facts.span_count == len(nodes)


def test_a_long_chain_is_numbered_without_recursion():
    """Fifty thousand levels: as deep as a chain of retries may get, and deeper."""
    length = 50_000
    nodes: dict[int, Node] = {
        key: (key, -key, key, key - 1 or None, "", 1) for key in range(1, length + 1)
    }
    rows, _ = number(nodes)
    assert rows[0][1:4] == (1, 2 * length, -1)
    assert rows[-1][1:4] == (length, length + 1, length - 1)


def forest(samples, rng: random.Random, traces: int, spans: int) -> list:
    """Spans of several traces: trees with a second root, orphans, a cycle, equal start times."""
    found = []
    for _ in range(traces):
        trace_id, ids = rng.randbytes(16), [rng.randbytes(8) for _ in range(spans)]
        for place, span_id in enumerate(ids):
            start = 10**9 * rng.randrange(4)
            parent = ids[rng.randrange(place)] if place else b""
            if place and rng.random() < 0.08:
                parent = rng.choice((b"", rng.randbytes(8), span_id, rng.choice(ids)))
            found.append(
                samples.span(
                    f"span {place}", trace_id=trace_id, span_id=span_id, parent_span_id=parent,
                    start_time_unix_nano=start, end_time_unix_nano=start + rng.randrange(10**9),
                )
            )  # fmt: skip
    return found


def send(store, samples, spans, each: int) -> list:
    """Requests of `each` spans; every span's service follows from its name."""
    futures = []
    for begin in range(0, len(spans), each):
        for span in spans[begin : begin + each]:
            request = samples.request(span, service=f"svc-{span.name[-1]}")
            futures.append(store.write(from_otlp_port(request)))
    return futures


@pytest.mark.parametrize("small_spans", [0, 3, 1000])
@pytest.mark.parametrize("seed", range(3))
def test_any_order_gives_the_same_side_tables(samples, tmp_path, monkeypatch, seed, small_spans):
    """In order at once; shuffled, one by one, twice, with queries between and a small memory.

    Whether the transaction of the spans writes them too, or a refresh afterwards, or now the one
    and now the other.
    """
    monkeypatch.setattr(database, "_SMALL_SPANS", small_spans)
    rng = random.Random(seed)
    spans = forest(samples, rng, traces=6, spans=15)
    ordered = Store(None)
    for future in send(ordered, samples, spans, 1000):
        future.result(20)
    expected = sides(ordered)
    ordered.close()
    assert expected[2] == len(spans)

    monkeypatch.setattr(side_tables, "_CACHED_SPANS", 20)  # skeletons are read again and again
    monkeypatch.setattr(side_tables, "_REFRESH_TRACES", 2)
    shuffled = spans * 2
    rng.shuffle(shuffled)
    store = Store(tmp_path)
    for begin in range(0, len(shuffled), 30):
        for future in send(store, samples, shuffled[begin : begin + 30], 1):
            future.result(20)
        if rng.random() < 0.5:
            store.refresh()
    assert sides(store) == expected
    store.close()
    store = Store(tmp_path)
    assert sides(store) == expected
    store.close()


def test_the_last_of_two_spans_counts_for_the_tree(samples):
    """A span sent again with another parent and time moves; the old numbers are gone."""
    store = Store(None)
    root = samples.span("root", trace_id=b"t" * 16, span_id=b"r" * 8)
    child = samples.span("child", trace_id=b"t" * 16, span_id=b"c" * 8, parent_span_id=b"r" * 8)
    store.write(from_otlp_port(samples.request(root, child))).result(20)
    assert [row[1:] for row in sides(store)[0]] == [
        ("child", 2, 3, 1, 0),
        ("root", 1, 4, -1, 1),
    ]
    child.parent_span_id = b"x" * 8
    child.end_time_unix_nano += 10**9
    store.write(from_otlp_port(samples.request(child))).result(20)
    tree, traces, rows = sides(store)
    assert [row[1:] for row in tree] == [("child", 0, 0, 0, 0), ("root", 1, 2, -1, 0)]
    assert rows == 2
    assert traces[0][2] == child.end_time_unix_nano
    store.close()


def test_a_trace_without_a_root_has_no_root_name(samples):
    """root_name and root_service are empty, root_span_id is NULL; a late root fills them."""
    store = Store(None)
    orphan = samples.span("orphan", trace_id=b"t" * 16, parent_span_id=b"r" * 8)
    store.write(from_otlp_port(samples.request(orphan))).result(20)
    assert sides(store)[1][0][3:] == (None, "", "", 1)
    root = samples.span("root", trace_id=b"t" * 16, span_id=b"r" * 8)
    store.write(from_otlp_port(samples.request(root, service="web"))).result(20)
    assert sides(store)[1][0][3:] == (int.from_bytes(b"r" * 8, "big"), "root", "web", 2)
    store.close()


def test_what_a_kill_left_stale_is_renewed_at_opening(samples, tmp_path):
    """Side tables without the newest trace, and with an old count: both are found and renewed."""
    store = Store(tmp_path)
    spans = forest(samples, random.Random(1), traces=3, spans=5)
    for future in send(store, samples, spans, 100):
        future.result(20)
    expected = sides(store)
    with store._gate:
        victim = store._connection.execute("SELECT min(trace_id) FROM trace_info").fetchone()[0]
        for table in ("trace_info", "span_tree"):
            store._connection.execute(f"DELETE FROM {table} WHERE trace_id = ?", [victim])
        store._connection.execute("UPDATE trace_info SET received_ns = 1, end_ns = 1")
    store.close()
    store = Store(tmp_path)
    assert sides(store) == expected
    store.close()


def test_retention_leaves_nothing_of_a_trace(samples):
    """Its events, links, numbers and facts go with it; it may come again."""
    store = Store(None, Limits(age_seconds=1))
    span = samples.span("x")
    span.events.add(name="e")
    span.links.add(trace_id=b"t" * 16, span_id=b"s" * 8)
    store.write(from_otlp_port(samples.request(span))).result(20)
    store.refresh()
    assert store.apply_retention(2**62) == 1
    for table in ("tempo_spans", "span_events", "span_links", "span_tree", "trace_info"):
        assert store.query(f"SELECT count(*) FROM {table}") == [(0,)]
    store.write(from_otlp_port(samples.request(span))).result(20)
    assert sides(store)[2] == 1
    store.close()


def test_a_transaction_that_fails_midway_leaves_the_side_tables_true(samples, monkeypatch):
    """Nothing of it is stored, and what comes next is numbered as if it had never been."""
    store = Store(None)
    root = samples.span("root", trace_id=b"t" * 16, span_id=b"r" * 8)
    store.write(from_otlp_port(samples.request(root))).result(20)
    before = sides(store)
    insert = arrow.insert

    def failing(connection, table, types, columns):
        insert(connection, table, types, columns)
        if table == "trace_info":
            raise RuntimeError("no room")

    child = samples.span("child", trace_id=b"t" * 16, span_id=b"c" * 8, parent_span_id=b"r" * 8)
    with monkeypatch.context() as patch:
        patch.setattr(arrow, "insert", failing)
        assert isinstance(
            store.write(from_otlp_port(samples.request(child))).exception(20), StoreError
        )
    assert sides(store) == before
    other = samples.span("other", trace_id=b"t" * 16, parent_span_id=b"r" * 8)
    store.write(from_otlp_port(samples.request(other))).result(20)
    tree, traces, rows = sides(store)
    assert [row[1:] for row in tree] == [("other", 2, 3, 1, 0), ("root", 1, 4, -1, 1)]
    assert (traces[0][-1], rows) == (2, 2)
    store.close()


def test_small_writes_leave_nothing_to_renew(samples):
    """A query beside a trickle of spans neither renews side tables nor waits for that."""
    store = Store(None)
    store.write(from_otlp_port(samples.request(samples.span()))).result(20)
    assert not store._side_tables.dirty
    assert store.query("SELECT count(*) FROM trace_info", refresh=False) == [(1,)]
    store.close()


def test_an_idle_store_renews_its_side_tables_by_itself(samples, monkeypatch):
    """Without any query; so the first query after a load finds them ready."""
    monkeypatch.setattr(database, "_SMALL_SPANS", 0)
    store = Store(None)
    store.write(from_otlp_port(samples.request(samples.span()))).result(20)
    for _ in range(200):
        if store.query("SELECT count(*) FROM trace_info", refresh=False) == [(1,)]:
            break
        store._writer.join(0.05)  # the writer does not end: a wait
    assert store.query("SELECT count(*) FROM trace_info", refresh=False) == [(1,)]
    store.close()
