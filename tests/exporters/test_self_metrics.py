"""The counts of otelbridge as OTel metrics and as a dictionary, and that they add up."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from opentelemetry import metrics
from opentelemetry.metrics import _internal
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import InMemoryMetricReader
from opentelemetry.util._once import Once

from otelbridge import _guard, self_metrics
from otelbridge.exporters.delivery import Delivery
from otelbridge.exporters.processor import OtlpSpanProcessor
from otelbridge.exporters.spool import Owner, Spool
from tests.exporters.fault_server import Receiver, until
from tests.exporters.test_processor import make_span

Points = dict[tuple[str, str], float]
Make = Callable[..., OtlpSpanProcessor]


@pytest.fixture
def receiver() -> Iterator[Receiver]:
    made = Receiver()
    yield made
    made.close()


@pytest.fixture
def fresh(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """No MeterProvider and no instruments yet, before and after."""

    def forget() -> None:
        metrics._internal._METER_PROVIDER = None
        _internal._METER_PROVIDER_SET_ONCE = Once()
        monkeypatch.setattr(_internal, "_PROXY_METER_PROVIDER", _internal._ProxyMeterProvider())
        self_metrics._watched = self_metrics._Watched()
        self_metrics._duration.clear()

    forget()
    yield
    provider: Any = _internal._METER_PROVIDER
    if provider is not None:
        provider.shutdown()
    forget()


@pytest.fixture
def make(receiver: Receiver, tmp_path: Path) -> Iterator[Make]:
    made: list[OtlpSpanProcessor] = []

    def build(name: str = "s", **options: Any) -> OtlpSpanProcessor:
        spool = Spool(tmp_path, owner=Owner(name, "http://e"))
        processor = OtlpSpanProcessor(
            Delivery(receiver.endpoint), spool=spool, **{"delay_seconds": 60} | options
        )
        processor.sender._pauses.next_seconds = lambda *_, **__: 0.01  # type: ignore[method-assign]  # no waiting
        made.append(processor)
        return processor

    yield build
    for processor in made:
        processor.end(0.3)


def read(reader: InMemoryMetricReader) -> dict[str, Any]:
    """Name to the metric of the last collection."""
    data = reader.get_metrics_data()
    return {
        metric.name: metric
        for resource in (data.resource_metrics if data else ())
        for scope in resource.scope_metrics
        for metric in scope.metrics
    }


def values(metric: Any, key: str) -> dict[Any, float]:
    return {point.attributes.get(key): point.value for point in metric.data.data_points}


def end(processor: OtlpSpanProcessor, *names: str) -> None:
    for name in names:
        processor.on_end(make_span(name))


@pytest.mark.parametrize("late", [False, True], ids=["provider first", "provider later"])
def test_metrics_of_one_stream(fresh: None, receiver: Receiver, make: Make, late: bool) -> None:
    """Each instrument with unit and attributes, whichever of the two comes first."""
    reader = InMemoryMetricReader()
    if not late:
        metrics.set_meter_provider(MeterProvider([reader]))
    processor = make(batch_spans=5)
    self_metrics.watch({"collector": processor})
    if late:
        metrics.set_meter_provider(MeterProvider([reader]))
    receiver.behaviour = lambda got: (400 if "bad" in got else 200, {}, b"")
    end(processor, "a", "b", "bad")
    assert processor.force_flush(5_000)
    receiver.behaviour = lambda _: (503, {}, b"")
    # What is on disk is left there while it is looked at.
    processor.sender._pauses.next_seconds = lambda *_, **__: 60.0  # type: ignore[method-assign]
    end(processor, "c", "d")
    processor.force_flush(5_000)
    found = read(reader)
    expected = {"created": 5, "exported": 2, "spooled": 2, "left_out": 0}
    for name, count in expected.items():
        metric = found[f"otelbridge.spans.{name}"]
        assert (metric.unit, metric.data.is_monotonic) == ("{span}", True)
        assert values(metric, "otelbridge.destination") == {"collector": count}, name
    assert values(found["otelbridge.spans.dropped"], "otelbridge.reason") == {"rejected": 1}
    assert values(found["otelbridge.queue.spans"], "otelbridge.destination") == {"collector": 0}
    assert found["otelbridge.queue.bytes"].unit == found["otelbridge.spool.bytes"].unit == "By"
    assert values(found["otelbridge.spool.bytes"], "otelbridge.destination")["collector"] > 0
    age = values(found["otelbridge.spool.oldest_age"], "otelbridge.destination")["collector"]
    assert 0 < age < 60
    duration = found["otelbridge.export.duration"]
    assert duration.unit == "s"
    by_error = {p.attributes.get("error.type"): p.count for p in duration.data.data_points}
    assert by_error[None] >= 1
    assert by_error["503"] >= 1
    assert by_error["400"] >= 1


def test_two_streams_and_a_new_start(fresh: None, make: Make) -> None:
    """Direct mode has two destinations; after another `watch` the instruments show the new ones."""
    reader = InMemoryMetricReader()
    metrics.set_meter_provider(MeterProvider([reader]))
    tempo, langfuse = make("t"), make("l", rule=lambda span: None)
    self_metrics.watch({"tempo": tempo, "langfuse": langfuse})
    for processor in (tempo, langfuse):
        end(processor, "a")
        assert processor.force_flush(5_000)
    found = read(reader)
    by_destination = values(found["otelbridge.spans.exported"], "otelbridge.destination")
    assert by_destination == {"tempo": 1, "langfuse": 0}
    left_out = values(found["otelbridge.spans.left_out"], "otelbridge.destination")
    assert left_out == {"tempo": 0, "langfuse": 1}
    self_metrics.watch({"collector": make("c")})
    created = values(read(reader)["otelbridge.spans.created"], "otelbridge.destination")
    assert created == {"collector": 0}


def test_swallowed_errors_by_place(fresh: None, make: Make, swallow_errors: None) -> None:
    """The guard's counters, with place and kind of error."""
    reader = InMemoryMetricReader()
    metrics.set_meter_provider(MeterProvider([reader]))
    self_metrics.watch({"collector": make()})
    _guard.record_failure("a place: of tests", KeyError())
    _guard.count("test: dropped for a reason", 3)
    points = read(reader)["otelbridge.guard.failures"].data.data_points
    found = {
        (p.attributes["otelbridge.place"], p.attributes.get("error.type")): p.value for p in points
    }
    assert found["a place: of tests", "KeyError"] == 1
    assert found["test: dropped for a reason", None] == 3


def test_the_counts_add_up(fresh: None, receiver: Receiver, make: Make) -> None:
    """created = exported + left out + queued + held + dropped + what still lies in the spool."""
    processor = make(batch_spans=10)
    self_metrics.watch({"collector": processor})
    parts = ("exported", "left_out", "queued", "held", "dropped")

    def adds_up() -> bool:
        found = self_metrics.export_stats()["collector"]
        return found["created"] == sum(found[part] for part in parts) + spool.status().spans

    failures = iter([503] * 3)
    receiver.behaviour = lambda got: (400 if "bad" in got else next(failures, 200), {}, b"")
    spool = processor.spool
    assert spool is not None
    for number in range(20):
        end(processor, *[f"{number}-{index}" for index in range(9)], "bad")
        processor.force_flush(5_000)
        # The worker goes on with its backlog after a flush: what is on its way is in no count.
        if number % 5 == 4:
            assert until(adds_up)
    assert until(lambda: processor.force_flush(5_000) and not spool.status().spans)
    stats = self_metrics.export_stats()["collector"]
    assert stats["created"] == 200 == sum(stats[part] for part in parts)
    assert (stats["exported"], stats["dropped"], stats["dropped_rejected"]) == (180, 20, 20)
    assert stats["spool_bytes"] == stats["spool_oldest_age_seconds"] == 0


def test_without_anything(fresh: None) -> None:
    """Before `configure`, and where another exporter is in use, the answer is short."""
    assert set(self_metrics.export_stats()) == {"guard"}


def test_the_api_alone_is_enough(tmp_path: Path) -> None:
    """Watching loads no metrics SDK, so a service without metrics pays nothing for ours."""
    code = (
        "import sys; from otelbridge import self_metrics; self_metrics.watch({});"
        "assert self_metrics._duration;"
        "assert 'opentelemetry.sdk.metrics' not in sys.modules"
    )
    subprocess.run(
        [sys.executable, "-c", code],
        check=True,
        timeout=60,
        env={**os.environ, "HOME": str(tmp_path)},
    )
