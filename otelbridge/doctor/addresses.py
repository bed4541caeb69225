"""What an address says by itself: is it Langfuse's, local, a container's, which port.

Pure functions for `endpoint_checks`, `settings_checks` and the network checks. What counts as
Langfuse: its Cloud hosts, the host of LANGFUSE_HOST or LANGFUSE_PUBLIC_URL, or its OTLP path.
"""

from __future__ import annotations

import ipaddress
from typing import Final
from urllib.parse import SplitResult

from otelbridge.doctor.findings import Context
from otelbridge.endpoints import LANGFUSE_OTEL_PATH, split_http_url

TRACES_ENDPOINT: Final = "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT"
ENDPOINT: Final = "OTEL_EXPORTER_OTLP_ENDPOINT"
#: Hosts of Langfuse Cloud by region. Source: langfuse.com documentation, data regions.
CLOUD_HOSTS: Final = (
    "cloud.langfuse.com",
    "us.cloud.langfuse.com",
    "jp.cloud.langfuse.com",
    "hipaa.cloud.langfuse.com",
)
#: Ports of this stack and by convention, without those of OTLP.
KNOWN_PORTS: Final[dict[int, str]] = {
    3000: "Langfuse's or Grafana's pages",
    3001: "Grafana",
    3100: "Loki",
    3200: "Tempo's API",
    8888: "the Collector's own metrics",
    8889: "the Collector's Prometheus endpoint",
    9090: "Prometheus",
    13133: "the Collector's health check",
}


def clean(text: str) -> str:
    """A raw value without white space and quotes around it."""
    return text.strip().strip("\"'").strip()


def split(text: str) -> SplitResult | None:
    """The parts of an address, a missing scheme taken as http; None for what is no address."""
    text = clean(text)
    try:
        return split_http_url(text if "://" in text else f"http://{text}")
    except ValueError:
        return None


def host(text: str) -> str:
    """The host in lower case, empty when there is none."""
    parts = split(text) if text else None
    return (parts.hostname or "").lower() if parts else ""


def port(parts: SplitResult) -> int:
    """The port, given or of the scheme."""
    return parts.port or (443 if parts.scheme == "https" else 80)


def is_loopback(name: str) -> bool:
    """Whether a host is this machine."""
    if name == "localhost" or name.endswith(".localhost"):
        return True
    try:
        return ipaddress.ip_address(name).is_loopback
    except ValueError:
        return False


def is_container_name(name: str) -> bool:
    """Whether a host is a name that only containers or a cluster know."""
    if is_loopback(name) or not name or ":" in name:
        return False
    inside = (".svc", ".cluster.local")
    return "." not in name or name == "host.docker.internal" or name.endswith(inside)


def is_public(name: str) -> bool:
    """Whether a host is a public name or address, as far as its text tells."""
    if not name or is_loopback(name) or is_container_name(name):
        return False
    try:
        return ipaddress.ip_address(name).is_global
    except ValueError:
        return not name.endswith((".local", ".internal", ".lan", ".home.arpa", ".test"))


def is_cloud(name: str) -> bool:
    """Whether a host is Langfuse Cloud's."""
    return name == "langfuse.com" or name.endswith(".langfuse.com")


def traces_variable(context: Context) -> str:
    """The variable that decides where traces go."""
    return TRACES_ENDPOINT if context.value(TRACES_ENDPOINT) else ENDPOINT


def is_langfuse(context: Context, url: str) -> bool:
    """Whether an OTLP address is that of Langfuse."""
    parts = split(url)
    if parts is None:
        return False
    name = (parts.hostname or "").lower()
    if is_cloud(name) or LANGFUSE_OTEL_PATH in parts.path:
        return True
    for variable in ("LANGFUSE_HOST", "LANGFUSE_PUBLIC_URL"):
        other = split(context.value(variable)) if context.value(variable) else None
        if other is not None and (other.hostname, port(other)) == (parts.hostname, port(parts)):
            return True
    return False


def protocol(context: Context) -> str:
    """The protocol asked for: `grpc`, `http/protobuf`, `http/json` or empty text."""
    exporter = context.value("OTEL_TRACES_EXPORTER").lower()
    implied = "grpc" if exporter == "otlp_proto_grpc" else ""
    asked = (
        context.value("OTEL_EXPORTER_OTLP_TRACES_PROTOCOL")
        or context.value("OTEL_EXPORTER_OTLP_PROTOCOL")
        or implied
    )
    return clean(asked).lower()
