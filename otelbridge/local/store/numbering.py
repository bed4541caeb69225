"""Nested-set numbers and trace facts from the skeleton of one trace: pure functions.

`side_tables` keeps the skeletons and stores the results. The numbering is Tempo's: depth first,
children by start time, longer ones first, then span id; the first root's left is 1, a second root
continues. A span without a path to a root (orphan, cycle, its own parent) has none and takes part
in no relation. Of several roots the one that starts last names the trace, as Tempo 3.0.3 answers.
"""

from __future__ import annotations

from typing import Final, NamedTuple, TypeAlias

#: What the side tables need of a span, ordered as children are: start_ns, minus end_ns, span_id,
#: parent_span_id (None on a root), name and service (of roots only). A bare tuple: there are many,
#: and the garbage collector passes over those that hold no containers.
Node: TypeAlias = tuple[int, int, int, int | None, str, str]


class TraceFacts(NamedTuple):
    """One row of `trace_info` without the trace: earliest start, latest end, the naming root."""

    start_ns: int
    end_ns: int
    root: Node | None
    span_count: int


#: span_id, nested_left, nested_right, nested_parent, child_count.
TreeRow = tuple[int, int, int, int, int]
ROOT_PARENT: Final = -1


def number(nodes: dict[int, Node]) -> tuple[list[TreeRow], TraceFacts]:
    """The numbers of every span of a trace, and the facts of the trace.

    Args:
        nodes: All spans of one trace by span id; at least one.
    """
    # Span ids differ, so no comparison comes to the parents.
    ordered = sorted(nodes.values())
    children: dict[int, list[int]] = {}
    roots = []
    latest_ns = 0
    for node in ordered:
        _, minus_end_ns, key, parent, _, _ = node
        latest_ns = max(latest_ns, -minus_end_ns)
        if parent is None:
            roots.append(node)
        else:
            children.setdefault(parent, []).append(key)
    lefts, rights = _walk([root[2] for root in roots], children)
    rows = []
    for _, _, key, parent, _, _ in ordered:
        left = lefts.get(key, 0)
        above = 0
        if left:
            above = ROOT_PARENT if parent is None else lefts[parent]
        rows.append((key, left, rights.get(key, 0), above, len(children.get(key, ()))))
    root = roots[-1] if roots else None
    return rows, TraceFacts(ordered[0][0], latest_ns, root, len(ordered))


def _walk(
    roots: list[int], children: dict[int, list[int]]
) -> tuple[dict[int, int], dict[int, int]]:
    """Left and right by span id. Ends: a span has one parent, so a root reaches it once."""
    lefts: dict[int, int] = {}
    rights: dict[int, int] = {}
    counter = 0
    stack = roots[::-1]
    while stack:
        key = stack.pop()
        counter += 1
        if key in lefts:  # on the way back
            rights[key] = counter
            continue
        lefts[key] = counter
        below = children.get(key)
        if below is None:
            counter += 1
            rights[key] = counter
        else:
            stack.append(key)
            stack.extend(reversed(below))
    return lefts, rights
