"""docs/traceql.md: its queries are the named ones, its table of traps is what is answered."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from otelbridge.cli._examples import EXAMPLES
from otelbridge.local import query
from otelbridge.local.query import Compat
from otelbridge.local.store.database import Store
from otelbridge.local.traceql import lint, parser, validate
from otelbridge.local.traceql.lint_texts import TEXTS
from tests.traceql import cases

PAGE = (Path(__file__).parents[2] / "docs" / "traceql.md").read_text(encoding="utf-8")
BASE_S = cases.spans()[1] // 10**9
LOOSE = [case for case in cases.every("search.jsonl") if not cases.is_binding(case)]


def rows(heading: str) -> list[list[str]]:
    """Cells of the table whose first heading is given."""
    table = PAGE.partition(f"| {heading} |")[2].partition("\n\n")[0]
    lines = table.splitlines()[2:]
    return [[cell.strip() for cell in re.split(r"(?<!\\)\|", line)[1:-1]] for line in lines]


def row_of(case: cases.Json) -> list[str]:
    """The row of the table of traps that names a case."""
    (row,) = [row for row in rows("Lint") if case["id"] in re.findall(r"q\d+", " ".join(row[3:]))]
    return row


@pytest.fixture(scope="module")
def store() -> Iterator[Store]:
    """A store with the recorded spans."""
    filled = cases.store_of(cases.spans()[0])
    yield filled
    filled.close()


def test_the_named_queries_are_on_the_page():
    """Name, sentence and query of each, in order; and each is valid without a warning but one."""
    shown = [
        [f"`{one.name}`", one.what, "`" + one.query.replace("|", "\\|") + "`"]
        for one in EXAMPLES.values()
    ]
    assert rows("Name") == shown
    warned = set()
    for example in EXAMPLES.values():
        tree = parser.parse(example.query)
        validate.validate(tree, metrics=tree.metrics is not None)
        warned |= {found.code for found in lint.lint(tree) if found.level == "warning"}
    # Absence has no reliable spelling in Tempo; otelbridge answers it exactly.
    assert warned == {"nil_eq_unreliable"}


def test_every_case_that_does_not_bind_is_in_the_table_once():
    """No recorded case is silently left out, and every trap has a lint of that name."""
    listed = [
        name for row in rows("Lint") for cell in row[3:] for name in re.findall(r"q\d+", cell)
    ]
    assert sorted(listed) == sorted(case["id"] for case in LOOSE)
    assert {row[0].strip("`") for row in rows("Lint")} <= set(TEXTS)


@pytest.mark.parametrize("case", LOOSE, ids=lambda case: case["id"])
def test_the_table_says_whether_the_answer_is_tempos(store: Store, case: cases.Json):
    """Same or other for otelbridge's own answer; a star where compat does not imitate."""

    def agrees(compat: Compat) -> bool:
        answer = query.search(
            store, case["query"], start_s=BASE_S - 60, end_s=BASE_S + 840, limit=1000, spss=100,
            compat=compat,
        )  # fmt: skip
        return case["status"] == 200 and cases.trace_spans(case) == {
            trace.trace_id: sorted({s.span_id for one in trace.span_sets for s in one.spans})
            for trace in answer.traces
        }

    row = row_of(case)
    assert (case["id"] in row[3]) == agrees("clean")
    assert (f"{case['id']}*" in row[4]) == (not agrees("tempo"))


@pytest.mark.parametrize("case", LOOSE, ids=lambda case: case["id"])
def test_a_case_has_the_lint_that_the_table_names(store: Store, case: cases.Json):
    """What is said of the query names the trap, as far as the query itself can show it."""
    stored: dict[tuple[str, str], set[str]] = {}
    for scope, key, kind in store.catalog():
        stored.setdefault((scope, key), set()).add(kind)
    row = row_of(case)
    code = row[0].strip("`")
    if code == "unsupported_value_kind":
        return  # such values are not in the catalog; the pytest plugin knows them
    found = lint.lint(parser.parse(case["query"]), endpoint="search", stored=stored)
    assert code in {one.code for one in found}
