"""Bar B1: random request trees over services keep an unbroken, ordered LLM view."""

from __future__ import annotations

import pytest

from benchmarks import bench_trees as trees
from otelbridge import view


@pytest.mark.parametrize(
    ("mode", "mixed", "count"),
    [
        ("services", False, 1000),
        ("services", True, 150),
        ("llm", False, 150),
        ("llm", True, 150),
        ("all", True, 100),
    ],
)
def test_random_trees_have_no_orphans_and_keep_the_ancestor_order(
    mode: str, mixed: bool, count: int
) -> None:
    """Every named parent is in the view, and is the nearest kept ancestor of the full tree."""
    found = trees.run_trees(count, seed=20261121, mode=mode, mixed=mixed)
    assert found.spans > 10 * count
    assert found.kept > count
    assert (found.orphans, found.wrong_order, found.wrong_keep) == ([], [], [])
    assert view.open_calls() == 0


def test_the_examination_finds_an_orphan() -> None:
    """A view whose entry spans are thrown away is reported as broken."""
    trees.install()
    world = trees.World()
    world.request(trees.Plan("call", 0, [trees.Plan("llm", 0)]))
    spans = [s for s in world.exporter.get_finished_spans() if s.name == "llm"]
    assert trees.examine(spans).orphans == ["llm"]
