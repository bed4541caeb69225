"""Checks of files and packages: .env, LiteLLM configurations, versions, rivals, code."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import pytest

from otelbridge.doctor import packages_checks
from otelbridge.doctor import run as runner
from otelbridge.doctor.files_checks import STACK_SECRETS, callbacks
from otelbridge.doctor.findings import Finding

#: A set that goes together.
PACKAGES = {
    "otelbridge": "0.1.0",
    "opentelemetry-api": "1.45.1",
    "opentelemetry-sdk": "1.45.1",
    "opentelemetry-semantic-conventions": "0.66b1",
    "opentelemetry-instrumentation-flask": "0.66b1",
    "opentelemetry-instrumentation-httpx": "0.66b1",
    "opentelemetry-util-http": "0.66b1",
}
COMPLETE = "".join(f"{name}={'ab12' * 16}\n" for name in STACK_SECRETS).replace(
    f"LANGFUSE_PUBLIC_KEY={'ab12' * 16}", "LANGFUSE_PUBLIC_KEY=pk-lf-1234567"
).replace(f"LANGFUSE_SECRET_KEY={'ab12' * 16}", "LANGFUSE_SECRET_KEY=sk-lf-1234567")  # fmt: skip


def look(
    directory: Path,
    environment: dict[str, str] | None = None,
    *,
    packages: dict[str, str] | None = None,
    distros: dict[str, str] | None = None,
    only: str = "files,packages",
) -> list[Finding]:
    context = runner.context_of(
        environment or {},
        directory,
        packages=PACKAGES if packages is None else packages,
        distros={"otelbridge": "otelbridge"} if distros is None else distros,
        network=False,
    )
    return runner.run(context, only=only.split(","))


def codes(found: list[Finding]) -> set[str]:
    return {one.code for one in found if one.level != "ok"}


def write(path: Path, text: str, mode: int = 0o600) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text, encoding="utf-8")
    path.chmod(mode)
    return path


# -- .env ------------------------------------------------------------------------------------------
def test_a_complete_private_file_is_good(tmp_path: Path):
    """No finding but the good one, with the number of variables."""
    write(tmp_path / ".env", COMPLETE)
    found = look(tmp_path, only="files")
    assert [one.code for one in found] == ["env-file-good"]
    assert found[0].evidence == f"{len(STACK_SECRETS)} variables"


def test_a_missing_file_is_told_beside_a_compose_file_only(tmp_path: Path):
    """A service without compose needs none."""
    assert codes(look(tmp_path)) == set()
    write(tmp_path / "docker-compose.yml", "services: {}\n")
    assert codes(look(tmp_path)) == {"env-file-missing"}


@pytest.mark.parametrize(
    ("text", "code"),
    [
        ("A='not closed\n", "env-file-broken"),
        ("what is this?\n", "env-file-broken"),
        ("NEXTAUTH_SECRET=abc\nPOSTGRES_PASSWORD=\n", "env-file-half"),
        ("LANGFUSE_PUBLIC_KEY=pk-lf-1234567\nLANGFUSE_SECRET_KEY=\n", "env-file-half"),
        (COMPLETE.replace("REDIS_AUTH=", "#"), "env-file-half"),
        (COMPLETE + "GRAFANA_ADMIN_PASSWORD=admin\n", "default-password"),
        (COMPLETE + "SALT=mysalt\n", "default-password"),
        (COMPLETE + f"ENCRYPTION_KEY={'0' * 64}\n", "default-password"),
        (COMPLETE + "LITELLM_MASTER_KEY=sk-1234\n", "default-password"),
        (COMPLETE + "ENCRYPTION_KEY=tooshort\n", "encryption-key-form"),
        (COMPLETE + "POSTGRES_PASSWORD='p@ss:w0rd/x'\n", "secret-alphabet"),
    ],
)
def test_a_broken_or_weak_file_is_named(tmp_path: Path, text: str, code: str):
    """One finding, and no value of the file in it."""
    write(tmp_path / ".env", text)
    found = look(tmp_path, only="files")
    assert codes(found) == {code}
    for value in ("tooshort", "p@ss", "mysalt", "0" * 64, "sk-1234"):
        assert not any(value in one.what + one.evidence + one.fix for one in found)


def test_half_a_file_names_what_is_missing(tmp_path: Path):
    """The names that `otelbridge init` would add."""
    write(tmp_path / ".env", COMPLETE.replace("REDIS_AUTH=", "#").replace("SALT=", "#SALT=", 1))
    (one,) = look(tmp_path, only="env-file")
    assert "REDIS_AUTH" in one.what
    assert "POSTGRES_PASSWORD" not in one.what


@pytest.mark.skipif(os.name != "posix", reason="modes of files are POSIX's")
def test_a_file_that_others_may_read_is_named(tmp_path: Path):
    """The mode is shown, and the remedy repairs it."""
    path = write(tmp_path / ".env", COMPLETE, mode=0o644)
    (one,) = look(tmp_path, only="env-file")
    assert (one.code, one.evidence) == ("env-file-permissions", "mode 0644")
    path.chmod(0o600)
    assert codes(look(tmp_path, only="env-file")) == set()


def test_a_variable_of_the_shell_that_shadows_the_file_is_named(tmp_path: Path):
    """Compose takes the shell's; an equal one is no fault."""
    write(tmp_path / ".env", COMPLETE)
    shell = {
        "LANGFUSE_SECRET_KEY": "sk-lf-of-another-project",
        "LANGFUSE_PUBLIC_KEY": "pk-lf-1234567",
    }
    (one,) = look(tmp_path, shell, only="env-file")
    assert one.code == "env-file-shadowed"
    assert "LANGFUSE_SECRET_KEY" in one.evidence
    assert "LANGFUSE_PUBLIC_KEY" not in one.evidence
    assert "another-project" not in str(one)


def test_a_file_that_git_may_take_is_named(tmp_path: Path):
    """A .gitignore up to the checkout's root must name it."""
    (tmp_path / ".git").mkdir()
    write(tmp_path / "app" / ".env", COMPLETE)
    assert codes(look(tmp_path / "app", only="env-file")) == {"env-file-not-ignored"}


def test_an_env_file_that_git_tracks_is_named(tmp_path: Path):
    """It stands in .gitignore and is committed all the same."""
    write(tmp_path / ".gitignore", ".env\n")
    write(tmp_path / ".env", "OTEL_SERVICE_NAME=shop\n")
    (tmp_path / ".env").chmod(0o600)
    assert codes(look(tmp_path, only="env-file")) == set()
    for words in (["init", "-q"], ["add", "-f", ".env"]):
        subprocess.run(["git", *words], cwd=tmp_path, check=True)
    assert codes(look(tmp_path, only="env-file")) == {"env-file-not-ignored"}
    write(tmp_path / ".gitignore", "*.pyc\n.env\n")
    assert codes(look(tmp_path / "app", only="env-file")) == set()


def test_published_ports_of_the_file_are_where_the_doctor_looks(tmp_path: Path):
    """Other ports of the stack than the usual ones need no second variable."""
    write(tmp_path / ".env", COMPLETE + "OTELBRIDGE_COMPOSE_TEMPO_PORT=13200\n")
    context = runner.context_of({"OTELBRIDGE_COMPOSE_OTLP_HTTP_PORT": "14318"}, tmp_path)
    assert context.settings is not None
    assert context.settings.tempo_url == "http://localhost:13200"
    assert context.settings.otlp.endpoint == "http://localhost:14318/v1/traces"
    found = runner.run(context, only=("settings",))
    assert [one.code for one in found if one.level in ("warning", "error")] == []


# -- LiteLLM ---------------------------------------------------------------------------------------
@pytest.mark.parametrize(
    "text",
    [
        'litellm_settings:\n  callbacks: ["otel", "langfuse"]\n',
        "litellm_settings:\n  callbacks:\n    - otel\n    - langfuse_otel  # both\n",
        "litellm_settings:\n  callbacks:\n  - langfuse\n",
        "litellm_settings:\n  success_callback: [langfuse]\n  callbacks: [otel]\n",
        "litellm_settings:\n  callbacks: [\n    'otel',\n    'langfuse',\n  ]\n",
    ],
)
def test_litellm_sending_a_second_copy_is_named(tmp_path: Path, text: str):
    """Every way to write the list; with the line, and with the change to make."""
    write(tmp_path / "deploy" / "litellm" / "config.yaml", text)
    (one,) = look(tmp_path, {"LITELLM_OTEL_V2": "true"}, only="litellm")
    assert one.code == "litellm-langfuse-callback"
    assert one.evidence.startswith("line ")
    assert 'callbacks: ["otel"]' in one.fix


@pytest.mark.parametrize(
    "text",
    [
        'litellm_settings:\n  callbacks: ["otel"]\n',
        'litellm_settings:\n  callbacks: ["otel"]  # not "langfuse": the Collector sends there\n',
        "litellm_settings:\n  # callbacks: [langfuse]\n  callbacks:\n    - otel\n  cache: true\n"
        "model_list:\n  - model_name: langfuse\n",
        "callbacks: [langfuse]\n",  # no LiteLLM configuration
    ],
)
def test_litellm_with_the_collector_only_is_no_fault(tmp_path: Path, text: str):
    """Comments, other lists and other programs' files are left alone."""
    write(tmp_path / "litellm-config.yaml", text)
    assert codes(look(tmp_path, {"LITELLM_OTEL_V2": "true"}, only="litellm")) == set()


def test_litellm_without_its_second_engine_is_named(tmp_path: Path):
    """Unless a compose file above switches it on."""
    write(tmp_path / "litellm.yaml", "litellm_settings:\n  callbacks: [otel]\n")
    assert codes(look(tmp_path, only="litellm")) == {"litellm-otel-v1"}
    write(tmp_path / "compose.yaml", 'environment:\n  LITELLM_OTEL_V2: "true"\n')
    assert codes(look(tmp_path, only="litellm")) == set()


def test_callbacks_are_given_with_their_lines():
    """Line numbers are those of an editor."""
    lines = ["litellm_settings:", "  failure_callback:", "    - sentry", "  callbacks: [otel, x]"]
    assert list(callbacks(lines)) == [
        (3, "failure_callback", "sentry"), (4, "callbacks", "otel"), (4, "callbacks", "x"),
    ]  # fmt: skip


# -- packages --------------------------------------------------------------------------------------
REFUSED: list[tuple[str, dict[str, str]]] = [
    ("sdk-flask-gap", {"opentelemetry-sdk": "1.45.2"}),
    ("otel-versions-mixed", {"opentelemetry-api": "1.43.0"}),
    ("otel-versions-mixed", {"opentelemetry-semantic-conventions": "0.60b1"}),
    ("otel-versions-mixed", {"opentelemetry-instrumentation-httpx": "0.60b1"}),
    ("openai-httpx2", {"openai": "3.52.0", "opentelemetry-instrumentation-httpx": "0.65b0",
                       "opentelemetry-instrumentation-flask": "0.65b0",
                       "opentelemetry-util-http": "0.65b0"}),
    ("genai-util-gap", {"opentelemetry-instrumentation-openai-v2": "2.4b0",
                        "opentelemetry-util-genai": "1.3b0"}),
    ("llm-instrumentations-two", {"opentelemetry-instrumentation-openai": "0.62.4",
                                  "openinference-instrumentation-openai": "0.1.66"}),
    ("provider-installed", {"traceloop-sdk": "0.62.4"}),
]  # fmt: skip


@pytest.mark.parametrize(("code", "changes"), REFUSED)
def test_a_bad_combination_is_named_with_its_versions(
    tmp_path: Path, code: str, changes: dict[str, str]
):
    """The refuse list: one finding, the version in it, and a remedy."""
    found = look(tmp_path, packages={**PACKAGES, **changes})
    assert codes(found) == {code}
    one = next(one for one in found if one.code == code)
    assert any(version in one.what + one.evidence for version in changes.values())
    assert one.fix


@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"openai": "3.52.0"},
        {"openai": "1.60.0", "opentelemetry-instrumentation-openai-v2": "2.4b0",
         "opentelemetry-util-genai": "1.1b0"},
        {"opentelemetry-sdk": "1.45.2", "opentelemetry-instrumentation-flask": "0.66b2"},
        {"opentelemetry-instrumentation-genai-openai": "1.3b0",
         "opentelemetry-instrumentation-genai-langchain": "1.3b0"},
    ],
)  # fmt: skip
def test_good_combinations_are_left_alone(tmp_path: Path, changes: dict[str, str]):
    """No false alarm on what goes together."""
    assert codes(look(tmp_path, packages={**PACKAGES, **changes})) == set()


def test_the_packages_of_this_environment_are_read_and_go_together():
    """The tests' own environment passes the refuse list, by its metadata."""
    have = packages_checks.installed()
    assert have["opentelemetry-sdk"]
    assert packages_checks.version(have["opentelemetry-sdk"]) >= (1, 44)
    assert "otelbridge" in packages_checks.distro_names()


@pytest.mark.parametrize(
    ("code", "environment"),
    [
        ("provider-rival", {"PYTHONPATH": "/app/ddtrace/bootstrap:/app"}),
        ("provider-rival", {"DD_TRACE_OTEL_ENABLED": "true"}),
        ("second-exporter", {"TRACELOOP_API_KEY": "a-key-of-traceloop"}),
        ("second-exporter", {"LOGFIRE_TOKEN": "a-token-of-logfire"}),
        ("distro-rival", {"OTEL_PYTHON_DISTRO": "aws_distro"}),
        ("distro-rival", {"OTEL_PYTHON_CONFIGURATOR": "sdk_configurator"}),
        ("instrumentation-disabled", {"OTEL_PYTHON_DISABLED_INSTRUMENTATIONS": "redis,flask"}),
    ],
)
def test_rivals_in_the_environment_are_named(
    tmp_path: Path, code: str, environment: dict[str, str]
):
    """Wrappers, other SDKs' switches, other distros; no value of a key."""
    found = look(tmp_path, environment)
    assert codes(found) == {code}
    assert not any("a-key" in str(one) or "a-token" in str(one) for one in found)


def test_two_distros_are_named_until_one_is_chosen(tmp_path: Path):
    """`opentelemetry-instrument` loads one; OTEL_PYTHON_DISTRO says which."""
    distros = {"otelbridge": "otelbridge", "distro": "opentelemetry-distro"}
    assert codes(look(tmp_path, distros=distros)) == {"distro-rival"}
    chosen = {"OTEL_PYTHON_DISTRO": "otelbridge"}
    assert codes(look(tmp_path, chosen, distros=distros)) == set()


def test_a_disabled_one_of_two_instrumentations_is_no_duplicate(tmp_path: Path):
    """OTEL_PYTHON_DISABLED_INSTRUMENTATIONS is a remedy."""
    packages = {**PACKAGES, "opentelemetry-instrumentation-openai": "0.62.4",
                "opentelemetry-instrumentation-openai-v2": "2.5b0"}  # fmt: skip
    assert codes(look(tmp_path, packages=packages)) == {"llm-instrumentations-two"}
    off = {"OTEL_PYTHON_DISABLED_INSTRUMENTATIONS": "openai-v2"}
    assert codes(look(tmp_path, off, packages=packages)) == set()


# -- code ------------------------------------------------------------------------------------------
@pytest.mark.parametrize(
    ("text", "code"),
    [
        ("from langfuse.openai import openai\n", "second-exporter"),
        ("import x\nTraceloop.init(app_name='x')\n", "second-exporter"),
        ("logfire.configure()\n", "second-exporter"),
        ("import requests\n", "instrumentation-missing"),
        ("from fastapi import FastAPI\n", "instrumentation-missing"),
    ],
)
def test_code_that_exports_or_calls_past_otelbridge_is_named(tmp_path: Path, text: str, code: str):
    """With file and line."""
    write(tmp_path / "app" / "main.py", f'"""The app."""\n{text}')
    (one,) = [one for one in look(tmp_path) if one.level != "ok"]
    assert one.code == code
    assert one.evidence.startswith("app/main.py:")


@pytest.mark.parametrize(
    "text", ["from langfuse import observe\n", "from langfuse.langchain import CallbackHandler\n"]
)
def test_langfuses_sdk_is_an_exporter_only_when_it_was_told_to(tmp_path: Path, text: str):
    """Its spans leave by otelbridge, unless OTELBRIDGE_LANGFUSE_SDK_EXPORT lets it send too."""
    write(tmp_path / "app.py", text)
    assert codes(look(tmp_path)) == set()
    both = {"OTELBRIDGE_LANGFUSE_SDK_EXPORT": "true"}
    assert codes(look(tmp_path, both)) == {"second-exporter"}


def test_code_that_is_no_application_is_not_searched(tmp_path: Path):
    """Tests, virtual environments, hidden directories, Langfuse's plain API client."""
    rival = "from langfuse import observe\nimport requests\n"
    for place in ("tests/test_a.py", ".venv/lib/a.py", "node_modules/a.py"):
        write(tmp_path / place, rival)
    write(tmp_path / "mine" / "pyvenv.cfg", "")
    write(tmp_path / "mine" / "a.py", rival)
    write(tmp_path / "api.py", "from langfuse.api import LangfuseAPI\n# from langfuse import x\n")
    assert codes(look(tmp_path)) == set()


@pytest.mark.parametrize(
    ("text", "named"),
    [
        ("trace.set_tracer_provider(TracerProvider())\n", True),
        ("trace.set_tracer_provider(TracerProvider())\notelbridge.configure()\n", False),
        ("# nobody calls trace.set_tracer_provider(x) here\n", False),
    ],
)
def test_a_provider_that_configure_completes_is_no_rival(tmp_path: Path, text: str, named: bool):
    """`otelbridge.configure()` completes a provider that the application has set."""
    write(tmp_path / "main.py", text)
    assert ("second-exporter" in codes(look(tmp_path))) is named
