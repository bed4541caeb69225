"""A trace as a tree: one order for the command line and the preview's page.

Pure and free of heavy imports, because `otelbridge trace` works without the `local` extra. Children
stand under their parent by start time, then span id; a span whose parent is not in the trace is an
orphan and stands at the top level, as Langfuse and Grafana show it.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True, slots=True)
class Node:
    """What a tree shows of one span or observation.

    Ids are lower-case hexadecimal, `parent_id` is empty on a root; times are nanoseconds since
    1970; tokens are totals (cached and reasoning included); cost is in USD. None means unknown.
    """

    span_id: str
    parent_id: str
    service: str
    name: str
    kind: str
    start_ns: int
    duration_ns: int
    model: str = ""
    input_tokens: int | None = None
    output_tokens: int | None = None
    cost_usd: float | None = None
    error: bool = False
    status_message: str = ""
    content: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Placed:
    """A node at its place.

    Depth is 0 at the top; `rails` says for each ancestor, from the top, whether it has a later
    sibling, `last` whether the node has none; `orphan` that its parent is not above it.
    """

    node: Node
    depth: int
    rails: tuple[bool, ...]
    last: bool
    orphan: bool


def arrange(nodes: Iterable[Node]) -> list[Placed]:
    """Every node once, in reading order. Cycles are broken at their earliest span."""
    by_id = {node.span_id: node for node in nodes}
    children: dict[str, list[Node]] = {}
    tops: list[Node] = []
    ordered = sorted(by_id.values(), key=lambda node: (node.start_ns, node.span_id))
    for node in ordered:
        if node.parent_id and node.parent_id in by_id and node.parent_id != node.span_id:
            children.setdefault(node.parent_id, []).append(node)
        else:
            tops.append(node)
    placed: list[Placed] = []
    seen: set[str] = set()

    def place(roots: list[Node]) -> None:
        # A stack and not recursion: agent loops make chains deeper than Python's limit.
        stack: list[tuple[Node, tuple[bool, ...], bool]] = [
            (node, (), node is roots[-1]) for node in reversed(roots)
        ]
        while stack:
            node, rails, last = stack.pop()
            if node.span_id in seen:
                continue
            seen.add(node.span_id)
            orphan = not rails and bool(node.parent_id)
            placed.append(Placed(node, len(rails), rails, last, orphan))
            below = [child for child in children.get(node.span_id, ()) if child.span_id not in seen]
            stack += [(child, (*rails, not last), child is below[-1]) for child in reversed(below)]

    if tops:
        place(tops)
    for node in ordered:
        if node.span_id not in seen:
            place([node])
    return placed
