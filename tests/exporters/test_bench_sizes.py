"""The delivery benchmarks at a small size: what they promise holds, with room for slow machines."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor

import pytest

from benchmarks import burst, exit_time, handler_latency, outage, soak, spool_faults

pytestmark = [
    pytest.mark.e2e,
    pytest.mark.timeout(180),
    pytest.mark.skipif(not sys.platform.startswith("linux"), reason="they look at /proc"),
]
#: They mostly wait, so they do it together.
OUTAGES = ("refused", "429", "413_limit", "401", "bad_span")


@pytest.fixture(scope="module")
def pool() -> Iterator[ThreadPoolExecutor]:
    with ThreadPoolExecutor(4) as made:
        yield made


@pytest.fixture(scope="module")
def outages(pool: ThreadPoolExecutor) -> Future[list[outage.Result]]:
    return pool.submit(outage.measure, OUTAGES, outage.CI, stock=(), jobs=len(OUTAGES))


@pytest.fixture(scope="module")
def soaked(pool: ThreadPoolExecutor) -> Future[soak.Result]:
    return pool.submit(soak.run, 9, rate=100, cycle_seconds=4.5, environment=outage.CI.environment)


def test_the_end_of_a_program_is_quick_and_loses_nothing(
    outages: Future[list[outage.Result]], soaked: Future[soak.Result]
) -> None:
    """With a dead endpoint a program ends in seconds (the SDK: 30), the next start delivers all."""
    figures = exit_time.measure(("silent", "dns"), exit_time.CI_ENDS, (100,), stock=False, jobs=2)
    ends = [(one["end"], one["status"]) for one in figures["exits"]]
    assert sorted(ends) == [("normal", 0)] * 2 + [("sigterm", -15)] * 2
    assert figures["p100_seconds"]["otelbridge"] <= 5 * exit_time.BAR_SECONDS
    made = [outcome["made"] for outcome in figures["delivered_by_the_next_start"].values()]
    assert made == [200, 200]
    assert (figures["lost"], figures["duplicates"]) == (0, 0)


def test_outages_lose_nothing(outages: Future[list[outage.Result]]) -> None:
    """Every span arrives once after an outage; what is refused by rule is counted to the span."""
    results = outages.result()
    assert {result.kind for result in results} == set(OUTAGES)
    assert [result for result in results if not result.is_good] == []


def test_a_soak_grows_nothing(soaked: Future[soak.Result]) -> None:
    """Through outages: no more files or threads, an empty spool in the end, all spans once."""
    result = soaked.result()
    assert result.is_good, result
    assert result.outages == 2
    assert result.spool_highest_bytes > 0 == result.spool_last_bytes
    assert result.rss_grown_mib < 20


def test_a_spool_that_cannot_be_used_is_no_harm() -> None:
    """No directory, a full disk, damaged segments: one warning, and what memory holds arrives."""
    results = spool_faults.measure()
    assert [result for result in results if not result.is_good] == []
    assert next(result.lost for result in results if result.case == "damaged") > 0


def test_a_burst_stays_in_its_memory_and_is_accounted_for() -> None:
    """100 MB of spans at once: memory is bounded, each span is somewhere, LLM spans go last."""
    result = burst.run("silent", 5000, 20_000, catch_up_seconds=30)
    assert result.is_good, result
    assert result.made == 5000


def test_a_dead_endpoint_is_not_in_the_way_of_requests() -> None:
    """A handler's median is about the same with an endpoint that never answers; no more threads."""
    results = handler_latency.measure(1.0, 100, modes=("silent",))
    base, dead = results[handler_latency.NONE], results["silent"]
    assert base.requests == dead.requests == 100
    assert dead.p50_ms <= 2 * base.p50_ms + 10
    assert dead.threads_after <= dead.threads_before
