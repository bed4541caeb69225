"""The corpus: 40 broken set-ups, each with what a person did wrong and its remedy. Data only.

Most come from public threads (`seen`); the rest from the issue's own list. `good` holds set-ups
without a fault, `held_out` further broken ones.
"""

from __future__ import annotations

from tests.doctor.cases import HEADER, TO_LANGFUSE, Case, basic, through

#: Long enough that `base64` breaks the line, as it does for real keys.
_LONG = basic(
    "pk-lf-5a1c0b1e-4a55-4b8e-9d0c-1f0a2b3c4d5e:sk-lf-6f2d1c2f-5b66-4c9f-8e1d-2a1b3c4d5e6f"
)

_ENDPOINTS = (
    Case(
        "base-url-with-path",
        "gave the full URL where the exporter adds /v1/traces",
        {"OTEL_EXPORTER_OTLP_ENDPOINT": "{collector[otlp]}/v1/traces"},
        ("endpoint-path-doubled",),
        {"OTEL_EXPORTER_OTLP_ENDPOINT": "{collector[otlp]}"},
        "PostHog PR#55028",
    ),
    Case(
        "traces-url-without-path",
        "gave the base URL in the variable that is used as it stands",
        {"OTEL_EXPORTER_OTLP_TRACES_ENDPOINT": "{collector[otlp]}"},
        ("endpoint-path-missing",),
        {"OTEL_EXPORTER_OTLP_TRACES_ENDPOINT": "{collector[otlp]}/v1/traces"},
        "langfuse#5903",
    ),
    Case(
        "no-scheme",
        "left http:// away",
        {"OTEL_EXPORTER_OTLP_ENDPOINT": "127.0.0.1:{collector_port}"},
        ("endpoint-no-scheme",),
        {"OTEL_EXPORTER_OTLP_ENDPOINT": "{collector[otlp]}"},
    ),
    Case(
        "collector-not-running",
        "did not start the Collector",
        {"OTEL_EXPORTER_OTLP_ENDPOINT": "{closed[url]}"},
        ("port-closed",),
        through("collector"),
    ),
    Case(
        "host-misspelt",
        "misspelt the Collector's name",
        {"OTEL_EXPORTER_OTLP_ENDPOINT": "http://colector:4318"},
        ("dns-failed",),
        through("collector"),
    ),
    Case(
        "grpc-port",
        "gave the gRPC receiver to an HTTP exporter",
        {"OTEL_EXPORTER_OTLP_ENDPOINT": "http://{collector[grpc]}"},
        ("otlp-grpc-answers",),
        through("collector"),
        "llm-d-router#2567",
    ),
    Case(
        "grpc-to-langfuse",
        "sent gRPC to Langfuse",
        {
            "OTELBRIDGE_TEMPO_URL": None,
            "OTEL_EXPORTER_OTLP_ENDPOINT": "{local[langfuse]}",
            "OTEL_EXPORTER_OTLP_PROTOCOL": "grpc",
            "OTELBRIDGE_EXPORTER": "stock",
            "OTEL_EXPORTER_OTLP_HEADERS": HEADER,
        },
        ("langfuse-grpc",),
        {
            "OTEL_EXPORTER_OTLP_PROTOCOL": "http/protobuf",
            "OTEL_EXPORTER_OTLP_ENDPOINT": "{local[langfuse]}/api/public/otel",
        },
        "langfuse-docs PR#1862, trpc-agent-go PR#203",
    ),
    Case(
        "langfuse-without-otel-path",
        "gave Langfuse's address without /api/public/otel",
        {**TO_LANGFUSE, "OTEL_EXPORTER_OTLP_ENDPOINT": "{local[langfuse]}"},
        ("langfuse-endpoint-path",),
        {"OTEL_EXPORTER_OTLP_ENDPOINT": "{local[langfuse]}/api/public/otel"},
        "langfuse#5815, #7930",
    ),
    Case(
        "web-application",
        "gave the address of Grafana's pages",
        {"OTEL_EXPORTER_OTLP_ENDPOINT": "{page[url]}"},
        ("otlp-not-receiver",),
        through("collector"),
    ),
    Case(
        "https-to-plain",
        "wrote https to a receiver without TLS",
        {"OTEL_EXPORTER_OTLP_ENDPOINT": "https://127.0.0.1:{collector_port}"},
        ("https-to-plain", "tls-on-plain"),
        {"OTEL_EXPORTER_OTLP_ENDPOINT": "{collector[otlp]}"},
    ),
    Case(
        "self-signed",
        "did not give the certificate of the Collector's own authority",
        {"OTEL_EXPORTER_OTLP_ENDPOINT": "{tls[url]}"},
        ("tls-untrusted",),
        {"OTEL_EXPORTER_OTLP_CERTIFICATE": "{tls[certificate]}"},
    ),
    Case(
        "receiver-wants-token",
        "left the receiver's bearer token away",
        through("collector_bearer"),
        ("otlp-unauthorized",),
        {"OTEL_EXPORTER_OTLP_HEADERS": "Authorization=Bearer%20corpus-bearer-token"},
    ),
)

_LOGIN = (
    Case(
        "raw-keys-in-header",
        "put pk:sk behind Basic without base64",
        {
            **TO_LANGFUSE,
            "OTEL_EXPORTER_OTLP_HEADERS": "Authorization=Basic%20pk-lf-local:sk-lf-local",
        },
        ("header-not-base64",),
        {"OTEL_EXPORTER_OTLP_HEADERS": HEADER},
        "langfuse#5903, pipecat-examples#84",
    ),
    Case(
        "line-break-in-base64",
        "encoded with a base64 that breaks lines",
        {
            **TO_LANGFUSE,
            "OTEL_EXPORTER_OTLP_HEADERS": f"Authorization=Basic%20{_LONG[:76]}\n{_LONG[76:]}",
        },
        ("header-newline",),
        {"OTEL_EXPORTER_OTLP_HEADERS": HEADER},
        "langfuse#8424",
    ),
    Case(
        "empty-pair",
        "made the header of variables that were not set",
        {**TO_LANGFUSE, "OTEL_EXPORTER_OTLP_HEADERS": f"Authorization=Basic%20{basic(':')}"},
        ("header-empty",),
        {"OTEL_EXPORTER_OTLP_HEADERS": HEADER},
        "langfuse-docs PR#3356",
    ),
    Case(
        "no-basic",
        "put the base64 alone",
        {
            **TO_LANGFUSE,
            "OTEL_EXPORTER_OTLP_HEADERS": HEADER.replace("Basic%20", ""),
        },
        ("header-not-basic",),
        {"OTEL_EXPORTER_OTLP_HEADERS": HEADER},
        "langfuse#5815",
    ),
    Case(
        "header-of-old-keys",
        "rotated the keys and kept the header",
        {
            **TO_LANGFUSE,
            "OTEL_EXPORTER_OTLP_HEADERS": "Authorization=Basic%20"
            + basic("pk-lf-old:sk-lf-older").replace("=", "%3D"),
        },
        ("header-other-keys",),
        {"OTEL_EXPORTER_OTLP_HEADERS": HEADER},
    ),
    Case(
        "keys-exchanged",
        "exchanged public and secret key",
        {"LANGFUSE_PUBLIC_KEY": "sk-lf-local", "LANGFUSE_SECRET_KEY": "pk-lf-local"},
        ("keys-swapped",),
        {"LANGFUSE_PUBLIC_KEY": "pk-lf-local", "LANGFUSE_SECRET_KEY": "sk-lf-local"},
    ),
    Case(
        "one-key",
        "set only the public key",
        {"LANGFUSE_SECRET_KEY": None},
        ("keys-half",),
        {"LANGFUSE_SECRET_KEY": "sk-lf-local"},
    ),
    Case(
        "keys-of-another-project",
        "copied the secret key of another project",
        {"LANGFUSE_SECRET_KEY": "sk-lf-of-another-project"},
        ("langfuse-keys-refused",),
        {"LANGFUSE_SECRET_KEY": "sk-lf-local"},
    ),
    Case(
        "project-id-of-another-project",
        "copied the project id from another address bar",
        {"LANGFUSE_PROJECT_ID": "cmnotthisone"},
        ("langfuse-wrong-project",),
        {"LANGFUSE_PROJECT_ID": "local"},
    ),
    Case(
        "otel-path-in-host",
        "put the OTLP path into LANGFUSE_HOST",
        {"LANGFUSE_HOST": "{local[langfuse]}/api/public/otel"},
        ("langfuse-host-path",),
        {"LANGFUSE_HOST": "{local[langfuse]}"},
        "langfuse#7930",
    ),
)

_COLLECTOR = (
    Case(
        "collector-has-wrong-keys",
        "rotated the keys and did not restart the Collector",
        through("collector_wrongkeys"),
        ("canary-langfuse-refused",),
        through("collector"),
    ),
    Case(
        "collector-without-langfuse",
        "started the Collector without Langfuse's branch",
        through("collector_nolangfuse"),
        ("collector-no-langfuse",),
        through("collector"),
        "langfuse#11366",
    ),
    Case(
        "collector-cannot-reach-langfuse",
        "gave the Collector an address that works on the host only",
        through("collector_langfusedown"),
        ("canary-langfuse-waiting",),
        through("collector"),
    ),
    Case(
        "collector-cannot-reach-tempo",
        "gave the Collector a wrong address of Tempo",
        through("collector_tempodown"),
        ("canary-tempo-waiting",),
        through("collector"),
    ),
    Case(
        "collector-sends-elsewhere",
        "looks at another Langfuse than the Collector sends to",
        through("collector_elsewhere"),
        ("canary-langfuse-elsewhere",),
        through("collector"),
    ),
    Case(
        "filter-leaves-orphans",
        "filtered on gen_ai in the Collector, which drops the parents",
        through("collector_orphans"),
        ("canary-orphans",),
        through("collector"),
        "langfuse#6976, contrib#28890, rossoctl#1606",
    ),
    Case(
        "everything-to-langfuse",
        "took the filter out of the branch to Langfuse",
        through("collector_unfiltered"),
        ("canary-unfiltered",),
        through("collector"),
        "maximhq/bifrost PR#2279",
    ),
    Case(
        "prompts-in-tempo",
        "took the content policy out of the branch to Tempo",
        {**through("collector_contenttotempo"), "OTELBRIDGE_TEMPO_URL": "{plaintempo[url]}"},
        ("canary-content-in-tempo",),
        through("collector_plaintempo"),
        "aihub-core PR#1795",
    ),
    Case(
        "direct-beside-collector",
        "exports to Langfuse by itself and through the Collector",
        {"OTELBRIDGE_EXPORT": "direct"},
        ("duplicate-langfuse-route",),
        {"OTELBRIDGE_EXPORT": "collector"},
        "langfuse#7212",
    ),
    Case(
        "grpc-exporter-in-collector",
        "configured an otlp (gRPC) exporter for Langfuse in the Collector",
        {},
        ("collector-langfuse-grpc",),
        files={
            "collector.yaml": """\
receivers: {otlp: {protocols: {http: {}}}}
processors:
  filter/llm: {traces: {span: ['attributes["gen_ai.operation.name"] == nil']}}
  transform/llm: {trace_statements: ['set(span.parent_span_id.string,
    span.attributes["otelbridge.llm.parent"])']}
exporters:
  otlp/langfuse: {endpoint: "langfuse-web:3000", headers: {authorization: "Basic ${env:AUTH}"}}
service: {pipelines: {traces: {receivers: [otlp], processors: [filter/llm, transform/llm],
  exporters: [otlp/langfuse]}}}
"""
        },
        fixed_files={"collector.yaml": None},
        arguments=("--collector-config", "collector.yaml"),
        seen="langfuse-docs PR#1862",
    ),
    Case(
        "undefined-auth-in-collector",
        "used a variable in the Collector's header that nobody sets",
        {},
        ("collector-langfuse-no-auth",),
        files={
            "collector.yaml": """\
receivers: {otlp: {protocols: {http: {}}}}
processors:
  filter/llm: {traces: {span: ['attributes["gen_ai.operation.name"] == nil']}}
  transform/llm: {trace_statements: ['set(span.parent_span_id.string,
    span.attributes["otelbridge.llm.parent"])']}
exporters:
  otlp_http/langfuse:
    endpoint: https://cloud.langfuse.com/api/public/otel
    headers: {authorization: "Basic ${env:LANGFUSE_AUTH}"}
service: {pipelines: {traces: {receivers: [otlp], processors: [filter/llm, transform/llm],
  exporters: [otlp_http/langfuse]}}}
"""
        },
        fix={"LANGFUSE_AUTH": basic("pk-lf-local:sk-lf-local")},
        arguments=("--collector-config", "collector.yaml"),
        seen="langfuse-docs PR#3356",
    ),
)

_REST = (
    Case(
        "loki-for-tempo",
        "gave Loki's port for Tempo",
        {"OTELBRIDGE_TEMPO_URL": "{loki[url]}"},
        ("tempo-is-loki",),
        {"OTELBRIDGE_TEMPO_URL": "{local[tempo]}"},
    ),
    Case(
        "clock-an-hour-off",
        "lets a virtual machine's clock run away",
        {"OTELBRIDGE_TEMPO_URL": "{skewed[url]}"},
        ("clock-skew",),
        {"OTELBRIDGE_TEMPO_URL": "{local[tempo]}"},
    ),
    Case(
        "no-propagators",
        "set OTEL_PROPAGATORS=b3 for a mesh",
        {"OTEL_PROPAGATORS": "none"},
        ("propagators-missing",),
        {"OTEL_PROPAGATORS": "tracecontext,baggage"},
        "truefoundry/skills#52, agentweave#178",
    ),
    Case(
        "own-service-denied",
        "denied a host pattern that covers an own service",
        {
            "OTELBRIDGE_TRUSTED_HOSTS": "!*.svc",
            "RAG_URL": "http://rag.shop.svc:8000",
        },
        ("trusted-hosts-deny",),
        {"OTELBRIDGE_TRUSTED_HOSTS": None},
        "langfuse#3322",
    ),
    Case(
        "litellm-callback",
        "kept LiteLLM's langfuse callback beside the Collector",
        {},
        ("litellm-langfuse-callback",),
        files={
            "litellm.yaml": 'litellm_settings:\n  callbacks: ["otel", "langfuse"]\n'
            'environment_variables:\n  LITELLM_OTEL_V2: "true"\n'
        },
        fixed_files={
            "litellm.yaml": 'litellm_settings:\n  callbacks: ["otel"]\n'
            'environment_variables:\n  LITELLM_OTEL_V2: "true"\n'
        },
        seen="litellm#14020, #10588",
    ),
    Case(
        "second-instrumentation",
        "installed a second instrumentation of the openai client",
        {},
        ("llm-instrumentations-two",),
        packages={
            "openinference-instrumentation-openai": "0.1.66",
            "opentelemetry-instrumentation-openai": "0.62.4",
        },
        seen="template-agent PR#161",
    ),
    Case(
        "datadog-beside",
        "runs the service under ddtrace-run as well",
        {"PYTHONPATH": "/venv/lib/python3.13/site-packages/ddtrace/bootstrap"},
        ("provider-rival",),
        {"PYTHONPATH": None},
        seen="langfuse-python#1505",
    ),
)

BROKEN: tuple[Case, ...] = (*_ENDPOINTS, *_LOGIN, *_COLLECTOR, *_REST)
