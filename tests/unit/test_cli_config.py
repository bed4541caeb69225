"""The command line: help, exit statuses, `config` and `version`."""

from __future__ import annotations

import json
import subprocess
import sys
from importlib import metadata

import pytest

from otelbridge import cli
from otelbridge._version import __version__
from otelbridge.env import VARIABLES
from otelbridge.errors import StoreError

ALL_COMMANDS = (
    "demo", "local", "query", "trace", "link", "init", "doctor", "score", "budget", "spool",
    "prompts", "experiment", "config", "version",
)  # fmt: skip


def test_help_lists_every_command_with_one_line(capsys: pytest.CaptureFixture[str]):
    """`--help` names each command and says what it does."""
    assert cli.main(["--help"]) == 0
    shown = capsys.readouterr().out
    assert tuple(cli.COMMANDS) == ALL_COMMANDS
    for name, summary in cli.COMMANDS.items():
        assert name in shown
        assert summary.split()[0] in shown


def test_help_and_version_import_no_command_module_and_no_heavy_package():
    """Help starts fast: it loads no command, no SDK, no optional package."""
    code = (
        "import sys; from otelbridge.cli import main; main(['--help']); main(['version']);"
        "print(sorted(n for n in sys.modules if n.startswith('otelbridge.cli.')"
        " or n.partition('.')[0] in ('duckdb', 'langfuse', 'starlette', 'grpc', 'uvicorn')),"
        " file=sys.stderr)"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=True
    )
    assert done.stderr.strip() == "['otelbridge.cli.version']"


@pytest.mark.parametrize("words", [["nonsense"], ["config", "--nonsense"], []])
def test_bad_usage_ends_with_status_2_and_help_on_standard_error(
    words: list[str], capsys: pytest.CaptureFixture[str]
):
    """Usage errors are status 2 and leave standard output to programs."""
    assert cli.main(words) == 2
    streams = capsys.readouterr()
    assert streams.out == ""
    assert "usage: otelbridge" in streams.err


def test_an_unusable_setting_is_one_line_and_status_2(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
):
    """A configuration error is a sentence, not a traceback."""
    monkeypatch.setenv("OTELBRIDGE_EXPORT", "both")
    assert cli.main(["config"]) == 2
    streams = capsys.readouterr()
    assert streams.out == ""
    assert streams.err.count("\n") == 1
    assert streams.err.startswith("otelbridge: OTELBRIDGE_EXPORT='both' cannot be used; allowed:")


def test_an_error_of_a_command_is_one_line_and_status_2(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
):
    """Every error of otelbridge's own tree is treated alike."""

    def fail() -> dict[str, str | None]:
        raise StoreError("the store is locked")

    monkeypatch.setattr("otelbridge.cli.version.versions", fail)
    assert cli.main(["version"]) == 2
    assert capsys.readouterr().err == "otelbridge: the store is locked\n"


def test_a_missing_package_names_how_to_get_it(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
):
    """A command whose packages are not installed says which one and how to install it."""

    def missing(name: str) -> None:
        raise ModuleNotFoundError("No module named 'duckdb'", name="duckdb")

    monkeypatch.setattr("otelbridge.cli.importlib.import_module", missing)
    assert cli.main(["local"]) == 2
    shown = capsys.readouterr().err
    assert "'duckdb'" in shown
    assert "pip install 'otelbridge[local]'" in shown


def test_config_as_json_has_every_variable_with_value_and_origin(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
):
    """Programs get every variable, the start-up line and the warnings."""
    monkeypatch.setenv("ENABLE_LANGFUSE", "false")
    monkeypatch.setenv("OTELBRIDGE_EXPROT", "x")
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", "http://c:4317")
    assert cli.main(["config", "--json"]) == 0
    answer = json.loads(capsys.readouterr().out)
    rows = {row["name"]: row for row in answer["variables"]}
    assert list(rows) == [variable.name for variable in VARIABLES]
    assert rows["LANGFUSE_ENABLED"]["value"] == "false"
    assert rows["LANGFUSE_ENABLED"]["origin"] == "environment (ENABLE_LANGFUSE)"
    assert rows["OTEL_EXPORTER_OTLP_ENDPOINT"]["value"] == "http://c:4318/v1/traces"
    assert rows["OTEL_TRACES_SAMPLER"]["read_by"] == "sdk"
    assert rows["OTEL_BSP_SCHEDULE_DELAY"]["value"] == "5000"
    assert rows["LANGFUSE_RELEASE"] == {
        "name": "LANGFUSE_RELEASE",
        "value": None,
        "origin": "default",
        "read_by": "otelbridge",
    }
    assert len(answer["warnings"]) == 2
    assert "LangFuse observability disabled" in answer["startup"]


@pytest.mark.parametrize("form", [[], ["--json"]])
def test_config_masks_secrets(
    form: list[str], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
):
    """A configuration can be pasted into a bug report."""
    monkeypatch.setenv("LANGFUSE_PUBLIC_KEY", "pk-lf-canary")
    monkeypatch.setenv("LANGFUSE_SECRET_KEY", "sk-lf-canary")
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_HEADERS", "authorization=canary")
    assert cli.main(["config", *form]) == 0
    shown = capsys.readouterr().out
    assert "canary" not in shown
    assert shown.count("********") == 3


def test_config_for_people_shows_warnings_below(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
):
    """Each variable has a line with its origin; warnings follow."""
    monkeypatch.setenv("OTEL_SERVICE_NAME", "checkout")
    monkeypatch.setenv("OTEL_BSP_MAX_QUEUE_SIZE", "many")
    assert cli.main(["config"]) == 0
    lines = capsys.readouterr().out.splitlines()
    service = next(line for line in lines if "OTEL_SERVICE_NAME" in line)
    assert service.split() == ["OTEL_SERVICE_NAME", "checkout", "[environment]"]
    assert lines[-1].startswith("warning: OTEL_BSP_MAX_QUEUE_SIZE='many'")


def test_version_as_json_names_the_packages_that_decide(capsys: pytest.CaptureFixture[str]):
    """What a bug report needs, from the installed packages."""
    assert cli.main(["version", "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["otelbridge"] == __version__
    assert found["opentelemetry-sdk"] == metadata.version("opentelemetry-sdk")
    assert found["opentelemetry-instrumentation-flask"]
    assert found["python"].startswith(f"{sys.version_info.major}.{sys.version_info.minor}.")


def test_a_package_that_is_missing_has_no_version(monkeypatch: pytest.MonkeyPatch):
    """Optional packages may be missing."""
    monkeypatch.setattr("otelbridge.cli.version.PACKAGES", ("surely-not-installed",))
    from otelbridge.cli.version import versions

    assert versions()["surely-not-installed"] is None


def test_the_module_and_the_console_script_are_the_same_command():
    """`python -m otelbridge` works, and a closed pipe is no traceback."""
    done = subprocess.run(
        [sys.executable, "-m", "otelbridge", "--version"],
        capture_output=True,
        text=True,
        timeout=60,
        check=True,
    )
    assert done.stdout.strip() == f"otelbridge {__version__}"


def test_a_reader_that_goes_away_is_no_traceback():
    """`otelbridge config | head -1` ends quietly."""
    done = subprocess.run(
        ["sh", "-c", f"{sys.executable} -m otelbridge config --markdown | head -n 1"],
        capture_output=True,
        text=True,
        timeout=60,
        check=True,
    )
    assert done.stdout == "# Configuration\n"
    assert done.stderr == ""


@pytest.mark.parametrize("end", [KeyboardInterrupt, EOFError])
def test_leaving_a_question_is_no_fault(monkeypatch: pytest.MonkeyPatch, end: type[BaseException]):
    """Ctrl-C and Ctrl-D end the command with 130, without a traceback."""
    from otelbridge.cli import version

    def asked(_args: object) -> int:
        raise end

    monkeypatch.setattr(version, "run", asked)
    assert cli.main(["version"]) == 130
