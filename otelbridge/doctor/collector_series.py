"""What a running Collector tells about itself: its own metrics, as text, made into one value.

Pure: text in, `CollectorState` out. The series exist once the part they count has been used:
`otelcol_exporter_queue_capacity` names every exporter with a queue from the start, processors and
receivers appear with the first span. Names are those of Collector 0.144 and newer; older ones end
without `_total`, which is put up with.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Final
from urllib.parse import unquote

_LINE: Final = re.compile(r"^([a-zA-Z_:][\w:]*)(?:\{(.*)\})?\s+(\S+)")
_PAGE_LINK: Final = re.compile(r'\?zpipelinename=([^&"]+)&(?:amp;)?zcomponentname=([^&"]+)')
_LABEL: Final = re.compile(r'(\w+)="((?:[^"\\]|\\.)*)"')
#: Names of the exporters of collector/layers/{tempo,langfuse}.yaml.
TEMPO: Final = "otlp_grpc/tempo"
LANGFUSE: Final = "otlp_http/langfuse"
#: Store to the processors that make its branch: without them Langfuse gets every span, Tempo every
#: prompt. Source: collector/layers/{tempo,langfuse}.yaml.
BRANCH_PROCESSORS: Final = {
    "tempo": ("transform/tempo",),
    "langfuse": ("filter/llm_view", "transform/llm_view"),
}
SERVICE: Final = "otelbridge-collector"


@dataclass(frozen=True, slots=True)
class ExporterState:
    """One exporter of traces, in spans since the Collector started.

    Attributes:
        queue_size: Spans (or requests, as configured) that wait.
        queue_capacity: 0 without a queue.
        send_failed: Given up: a final refusal, or retried too long.
        enqueue_failed: Not taken because the queue was full.
    """

    name: str
    queue_size: float = 0
    queue_capacity: float = 0
    sent: float = 0
    send_failed: float = 0
    enqueue_failed: float = 0


@dataclass(frozen=True, slots=True)
class CollectorState:
    """The state of a Collector at one moment.

    Attributes:
        service: `service_name` of its own telemetry, such as `otelcol-contrib`.
        processors: Names of the processors that have seen something.
    """

    service: str
    version: str
    exporters: Mapping[str, ExporterState]
    processors: frozenset[str]
    accepted: float
    refused: float
    filtered: Mapping[str, float] = field(default_factory=dict)

    def sending_to(self, store: str) -> tuple[ExporterState, ...]:
        """The exporters whose name says that they are for `tempo` or `langfuse`."""
        return tuple(item for name, item in self.exporters.items() if store in name.lower())


def parse_state(text: str) -> CollectorState | None:
    """The state in a metrics page; None when the page is no Collector's."""
    samples = list(_samples(text))
    if not any(name.startswith("otelcol_") for name, _, _ in samples):
        return None
    numbers: dict[str, dict[str, float]] = {}
    processors: set[str] = set()
    totals = {"accepted": 0.0, "refused": 0.0}
    filtered: dict[str, float] = {}
    info: dict[str, str] = {}
    for full_name, labels, value in samples:
        name = full_name.removesuffix("_total")
        if name == "target_info":
            info = labels
        if processor := labels.get("processor") or labels.get("filter"):
            processors.add(processor)
        if name == "otelcol_processor_filter_spans_filtered":
            filtered[labels.get("filter", "")] = value
        for total in totals:
            if name == f"otelcol_receiver_{total}_spans":
                totals[total] += value
        if (field_name := _EXPORTER.get(name)) and labels.get("data_type", "traces") == "traces":
            numbers.setdefault(labels.get("exporter", ""), {})[field_name] = value
    return CollectorState(
        service=info.get("service_name", ""),
        version=info.get("service_version", ""),
        exporters={name: ExporterState(name, **values) for name, values in numbers.items()},
        processors=frozenset(processors),
        accepted=totals["accepted"],
        refused=totals["refused"],
        filtered=filtered,
    )


_EXPORTER: Final = {
    "otelcol_exporter_queue_size": "queue_size",
    "otelcol_exporter_queue_capacity": "queue_capacity",
    "otelcol_exporter_sent_spans": "sent",
    "otelcol_exporter_send_failed_spans": "send_failed",
    "otelcol_exporter_enqueue_failed_spans": "enqueue_failed",
}


def parse_pipelines(page: str) -> dict[str, frozenset[str]]:
    """Pipeline to its components, from the page `/debug/pipelinez` of the zpages extension."""
    found: dict[str, set[str]] = {}
    for pipeline, component in _PAGE_LINK.findall(page):
        found.setdefault(unquote(pipeline), set()).add(unquote(component))
    return {name: frozenset(components) for name, components in found.items()}


def _samples(text: str) -> list[tuple[str, dict[str, str], float]]:
    found = []
    for line in text.splitlines():
        match = _LINE.match(line)
        if match is None:
            continue
        try:
            value = float(match[3])
        except ValueError:
            continue
        found.append((match[1], dict(_LABEL.findall(match[2] or "")), value))
    return found
