"""The other half of the corpus: 20 set-ups without a fault, which the doctor must leave alone.

Data only, in the form of `cases.Case`: no warning and no error may come of any of them. They are
the documented ways to run otelbridge, and the unusual ones that only look wrong.
"""

from __future__ import annotations

from tests.doctor.cases import Case, Changes, through

_NO_KEYS: Changes = {
    "LANGFUSE_HOST": None,
    "LANGFUSE_PUBLIC_KEY": None,
    "LANGFUSE_SECRET_KEY": None,
    "LANGFUSE_PROJECT_ID": None,
}
_DIRECT: Changes = {**through("local"), "OTELBRIDGE_EXPORT": "direct"}
_RAW_LOCAL: Changes = {
    **through("local_raw"),
    "OTELBRIDGE_TEMPO_URL": "{local_raw[tempo]}",
    "LANGFUSE_HOST": "{local_raw[langfuse]}",
}


def _good(name: str, about: str, changes: Changes, **more: object) -> Case:
    return Case(name, about, changes, (), **more)  # type: ignore[arg-type]  # of Case's fields


GOOD_ONES: tuple[Case, ...] = (
    _good("collector", "the Collector, and both stores known here", {}),
    _good("collector-no-keys-here", "only the Collector holds the keys", _NO_KEYS),
    _good(
        "collector-tempo-only",
        "no Langfuse at all",
        {**_NO_KEYS, **through("collector_nolangfuse"), "LANGFUSE_ENABLED": "false"},
    ),
    _good("direct", "no Collector, export to both stores", _DIRECT),
    _good(
        "direct-without-langfuse",
        "direct, Langfuse switched off",
        {**_DIRECT, **_NO_KEYS, "LANGFUSE_ENABLED": "false"},
    ),
    _good("local", "`otelbridge local` alone, its preview known", _RAW_LOCAL),
    _good("local-no-keys", "`otelbridge local` alone, without any key", {**_RAW_LOCAL, **_NO_KEYS}),
    _good(
        "traces-url",
        "the full URL in the variable for it",
        {
            "OTEL_EXPORTER_OTLP_ENDPOINT": None,
            "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT": "{collector[otlp]}/v1/traces",
        },
    ),
    _good(
        "trailing-slash",
        "a slash behind the addresses",
        {
            "OTEL_EXPORTER_OTLP_ENDPOINT": "{collector[otlp]}/",
            "OTELBRIDGE_TEMPO_URL": "{local[tempo]}/",
            "LANGFUSE_HOST": "{local[langfuse]}/",
        },
    ),
    _good(
        "stock-grpc",
        "the SDK's own exporter over gRPC",
        {
            "OTELBRIDGE_EXPORTER": "stock",
            "OTEL_EXPORTER_OTLP_PROTOCOL": "grpc",
            "OTEL_EXPORTER_OTLP_ENDPOINT": "http://{collector[grpc]}",
        },
    ),
    _good(
        "bearer",
        "a Collector that wants a token, and the token",
        {
            **through("collector_bearer"),
            "OTEL_EXPORTER_OTLP_HEADERS": "Authorization=Bearer%20corpus-bearer-token",
        },
    ),
    _good(
        "own-authority",
        "TLS with a certificate of one's own, which is given",
        {
            "OTEL_EXPORTER_OTLP_ENDPOINT": "{tls[url]}",
            "OTEL_EXPORTER_OTLP_CERTIFICATE": "{tls[certificate]}",
        },
    ),
    _good("sampled", "a tenth of the traces in Langfuse", {"LANGFUSE_SAMPLE_RATE": "0.1"}),
    _good(
        "head-sampling",
        "a tenth of all traces, decided by the first service",
        {"OTEL_TRACES_SAMPLER": "parentbased_traceidratio", "OTEL_TRACES_SAMPLER_ARG": "0.1"},
    ),
    _good(
        "no-content",
        "message text stays in the process",
        {"OTEL_INSTRUMENTATION_GENAI_CAPTURE_MESSAGE_CONTENT": "NO_CONTENT"},
    ),
    _good("view-all", "every span in Langfuse, as asked", {"OTELBRIDGE_LLM_VIEW": "all"}),
    _good("view-llm", "LLM spans and the root only", {"OTELBRIDGE_LLM_VIEW": "llm"}),
    _good(
        "edge",
        "a gateway that does not believe its callers, and names its own hosts",
        {
            "OTEL_SERVICE_NAME": "gateway",
            "OTELBRIDGE_TRUST_INBOUND": "false",
            "OTELBRIDGE_TRUSTED_HOSTS": "*.shop.example,!api.openai.com",
        },
    ),
    _good(
        "langfuse-3-reads",
        "a Langfuse that has the older read API only",
        {"LANGFUSE_HOST": "{v3[url]}"},
    ),
    _good(
        "litellm-beside",
        "LiteLLM with its second tracing engine into the same Collector",
        {"OTELBRIDGE_GRAFANA_URL": "http://localhost:3001"},
        files={
            "litellm.yaml": 'litellm_settings:\n  callbacks: ["otel"]\n'
            'environment_variables:\n  LITELLM_OTEL_V2: "true"\n'
        },
    ),
)
