"""The shape of the code: who may import whom, what stays light, what is spelled in one place only.

The table is that of ARCHITECTURE.md. Imports inside functions count like any other; what they
spare is loading time, not dependence.
"""

from __future__ import annotations

import ast
import re
import subprocess
import sys
from collections.abc import Iterator
from functools import cache
from graphlib import CycleError, TopologicalSorter
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PACKAGE = ROOT / "otelbridge"

#: Module or package, without `otelbridge.`, to its level; the longest matching name decides. A
#: module imports lower levels, and same-level modules of its own package. Halves order what the
#: table puts on one level.
LEVELS: dict[str, float] = {
    "errors": 0, "semconv": 0, "policy": 0, "dialects": 0, "masks": 0, "langfuse_policy": 0,
    "dialect_table": 0, "span_rules": 0, "_guard": 0, "_version": 0,
    "masking": 1.5, "masking.spans": 3.5,  # texts; whole spans of the SDK
    "env": 1, "endpoints": 1, "_environment": 1, "_rules": 1, "rule_text": 1, "settings": 1,
    "propagation": 2, "context": 2, "view": 2, "trust": 2, "exporters.spool": 2,
    "self_metrics": 2, "request_ids": 2, "legacy_headers": 2,
    "cost": 2,  # pure: tokens to money, used by the helpers as well
    "budgets": 2.5,
    "processors": 3, "integrations": 3,
    "genai": 3.5, "exporters": 3.5, "links": 3.5, "logs": 3.5,
    "langfuse": 3.7,  # sends through the exporters' sender and spool
    "provider": 4,
    "envfile": 1, "installation": 4,
    "distro": 5, "compat": 5, "": 5,
    "collector": 6,
    "local.records": 1, "local.rules": 1, "local.values": 1,
    "local.receivers.otlp_decode": 1.5,
    "local.store": 2,
    "local.receivers": 3,  # they are given the store that they write to
    "local.traceql": 5,
    "local": 6,
    "testing": 7, "demo": 8, "doctor": 8,
    "cli": 9, "__main__": 10,
}  # fmt: skip
#: Packages where the SDK side and the local side meet, beside levels 0 and 1.
FACES = ("cli", "testing", "demo", "__main__")
HEAVY = ("duckdb", "lark", "langfuse", "flask", "grpc", "starlette", "uvicorn", "genai_prices")
ATTRIBUTE_KEY = re.compile(r"(gen_ai|langfuse\.trace|langfuse\.observation|otelbridge\.llm)\.")


def module_name(path: Path) -> str:
    """`otelbridge/genai/stream.py` is `genai.stream`, `otelbridge/__init__.py` is empty text."""
    parts = path.relative_to(PACKAGE).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


@cache
def modules() -> dict[str, ast.Module]:
    return {
        module_name(path): ast.parse(path.read_text(encoding="utf-8"), filename=str(path))
        for path in sorted(PACKAGE.rglob("*.py"))
    }


def package_of(name: str) -> str:
    """The package that a module lives in; a package lives in itself."""
    return name if (PACKAGE / name.replace(".", "/")).is_dir() else name.rpartition(".")[0]


def level_of(name: str) -> float:
    prefix = name
    while prefix not in LEVELS:
        if "." not in prefix:
            raise AssertionError(f"otelbridge.{name} has no level: add it to the table")
        prefix = prefix.rpartition(".")[0]
    return LEVELS[prefix]


def imports_of(tree: ast.Module) -> Iterator[tuple[str, int]]:
    """Modules of otelbridge that a module imports, without `otelbridge.`, and the line."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom) and node.module and node.level == 0:
            names = [f"{node.module}.{alias.name}" for alias in node.names]
        else:
            continue
        for name in names:
            if name == "otelbridge" or name.startswith("otelbridge."):
                yield _module(name.removeprefix("otelbridge").lstrip(".")), node.lineno


def _module(name: str) -> str:
    """The module that an imported name lives in."""
    while name and name not in modules():
        name = name.rpartition(".")[0]
    return name


def allowed(importer: str, imported: str) -> bool:
    low, high = level_of(imported), level_of(importer)
    if low > high:
        return False
    return low < high or package_of(importer) == package_of(imported)


def test_a_module_imports_lower_levels_only():
    """The direction of every import is that of the layer table."""
    wrong = [
        f"otelbridge.{name}:{line} imports otelbridge.{imported} "
        f"(level {level_of(name):g} imports {level_of(imported):g})"
        for name, tree in modules().items()
        for imported, line in imports_of(tree)
        if imported != name and not allowed(name, imported)
    ]
    assert wrong == []


def test_the_sdk_side_and_the_local_side_meet_at_the_bottom_and_in_the_faces():
    """A service never pulls in the local store, and the store never pulls in the SDK side."""
    wrong = []
    for name, tree in modules().items():
        if name.partition(".")[0] in FACES:
            continue
        is_local = name.partition(".")[0] == "local"
        for imported, line in imports_of(tree):
            crosses = (imported.partition(".")[0] == "local") != is_local
            shared = imported != "" and level_of(imported) <= 1 and not imported.startswith("local")
            if crosses and not shared:
                wrong.append(f"otelbridge.{name}:{line} imports otelbridge.{imported}")
    assert wrong == []


def test_there_are_no_import_cycles():
    """Siblings may import each other, but not in circles."""
    graph = {
        name: {imported for imported, _ in imports_of(tree) if imported != name}
        for name, tree in modules().items()
    }
    try:
        TopologicalSorter(graph).prepare()
    except CycleError as error:
        pytest.fail(f"cycle: {' -> '.join(error.args[1])}")


def test_importing_the_package_loads_nothing_heavy():
    """`import otelbridge` costs a service neither a store nor a web framework."""
    code = (
        f"import sys, otelbridge;print(sorted(name for name in {HEAVY!r} if name in sys.modules))"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=True
    )
    assert done.stdout.strip() == "[]"


def test_only_settings_reads_the_environment():
    """One place decides what a variable means; everything else is given values."""
    wrong = []
    for name, tree in modules().items():
        if name == "settings":
            continue
        for node in ast.walk(tree):
            reads = (
                isinstance(node, ast.Attribute)
                and node.attr in ("environ", "environb", "getenv", "getenvb")
                and isinstance(node.value, ast.Name)
                and node.value.id == "os"
            ) or (
                isinstance(node, ast.ImportFrom)
                and node.module == "os"
                and any(alias.name in ("environ", "getenv") for alias in node.names)
            )
            if reads:
                wrong.append(f"otelbridge.{name}:{node.lineno}")
    assert wrong == []


def test_only_semconv_spells_attribute_keys():
    """A key is written once; the pattern tables of policy.py are the exception."""
    wrong = []
    for name, tree in modules().items():
        if name in ("semconv", "policy", "dialects", "dialect_table", "masks", "langfuse_policy"):
            continue
        docstrings = {
            id(node.value) for node in ast.walk(tree)
            if isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant)
        }  # fmt: skip
        wrong += [
            f"otelbridge.{name}:{node.lineno} spells {node.value[:60]!r}"
            for node in ast.walk(tree)
            if isinstance(node, ast.Constant)
            and isinstance(node.value, str)
            and id(node) not in docstrings
            and ATTRIBUTE_KEY.match(node.value)
        ]
    assert wrong == []


def test_every_module_opens_with_its_job():
    """A module says what it is for before anything else."""
    missing = [f"otelbridge.{name}" for name, tree in modules().items() if tree.body
               and not ast.get_docstring(tree)]  # fmt: skip
    assert missing == []


def test_every_test_says_the_behaviour_it_holds():
    """A test without a sentence is a puzzle for whoever breaks it."""
    missing = [
        f"{path.relative_to(ROOT)}:{node.lineno} {node.name}"
        for path in sorted((ROOT / "tests").rglob("test_*.py"))
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)
        and node.name.startswith("test_")
        and not ast.get_docstring(node)
    ]
    assert missing == []


def test_the_table_catches_an_upward_and_a_crossing_import():
    """The rules themselves: what must be refused is refused."""
    assert not allowed("semconv", "settings")
    assert not allowed("processors.llm_view", "provider")
    assert not allowed("exporters.otlp", "genai.spans")
    assert not allowed("local.store.database", "local.tempo_api")
    assert allowed("provider", "exporters.otlp")
    assert allowed("genai.calls", "genai.stream")
    assert allowed("settings", "env")
    with pytest.raises(AssertionError, match="has no level"):
        level_of("newcomer")
