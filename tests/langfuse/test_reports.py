"""Reports: the statistics against computed examples, the readers against stand-ins, exit codes."""

from __future__ import annotations

import json
import random
import sys
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from otelbridge.cli import main
from otelbridge.errors import DependencyError, OtelbridgeError
from otelbridge.langfuse import active, comparison
from otelbridge.langfuse.client import LangfuseApi
from otelbridge.langfuse.comparison import adjusted, groups_of, independent, paired
from otelbridge.langfuse.experiment_data import Measured, from_langfuse, from_tempo
from otelbridge.langfuse.experiments import Variant
from otelbridge.langfuse.reports import (
    Drop,
    NothingToCompareError,
    experiment_report,
    run_report,
)
from otelbridge.langfuse.runs import Run, RunItem
from otelbridge.langfuse.runs import from_langfuse as run_from_langfuse
from otelbridge.langfuse.scores import score
from otelbridge.settings import Settings
from tests.langfuse.stand_in import StandIn

NOW = datetime(2026, 11, 21, 12, tzinfo=UTC)
HOUR = timedelta(hours=1)


# -- statistics ------------------------------------------------------------------------------------
#: Student's data of 1908: hours of sleep won by ten patients with each of two drugs.
SLEEP = (
    [0.7, -1.6, -0.2, -1.2, -0.1, 3.4, 3.7, 0.8, 0.0, 2.0],
    [1.9, 0.8, 1.1, 0.1, -0.1, 4.4, 5.5, 1.6, 4.6, 3.4],
)


def test_the_tests_give_the_published_figures() -> None:
    """R's documented results for Student's sleep data: Welch p = 0.07939, paired p = 0.002833."""
    apart = independent("score:x", "A", "B", *SLEEP)
    assert (apart.test, apart.p) == ("Welch's t", pytest.approx(0.07939, abs=1e-5))
    assert (apart.low, apart.high) == (pytest.approx(-0.2054832), pytest.approx(3.3654832))
    together = paired("score:x", "A", "B", list(zip(*SLEEP, strict=True)))
    assert (together.test, together.p) == ("paired t", pytest.approx(0.002833, abs=1e-6))
    assert (together.low, together.high) == (pytest.approx(0.7001142), pytest.approx(2.4598858))
    assert together.difference == apart.difference == pytest.approx(1.58)


def test_shares_are_tested_by_fisher_with_wilsons_interval() -> None:
    """The lady tasting tea (3 of 4 against 1 of 4): p = 0.486; Wilson's interval of 1 in 10."""
    found = independent("error", "A", "B", [1.0, 0.0, 0.0, 0.0], [1.0, 1.0, 1.0, 0.0])
    assert (found.test, found.p) == ("Fisher's exact", pytest.approx(34 / 70))
    (group,) = groups_of({"A": [{"error": 1.0}] + [{"error": 0.0}] * 9}, "error")
    assert (group.low, group.high) == (
        pytest.approx(0.01787, abs=1e-4),
        pytest.approx(0.4042, abs=1e-4),
    )


def test_intervals_hold_as_often_as_they_say() -> None:
    """Over 400 drawn samples the 95 per cent interval holds the true mean in 92 to 98 of 100."""
    dice = random.Random(7)
    held = 0
    for _ in range(400):
        values = [{"m": dice.gauss(5, 2)} for _ in range(20)]
        (group,) = groups_of({"A": values}, "m")
        held += group.low <= 5 <= group.high  # type: ignore[operator]
    assert 0.92 <= held / 400 <= 0.98


def test_pairs_see_what_groups_cannot() -> None:
    """A small change on items that differ a lot is found item by item."""
    before = [float(n % 7) for n in range(40)]
    after = [value + 0.1 + 0.01 * (n % 3) for n, value in enumerate(before)]
    together = paired("m", "old", "new", list(zip(before, after, strict=True)))
    apart = independent("m", "old", "new", before, after)
    assert together.p is not None
    assert apart.p is not None
    assert together.p < 1e-6
    assert apart.p > 0.5


@pytest.mark.parametrize(
    ("first", "second"),
    [([1.0], [2.0]), ([0.5], [0.5]), ([0.5, 0.5], [0.5, 0.5]), ([3.0] * 5, [4.0])],
)
def test_too_few_or_equal_values_give_no_false_certainty(
    first: list[float], second: list[float]
) -> None:
    """No interval and no small p-value comes out of nothing."""
    for found in (
        independent("m", "A", "B", first, second),
        paired("m", "A", "B", list(zip(first, second, strict=False))),
    ):
        assert found.p is None or found.p > 0.3
        assert found.low is None or found.low == found.high == 0.0
    groups_of({"A": [{"m": value} for value in first]}, "m")


def test_many_comparisons_are_corrected() -> None:
    """20 comparisons of noise: p-values grow by the correction, none shrinks, None stays."""
    dice = random.Random(3)
    found = [
        independent("m", "A", "B", *([dice.random() for _ in range(9)] for _ in range(2)))
        for _ in range(20)
    ]
    found.append(independent("m", "A", "B", [1.0], [2.5]))
    corrected = adjusted(found)
    assert all(one.p_adjusted >= one.p for one in corrected[:-1])  # type: ignore[operator]
    assert corrected[-1].p_adjusted is None
    assert min(one.p_adjusted for one in corrected[:-1]) > 0.05  # type: ignore[type-var]


def test_without_scipy_the_extra_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    """The message says what to install."""
    monkeypatch.setitem(sys.modules, "scipy", None)
    with pytest.raises(DependencyError, match=r"otelbridge\[experiments\]"):
        comparison.groups_of({"A": [{"m": 1.0}, {"m": 2.0}]}, "m")


# -- reports ---------------------------------------------------------------------------------------
def measured(variant: str, count: int, **values: Callable[[int], float]) -> list[Measured]:
    return [
        Measured(
            f"{variant}{n:031x}", variant, f"user-{variant}-{n % 5}", "",
            {key.replace("__", ":"): value(n) for key, value in values.items()},
        )
        for n in range(count)
    ]  # fmt: skip


def test_variants_side_by_side() -> None:
    """The cheaper, worse variant: a difference in cost, a regression in the score."""
    found = [
        *measured("A", 50, cost_usd=lambda n: 0.02 + n / 1e4, score__q=lambda n: 0.8 + n % 2 / 10),
        *measured("B", 50, cost_usd=lambda n: 0.01 + n / 1e4, score__q=lambda n: 0.6 + n % 2 / 10),
    ]
    report = experiment_report("e", found, max_drop=Drop.parse("0.1"))
    assert (report.baseline, report.counts) == ("A", {"A": 50, "B": 50})
    cost, quality = report.differences
    assert (cost.metric, cost.difference) == ("cost_usd", pytest.approx(-0.01))
    assert quality.p_adjusted is not None
    assert quality.p_adjusted < 1e-6
    assert report.regressions == ["score:q: B is 0.2 worse than A (0.85 to 0.65)"]
    assert not experiment_report("e", found, max_drop=Drop.parse("0.2")).regressions
    assert not experiment_report("e", found, max_drop=Drop.parse("0.1"), control="B").regressions
    lower = experiment_report("e", found, max_drop=Drop(0.1), control="B", lower_is_better=["q"])
    assert len(lower.regressions) == 1


@pytest.mark.parametrize(("shift", "least", "most"), [(0.0, 0, 12), (0.5, 70, 80)])
def test_a_report_finds_what_is_there_and_little_else(shift: float, least: int, most: int) -> None:
    """Of 80 experiments without a difference 15 in 100 may show one; half a deviation is found."""
    dice, found = random.Random(5), 0
    for _ in range(80):
        drawn = [
            Measured(
                str(n), "AB"[n % 2], "", "",
                {"cost_usd": dice.expovariate(1), "score:q": dice.gauss(shift * (n % 2), 1)},
            )
            for n in range(200)
        ]  # fmt: skip
        differences = experiment_report("e", drawn).differences
        found += any((one.p_adjusted or 1.0) < 0.05 for one in differences)
    assert least <= found <= most


def test_users_are_the_samples_when_asked() -> None:
    """50 traces of 5 users are 5 samples; traces without a user are left out and counted."""
    found = [*measured("A", 50, m=float), *measured("B", 50, m=float), Measured("c" * 32, "A")]
    report = experiment_report("e", found, unit="user")
    assert report.counts == {"A": 5, "B": 5}
    assert any(note.startswith("1 traces have no user") for note in report.notes)


def test_nothing_to_compare_is_said() -> None:
    """No traces, one variant, an unknown control."""
    one, two = measured("A", 3, m=float), measured("B", 3, m=float)
    for found, control in (([], None), (one, None), (one + two, "C")):
        with pytest.raises(NothingToCompareError):
            experiment_report("e", found, control=control)


def run_of(name: str, scores: dict[str, float | None]) -> Run:
    items = [
        RunItem(item, error="" if value is not None else "ValueError: x",
                scores={} if value is None else {"exact": value})
        for item, value in scores.items()
    ]  # fmt: skip
    return Run(name, "sums", items)


@pytest.mark.parametrize(
    ("after", "drop", "regressions"),
    [
        ({"a": 1.0, "b": 0.9, "c": 0.8}, "0.05", 0),
        ({"a": 0.9, "b": 0.85, "c": 0.8}, "0.05", 0),
        ({"a": 0.8, "b": 0.8, "c": 0.8}, "0.05", 1),
        ({"a": 0.8, "b": 0.8, "c": 0.8}, "15%", 0),
        ({"a": 1.0, "b": 1.0, "c": None}, "0.05", 1),
        ({"a": None, "b": None, "c": None}, "0.05", 2),
        ({"a": 0.9, "x": 0.0}, "0.2", 0),
    ],
)
def test_a_run_against_an_earlier_one(
    after: dict[str, float | None], drop: str, regressions: int
) -> None:
    """Means over shared items; failed items and missing scores count against the new run."""
    before = run_of("old", {"a": 1.0, "b": 0.9, "c": 0.8})
    report = run_report(run_of("new", after), before, max_drop=Drop.parse(drop))
    assert len(report.regressions) == regressions, report.regressions


@pytest.mark.parametrize("text", ["-1", "much", "nan", "inf%", ""])
def test_a_drop_is_a_number_or_a_share(text: str) -> None:
    """Anything else is usage."""
    with pytest.raises(ValueError):  # noqa: PT011 - argparse wants this class
        Drop.parse(text)


# -- reading ---------------------------------------------------------------------------------------
def observations(count: int = 120) -> Iterator[dict[str, Any]]:
    """Two spans a trace: a root and its model call; A costs twice as much as B."""
    for n in range(count):
        variant = Variant("checkout", "AB"[n % 2])
        start = NOW - timedelta(minutes=30) + timedelta(seconds=n)
        common = {
            "traceId": f"{n:032x}", "projectId": "p", "userId": f"u{n % 10}", "sessionId": None,
            "tags": variant.tags, "metadata": variant.metadata, "latency": 2.0,
        }  # fmt: skip
        yield {
            **common, "id": f"{n:016x}", "type": "SPAN", "isRootObservation": True,
            "startTime": text(start), "endTime": text(start + timedelta(seconds=2)),
            "level": "ERROR" if n % 20 == 0 else "DEFAULT",
        }  # fmt: skip
        yield {
            **common, "id": f"{n:015x}f", "type": "GENERATION", "isRootObservation": False,
            "startTime": text(start), "endTime": text(start + timedelta(seconds=1)),
            "level": "DEFAULT", "totalCost": 0.02 if n % 2 == 0 else 0.01,
        }  # fmt: skip


def text(moment: datetime) -> str:
    return moment.isoformat(timespec="milliseconds").replace("+00:00", "Z")


@pytest.fixture(params=["v3", "v4"])
def langfuse(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[StandIn]:
    with StandIn(request.param) as stand_in:
        stand_in.area("observations", []).extend(observations())
        other = next(observations(1)) | {"traceId": "f" * 32, "tags": ["experiment:other"]}
        stand_in.area("observations", []).append(other)
        for n in range(120):
            scored = {"traceId": f"{n:032x}", "name": "quality", "value": 0.9 - 0.2 * (n % 2)}
            if n % 3 == 0:
                scored["observationId"] = f"{n:016x}"
            stand_in.scores[f"s{n}"] = {"id": f"s{n}", "timestamp": text(NOW), **scored}
        stand_in.scores["c"] = {"id": "c", "traceId": "0" * 32, "name": "tone", "value": "kind"}
        active.use(Settings.from_env({**stand_in.environment, "HOME": str(tmp_path)}))
        yield stand_in
        active.use(None)


def test_traces_and_scores_are_read_from_langfuse(langfuse: StandIn) -> None:
    """Over pages, of one experiment, from both generations; a limit of requests is waited for."""
    langfuse.fail(429, "/api/public/v", times=1, retry_after=0.01)
    with LangfuseApi(active.current().langfuse) as api:
        found = from_langfuse(api, "checkout", NOW - HOUR, NOW)
    assert len(found) == 120
    by_id = {one.trace_id: one for one in found}
    first = by_id["0" * 32]
    assert (first.variant, first.user_id) == ("A", "u0")
    assert first.values["cost_usd"] == pytest.approx(0.02)
    assert first.values["latency_seconds"] == pytest.approx(2.0)
    assert first.values["score:quality"] == pytest.approx(0.9)
    if langfuse.generation == "v4":
        assert sum(one.values["error"] for one in found) == 6
    assert "score:tone" not in first.values


def test_the_command_compares_and_exits_by_the_drop(
    langfuse: StandIn, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Exit 0 without a limit, 1 with one that is passed, the figures in both forms."""
    command = ["experiment", "report", "checkout", "--from", text(NOW - HOUR), "--to", text(NOW)]
    assert main(command) == 0
    shown = capsys.readouterr().out
    assert "checkout by trace (A: 60, B: 60)" in shown
    assert "-0.01" in shown
    assert main([*command, "--max-drop", "0.1", "--json"]) == 1
    captured = capsys.readouterr()
    answer = json.loads(captured.out)
    assert answer["groups"]["cost_usd"][0]["mean"] == pytest.approx(0.02)
    assert "score:quality: B is 0.2 worse than A" in captured.err
    assert main([*command, "--max-drop", "0.3", "--unit", "user"]) == 0
    assert main(["experiment", "report", "nothing", "--from", "1h"]) == 1
    assert main([*command, "--max-drop", "often"]) == 2
    langfuse.down()
    assert main(command) == 2
    langfuse.up()


def test_runs_are_read_from_langfuse(
    langfuse: StandIn, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    """A run that Langfuse knows against a saved file; v3 asks for the dataset."""
    start = NOW - HOUR
    for n in range(3):
        exact = {"id": f"s{n}", "name": "exact", "value": 0.5, "dataType": "NUMERIC"}
        langfuse.area("experiment_items", []).append({
            "id": f"{n:016x}", "traceId": f"{n:032x}", "startTime": text(start),
            "endTime": text(start + timedelta(seconds=1)), "level": "DEFAULT",
            "environment": "sdk-experiment", "experimentId": "e1", "experimentName": "new",
            "experimentItemId": f"i{n}", "scores": [exact],
        })  # fmt: skip
        langfuse.area("run_items", []).append(
            {"runName": "new", "datasetItemId": f"i{n}", "traceId": f"{n:032x}"}
        )
    for n in range(3):
        langfuse.scores[f"s{n}"].update(name="exact", value=0.5)
    with LangfuseApi(active.current().langfuse) as api:
        run = run_from_langfuse(api, "new", dataset="sums")
        assert {item.item_id: item.scores["exact"] for item in run.items} == dict.fromkeys(
            ("i0", "i1", "i2"), 0.5
        )
        with pytest.raises(OtelbridgeError, match="knows no run 'never'"):
            run_from_langfuse(api, "never", dataset="sums")
    run_of("old", {"i0": 0.6, "i1": 0.6, "i2": 0.6}).save(tmp_path / "old.json")
    command = ["experiment", "report", "new", "--dataset", "sums", "--against"]
    assert main([*command, str(tmp_path / "old.json"), "--max-drop", "0.05"]) == 1
    assert "0.1 worse than old" in capsys.readouterr().err
    assert main([*command, str(tmp_path / "old.json"), "--max-drop", "0.2"]) == 0


def test_the_same_figures_come_from_tempo() -> None:
    """From the local store: traces of the experiment, and a score that came later on its own."""
    from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
    from opentelemetry.sdk.trace.export import SimpleSpanProcessor

    from otelbridge import chat, request_context, span
    from otelbridge.langfuse.experiments import variant
    from otelbridge.local.server import LocalServer
    from tests.langfuse.recording import Recording

    with LocalServer() as server:
        recording = Recording(
            SimpleSpanProcessor(OTLPSpanExporter(server.otlp_http_url + "/v1/traces"))
        )
        judged = {}
        for n in range(6):
            with request_context(user_id=f"u{n}"), span("request"):
                chosen = variant("checkout", {"A": n % 2, "B": 1 - n % 2})
                with chat("gpt-4o", provider="openai") as call:
                    call.set_usage(input_tokens=10, output_tokens=5, cost_usd=0.5)
            judged[call.trace_id] = chosen
            score("quality", n / 10, trace_id=call.trace_id)
        assert len(recording.spans) == 0
        now = datetime.now(UTC)
        found = from_tempo(server.tempo_url, "checkout", now - HOUR, now + HOUR)
    assert {one.trace_id: one.variant for one in found} == judged
    assert {one.user_id for one in found} == {f"u{n}" for n in range(6)}
    assert [one.values["cost_usd"] for one in found] == [0.5] * 6
    assert {one.values["error"] for one in found} == {0.0}
    assert all(one.values["latency_seconds"] > 0 for one in found)
    assert sorted(one.values["score:quality"] for one in found) == [n / 10 for n in range(6)]
