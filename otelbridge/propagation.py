"""W3C trace context and baggage under the trusted-host rule, and the LLM view's tracestate member.

`BridgePropagator` wraps the propagators that `OTEL_PROPAGATORS` names. Outbound it asks `trust`
about the host before anything is written, and takes the headers away again at an untrusted one;
inbound it drops what an edge must not believe. `inject` and `extract` are the same by hand, for
headers, queue messages and process environments. Never raises; never logs a header's value.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, MutableMapping
from typing import Any, Final, Literal

from opentelemetry import context as otel_context
from opentelemetry import propagate, trace
from opentelemetry.context import Context
from opentelemetry.propagators.textmap import (
    CarrierT,
    Getter,
    Setter,
    TextMapPropagator,
    default_getter,
    default_setter,
)
from opentelemetry.trace import NonRecordingSpan, SpanContext
from opentelemetry.trace.span import TraceState

from otelbridge import _guard, legacy_headers, semconv, view
from otelbridge.context import is_ours, with_updates
from otelbridge.trust import TrustedHosts, host_of

_logger = _guard.logger

CarrierForm = Literal["headers", "queue", "environment"]

#: Context key with the URL host of the request that is being sent; set by HTTP integrations.
OUTGOING_HOST_KEY: Final = "otelbridge.outgoing_host"
#: Context key with the caller's span context at an edge that does not trust it.
UNTRUSTED_REMOTE_KEY: Final = "otelbridge.untrusted_remote"
#: Context key with the `view.ReportChannel` of the request that is being served.
CHANNEL_KEY: Final = "otelbridge.report_channel"
_EXPLICIT: Final = "*explicit*"

#: W3C Baggage 3.3.2 and W3C Trace Context 3.3.1.1.
MAX_BAGGAGE_HEADER_BYTES: Final = 8192
MAX_BAGGAGE_MEMBER_BYTES: Final = 4096
MAX_TRACESTATE_MEMBERS: Final = 32
_BAGGAGE_MEMBER: Final = re.compile(r"^[ \t]*[!#$%&'*+\-.^_`|~0-9A-Za-z]+[ \t]*=[\x21-\x7e \t]*$")

# HTTP headers whose response we read the report from; filled by the HTTP client integrations.
_answering_carriers: set[type] = set()
_withheld: set[str] = set()
_withheld_lock = _guard.fork_safe_lock()


def register_answering_carrier(carrier_type: type) -> None:
    """Declare that requests with this headers type have their response header read."""
    _answering_carriers.add(carrier_type)


class BridgePropagator(TextMapPropagator):
    """The configured propagators, held back at untrusted hosts and completed by the view's member.

    Args:
        inner: What `OTEL_PROPAGATORS` names, composed.
        trusted: Which hosts get context.
        trust_inbound: False at an edge: a new trace starts, linked to the caller's.
        legacy: `in`, `both` or `off` (`OTELBRIDGE_LEGACY_LANGFUSE_HEADERS`).
    """

    def __init__(
        self,
        inner: TextMapPropagator,
        *,
        trusted: TrustedHosts,
        trust_inbound: bool = True,
        legacy: Literal["in", "both", "off"] = "in",
    ) -> None:
        self._inner = inner
        self._trusted = trusted
        self._trust_inbound = trust_inbound
        self._legacy = legacy

    @property
    def fields(self) -> set[str]:
        """The header names that may be written: those of the wrapped propagators, and ours."""
        own = legacy_headers.NAMES if self._legacy == "both" else ()
        return self._inner.fields.union(own)

    def trusts(self, netloc: str) -> bool:
        """Whether a host may see trace context."""
        return self._trusted.trusts(netloc)

    def inject(
        self,
        carrier: CarrierT,
        context: Context | None = None,
        setter: Setter[CarrierT] = default_setter,
    ) -> None:
        """Write context into a carrier whose host is trusted; clear it where it is not.

        A carrier without a host (and no integration that names one) gets nothing: an unknown
        target is an untrusted one. `otelbridge.inject` is the explicit way.
        """
        with _guard.guard("propagation.inject"):
            host = otel_context.get_value(OUTGOING_HOST_KEY, context) or _carrier_host(carrier)
            if not isinstance(host, str):
                return
            if host != _EXPLICIT and not self._trusted.trusts(host):
                self.withhold(carrier, host)
                return
            stamped = _with_member(carrier, context)
            self._inner.inject(carrier, stamped, setter)
            if self._legacy == "both":
                legacy_headers.write(carrier, stamped, setter)

    def withhold(self, carrier: Any, host: str) -> None:
        """Take the context headers off a carrier that goes to an untrusted host."""
        if isinstance(carrier, MutableMapping):
            for name in self.fields:
                carrier.pop(name, None)
        _log_withheld(host_of(host))

    def extract(
        self,
        carrier: CarrierT,
        context: Context | None = None,
        getter: Getter[CarrierT] = default_getter,
    ) -> Context:
        """The context with what the carrier says, as far as inbound context is trusted."""
        base = otel_context.get_current() if context is None else context
        with _guard.guard("propagation.extract"):
            clean: Any = _CleanGetter(getter)
            if self._trust_inbound:
                found = self._inner.extract(carrier, base, clean)
                if self._legacy == "off" or _has_other_span(found, base):
                    return found
                return legacy_headers.read(carrier, found, clean)
            remote = trace.get_current_span(
                self._inner.extract(carrier, Context(), clean)
            ).get_span_context()
            if remote.is_valid:
                return otel_context.set_value(UNTRUSTED_REMOTE_KEY, remote, base)
        return base


def _has_other_span(found: Context, base: Context) -> bool:
    """Whether a valid traceparent came in."""
    return trace.get_current_span(found) is not trace.get_current_span(base)


def _carrier_host(carrier: Any) -> str | None:
    """The Host header of HTTP client headers, the last resort where no integration set the host."""
    if not isinstance(carrier, MutableMapping):
        return None
    host = carrier.get("host") or carrier.get("Host")
    return host if isinstance(host, str) else None


def _with_member(carrier: Any, context: Context | None) -> Context:
    """The context whose current span carries the right `otelbridge` member in its tracestate."""
    current = otel_context.get_current() if context is None else context
    span = trace.get_current_span(current)
    node = view.node_of(span)
    if node is None:
        return current
    current = with_updates(current, node.entry)
    own = span.get_span_context()
    sender = trace.format_span_id(own.span_id)
    name = node.name_below()
    if name is not None and not name.firm:
        host = otel_context.get_value(OUTGOING_HOST_KEY, current)
        if type(carrier) in _answering_carriers and host != _EXPLICIT:
            view.call_started(node.entry, own.span_id, awaited=host is not None)
        else:
            name = None  # no report can come back: nothing is named in advance
    member = None
    if name is not None:
        member = view.Member(name.span_id, sender, name.firm, node.counts_below())
    if member is None and semconv.TRACESTATE_MEMBER not in own.trace_state:
        return current
    others = [item for item in own.trace_state.items() if item[0] != semconv.TRACESTATE_MEMBER]
    entries = [(semconv.TRACESTATE_MEMBER, str(member))] if member is not None else []
    state = TraceState((entries + others)[:MAX_TRACESTATE_MEMBERS])
    stamped = SpanContext(own.trace_id, own.span_id, own.is_remote, own.trace_flags, state)
    return trace.set_span_in_context(NonRecordingSpan(stamped), current)


def _log_withheld(host: str) -> None:
    with _withheld_lock:
        if host in _withheld or len(_withheld) >= 1000:  # a bound for hosts from user input
            return
        _withheld.add(host)
    _logger.warning(
        "otelbridge: trace context is not sent to %s, which is not a trusted host. "
        "If it is one of your services, add it to OTELBRIDGE_TRUSTED_HOSTS.",
        host,
    )


class _CleanGetter(Getter[Any]):
    """Reads headers for the wrapped propagators; hides baggage they would log or choke on."""

    def __init__(self, getter: Getter[Any]) -> None:
        self._getter = getter

    def get(self, carrier: Any, key: str) -> list[str] | None:
        values = self._getter.get(carrier, key)
        if not values:
            return None
        texts = [v.decode("latin-1") if isinstance(v, bytes) else v for v in values]
        texts = [v for v in texts if isinstance(v, str)]
        return _clean_baggage(texts) if key == "baggage" else texts

    def keys(self, carrier: Any) -> list[str]:
        return self._getter.keys(carrier)


def _clean_baggage(headers: list[str]) -> list[str] | None:
    """One header of well-formed members within the limits; the rest is dropped and counted."""
    header = ",".join(headers)
    if len(header) > MAX_BAGGAGE_HEADER_BYTES:
        _guard.count("inbound baggage over 8192 bytes")
        return None
    members = [
        _without_properties(member.strip(" \t"))
        for member in header.split(",")
        if len(member) <= MAX_BAGGAGE_MEMBER_BYTES and _BAGGAGE_MEMBER.match(member)
    ]
    return [",".join(members)] if members else None


def _without_properties(member: str) -> str:
    # W3C Baggage 3.2: `key=value;property`. The SDK's propagator takes properties for a part of
    # the value; in a user id that would be wrong.
    return member.split(";", 1)[0] if is_ours(member.split("=", 1)[0].strip()) else member


def inject(
    carrier: Any, context: Context | None = None, *, form: CarrierForm = "headers"
) -> None:
    """Write the current trace context and baggage into a carrier, whoever it goes to.

    Args:
        carrier: A mutable mapping of text; or, for a queue, a list that takes `(name, bytes)`
            pairs (Kafka headers).
        context: Defaults to the current one.
        form: `headers` and `queue` write `traceparent`, `tracestate`, `baggage`; `environment`
            writes `TRACEPARENT`, `TRACESTATE`, `BAGGAGE` for a child process.
    The caller vouches for the target; requests that the HTTP integrations see still lose the
    headers at an untrusted host. Where no report can come back nothing is named in advance.
    """
    with _guard.guard("inject"):
        explicit = otel_context.set_value(OUTGOING_HOST_KEY, _EXPLICIT, context)
        setter: Any = _PairSetter() if isinstance(carrier, list) else default_setter
        if form == "environment":
            setter = _EnvironmentSetter()
        propagate.inject(carrier, explicit, setter)


def extract(
    carrier: Any, context: Context | None = None, *, form: CarrierForm = "headers"
) -> Context:
    """The context that a carrier speaks of, under the inbound trust rule.

    Args:
        carrier: Request headers of any framework, a WSGI environ, a mapping of text or bytes, or
            a list of `(name, value)` pairs.
        form: `environment` reads `TRACEPARENT`, `TRACESTATE`, `BAGGAGE`.
    Returns:
        A context to pass to `start_span(context=…)` or to attach. Malformed values are ignored.
    """
    base = otel_context.get_current() if context is None else context
    with _guard.guard("extract"):
        return propagate.extract(_as_mapping(carrier, form), base)
    return base


class _PairSetter(Setter[list[tuple[str, bytes]]]):
    def set(self, carrier: list[tuple[str, bytes]], key: str, value: str) -> None:
        carrier[:] = [pair for pair in carrier if pair[0].lower() != key]
        carrier.append((key, value.encode()))


class _EnvironmentSetter(Setter[MutableMapping[str, str]]):
    """Environment variable carriers: upper-case names (OTel specification 1.5x, env-carriers)."""

    def set(self, carrier: MutableMapping[str, str], key: str, value: str) -> None:
        carrier[key.upper().replace("-", "_")] = value


def _as_mapping(carrier: Any, form: CarrierForm) -> dict[str, str]:
    """Lower-case header names to text, from any of the carriers that `extract` takes."""
    pairs: Iterable[tuple[Any, Any]] = carrier.items() if hasattr(carrier, "items") else carrier
    found: dict[str, str] = {}
    for key, value in pairs:
        name = (key.decode("latin-1") if isinstance(key, bytes) else str(key)).lower()
        if name.startswith("http_"):  # a WSGI environ
            name = name[5:].replace("_", "-")
        if form == "environment":
            name = name.replace("_", "-")
        text = value.decode("latin-1", "replace") if isinstance(value, bytes) else value
        if isinstance(text, str):
            # Repeated headers are one list (RFC 9110 5.3); two traceparents so become invalid.
            repeated = name in found and name in ("traceparent", "tracestate", "baggage")
            found[name] = f"{found[name]},{text}" if repeated else text
    return found
