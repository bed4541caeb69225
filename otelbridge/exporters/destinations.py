"""What the records of a spool are, by kind, and where this environment sends them.

For `otelbridge spool`, which has nothing but the directory and the settings. A kind that is not
here can be stored, shown, copied and removed like any other; only its own service can send it.
"""

from __future__ import annotations

import base64
import urllib.request
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field, replace
from typing import Final
from urllib.parse import urlsplit

from otelbridge._version import __version__
from otelbridge.exporters.bodies import Request, halves
from otelbridge.exporters.delivery import Delivery
from otelbridge.exporters.spool import Owner
from otelbridge.settings import LangfuseSettings, Settings

#: Under Langfuse's base URL (Langfuse docs, "OpenTelemetry" and API reference).
LANGFUSE_TRACES_PATH: Final = "/api/public/otel/v1/traces"
LANGFUSE_SCORES_PATH: Final = "/api/public/scores"
_PROTOBUF: Final = "application/x-protobuf"
_JSON: Final = "application/json"


@dataclass(frozen=True, slots=True)
class Destination:
    """A receiver with what it needs to be reached.

    Attributes:
        owner: Whose spool waits for it; names the full URL.
        headers: Credentials among them.
        certificate: PEM file of the authorities to trust; None for the system's.
        client_certificate, client_key: PEM files of this side, for receivers that ask.
    """

    owner: Owner
    headers: Mapping[str, str] = field(repr=False)
    certificate: str | None = None
    client_certificate: str | None = None
    client_key: str | None = None

    def receives(self, described: Mapping[str, str]) -> bool:
        """Whether a spool, by its `owner.json`, was meant for this receiver and account."""
        owner = replace(self.owner, service=described.get("service", ""))
        return owner.described == described

    def delivery(self) -> Delivery:
        """A connection to it, through the system's proxy; nothing is opened yet."""
        url = self.owner.endpoint
        return Delivery(
            url,
            headers=self.headers,
            certificate=self.certificate,
            client_certificate=self.client_certificate,
            client_key=self.client_key,
            proxy=system_proxy(url),
        )


def system_proxy(url: str) -> str | None:
    """The proxy that this system asks for, as HTTP clients of Python find it."""
    parts = urlsplit(url)
    if urllib.request.proxy_bypass(parts.hostname or ""):
        return None
    return urllib.request.getproxies().get(parts.scheme)


def full_stream(settings: Settings) -> Destination:
    """The OTLP endpoint: a Collector, or Tempo in `direct` export."""
    otlp = settings.otlp
    owner = Owner(settings.service_name, otlp.endpoint, otlp.headers.get("x-scope-orgid", ""))
    return Destination(
        owner, otlp.headers, otlp.certificate, otlp.client_certificate, otlp.client_key
    )


def langfuse_stream(settings: Settings) -> Destination | None:
    """Langfuse's OTLP intake; None without its keys."""
    headers = {"x-langfuse-ingestion-version": "4"}
    return _langfuse(settings, "langfuse", LANGFUSE_TRACES_PATH, headers)


def langfuse_scores(settings: Settings) -> Destination | None:
    """Langfuse's API for scores, one JSON object a request; None without its keys."""
    headers = {"content-type": _JSON}
    return _langfuse(settings, "scores", LANGFUSE_SCORES_PATH, headers)


def _langfuse(
    settings: Settings, kind: str, path: str, headers: dict[str, str]
) -> Destination | None:
    langfuse = settings.langfuse
    if not langfuse.configured:
        return None
    owner = Owner(
        settings.service_name,
        f"{langfuse.host}{path}",
        account=langfuse.public_key or "",
        kind=kind,
    )
    return Destination(owner, headers | _credentials(langfuse))


def _credentials(langfuse: LangfuseSettings) -> dict[str, str]:
    pair = f"{langfuse.public_key}:{langfuse.secret_key}".encode()
    return {
        "authorization": f"Basic {base64.b64encode(pair).decode()}",
        "x-langfuse-sdk-name": "otelbridge",
        "x-langfuse-sdk-version": __version__,
    }


def whole(_: Request) -> Iterable[Request]:
    """For bodies that are never taken apart.

    Raises:
        ValueError: always.
    """
    raise ValueError("not to be taken apart")


@dataclass(frozen=True, slots=True)
class Kind:
    """What a record of a spool is.

    Attributes:
        noun: What `Record.spans` counts.
        suffix: Of a file with one body.
        content_type: Of a body.
        destination: Where this environment sends it; None if it is not set to any.
        variables: What sets the destination, for a message.
        split: A body as smaller ones, see `Sender`.
    """

    noun: str
    suffix: str
    content_type: str
    destination: Callable[[Settings], Destination | None]
    variables: str
    split: Callable[[Request], Iterable[Request]]


_KEYS: Final = "LANGFUSE_HOST and the keys"
#: `Owner.kind` to what it means.
KINDS: Final[Mapping[str, Kind]] = {
    "traces": Kind("span", "pb", _PROTOBUF, full_stream, "OTEL_EXPORTER_OTLP_ENDPOINT", halves),
    "langfuse": Kind("span", "pb", _PROTOBUF, langfuse_stream, _KEYS, halves),
    "scores": Kind("score", "json", _JSON, langfuse_scores, _KEYS, whole),
}
