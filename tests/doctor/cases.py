"""What a case of the corpus is, and the good set-up that each of them changes. Data only.

Texts in braces are filled in by `servers.World`: `{collector[otlp]}` is the OTLP address of the
good Collector, `{collector_wrongkeys[otlp]}` of one with wrong keys, and so on. A change with None
takes a variable away.
"""

from __future__ import annotations

import base64
from dataclasses import dataclass, field

Changes = dict[str, str | None]


def through(collector: str) -> Changes:
    """The variables that lead to one of the Collectors."""
    return {
        "OTEL_EXPORTER_OTLP_ENDPOINT": f"{{{collector}[otlp]}}",
        "OTELBRIDGE_COLLECTOR_HEALTH_ENDPOINT": f"{{{collector}[health]}}",
        "OTELBRIDGE_COLLECTOR_METRICS_HOST": "127.0.0.1",
        "OTELBRIDGE_COLLECTOR_METRICS_PORT": f"{{{collector}[metrics_port]}}",
    }


def basic(text: str) -> str:
    """Base64, as it stands behind `Basic`."""
    return base64.b64encode(text.encode()).decode()


#: A service that sends to the Collector and knows both stores.
GOOD: Changes = {
    **through("collector"),
    "OTEL_SERVICE_NAME": "shop",
    "OTELBRIDGE_TEMPO_URL": "{local[tempo]}",
    "LANGFUSE_HOST": "{local[langfuse]}",
    "LANGFUSE_PUBLIC_KEY": "pk-lf-local",
    "LANGFUSE_SECRET_KEY": "sk-lf-local",
    "LANGFUSE_PROJECT_ID": "local",
}
#: The right header for Langfuse's own intake.
HEADER = "Authorization=Basic%20" + basic("pk-lf-local:sk-lf-local").replace("=", "%3D")
#: Straight to Langfuse's OTLP intake, without a Collector.
TO_LANGFUSE: Changes = {
    "OTELBRIDGE_TEMPO_URL": None,
    "OTEL_EXPORTER_OTLP_ENDPOINT": "{local[langfuse]}/api/public/otel",
    "OTEL_EXPORTER_OTLP_HEADERS": HEADER,
}


@dataclass(frozen=True)
class Case:
    """One broken set-up.

    Attributes:
        id: Unique.
        wrong: What a person did.
        changes: To `GOOD`.
        codes: The cause's own name; any of them counts.
        fix: To the changed environment: what the remedy says.
        seen: Thread or reference.
        files: Name to text, written to the working directory; `fixed_files` after the fix.
        arguments: Further words of the command line.
        packages: Distributions that are (made to look) installed: name to version.
    """

    id: str
    wrong: str
    changes: Changes
    codes: tuple[str, ...]
    fix: Changes = field(default_factory=dict)
    seen: str = "issue"
    files: dict[str, str] = field(default_factory=dict)
    fixed_files: dict[str, str | None] = field(default_factory=dict)
    arguments: tuple[str, ...] = ()
    packages: dict[str, str] = field(default_factory=dict)
