"""Which trace a request became, and what ran in it: remembered for feedback that comes later.

Two bounded maps of this process, the newest kept: request id to the trace and its first span here,
and trace id to the prompt, variant and user that its spans named. `processors.pipeline` fills them,
`langfuse.scores` reads them. What has been forgotten is asked of the stores (`langfuse.resolving`).
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final, Generic, TypeVar

from otelbridge import _guard, semconv

V = TypeVar("V")
#: About 3 MB when full: an hour of three requests a second.
REMEMBERED: Final = 10_000
#: Of a request id: `integrations.entry` cuts longer ones.
MAX_CHARACTERS: Final = 128
#: What is kept of the spans of a trace, for the scores that it gets later.
JUDGED_KEYS: Final = frozenset(
    (
        semconv.GEN_AI_PROMPT_NAME,
        semconv.GEN_AI_PROMPT_VERSION,
        semconv.VARIANT,
        semconv.USER_ID,
        semconv.SESSION_ID,
    )
)


@dataclass(frozen=True, slots=True)
class Seen:
    """The trace of a request.

    Attributes:
        trace_id: 32 hex digits.
        span_id: 16 hex digits of its first span in this process.
    """

    trace_id: str
    span_id: str


class Recent(Generic[V]):
    """The newest values by key, at most `size` of them; safe in threads and after a fork."""

    def __init__(self, size: int = REMEMBERED) -> None:
        self._size = size
        self._values: OrderedDict[str, V] = OrderedDict()
        self._lock = _guard.fork_safe_lock()

    def put(self, key: str, value: V) -> None:
        """Remember; an older value of the key is replaced, the oldest key may be forgotten."""
        with self._lock:
            self._values[key] = value
            self._values.move_to_end(key)
            if len(self._values) > self._size:
                self._values.popitem(last=False)

    def get(self, key: str) -> V | None:
        """What was remembered, None for nothing."""
        with self._lock:
            return self._values.get(key)

    def clear(self) -> None:
        """Forget all."""
        with self._lock:
            self._values.clear()


_requests: Final = Recent[Seen]()
_traces: Final = Recent[str]()
_judged: Final = Recent[dict[str, Any]]()


def remember(request_id: str, trace_id: str, span_id: str) -> None:
    """A request's first span in this process; a request that is sent again names the newest."""
    _requests.put(request_id, Seen(trace_id, span_id))
    _traces.put(trace_id, span_id)


def trace_of(request_id: str) -> Seen | None:
    """The trace of a request that this process served, None for one that it does not know."""
    return _requests.get(request_id)


def span_of(trace_id: str) -> str | None:
    """The first span of a trace in this process, where it came with a request id."""
    return _traces.get(trace_id)


def note_judged(trace_id: str, attributes: Mapping[str, Any]) -> None:
    """Keep prompt, variant, user and session of an ended span, if it names any."""
    found = {key: attributes[key] for key in JUDGED_KEYS if key in attributes}
    if found:
        _judged.put(trace_id, {**(_judged.get(trace_id) or {}), **found})


def judged(trace_id: str) -> dict[str, Any]:
    """`gen_ai.prompt.name`, `.version`, variant, user and session that spans of it named here."""
    return dict(_judged.get(trace_id) or {})


def forget() -> None:
    """Forget everything, for tests."""
    for recent in (_requests, _traces, _judged):
        recent.clear()
