"""The fixture `traces` of this checkout, and suites that run in a pytest of their own."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from xml.etree import ElementTree

import pytest

from otelbridge.testing.capture import capturing
from otelbridge.testing.traces import Traces

ROOT = Path(__file__).parents[2]
#: The plugin of this checkout, whether or not the installed otelbridge has an entry point for it.
PLUGIN = ("-p", "no:otelbridge", "-p", "otelbridge.testing.plugin")


@dataclass(frozen=True)
class Outcome:
    """What a run of pytest did: outcome and failure text of each test by name, and all output."""

    tests: dict[str, str]
    failures: dict[str, str]
    output: str
    status: int


@pytest.fixture
def traces() -> Iterator[Traces]:
    """The fixture as the plugin gives it."""
    with capturing() as recorder:
        found = Traces(recorder)
        yield found
        found.close()


def run_suite(
    directory: Path, files: Mapping[str, str], *arguments: str, env: Mapping[str, str] | None = None
) -> Outcome:
    """Write the files and run pytest on them in a process of its own, warnings as errors."""
    for name, text in files.items():
        (directory / name).write_text(text, encoding="utf-8")
    (directory / "pytest.ini").write_text("[pytest]\npythonpath = .\n", encoding="utf-8")
    report = directory / "report.xml"
    scrubbed = ("OTEL", "LANGFUSE", "PYTEST")
    clean = {name: text for name, text in os.environ.items() if not name.startswith(scrubbed)}
    done = subprocess.run(
        [sys.executable, "-m", "pytest", *PLUGIN, "-W", "error", "-p", "no:cacheprovider",
         f"--junitxml={report}", *arguments],
        cwd=directory, capture_output=True, text=True, timeout=55, check=False,
        env={**clean, "PYTHONPATH": str(ROOT), **(env or {})},
    )  # fmt: skip
    tests, failures = {}, {}
    cases = ElementTree.parse(report).getroot().iter("testcase") if report.exists() else ()
    for case in cases:
        name = str(case.get("name"))
        problem = next((e for e in case if e.tag in ("failure", "error", "skipped")), None)
        tests[name] = "passed" if problem is None else problem.tag
        if problem is not None:
            failures[name] = f"{problem.get('message')}\n{problem.text}"
    return Outcome(tests, failures, done.stdout + done.stderr, done.returncode)


@pytest.fixture(scope="session")
def suite_in() -> Callable[..., Outcome]:
    """`run_suite`, for fixtures that are wider than a test."""
    return run_suite


@pytest.fixture
def suite(tmp_path: Path) -> Callable[..., Outcome]:
    """`suite({"test_x.py": "..."}, *arguments, env=None)` runs pytest and gives its outcome."""

    def run(
        files: Mapping[str, str], *arguments: str, env: Mapping[str, str] | None = None
    ) -> Outcome:
        return run_suite(tmp_path, files, *arguments, env=env)

    return run
