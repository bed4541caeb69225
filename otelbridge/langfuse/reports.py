"""Reports: the variants of an experiment side by side, or one run over a dataset against another.

Puts `experiment_data` and `runs` through `comparison` and says what got worse. A drop is a matter
of means: `max_drop` compares them, the p-value beside says how far chance could explain it. Printed
by `otelbridge experiment report`.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any, Final

from otelbridge.errors import OtelbridgeError
from otelbridge.langfuse.comparison import (
    LOWER_IS_BETTER,
    Difference,
    Group,
    adjusted,
    groups_of,
    independent,
    metrics_of,
    paired,
    values_of,
)
from otelbridge.langfuse.experiment_data import Measured
from otelbridge.langfuse.runs import Run

UNITS: Final = ("trace", "user", "session")
#: Prefix of scores among the metrics.
SCORE: Final = "score:"
_ERROR: Final = "error"


class NothingToCompareError(OtelbridgeError):
    """There are no two groups with samples."""


@dataclass(frozen=True, slots=True)
class Drop:
    """How far a mean may get worse: absolute, or as a share of the baseline's mean.

    Attributes:
        amount: From 0; for `relative` 0.05 is five per cent.
    """

    amount: float
    relative: bool = False

    @classmethod
    def parse(cls, text: str) -> Drop:
        """`0.05`, or `5%`.

        Raises:
            ValueError: neither, or below 0.
        """
        number = text.strip()
        relative = number.endswith("%")
        amount = float(number.removesuffix("%")) / (100 if relative else 1)
        if not 0 <= amount < float("inf"):
            raise ValueError(text)
        return cls(amount, relative)

    def allows(self, worsening: float, baseline_mean: float) -> bool:
        """Whether a mean that got worse by this much may pass."""
        limit = self.amount * abs(baseline_mean) if self.relative else self.amount
        return worsening <= limit + 1e-12  # 0.8 - 0.75 is more than 0.05 in binary


@dataclass(frozen=True, slots=True)
class Report:
    """A finished comparison.

    Attributes:
        counts: Group to how many samples it has.
        groups: Metric to its groups, the baseline first.
        regressions: One sentence each; empty when nothing got worse than allowed.
        notes: What a reader must know before believing the figures.
    """

    name: str
    unit: str
    baseline: str
    counts: Mapping[str, int]
    groups: Mapping[str, Sequence[Group]]
    differences: Sequence[Difference]
    regressions: Sequence[str] = ()
    notes: Sequence[str] = field(default=())


def experiment_report(
    name: str,
    measured: Sequence[Measured],
    *,
    unit: str = "trace",
    control: str | None = None,
    max_drop: Drop | None = None,
    lower_is_better: Collection[str] = (),
) -> Report:
    """The variants of an experiment against one of them.

    Args:
        unit: `user` and `session` take the mean of each first: traces of one user are no
            independent samples when the variant is the user's.
        control: The baseline; the first variant by name by default.
        lower_is_better: Scores where a rise is a drop.
    Raises:
        NothingToCompareError: No traces, one variant only, no such control.
    """
    samples, left_out = _units(measured, unit)
    baseline = control or (min(samples) if samples else "")
    if not samples:
        raise NothingToCompareError(
            f"No trace names a variant of {name!r} in this time. Traces appear some seconds after "
            f"their end; --from and --to choose another time."
        )
    if baseline not in samples or len(samples) < 2:
        found = ", ".join(sorted(samples))
        raise NothingToCompareError(
            f"A comparison needs {baseline!r} and another variant; found: {found}"
        )
    ordered = {baseline: samples[baseline], **dict(sorted(samples.items()))}
    metrics = metrics_of(ordered)
    differences = adjusted(
        independent(metric, baseline, other, values_of(ordered[baseline], metric), second)
        for metric in metrics
        for other in ordered
        if other != baseline and values_of(ordered[baseline], metric)
        if (second := values_of(ordered[other], metric))
    )
    groups = {metric: groups_of(ordered, metric) for metric in metrics}
    notes = []
    if left_out:
        notes.append(f"{left_out} traces have no {unit} or no variant and are left out.")
    if unit == "trace":
        notes.append(
            "Each trace counts as a sample of its own; with variants that stick to users, "
            "--unit user gives honest intervals."
        )
    regressions = _regressions(groups, differences, baseline, max_drop, set(lower_is_better))
    counts = {group: len(members) for group, members in ordered.items()}
    return Report(name, unit, baseline, counts, groups, differences, regressions, notes)


def run_report(
    run: Run,
    against: Run,
    *,
    max_drop: Drop | None = None,
    lower_is_better: Collection[str] = (),
) -> Report:
    """A run over a dataset against an earlier one, item by item.

    An item that failed has no scores: its failure counts as `error`, and a score that only the
    baseline has is a regression.

    Raises:
        NothingToCompareError: The runs share no item.
    """
    before, after = against.samples(), run.samples()
    shared = sorted(before.keys() & after.keys())
    if not shared:
        raise NothingToCompareError(f"The runs {run.name!r} and {against.name!r} share no item.")
    samples = {
        against.name: [before[item] for item in shared],
        run.name: [after[item] for item in shared],
    }
    groups: dict[str, list[Group]] = {}
    differences: list[Difference] = []
    for metric in metrics_of(samples):
        pairs = [
            (before[item][metric], after[item][metric])
            for item in shared
            if metric in before[item] and metric in after[item]
        ]
        groups[metric] = groups_of(samples, metric)
        if pairs:
            differences.append(paired(metric, against.name, run.name, pairs))
    differences = adjusted(differences)
    regressions = _regressions(groups, differences, against.name, max_drop, set(lower_is_better))
    alone = (len(before) - len(shared), len(after) - len(shared))
    notes = []
    if any(alone):
        notes.append(
            f"{alone[0]} items are in {against.name!r} only, {alone[1]} in {run.name!r} only; "
            f"they are left out."
        )
    counts = {against.name: len(shared), run.name: len(shared)}
    return Report(run.name, "item", against.name, counts, groups, differences, regressions, notes)


def _units(
    measured: Sequence[Measured], unit: str
) -> tuple[dict[str, list[dict[str, float]]], int]:
    """Variant to its samples, and how many traces belong to none."""
    if unit not in UNITS:
        raise OtelbridgeError(f"unit is one of {', '.join(UNITS)}, not {unit!r}")
    together: dict[tuple[str, str], list[Measured]] = {}
    left_out = 0
    for one in measured:
        key = {"trace": one.trace_id, "user": one.user_id, "session": one.session_id}[unit]
        if key and one.variant:
            together.setdefault((one.variant, key), []).append(one)
        else:
            left_out += 1
    samples: dict[str, list[dict[str, float]]] = {}
    for (variant, _), members in together.items():
        values: dict[str, list[float]] = {}
        for member in members:
            for metric, value in member.values.items():
                values.setdefault(metric, []).append(value)
        means = {metric: sum(found) / len(found) for metric, found in values.items()}
        samples.setdefault(variant, []).append(means)
    return samples, left_out


def _regressions(
    groups: Mapping[str, Sequence[Group]],
    differences: Sequence[Difference],
    baseline: str,
    max_drop: Drop | None,
    lower_is_better: set[str],
) -> list[str]:
    """Scores and errors that got worse by more than allowed, or are missing."""
    if max_drop is None:
        return []
    lower = {*LOWER_IS_BETTER, *(f"{SCORE}{name}" for name in lower_is_better)}
    found = []
    for one in differences:
        if not (one.metric.startswith(SCORE) or one.metric == _ERROR):
            continue
        worsening = one.difference if one.metric in lower else -one.difference
        means = {group.name: group.mean for group in groups[one.metric]}
        if not max_drop.allows(worsening, means[baseline]):
            found.append(
                f"{one.metric}: {one.group} is {worsening:.4g} worse than {baseline} "
                f"({means[baseline]:.4g} to {means[baseline] + one.difference:.4g})"
            )
    compared = {(one.metric, one.group) for one in differences}
    for metric, of_metric in groups.items():
        names = [group.name for group in of_metric]
        if metric.startswith(SCORE) and baseline in names:
            others = {one.group for one in differences}
            missing = sorted(other for other in others if (metric, other) not in compared)
            found += [f"{metric}: {baseline} has it, {other} does not" for other in missing]
    return found


def as_json(report: Report) -> dict[str, Any]:
    """The report as plain values."""
    return asdict(report)
