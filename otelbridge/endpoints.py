"""Addresses as people write them, made into addresses that work, with a sentence on each repair.

Used by `settings.py` only. Pure functions: text in, address and warnings out. Repairs are those
whose intent is plain (a missing scheme, a path that belongs to another client, the gRPC port for
an HTTP exporter); anything else is refused by the caller.
"""

from __future__ import annotations

import ipaddress
from typing import Final
from urllib.parse import SplitResult, urlsplit, urlunsplit

from otelbridge.masks import mask_query, mask_text

#: Path of OTLP/HTTP traces. Source: OTLP specification 1.x, "OTLP/HTTP Request".
TRACES_PATH: Final = "/v1/traces"
GRPC_PORT: Final = 4317
HTTP_PORT: Final = 4318
#: Where Langfuse takes OTLP; no part of LANGFUSE_HOST. Source: Langfuse server 4.16.
LANGFUSE_OTEL_PATH: Final = "/api/public/otel"


def shown(url: str) -> str:
    """A URL without passwords and secret query parameters, for messages."""
    return mask_query(mask_text(url))


def split_http_url(url: str) -> SplitResult:
    """The parts of an http or https URL with a host and a usable port.

    Raises:
        ValueError: anything else.
    """
    parts = urlsplit(url)
    if parts.scheme not in ("http", "https") or not parts.hostname:
        raise ValueError(url)
    if any(letter.isspace() for letter in url):
        raise ValueError(url)
    if parts.port == 0:  # .port itself raises ValueError outside 0..65535
        raise ValueError(url)
    return parts


def with_scheme(variable: str, url: str, scheme: str | None = None) -> tuple[str, list[str]]:
    """The URL with a scheme: `scheme`, or http for a local name and https for any other."""
    if "://" in url:
        return url, []
    if scheme is None:
        scheme = "http" if _is_local(urlsplit(f"//{url}").hostname or "") else "https"
    repaired = f"{scheme}://{url}"
    return repaired, [
        f"{variable}={shown(url)!r} has no scheme; {shown(repaired)!r} is used. "
        f"Write http:// or https:// in front."
    ]


def _is_local(host: str) -> bool:
    if "." not in host and ":" not in host:
        return True
    try:
        address = ipaddress.ip_address(host)
    except ValueError:
        return False
    return address.is_loopback or address.is_private


def base_url(variable: str, url: str) -> tuple[str, list[str]]:
    """A base address without trailing slash and without Langfuse's OTLP path.

    Raises:
        ValueError: not an http or https URL.
    """
    url, warnings = with_scheme(variable, url)
    parts = split_http_url(url)
    path = parts.path.rstrip("/")
    for suffix in (LANGFUSE_OTEL_PATH + TRACES_PATH, LANGFUSE_OTEL_PATH):
        if path.endswith(suffix):
            path = path.removesuffix(suffix)
            warnings.append(
                f"{variable} ends with {suffix}, the path of the OTLP intake; the address without "
                f"it is used. Give the address that a browser opens."
            )
    return urlunsplit((parts.scheme, parts.netloc, path, "", "")), warnings


def http_traces_url(variable: str, url: str, *, full: bool) -> tuple[str, list[str]]:
    """The URL that OTLP/HTTP traces are posted to.

    Args:
        variable: Name to use in messages.
        url: As given.
        full: The variable for traces, whose URL is used as it stands.
    Raises:
        ValueError: not an http or https URL.
    """
    url, warnings = with_scheme(variable, url, "http")
    parts = split_http_url(url)
    if full:
        if parts.path in ("", "/"):
            warnings.append(
                f"{variable}={shown(url)!r} has no path and is used as it stands; receivers "
                f"expect {TRACES_PATH}. Add it, or set OTEL_EXPORTER_OTLP_ENDPOINT instead."
            )
        return url, warnings
    path = parts.path.rstrip("/")
    if path.endswith(TRACES_PATH):
        warnings.append(
            f"{variable} ends with {TRACES_PATH}, which is added to a base URL; it is not added "
            f"twice. Full URLs belong in OTEL_EXPORTER_OTLP_TRACES_ENDPOINT."
        )
    else:
        path += TRACES_PATH
    return urlunsplit((parts.scheme, parts.netloc, path, parts.query, "")), warnings


def grpc_url(variable: str, url: str) -> tuple[str, list[str]]:
    """`scheme://host:port` for the gRPC exporter, whose scheme decides about TLS.

    Raises:
        ValueError: not an http or https URL.
    """
    url, warnings = with_scheme(variable, url, "http")
    parts = split_http_url(url)
    if parts.path.rstrip("/"):
        warnings.append(
            f"{variable} has the path {parts.path!r}; gRPC has no paths and leaves it out."
        )
    return urlunsplit((parts.scheme, parts.netloc, "", "", "")), warnings


def with_port(url: str, port: int) -> str:
    """The URL with another port."""
    parts = urlsplit(url)
    userinfo, at, _ = parts.netloc.rpartition("@")
    host = parts.hostname or ""
    host = f"[{host}]" if ":" in host else host
    return urlunsplit(parts._replace(netloc=f"{userinfo}{at}{host}:{port}"))
