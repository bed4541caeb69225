"""Checks of the way to the servers: proxy, authorities, and what answers at the OTLP endpoint.

`problem` turns an `Answer` without a status into the finding with the right code, for the checks of
Langfuse and Tempo as well. An export request without spans is sent, so nothing is stored.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Final
from urllib.parse import urlsplit

from otelbridge.doctor import addresses as at
from otelbridge.doctor import probe
from otelbridge.doctor.findings import Check, Context, Finding
from otelbridge.doctor.table import finding
from otelbridge.endpoints import shown

_CODES: Final[dict[str, str]] = {
    "dns": "dns-failed",
    "refused": "port-closed",
    "silent": "port-silent",
    "tls-expired": "tls-expired",
    "tls-untrusted": "tls-untrusted",
    "tls-hostname": "tls-hostname",
    "tls-none": "tls-on-plain",
    "ca-file": "ca-file",
}
_WHATS: Final[dict[str, str]] = {
    "dns": "The host of {name} does not resolve here.",
    "refused": "Nothing listens at {url} ({name}).",
    "silent": "{url} ({name}) does not answer.",
    "tls-expired": "The certificate at {url} ({name}) has expired.",
    "tls-untrusted": "The certificate at {url} ({name}) is of an unknown authority.",
    "tls-hostname": "The certificate at {url} ({name}) is for another name.",
    "tls-none": "{url} ({name}) does not speak TLS.",
    "ca-file": "The certificate authorities for {url} cannot be read.",
}
_PROXIED: Final = (at.ENDPOINT, at.TRACES_ENDPOINT, "LANGFUSE_HOST", "OTELBRIDGE_TEMPO_URL")
_DEFAULT_ENDPOINT: Final = "http://localhost:4318"


def ask(context: Context, method: str, url: str, **more: Any) -> probe.Answer:
    """One request with the resolver, the proxies and the authorities of this set-up."""
    more.setdefault("resolve", context.resolve)
    return probe.request(method, url, environment=context.environment, **more)


def problem(context: Context, name: str, url: str, answer: probe.Answer) -> Finding:
    """The finding for an answer without a status."""
    where = shown(_origin(url))
    evidence = f"{where}: {answer.detail}"
    if answer.problem == "failed":
        return finding("check-failed", f"No request could be made to {where} ({name}).", evidence)
    if answer.problem == "not-http":
        kind = probe.kind_of_port(url, resolve=context.resolve)
        if kind == "tls":
            return finding(
                "plain-on-tls",
                f"{where} ({name}) wants TLS.",
                evidence,
                f"Set {name}={shown(url.replace('http://', 'https://', 1))}",
            )
        if kind == "http2":
            return finding(
                "otlp-grpc-answers", f"{where} ({name}) speaks gRPC, not HTTP/1.", evidence
            )
        return finding("otlp-not-receiver", f"{where} ({name}) does not speak HTTP.", evidence)
    what = _WHATS[answer.problem].format(name=name, url=where)
    fix = ""
    host = urlsplit(url).hostname or ""
    if answer.problem == "dns" and at.is_container_name(host):
        fix = f"{host} is a name inside a network of containers; from here use localhost."
    return finding(_CODES[answer.problem], what, evidence, fix)


def _origin(url: str) -> str:
    parts = urlsplit(url)
    return f"{parts.scheme}://{parts.netloc}"


def plain_to_tls(answer: probe.Answer) -> bool:
    """Whether a 400 says that TLS was expected. Source: texts of Go's net/http and nginx."""
    text = answer.text.lower()
    return answer.status == 400 and (
        "http request to an https server" in text or "plain http request was sent" in text
    )


def proxies(context: Context) -> Iterator[Finding]:
    """Proxy variables that take local traffic."""
    told = set()
    given = {name: context.value(name) for name in _PROXIED}
    if not given[at.ENDPOINT] and not given[at.TRACES_ENDPOINT]:
        given[at.ENDPOINT] = _DEFAULT_ENDPOINT
    for name, text in given.items():
        parts = at.split(text) if text else None
        if parts is None or not parts.hostname or parts.hostname in told:
            continue
        proxy = probe.proxy_of(context.environment, parts.geturl())
        if proxy and not at.is_public(parts.hostname):
            told.add(parts.hostname)
            yield finding(
                "proxy-captures",
                f"Requests to {parts.hostname} ({name}) go to a proxy.",
                f"proxy {shown(proxy)}",
                f"Set NO_PROXY and no_proxy to {_no_proxy(context, parts.hostname)}",
            )


def _no_proxy(context: Context, host: str) -> str:
    listed = context.value("no_proxy") or context.value("NO_PROXY")
    names = [
        *(part.strip() for part in listed.split(",") if part.strip()),
        host,
        "localhost",
        "127.0.0.1",
    ]
    return ",".join(dict.fromkeys(names))


def authorities(context: Context) -> Iterator[Finding]:
    """The PEM file of the exporter."""
    for name in ("OTEL_EXPORTER_OTLP_TRACES_CERTIFICATE", "OTEL_EXPORTER_OTLP_CERTIFICATE"):
        if path := context.value(name):
            try:
                probe.tls_context(path)
            except probe.CaFileError as error:
                yield finding("ca-file", f"{name} cannot be used.", str(error))
            return


def otlp(context: Context) -> Iterator[Finding]:
    """What answers at the OTLP endpoint."""
    settings = context.settings
    if settings is None or settings.sdk_disabled or settings.traces_exporter != "otlp":
        return
    name, url = at.traces_variable(context), settings.otlp.endpoint
    if settings.otlp.protocol == "grpc":
        yield from _grpc(context, name, url)
        return
    if any(set("\r\n") & set(value) for value in settings.otlp.headers.values()):
        context.facts["otlp_ok"] = False
        return  # no client sends such a header; `header_checks` names it
    headers = {**settings.otlp.headers, "content-type": "application/x-protobuf"}
    answer = ask(
        context, "POST", url, body=b"", headers=headers, certificate=settings.otlp.certificate
    )
    context.facts["otlp_ok"] = False
    if answer.problem:
        yield problem(context, name, url, answer)
        return
    found = _judge(name, url, answer)
    context.facts["otlp_ok"] = found.code == "otlp-good"
    yield found


def _judge(name: str, url: str, answer: probe.Answer) -> Finding:
    where = shown(url)
    evidence = f"POST {where}: {answer.status}"
    kind = answer.headers.get("content-type", "").partition(";")[0]
    if plain_to_tls(answer):
        return finding("plain-on-tls", f"{where} ({name}) wants TLS.", evidence)
    if answer.status in (401, 403):
        return finding("otlp-unauthorized", f"{where} ({name}) refuses the headers.", evidence)
    if answer.status in (404, 405, 501):
        return finding("otlp-path-404", f"No receiver at {where} ({name}).", evidence)
    if answer.status == 429 or answer.status >= 500:
        return finding("otlp-refusing", f"{where} ({name}) takes nothing now.", evidence)
    # 400: a receiver that minds an empty request; it speaks the protocol and knows the path.
    if answer.status in (200, 400) and kind in ("application/x-protobuf", "application/json"):
        return finding("otlp-good", f"{where} takes spans.", evidence)
    seen = f"{evidence}, {kind or 'no content type'}"
    return finding("otlp-not-receiver", f"{where} ({name}) is no OTLP receiver.", seen)


def _grpc(context: Context, name: str, url: str) -> Iterator[Finding]:
    where = shown(url)
    answer = ask(context, "GET", url)  # tells name, port and TLS; a gRPC server gives no status
    if answer.problem and answer.problem not in ("not-http", "failed"):
        yield problem(context, name, url, answer)
        return
    kind = probe.kind_of_port(url, resolve=context.resolve)
    wants_tls = url.startswith("https://")
    context.facts["otlp_ok"] = kind == ("tls" if wants_tls else "http2")
    if context.facts["otlp_ok"]:
        yield finding("otlp-good", f"{where} speaks gRPC.", f"{kind} at {where}")
    elif kind == "tls":
        yield finding("plain-on-tls", f"{where} ({name}) wants TLS.", "it made a TLS handshake")
    else:
        yield finding(
            "otlp-http-answers",
            f"{where} ({name}) does not speak gRPC.",
            f"the answer to HTTP/2 is {kind}",
        )


CHECKS: Final[tuple[Check, ...]] = (
    Check("proxies", "network", proxies),
    Check("authorities", "network", authorities),
    Check("otlp", "network", otlp, stage="network", deadline_seconds=15.0),
)
