"""Explanations of the codes about .env, a LiteLLM configuration, and installed packages.

Data only; the functions that find these are in `files_checks` and `packages_checks`.
"""

from __future__ import annotations

from typing import Final

from otelbridge.doctor.findings import Entry

_FILES: Final = (
    Entry("env-file-good", "ok", "The .env file is complete",
          "It can be read, has no empty secret, and nobody else may read it.",
          "The file is read as compose reads it."),
    Entry("env-file-missing", "note", "No .env file",
          "`docker compose up` refuses to start: it needs the secrets that `otelbridge init` "
          "writes.",
          "There is a docker-compose.yml and no .env beside it.",
          "Run `otelbridge init`."),
    Entry("env-file-broken", "error", "The .env file cannot be read",
          "Compose stops, or takes something else than was meant.",
          "A line is no `NAME=value`, a quote is not closed, or the file is no text.",
          "Correct the line that is named."),
    Entry("env-file-half", "error", "Half a .env file",
          "Secrets of the stack are missing or empty. Compose refuses, or a store starts "
          "without a password.",
          "The file belongs to the stack and names of `otelbridge init` are missing or empty in"
          " it.",
          "Run `otelbridge init`: it adds what is missing and changes nothing that is there."),
    Entry("env-file-permissions", "warning", "Others may read the .env file",
          "Every user of this machine can read the keys.",
          "The mode of the file gives rights to group or others.",
          "chmod 600 .env"),
    Entry("env-file-shadowed", "warning", "The shell wins over the .env file",
          "Compose takes the variable of the shell; what is written in the file has no effect.",
          "The environment has another value for a name of the file.",
          "Unset the variable in the shell, or make both equal."),
    Entry("env-file-not-ignored", "warning", "git may take the .env file",
          "Keys in a repository are keys that others have.",
          "The directory is a git checkout and no .gitignore up to its root names .env.",
          "Add .env to .gitignore; rotate keys that were committed."),
    Entry("default-password", "error", "A password that is in every tutorial",
          "Anybody who reaches the port has the data.",
          "A secret has the value of a published example (mysecret, mysalt, minio, sk-1234, …).",
          "Run `otelbridge init --rotate NAME`; SALT and ENCRYPTION_KEY only before the first "
          "start."),
    Entry("encryption-key-form", "error", "ENCRYPTION_KEY is not 64 hexadecimal digits",
          "Langfuse stops at start-up.",
          "Length and alphabet of the value.",
          "Take `openssl rand -hex 32`, before the first start only."),
    Entry("secret-alphabet", "error", "A password that breaks the address it goes into",
          "DATABASE_URL and the ClickHouse migration URL hold the password unencoded: `@ : / % "
          "# ? & =` and spaces end it early.",
          "POSTGRES_PASSWORD, CLICKHOUSE_PASSWORD or REDIS_AUTH has such a character.",
          "Use letters and digits; `otelbridge init` does."),
    Entry("litellm-langfuse-callback", "error", "LiteLLM sends a second copy to Langfuse",
          "The Collector sends LiteLLM's spans to Langfuse already. The callback `langfuse` "
          "adds traces of its own with other ids, `langfuse_otel` drops the caller's context: "
          "calls, tokens and cost count twice, and nothing joins them.",
          "`callbacks`, `success_callback` or `failure_callback` of a LiteLLM configuration "
          "names it.",
          "litellm_settings: callbacks: [\"otel\"], and LITELLM_OTEL_V2=true."),
    Entry("litellm-otel-v1", "warning", "LiteLLM's first tracing engine",
          "About ten extra spans per call, an operation name outside the conventions, and "
          "message text on by default.",
          "The callback `otel` without LITELLM_OTEL_V2=true.",
          "Set LITELLM_OTEL_V2=true for LiteLLM."),
    Entry("litellm-langfuse-scope", "note", "Only LLM spans leave LiteLLM",
          "LITELLM_OTEL_LANGFUSE_SPAN_SCOPE=llm_only cuts the parents, so observations hang in "
          "the air.",
          "The value of the variable.",
          "Unset it when the Collector makes the branches."),
)  # fmt: skip

_PACKAGES: Final = (
    Entry("packages-good", "ok", "The installed versions go together",
          "No combination of the refuse list is installed.",
          "Metadata of the packages in the environment that the doctor runs in."),
    Entry("sdk-flask-gap", "error", "opentelemetry-sdk 1.45.2 with an older Flask instrumentation",
          "SDK 1.45.2 wants semantic-conventions 0.66b2, the Flask instrumentation 0.66b1 wants"
          " 0.66b1: pip refuses, or leaves a set that does not fit.",
          "Both versions are installed.",
          "pip install 'opentelemetry-sdk!=1.45.2' (1.45.1 goes with 0.66b1)."),
    Entry("otel-versions-mixed", "warning", "OpenTelemetry packages of different releases",
          "API and SDK are released together, and so are semantic conventions and "
          "instrumentations; mixed, imports fail or attributes change their names.",
          "opentelemetry-api and -sdk, or an SDK 1.N and conventions 0.(N+21), differ in "
          "release.",
          "pip install --upgrade opentelemetry-sdk opentelemetry-instrumentation and what "
          "follows."),
    Entry("openai-httpx2", "error", "openai 3 without an instrumentation for httpx2",
          "openai-python 3 uses httpx2, which the httpx instrumentation before 0.66b0 does not "
          "know: calls to your gateway carry no traceparent, and the gateway begins a trace of "
          "its own.",
          "openai 3 or newer, and opentelemetry-instrumentation-httpx older than 0.66b0 or "
          "none.",
          "pip install 'opentelemetry-instrumentation-httpx>=0.66b0'."),
    Entry("genai-util-gap", "error", "openai-v2 instrumentation that does not import",
          "opentelemetry-instrumentation-openai-v2 2.4b0 fails to import with opentelemetry-"
          "util-genai 1.2b0 or newer, which pip picks: LLM calls make no spans.",
          "Both versions are installed.",
          "pip install 'opentelemetry-util-genai<1.2', or use opentelemetry-instrumentation-"
          "genai-openai."),
    Entry("llm-instrumentations-two", "warning", "Two instrumentations of one LLM library",
          "Each makes a span for the same call: tokens and cost count twice in Langfuse.",
          "Two of the known packages for the same library are installed, and "
          "OTEL_PYTHON_DISABLED_INSTRUMENTATIONS names neither.",
          "Uninstall one, or disable it with OTEL_PYTHON_DISABLED_INSTRUMENTATIONS."),
    Entry("second-exporter", "warning", "Something else exports to Langfuse or installs a provider",
          "With the Collector's branch to Langfuse, an SDK that exports by itself gives every "
          "observation twice; an SDK that installs its own tracer provider takes the spans or "
          "loses to the first one.",
          "A start-up call of Langfuse's SDK, Traceloop, Logfire, OpenLIT, Phoenix, MLflow or "
          "AgentOps in a Python file of the directory, or its variables in the environment.",
          "Keep one: remove the call, or give it otelbridge's provider and no exporter."),
    Entry("provider-rival", "error", "Another agent owns the process",
          "ddtrace, New Relic, Elastic and others patch the same libraries and install a "
          "provider of their own, whose class has no processors to add to.",
          "PYTHONPATH holds the agent's bootstrap directory, or its switch for OpenTelemetry is"
          " on.",
          "Start the service without the agent's wrapper, or switch its OpenTelemetry support "
          "off."),
    Entry("provider-installed", "note", "Another tracing SDK is installed",
          "Installed is not started; if it is started beside otelbridge, two providers compete.",
          "The package is installed.",
          "Uninstall it if nothing uses it."),
    Entry("distro-rival", "error", "Two distros for opentelemetry-instrument",
          "Only one distro is loaded, the first one found: otelbridge may not be the one.",
          "More than one entry point `opentelemetry_distro`, and OTEL_PYTHON_DISTRO is not "
          "otelbridge; or OTEL_PYTHON_DISTRO or OTEL_PYTHON_CONFIGURATOR names another.",
          "Set OTEL_PYTHON_DISTRO=otelbridge and OTEL_PYTHON_CONFIGURATOR=otelbridge."),
    Entry("instrumentation-missing", "warning", "A library without instrumentation",
          "Requests that it makes or takes carry no context: the trace ends there.",
          "A Python file of the directory imports it, and no instrumentation for it is "
          "installed.",
          "Install opentelemetry-instrumentation-<library>."),
    Entry("instrumentation-disabled", "warning", "An instrumentation is switched off",
          "Without those of Flask and httpx there is no server span and no traceparent.",
          "OTEL_PYTHON_DISABLED_INSTRUMENTATIONS.",
          "Take the name off the list."),
)  # fmt: skip

ENTRIES: Final[tuple[Entry, ...]] = (*_FILES, *_PACKAGES)
