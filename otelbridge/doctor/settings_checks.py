"""Checks of variables other than addresses and headers, and of the settings as a whole.

`values` looks at every text by itself (spaces, quotes, placeholders); the others at one subject
each: switches, sampling, propagation, trust, content, limits. `leftovers` runs last: a repair that
`Settings` made and that no check here named is still told.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from importlib.metadata import entry_points
from typing import Final

from otelbridge.doctor import addresses as at
from otelbridge.doctor.findings import Check, Context, Finding, is_secret_name
from otelbridge.doctor.table import finding
from otelbridge.endpoints import shown
from otelbridge.env import CAPTURE_MODES
from otelbridge.trust import TrustedHosts, host_of

_OURS: Final = re.compile(r"(?:OTEL|LANGFUSE|OTELBRIDGE|LITELLM)_")
_PLACEHOLDER: Final = re.compile(
    r"<[^<>]+>|.*\$\{[^}]*\}.*|(?:pk-lf-|sk-lf-)?(?:\.{3}|…|x{3,}|\*{3,})"
    r"|change[-_ ]?me|todo|your[-_ ].*|replace[-_ ]?(?:me|this).*|example|secret[-_]here",
    re.IGNORECASE | re.DOTALL,
)
#: Read by docker-compose.yml and Grafana, which share the .env file; no misspelled ones of ours.
_OTHERS: Final = (
    "OTELBRIDGE_COMPOSE_",
    "OTELBRIDGE_LANGFUSE_TRACE_LINK",
    "OTELBRIDGE_LANGFUSE_PROXY_URL",
)
#: May hold `${...}`, which Grafana replaces itself.
_TEMPLATES: Final = ("OTELBRIDGE_LANGFUSE_TRACE_LINK",)
_SAMPLERS: Final = (
    "always_on",
    "always_off",
    "traceidratio",
    "parentbased_always_on",
    "parentbased_always_off",
    "parentbased_traceidratio",
    "parentbased_jaeger_remote",
    "jaeger_remote",
    "xray",
)
_EDGE: Final = re.compile(r"(?:^|[-_.])(?:gateway|edge|frontend|bff|ingress|proxy|web)(?:$|[-_.])")
#: Hosts of third parties, which rightly get no trace context.
_THIRD_PARTIES: Final = (
    "openai.com",
    "anthropic.com",
    "azure.com",
    "windows.net",
    "googleapis.com",
    "google.com",
    "amazonaws.com",
    "mistral.ai",
    "cohere.com",
    "cohere.ai",
    "groq.com",
    "together.xyz",
    "openrouter.ai",
    "huggingface.co",
    "perplexity.ai",
    "deepseek.com",
    "x.ai",
    "langfuse.com",
    "grafana.net",
    "grafana.com",
    "slack.com",
    "sentry.io",
    "github.com",
    "datadoghq.com",
    "pinecone.io",
    "weaviate.cloud",
    "smith.langchain.com",
    "stripe.com",
    "twilio.com",
    "pypi.org",
)
#: Addresses that are no calls of the application.
_NOT_CALLS: Final = re.compile(
    r"(?:OPENAI|ANTHROPIC|AZURE|MISTRAL|COHERE|GROQ|GEMINI|GOOGLE|DEEPSEEK|OPENROUTER|BEDROCK|AWS)_|"
    r"(?:OTEL|LANGFUSE|OTELBRIDGE|GF|NEXTAUTH|PIP|UV|NPM|GIT|GITHUB)_|"
    r".*(?:PROXY|PUBLIC_URL|REDIRECT|ISSUER|WEBHOOK|DOCS?|HOMEPAGE)"
)
_URL: Final = re.compile(r"https?://[^\s/?#,\"'<>]+")
_DEFAULT_QUEUE_SPANS: Final = 2048  # of the SDK
_LEAST_ATTRIBUTES: Final = 128  # of the SDK


def readable(context: Context) -> Iterator[Finding]:
    """Whether the settings can be read at all."""
    error = context.settings_error
    if error is None:
        yield finding("settings-good", "The settings can be read.", _origins(context))
        return
    if "swapped" in error.remedy:
        return  # `header_checks.keys` says it with a code of its own
    what = f"{error.variable} cannot be used; allowed: {error.allowed}."
    value = "" if is_secret_name(error.variable) else shown(error.value)
    yield finding("settings-unusable", what, value and f"{error.variable}={value}", error.remedy)


def _origins(context: Context) -> str:
    settings = context.settings
    given = [
        name
        for name, origin in (settings.origins if settings else {}).items()
        if origin != "default"
    ]
    from_file = [name for name in given if name in context.env_file]
    return f"{len(given)} variables given, {len(from_file)} of them in .env; the rest are defaults"


def values(context: Context) -> Iterator[Finding]:
    """Spaces, quotes and placeholders in the texts of telemetry variables."""
    for name, text in sorted(context.environment.items()):
        if not _OURS.match(name) or not text.strip() or name in _TEMPLATES:
            continue
        if text != text.strip():
            where = "a line end" if "\n" in text or "\r" in text else "white space"
            yield finding(
                "value-whitespace",
                f"{name} has {where} around its value.",
                f"{len(text) - len(text.strip())} characters too many",
            )
        bare = text.strip()
        quote = bare[0]
        if quote in "\"'" and (bare[-1] == quote or at.split(bare.strip("\"'")) is not None):
            yield finding(
                "value-quoted", f"{name} has quotes in its value.", f"it begins with {quote}"
            )
        elif _PLACEHOLDER.fullmatch(bare):
            seen = "the form of the value" if is_secret_name(name) else f"{name}={bare}"
            yield finding("value-placeholder", f"{name} is not filled in.", seen)


def switches(context: Context) -> Iterator[Finding]:
    """What switches tracing or Langfuse off."""
    if context.value("OTEL_SDK_DISABLED").lower() == "true":
        yield finding("sdk-disabled", "OTEL_SDK_DISABLED=true: there are no spans.")
    exporter = context.value("OTEL_TRACES_EXPORTER").lower()
    if exporter in ("none", "console"):
        yield finding("traces-exporter-off", f"OTEL_TRACES_EXPORTER={exporter}: nothing is sent.")
    if context.value("OTEL_CONFIG_FILE"):
        yield finding(
            "config-file-wins",
            "OTEL_CONFIG_FILE decides about the pipeline.",
            f"OTEL_CONFIG_FILE={context.value('OTEL_CONFIG_FILE')}",
        )
    settings = context.settings
    if settings is None:
        return
    if not settings.langfuse.enabled:
        yield finding("langfuse-off", "LANGFUSE_ENABLED=false: Langfuse gets nothing.")
    elif settings.langfuse.sample_rate == 0:
        yield finding("langfuse-sample-zero", "LANGFUSE_SAMPLE_RATE=0: Langfuse gets nothing.")
    if settings.service_name == "unknown_service":
        yield finding("service-name-missing", "This environment names no service.")


def sampling(context: Context) -> Iterator[Finding]:
    """OTEL_TRACES_SAMPLER and its argument."""
    given = context.value("OTEL_TRACES_SAMPLER").lower()
    argument = context.value("OTEL_TRACES_SAMPLER_ARG")
    evidence = f"OTEL_TRACES_SAMPLER={given}" + (f", _ARG={argument}" if argument else "")
    if not given:
        return
    if given not in _SAMPLERS:
        yield finding("sampler-unusable", f"The SDK knows no sampler {given}.", evidence)
        return
    ratio: float | None = None
    if "traceidratio" in given:
        try:
            ratio = float(argument or "1")
        except ValueError:
            ratio = -1.0
        if not 0 <= ratio <= 1:
            yield finding("sampler-unusable", "The ratio is no number from 0 to 1.", evidence)
            return
    if given.endswith("always_off") or ratio == 0:
        yield finding("sampler-off", "No trace that begins here is recorded.", evidence)
    elif given == "traceidratio" and ratio != 1:
        yield finding("sampler-breaks-traces", "The caller's decision is ignored.", evidence)


def propagation(context: Context) -> Iterator[Finding]:
    """OTEL_PROPAGATORS."""
    given = [part.strip() for part in context.value("OTEL_PROPAGATORS").split(",") if part.strip()]
    if not given:
        return
    evidence = f"OTEL_PROPAGATORS={','.join(given)}"
    known = {entry.name for entry in entry_points(group="opentelemetry_propagator")}
    known |= {"tracecontext", "baggage", "none"}
    if unknown := [name for name in given if name not in known]:
        yield finding("propagators-unknown", f"Not installed: {', '.join(unknown)}.", evidence)
    if "tracecontext" not in given:
        yield finding(
            "propagators-missing",
            "No traceparent is sent or read.",
            evidence,
            "Set OTEL_PROPAGATORS=tracecontext,baggage",
        )
    elif "baggage" not in given:
        yield finding(
            "propagators-no-baggage",
            "User and session do not travel.",
            evidence,
            "Set OTEL_PROPAGATORS=tracecontext,baggage",
        )


def trust(context: Context) -> Iterator[Finding]:
    """OTELBRIDGE_TRUSTED_HOSTS against the hosts in this environment, and inbound trust."""
    given = [part.strip() for part in context.value("OTELBRIDGE_TRUSTED_HOSTS").split(",")]
    given = [part for part in given if part]
    for pattern in given:
        bare = pattern.removeprefix("!")
        port = re.search(r"(?<![:\]]):\d+$", bare) and bare.count(":") == 1
        if (
            port
            or bare.startswith(".")
            or ("/" in bare and not re.fullmatch(r"[\d.:a-f]+/\d+", bare))
        ):
            yield finding(
                "trusted-hosts-pattern",
                f"The pattern {pattern} matches no host.",
                f"OTELBRIDGE_TRUSTED_HOSTS={','.join(given)}",
            )
    if "*" in given:
        yield finding("trusted-hosts-all", "OTELBRIDGE_TRUSTED_HOSTS has `*`.")
    cluster = bool(context.value("KUBERNETES_SERVICE_HOST"))
    rule = TrustedHosts(tuple(given), cluster)
    denied = [part for part in given if part.startswith("!")]
    default = TrustedHosts(tuple(part for part in given if not part.startswith("!")), cluster)
    for name, netloc in seen_hosts(context.environment):
        host = host_of(netloc)
        if rule.trusts(netloc) or not host:
            continue
        if default.trusts(netloc):
            yield finding(
                "trusted-hosts-deny",
                f"Requests to {host} ({name}) carry no traceparent.",
                f"OTELBRIDGE_TRUSTED_HOSTS={','.join(given)}",
                f"Take the pattern away that denies {host}: {', '.join(denied)}",
            )
        elif not host.endswith(_THIRD_PARTIES):
            yield finding(
                "host-untrusted",
                f"Requests to {host} ({name}) carry no traceparent.",
                "no pattern and no default trusts it",
                f"If it is yours: OTELBRIDGE_TRUSTED_HOSTS={','.join([*given, host])}",
            )
    yield from _inbound(context)


def seen_hosts(environment: Mapping[str, str]) -> Iterator[tuple[str, str]]:
    """Variable and authority (host and port) of each URL that an application may call."""
    told = set()
    for name, text in sorted(environment.items()):
        if _NOT_CALLS.match(name):
            continue
        for url in _URL.findall(text):
            netloc = url.partition("://")[2]
            if (host := host_of(netloc)) not in told:
                told.add(host)
                yield name, netloc


def _inbound(context: Context) -> Iterator[Finding]:
    service = context.value("OTEL_SERVICE_NAME").lower()
    given = context.value("OTELBRIDGE_TRUST_INBOUND")
    trusts = context.settings.trust_inbound if context.settings else True
    edge = bool(_EDGE.search(service))
    if edge and not given:
        yield finding(
            "edge-trusts-inbound",
            f"{service} believes the trace context of any caller.",
            f"OTEL_SERVICE_NAME={service}, OTELBRIDGE_TRUST_INBOUND not set",
        )
    elif service and not edge and not trusts:
        yield finding(
            "inbound-not-believed",
            f"{service} begins a new trace for each request.",
            "OTELBRIDGE_TRUST_INBOUND=false",
        )


def content(context: Context) -> Iterator[Finding]:
    """Where message text goes."""
    name = "OTEL_INSTRUMENTATION_GENAI_CAPTURE_MESSAGE_CONTENT"
    given = context.value(name)
    word = given.upper()
    word = {"TRUE": "SPAN_ONLY", "FALSE": "NO_CONTENT"}.get(word, word)
    if given and word not in CAPTURE_MODES:
        yield finding("content-unknown", "The content mode is not understood.", f"{name}={given}")
    elif word == "EVENT_ONLY":
        yield finding("content-not-on-spans", "Langfuse gets no message text.", f"{name}={given}")
    elif word == "NO_CONTENT":
        yield finding("content-off", "No message text is recorded.", f"{name}={given}")


def limits(context: Context) -> Iterator[Finding]:
    """Queue, attributes, lengths, time-out."""
    queue = _number(context, "OTEL_BSP_MAX_QUEUE_SIZE")
    if queue is not None and queue < _DEFAULT_QUEUE_SPANS:
        yield finding(
            "queue-small",
            f"The export queue holds {queue} spans.",
            f"OTEL_BSP_MAX_QUEUE_SIZE={queue}",
        )
    for name in ("OTEL_SPAN_ATTRIBUTE_COUNT_LIMIT", "OTEL_ATTRIBUTE_COUNT_LIMIT"):
        count = _number(context, name)
        if count is not None and count < _LEAST_ATTRIBUTES:
            yield finding(
                "attribute-limit-small",
                f"A span keeps {count} attributes.",
                f"{name}={count}",
                f"Unset {name}",
            )
    for name in ("OTEL_SPAN_ATTRIBUTE_VALUE_LENGTH_LIMIT", "OTEL_ATTRIBUTE_VALUE_LENGTH_LIMIT"):
        count = _number(context, name)
        if count is not None:
            yield finding(
                "attribute-length-limit",
                f"Attributes are cut after {count} characters.",
                f"{name}={count}",
                f"Unset {name}",
            )
    for name in ("OTEL_EXPORTER_OTLP_TIMEOUT", "OTEL_EXPORTER_OTLP_TRACES_TIMEOUT"):
        count = _number(context, name)
        if count is not None and count >= 1000:
            yield finding(
                "timeout-unit",
                f"{name} reads like milliseconds.",
                f"{name}={count}",
                f"Set {name}={count // 1000}",
            )


def _number(context: Context, name: str) -> int | None:
    text = context.value(name)
    return int(text) if re.fullmatch(r"[0-9]{1,12}", text) else None


def leftovers(context: Context) -> Iterator[Finding]:
    """Repairs by `Settings` whose variable no other finding names."""
    named: str = context.facts.get("named", "")
    for sentence in context.settings.warnings if context.settings else ():
        variables = re.findall(r"\b[A-Z][A-Z0-9]*(?:_[A-Z0-9]+)+\b", sentence)
        if not variables or variables[0].startswith(_OTHERS):
            continue
        if not any(name in named for name in variables):
            yield finding("settings-repaired", sentence)


#: `leftovers` is put behind all other checks of variables by `run`.
LAST: Final = Check("leftovers", "settings", leftovers)
CHECKS: Final[tuple[Check, ...]] = (
    Check("settings", "settings", readable),
    Check("values", "settings", values),
    Check("switches", "settings", switches),
    Check("sampling", "settings", sampling),
    Check("propagation", "settings", propagation),
    Check("trust", "settings", trust),
    Check("content", "settings", content),
    Check("limits", "settings", limits),
)
