"""Copies of the recorded spans with fresh ids, mixed into requests of many services.

`Mix` gives export requests as a busy Collector gets them: spans of several emitters in one request,
spans of one trace spread over several, in any order. Ids are seeded; the id of each copy leads back
to the recorded span, whose expected attributes stand in `emitters/expected.py`.
"""

from __future__ import annotations

import random
import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final

from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.proto.trace.v1.trace_pb2 import ResourceSpans, Span

from otelbridge import policy, span_rules
from tests.collector.conftest import from_attributes
from tests.collector.emitters import corpus

_ROUNDS_MIXED: Final = 6  # copies of the whole corpus that are shuffled together


@dataclass(frozen=True)
class Recorded:
    """One span of the corpus; `number` counts the spans of that name by start time."""

    emitter: str
    name: str
    number: int
    positions: frozenset[str]  # its attributes and those of its events, as `position` names them
    in_view: bool  # whether the Langfuse branch keeps it


class Mix:
    """The corpus, copied until there are `spans` spans.

    Attributes:
        batches: One `ResourceSpans` for each recorded request of each copy.
        origin: Hex span id of a copy → the recorded span.
        parents: Hex span id of a copy → hex parent id as sent, empty for a root.
        traces: Hex span id of a copy → hex trace id.
        rounds: Copies of each recorded span.
    """

    def __init__(self, spans: int, seed: int) -> None:
        self.rng = random.Random(seed)
        self.batches: list[ResourceSpans] = []
        self.origin: dict[str, Recorded] = {}
        self.parents: dict[str, str] = {}
        self.traces: dict[str, str] = {}
        templates = [
            (corpus.parse(line), _id_pattern(line))
            for emitter in corpus.EMITTERS
            for line in corpus.lines(emitter)
        ]
        recorded = _recorded()
        self.rounds = 0
        while len(self.origin) < spans:
            self.rounds += 1
            for message, ids in templates:
                self._copy(message, ids, recorded)

    def _copy(
        self,
        message: ExportTraceServiceRequest,
        ids: re.Pattern[bytes],
        recorded: dict[bytes, Recorded],
    ) -> None:
        """One request with new ids, also where an attribute repeats one as hex digits."""
        renamed: dict[bytes, bytes] = {}

        def rename(found: re.Match[bytes]) -> bytes:
            in_hex = found["hex"] is not None
            raw = bytes.fromhex(found[0].decode()) if in_hex else found[0]
            new = renamed.setdefault(raw, self.rng.randbytes(len(raw)))
            return new.hex().encode() if in_hex else new

        data = ids.sub(rename, message.SerializeToString())
        old = {new: raw for raw, new in renamed.items()}
        for batch in ExportTraceServiceRequest.FromString(data).resource_spans:
            self.batches.append(batch)
            for span in spans_of(batch):
                key = span.span_id.hex()
                self.origin[key] = recorded[old[span.span_id]]
                self.parents[key] = span.parent_span_id.hex()
                self.traces[key] = span.trace_id.hex()

    def requests(self) -> Iterator[ExportTraceServiceRequest]:
        """Every span once, in requests of 2 to 12 pieces of any services."""
        window = _ROUNDS_MIXED * len(corpus.EMITTERS)
        for start in range(0, len(self.batches), window):
            pieces = [
                piece
                for batch in self.batches[start : start + window]
                for piece in self._pieces(batch)
            ]
            self.rng.shuffle(pieces)
            while pieces:
                size = self.rng.randint(2, 12)
                yield ExportTraceServiceRequest(resource_spans=pieces[:size])
                del pieces[:size]

    def _pieces(self, batch: ResourceSpans) -> list[ResourceSpans]:
        """The batch cut into up to three, as a service that exports several times sends it."""
        pieces = []
        for _ in range(3):
            piece = ResourceSpans(resource=batch.resource, schema_url=batch.schema_url)
            for scope in batch.scope_spans:
                piece.scope_spans.add(scope=scope.scope, schema_url=scope.schema_url)
            pieces.append(piece)
        for index, scope in enumerate(batch.scope_spans):
            for span in scope.spans:
                self.rng.choice(pieces).scope_spans[index].spans.append(span)
        return [piece for piece in pieces if any(scope.spans for scope in piece.scope_spans)]


def spans_of(batch: ResourceSpans) -> Iterator[Span]:
    """All spans of a batch."""
    for scope in batch.scope_spans:
        yield from scope.spans


def position(event: str, key: str) -> str:
    """A place for text in a span: the event's name if any, and the key with `<n>` for indices."""
    numbered = re.sub(r"\.\d+(?=\.|$)", ".<n>", key)
    return f"event {event}: {numbered}" if event else numbered


def _id_pattern(line: str) -> re.Pattern[bytes]:
    """Matches each id of the request, as bytes and as hex digits."""
    ids = sorted(set(re.findall(r'"(?:traceId|spanId|parentSpanId)":"([0-9a-f]+)"', line)))
    digits = b"|".join(one.encode() for one in ids)
    raw = b"|".join(re.escape(bytes.fromhex(one)) for one in ids)
    return re.compile(b"(?P<hex>" + digits + b")|" + raw)


def _recorded() -> dict[bytes, Recorded]:
    """Recorded span id → the span."""
    found: dict[bytes, Recorded] = {}
    for emitter in corpus.EMITTERS:
        spans = [
            span
            for line in corpus.lines(emitter)
            for batch in corpus.parse(line).resource_spans
            for span in spans_of(batch)
        ]
        seen: dict[str, int] = {}
        for span in sorted(spans, key=lambda span: (span.start_time_unix_nano, span.span_id)):
            number = seen[span.name] = seen.get(span.name, -1) + 1
            in_view = policy.in_llm_view(span_rules.entered(from_attributes(span.attributes)))
            positions = {position("", item.key) for item in span.attributes} | {
                position(event.name, item.key) for event in span.events for item in event.attributes
            }
            found[span.span_id] = Recorded(
                emitter, span.name, number, frozenset(positions), in_view
            )
    return found
