"""Settings: defaults, origins, repairs, refusals, contradictions, secrets."""

from __future__ import annotations

import os
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from otelbridge.env import BY_NAME, VARIABLES, environment_name, split_pairs
from otelbridge.errors import ConfigError
from otelbridge.settings import Settings, set_environment_defaults

ENDPOINT = "OTEL_EXPORTER_OTLP_ENDPOINT"
TRACES_ENDPOINT = "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT"
PROTOCOL = "OTEL_EXPORTER_OTLP_PROTOCOL"
CAPTURE = "OTEL_INSTRUMENTATION_GENAI_CAPTURE_MESSAGE_CONTENT"
KEYS = {"LANGFUSE_PUBLIC_KEY": "pk-lf-0123456789", "LANGFUSE_SECRET_KEY": "sk-lf-9876543210"}


def only_warning(settings: Settings) -> str:
    assert len(settings.warnings) == 1, settings.warnings
    return settings.warnings[0]


def test_an_empty_environment_gives_the_documented_defaults_without_a_warning():
    """No variable at all is a working configuration."""
    settings = Settings.from_env({})
    assert settings.warnings == ()
    assert settings.service_name == "unknown_service"
    assert settings.otlp.endpoint == "http://localhost:4318/v1/traces"
    assert (settings.otlp.protocol, settings.otlp.compression) == ("http/protobuf", "gzip")
    assert settings.otlp.timeout_seconds == 10.0
    assert Settings.from_env({}, exporter="stock").otlp.timeout_seconds == 60.0
    assert (settings.queue_max_spans, settings.batch_max_spans) == (20480, 512)
    assert settings.schedule_delay_seconds == 5.0
    assert settings.attribute_count_limit == 256
    assert settings.propagators == ("tracecontext", "baggage")
    assert settings.capture_content == "SPAN_ONLY"
    assert settings.capture_on_span
    assert (settings.export, settings.exporter, settings.llm_view) == (
        "collector",
        "bridge",
        "services",
    )
    assert settings.trust_inbound
    assert settings.legacy_gen_ai_system
    assert settings.log_format == "off"
    assert settings.tempo_url == "http://localhost:3200"
    assert settings.langfuse.enabled
    assert not settings.langfuse.configured
    assert settings.langfuse.host is None
    assert settings.langfuse.sample_rate == 1.0


def test_the_process_environment_is_the_default_mapping(monkeypatch: pytest.MonkeyPatch):
    """Without a mapping the process environment is read, and only read."""
    monkeypatch.setenv("OTEL_SERVICE_NAME", "checkout")
    before = dict(os.environ)
    assert Settings.from_env().service_name == "checkout"
    assert dict(os.environ) == before


def test_an_argument_wins_over_the_environment_and_both_are_named_as_origin():
    """Argument over environment over default; the origin says which."""
    mapping = {"OTEL_SERVICE_NAME": "from-env", "ENABLE_LANGFUSE": "false"}
    settings = Settings.from_env(mapping, service_name="from-argument", trust_inbound=None)
    assert settings.service_name == "from-argument"
    assert settings.origins["OTEL_SERVICE_NAME"] == "argument"
    assert settings.origins["LANGFUSE_ENABLED"] == "environment (ENABLE_LANGFUSE)"
    assert settings.origins["OTELBRIDGE_TRUST_INBOUND"] == "default"


@pytest.mark.parametrize(
    ("argument", "value", "path", "expected"),
    [
        ("schedule_delay_seconds", 0.25, "schedule_delay_seconds", 0.25),
        ("otlp_headers", {"X-Key": "a,b=c"}, "otlp.headers", {"x-key": "a,b=c"}),
        ("trusted_hosts", ("*.example.com", "!x"), "trusted_hosts", ("*.example.com", "!x")),
        ("langfuse_enabled", False, "langfuse.enabled", False),
        ("langfuse_sample_rate", 0.1, "langfuse.sample_rate", 0.1),
        ("resource_attributes", {"a": "1 2"}, "resource_attributes", {"a": "1 2"}),
        ("otlp_endpoint", "http://c:4318", "otlp.endpoint", "http://c:4318/v1/traces"),
        ("in_cluster", True, "in_cluster", True),
    ],
)
def test_arguments_take_python_values(argument: str, value: Any, path: str, expected: Any):
    """An argument is given in the unit and type of the field it sets."""
    found: Any = Settings.from_env({}, **{argument: value})
    for part in path.split("."):
        found = getattr(found, part)
    assert found == expected


def test_an_endpoint_argument_wins_over_the_traces_specific_variable():
    """Arguments win over every form of the variable."""
    settings = Settings.from_env({TRACES_ENDPOINT: "http://e/v1/traces"}, otlp_endpoint="http://a")
    assert settings.otlp.endpoint == "http://a/v1/traces"


def test_an_unknown_argument_is_a_type_error_with_the_closest_name():
    """A misspelled argument is a programming error, named."""
    with pytest.raises(TypeError, match="did you mean 'service_name'"):
        Settings.from_env({}, servicename="x")


def test_a_bad_argument_is_refused_even_where_the_environment_would_be_repaired():
    """The lenient OpenTelemetry rule is for the environment only."""
    with pytest.raises(ConfigError, match="queue_max_spans"):
        Settings.from_env({}, queue_max_spans=-1)
    with pytest.raises(ConfigError, match="otlp_endpoint"):
        Settings.from_env({}, otlp_endpoint="ftp://x")


@pytest.mark.parametrize("empty", ["", "  "])
def test_empty_text_counts_as_not_set(empty: str):
    """As the OpenTelemetry specification asks."""
    settings = Settings.from_env({variable.name: empty for variable in VARIABLES})
    assert settings == Settings.from_env({})


# -- OTEL_*: warns and falls back ------------------------------------------------------------------
@pytest.mark.parametrize(
    ("name", "bad", "field", "fallback"),
    [
        ("OTEL_BSP_MAX_QUEUE_SIZE", "many", "queue_max_spans", 20480),
        ("OTEL_BSP_MAX_QUEUE_SIZE", "0", "queue_max_spans", 20480),
        ("OTEL_BSP_MAX_QUEUE_SIZE", "9" * 40, "queue_max_spans", 20480),
        ("OTEL_BSP_MAX_QUEUE_SIZE", "٣", "queue_max_spans", 20480),
        ("OTEL_BSP_SCHEDULE_DELAY", "-5", "schedule_delay_seconds", 5.0),
        ("OTEL_SPAN_ATTRIBUTE_COUNT_LIMIT", "1.5", "attribute_count_limit", 256),
        ("OTEL_SDK_DISABLED", "maybe", "sdk_disabled", False),
        ("OTEL_TRACES_EXPORTER", "zipkin", "traces_exporter", "otlp"),
        ("OTEL_PROPAGATORS", "tracecontext,nonsense", "propagators", ("tracecontext",)),
        ("OTEL_PROPAGATORS", "nonsense", "propagators", ("tracecontext", "baggage")),
        (CAPTURE, "everything", "capture_content", "NO_CONTENT"),
        (CAPTURE, "true", "capture_content", "SPAN_ONLY"),
        (CAPTURE, "False", "capture_content", "NO_CONTENT"),
        ("OTEL_EXPORTER_OTLP_TIMEOUT", "nan", "otlp.timeout_seconds", 10.0),
        ("OTEL_EXPORTER_OTLP_TIMEOUT", "-1", "otlp.timeout_seconds", 10.0),
        ("OTEL_EXPORTER_OTLP_COMPRESSION", "zstd", "otlp.compression", "gzip"),
        (PROTOCOL, "http/json", "otlp.protocol", "http/protobuf"),
        (ENDPOINT, "ftp://x", "otlp.endpoint", "http://localhost:4318/v1/traces"),
        (ENDPOINT, "http://", "otlp.endpoint", "http://localhost:4318/v1/traces"),
        (ENDPOINT, "http://x:99999", "otlp.endpoint", "http://localhost:4318/v1/traces"),
        (ENDPOINT, "http://[::1", "otlp.endpoint", "http://localhost:4318/v1/traces"),
        (ENDPOINT, "http://a b", "otlp.endpoint", "http://localhost:4318/v1/traces"),
    ],
)
def test_bad_opentelemetry_text_warns_once_and_falls_back(
    name: str, bad: str, field: str, fallback: Any
):
    """One sentence with variable, given value and what is used; never an exception."""
    settings = Settings.from_env({name: bad})
    found: Any = settings
    for part in field.split("."):
        found = getattr(found, part)
    assert found == fallback
    warning = only_warning(settings)
    assert name in warning
    assert bad.lower() in warning.lower()


def test_attribute_limit_for_spans_wins_over_the_general_one():
    """The specific limit wins; zero is a limit."""
    general = {"OTEL_ATTRIBUTE_COUNT_LIMIT": "10"}
    assert Settings.from_env(general).attribute_count_limit == 10
    both = general | {"OTEL_SPAN_ATTRIBUTE_COUNT_LIMIT": "0"}
    assert Settings.from_env(both).attribute_count_limit == 0


def test_a_batch_is_never_larger_than_the_queue():
    """A small queue shrinks the default batch silently and a given one with a warning."""
    assert Settings.from_env({"OTEL_BSP_MAX_QUEUE_SIZE": "100"}).batch_max_spans == 100
    settings = Settings.from_env(
        {"OTEL_BSP_MAX_QUEUE_SIZE": "100", "OTEL_BSP_MAX_EXPORT_BATCH_SIZE": "200"}
    )
    assert settings.batch_max_spans == 100
    assert "at most OTEL_BSP_MAX_QUEUE_SIZE=100" in only_warning(settings)


def test_none_as_exporter_and_as_propagator_works():
    """`none` switches off without a warning."""
    settings = Settings.from_env({"OTEL_TRACES_EXPORTER": "none", "OTEL_PROPAGATORS": "none"})
    assert (settings.traces_exporter, settings.propagators) == ("none", ())
    assert settings.warnings == ()


def test_exporter_names_of_the_sdk_decide_the_protocol():
    """`otlp_proto_grpc` is otlp over gRPC."""
    settings = Settings.from_env(
        {"OTEL_TRACES_EXPORTER": "otlp_proto_grpc", "OTELBRIDGE_EXPORTER": "stock"}
    )
    assert (settings.traces_exporter, settings.otlp.protocol) == ("otlp", "grpc")


def test_a_configuration_file_is_said_to_win():
    """OTEL_CONFIG_FILE makes the SDK ignore the variables, which is said."""
    settings = Settings.from_env({"OTEL_CONFIG_FILE": "otel.yaml"})
    assert settings.config_file == "otel.yaml"
    assert "otel.yaml" in only_warning(settings)
    assert "OTEL_CONFIG_FILE wins" in settings.startup_line()


# -- resource, headers -----------------------------------------------------------------------------
def test_service_name_wins_over_the_resource_attribute():
    """The order of the specification: OTEL_SERVICE_NAME, service.name, unknown_service."""
    attributes = {"OTEL_RESOURCE_ATTRIBUTES": "service.name=from%20resource,team=a"}
    settings = Settings.from_env(attributes)
    assert settings.service_name == "from resource"
    assert settings.resource_attributes["team"] == "a"
    named = Settings.from_env(attributes | {"OTEL_SERVICE_NAME": "named"})
    assert named.service_name == "named"


def test_headers_are_decoded_and_traces_headers_replace_the_general_ones():
    """Percent-encoding is undone, names are lower case, a value may contain an equals sign."""
    general = {"OTEL_EXPORTER_OTLP_HEADERS": "Authorization=Basic%20YTpi==, x-tenant = t1 ,"}
    settings = Settings.from_env(general)
    assert settings.otlp.headers == {"authorization": "Basic YTpi==", "x-tenant": "t1"}
    assert settings.warnings == ()
    both = general | {"OTEL_EXPORTER_OTLP_TRACES_HEADERS": "only=this"}
    assert Settings.from_env(both).otlp.headers == {"only": "this"}


@pytest.mark.parametrize(
    ("text", "headers", "part"),
    [
        ("Authorization=Basic YWJj==", {"authorization": "Basic YWJj=="}, None),
        ("Authorization=Basic%20YWJj%3D%3D", {"authorization": "Basic YWJj=="}, None),
        ("a=b=c,d=%2C", {"a": "b=c", "d": ","}, None),
        ("a=%zz+1,b=", {"a": "%zz+1", "b": ""}, None),
        ("api%2Dkey=1", {"api-key": "1"}, None),
        ("Authorization: Basic YWJj==", {}, "#1"),
        ("x=1,Authorization: Basic YWJj=", {"x": "1"}, "#2"),
        ("two words=1", {}, "#1"),
    ],
)
def test_header_pairs(text: str, headers: dict[str, str], part: str | None):
    """Cut at the first `=`, decoded once; what cannot be a header's name is left out and said."""
    settings = Settings.from_env({"OTEL_EXPORTER_OTLP_HEADERS": text})
    assert settings.otlp.headers == headers
    if part is None:
        assert settings.warnings == ()
    else:
        assert part in only_warning(settings)
        assert "YWJj" not in only_warning(settings)


def test_a_malformed_header_is_left_out_and_named_by_position_only():
    """The text of a header is a secret even when it is malformed."""
    settings = Settings.from_env({"OTEL_EXPORTER_OTLP_HEADERS": "a=1,topsecretvalue,=x"})
    assert settings.otlp.headers == {"a": "1"}
    warning = only_warning(settings)
    assert "#2, #3" in warning
    assert "topsecretvalue" not in warning


@given(st.dictionaries(st.text(min_size=1).map(str.strip).filter(bool), st.text().map(str.strip)))
def test_any_mapping_survives_the_pair_form(pairs: dict[str, str]):
    """Percent-encoded pairs give the mapping back."""
    assert dict(Settings.from_env({}, resource_attributes=pairs).resource_attributes) == pairs


@given(st.text())
def test_splitting_pairs_never_raises(text: str):
    """Any text is pairs and named leftovers."""
    pairs, _ = split_pairs(text)
    assert all(key for key in pairs)


# -- endpoints and protocols -----------------------------------------------------------------------
@pytest.mark.parametrize(
    ("mapping", "endpoint", "warned"),
    [
        ({ENDPOINT: "https://c.example"}, "https://c.example/v1/traces", None),
        ({ENDPOINT: "http://c:4318/"}, "http://c:4318/v1/traces", None),
        ({ENDPOINT: "http://c/otlp/"}, "http://c/otlp/v1/traces", None),
        ({ENDPOINT: "http://c:4318/v1/traces"}, "http://c:4318/v1/traces", "not added twice"),
        ({ENDPOINT: "c:4318"}, "http://c:4318/v1/traces", "has no scheme"),
        ({ENDPOINT: "[::1]:4318"}, "http://[::1]:4318/v1/traces", "has no scheme"),
        ({TRACES_ENDPOINT: "http://c/x"}, "http://c/x", None),
        ({TRACES_ENDPOINT: "http://c:4318"}, "http://c:4318", "has no path"),
        ({ENDPOINT: "http://a", TRACES_ENDPOINT: "http://b/v1/traces"}, "http://b/v1/traces", None),
        ({TRACES_ENDPOINT: "ftp://b"}, "http://localhost:4318/v1/traces", "cannot be used"),
        ({ENDPOINT: "http://c:4317"}, "http://c:4318/v1/traces", "Port 4317"),
        ({ENDPOINT: "http://[::1]:4317"}, "http://[::1]:4318/v1/traces", "Port 4317"),
        ({TRACES_ENDPOINT: "http://c:4317/v1/traces"}, "http://c:4318/v1/traces", "Port 4317"),
        ({PROTOCOL: "grpc"}, "http://localhost:4318/v1/traces", "protocol grpc"),
        ({PROTOCOL: "grpc", ENDPOINT: "http://c:4317"}, "http://c:4318/v1/traces", "grpc"),
        ({PROTOCOL: "grpc", ENDPOINT: "http://c:5555"}, "http://c:4318/v1/traces", "port 5555"),
        ({PROTOCOL: "grpc", ENDPOINT: "https://c"}, "https://c:4318/v1/traces", "port by default"),
        (
            {PROTOCOL: "grpc", "OTEL_EXPORTER_OTLP_TRACES_PROTOCOL": "http/protobuf"},
            "http://localhost:4318/v1/traces",
            None,
        ),
    ],
)
def test_endpoints_of_the_bridge_exporter(
    mapping: dict[str, str], endpoint: str, warned: str | None
):
    """HTTP always; the gRPC port becomes 4318 of the same host, with one warning."""
    settings = Settings.from_env(mapping)
    assert (settings.otlp.endpoint, settings.otlp.protocol) == (endpoint, "http/protobuf")
    if warned is None:
        assert settings.warnings == ()
    else:
        assert warned in only_warning(settings)


@pytest.mark.parametrize(
    ("mapping", "endpoint", "protocol"),
    [
        ({}, "http://localhost:4318/v1/traces", "http/protobuf"),
        ({PROTOCOL: "grpc"}, "http://localhost:4317", "grpc"),
        ({PROTOCOL: "grpc", ENDPOINT: "https://c:5555"}, "https://c:5555", "grpc"),
        ({ENDPOINT: "http://c:4317"}, "http://c:4317", "grpc"),
    ],
)
def test_the_stock_exporter_speaks_grpc(mapping: dict[str, str], endpoint: str, protocol: str):
    """With the SDK's own exporter gRPC works as asked for, or as the port says."""
    settings = Settings.from_env(mapping | {"OTELBRIDGE_EXPORTER": "stock"})
    assert (settings.otlp.endpoint, settings.otlp.protocol) == (endpoint, protocol)
    assert settings.warnings == ()


def test_the_stock_exporter_keeps_an_explicit_http_protocol_on_the_grpc_port():
    """An explicit protocol is honoured; the odd port is named."""
    settings = Settings.from_env(
        {PROTOCOL: "http/protobuf", ENDPOINT: "http://c:4317", "OTELBRIDGE_EXPORTER": "stock"}
    )
    assert settings.otlp.endpoint == "http://c:4317/v1/traces"
    assert "4317" in only_warning(settings)


def test_a_timeout_that_looks_like_milliseconds_is_named():
    """The Python SDK takes seconds where the specification says milliseconds."""
    settings = Settings.from_env({"OTEL_EXPORTER_OTLP_TIMEOUT": "10000"})
    assert settings.otlp.timeout_seconds == 10000
    assert "seconds" in only_warning(settings)


def test_a_certificate_that_does_not_exist_is_named():
    """A wrong path would fail every export."""
    settings = Settings.from_env({"OTEL_EXPORTER_OTLP_CERTIFICATE": "/does/not/exist.pem"})
    assert settings.otlp.certificate == "/does/not/exist.pem"
    assert "no such file" in only_warning(settings)


# -- OTELBRIDGE_* and LANGFUSE_*: refused ----------------------------------------------------------
@pytest.mark.parametrize(
    ("name", "bad"),
    [
        ("OTELBRIDGE_EXPORT", "both"),
        ("OTELBRIDGE_EXPORTER", "own"),
        ("OTELBRIDGE_LLM_VIEW", "none"),
        ("OTELBRIDGE_TRUST_INBOUND", "maybe"),
        ("OTELBRIDGE_LEGACY_GEN_AI_SYSTEM", "2"),
        ("OTELBRIDGE_LOG_FORMAT", "xml"),
        ("OTELBRIDGE_TRUSTED_HOSTS", "https://api.example.com"),
        ("OTELBRIDGE_TEMPO_URL", "tempo://x"),
        ("LANGFUSE_HOST", "ftp://x"),
        ("LANGFUSE_PUBLIC_URL", "http://x:0"),
        ("LANGFUSE_SAMPLE_RATE", "1.1"),
        ("LANGFUSE_SAMPLE_RATE", "-0.1"),
        ("LANGFUSE_SAMPLE_RATE", "nan"),
        ("LANGFUSE_SAMPLE_RATE", "half"),
        ("LANGFUSE_DEBUG", "loud"),
        ("LANGFUSE_ENABLED", "perhaps"),
    ],
)
def test_bad_own_text_is_refused_with_variable_value_and_what_is_allowed(name: str, bad: str):
    """The message has the four parts that help: variable, given, allowed, what to do."""
    with pytest.raises(ConfigError) as caught:
        Settings.from_env({name: bad})
    assert caught.value.variable == name
    assert caught.value.value == bad
    assert caught.value.allowed == BY_NAME[name].allowed
    assert caught.value.remedy


def test_a_bad_alias_is_named_as_it_was_spelled():
    """The message speaks of the name that the user set."""
    with pytest.raises(ConfigError, match="ENABLE_LANGFUSE='x'"):
        Settings.from_env({"ENABLE_LANGFUSE": "x"})


@pytest.mark.parametrize(
    ("name", "closest"),
    [
        ("OTELBRIDGE_EXPROT", "OTELBRIDGE_EXPORT"),
        ("OTELBRIDGE_TRUSTED_HOST", "OTELBRIDGE_TRUSTED_HOSTS"),
        ("OTELBRIDGE_LLMVIEW", "OTELBRIDGE_LLM_VIEW"),
    ],
)
def test_an_unknown_own_variable_is_named_with_the_closest_known_one(name: str, closest: str):
    """A misspelled variable does not go unnoticed."""
    warning = only_warning(Settings.from_env({name: "x"}))
    assert name in warning
    assert warning.endswith(f"{closest}.")


def test_variables_of_the_collector_in_a_shared_file_are_no_mistake():
    """One .env file may serve the Collector and the services; a misspelling is still found."""
    shared = {
        "OTELBRIDGE_COLLECTOR_QUEUE_DIR": "/q",
        "OTELBRIDGE_TEMPO_OTLP_ENDPOINT": "tempo:4317",
    }
    assert Settings.from_env(shared).warnings == ()
    misspelled = Settings.from_env({"OTELBRIDGE_COLLECTOR_BINRAY": "/x"})
    assert "OTELBRIDGE_COLLECTOR_BINARY" in only_warning(misspelled)


@pytest.mark.parametrize("word", ["true", "TRUE", "1", "yes", "on"])
def test_booleans_are_read_in_the_words_of_shells_and_compose_files(word: str):
    """Any of the usual words for true."""
    assert Settings.from_env({"LANGFUSE_DEBUG": word}).langfuse.debug


# -- Langfuse --------------------------------------------------------------------------------------
@pytest.mark.parametrize("name", BY_NAME["LANGFUSE_ENABLED"].spellings)
def test_each_name_of_the_langfuse_switch_works(name: str):
    """The three names are one setting."""
    settings = Settings.from_env(KEYS | {name: "false"})
    assert not settings.langfuse.enabled
    assert not settings.langfuse.configured
    assert settings.warnings == ()


def test_aliases_with_different_values_name_the_winner():
    """The first name wins and the contradiction is said; equal values in other words are none."""
    settings = Settings.from_env({"LANGFUSE_ENABLED": "true", "ENABLE_LANGFUSE": "false"})
    assert settings.langfuse.enabled
    assert "LANGFUSE_ENABLED wins" in only_warning(settings)
    agreed = Settings.from_env({"LANGFUSE_ENABLED": "true", "ENABLE_LANGFUSE": "1"})
    assert agreed.warnings == ()


def test_the_cloud_is_the_default_host_once_both_keys_are_set():
    """Host and public URL default to the cloud with keys, to nothing without."""
    langfuse = Settings.from_env(KEYS).langfuse
    assert langfuse.configured
    assert langfuse.host == langfuse.public_url == "https://cloud.langfuse.com"


@pytest.mark.parametrize(
    ("given_host", "host", "warned"),
    [
        ("http://lf:3000/", "http://lf:3000", None),
        ("http://lf:3000/api/public/otel", "http://lf:3000", "/api/public/otel"),
        ("http://lf:3000/api/public/otel/v1/traces", "http://lf:3000", "/v1/traces"),
        ("https://x.example/base/", "https://x.example/base", None),
        ("lf.example.com", "https://lf.example.com", "no scheme"),
        ("localhost:3000", "http://localhost:3000", "no scheme"),
        ("10.0.0.3:3000", "http://10.0.0.3:3000", "no scheme"),
    ],
)
def test_the_langfuse_host_is_repaired_where_the_intent_is_plain(
    given_host: str, host: str, warned: str | None
):
    """Repairs are said."""
    settings = Settings.from_env({"LANGFUSE_BASE_URL": given_host})
    assert settings.langfuse.host == host
    if warned is None:
        assert settings.warnings == ()
    else:
        assert warned in only_warning(settings)


def test_the_public_url_is_kept_apart_from_the_host():
    """Links use what a browser reaches, calls use what the process reaches."""
    mapping = {"LANGFUSE_HOST": "http://lf:3000", "LANGFUSE_PUBLIC_URL": "https://lf.example"}
    langfuse = Settings.from_env(mapping).langfuse
    assert (langfuse.host, langfuse.public_url) == ("http://lf:3000", "https://lf.example")


@pytest.mark.parametrize(
    "mapping",
    [
        {"LANGFUSE_PUBLIC_KEY": "sk-lf-hidden1234", "LANGFUSE_SECRET_KEY": "pk-lf-hidden1234"},
        {"LANGFUSE_PUBLIC_KEY": "sk-lf-hidden1234"},
        {"LANGFUSE_SECRET_KEY": "pk-lf-hidden1234"},
    ],
)
def test_swapped_keys_are_refused_without_being_shown(mapping: dict[str, str]):
    """A secret key in the public place would be shown; the message does not show it either."""
    with pytest.raises(ConfigError, match="swapped") as caught:
        Settings.from_env(mapping)
    assert "hidden1234" not in str(caught.value)


def test_a_key_with_another_prefix_is_named_and_used():
    """Self-hosted projects may be given any keys."""
    settings = Settings.from_env(
        {"LANGFUSE_PUBLIC_KEY": "local-public", "LANGFUSE_SECRET_KEY": "sk-lf-x"}
    )
    assert settings.langfuse.configured
    warning = only_warning(settings)
    assert "pk-lf-" in warning
    assert "local-public" not in warning


@pytest.mark.parametrize(("given_key", "missing"), [(0, 1), (1, 0)])
def test_one_key_of_two_is_named(given_key: int, missing: int):
    """One key alone does nothing, which is said."""
    names = list(KEYS)
    settings = Settings.from_env({names[given_key]: KEYS[names[given_key]]})
    assert not settings.langfuse.configured
    assert only_warning(settings).startswith(f"{names[missing]} is not set")


def test_direct_export_without_keys_is_named():
    """Direct export cannot reach Langfuse without keys."""
    settings = Settings.from_env({"OTELBRIDGE_EXPORT": "direct"})
    assert "needs LANGFUSE_PUBLIC_KEY and LANGFUSE_SECRET_KEY" in only_warning(settings)
    assert Settings.from_env(KEYS | {"OTELBRIDGE_EXPORT": "direct"}).warnings == ()


@pytest.mark.parametrize(
    ("text", "name"),
    [
        ("production", "production"),
        ("Staging_EU-1", "staging_eu-1"),
        ("Prod EU", "default"),
        ("langfuse-prod", "-prod"),
        ("langfuse", "default"),
        ("ä", "default"),
        ("x" * 50, "x" * 40),
    ],
)
def test_environment_names_are_those_that_langfuse_stores(text: str, name: str):
    """Lower case, no leading `langfuse`, 40 characters, else `default`."""
    assert environment_name(text) == name
    settings = Settings.from_env({"LANGFUSE_TRACING_ENVIRONMENT": text})
    assert settings.langfuse.environment == name
    assert bool(settings.warnings) == (name != text.lower())


# -- start-up line ---------------------------------------------------------------------------------
@pytest.mark.parametrize(
    ("mapping", "expected"),
    [
        ({}, "LangFuse observability enabled (through the Collector; API features off"),
        (KEYS, "enabled (through the Collector; host=https://cloud.langfuse.com"),
        ({"LANGFUSE_ENABLED": "false"}, "LangFuse observability disabled: LANGFUSE_ENABLED=false"),
        ({"OTEL_SDK_DISABLED": "true"}, "LangFuse observability disabled: OTEL_SDK_DISABLED=true"),
        ({"OTEL_TRACES_EXPORTER": "none"}, "observability disabled: OTEL_TRACES_EXPORTER=none"),
        ({"OTELBRIDGE_EXPORT": "direct"}, "observability disabled: LANGFUSE_PUBLIC_KEY and "),
        (KEYS | {"OTELBRIDGE_EXPORT": "direct"}, "LangFuse observability enabled (direct; host="),
        (KEYS | {"LANGFUSE_PROJECT_ID": "p1"}, "project=p1"),
        ({CAPTURE: "NO_CONTENT"}, "message content=NO_CONTENT"),
        ({"OTEL_SERVICE_NAME": "checkout"}, "service=checkout"),
        ({ENDPOINT: "http://c:4318"}, "endpoint=http://c:4318/v1/traces (http/protobuf)"),
    ],
)
def test_the_start_up_line_says_what_is_on(mapping: dict[str, str], expected: str):
    """Service, endpoint, Langfuse and why it is off, content policy, in one line."""
    line = Settings.from_env(mapping).startup_line()
    assert expected in line
    assert "\n" not in line


def test_the_start_up_line_stays_one_line_with_hostile_names():
    """A name with line breaks cannot forge a second log line."""
    line = Settings.from_env({"OTEL_SERVICE_NAME": "a\nb"}).startup_line()
    assert "\n" not in line


# -- secrets ---------------------------------------------------------------------------------------
def test_secrets_are_nowhere_in_shown_text():
    """Keys, headers and URL passwords are not in repr, values, warnings or the start-up line."""
    mapping = {
        "LANGFUSE_PUBLIC_KEY": "pk-lf-canary0001",
        "LANGFUSE_SECRET_KEY": "sk-lf-canary0002",
        "LANGFUSE_HOST": "http://u:canary0003@lf:3000",
        "OTEL_EXPORTER_OTLP_HEADERS": "authorization=canary0004",
        ENDPOINT: "http://u:canary0005@c:4317?token=canary0006",
        "OTELBRIDGE_TEMPO_URL": "http://u:canary0007@t:3200",
    }
    settings = Settings.from_env(mapping)
    assert settings.otlp.headers["authorization"] == "canary0004"
    assert settings.langfuse.secret_key == "sk-lf-canary0002"
    shown = [
        repr(settings),
        str(settings),
        f"{settings.otlp} {settings.langfuse!r}",
        settings.startup_line(),
        *settings.values.values(),
        *settings.warnings,
    ]
    assert [text for text in shown if "canary" in text] == []


def test_secrets_are_not_in_errors():
    """A refused URL is shown without its password."""
    with pytest.raises(ConfigError) as caught:
        Settings.from_env({"LANGFUSE_HOST": "ftp://user:canary@host"})
    assert "canary" not in str(caught.value)


# -- declarations ----------------------------------------------------------------------------------
def test_declarations_are_consistent():
    """Names and arguments are unique, defaults parse, every variable has a shown value."""
    spellings = [name for variable in VARIABLES for name in variable.spellings]
    arguments = [variable.argument for variable in VARIABLES if variable.argument]
    assert len(spellings) == len(set(spellings))
    assert len(arguments) == len(set(arguments))
    for variable in VARIABLES:
        if variable.default is not None:
            variable.parse(variable.default)
        assert variable.meaning.endswith(".")
    settings = Settings.from_env({})
    assert set(settings.values) == set(settings.origins) == set(BY_NAME)


@given(st.dictionaries(st.sampled_from(sorted(BY_NAME)), st.text(max_size=30)))
def test_any_text_gives_settings_or_a_config_error(mapping: dict[str, str]):
    """No text makes reading fail in another way, and OTEL_* text never fails at all."""
    refused = ""
    try:
        Settings.from_env(mapping).startup_line()
    except ConfigError as error:
        refused = error.variable
    assert not refused.startswith("OTEL_")


def test_environment_defaults_leave_what_the_user_set():
    """Other instrumentations agree with ours unless the user decided."""
    empty: dict[str, str] = {CAPTURE: ""}
    set_environment_defaults(empty, capture_content="NO_CONTENT")
    assert empty == {CAPTURE: "NO_CONTENT", "OTEL_SEMCONV_STABILITY_OPT_IN": "http"}
    chosen = {CAPTURE: "EVENT_ONLY", "OTEL_SEMCONV_STABILITY_OPT_IN": "http/dup"}
    before = dict(chosen)
    set_environment_defaults(chosen)
    assert chosen == before
