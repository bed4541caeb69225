"""`Traces`: the spans of a test, answered by an in-memory store of the local backend.

The fixture `traces` is one of these. Spans go through OTLP into the same store that `otelbridge
local` uses, one for each view that is asked, so a query answers here as it does there. Loads
DuckDB and Lark. Neighbours: `capture` records, `assertions` has the methods that tests call.
"""

from __future__ import annotations

from collections.abc import Sequence

from opentelemetry.exporter.otlp.proto.common.trace_encoder import encode_spans
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.sdk.trace import ReadableSpan

from otelbridge.local import query, records
from otelbridge.local.store.database import Store
from otelbridge.testing.assertions import Assertions, TraceAssertionError, View
from otelbridge.testing.capture import Recorder
from otelbridge.testing.spans import Span, from_record

_SETTLE_SECONDS = 2.0
_MOST = 1_000_000  # traces, and spans of one
_END_OF_TIME_S = 2**33  # in nanoseconds it fits a signed integer of 64 bits


class Traces(Assertions):
    """The spans of this test; see `Assertions` for what can be asked.

    Spans that other threads have begun are waited for, up to two seconds; a span that has not
    ended is in no answer.
    """

    def __init__(self, recorder: Recorder) -> None:
        self._recorder = recorder
        self._kept: dict[View, _Kept] = {}

    def spans(self, view: View = None) -> list[Span]:
        """Every ended span, by start time."""
        return list(self._current(view).spans.values())

    def ask(self, text: str, view: View = None) -> list[Span]:
        """The spans of a query, by start time, unchecked."""
        return self._current(view).ask(text)

    def open_spans(self) -> list[Span]:
        """Spans that were started and have not ended."""
        self._recorder.settle(_SETTLE_SECONDS)
        return [from_record(record) for record in _records(self._recorder.open(), None)]

    def tree_of_failure(self, error: BaseException | None) -> str:
        """The tree for the report of a failed test; "" where the failure shows it already."""
        is_empty = not self._recorder.ended() and not self._recorder.open()
        return "" if is_empty or isinstance(error, TraceAssertionError) else self.tree()

    def close(self) -> None:
        """Let go of the stores."""
        for kept in self._kept.values():
            kept.close()
        self._kept.clear()

    def _current(self, view: View) -> _Kept:
        if view not in (None, "tempo", "langfuse"):
            raise ValueError(f"view={view!r}; allowed: None, 'tempo', 'langfuse'")
        self._recorder.settle(_SETTLE_SECONDS)
        kept = self._kept.setdefault(view, _Kept(view))
        kept.update(self._recorder.ended())
        return kept


class _Kept:
    """The spans of one view, and the store that answers queries over them."""

    def __init__(self, view: View) -> None:
        self._view = view
        self._seen = 0
        self._waiting: list[records.SpanRecord] = []
        self._store: Store | None = None
        self.spans: dict[tuple[str, str], Span] = {}

    def update(self, ended: Sequence[ReadableSpan]) -> None:
        new, self._seen = ended[self._seen :], len(ended)
        if not new:
            return
        found = _records(new, self._view)
        self._waiting += found
        spans = [*self.spans.values(), *map(from_record, found)]
        spans.sort(key=lambda span: (span.start_ns, span.span_id))
        self.spans = {span.key: span for span in spans}

    def ask(self, text: str) -> list[Span]:
        if self._store is None:
            self._store = Store(None)
        if self._waiting:
            self._store.write(records.Batch(tuple(self._waiting), ())).result()
            self._waiting = []
        answer = query.search(
            self._store, text, start_s=0, end_s=_END_OF_TIME_S, limit=_MOST, spss=_MOST
        )
        keys = {
            (trace.trace_id, span.span_id)
            for trace in answer.traces
            for found in trace.span_sets
            for span in found.spans
        }
        return [span for key, span in self.spans.items() if key in keys]

    def close(self) -> None:
        if self._store is not None:
            self._store.close()


def _records(spans: Sequence[ReadableSpan], view: View) -> list[records.SpanRecord]:
    """OTLP records, raw or as one of the Collector's branches sends them."""
    if view is None:
        return list(records.records(_request(spans)))
    batch = records.from_otlp_port(_request(spans))
    return list(batch.tempo if view == "tempo" else batch.langfuse)


def _request(spans: Sequence[ReadableSpan]) -> ExportTraceServiceRequest:
    return encode_spans(spans)
