"""Checks of variables: one broken text each, what the doctor says, and that the remedy works."""

from __future__ import annotations

import base64
import re
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from otelbridge.doctor import run as runner
from otelbridge.doctor.findings import Context, Finding
from otelbridge.endpoints import shown
from otelbridge.env import BY_NAME

PUBLIC, SECRET = "pk-lf-0f1e2d3c-aaaa", "sk-lf-0f1e2d3c-bbbb"
KEYS = {"LANGFUSE_PUBLIC_KEY": PUBLIC, "LANGFUSE_SECRET_KEY": SECRET}
CLOUD = "https://cloud.langfuse.com"
ENDPOINT = "OTEL_EXPORTER_OTLP_ENDPOINT"
TRACES_ENDPOINT = "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT"
PROTOCOL = "OTEL_EXPORTER_OTLP_PROTOCOL"
HEADERS = "OTEL_EXPORTER_OTLP_HEADERS"
STOCK = {"OTELBRIDGE_EXPORTER": "stock"}
CONTENT = "OTEL_INSTRUMENTATION_GENAI_CAPTURE_MESSAGE_CONTENT"


def b64(text: str) -> str:
    return base64.b64encode(text.encode()).decode()


GOOD_HEADER = f"Authorization=Basic%20{b64(f'{PUBLIC}:{SECRET}')}"
TO_LANGFUSE = {ENDPOINT: f"{CLOUD}/api/public/otel"}


def found(environment: dict[str, str]) -> list[Finding]:
    context = Context.of({"OTEL_SERVICE_NAME": "rag", **environment}, Path("/nowhere"))
    context.network = False
    return runner.run(context, only=("settings", "network"))


def bad(environment: dict[str, str]) -> set[str]:
    """Codes of warnings and errors."""
    return {one.code for one in found(environment) if one.level in ("warning", "error")}


BROKEN: list[tuple[str, dict[str, str]]] = [
    ("endpoint-path-doubled", {ENDPOINT: "http://localhost:4318/v1/traces"}),
    ("endpoint-path-doubled", {TRACES_ENDPOINT: "http://localhost:4318/v1/traces/v1/traces"}),
    ("endpoint-path-missing", {TRACES_ENDPOINT: "http://localhost:4318"}),
    ("endpoint-unusable", {ENDPOINT: "ftp://localhost:4318"}),
    ("endpoint-unusable", {ENDPOINT: "http://"}),
    ("endpoint-no-scheme", {ENDPOINT: "localhost:4318"}),
    ("endpoint-wrong-port", {ENDPOINT: "http://localhost:3200"}),
    ("endpoint-wrong-port", {ENDPOINT: "http://localhost:13133"}),
    ("langfuse-endpoint-path", {ENDPOINT: CLOUD, HEADERS: GOOD_HEADER}),
    ("langfuse-endpoint-path",
     {ENDPOINT: f"{CLOUD}/api/public/otel/v1/traces", HEADERS: GOOD_HEADER}),
    ("langfuse-endpoint-path",
     {TRACES_ENDPOINT: f"{CLOUD}/api/public/otel", HEADERS: GOOD_HEADER}),
    ("langfuse-host-path", {"LANGFUSE_HOST": f"{CLOUD}/api/public/otel"}),
    ("langfuse-host-path", {"LANGFUSE_HOST": f"{CLOUD}/project/abc/traces"}),
    ("langfuse-grpc", {**TO_LANGFUSE, PROTOCOL: "grpc", HEADERS: GOOD_HEADER}),
    ("grpc-port-with-http", {ENDPOINT: "http://localhost:4317"}),
    ("grpc-port-with-http",
     {ENDPOINT: "http://localhost:4317", PROTOCOL: "http/protobuf", **STOCK}),
    ("http-port-with-grpc", {ENDPOINT: "http://localhost:4318", PROTOCOL: "grpc", **STOCK}),
    ("grpc-not-spoken", {PROTOCOL: "grpc"}),
    ("protocol-both-variables",
     {PROTOCOL: "grpc", "OTEL_EXPORTER_OTLP_TRACES_PROTOCOL": "http/protobuf"}),
    ("https-to-plain", {ENDPOINT: "https://localhost:4318"}),
    ("https-to-plain", {ENDPOINT: "https://otel-collector:4318"}),
    ("http-to-public", {"LANGFUSE_HOST": "http://cloud.langfuse.com"}),
    ("tempo-port-3100", {"OTELBRIDGE_TEMPO_URL": "http://tempo:3100"}),
    ("tempo-url-wrong", {"OTELBRIDGE_TEMPO_URL": "http://tempo:4318"}),
    ("tempo-url-wrong", {"OTELBRIDGE_TEMPO_URL": "http://tempo:3200/api/search"}),
    ("link-not-for-browsers", {"LANGFUSE_PUBLIC_URL": "http://langfuse-web:3000"}),
    ("link-not-for-browsers", {"LANGFUSE_HOST": "http://langfuse-web:3000", **KEYS}),
    ("value-whitespace", {"LANGFUSE_SECRET_KEY": f"{SECRET} ", "LANGFUSE_PUBLIC_KEY": PUBLIC}),
    ("value-whitespace", {ENDPOINT: "http://localhost:4318\r"}),
    ("value-quoted", {ENDPOINT: '"http://localhost:4318"'}),
    ("value-placeholder", {"LANGFUSE_SECRET_KEY": "sk-lf-...", "LANGFUSE_PUBLIC_KEY": PUBLIC}),
    ("value-placeholder", {"LANGFUSE_PROJECT_ID": "<your-project-id>"}),
    ("value-placeholder", {"LANGFUSE_PROJECT_ID": "${LANGFUSE_PROJECT}"}),
    ("traces-exporter-off", {"OTEL_TRACES_EXPORTER": "none"}),
    ("traces-exporter-off", {"OTEL_TRACES_EXPORTER": "console"}),
    ("sdk-disabled", {"OTEL_SDK_DISABLED": "true"}),
    ("config-file-wins", {"OTEL_CONFIG_FILE": "otel.yaml"}),
    ("sampler-off", {"OTEL_TRACES_SAMPLER": "always_off"}),
    ("sampler-off",
     {"OTEL_TRACES_SAMPLER": "parentbased_traceidratio", "OTEL_TRACES_SAMPLER_ARG": "0"}),
    ("sampler-breaks-traces",
     {"OTEL_TRACES_SAMPLER": "traceidratio", "OTEL_TRACES_SAMPLER_ARG": "0.1"}),
    ("sampler-unusable", {"OTEL_TRACES_SAMPLER": "ratio"}),
    ("sampler-unusable",
     {"OTEL_TRACES_SAMPLER": "parentbased_traceidratio", "OTEL_TRACES_SAMPLER_ARG": "10%"}),
    ("propagators-missing", {"OTEL_PROPAGATORS": "none"}),
    ("propagators-missing", {"OTEL_PROPAGATORS": "baggage"}),
    ("propagators-no-baggage", {"OTEL_PROPAGATORS": "tracecontext"}),
    ("propagators-unknown", {"OTEL_PROPAGATORS": "tracecontext,baggage,w3c"}),
    ("trusted-hosts-deny",
     {"OTELBRIDGE_TRUSTED_HOSTS": "!single-label", "RAG_URL": "http://rag:8001"}),
    ("trusted-hosts-deny",
     {"OTELBRIDGE_TRUSTED_HOSTS": "!private", "RAG_URL": "http://10.1.2.3:8001"}),
    ("trusted-hosts-pattern", {"OTELBRIDGE_TRUSTED_HOSTS": "rag.example.com:8001"}),
    ("trusted-hosts-pattern", {"OTELBRIDGE_TRUSTED_HOSTS": ".example.com"}),
    ("edge-trusts-inbound", {"OTEL_SERVICE_NAME": "api-gateway"}),
    ("content-unknown", {CONTENT: "yes please"}),
    ("content-not-on-spans", {CONTENT: "EVENT_ONLY"}),
    ("queue-small", {"OTEL_BSP_MAX_QUEUE_SIZE": "100"}),
    ("attribute-limit-small", {"OTEL_SPAN_ATTRIBUTE_COUNT_LIMIT": "32"}),
    ("attribute-length-limit", {"OTEL_ATTRIBUTE_VALUE_LENGTH_LIMIT": "1024"}),
    ("timeout-unit", {"OTEL_EXPORTER_OTLP_TIMEOUT": "10000"}),
    ("langfuse-sample-zero", {"LANGFUSE_SAMPLE_RATE": "0"}),
    ("settings-unusable", {"OTELBRIDGE_EXPORT": "both"}),
    ("settings-repaired", {"OTELBRIDGE_LLM_VEIW": "all"}),
    ("header-missing", TO_LANGFUSE),
    ("header-missing", {**TO_LANGFUSE, HEADERS: "x-scope=1"}),
    ("header-not-pair",
     {**TO_LANGFUSE, HEADERS: f"Authorization: Basic {b64('pk-lf-a:sk-lf-bc')}".rstrip("=")}),
    ("header-not-pair", {**TO_LANGFUSE, HEADERS: "Authorization: Basic cGstbGYtYTpzay1sZg=="}),
    ("header-encoding",
     {**TO_LANGFUSE, HEADERS: GOOD_HEADER.replace("%20", "+")}),
    ("header-encoding", {**TO_LANGFUSE, HEADERS: GOOD_HEADER.replace("%20", "%2520")}),
    ("header-newline",
     {**TO_LANGFUSE, HEADERS: f"{GOOD_HEADER[:50]}\n{GOOD_HEADER[50:]}"}),
    ("header-not-basic", {**TO_LANGFUSE, HEADERS: f"Authorization={b64(f'{PUBLIC}:{SECRET}')}"}),
    ("header-not-basic", {**TO_LANGFUSE, HEADERS: f"Authorization=Bearer%20{PUBLIC}"}),
    ("header-not-base64", {**TO_LANGFUSE, HEADERS: f"Authorization=Basic%20{PUBLIC}:{SECRET}"}),
    ("header-not-base64",
     {**TO_LANGFUSE, HEADERS: "Authorization=Basic%20" + b64(f"{PUBLIC}:{SECRET}\n")}),
    ("header-order",
     {**TO_LANGFUSE, HEADERS: f"Authorization=Basic%20{b64(f'{SECRET}:{PUBLIC}')}"}),
    ("header-empty", {**TO_LANGFUSE, HEADERS: f"Authorization=Basic%20{b64(':')}"}),
    ("header-empty", {**TO_LANGFUSE, HEADERS: "Authorization=Basic%20"}),
    ("header-other-keys",
     {**TO_LANGFUSE, **KEYS, "LANGFUSE_HOST": CLOUD,
      HEADERS: f"Authorization=Basic%20{b64(f'{PUBLIC}:sk-lf-another')}"}),
    ("header-other-keys", {**KEYS, "LANGFUSE_BASIC_AUTH": b64(f"{PUBLIC}:sk-lf-another")}),
    ("header-encoding", {**KEYS, "LANGFUSE_BASIC_AUTH": "Basic " + b64(f"{PUBLIC}:{SECRET}")}),
    ("keys-swapped", {"LANGFUSE_PUBLIC_KEY": SECRET, "LANGFUSE_SECRET_KEY": PUBLIC}),
    ("key-prefix", {"LANGFUSE_PUBLIC_KEY": PUBLIC, "LANGFUSE_SECRET_KEY": "lsv2_pt_0123456789"}),
    ("keys-half", {"LANGFUSE_PUBLIC_KEY": PUBLIC}),
    ("keys-not-of-init", {**KEYS, "LANGFUSE_INIT_PROJECT_PUBLIC_KEY": "pk-lf-another-one"}),
    ("keys-not-of-init", {"LANGFUSE_PROJECT_ID": "a", "LANGFUSE_INIT_PROJECT_ID": "b"}),
    ("region-mismatch",
     {**TO_LANGFUSE, HEADERS: GOOD_HEADER, "LANGFUSE_HOST": "https://us.cloud.langfuse.com"}),
    ("proxy-captures", {"HTTP_PROXY": "http://proxy.example.com:3128"}),
    ("proxy-captures",
     {"http_proxy": "http://proxy.example.com:3128", "NO_PROXY": "example.com",
      ENDPOINT: "http://otel-collector:4318"}),
    ("ca-file", {"OTEL_EXPORTER_OTLP_CERTIFICATE": "/nowhere/ca.pem"}),
]  # fmt: skip


@pytest.mark.parametrize(
    ("code", "environment"), BROKEN, ids=[f"{i}-{code}" for i, (code, _) in enumerate(BROKEN)]
)
def test_a_broken_variable_is_named(code: str, environment: dict[str, str]):
    """The code of the fault is among the findings, with a remedy, and shows no key."""
    named = [one for one in found(environment) if one.code == code]
    assert named, sorted(bad(environment))
    for one in named:
        assert one.fix
        for secret in (SECRET, PUBLIC):
            assert secret not in one.what + one.evidence + one.fix


#: Faults that bring a second finding with them, because two things are wrong or follow.
TOGETHER = {
    "header-newline": {"value-quoted"}, "value-whitespace": {"header-space"},
    "grpc-not-spoken": set(), "protocol-both-variables": {"grpc-not-spoken"},
    "langfuse-grpc": {"grpc-not-spoken"}, "langfuse-host-path": set(),
    "value-quoted": {"endpoint-unusable"}, "link-not-for-browsers": set(),
    "value-placeholder": {"key-prefix"}, "endpoint-path-missing": set(),
}  # fmt: skip


@pytest.mark.parametrize(
    ("code", "environment"), BROKEN, ids=[f"{i}-{code}" for i, (code, _) in enumerate(BROKEN)]
)
def test_a_broken_variable_is_named_once(code: str, environment: dict[str, str]):
    """One fault gives one finding, not a list of guesses."""
    assert bad(environment) - TOGETHER.get(code, set()) == {code}


FURTHER = ("HTTP_PROXY", "NO_PROXY", "RAG_URL", "ENCRYPTION_KEY", "SALT", "LANGFUSE_BASIC_AUTH",
           "LANGFUSE_INIT_PROJECT_ID", "OTEL_TRACES_SAMPLER_ARG", "POSTGRES_PASSWORD")  # fmt: skip
#: What addresses, headers and lists are made of, and what breaks them.
PIECES = {"http://", "https://", "[::1", "]", ":", "4318", "99999", "/v1/traces", "localhost", "*",
          "!", "Basic ", "Authorization=", "%20", "%", "pk-lf-a", "sk-lf-b", "=", ",", "\n", '"',
          "'", "-1", "traceidratio", "nan", "grpc", "cloud.langfuse.com", "0", "true", "é",
          "${X}", "\x00", ".."}  # fmt: skip


GOOD: list[dict[str, str]] = [
    {},
    {ENDPOINT: "http://localhost:4318", **KEYS, "LANGFUSE_HOST": CLOUD},
    {ENDPOINT: "http://localhost:4317", PROTOCOL: "grpc", **STOCK},
    {TRACES_ENDPOINT: "http://otel-collector:4318/v1/traces"},
    {ENDPOINT: "https://otlp.example.com", HEADERS: "api-key=abc%2Cdef"},
    {**TO_LANGFUSE, HEADERS: GOOD_HEADER, **KEYS, "LANGFUSE_HOST": CLOUD},
    {**TO_LANGFUSE, HEADERS: GOOD_HEADER + ",x-langfuse-ingestion-version=4"},
    {**KEYS, "LANGFUSE_BASIC_AUTH": b64(f"{PUBLIC}:{SECRET}"), "LANGFUSE_HOST": CLOUD},
    {"LANGFUSE_HOST": "http://langfuse-web:3000", "LANGFUSE_PUBLIC_URL": "http://localhost:3000"},
    {"OTEL_SERVICE_NAME": "gateway", "OTELBRIDGE_TRUST_INBOUND": "false"},
    {"OTEL_TRACES_SAMPLER": "parentbased_traceidratio", "OTEL_TRACES_SAMPLER_ARG": "0.1"},
    {"OTEL_PROPAGATORS": "tracecontext,baggage"},
    {"OTELBRIDGE_TRUSTED_HOSTS": "*.example.com,10.0.0.0/8,!api.example.com",
     "RAG_URL": "https://rag.example.com", "OPENAI_BASE_URL": "https://api.openai.com/v1"},
    {"RAG_URL": "http://rag:8001", "OPENAI_BASE_URL": "https://api.openai.com/v1"},
    {CONTENT: "SPAN_ONLY", "OTEL_EXPORTER_OTLP_TIMEOUT": "30"},
    {"HTTPS_PROXY": "http://proxy.example.com:3128", "LANGFUSE_HOST": CLOUD},
    {"HTTP_PROXY": "http://proxy.example.com:3128", "NO_PROXY": "localhost,127.0.0.1,.internal"},
    {"OTELBRIDGE_TEMPO_URL": "http://tempo:3200"},
    {"OTELBRIDGE_TRUSTED_HOSTS": "!upstream", "OPENAI_BASE_URL": "http://upstream:8000/v1"},
    {"OTELBRIDGE_COLLECTOR_MEMORY_LIMIT_MIB": "512"},
    {"LANGFUSE_ENVIRONMENT": "production", "LANGFUSE_SAMPLE_RATE": "0.5"},
]  # fmt: skip


@pytest.mark.parametrize("environment", GOOD, ids=range(len(GOOD)))
def test_a_good_environment_gives_no_warning_and_no_error(environment: dict[str, str]):
    """No false alarm."""
    assert bad(environment) == set()


#: Faults whose remedy ends with `Set NAME=value` and nothing else.
REPAIRABLE = [
    (code, environment)
    for code, environment in BROKEN
    if any(
        one.code == code and re.fullmatch(r"Set \w+=\S*[^\s.]", one.fix)
        for one in found(environment)
    )
]


def test_enough_remedies_can_be_applied_by_a_program():
    """The list above is no empty one."""
    assert len(REPAIRABLE) >= 10


@pytest.mark.parametrize(("code", "environment"), REPAIRABLE, ids=[code for code, _ in REPAIRABLE])
def test_a_remedy_removes_the_fault(code: str, environment: dict[str, str]):
    """`Set NAME=value`, done literally, leaves the finding away and adds no other."""
    (one,) = [one for one in found(environment) if one.code == code]
    name, _, value = one.fix.removeprefix("Set ").partition("=")
    assert bad({**environment, name: value}) <= bad(environment) - {code}


NOTED: list[tuple[str, dict[str, str]]] = [
    ("header-space", {HEADERS: f"Authorization=Basic {b64(f'{PUBLIC}:{SECRET}')}"}),
    ("inbound-not-believed", {"OTELBRIDGE_TRUST_INBOUND": "false"}),
    ("content-off", {CONTENT: "NO_CONTENT"}),
    ("langfuse-off", {"LANGFUSE_ENABLED": "false"}),
    ("langfuse-host-missing", {**KEYS, "LANGFUSE_PROJECT_ID": "p"}),
    ("project-id-missing", {**KEYS, "LANGFUSE_HOST": CLOUD}),
    ("trusted-hosts-all", {"OTELBRIDGE_TRUSTED_HOSTS": "*"}),
    ("service-name-missing", {"OTEL_SERVICE_NAME": ""}),
    ("endpoint-both-variables",
     {ENDPOINT: "http://metrics:4318", TRACES_ENDPOINT: "http://traces:4318/v1/traces"}),
]  # fmt: skip


@pytest.mark.parametrize(("code", "environment"), NOTED, ids=[code for code, _ in NOTED])
def test_what_is_worth_knowing_is_a_note_and_the_only_one(code: str, environment: dict[str, str]):
    """It does not make the status 1, and is not told without its reason."""
    assert [one.code for one in found(environment) if one.level != "ok"] == [code]
    assert [one.code for one in found({}) if one.level != "ok"] == []


def test_a_host_that_is_not_trusted_is_noted_with_the_variable_that_names_it():
    """A public service of one's own gets no traceparent; providers are not mentioned."""
    notes = {one.code: one for one in found({
        "RAG_URL": "https://rag.example.com/v1", "OPENAI_BASE_URL": "https://api.openai.com/v1",
        "OTELBRIDGE_TRUSTED_HOSTS": "shop.example.com",
    })}  # fmt: skip
    one = notes["host-untrusted"]
    assert "rag.example.com (RAG_URL)" in one.what
    assert "shop.example.com,rag.example.com" in one.fix
    assert "openai" not in one.what


def test_origins_are_counted():
    """The settings' line says how many variables were given and how many came from .env."""
    context = Context.of({"OTEL_SERVICE_NAME": "rag"}, Path("/nowhere"), {"LANGFUSE_HOST": CLOUD})
    (one,) = runner.run(context, only=("settings-good",))
    assert one.evidence.startswith("2 variables given, 1 of them in .env")


def test_the_environment_wins_over_the_env_file():
    """As with compose: a variable of the shell counts, and the file's is not looked at."""
    context = Context.of(
        {"OTEL_PROPAGATORS": "tracecontext,baggage"}, Path("/nowhere"), {"OTEL_PROPAGATORS": "none"}
    )
    assert context.value("OTEL_PROPAGATORS") == "tracecontext,baggage"


@given(
    st.dictionaries(
        st.sampled_from(sorted({*BY_NAME, *FURTHER})),
        st.one_of(
            st.sampled_from(sorted(PIECES)),
            st.text(max_size=40),
            st.lists(st.sampled_from(sorted(PIECES)), max_size=4).map("".join),
        ),
        max_size=8,
    )
)
@settings(max_examples=200)
def test_no_text_of_any_variable_breaks_a_check(environment: dict[str, str]):
    """Whatever stands there, each check ends with findings and not with an error."""
    context = Context.of(environment, Path("/nowhere"))
    context.network = False
    codes = [one.code for one in runner.run(context, skip=("packages",))]
    assert "check-failed" not in codes
    assert "check-timeout" not in codes


def test_passwords_in_addresses_are_masked():
    """The form in which every address is shown."""
    assert "pw-of-user" not in shown("http://user:pw-of-user@host:3100/x")
