"""Checks of addresses: where spans go, where queries go, what links are built from.

Reads the raw texts, because `Settings` repairs much of this for otelbridge's own exporter while the
stock SDKs and the Collector take them as they stand. Neighbours: `settings_checks` for all other
variables, `network_checks` for what answers there.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final
from urllib.parse import SplitResult

from otelbridge.doctor import addresses as at
from otelbridge.doctor.findings import Check, Context, Finding
from otelbridge.doctor.table import finding
from otelbridge.endpoints import (
    GRPC_PORT,
    HTTP_PORT,
    LANGFUSE_OTEL_PATH,
    TRACES_PATH,
    shown,
    with_port,
)

_PROTOCOLS: Final = ("OTEL_EXPORTER_OTLP_TRACES_PROTOCOL", "OTEL_EXPORTER_OTLP_PROTOCOL")
_LOCAL_PLAIN_PORTS: Final = (3000, 3001, 3200, GRPC_PORT, HTTP_PORT)


def endpoint(context: Context) -> Iterator[Finding]:
    """The OTLP endpoint: form, path, port, protocol."""
    variable = at.traces_variable(context)
    given = context.value(variable)
    yield from _both_variables(context)
    yield from _protocols(context)
    if not given:
        yield from _grpc_not_spoken(context, None)
        return
    parts = at.split(given)
    evidence = f"{variable}={shown(given)}"
    if parts is None:
        yield finding("endpoint-unusable", f"{variable} is no http or https URL.", evidence)
        return
    if "://" not in given:
        yield finding(
            "endpoint-no-scheme",
            f"{variable} has no scheme.",
            evidence,
            f"Write {variable}=http://{at.clean(given)}",
        )
    if at.is_langfuse(context, given):
        yield from _to_langfuse(context, variable, parts, evidence)
        return
    yield from _path(variable, parts, evidence)
    yield from _port(context, variable, given, parts, evidence)


def _both_variables(context: Context) -> Iterator[Finding]:
    general, specific = context.value(at.ENDPOINT), context.value(at.TRACES_ENDPOINT)
    one, other = at.split(general or "-:-"), at.split(specific or "-:-")
    if general and specific and one and other and one.netloc != other.netloc:
        yield finding(
            "endpoint-both-variables",
            f"Traces go to the host of {at.TRACES_ENDPOINT}.",
            f"{at.ENDPOINT}={shown(general)}, {at.TRACES_ENDPOINT}={shown(specific)}",
        )


def _protocols(context: Context) -> Iterator[Finding]:
    specific, general = (at.clean(context.value(name)).lower() for name in _PROTOCOLS)
    if specific and general and specific != general:
        yield finding(
            "protocol-both-variables",
            f"Traces use {specific}, everything else {general}.",
            f"{_PROTOCOLS[0]}={specific}, {_PROTOCOLS[1]}={general}",
            f"Unset {_PROTOCOLS[0]}.",
        )


def _grpc_not_spoken(context: Context, number: int | None) -> Iterator[Finding]:
    stock = context.value("OTELBRIDGE_EXPORTER").lower() == "stock"
    if at.protocol(context) == "grpc" and not stock and number not in (GRPC_PORT, HTTP_PORT):
        yield finding(
            "grpc-not-spoken",
            "gRPC is asked for; otelbridge's own exporter speaks HTTP only.",
            "OTEL_EXPORTER_OTLP_PROTOCOL=grpc with OTELBRIDGE_EXPORTER=bridge",
        )


def _path(variable: str, parts: SplitResult, evidence: str) -> Iterator[Finding]:
    path = parts.path.rstrip("/")
    base = f"{parts.scheme}://{parts.netloc}"
    if variable == at.ENDPOINT and path.endswith(TRACES_PATH):
        yield finding(
            "endpoint-path-doubled",
            f"{variable} ends with {TRACES_PATH}, which exporters add.",
            evidence,
            f"Set {variable}={shown(base + path.removesuffix(TRACES_PATH))}",
        )
    elif path.endswith(TRACES_PATH + TRACES_PATH):
        yield finding(
            "endpoint-path-doubled",
            f"{variable} has {TRACES_PATH} twice.",
            evidence,
            f"Set {variable}={shown(base + path.removesuffix(TRACES_PATH))}",
        )
    elif variable == at.TRACES_ENDPOINT and not path:
        yield finding(
            "endpoint-path-missing",
            f"{variable} has no path and is used as it stands.",
            evidence,
            f"Set {variable}={shown(base)}{TRACES_PATH}",
        )


def _port(
    context: Context, variable: str, given: str, parts: SplitResult, evidence: str
) -> Iterator[Finding]:
    number, protocol = at.port(parts), at.protocol(context)
    if parts.port in at.KNOWN_PORTS:
        yield finding(
            "endpoint-wrong-port",
            f"Port {number} is by convention that of {at.KNOWN_PORTS[number]}.",
            evidence,
            f"Set {variable}={shown(with_port(_full(given), HTTP_PORT))}",
        )
    elif number == GRPC_PORT and protocol != "grpc":
        yield finding(
            "grpc-port-with-http",
            "Port 4317 is gRPC, the protocol is HTTP.",
            f"{evidence}, protocol {protocol or 'not set (http/protobuf)'}",
            f"Set {variable}={shown(with_port(_full(given), HTTP_PORT))}",
        )
    elif number == HTTP_PORT and protocol == "grpc":
        yield finding(
            "http-port-with-grpc",
            "Port 4318 is HTTP, the protocol is grpc.",
            f"{evidence}, protocol grpc",
            "Set OTEL_EXPORTER_OTLP_PROTOCOL=http/protobuf",
        )
    yield from _grpc_not_spoken(context, HTTP_PORT if number == HTTP_PORT else None)


def _full(given: str) -> str:
    text = at.clean(given)
    return text if "://" in text else f"http://{text}"


def _to_langfuse(
    context: Context, variable: str, parts: SplitResult, evidence: str
) -> Iterator[Finding]:
    base = shown(f"{parts.scheme}://{parts.netloc}")
    if at.protocol(context) == "grpc" or parts.port == GRPC_PORT:
        yield finding(
            "langfuse-grpc",
            "Spans go to Langfuse by gRPC, which it does not speak.",
            f"{evidence}, protocol {at.protocol(context) or 'not set'}",
        )
        return  # gRPC has no path; the remedy names the right one
    path = parts.path.rstrip("/")
    wanted = LANGFUSE_OTEL_PATH + (TRACES_PATH if variable == at.TRACES_ENDPOINT else "")
    if path.endswith(wanted):
        return
    yield finding(
        "langfuse-endpoint-path",
        f"Langfuse takes OTLP at {wanted}, {variable} has the path {path or '/'}.",
        evidence,
        f"Set {variable}={base}{wanted}; better, send to the Collector.",
    )


def schemes(context: Context) -> Iterator[Finding]:
    """Https to plain local ports, http to public hosts."""
    names = (
        at.ENDPOINT,
        at.TRACES_ENDPOINT,
        "LANGFUSE_HOST",
        "LANGFUSE_PUBLIC_URL",
        "OTELBRIDGE_TEMPO_URL",
    )
    for name in names:
        given = at.clean(context.value(name))
        parts = at.split(given) if "://" in given else None
        if parts is None:
            continue
        host = (parts.hostname or "").lower()
        local = at.is_loopback(host) or at.is_container_name(host)
        plain_port = parts.port in _LOCAL_PLAIN_PORTS
        certificate = context.value("OTEL_EXPORTER_OTLP_CERTIFICATE") or context.value(
            "OTEL_EXPORTER_OTLP_TRACES_CERTIFICATE"
        )
        if parts.scheme == "https" and local and plain_port and not certificate:
            yield finding(
                "https-to-plain",
                f"{name} asks for TLS of a local port.",
                f"{name}={shown(given)}",
                f"Set {name}={shown(given.replace('https://', 'http://', 1))}",
            )
        elif parts.scheme == "http" and at.is_public(host):
            yield finding(
                "http-to-public",
                f"{name} is plain http to a public host.",
                f"{name}={shown(given)}",
                f"Set {name}={shown(given.replace('http://', 'https://', 1))}",
            )


def langfuse_address(context: Context) -> Iterator[Finding]:
    """LANGFUSE_HOST and its public form: path, region, presence."""
    for name in ("LANGFUSE_HOST", "LANGFUSE_PUBLIC_URL"):
        given = context.value(name)
        parts = at.split(given) if given else None
        if given and parts is None:
            yield finding(
                "settings-unusable", f"{name} is no http or https URL.", f"{name}={shown(given)}"
            )
        if parts is None:
            continue
        path = parts.path.rstrip("/")
        if "/api/public" in path or path.endswith(TRACES_PATH) or "/project/" in path:
            yield finding(
                "langfuse-host-path",
                f"{name} has the path {path}, which clients add or have not.",
                f"{name}={shown(given)}",
                f"Set {name}={parts.scheme}://{shown(parts.netloc)}",
            )
    hosts = {
        name: at.host(context.value(name))
        for name in (at.traces_variable(context), "LANGFUSE_HOST", "LANGFUSE_PUBLIC_URL")
    }
    cloud = {name: host for name, host in hosts.items() if host in at.CLOUD_HOSTS}
    if len(set(cloud.values())) > 1:
        seen = ", ".join(f"{name} {host}" for name, host in cloud.items())
        yield finding("region-mismatch", "Addresses name different regions of Langfuse.", seen)
    keys = context.value("LANGFUSE_PUBLIC_KEY") and context.value("LANGFUSE_SECRET_KEY")
    if keys and not hosts["LANGFUSE_HOST"]:
        yield finding(
            "langfuse-host-missing",
            "There are keys and no LANGFUSE_HOST.",
            "https://cloud.langfuse.com is taken",
        )


def tempo_address(context: Context) -> Iterator[Finding]:
    """OTELBRIDGE_TEMPO_URL: port and path."""
    given = context.value("OTELBRIDGE_TEMPO_URL")
    parts = at.split(given) if given else None
    if parts is None:
        return
    evidence = f"OTELBRIDGE_TEMPO_URL={shown(given)}"
    right = f"Set OTELBRIDGE_TEMPO_URL={parts.scheme}://{parts.hostname}:3200"
    if parts.port == 3100:
        yield finding(
            "tempo-port-3100", "Port 3100 is Loki's; Tempo's API is on 3200.", evidence, right
        )
        return
    others = {**at.KNOWN_PORTS, GRPC_PORT: "OTLP over gRPC", HTTP_PORT: "OTLP over HTTP"}
    del others[3200]
    if parts.port in others:
        yield finding(
            "tempo-url-wrong",
            f"Port {parts.port} is that of {others[parts.port]}.",
            evidence,
            right,
        )
    elif parts.path.rstrip("/").endswith(("/api", "/api/search", "/api/traces", TRACES_PATH)):
        yield finding(
            "tempo-url-wrong",
            "The address has a path of the API in it.",
            evidence,
            f"Set OTELBRIDGE_TEMPO_URL={parts.scheme}://{shown(parts.netloc)}",
        )


def links(context: Context) -> Iterator[Finding]:
    """Addresses for browsers, and the project's id."""
    for name, instead in (
        ("LANGFUSE_PUBLIC_URL", "http://localhost:3000"),
        ("OTELBRIDGE_GRAFANA_URL", "http://localhost:3001"),
    ):
        source = name
        if name == "LANGFUSE_PUBLIC_URL" and not context.value(name):
            source = "LANGFUSE_HOST"
        if at.is_container_name(at.host(context.value(source))):
            unset = f"{name} is not set, so links use {source}. " if source != name else ""
            yield finding(
                "link-not-for-browsers",
                f"{unset}No browser knows this host.",
                f"{source}={shown(context.value(source))}",
                f"Set {name}={instead}, or what the browser shows.",
            )
    keys = context.value("LANGFUSE_PUBLIC_KEY") and context.value("LANGFUSE_SECRET_KEY")
    if keys and not context.value("LANGFUSE_PROJECT_ID"):
        yield finding("project-id-missing", "LANGFUSE_PROJECT_ID is not set; links are off.")


CHECKS: Final[tuple[Check, ...]] = (
    Check("endpoint", "settings", endpoint),
    Check("schemes", "settings", schemes),
    Check("langfuse-address", "settings", langfuse_address),
    Check("tempo-address", "settings", tempo_address),
    Check("links", "settings", links),
)
