"""Frozen settings: argument over environment over default, read once.

`Settings.from_env` is the only place in the package that reads the process environment. Bad
`OTEL_*` text is repaired or replaced by the default, with a sentence in `Settings.warnings`; bad
`OTELBRIDGE_*` or `LANGFUSE_*` text raises ConfigError. The OpenTelemetry SDK itself honours
OTEL_RESOURCE_ATTRIBUTES, OTEL_TRACES_SAMPLER(_ARG), the limits of how many events and links there
may be, and OTEL_CONFIG_FILE; they are here so that `otelbridge config` can show them.
"""

from __future__ import annotations

import os
import tempfile
from collections.abc import Mapping, MutableMapping
from dataclasses import dataclass, field, fields
from typing import Any, Literal

from otelbridge import _rules as rules
from otelbridge import _version, endpoints
from otelbridge._environment import Reader
from otelbridge.masks import mask_text
from otelbridge.semconv import SERVICE_NAME

#: Service name of the OpenTelemetry specification when none is set.
UNKNOWN_SERVICE = "unknown_service"
CLOUD_HOST = "https://cloud.langfuse.com"
_OTLP = "OTEL_EXPORTER_OTLP_"
#: The stock exporter drops a batch after it; with its queue of 20,480 it outlasts 20 s of outage.
_STOCK_TIMEOUT_SECONDS = 60.0


def _repr(value: Any) -> str:
    """Fields without those declared secret; passwords inside URLs masked."""
    shown = (f"{f.name}={getattr(value, f.name)!r}" for f in fields(value) if f.repr)
    return f"{type(value).__name__}({mask_text(', '.join(shown))})"


@dataclass(frozen=True, slots=True, repr=False)
class OtlpSettings:
    """Where spans go.

    Attributes:
        endpoint: Full URL of traces (`http://localhost:4318/v1/traces`); for `grpc`
            `scheme://host:port`.
        headers: Header names in lower case to values; secret.
        timeout_seconds: The most that one attempt may take; with `stock` all of an export's.
        compression: `gzip`, `deflate` or `none`.
        certificate: Path of a PEM file, or None for the system's authorities.
        protocol: What is really used: `http/protobuf` or `grpc`.
        client_certificate: Path of a PEM file with this side's certificate, or None.
        client_key: Path of a PEM file with its key; None where the certificate's file has it.
    """

    endpoint: str
    headers: Mapping[str, str] = field(repr=False)
    timeout_seconds: float
    compression: str
    certificate: str | None
    protocol: str
    client_certificate: str | None = None
    client_key: str | None = None

    __repr__ = _repr


@dataclass(frozen=True, slots=True, repr=False)
class LangfuseSettings:
    """What the Langfuse features need; `configured` says whether the API can be called.

    Attributes:
        public_url: Base of links in a browser; equals `host` unless set.
        environment: Normalised as Langfuse does.
        sample_rate: Ratio of traces from 0 to 1, decided by the trace id.
    """

    enabled: bool
    public_key: str | None = field(repr=False)
    secret_key: str | None = field(repr=False)
    host: str | None
    public_url: str | None
    project_id: str | None
    environment: str | None
    release: str | None
    sample_rate: float
    debug: bool

    __repr__ = _repr

    @property
    def configured(self) -> bool:
        """Whether Langfuse is enabled and both keys are there."""
        return self.enabled and bool(self.public_key) and bool(self.secret_key)

    @property
    def missing_keys(self) -> tuple[str, ...]:
        """Names of the key variables without a value."""
        pairs = (("LANGFUSE_PUBLIC_KEY", self.public_key), ("LANGFUSE_SECRET_KEY", self.secret_key))
        return tuple(name for name, value in pairs if not value)


@dataclass(frozen=True, slots=True, repr=False)
class Settings:
    """Everything that otelbridge was told, checked.

    Attributes:
        traces_exporter: `otlp`, `console` or `none`.
        capture_content: `NO_CONTENT`, `SPAN_ONLY`, `EVENT_ONLY` or `SPAN_AND_EVENT`.
        export: `collector` or `direct`.
        trusted_hosts: Extra patterns, as given.
        in_cluster: Whether this process runs in Kubernetes, where `name.namespace` is a service.
        exporter: `bridge` or `stock`.
        spool_directory: Absolute path; `~` is filled in.
        prompts_directory: Absolute path of offline copies of prompts; empty for none.
        spool_max_bytes: Cap for one service and endpoint; 0 means nothing goes to disk.
        spool_mode: `on-failure` or `write-ahead`.
        spool_fsync: `never`, `interval` or `always`.
        shutdown_timeout_seconds: The most that delivery may take at the end of the program.
        attribute_length_limit: Characters of one text on events and links; None for no limit.
        span_attribute_length_limit: The same on spans.
        attribute_max_bytes: Bytes of one attribute at export; 0 for no limit.
        span_max_bytes: Bytes of all attributes of a span; 0 for no limit.
        llm_view: `services`, `llm` or `all`.
        legacy_langfuse_headers: `in`, `both` or `off`.
        compat: `off` or `langfuse_v2`.
        budgets_directory: Absolute path; `~` is filled in.
        budgets_reconcile_seconds: 0 for never.
        log_format: `json`, `text` or `off`.
        grafana_links: `explore` or `dashboard`.
        origins: Variable name to `argument`, `environment`, `environment (ALIAS)` or `default`.
        values: Variable name to its value in force as text, secrets masked, empty for none.
        warnings: One sentence for each repair made while reading.
    """

    service_name: str
    resource_attributes: Mapping[str, str]
    sdk_disabled: bool
    traces_exporter: str
    propagators: tuple[str, ...]
    config_file: str | None
    queue_max_spans: int
    batch_max_spans: int
    schedule_delay_seconds: float
    attribute_count_limit: int
    attribute_length_limit: int | None
    span_attribute_length_limit: int | None
    otlp: OtlpSettings
    capture_content: str
    langfuse: LangfuseSettings
    export: str
    trusted_hosts: tuple[str, ...]
    trust_inbound: bool
    in_cluster: bool
    exporter: str
    spool_directory: str
    prompts_directory: str
    spool_max_bytes: int
    spool_mode: str
    spool_fsync: Literal["never", "interval", "always"]
    shutdown_timeout_seconds: float
    masking: str
    masking_rules: str | None
    masking_salt: str | None = field(repr=False)
    attribute_max_bytes: int
    span_max_bytes: int
    llm_view: str
    legacy_gen_ai_system: bool
    legacy_langfuse_headers: Literal["in", "both", "off"]
    compat: str
    langfuse_sdk_export: bool
    prices: bool
    prices_file: str | None
    budgets_file: str | None
    budgets_directory: str
    budgets_reconcile_seconds: float
    log_format: str
    tempo_url: str
    grafana_url: str | None
    grafana_links: str
    collector_binary: str | None
    origins: Mapping[str, str] = field(repr=False)
    values: Mapping[str, str] = field(repr=False)
    warnings: tuple[str, ...] = field(repr=False)

    __repr__ = _repr

    @property
    def capture_on_span(self) -> bool:
        """Whether message text is recorded on spans."""
        return self.capture_content in ("SPAN_ONLY", "SPAN_AND_EVENT")

    @property
    def langfuse_off_reason(self) -> str | None:
        """Why no span of this process can reach Langfuse; None when spans can."""
        if self.sdk_disabled:
            return "OTEL_SDK_DISABLED=true"
        if not self.langfuse.enabled:
            return "LANGFUSE_ENABLED=false"
        if self.export == "direct":
            if missing := self.langfuse.missing_keys:
                return f"{' and '.join(missing)} not set, which direct export needs"
        elif self.traces_exporter != "otlp" and not self.config_file:
            return f"OTEL_TRACES_EXPORTER={self.traces_exporter} sends no spans to a Collector"
        return None

    def startup_line(self) -> str:
        """One line that says what is on: service, endpoint, Langfuse, content; no secrets."""
        if self.sdk_disabled:
            target = "spans off"
        elif self.config_file:
            target = f"pipeline={self.config_file} (OTEL_CONFIG_FILE wins)"
        elif self.traces_exporter == "otlp":
            target = f"endpoint={endpoints.shown(self.otlp.endpoint)} ({self.otlp.protocol})"
        else:
            target = f"exporter={self.traces_exporter}"
        reason = self.langfuse_off_reason
        langfuse = f"disabled: {reason}" if reason else f"enabled ({self._langfuse_detail()})"
        line = (
            f"otelbridge {_version.__version__}: service={self.service_name}, {target}, "
            f"export={self.export}, LangFuse observability {langfuse}, "
            f"message content={self.capture_content}"
        )
        return " ".join(line.split())  # a name with line breaks cannot make a second line

    def _langfuse_detail(self) -> str:
        route = "direct" if self.export == "direct" else "through the Collector"
        if not self.langfuse.configured:
            missing = " and ".join(self.langfuse.missing_keys)
            return f"{route}; API features off: {missing} not set"
        host = endpoints.shown(self.langfuse.host or CLOUD_HOST)
        project = self.langfuse.project_id or "not set (LANGFUSE_PROJECT_ID), links off"
        return f"{route}; host={host}, project={project}"

    @classmethod
    def from_env(cls, mapping: Mapping[str, str] | None = None, **overrides: Any) -> Settings:
        """Settings from a mapping, the process environment by default.

        Args:
            mapping: Variable name to text; empty text counts as not set.
            overrides: Arguments that win over the mapping, named as the fields, with `otlp_` and
                `langfuse_` in front of the nested ones (`otlp_endpoint`, `langfuse_public_key`).
                None counts as not given.
        Raises:
            ConfigError: bad `OTELBRIDGE_*` or `LANGFUSE_*` text, or a bad argument.
            TypeError: an argument that does not exist.
        """
        reader = Reader(os.environ if mapping is None else mapping, overrides)
        resource_attributes = reader.pairs("OTEL_RESOURCE_ATTRIBUTES")
        traces_exporter, exporter_protocol = rules.traces_exporter(reader)
        exporter = reader.get("OTELBRIDGE_EXPORTER")
        export = reader.get("OTELBRIDGE_EXPORT")
        queue_max_spans, batch_max_spans = rules.queue(reader)
        limit = reader.get("OTEL_SPAN_ATTRIBUTE_COUNT_LIMIT")
        general_limit = reader.get("OTEL_ATTRIBUTE_COUNT_LIMIT")
        length = reader.get("OTEL_SPAN_ATTRIBUTE_VALUE_LENGTH_LIMIT")
        general_length = reader.get("OTEL_ATTRIBUTE_VALUE_LENGTH_LIMIT")
        service_name = (
            reader.get("OTEL_SERVICE_NAME")
            or resource_attributes.get(SERVICE_NAME)
            or UNKNOWN_SERVICE
        )
        reader.show("OTEL_SERVICE_NAME", service_name)
        config_file = reader.get("OTEL_CONFIG_FILE")
        if config_file:
            reader.warn(
                f"OTEL_CONFIG_FILE={config_file}: the SDK builds its pipeline from this file; the "
                f"other variables about exporters, sampling and limits have no effect."
            )
        spool_max_bytes = reader.get("OTELBRIDGE_SPOOL_MAX_BYTES")
        spool_mode = reader.get("OTELBRIDGE_SPOOL_MODE")
        if spool_mode == "write-ahead" and (exporter == "stock" or not spool_max_bytes):
            why = "OTELBRIDGE_SPOOL_MAX_BYTES=0" if exporter == "bridge" else "the stock exporter"
            reader.warn(f"OTELBRIDGE_SPOOL_MODE=write-ahead has no effect with {why}.")
        langfuse = _langfuse(reader, export)
        return cls(
            service_name=service_name,
            resource_attributes=resource_attributes,
            sdk_disabled=reader.get("OTEL_SDK_DISABLED"),
            traces_exporter=traces_exporter,
            propagators=rules.propagators(reader),
            config_file=config_file,
            queue_max_spans=queue_max_spans,
            batch_max_spans=batch_max_spans,
            schedule_delay_seconds=reader.get("OTEL_BSP_SCHEDULE_DELAY"),
            attribute_count_limit=general_limit if limit is None else limit,
            attribute_length_limit=general_length,
            span_attribute_length_limit=general_length if length is None else length,
            otlp=_otlp(reader, exporter, exporter_protocol),
            capture_content=rules.capture_content(reader),
            langfuse=langfuse,
            export=export,
            trusted_hosts=reader.get("OTELBRIDGE_TRUSTED_HOSTS"),
            trust_inbound=reader.get("OTELBRIDGE_TRUST_INBOUND"),
            in_cluster=reader.get("KUBERNETES_SERVICE_HOST"),
            exporter=exporter,
            spool_directory=_absolute(reader.get("OTELBRIDGE_SPOOL_DIR")),
            prompts_directory=_directory_or_off(reader.get("OTELBRIDGE_PROMPTS_DIR")),
            spool_max_bytes=spool_max_bytes,
            spool_mode=spool_mode,
            spool_fsync=reader.get("OTELBRIDGE_SPOOL_FSYNC"),
            shutdown_timeout_seconds=reader.get("OTELBRIDGE_SHUTDOWN_TIMEOUT"),
            masking=reader.get("OTELBRIDGE_MASKING"),
            masking_rules=reader.get("OTELBRIDGE_MASKING_RULES"),
            masking_salt=reader.get("OTELBRIDGE_MASKING_SALT"),
            attribute_max_bytes=reader.get("OTELBRIDGE_ATTRIBUTE_MAX_BYTES"),
            span_max_bytes=reader.get("OTELBRIDGE_SPAN_MAX_BYTES"),
            llm_view=reader.get("OTELBRIDGE_LLM_VIEW"),
            legacy_gen_ai_system=reader.get("OTELBRIDGE_LEGACY_GEN_AI_SYSTEM"),
            legacy_langfuse_headers=reader.get("OTELBRIDGE_LEGACY_LANGFUSE_HEADERS"),
            compat=reader.get("OTELBRIDGE_COMPAT"),
            langfuse_sdk_export=reader.get("OTELBRIDGE_LANGFUSE_SDK_EXPORT"),
            prices=reader.get("OTELBRIDGE_PRICES"),
            prices_file=reader.get("OTELBRIDGE_PRICES_FILE"),
            budgets_file=reader.get("OTELBRIDGE_BUDGETS_FILE"),
            budgets_directory=_absolute(reader.get("OTELBRIDGE_BUDGETS_DIR")),
            budgets_reconcile_seconds=reader.get("OTELBRIDGE_BUDGETS_RECONCILE"),
            log_format=reader.get("OTELBRIDGE_LOG_FORMAT"),
            tempo_url=reader.base_url("OTELBRIDGE_TEMPO_URL") or "",
            grafana_url=reader.base_url("OTELBRIDGE_GRAFANA_URL"),
            grafana_links=reader.get("OTELBRIDGE_GRAFANA_LINKS"),
            collector_binary=reader.get("OTELBRIDGE_COLLECTOR_BINARY"),
            **reader.finish(),
        )


def _absolute(path: str) -> str:
    """The path from the root; a user without a home has the system's directory for such files."""
    expanded = os.path.expanduser(path)
    if expanded.startswith("~"):
        expanded = os.path.join(tempfile.gettempdir(), f"otelbridge-{os.getuid()}", expanded[2:])
    return os.path.abspath(expanded)


def _directory_or_off(path: str) -> str:
    return "" if path.strip().lower() == "off" else _absolute(path)


def _otlp(reader: Reader, exporter: str, exporter_protocol: str | None) -> OtlpSettings:
    """The OTLP part; a form for traces wins over the general one, an argument over both."""
    variable = reader.traces_form(_OTLP + "ENDPOINT")
    protocol_variable = reader.traces_form(_OTLP + "PROTOCOL")
    asked = reader.get(protocol_variable) or exporter_protocol
    url, protocol = rules.otlp_url(reader, variable, exporter, asked)
    reader.show(variable, url)
    reader.show(protocol_variable, protocol)
    timeout_variable = reader.traces_form(_OTLP + "TIMEOUT")
    timeout_seconds: float = reader.get(timeout_variable)
    if exporter == "stock" and not reader.given(timeout_variable):
        timeout_seconds = _STOCK_TIMEOUT_SECONDS
        reader.show(timeout_variable, f"{timeout_seconds:g}")
    if timeout_seconds >= 1000:  # nobody waits a quarter of an hour for one export
        reader.warn(
            f"{timeout_variable}={timeout_seconds:g} is taken as seconds, as the Python SDK does; "
            f"milliseconds are divided by 1000 first."
        )
    certificate = _file(reader, "CERTIFICATE")
    client_certificate = _file(reader, "CLIENT_CERTIFICATE")
    client_key = _file(reader, "CLIENT_KEY")
    if client_key and not client_certificate:
        reader.warn(f"{_OTLP}CLIENT_KEY has no effect without {_OTLP}CLIENT_CERTIFICATE.")
    headers = reader.pairs(reader.traces_form(_OTLP + "HEADERS"), headers=True)
    return OtlpSettings(
        endpoint=url,
        headers={key.lower(): value for key, value in headers.items()},
        timeout_seconds=timeout_seconds,
        compression=reader.get(reader.traces_form(_OTLP + "COMPRESSION")),
        certificate=certificate,
        protocol=protocol,
        client_certificate=client_certificate,
        client_key=client_key,
    )


def _file(reader: Reader, kind: str) -> str | None:
    """The path in the OTLP variable of this kind; a missing file is said."""
    variable = reader.traces_form(_OTLP + kind)
    path: str | None = reader.get(variable)
    if path and not os.path.isfile(path):
        reader.warn(f"{variable}={path}: there is no such file; exports will fail.")
    return path


def _langfuse(reader: Reader, export: str) -> LangfuseSettings:
    """The Langfuse part, contradictions named."""
    public_key: str | None = reader.get("LANGFUSE_PUBLIC_KEY")
    secret_key: str | None = reader.get("LANGFUSE_SECRET_KEY")
    enabled: bool = reader.get("LANGFUSE_ENABLED")
    rules.check_keys(reader, public_key, secret_key)
    host = reader.base_url("LANGFUSE_HOST")
    if host is None and public_key and secret_key:
        host = CLOUD_HOST
        reader.show("LANGFUSE_HOST", host)
    public_url = reader.base_url("LANGFUSE_PUBLIC_URL") or host
    reader.show("LANGFUSE_PUBLIC_URL", public_url or "")
    if export == "direct" and enabled and not (public_key and secret_key):
        reader.warn(
            "OTELBRIDGE_EXPORT=direct sends the LLM view to Langfuse itself and needs "
            "LANGFUSE_PUBLIC_KEY and LANGFUSE_SECRET_KEY; without both, Langfuse gets nothing. Set "
            "them, or use OTELBRIDGE_EXPORT=collector."
        )
    return LangfuseSettings(
        enabled=enabled,
        public_key=public_key,
        secret_key=secret_key,
        host=host,
        public_url=public_url,
        project_id=reader.get("LANGFUSE_PROJECT_ID"),
        environment=rules.environment(reader),
        release=reader.get("LANGFUSE_RELEASE"),
        sample_rate=reader.get("LANGFUSE_SAMPLE_RATE"),
        debug=reader.get("LANGFUSE_DEBUG"),
    )


def set_environment_defaults(
    environment: MutableMapping[str, str] | None = None, *, capture_content: str = "SPAN_ONLY"
) -> None:
    """Set what other instrumentations read from the environment; what the user set stays.

    Message content goes where ours goes (opentelemetry-util-genai), HTTP attributes are those of
    semantic conventions 1.23 and later (`http`).

    Args:
        environment: The process environment by default.
        capture_content: `Settings.capture_content`.
    """
    target = os.environ if environment is None else environment
    for name, value in {
        "OTEL_INSTRUMENTATION_GENAI_CAPTURE_MESSAGE_CONTENT": capture_content,
        "OTEL_SEMCONV_STABILITY_OPT_IN": "http",
    }.items():
        if not target.get(name, "").strip():
            target[name] = value


def process_environment() -> dict[str, str]:
    """A copy of the process environment, for starting child processes."""
    return dict(os.environ)
