"""The canary check: one trace through the whole route, read back from both stores and compared.

`canary_send` makes and sends it, `canary_read` polls the stores, `canary_judge` compares. What an
earlier check found broken is not reported again: the canary then skips that store. Limits: a store
without an address or keys here is not read, which is noted.
"""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import Final

from otelbridge.doctor.canary_judge import judge_langfuse, judge_tempo, route_of
from otelbridge.doctor.canary_read import Ask, ReadBack, langfuse_reader, read_until, tempo_reader
from otelbridge.doctor.canary_send import Delivery, SentCanary, cannot_send, send
from otelbridge.doctor.collector_checks import read_state, report_collector
from otelbridge.doctor.collector_series import CollectorState
from otelbridge.doctor.findings import Check, Context, Finding
from otelbridge.doctor.table import finding
from otelbridge.links import links, pages_of
from otelbridge.settings import Settings

#: Above anything that sending (10 s) and reading back (30 s unless asked for otherwise) may take.
_DEADLINE_SECONDS: Final = 300.0
#: Read by requests, on which the HTTP exporter is built, before the exporter's own certificate.
_BUNDLES: Final = ("REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE")
_CERTIFICATE_ERROR: Final = "CERTIFICATE_VERIFY_FAILED"


def check_canary(context: Context) -> Iterator[Finding]:
    """Send a canary, read it back from every store that can be read, compare."""
    settings = context.settings
    reason = _why_not(context)
    if settings is None or reason:
        yield finding("canary-skipped", f"No canary was sent: {reason}.")
        return
    before = read_state(context)
    sent = send(settings)
    failed = {item.target: item for item in sent.deliveries if not item.accepted}
    if _langfuse_is_broken(context):  # reported already
        failed.pop("langfuse", None)
    for delivery in failed.values():
        yield _not_sent(context, settings, delivery)
    if "collector" in failed:
        return
    context.facts["collector_proven"] = _has_passed(before, read_state(context), sent)
    for store, why in _stores(context, settings).items():
        if why:
            name = store.capitalize()
            yield finding("canary-not-read", f"The canary was not read back from {name}: {why}.")
    found = _read(context, settings, sent, before, without=set(failed))
    state = read_state(context)
    problems: list[Finding] = []
    for store, back in found.items():
        judge = judge_tempo if store == "tempo" else judge_langfuse
        problems += judge(settings, sent, back, route_of(store, before, state))
    if context.facts.get("langfuse_project_id", settings.langfuse.project_id) != (
        settings.langfuse.project_id
    ):  # reported already, by asking Langfuse for the keys' project
        problems = [item for item in problems if item.code != "canary-other-project"]
    yield from problems
    if found and not problems and not failed:
        yield _good(settings, sent, found)


def _why_not(context: Context) -> str | None:
    settings = context.settings
    if settings is None:
        return "the settings cannot be used"
    if reason := cannot_send(settings):
        return reason
    if context.facts.get("otlp_ok") is False:
        return "the OTLP endpoint does not take spans"
    return None


def _has_passed(
    before: CollectorState | None, after: CollectorState | None, sent: SentCanary
) -> bool | None:
    """Whether the Collector that is seen has counted the canary; None when none is seen."""
    if before is None or after is None:
        return None
    return after.accepted - before.accepted >= len(sent.spans)


def _not_sent(context: Context, settings: Settings, delivery: Delivery) -> Finding:
    bundles = [name for name in _BUNDLES if context.value(name)]
    stock = settings.exporter == "stock"  # our own knows no bundle of another library
    if stock and settings.otlp.certificate and bundles and _CERTIFICATE_ERROR in delivery.log:
        return finding(
            "ca-bundle-wins",
            f"{bundles[0]} is used instead of OTEL_EXPORTER_OTLP_CERTIFICATE, and does not know "
            "the receiver's authority.",
            delivery.log,
        )
    return finding(
        "canary-not-sent",
        f"The exporter could not deliver the canary to {delivery.target}.",
        delivery.log,
    )


def _langfuse_is_broken(context: Context) -> bool:
    """Whether the network checks have run and have not found Langfuse good."""
    return "otlp_ok" in context.facts and not context.facts.get("langfuse_ok")


def _stores(context: Context, settings: Settings) -> dict[str, str | None]:
    """Store to the reason why it is not read, None when it is."""
    langfuse, facts = settings.langfuse, context.facts
    asked = "otlp_ok" in facts  # the network stage has run
    tempo = "no Tempo answered" if asked and not facts.get("tempo_url") else None
    why = None
    if not langfuse.enabled:
        why = "LANGFUSE_ENABLED=false"
    elif missing := langfuse.missing_keys:
        why = f"{' and '.join(missing)} not set here"
    elif not langfuse.sample_rate:
        why = "LANGFUSE_SAMPLE_RATE=0"
    elif _langfuse_is_broken(context):
        why = "Langfuse does not answer these keys"
    elif facts.get("langfuse_route") and facts.get("collector_proven") is not False:
        why = str(facts["langfuse_route"])
    return {"tempo": tempo, "langfuse": why}


def _reader(context: Context, settings: Settings, store: str, trace_id: str) -> Ask:
    if store == "tempo":
        base = context.facts.get("tempo_url") or settings.tempo_url
        return tempo_reader(str(base).rstrip("/"), trace_id, context)
    langfuse = settings.langfuse
    base = context.facts.get("langfuse_url") or langfuse.host
    return langfuse_reader(str(base).rstrip("/"), langfuse, trace_id, context)


def _read(
    context: Context,
    settings: Settings,
    sent: SentCanary,
    before: CollectorState | None,
    without: set[str],
) -> dict[str, ReadBack]:
    """What each store that can be read has, asked side by side."""
    wanted = {
        "tempo": [span.span_id for span in sent.spans],
        "langfuse": [span.span_id for span in sent.in_view],
    }
    reasons = _stores(context, settings)
    stores = [store for store, why in reasons.items() if why is None and store not in without]
    if not stores:
        return {}
    with ThreadPoolExecutor(len(stores), "otelbridge-canary") as pool:
        asked = {
            store: pool.submit(
                read_until,
                _reader(context, settings, store, sent.trace_id),
                wanted[store],
                context.readback_seconds,
                partial(_given_up, context, store, before),
            )
            for store in stores
        }
    return {store: future.result() for store, future in asked.items()}


def _given_up(context: Context, store: str, before: CollectorState | None) -> bool:
    return route_of(store, before, read_state(context)).given_up > 0


def _good(settings: Settings, sent: SentCanary, found: dict[str, ReadBack]) -> Finding:
    shown = links(pages_of(settings), sent.trace_id, start_time_ns=sent.spans[0].start_ns)
    waits = ", ".join(f"{name} after {back.waited_seconds:.1f} s" for name, back in found.items())
    urls = [url for url in (shown.langfuse_url, shown.grafana_url) if url]
    return finding(
        "canary-good",
        f"Trace {sent.trace_id} arrived as it was made: {waits}.",
        "; ".join([f"{len(sent.spans)} spans, {len(sent.in_view)} in the LLM view", *urls]),
    )


CHECKS: Final = (
    Check("canary", "canary", check_canary, "canary", deadline_seconds=_DEADLINE_SECONDS),
    Check("collector-state", "collector", report_collector, "canary"),
)
