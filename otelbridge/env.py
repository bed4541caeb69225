"""Every environment variable that otelbridge reads, declared once, and how its text is parsed.

`settings.py` reads values through these declarations, `otelbridge config` shows them and
`docs/configuration.md` is generated from them. Pure data and pure functions: the environment
itself is never touched here. A variable is declared by the change that implements it.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Final, Literal
from urllib.parse import unquote

Group = Literal["OpenTelemetry", "gen_ai", "Langfuse", "otelbridge"]
Parser = Callable[[str], Any]

_SPEC: Final = "OpenTelemetry specification, environment variables"
_OTLP: Final = "OpenTelemetry specification, OTLP exporter"
_PYTHON: Final = "opentelemetry-sdk for Python"
_UTIL_GENAI: Final = "opentelemetry-util-genai"
_LANGFUSE: Final = "langfuse-python"
_OWN: Final = "otelbridge"

#: Message content modes of opentelemetry-util-genai.
CAPTURE_MODES: Final = ("NO_CONTENT", "SPAN_ONLY", "EVENT_ONLY", "SPAN_AND_EVENT")
#: Langfuse cuts an environment name at this many characters.
ENVIRONMENT_MAX_CHARS: Final = 40
#: Variables of the Collector, of docker-compose.yml and of Grafana: a shared .env file brings them
#: into services as well.
OTHERS_PREFIXES: Final = (
    "OTELBRIDGE_COLLECTOR_",
    "OTELBRIDGE_TEMPO_OTLP_",
    "OTELBRIDGE_COMPOSE_",
    "OTELBRIDGE_LANGFUSE_PROXY_",
    "OTELBRIDGE_LANGFUSE_TRACE_LINK",
)


@dataclass(frozen=True, slots=True)
class Variable:
    """One variable: its names, how it is parsed, and what it means.

    Attributes:
        name: The name to use; it wins over every alias.
        argument: Keyword of `Settings.from_env` and `configure`; empty when there is none.
        parse: Text to value; raises ValueError for text that cannot be used.
        default: Default as text, parsed like a given value; None means no value.
        allowed: What may be given, in words.
        meaning: One sentence for the documentation.
        read_by: `otelbridge`, or `sdk` for a variable that the OpenTelemetry SDK reads itself and
            that otelbridge only shows.
        secret: Never shown, not even in part.
    """

    name: str
    argument: str
    parse: Parser
    default: str | None
    allowed: str
    meaning: str
    group: Group
    source: str
    aliases: tuple[str, ...] = ()
    secret: bool = False
    read_by: Literal["otelbridge", "sdk"] = "otelbridge"

    @property
    def lenient(self) -> bool:
        """Whether bad text warns and falls back (the OpenTelemetry rule) instead of raising."""
        return self.name.startswith("OTEL_")

    @property
    def spellings(self) -> tuple[str, ...]:
        """The name and its aliases, the winning one first."""
        return (self.name, *self.aliases)


# -- parsers: text in, value out, ValueError for what cannot be used -------------------------------
def text(value: str) -> str:
    """The text itself."""
    return value


def boolean(value: str) -> bool:
    """True or False from the words that shells and compose files use."""
    word = value.strip().lower()
    if word in ("true", "1", "yes", "on"):
        return True
    if word in ("false", "0", "no", "off"):
        return False
    raise ValueError(value)


def presence(value: str) -> bool:
    """True for any text but a word for no."""
    return value.strip().lower() not in ("", "false", "0", "no", "off")


def otel_boolean(value: str) -> bool:
    """True or False by the OpenTelemetry rule, which knows these two words only."""
    word = value.strip().lower()
    if word in ("true", "false"):
        return word == "true"
    raise ValueError(value)


def positive_integer(value: str) -> int:
    """A whole number above 0."""
    number = count(value)
    if number == 0:
        raise ValueError(value)
    return number


def count(value: str) -> int:
    """A whole number from 0 in plain decimal digits."""
    if not re.fullmatch(r"\+?[0-9]{1,12}", value.strip(), re.ASCII):
        raise ValueError(value)
    return int(value)


def seconds(value: str) -> float:
    """A finite number above 0."""
    number = float(value)
    if not math.isfinite(number) or number <= 0:
        raise ValueError(value)
    return number


def seconds_or_never(value: str) -> float:
    """A finite number from 0."""
    return 0.0 if value.strip() == "0" else seconds(value)


def milliseconds(value: str) -> float:
    """Seconds, from a whole number of milliseconds above 0."""
    return positive_integer(value) / 1000


def byte_count(value: str) -> int:
    """Bytes from 0: a whole number, or one with KiB, MiB or GiB behind it."""
    match = re.fullmatch(r"(\d+)\s*(?:([kmg])i?b?)?", value.strip(), re.ASCII | re.IGNORECASE)
    if match is None:
        raise ValueError(value)
    return int(match[1]) << {"": 0, "k": 10, "m": 20, "g": 30}[(match[2] or "").lower()]


def byte_limit(value: str) -> int:
    """Bytes from 1,024 on as `byte_count`, or 0 for no limit."""
    number = byte_count(value)
    if 0 < number < 1024:
        raise ValueError(value)
    return number


def ratio(value: str) -> float:
    """A number from 0 to 1."""
    number = float(value)
    if not 0.0 <= number <= 1.0:
        raise ValueError(value)
    return number


def choice(*allowed: str) -> Parser:
    """A parser for one of these words, in any case; gives the word as declared."""
    by_lower = {word.lower(): word for word in allowed}

    def parse(value: str) -> str:
        try:
            return by_lower[value.strip().lower()]
        except KeyError:
            raise ValueError(value) from None

    return parse


def names(value: str) -> tuple[str, ...]:
    """Comma-separated names, in order, without repetition."""
    return tuple(dict.fromkeys(part.strip() for part in value.split(",") if part.strip()))


def host_patterns(value: str) -> tuple[str, ...]:
    """Comma-separated host patterns: `host`, `*.domain`, `*`, each may start with `!`."""
    patterns = names(value)
    for pattern in patterns:
        if "://" in pattern or "@" in pattern or re.search(r"\s", pattern):
            raise ValueError(value)
    return patterns


def environment_name(value: str) -> str:
    """An environment name as Langfuse 4 stores it, so that both stores show the same one.

    Lower case, without a leading `langfuse`, at most 40 characters; a name with anything but
    `a-z 0-9 - _` becomes `default`. Source: Langfuse server 4.16, OTLP ingestion.
    """
    name = value.strip().lower().removeprefix("langfuse")[:ENVIRONMENT_MAX_CHARS]
    return name if re.fullmatch(r"[a-z0-9_-]+", name, re.ASCII) else "default"


#: A header's name. Source: RFC 9110, section 5.6.2.
_TOKEN: Final = re.compile(r"[!#$%&'*+\-.^_`|~0-9A-Za-z]+")


def split_pairs(value: str, *, headers: bool = False) -> tuple[dict[str, str], tuple[str, ...]]:
    """`key=value,key2=value2` with percent-encoding undone, as OTLP headers and resources use.

    A value may contain `=`; a comma in it is %2C.

    Args:
        headers: Keys must be names that a header can have. `Authorization: Basic YWJj==` is no
            pair: the `=` that it would be cut at belongs to the secret.
    Returns:
        The pairs, and the positions (`#1`, `#2`, ...) of parts that are no pair. Positions, not
        texts, because a header's value is a secret.
    """
    pairs: dict[str, str] = {}
    bad: list[str] = []
    for position, part in enumerate(value.split(","), start=1):
        if not part.strip():
            continue
        key, separator, item = part.partition("=")
        key = unquote(key).strip()
        if not separator or not key or (headers and not _TOKEN.fullmatch(key)):
            bad.append(f"#{position}")
            continue
        pairs[key] = unquote(item.strip())
    return pairs, tuple(bad)


# -- declarations ----------------------------------------------------------------------------------
def _otel(name: str, argument: str, parse: Parser, default: str | None, allowed: str,
          meaning: str, source: str = _SPEC, *, secret: bool = False) -> Variable:  # fmt: skip
    return Variable(
        name, argument, parse, default, allowed, meaning, "OpenTelemetry", source, secret=secret
    )


def _sdk(name: str, default: str | None, allowed: str, meaning: str) -> Variable:
    return Variable(
        name, "", text, default, allowed, meaning, "OpenTelemetry", _SPEC, read_by="sdk"
    )


def _langfuse(name: str, parse: Parser, default: str | None, allowed: str, meaning: str,
              *aliases: str, secret: bool = False) -> Variable:  # fmt: skip
    return Variable(
        name, name.lower(), parse, default, allowed, meaning, "Langfuse", _LANGFUSE,
        aliases=aliases, secret=secret,
    )  # fmt: skip


def _own(name: str, argument: str, parse: Parser, default: str | None, allowed: str,
         meaning: str) -> Variable:  # fmt: skip
    return Variable(name, argument, parse, default, allowed, meaning, "otelbridge", _OWN)


_BOOLEAN: Final = "true or false"
_WHOLE: Final = "a whole number above 0"
_SECONDS: Final = "seconds, a number above 0"
_PAIRS: Final = "key=value pairs separated by commas, values percent-encoded"
_PROTOCOL: Final = choice("http/protobuf", "grpc")
_PROTOCOLS: Final = "http/protobuf or grpc"
_COMPRESSION: Final = choice("gzip", "deflate", "none")
_COMPRESSIONS: Final = "gzip, deflate or none"

VARIABLES: Final[tuple[Variable, ...]] = (
    _otel("OTEL_SERVICE_NAME", "service_name", text, None, "text",
          "Name of the service; wins over `service.name` in OTEL_RESOURCE_ATTRIBUTES. Without "
          "either it is `unknown_service`."),
    _otel("OTEL_RESOURCE_ATTRIBUTES", "resource_attributes", text, None, _PAIRS,
          "Attributes of every span of this process. Read by the SDK as well."),
    _otel("OTEL_SDK_DISABLED", "sdk_disabled", otel_boolean, "false", _BOOLEAN,
          "`true`: no spans at all; the context of a caller is still passed on."),
    _otel("OTEL_TRACES_EXPORTER", "traces_exporter", text, "otlp", "otlp, console or none",
          "Where spans go; `none` makes spans and sends nothing."),
    _otel("OTEL_PROPAGATORS", "propagators", names, "tracecontext,baggage",
          "installed propagators separated by commas, or none",
          "Which headers carry the context between services."),
    _otel("OTEL_CONFIG_FILE", "config_file", text, None, "path of a declarative configuration file",
          "The SDK builds its pipeline from this file, which then wins over the variables here."),
    _sdk("OTEL_TRACES_SAMPLER", "parentbased_always_on", "a sampler that the SDK knows",
         "Which traces are recorded."),
    _sdk("OTEL_TRACES_SAMPLER_ARG", None, "what the sampler asks for",
         "Argument of the sampler, such as the ratio of `traceidratio`."),
    _otel("OTEL_BSP_MAX_QUEUE_SIZE", "queue_max_spans", positive_integer, "20480", _WHOLE,
          "Ended spans that wait for export at most; the least important are dropped beyond it."),
    _otel("OTEL_BSP_MAX_EXPORT_BATCH_SIZE", "batch_max_spans", positive_integer, "512",
          _WHOLE + ", at most the queue size", "Spans in one export request at most."),
    _otel("OTEL_BSP_SCHEDULE_DELAY", "schedule_delay_seconds", milliseconds, "5000",
          "milliseconds, a whole number above 0",
          "Time between two exports while the queue is short (the argument is in seconds)."),
    _sdk("OTEL_BSP_EXPORT_TIMEOUT", "30000", "milliseconds",
         "Read by the SDK, where it has no effect; OTEL_EXPORTER_OTLP_TIMEOUT has."),
    _otel("OTEL_SPAN_ATTRIBUTE_COUNT_LIMIT", "attribute_count_limit", count, None,
          "a whole number from 0",
          "Attributes on one span at most; unset, OTEL_ATTRIBUTE_COUNT_LIMIT counts."),
    _otel("OTEL_ATTRIBUTE_COUNT_LIMIT", "", count, "256", "a whole number from 0",
          "Attributes on one span at most, when the variable for spans is unset."),
    _otel("OTEL_ATTRIBUTE_VALUE_LENGTH_LIMIT", "attribute_length_limit", count, None,
          "a whole number from 0",
          "Characters in an attribute at most. JSON is cut inside and stays JSON. A provider that "
          "the application made cuts by itself, in the middle of JSON."),
    _otel("OTEL_SPAN_ATTRIBUTE_VALUE_LENGTH_LIMIT", "span_attribute_length_limit", count, None,
          "a whole number from 0",
          "The same for span attributes only; wins for them."),
    _sdk("OTEL_SPAN_EVENT_COUNT_LIMIT", "128", "a whole number from 0",
         "Events on one span at most."),
    _sdk("OTEL_SPAN_LINK_COUNT_LIMIT", "128", "a whole number from 0",
         "Links on one span at most."),
    _otel("OTEL_EXPORTER_OTLP_ENDPOINT", "otlp_endpoint", text, "http://localhost:4318",
          "http:// or https:// URL", "Base URL of the receiver; `/v1/traces` is added.", _OTLP),
    _otel("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT", "", text, None, "http:// or https:// URL",
          "Full URL for traces, used as it stands; wins over the base URL.", _OTLP),
    _otel("OTEL_EXPORTER_OTLP_PROTOCOL", "otlp_protocol", _PROTOCOL, None, _PROTOCOLS,
          "`http/protobuf` unless told otherwise. `grpc` works with OTELBRIDGE_EXPORTER=stock; "
          "with `bridge` one warning is given and HTTP port 4318 of the same host is used. Port "
          "4317 is treated in the same way.", _OTLP),
    _otel("OTEL_EXPORTER_OTLP_TRACES_PROTOCOL", "", _PROTOCOL, None, _PROTOCOLS,
          "The same for traces only; wins.", _OTLP),
    _otel("OTEL_EXPORTER_OTLP_HEADERS", "otlp_headers", text, None, _PAIRS,
          "Headers of every export request.", _OTLP, secret=True),
    _otel("OTEL_EXPORTER_OTLP_TRACES_HEADERS", "", text, None, _PAIRS,
          "The same for traces only; replaces the general ones.", _OTLP, secret=True),
    _otel("OTEL_EXPORTER_OTLP_TIMEOUT", "otlp_timeout_seconds", seconds, "10", _SECONDS,
          "The most that one attempt to export may take. In seconds, as the Python SDK has it (the "
          "specification says milliseconds). With OTELBRIDGE_EXPORTER=stock it includes the "
          "retries, and the default is 60.", _PYTHON),
    _otel("OTEL_EXPORTER_OTLP_TRACES_TIMEOUT", "", seconds, None, _SECONDS,
          "The same for traces only; wins.", _PYTHON),
    _otel("OTEL_EXPORTER_OTLP_COMPRESSION", "otlp_compression", _COMPRESSION, "gzip",
          _COMPRESSIONS, "Compression of export requests.", _OTLP),
    _otel("OTEL_EXPORTER_OTLP_TRACES_COMPRESSION", "", _COMPRESSION, None, _COMPRESSIONS,
          "The same for traces only; wins.", _OTLP),
    _otel("OTEL_EXPORTER_OTLP_CERTIFICATE", "otlp_certificate", text, None,
          "path of a PEM file", "Certificate authority that the receiver is checked against.",
          _OTLP),
    _otel("OTEL_EXPORTER_OTLP_TRACES_CERTIFICATE", "", text, None, "path of a PEM file",
          "The same for traces only; wins.", _OTLP),
    _otel("OTEL_EXPORTER_OTLP_CLIENT_CERTIFICATE", "otlp_client_certificate", text, None,
          "path of a PEM file",
          "This side's certificate, for a receiver that asks for one (mTLS).", _OTLP),
    _otel("OTEL_EXPORTER_OTLP_TRACES_CLIENT_CERTIFICATE", "", text, None, "path of a PEM file",
          "The same for traces only; wins.", _OTLP),
    _otel("OTEL_EXPORTER_OTLP_CLIENT_KEY", "otlp_client_key", text, None, "path of a PEM file",
          "The key of that certificate, unless it is in the same file.", _OTLP),
    _otel("OTEL_EXPORTER_OTLP_TRACES_CLIENT_KEY", "", text, None, "path of a PEM file",
          "The same for traces only; wins.", _OTLP),
    Variable("OTEL_INSTRUMENTATION_GENAI_CAPTURE_MESSAGE_CONTENT", "capture_content", text,
             "SPAN_ONLY", ", ".join(CAPTURE_MODES),
             "Where message text is recorded; `NO_CONTENT` keeps all of it in the process. `true` "
             "(= SPAN_ONLY) and `false` (= NO_CONTENT) are taken with a warning; anything else "
             "means NO_CONTENT.", "gen_ai", _UTIL_GENAI),
    _langfuse("LANGFUSE_PUBLIC_KEY", text, None, "a key that starts with pk-lf-",
              "With the secret key: scores, prompts, links and direct export. In `collector` mode "
              "the Collector holds the keys that spans need.", secret=True),
    _langfuse("LANGFUSE_SECRET_KEY", text, None, "a key that starts with sk-lf-",
              "See LANGFUSE_PUBLIC_KEY.", secret=True),
    _langfuse("LANGFUSE_HOST", text, None, "http:// or https:// URL",
              "Langfuse as this process reaches it; `https://cloud.langfuse.com` when both keys "
              "are set.", "LANGFUSE_BASE_URL"),
    _langfuse("LANGFUSE_PUBLIC_URL", text, None, "http:// or https:// URL",
              "Langfuse as a browser reaches it; links are built from it. Unset: LANGFUSE_HOST."),
    _langfuse("LANGFUSE_PROJECT_ID", text, None, "text",
              "Project id, a part of every link into Langfuse."),
    _langfuse("LANGFUSE_ENABLED", boolean, "true", _BOOLEAN,
              "`false`: every span is marked as outside the LLM view and Langfuse is never called; "
              "Tempo goes on.", "ENABLE_LANGFUSE", "LANGFUSE_TRACING_ENABLED"),
    _langfuse("LANGFUSE_ENVIRONMENT", environment_name, None,
              "a-z, 0-9, - and _, at most 40 characters",
              "Environment, normalised as Langfuse does: lower case, a leading `langfuse` removed, "
              "cut at 40 characters, `default` if other characters are left.",
              "LANGFUSE_TRACING_ENVIRONMENT"),
    _langfuse("LANGFUSE_RELEASE", text, None, "text", "Release of the application."),
    _langfuse("LANGFUSE_SAMPLE_RATE", ratio, "1.0", "a number from 0 to 1",
              "Ratio of traces that Langfuse gets, decided by the trace id; Tempo gets all."),
    _langfuse("LANGFUSE_DEBUG", boolean, "false", _BOOLEAN, "Verbose logging of Langfuse calls."),
    _own("OTELBRIDGE_EXPORT", "export", choice("collector", "direct"), "collector",
         "collector or direct",
         "`collector`: one OTLP stream, the Collector makes the branches. `direct`: no Collector, "
         "the full stream to the OTLP endpoint and the LLM view to Langfuse."),
    _own("OTELBRIDGE_TRUSTED_HOSTS", "trusted_hosts", host_patterns, "",
         "host patterns separated by commas: host, *.domain, *, !pattern",
         "Hosts that get traceparent, tracestate and baggage, beside loopback, private addresses, "
         "single-label names, `*.local`, `*.internal`, `*.svc` and `*.cluster.local`. `*` is every "
         "host, `!pattern` takes one away."),
    _own("OTELBRIDGE_TRUST_INBOUND", "trust_inbound", boolean, "true", _BOOLEAN,
         "`false` at an edge: a request starts a new trace, linked to the caller's context, and "
         "inbound baggage is dropped."),
    Variable("KUBERNETES_SERVICE_HOST", "in_cluster", presence, "false", "set by Kubernetes",
             "Present in a pod, where `name.namespace` is the name of a service and counts as "
             "trusted.", "otelbridge", "Kubernetes"),
    _own("OTELBRIDGE_EXPORTER", "exporter", choice("bridge", "stock"), "bridge", "bridge or stock",
         "`stock` uses the SDK's own OTLP exporter, gRPC included."),
    _own("OTELBRIDGE_SPOOL_DIR", "spool_directory", text, "~/.local/state/otelbridge/spool",
         "path of a directory",
         "Where undelivered spans wait on disk, not encrypted, for the processes of this user "
         "alone (0700). What is to survive a restart of a container needs a volume here. Not "
         "writable: one warning, memory only."),
    _own("OTELBRIDGE_PROMPTS_DIR", "prompts_directory", text, "~/.local/state/otelbridge/prompts",
         "path of a directory, or off",
         "Where the last known prompts of Langfuse's registry are kept for this user alone (0700), "
         "for a start while Langfuse is away. `off`: no copies."),
    _own("OTELBRIDGE_SPOOL_MAX_BYTES", "spool_max_bytes", byte_count, "256MiB",
         "bytes, or a whole number with KiB, MiB or GiB",
         "The most that they may take for one service and endpoint, over all its processes; the "
         "oldest are dropped and counted beyond it. `0`: nothing is written to disk."),
    _own("OTELBRIDGE_SPOOL_MODE", "spool_mode", choice("on-failure", "write-ahead"), "on-failure",
         "on-failure or write-ahead",
         "`on-failure`: spans go to disk when they cannot be delivered, when memory is full and at "
         "exit. `write-ahead`: every 0.1 s whatever ended goes to disk first and is sent from "
         "there; docs/spool.md says what a killed process loses then."),
    _own("OTELBRIDGE_SPOOL_FSYNC", "spool_fsync", choice("never", "interval", "always"),
         "interval", "never, interval or always",
         "What a power cut may take of what is on disk. `interval`: the last second. `always`: "
         "nothing. `never`: what the system has not written yet, about 30 s on Linux."),
    _own("OTELBRIDGE_SHUTDOWN_TIMEOUT", "shutdown_timeout_seconds", seconds, "1.5", _SECONDS,
         "The most that delivery may take at the end of the program; the last third of it, at most "
         "0.5 s, is for writing to the spool what could not be delivered."),
    _own("OTELBRIDGE_MASKING", "masking", text, "true",
         "true, false, kinds separated by commas, or changes such as +ip,!phone",
         "Secrets and personal data are taken out of spans before they leave the process. Kinds "
         "alone: only these (docs/masking.md)."),
    _own("OTELBRIDGE_MASKING_RULES", "masking_rules", text, None,
         "path of a .yaml, .json or .toml file, or JSON or YAML text",
         "Own patterns, texts that may stay, and what becomes of single attributes."),
    Variable("OTELBRIDGE_MASKING_SALT", "masking_salt", text, None, "at least eight characters",
             "Key for the rule `hash`: equal texts get equal marks wherever it is the same.",
             "otelbridge", _OWN, secret=True),
    _own("OTELBRIDGE_ATTRIBUTE_MAX_BYTES", "attribute_max_bytes", byte_limit, "1MiB",
         "bytes from 1024, or a whole number with KiB, MiB or GiB; 0 for no limit",
         "The most that one attribute of a span, an event or a link leaves the process with. JSON "
         "stays JSON: images and other base64 give way to a marker first, then the longest texts "
         "lose their ends, then the oldest messages but the first go. `otelbridge.truncated` says "
         "what was cut."),
    _own("OTELBRIDGE_SPAN_MAX_BYTES", "span_max_bytes", byte_limit, "3MiB",
         "bytes from 1024, or a whole number with KiB, MiB or GiB; 0 for no limit",
         "The same for all attributes of a span together, those of its events and links included. "
         "Langfuse Cloud takes 4.5 MB in one request, and a span cannot be split."),
    _own("OTELBRIDGE_LLM_VIEW", "llm_view", choice("services", "llm", "all"), "services",
         "services, llm or all",
         "Which spans Langfuse gets. `services`: LLM spans and the entry span of each service with "
         "LLM work below it. `llm`: LLM spans and the root of the trace. `all`: every span."),
    _own("OTELBRIDGE_LEGACY_GEN_AI_SYSTEM", "legacy_gen_ai_system", boolean, "true", _BOOLEAN,
         "Also write the deprecated `gen_ai.system`, equal to the provider name."),
    _own("OTELBRIDGE_LEGACY_LANGFUSE_HEADERS", "legacy_langfuse_headers",
         choice("in", "both", "off"), "in", "in, both or off",
         "The headers `X-Langfuse-Trace-Id` and `X-Langfuse-Parent-Observation-Id` of services "
         "without W3C headers. `in`: a request without a valid traceparent continues their trace, "
         "where inbound context is trusted. `both`: also sent, to trusted hosts."),
    _own("OTELBRIDGE_COMPAT", "compat", choice("off", "langfuse_v2"), "off", "off or langfuse_v2",
         "`langfuse_v2`: `langfuse.decorators`, `langfuse.callback` and `langfuse.Langfuse` are "
         "those of `otelbridge.compat`, so that code for the Langfuse SDK v2 runs unchanged."),
    _own("OTELBRIDGE_LANGFUSE_SDK_EXPORT", "langfuse_sdk_export", boolean, "false", _BOOLEAN,
         "Whether the Langfuse SDK also sends its spans to Langfuse itself, beside otelbridge: "
         "for a time of comparison, and never into one project (docs/migration.md)."),
    _own("OTELBRIDGE_PRICES", "prices", boolean, "true", _BOOLEAN,
         "Put a cost on model calls by the built-in price list and the price file. `false`: only "
         "what callers, caches and providers say; Langfuse then prices the models that it knows."),
    _own("OTELBRIDGE_PRICES_FILE", "prices_file", text, None, "the path of a TOML file",
         "Prices of your own: self-hosted and local models, negotiated terms (docs/cost.md)."),
    _own("OTELBRIDGE_BUDGETS_FILE", "budgets_file", text, None,
         "the path of a .toml, .json or .yaml file",
         "What model calls may cost per session, user, team and day (docs/budgets.md)."),
    _own("OTELBRIDGE_BUDGETS_DIR", "budgets_directory", text, "~/.local/state/otelbridge/budgets",
         "path of a directory",
         "Where the processes of this user keep the running sums of budgets; a local disk."),
    _own("OTELBRIDGE_BUDGETS_RECONCILE", "budgets_reconcile_seconds", seconds_or_never, "300",
         "seconds, or 0 for never",
         "How often the running sums are compared with Langfuse's metrics; needs its keys."),
    _own("OTELBRIDGE_LOG_FORMAT", "log_format", choice("json", "text", "off"), "off",
         "json, text or off",
         "Format of the root logger with trace_id, span_id, service and request id; `off` leaves "
         "logging alone."),
    _own("OTELBRIDGE_TEMPO_URL", "tempo_url", text, "http://localhost:3200",
         "http:// or https:// URL",
         "Tempo API that `otelbridge query` and `otelbridge trace` ask."),
    _own("OTELBRIDGE_GRAFANA_URL", "grafana_url", text, None, "http:// or https:// URL",
         "Grafana as a browser reaches it, for `otelbridge link` and `trace_links`; in `direct` "
         "export, and in the preview of `otelbridge local`, each observation links to its span "
         "there."),
    _own("OTELBRIDGE_GRAFANA_LINKS", "grafana_links", choice("explore", "dashboard"), "explore",
         "explore or dashboard",
         "Where links into Grafana lead. `explore`: the trace with its span opened, for Editors. "
         "`dashboard`: the trace in the dashboard `otelbridge-traces`, which Viewers and anonymous "
         "users may open too. The Collector reads it as well."),
    _own("OTELBRIDGE_COLLECTOR_BINARY", "collector_binary", text, None,
         "path of an executable file", "Collector that `otelbridge demo` starts, instead of the "
         "one that `make collector` builds."),
)  # fmt: skip

BY_NAME: Final[dict[str, Variable]] = {variable.name: variable for variable in VARIABLES}
