"""The table of codes, the document made of it, the command, and that secrets stay inside."""

from __future__ import annotations

import ast
import json
import re
import threading
from pathlib import Path

import pytest

from otelbridge import cli
from otelbridge.doctor import run as runner
from otelbridge.doctor import table
from otelbridge.doctor.findings import Check, Context, Finding
from otelbridge.doctor.table import finding

ROOT = Path(__file__).parents[2]
SECRET = "sk-lf-canary-7f3d9a1c5b2e"
PASSWORD = "hunter2-canary-password"


def context(**environment: str) -> Context:
    return Context.of(environment, Path())


def test_the_document_is_what_the_table_says():
    """docs/troubleshooting.md is generated: `otelbridge doctor --markdown`."""
    assert (ROOT / "docs" / "troubleshooting.md").read_text("utf-8") == table.markdown()


def test_codes_are_unique_and_complete():
    """Every code has one entry, with title, meaning, how it is seen, and a remedy if it is bad."""
    entries = [entry for entries in table.PARTS.values() for entry in entries]
    assert len(entries) == len(table.BY_CODE)
    for entry in entries:
        assert re.fullmatch(r"[a-z0-9]+(-[a-z0-9]+)*", entry.code)
        assert all((entry.title, entry.meaning, entry.seen)), entry.code
        assert entry.fix or entry.level in ("ok", "note"), entry.code


def test_every_code_is_made_by_some_check_and_every_code_made_has_an_entry():
    """Neither an explanation without a finding nor a finding without an explanation."""
    texts = set()
    for path in (ROOT / "otelbridge" / "doctor").glob("*.py"):
        if not path.name.startswith("table"):
            tree = ast.parse(path.read_text("utf-8"))
            texts |= {
                node.value
                for node in ast.walk(tree)
                if isinstance(node, ast.Constant) and isinstance(node.value, str)
            }
    by_store = re.compile(r"canary-(tempo|langfuse)-\w+|canary-not-in-(tempo|langfuse)")
    unmade = {code for code in set(table.BY_CODE) - texts if not by_store.fullmatch(code)}
    assert unmade == set()
    with pytest.raises(KeyError):
        finding("no-such-code", "never")


def test_explain_prints_the_entry_and_refuses_an_unknown_code(capsys: pytest.CaptureFixture[str]):
    """`--explain` gives meaning and remedy; a code with a slip gets the nearest one."""
    assert cli.main(["doctor", "--explain", "langfuse-grpc"]) == 0
    shown = capsys.readouterr().out
    assert "HTTP only" in shown
    assert "http/protobuf" in shown
    assert cli.main(["doctor", "--explain", "langfuse-grcp"]) == 2
    assert "did you mean langfuse-grpc" in capsys.readouterr().err


@pytest.mark.parametrize(
    "words",
    [["--only", "nonsense"], ["--skip", "nonsense"], ["--directory", "/nowhere"],
     ["--env-file", "/nowhere/.env"], ["--collector-config", "/nowhere/c.yaml"],
     ["--readback", "0"], ["--readback", "soon"]],
)  # fmt: skip
def test_bad_arguments_are_usage(words: list[str], capsys: pytest.CaptureFixture[str]):
    """Status 2, nothing on standard output."""
    assert cli.main(["doctor", *words]) == 2
    assert capsys.readouterr().out == ""


def test_the_exit_status_tells_good_from_wrong(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
):
    """0 when nothing is wrong, 1 with a warning or error; JSON says the same."""
    monkeypatch.setenv("OTEL_SERVICE_NAME", "rag")
    words = ["doctor", "--no-network", "--directory", str(tmp_path), "--json", "--skip", "packages"]
    assert cli.main(words) == 0
    good = json.loads(capsys.readouterr().out)
    assert good["status"] == 0
    assert good["counts"]["warning"] == good["counts"]["error"] == 0
    monkeypatch.setenv("OTEL_PROPAGATORS", "baggage")
    assert cli.main(words) == 1
    bad = json.loads(capsys.readouterr().out)
    assert bad["status"] == 1
    assert "propagators-missing" in [one["code"] for one in bad["findings"]]


def test_only_and_skip_take_checks_groups_and_codes():
    """A code selects its findings, a check or group what it runs."""
    given = context(OTEL_PROPAGATORS="baggage", OTEL_SDK_DISABLED="true")
    given.network = False

    def codes(**more: tuple[str, ...]) -> set[str]:
        return {one.code for one in runner.run(given, **more)}

    assert codes(only=("propagators-missing",)) == {"propagators-missing"}
    assert codes(only=("propagation",)) == {"propagators-missing"}
    assert codes(only=("propagation", "sdk-disabled")) == {"propagators-missing", "sdk-disabled"}
    assert "sdk-disabled" not in codes(skip=("switches", "packages", "files"))
    assert "propagators-missing" not in codes(skip=("propagators-missing", "packages", "files"))
    assert codes(only=("settings",), skip=("settings",)) == set()


def test_no_secret_is_shown_whatever_is_wrong(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
):
    """Secrets planted in every variable, header, address and file stay out of both reports."""
    env_file = tmp_path / ".env"
    env_file.write_text(f"ENCRYPTION_KEY={PASSWORD}\nPOSTGRES_PASSWORD={PASSWORD}@x\nREDIS_AUTH=\n")
    planted = {
        "LANGFUSE_PUBLIC_KEY": f' "{SECRET}"',
        "LANGFUSE_SECRET_KEY": f"{SECRET}-2 ",
        "LANGFUSE_BASIC_AUTH": f"{SECRET}:{PASSWORD}",
        "OTEL_EXPORTER_OTLP_HEADERS": f"Authorization: Basic {SECRET}:{PASSWORD}\n,x={PASSWORD}",
        "OTEL_EXPORTER_OTLP_ENDPOINT": f"http://user:{PASSWORD}@cloud.langfuse.com/x?key={PASSWORD}",
        "LANGFUSE_HOST": f"http://u:{PASSWORD}@us.cloud.langfuse.com/project/p",
        "OTELBRIDGE_TEMPO_URL": f"http://u:{PASSWORD}@127.0.0.1:3100",
        "RAG_URL": f"https://u:{PASSWORD}@rag.example.com",
        "HTTP_PROXY": f"http://u:{PASSWORD}@proxy.example.com:3128",
        "LITELLM_MASTER_KEY": "sk-1234",
    }
    for name, value in planted.items():
        monkeypatch.setenv(name, value)
    monkeypatch.delenv("NO_PROXY")
    monkeypatch.delenv("no_proxy")
    for form in ([], ["--json"]):
        assert cli.main(["doctor", "--no-network", "--directory", str(tmp_path), *form]) == 1
        streams = capsys.readouterr()
        shown = streams.out + streams.err
        for secret in (SECRET, PASSWORD):
            assert secret not in shown
            assert secret[:10] not in shown
        assert "keys-swapped" in shown
        assert "proxy-captures" in shown
        assert "encryption-key-form" in shown


def test_the_scrubber_takes_secrets_out_of_any_finding():
    """A check that shows a key by mistake is corrected by the runner."""

    def leaks(_: Context) -> list[Finding]:
        return [finding("settings-repaired", f"is {SECRET}", f"saw {SECRET}", f"use {SECRET}")]

    given = context(LANGFUSE_SECRET_KEY=SECRET)
    (one,) = runner.run(given, checks=[Check("leaks", "settings", leaks)])
    assert SECRET not in one.what + one.evidence + one.fix


def test_a_check_that_breaks_hides_neither_itself_nor_the_others():
    """What was found before the error stays, the error is told without its text, the next runs."""

    def breaks(_: Context):
        yield finding("sdk-disabled", "first")
        raise ValueError(SECRET)

    def works(_: Context):
        yield finding("sampler-off", "second")

    checks = [Check("breaks", "settings", breaks), Check("works", "settings", works)]
    found = runner.run(context(), checks=checks)
    assert [one.code for one in found] == ["sdk-disabled", "check-failed", "sampler-off"]
    assert "ValueError at test_table.py:" in found[1].evidence
    assert SECRET not in found[1].evidence


def test_a_check_that_hangs_is_left_at_its_deadline_and_the_others_go_on():
    """Network checks run side by side, so one that hangs costs its own deadline only."""
    release = threading.Event()

    def hangs(_: Context):
        yield finding("sdk-disabled", "first")
        release.wait(30)

    def works(_: Context):
        yield finding("sampler-off", "second")

    checks = [
        Check("hangs", "network", hangs, stage="network", deadline_seconds=0.1),
        Check("works", "network", works, stage="network"),
    ]
    try:
        found = runner.run(context(), checks=checks)
    finally:
        release.set()
    assert [one.code for one in found] == ["sdk-disabled", "check-timeout", "sampler-off"]


def test_without_network_no_server_is_asked():
    """`--no-network` leaves out every check of the two later stages."""
    given = context()
    given.network = False
    ran: list[str] = []
    runner.run(given, told=lambda check: ran.append(check.stage))
    assert set(ran) == {"local"}
