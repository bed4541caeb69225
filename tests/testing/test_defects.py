"""Tests of five lines with the `traces` fixture, against services with a seeded defect each."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from tests.testing.defects import DEFECTS, TEST


def outcomes(suite_in: Any, directory: Path, *, right: bool) -> Any:
    files = {f"app_{name}.py": each.app(right=right) for name, each in DEFECTS.items()}
    for name, each in DEFECTS.items():
        files[f"test_{name}.py"] = TEST.format(name=name, assertion=each.assertion)
    return suite_in(directory, files)


@pytest.fixture(scope="module")
def wrong(tmp_path_factory: pytest.TempPathFactory, suite_in: Any) -> Any:
    """The run over the services with defects."""
    return outcomes(suite_in, tmp_path_factory.mktemp("wrong"), right=False)


@pytest.fixture(scope="module")
def right(tmp_path_factory: pytest.TempPathFactory, suite_in: Any) -> Any:
    """The run over their correct twins."""
    return outcomes(suite_in, tmp_path_factory.mktemp("right"), right=True)


@pytest.mark.parametrize("name", DEFECTS)
def test_five_lines_find_the_defect(wrong, name):
    """The test fails on the defect, and its message says what is wrong and shows the tree."""
    assert len(TEST.splitlines()) <= 5
    assert wrong.tests.get(f"test_{name}") == "failure", wrong.output
    text = wrong.failures[f"test_{name}"] + wrong.output
    assert DEFECTS[name].finding in text
    assert "POST /ask" in text


@pytest.mark.parametrize("name", DEFECTS)
def test_the_same_lines_pass_on_the_correct_twin(right, name):
    """The test passes on the twin of the service, which differs in the defect only."""
    assert right.tests.get(f"test_{name}") == "passed", right.output


def test_the_defects_are_a_dozen_or_more():
    """Twelve kinds of defect at least, each with a test of its own."""
    assert len(DEFECTS) >= 12
    assert len({each.body + each.wrong for each in DEFECTS.values()}) == len(DEFECTS)
