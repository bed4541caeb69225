"""Whether this machine's clock agrees with those of the Collector, Tempo and Langfuse.

The `Date` header of each answer is compared with the local clock in the middle of the request. A
header has whole seconds and some servers write it up to a second late, so differences below
`NOTICEABLE_SECONDS` say nothing. Spans carry the clock of the service, searches that of the store.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from email.utils import parsedate_to_datetime
from typing import Final

from otelbridge.doctor.collector_checks import places
from otelbridge.doctor.findings import Check, Context, Finding
from otelbridge.doctor.network_checks import ask
from otelbridge.doctor.table import finding

#: Above it a difference is real: 1 s of the header, 1 s of the server's cache, 1 s of the network.
NOTICEABLE_SECONDS: Final = 5.0
#: Above it traces are outside of the time ranges that people look at, and Langfuse sorts wrongly.
SERIOUS_SECONDS: Final = 60.0
_REQUEST_SECONDS: Final = 3.0


def check_clocks(context: Context) -> Iterator[Finding]:
    """Compare the clocks of every server of this set-up that answers."""
    settings = context.settings
    if settings is None:
        return
    told: dict[str, float] = {}
    for name, url in _servers(context).items():
        before = context.now_seconds()
        answer = ask(
            context,
            "GET",
            url,
            timeout_seconds=_REQUEST_SECONDS,
            certificate=settings.otlp.certificate if url == settings.otlp.endpoint else None,
        )
        skew = skew_seconds(answer.headers, (before + context.now_seconds()) / 2)
        if skew is not None:
            told[name] = skew
    context.facts["clock_skew_seconds"] = told
    if not told:
        yield finding("clock-unknown", "No server told its time, so clocks were not compared.")
        return
    wrong = {name: skew for name, skew in told.items() if abs(skew) > NOTICEABLE_SECONDS}
    for name, skew in wrong.items():
        direction = "ahead of" if skew > 0 else "behind"
        yield finding(
            "clock-skew",
            f"The clock of {name} is {abs(skew):.0f} s {direction} this machine's.",
            evidence=_shown(told),
            level="error" if abs(skew) > SERIOUS_SECONDS else "warning",
        )
    if not wrong:
        yield finding("clock-ok", f"The clock agrees with {', '.join(told)}.", _shown(told))


def skew_seconds(headers: Mapping[str, str], now_seconds: float) -> float | None:
    """How far the server is ahead of this machine; None without a readable Date header.

    A server that says `10:00:07` means any moment of that second, so half a second is added.
    """
    text = {name.lower(): value for name, value in headers.items()}.get("date", "")
    try:
        return parsedate_to_datetime(text).timestamp() + 0.5 - now_seconds
    except (TypeError, ValueError):
        return None


def _servers(context: Context) -> dict[str, str]:
    """Name to an address that any such server answers, whatever the status."""
    settings = context.settings
    assert settings is not None  # the caller has asked
    servers = {}
    if settings.traces_exporter == "otlp" and settings.otlp.protocol != "grpc":
        servers["the OTLP endpoint"] = settings.otlp.endpoint
    if health := places(context).health:
        servers["the Collector"] = health
    if settings.tempo_url:
        servers["Tempo"] = f"{settings.tempo_url}/ready"
    if settings.langfuse.enabled and settings.langfuse.host and settings.langfuse.configured:
        servers["Langfuse"] = f"{settings.langfuse.host}/api/public/health"
    return servers


def _shown(told: Mapping[str, float]) -> str:
    return ", ".join(f"{name}: {skew:+.0f} s" for name, skew in told.items())


CHECKS: Final = (Check("clock", "network", check_clocks, "network", deadline_seconds=15),)
