"""The pages of docs/recipes and the programs belong together; the commands shown run as shown."""

from __future__ import annotations

import ast
import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

import otelbridge
from tests.recipes.conftest import PAGES, RECIPES, Recipes, queries

NAMES = sorted(path.stem for path in RECIPES.glob("*.py") if path.stem != "provider")
MOST_LINES = 150
#: Modules that docs/budgets.md documents beside the names of the package.
MODULES = {"budgets"}


def page(name: str) -> str:
    """The text of a recipe's page."""
    return (PAGES / f"{name.replace('_', '-')}.md").read_text(encoding="utf-8")


def test_there_are_five() -> None:
    """Each program has its page and is in the overview; no page without a program."""
    assert len(NAMES) == 5
    overview = (PAGES / "README.md").read_text(encoding="utf-8")
    for name in NAMES:
        assert f"]({name.replace('_', '-')}.md)" in overview
        assert f"../../examples/recipes/{name}.py" in page(name)
    pages = {path.stem.replace("-", "_") for path in PAGES.glob("*.md")}
    assert pages == {*NAMES, "README"}


@pytest.mark.parametrize("name", NAMES)
def test_recipe_is_short_and_takes_public_names_only(name: str) -> None:
    """At most 150 lines, and of otelbridge only what `__all__` or a documented module has."""
    text = (RECIPES / f"{name}.py").read_text(encoding="utf-8")
    assert len(text.splitlines()) <= MOST_LINES
    used = set()
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name):
            used |= {node.attr} if node.value.id == "otelbridge" else set()
        elif isinstance(node, ast.ImportFrom) and (node.module or "").startswith("otelbridge"):
            assert node.module == "otelbridge"
            used |= {alias.name for alias in node.names}
        elif isinstance(node, ast.Import):
            assert not [item for item in node.names if item.name.startswith("otelbridge.")]
    assert len(used) > 3
    assert used <= {*otelbridge.__all__, *MODULES}


@pytest.mark.parametrize("name", [*NAMES, "README"])
def test_links_of_a_page_lead_somewhere(name: str) -> None:
    """Files that a page links to are there."""
    text = page(name) if name != "README" else (PAGES / "README.md").read_text(encoding="utf-8")
    targets = [link.partition("#")[0] for link in re.findall(r"\]\(([^)]+)\)", text)]
    missing = [target for target in targets if not (PAGES / target).exists()]
    assert targets
    assert missing == []


@pytest.mark.e2e
@pytest.mark.collector
@pytest.mark.parametrize("name", ["claude_teams", "document_agent", "text2sql"])
def test_commands_of_a_page_run(name: str, recipes: Recipes) -> None:
    """The shell block of a page runs as shown and prints a line with a trace id per question."""
    block = re.search(r"```sh\n(.*?)```", page(name), re.DOTALL)
    assert block is not None
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    done = subprocess.run(
        ["bash", "-euo", "pipefail", "-c", block[1]],
        cwd=RECIPES,
        env=recipes.env(f"{name}-page", PATH=path),
        capture_output=True,
        text=True,
        timeout=50,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    lines = [json.loads(line) for line in done.stdout.splitlines()]
    assert len(lines) == {"claude_teams": 4, "document_agent": 9, "text2sql": 2}[name]
    assert all(len(line["trace_id"]) == 32 for line in lines)
    refused = [bool(line.get("refused")) for line in lines]
    if name == "claude_teams":
        assert refused == [False, False, True, False]
    elif name == "document_agent":
        models = [model for line in lines for model in line["models"]]
        assert {"gpt-4o", "gpt-4o-mini"} == set(models)


@pytest.mark.parametrize("name", NAMES)
def test_page_has_queries(name: str) -> None:
    """Each page shows two queries at least; the recipe's own test runs them."""
    assert len(queries(name.replace("_", "-"))) >= 2
