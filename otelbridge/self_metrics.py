"""What otelbridge says about itself: counts of its spans, as a dictionary and as OTel metrics.

`provider` names the export paths once (`watch`); from then on `export_stats` answers, and the
global MeterProvider, if the service has one or sets one later, reads the instruments
`otelbridge.*`. Everything is counted by the export path and by `_guard` anyway: without a
MeterProvider nothing more is done. Names and units: docs/metrics.md.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any, Final, Protocol

from otelbridge import _guard
from otelbridge._version import __version__

DESTINATION: Final = "otelbridge.destination"
REASON: Final = "otelbridge.reason"
PLACE: Final = "otelbridge.place"
_ERROR_TYPE: Final = "error.type"
#: Upper bounds of `otelbridge.export.duration` in seconds, for MeterProviders without views of
#: their own. Source: semantic conventions, `http.client.request.duration`.
_BOUNDS_SECONDS: Final = (
    0.005, 0.01, 0.025, 0.05, 0.075, 0.1, 0.25, 0.5, 0.75, 1, 2.5, 5, 7.5, 10,
)  # fmt: skip
_DROPPED: Final = "dropped_"
#: Name of an instrument to the key of `ExportPath.stats` and what it counts.
_COUNTERS: Final = {
    "otelbridge.spans.created": ("created", "Ended, sampled spans that were given to the exporter"),
    "otelbridge.spans.exported": ("exported", "Spans that the destination took"),
    "otelbridge.spans.spooled": ("spooled", "Spans written to the spool"),
    "otelbridge.spans.left_out": ("left_out", "Spans that the destination is not to have"),
}
_LEVELS: Final = {
    "otelbridge.queue.spans": ("queued", "{span}", "Spans that wait in memory"),
    "otelbridge.queue.bytes": ("queued_bytes", "By", "What they weigh, by estimate"),
}


class Spool(Protocol):
    """What is asked of a spool."""

    def usage(self) -> tuple[int, float | None]:
        """Bytes on disk, and the age in seconds of the oldest segment; None for none."""


class Sender(Protocol):
    """What is asked of the sender of an export path."""

    on_answer: Callable[[float, str], object]


class ExportPath(Protocol):
    """What is asked of an export path; `exporters.processor` has it."""

    @property
    def spool(self) -> Spool | None:
        """Where undelivered spans wait."""

    @property
    def sender(self) -> Sender:
        """What sends."""

    def stats(self) -> Mapping[str, float]:
        """Counts since the start of the process."""


class _Watched:
    """The export paths of this process, and whether their instruments exist."""

    def __init__(self) -> None:
        self.lock = _guard.fork_safe_lock()
        self.paths: Mapping[str, ExportPath] = {}
        self.has_instruments = False


_watched = _Watched()


@_guard.guarded("self metrics", None)
def watch(paths: Mapping[str, ExportPath]) -> None:
    """Name the export paths of this process; a further call replaces them.

    Args:
        paths: `collector`, `tempo` or `langfuse` to the path that leads there.
    """
    with _watched.lock:
        _watched.paths = dict(paths)
        first, _watched.has_instruments = not _watched.has_instruments, True
    if first:
        _make_instruments()
    for destination, path in paths.items():
        path.sender.on_answer = _recorder(destination)


def export_stats() -> dict[str, dict[str, float]]:
    """What became of the spans of this process, to log or to show on a status page; never raises.

    Returns:
        Destination (`collector`; `tempo` and `langfuse` in direct export) to its counts since the
        start of the process, in spans: `created`, `exported` (also those that earlier processes
        left on disk), `spooled` (to disk), `left_out` (not for this destination), `queued`, `held`
        (in memory, for want of a usable spool), one `dropped_<reason>` for each reason that
        occurred, `dropped` for all of them together; also `queued_bytes`, `spool_bytes` and
        `spool_oldest_age_seconds` (by all processes of the service), `requests`,
        `accepted_requests`, `failures` (in requests), `last_latency_seconds`. `guard` to
        `failures`, errors that were swallowed. Without an own export path only `guard` is there.
    """
    found: dict[str, dict[str, float]] = {}
    for destination, path in _watched.paths.items():
        with _guard.guard("export_stats"):
            found[destination] = _counts_of(path)
    found["guard"] = {"failures": sum(_guard.failures().values())}
    return found


def _counts_of(path: ExportPath) -> dict[str, float]:
    counts = {name: 0.0 for name, _ in _COUNTERS.values()} | dict(path.stats())
    counts["dropped"] = sum(amount for name, amount in counts.items() if name.startswith(_DROPPED))
    if path.spool is not None:
        size_bytes, age_seconds = path.spool.usage()
        counts["spool_bytes"] = size_bytes
        counts["spool_oldest_age_seconds"] = age_seconds or 0.0
    return {
        name: int(amount) if amount == int(amount) else amount for name, amount in counts.items()
    }


# -- instruments -----------------------------------------------------------------------------------
Point = tuple[float, dict[str, str]]
#: The histogram of request times, once it exists.
_duration: list[Any] = []


def _make_instruments() -> None:
    # Of the API: with no MeterProvider they do nothing, with a later one they begin to count then.
    from opentelemetry import metrics

    meter = metrics.get_meter("otelbridge", __version__)
    for name, (key, what) in _COUNTERS.items():
        meter.create_observable_counter(name, [_observe(_amounts(key))], "{span}", what)
    meter.create_observable_counter(
        "otelbridge.spans.dropped", [_observe(_drops)], "{span}", "Spans that were given up"
    )
    for name, (key, unit, what) in _LEVELS.items():
        meter.create_observable_up_down_counter(name, [_observe(_amounts(key))], unit, what)
    meter.create_observable_up_down_counter(
        "otelbridge.spool.bytes", [_observe(_spool_bytes)], "By",
        "What the spool holds, of all processes of the service",
    )  # fmt: skip
    meter.create_observable_gauge(
        "otelbridge.spool.oldest_age", [_observe(_spool_ages)], "s",
        "Age of the oldest undelivered spans in the spool",
    )  # fmt: skip
    meter.create_observable_counter(
        "otelbridge.guard.failures", [_observe(_failures)], "{error}",
        "Errors of telemetry that did not reach the application",
    )  # fmt: skip
    _duration[:] = [
        meter.create_histogram(
            "otelbridge.export.duration", "s", "Time of one export request",
            explicit_bucket_boundaries_advisory=_BOUNDS_SECONDS,
        )
    ]  # fmt: skip


def _observe(read: Callable[[], Iterable[Point]]) -> Callable[[Any], Iterable[Any]]:
    """A callback of an observable instrument; an error in it costs one reading."""

    def callback(_: Any) -> Iterable[Any]:
        from opentelemetry.metrics import Observation

        with _guard.guard("self metrics"):
            return [Observation(value, attributes) for value, attributes in read()]
        return ()

    return callback


def _amounts(key: str) -> Callable[[], Iterator[Point]]:
    def read() -> Iterator[Point]:
        for destination, path in _watched.paths.items():
            yield path.stats().get(key, 0), {DESTINATION: destination}

    return read


def _drops() -> Iterator[Point]:
    for destination, path in _watched.paths.items():
        for name, amount in path.stats().items():
            if name.startswith(_DROPPED):
                yield amount, {DESTINATION: destination, REASON: name.removeprefix(_DROPPED)}


def _spool_bytes() -> Iterator[Point]:
    for destination, path in _watched.paths.items():
        if path.spool is not None:
            yield path.spool.usage()[0], {DESTINATION: destination}


def _spool_ages() -> Iterator[Point]:
    for destination, path in _watched.paths.items():
        if path.spool is not None:
            yield path.spool.usage()[1] or 0.0, {DESTINATION: destination}


def _failures() -> Iterator[Point]:
    for key, amount in _guard.failures().items():
        place, _, kind = key.rpartition(": ")
        if place and kind.isidentifier():
            yield amount, {PLACE: place, _ERROR_TYPE: kind}
        else:  # counted for a known reason, without an error
            yield amount, {PLACE: key}


def _recorder(destination: str) -> Callable[[float, str], object]:
    """Takes the seconds of one request and, unless it was delivered, why not."""
    taken = {DESTINATION: destination}

    def record(seconds: float, failure: str) -> None:
        with _guard.guard("self metrics"):
            for histogram in _duration:
                kind = failure.removeprefix("HTTP ")  # the status code alone, as of HTTP clients
                attributes = {**taken, _ERROR_TYPE: kind} if failure else taken
                histogram.record(max(0.0, seconds), attributes)

    return record
