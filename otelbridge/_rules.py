"""The rules of single settings that are more than parsing: repairs, fallbacks, contradictions.

Each takes the `Reader` of one reading, gives values, and leaves a sentence there for whatever it
repaired. Used by `settings.py` only.
"""

from __future__ import annotations

from importlib.metadata import entry_points
from typing import Final

from otelbridge import endpoints
from otelbridge._environment import Reader
from otelbridge.env import BY_NAME, CAPTURE_MODES
from otelbridge.errors import ConfigError

_ENDPOINT: Final = "OTEL_EXPORTER_OTLP_ENDPOINT"
_OWN_PROPAGATORS: Final = frozenset({"tracecontext", "baggage"})


def traces_exporter(reader: Reader) -> tuple[str, str | None]:
    """The exporter, and the protocol that its name implies."""
    name = "OTEL_TRACES_EXPORTER"
    given = [part.strip().lower() for part in reader.get(name).split(",") if part.strip()]
    implied = {"otlp_proto_http": "http/protobuf", "otlp_proto_grpc": "grpc"}
    known = [part for part in given if part in ("otlp", "console", "none") or part in implied]
    if given != known[:1]:
        chosen = known[0] if known else "otlp"
        reader.reject(name, ",".join(given), "one of otlp, console, none", f"{chosen} is used")
    word = known[0] if known else "otlp"
    exporter = "otlp" if word in implied else word
    reader.show(name, exporter)
    return exporter, implied.get(word)


def queue(reader: Reader) -> tuple[int, int]:
    """Queue and batch size in spans; a batch is never larger than the queue."""
    name = "OTEL_BSP_MAX_EXPORT_BATCH_SIZE"
    queue_spans: int = reader.get("OTEL_BSP_MAX_QUEUE_SIZE")
    batch_spans: int = reader.get(name)
    if batch_spans > queue_spans:
        if reader.given(name):
            allowed = f"at most OTEL_BSP_MAX_QUEUE_SIZE={queue_spans}"
            reader.reject(name, str(batch_spans), allowed, f"{queue_spans} is used")
        batch_spans = queue_spans
        reader.show(name, str(batch_spans))
    return queue_spans, batch_spans


def propagators(reader: Reader) -> tuple[str, ...]:
    """Names of installed propagators; `none` is the empty tuple."""
    name = "OTEL_PROPAGATORS"
    given: tuple[str, ...] = reader.get(name)
    if "none" in given:
        return ()
    if set(given) <= _OWN_PROPAGATORS:  # spares the walk over installed packages
        return given
    installed = {entry.name for entry in entry_points(group="opentelemetry_propagator")}
    kept = tuple(item for item in given if item in installed | _OWN_PROPAGATORS)
    if kept != given:
        kept = kept or tuple(sorted(_OWN_PROPAGATORS, reverse=True))
        allowed = "none, " + ", ".join(sorted(installed | _OWN_PROPAGATORS))
        reader.reject(name, ",".join(given), allowed, f"{','.join(kept)} is used")
        reader.show(name, ",".join(kept))
    return kept


def capture_content(reader: Reader) -> str:
    """The content mode; text that is not understood keeps message text in the process."""
    name = "OTEL_INSTRUMENTATION_GENAI_CAPTURE_MESSAGE_CONTENT"
    given: str = reader.get(name)
    word = given.strip().upper()
    mode = {"TRUE": "SPAN_ONLY", "FALSE": "NO_CONTENT"}.get(word, word)
    if mode not in CAPTURE_MODES:
        mode = "NO_CONTENT"
    if mode != word:
        reader.reject(name, given, ", ".join(CAPTURE_MODES), f"{mode} is used")
    reader.show(name, mode)
    return mode


def otlp_url(reader: Reader, variable: str, exporter: str, asked: str | None) -> tuple[str, str]:
    """The endpoint and the protocol in force: gRPC only with the stock exporter.

    Args:
        variable: The variable that decides about the endpoint.
        exporter: `bridge` or `stock`.
        asked: The protocol that was asked for, or None.
    """
    given: str = reader.get(variable)
    full = variable.endswith("_TRACES_ENDPOINT")
    try:
        url, warnings = endpoints.http_traces_url(variable, given, full=full)
    except ValueError:
        default = BY_NAME[_ENDPOINT].default or ""
        reader.reject(variable, given, BY_NAME[variable].allowed, f"{default} is used")
        given, full = default, False
        url, warnings = endpoints.http_traces_url(_ENDPOINT, given, full=False)
    port = endpoints.split_http_url(url).port
    if exporter == "stock":
        if asked == "grpc" or (asked is None and port == endpoints.GRPC_PORT):
            if not reader.given(variable):
                given = endpoints.with_port(given, endpoints.GRPC_PORT)
            url, warnings = endpoints.grpc_url(variable, given)
            reader.warn(*warnings)
            return url, "grpc"
        if port == endpoints.GRPC_PORT:
            warnings.append(
                f"{variable}={endpoints.shown(given)!r} names port 4317, which is gRPC by "
                f"convention, for HTTP. Use port 4318, or OTEL_EXPORTER_OTLP_PROTOCOL=grpc."
            )
    elif asked == "grpc" or port == endpoints.GRPC_PORT:
        url = endpoints.with_port(url, endpoints.HTTP_PORT)
        warnings.append(_no_grpc(url, endpoints.shown(given), port, asked))
    reader.warn(*warnings)
    return url, "http/protobuf"


def _no_grpc(url: str, given: str, port: int | None, asked: str | None) -> str:
    """The sentence on gRPC that otelbridge's own exporter does not speak."""
    why = "The protocol grpc" if asked == "grpc" else "Port 4317, which is gRPC,"
    instead = f"HTTP port 4318 of the same host is used: {endpoints.shown(url)}"
    if port not in (endpoints.GRPC_PORT, endpoints.HTTP_PORT):
        instead += f" (port {port or 'by default'} of {given} is left alone)"
    return (
        f"{why} was asked for, but otelbridge's own exporter speaks HTTP only; {instead}. Set "
        f"OTEL_EXPORTER_OTLP_ENDPOINT to the HTTP port and OTEL_EXPORTER_OTLP_PROTOCOL="
        f"http/protobuf, or OTELBRIDGE_EXPORTER=stock for gRPC."
    )


def check_keys(reader: Reader, public_key: str | None, secret_key: str | None) -> None:
    """Name what looks wrong about the Langfuse keys.

    Raises:
        ConfigError: the keys are swapped; the secret one would go where the public one is shown.
    """
    for name, key, wrong in (
        ("LANGFUSE_PUBLIC_KEY", public_key, "sk-lf-"),
        ("LANGFUSE_SECRET_KEY", secret_key, "pk-lf-"),
    ):
        if key and key.startswith(wrong):
            raise ConfigError(
                name,
                f"{wrong}...",
                "pk-lf-... in LANGFUSE_PUBLIC_KEY and sk-lf-... in LANGFUSE_SECRET_KEY",
                "The keys look swapped: exchange them.",
            )
    for name, key, prefix in (
        ("LANGFUSE_PUBLIC_KEY", public_key, "pk-lf-"),
        ("LANGFUSE_SECRET_KEY", secret_key, "sk-lf-"),
    ):
        if key and not key.startswith(prefix):
            reader.warn(
                f"{name} does not start with {prefix}, as keys made by Langfuse do; it is used as "
                f"it is. Check that it is a project key of Langfuse."
            )
    if bool(public_key) != bool(secret_key):
        missing = "LANGFUSE_SECRET_KEY" if public_key else "LANGFUSE_PUBLIC_KEY"
        reader.warn(
            f"{missing} is not set while the other key is; Langfuse needs both, so scores, prompts "
            f"and links are off. Set both, or none."
        )


def environment(reader: Reader) -> str | None:
    """The environment name as Langfuse stores it; a name that changes beyond its case is named."""
    name = "LANGFUSE_ENVIRONMENT"
    stored: str | None = reader.get(name)
    given = reader.text(name)
    if stored is not None and stored != given.lower():
        reader.warn(
            f"{name}={given!r} becomes {stored!r} in Langfuse and is sent so, to make both stores "
            f"agree; allowed: {BY_NAME[name].allowed}, not starting with langfuse."
        )
    return stored
