"""Whether groups of measurements differ by more than chance: means, intervals, tests, by SciPy.

Pure. A sample is what one trace, user or dataset item gave: metric to number. Two ways to compare:
independent groups (variants of an experiment) and pairs (two runs over the same items). Needs the
`experiments` extra. What a metric is, and where it comes from, is `reports`' matter.
"""

from __future__ import annotations

import math
import warnings
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from types import ModuleType
from typing import Any, Final

from otelbridge.errors import DependencyError

#: Metrics where less is better; scores are taken as better when higher unless the caller says so.
LOWER_IS_BETTER: Final = ("cost_usd", "latency_seconds", "error")
CONFIDENCE: Final = 0.95

Sample = Mapping[str, float]


@dataclass(frozen=True, slots=True)
class Group:
    """One metric in one group.

    Attributes:
        low, high: Confidence interval of the mean; None where there are too few values.
    """

    name: str
    count: int
    mean: float
    low: float | None = None
    high: float | None = None


@dataclass(frozen=True, slots=True)
class Difference:
    """One metric of one group against the baseline.

    Attributes:
        difference: Mean of the group minus mean of the baseline; over pairs, the mean difference.
        low, high: Its confidence interval (Welch's, or that of the pairs).
        p: Of the test; None where it cannot be made.
        p_adjusted: For all comparisons of the report together (Benjamini and Hochberg).
        test: `Welch's t`, `Fisher's exact` or `paired t`.
    """

    metric: str
    group: str
    baseline: str
    difference: float
    low: float | None
    high: float | None
    p: float | None
    p_adjusted: float | None
    test: str


def groups_of(samples: Mapping[str, Sequence[Sample]], metric: str) -> list[Group]:
    """Each group's mean of a metric with its interval, groups without a value left out."""
    found = []
    for name, members in samples.items():
        if values := values_of(members, metric):
            low, high = _interval(values)
            found.append(Group(name, len(values), _mean(values), low, high))
    return found


def metrics_of(samples: Mapping[str, Sequence[Sample]]) -> list[str]:
    """Every metric that a sample has: cost, latency, errors first, then scores by name."""
    names = {metric for members in samples.values() for sample in members for metric in sample}
    return [one for one in LOWER_IS_BETTER if one in names] + sorted(names - set(LOWER_IS_BETTER))


def independent(
    metric: str, baseline: str, group: str, first: Sequence[float], second: Sequence[float]
) -> Difference:
    """Two independent groups: Welch's t-test, or Fisher's exact test where all values are 0 or 1.

    Args:
        first: Values of the baseline.
        second: Values of the group.
    """
    stats = _scipy()
    low = high = p = None
    test = "Welch's t"
    if len(first) > 1 and len(second) > 1:
        result = _quiet(stats.ttest_ind, second, first, equal_var=False)
        p = _finite(result.pvalue)
        interval = result.confidence_interval(CONFIDENCE)
        low, high = _finite(interval.low), _finite(interval.high)
    if first and second and _is_binary((*first, *second)):
        test = "Fisher's exact"
        yes = [int(sum(second)), int(sum(first))]
        table = [[yes[0], len(second) - yes[0]], [yes[1], len(first) - yes[1]]]
        p = _finite(stats.fisher_exact(table).pvalue)
    elif p is None and first and second and {*first} == {*second} and len({*first}) == 1:
        p = 1.0  # constant and equal: no variance to test with, and nothing to explain
    difference = _mean(second) - _mean(first)
    return Difference(metric, group, baseline, difference, low, high, p, None, test)


def paired(
    metric: str, baseline: str, group: str, pairs: Sequence[tuple[float, float]]
) -> Difference:
    """Two runs over the same items: the t-test of the differences.

    Args:
        pairs: Baseline's value, group's value.
    """
    stats = _scipy()
    changes = [after - before for before, after in pairs]
    low = high = p = None
    if len(set(changes)) == 1:
        p = 1.0 if changes[0] == 0 else None
    elif len(changes) > 1:
        result = _quiet(stats.ttest_1samp, changes, 0.0)
        p = _finite(result.pvalue)
        interval = result.confidence_interval(CONFIDENCE)
        low, high = _finite(interval.low), _finite(interval.high)
    mean = _mean(changes)
    return Difference(metric, group, baseline, mean, low, high, p, None, "paired t")


def adjusted(differences: Iterable[Difference]) -> list[Difference]:
    """The same with p-values for all comparisons together."""
    found = list(differences)
    tested = [one.p for one in found if one.p is not None]
    if not tested:
        return found
    corrected = iter(_scipy().false_discovery_control(tested))
    return [
        one if one.p is None else replace(one, p_adjusted=float(next(corrected))) for one in found
    ]


def values_of(members: Iterable[Sample], metric: str) -> list[float]:
    """The values of a metric, in order."""
    return [float(sample[metric]) for sample in members if metric in sample]


def _interval(values: Sequence[float]) -> tuple[float | None, float | None]:
    """The confidence interval of a mean: Student's, Wilson's for shares."""
    stats = _scipy()
    if _is_binary(values):
        share = stats.binomtest(int(sum(values)), len(values))
        bounds = share.proportion_ci(CONFIDENCE, method="wilson")
    elif len(values) > 1 and len(set(values)) > 1:
        bounds = _quiet(stats.ttest_1samp, values, 0.0).confidence_interval(CONFIDENCE)
    else:
        return None, None
    return _finite(bounds.low), _finite(bounds.high)


def _is_binary(values: Iterable[float]) -> bool:
    return all(value in (0.0, 1.0) for value in values)


def _mean(values: Sequence[float]) -> float:
    return math.fsum(values) / len(values) if values else math.nan


def _finite(number: Any) -> float | None:
    value = float(number)
    return value if math.isfinite(value) else None


def _quiet(test: Any, *values: Any, **options: Any) -> Any:
    """SciPy warns of nearly equal values; the interval says the same."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return test(*values, **options)


def _scipy() -> ModuleType:
    try:
        from scipy import stats  # type: ignore[import-untyped]  # ships no types
    except ImportError as error:
        raise DependencyError(
            "Comparing experiments needs SciPy. Install it with: "
            "pip install 'otelbridge[experiments]'"
        ) from error
    module: ModuleType = stats
    return module
