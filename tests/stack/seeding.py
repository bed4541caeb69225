"""Wrong versions of a case: one fact changed in each, for the proof that facts are looked at.

`wrong_ones` goes through a case's expectations and changes each value to one that cannot be true of
the evidence at hand. Facts that a backend does not check (links that it does not follow) are left.
"""

from __future__ import annotations

import copy
from collections.abc import Iterator, Mapping
from dataclasses import replace
from typing import Any

from tests.stack.backends import Backend
from tests.stack.casefile import Case
from tests.stack.reading import Evidence

Where = tuple[Any, ...]


def wrong_ones(case: Case, backend: Backend, evidence: Evidence) -> Iterator[tuple[str, Case]]:
    """Where a fact was made wrong, and the case with it."""
    facts = {"traces": case.traces, "traceql": case.traceql, "promql": case.promql}
    for where, value in leaves(facts):
        if where[-1] == "query" or ("observations" in where and where[-1] in ("name", "service")):
            continue  # these choose what is looked at
        if "links" in where and where[-1] not in backend.followed:
            continue
        wrong = copy.deepcopy({key: _lists(item) for key, item in facts.items()})
        put(wrong, where, changed(where, value, evidence))
        yield " / ".join(map(str, where)), replace(case, **wrong)
    for number, request in enumerate(case.requests):
        others = list(case.requests)
        others[number] = replace(request, status=request.status + 1)
        yield f"status of {request.name}", replace(case, requests=tuple(others))
        for said in request.says:
            others[number] = replace(request, says=(f"{said} (never said)",))
            yield f"says of {request.name}", replace(case, requests=tuple(others))


def leaves(value: Any, where: Where = ()) -> Iterator[tuple[Where, Any]]:
    """Every value of an expectation with its place; a list of plain values is one value."""
    if isinstance(value, Mapping):
        for key, item in value.items():
            yield from leaves(item, (*where, key))
    elif isinstance(value, (list, tuple)) and any(isinstance(item, Mapping) for item in value):
        for number, item in enumerate(value):
            yield from leaves(item, (*where, number))
    elif isinstance(value, (list, tuple)) and where[-1] in ("paths", "without"):
        for number, item in enumerate(value):
            yield (*where, number), item
    elif value != ():
        yield where, value


def changed(where: Where, value: Any, evidence: Evidence) -> Any:
    """A value that is wrong where the given one is right."""
    if len(where) > 1 and where[-2] == "without":
        # Of all texts these are there: a trace's services, and its id on the Langfuse side.
        trace_id = evidence.driven.traces[where[1]][0]
        return "gateway" if "gateway" in evidence.tempo[trace_id].services else "llm"
    if where[-1] == "above":
        return 1e12
    if isinstance(value, bool):
        return not value
    if isinstance(value, (int, float)):
        return value + 1
    if isinstance(value, (list, tuple)):
        return [*value, "another"]
    return f"{value} another"


def put(facts: Any, where: Where, value: Any) -> None:
    """Replace the value at a place."""
    *above, last = where
    for key in above:
        facts = facts[key]
    facts[last] = value


def _lists(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {key: _lists(item) for key, item in value.items()}
    return [_lists(item) for item in value] if isinstance(value, (list, tuple)) else value
