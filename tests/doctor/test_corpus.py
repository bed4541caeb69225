"""The corpus against the real `otelbridge doctor --json`: causes named, fixes work, no false alarm.

The servers are real where that is quick (the Collector, `otelbridge local`) and named stand-ins
elsewhere (`servers`). A broken set-up counts as named when the report has the cause's own code
as a warning or error, and no other error. The issue asks for 38 of 40; all are held here.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from otelbridge.collector import find_collector
from otelbridge.doctor.table import BY_CODE
from tests.doctor.cases import Case, through
from tests.doctor.corpus import BROKEN
from tests.doctor.driving import Report, as_child, environment, in_process
from tests.doctor.good import GOOD_ONES
from tests.doctor.held_out import HELD_OUT
from tests.doctor.servers import World

_BINARY_VARIABLE = os.environ.get("OTELBRIDGE_COLLECTOR_BINARY")  # read before it is scrubbed
_SECRETS = ("sk-lf-local", "sk-lf-of-another-project", "corpus-bearer-token")
#: Some of each kind are also run as a process of their own: start-up, packages, exit status.
_CHILDREN = (
    "base-url-with-path",
    "raw-keys-in-header",
    "collector-has-wrong-keys",
    "litellm-callback",
    "second-instrumentation",
)


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    """The servers of the corpus, started as cases name them."""
    with ExitStack() as stack:
        binary = find_collector(binary=_BINARY_VARIABLE)
        yield World(tmp_path_factory.mktemp("world"), binary, stack)


def _assert_named(case: Case, report: Report) -> None:
    named = set(case.codes) & set(report.codes("warning", "error"))
    others = set(report.codes("error")) - set(case.codes)
    assert named, f"{case.wrong}: none of {case.codes} in\n{report.shown()}"
    assert not others, f"{case.wrong}: more errors than the cause:\n{report.shown()}"
    assert report.status == 1


def _assert_fixed(case: Case, report: Report) -> None:
    left = set(case.codes) & set(report.codes("warning", "error"))
    assert report.status == 0 or not left, f"after the fix:\n{report.shown()}"


@pytest.mark.parametrize("case", [*BROKEN, *HELD_OUT], ids=lambda case: case.id)
def test_broken_set_up_is_named_and_its_fix_works(case: Case, world: World, tmp_path: Path) -> None:
    """The cause is named with its own code and no other error; after the fix the code is gone."""
    report = in_process(environment(world, case.changes), case, tmp_path, fixed=False)
    _assert_named(case, report)
    fixed = in_process(environment(world, case.changes, case.fix), case, tmp_path, fixed=True)
    _assert_fixed(case, fixed)
    for shown in (str(report.findings), str(fixed.findings)):
        assert not [secret for secret in _SECRETS if secret in shown], "a secret was shown"


@pytest.mark.parametrize("case", GOOD_ONES, ids=lambda case: case.id)
def test_good_set_up_raises_no_alarm(case: Case, world: World, tmp_path: Path) -> None:
    """No warning, no error, exit status 0; and the canary came back wherever it could be read."""
    report = in_process(environment(world, case.changes), case, tmp_path, fixed=False)
    assert report.codes("warning", "error") == [], report.shown()
    assert report.status == 0
    assert "canary-good" in report.codes("ok"), report.shown()


@pytest.mark.parametrize("name", _CHILDREN)
def test_command_names_the_cause_as_a_process(name: str, world: World, tmp_path: Path) -> None:
    """`python -m otelbridge doctor --json` ends with status 1 and the same code."""
    case = next(case for case in BROKEN if case.id == name)
    report = as_child(environment(world, case.changes), case, tmp_path, fixed=False)
    _assert_named(case, report)


@pytest.mark.parametrize("name", ["collector", "direct", "litellm-beside"])
def test_command_leaves_good_set_ups_alone_as_a_process(
    name: str, world: World, tmp_path: Path
) -> None:
    """The command ends with status 0 in a process of its own as well."""
    case = next(case for case in GOOD_ONES if case.id == name)
    report = as_child(environment(world, case.changes), case, tmp_path, fixed=False)
    assert report.status == 0, report.shown()


def test_pages_of_the_collector_are_read(world: World, tmp_path: Path) -> None:
    """With the zpages overlay a branch without its processors is named before any span passed."""
    variables = environment(world, through("collector_zpages"))
    variables["OTELBRIDGE_COLLECTOR_ZPAGES_ENDPOINT"] = world.zpages
    case = Case("zpages", "", {}, (), arguments=("--only", "collector"))
    report = in_process(variables, case, tmp_path, fixed=False)
    assert report.codes("warning", "error") == ["collector-branch-changed"], report.shown()


def test_corpus_is_what_it_says() -> None:
    """40 broken and 20 good set-ups, no id twice, every expected code explained in the table."""
    assert (len(BROKEN), len(GOOD_ONES), len(HELD_OUT)) == (40, 20, 24)
    ids = [case.id for case in (*BROKEN, *HELD_OUT, *GOOD_ONES)]
    assert len(set(ids)) == len(ids)
    assert {code for case in (*BROKEN, *HELD_OUT) for code in case.codes} <= set(BY_CODE)
    unfixable = [c.id for c in BROKEN if not (c.fix or c.fixed_files or c.packages)]
    assert unfixable == []
