"""Every case, run natively (part of `make test`) or against the containers (`make e2e`).

The facts of a case are also turned one by one into wrong ones: each has to be noticed, in the
evidence of the run that was just found good.
"""

from __future__ import annotations

from dataclasses import replace

import httpx
import pytest

from tests.stack import casefile, reading
from tests.stack.backends import Backend
from tests.stack.casefile import Case
from tests.stack.judging import judge
from tests.stack.reading import Evidence
from tests.stack.seeding import wrong_ones

CASES = casefile.names()


def run(backend: Backend, client: httpx.Client, case: Case) -> Evidence:
    """The evidence of a case that holds; fails with all findings of one that does not."""
    driven = reading.drive(backend, client, case)
    if case.expects_absence:
        reading.fence(backend, client, backend.within_seconds)

    def findings(seen: Evidence) -> list[str]:
        return judge(case, seen, backend, opened=False)

    seen = reading.poll(backend, client, case, driven, findings)
    wrong = judge(case, seen, backend)
    assert not wrong, f"{case.about}\n" + "\n".join(wrong)
    return seen


@pytest.mark.collector
@pytest.mark.e2e
@pytest.mark.timeout(120)
@pytest.mark.parametrize("name", CASES)
def test_case_holds_natively(name: str, native: Backend, client: httpx.Client) -> None:
    """The case's facts hold with processes of this machine, and a change to any is noticed."""
    case = casefile.load(name)
    seen = run(native, client, case)
    unnoticed = [
        where for where, wrong in wrong_ones(case, native, seen) if not judge(wrong, seen, native)
    ]
    assert not unnoticed


@pytest.mark.collector
@pytest.mark.e2e
@pytest.mark.timeout(120)
def test_case_that_does_not_hold_fails_with_what_was_found(
    native: Backend, client: httpx.Client
) -> None:
    """A case that expects two model calls where one is made fails and says so."""
    case = casefile.load("plain_chat")
    wrong = replace(case, traceql=({**case.traceql[0], "spans": 2},))
    hurried = replace(native, within_seconds=1.0)
    with pytest.raises(AssertionError, match="the number of spans is 1, not 2"):
        run(hurried, client, wrong)


@pytest.mark.e2e_stack
@pytest.mark.timeout(400)
@pytest.mark.parametrize("name", CASES)
def test_case_holds_in_containers(name: str, compose: Backend, client: httpx.Client) -> None:
    """The case's facts hold with the containers of docker-compose.yml."""
    run(compose, client, casefile.load(name))
