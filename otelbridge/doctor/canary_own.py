"""The own export path as an exporter of one batch, for the canary.

`exporters.processor` with nothing on disk: same encoding, connection, certificates, proxy and rules
as the process has. It tries again as that does, for a few seconds, and says why it gave up in
the words of `exporters.answers`.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import replace
from typing import Final

from opentelemetry.sdk.trace import ReadableSpan
from opentelemetry.sdk.trace.export import SpanExporter, SpanExportResult

from otelbridge.exporters.answers import Verdict
from otelbridge.exporters.branches import LangfuseRule, TempoRule
from otelbridge.exporters.otlp import bridge_processor, langfuse_processor
from otelbridge.exporters.processor import OtlpSpanProcessor
from otelbridge.links import pages_of
from otelbridge.settings import Settings

_LOOK_SECONDS: Final = 0.1
#: A receiver that is only busy takes spans within this time; a person is waiting.
_PATIENCE_SECONDS: Final = 4.0


class OwnExporter(SpanExporter):
    """Hands spans to an export path and waits until they are gone.

    Attributes:
        reason: Why they were not taken; empty when they were.
    """

    def __init__(self, path: OtlpSpanProcessor, timeout_seconds: float) -> None:
        self._path = path
        self._timeout_seconds = timeout_seconds
        self.reason = ""

    def export(self, spans: Sequence[ReadableSpan]) -> SpanExportResult:
        """Deliver; not done in time is a failure."""
        deadline = time.monotonic() + min(self._timeout_seconds, _PATIENCE_SECONDS)
        for span in spans:
            self._path.on_end(span)
        self._path.force_flush(int(self._timeout_seconds * 1000))
        while self._path.stats()["held"] and time.monotonic() < deadline and self._may_pass():
            time.sleep(_LOOK_SECONDS)
        stats = self._path.stats()
        lost = sorted(
            name for name, count in stats.items() if name.startswith("dropped_") and count
        )
        if not stats["held"] and not stats["queued"] and not lost:
            return SpanExportResult.SUCCESS
        answer = self._path.sender.answer
        said = answer.reason if answer is not None else "no answer in time"
        self.reason = ", ".join([said, *lost])
        return SpanExportResult.FAILURE

    def _may_pass(self) -> bool:
        answer = self._path.sender.answer
        return answer is None or answer.verdict in (
            Verdict.DELIVERED,
            Verdict.RETRY,
            Verdict.FAULT,
        )

    def shutdown(self) -> None:
        """End the path at once; what it holds is made up anyway."""
        self._path.end(0.0)


def own_exporters(settings: Settings, timeout_seconds: float) -> dict[str, OwnExporter]:
    """Target (`collector`, or `tempo` and `langfuse`) to exporter, for the exporter `bridge`.

    Args:
        settings: Those of the process.
        timeout_seconds: The most that all tries may take.
    """
    alone = replace(settings, spool_max_bytes=0)
    if settings.export == "collector":
        paths = {"collector": bridge_processor(alone)}
    else:
        pages = pages_of(settings)
        paths = {"tempo": bridge_processor(alone, rule=TempoRule(pages))}
        if settings.langfuse.configured:
            paths["langfuse"] = langfuse_processor(alone, rule=LangfuseRule(pages))
    return {target: OwnExporter(path, timeout_seconds) for target, path in paths.items()}
