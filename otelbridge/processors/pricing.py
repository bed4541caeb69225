"""The step of the export path that puts a cost on the spans of any emitter.

Runs in the export worker, where waiting for the price list costs the host nothing; `cost.spans`
decides, this module copies the span. A step of `exporters.otlp.export_path`.
"""

from __future__ import annotations

from typing import Any

from opentelemetry.sdk.trace import ReadableSpan

from otelbridge import _guard, policy
from otelbridge.cost.spans import cost_changes
from otelbridge.processors.sdk_spans import raw_attributes, with_attributes


def priced(span: ReadableSpan) -> ReadableSpan:
    """The span with its cost; the same object where there is nothing to add or pricing fails."""
    if not policy.is_gen_ai(raw_attributes(span)):
        return span
    changes = _changes(span)
    return with_attributes(span, {**raw_attributes(span), **changes}) if changes else span


@_guard.guarded("pricing a span", None)
def _changes(span: ReadableSpan) -> dict[str, Any] | None:
    return cost_changes(raw_attributes(span), span.start_time)
