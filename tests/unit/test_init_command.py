"""`otelbridge init` from the outside: files, streams, exit status, questions, other programs.

The Langfuse preview of `otelbridge local` stands in for an existing Langfuse.
"""

from __future__ import annotations

import contextlib
import io
import json
import os
import pty
import select
import shutil
import stat
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from otelbridge import cli, envfile
from otelbridge.installation.entries import BY_NAME
from otelbridge.local.langfuse_preview import Project
from otelbridge.local.server import LocalServer
from otelbridge.settings import Settings

ROOT = Path(__file__).parents[2]
PUBLIC, SECRET = "pk-lf-preview", "sk-lf-preview-and-secret"
DEADLINE_SECONDS = 60


@pytest.fixture(scope="module")
def langfuse() -> Iterator[str]:
    """The address of a Langfuse with a project of its own."""
    with LocalServer(project=Project("p-17", PUBLIC, SECRET)) as server:
        yield server.langfuse_url


@pytest.fixture(autouse=True)
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty directory beside a compose file; no container engine."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "docker-compose.yml").write_text("services: {}\n")
    git = shutil.which("git")
    programs = tmp_path / "programs"
    programs.mkdir()
    if git:
        (programs / "git").symlink_to(git)
    monkeypatch.setenv("PATH", str(programs))
    monkeypatch.setattr(sys, "stdin", io.StringIO(""))
    for name in BY_NAME:
        monkeypatch.delenv(name, raising=False)
    return tmp_path


def values(path: Path = Path(".env")) -> dict[str, str]:
    found = envfile.read(path)
    assert found is not None
    return found.values


def existing(langfuse: str, *more: str) -> list[str]:
    return ["init", "--host", langfuse, "--public-key", PUBLIC, "--secret-key", "-", *more]


def give(monkeypatch: pytest.MonkeyPatch, text: str) -> None:
    monkeypatch.setattr(sys, "stdin", io.StringIO(text))


def program(place: Path, name: str, script: str) -> None:
    path = place / "programs" / name
    path.write_text(f"#!/bin/sh\n{script}\n")
    path.chmod(0o755)


def test_twice_changes_nothing(capsys: pytest.CaptureFixture[str]):
    """The first call writes a private file, the second finds it complete."""
    assert cli.main(["init"]) == 0
    first, status = Path(".env").read_bytes(), Path(".env").stat()
    assert stat.S_IMODE(status.st_mode) == 0o600
    assert cli.main(["init"]) == 0
    assert Path(".env").read_bytes() == first
    assert Path(".env").stat().st_mtime_ns == status.st_mtime_ns
    streams = capsys.readouterr()
    assert "nothing changed" in streams.out
    assert streams.err == ""
    for name, value in values().items():
        if BY_NAME[name].secret:
            assert value not in streams.out


def test_a_copied_example_is_filled_in_place(place: Path):
    """Its comments and order stay, and nothing is left empty that was asked for."""
    example = (ROOT / ".env.example").read_text(encoding="utf-8")
    (place / ".env").write_text(example, encoding="utf-8")
    (place / ".env").chmod(0o644)
    assert cli.main(["init"]) == 0
    text = (place / ".env").read_text(encoding="utf-8")
    kept = [line for line in example.splitlines() if line.startswith("#")]
    assert [line for line in text.splitlines() if line.startswith("#")] == kept
    assert [line.partition("=")[0] for line in text.splitlines()] == [
        line.partition("=")[0] for line in example.splitlines()
    ]
    assert stat.S_IMODE((place / ".env").stat().st_mode) == 0o600
    assert all(value for name, value in values().items() if BY_NAME[name].secret)


def test_half_a_file_is_completed(place: Path):
    """Foreign lines and given values stay as they are."""
    (place / ".env").write_text("# mine\nOPENAI_API_KEY='sk-x y'\nSALT=kept-kept-kept-kept\n")
    (place / ".env").chmod(0o600)
    assert cli.main(["init"]) == 0
    text = (place / ".env").read_text()
    assert text.startswith("# mine\nOPENAI_API_KEY='sk-x y'\nSALT=kept-kept-kept-kept\n")
    assert len(values()) == 24


def test_a_known_default_stops_everything(place: Path, capsys: pytest.CaptureFixture[str]):
    """Status 1, the file as it was, the remedy on standard error."""
    text = "SALT=mysalt\nREDIS_AUTH=myredissecret\n"
    (place / ".env").write_text(text)
    (place / ".env").chmod(0o600)
    assert cli.main(["init"]) == 1
    assert (place / ".env").read_text() == text
    streams = capsys.readouterr()
    assert streams.out == ""
    assert "SALT is a default that everybody knows" in streams.err
    assert "--rotate REDIS_AUTH" in streams.err
    assert cli.main(["init", "--rotate", "REDIS_AUTH"]) == 0
    assert values()["SALT"] == "mysalt"


def test_an_unsafe_file_is_status_2(place: Path, capsys: pytest.CaptureFixture[str]):
    """A file that others can read is named with its remedy."""
    (place / ".env").write_text("A=1\n")
    (place / ".env").chmod(0o644)
    assert cli.main(["init"]) == 2
    assert "chmod 600" in capsys.readouterr().err


def test_an_existing_langfuse_gives_its_project(
    langfuse: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
):
    """Keys are checked there, the project id is fetched, no local Langfuse is started."""
    give(monkeypatch, SECRET + "\n")
    assert cli.main(existing(langfuse)) == 0
    found = values()
    assert found["LANGFUSE_PROJECT_ID"] == "p-17"
    assert found["LANGFUSE_PUBLIC_URL"] == langfuse
    assert found["LANGFUSE_HOST"] == langfuse.replace("127.0.0.1", "host.docker.internal")
    assert "COMPOSE_PROFILES" not in found
    streams = capsys.readouterr()
    assert SECRET not in streams.out + streams.err
    assert "listen on more than 127.0.0.1" in streams.err
    before = Path(".env").read_bytes()
    assert cli.main(["init"]) == 0  # asks Langfuse again with the keys of the file
    assert Path(".env").read_bytes() == before


def test_keys_come_from_the_environment_too(langfuse: str, monkeypatch: pytest.MonkeyPatch):
    """No key has to stand on a command line."""
    monkeypatch.setenv("LANGFUSE_PUBLIC_KEY", PUBLIC)
    monkeypatch.setenv("LANGFUSE_SECRET_KEY", SECRET)
    assert cli.main(["init", "--host", langfuse]) == 0
    assert values()["LANGFUSE_SECRET_KEY"] == SECRET


def test_refused_keys_write_nothing(
    langfuse: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
):
    """Status 1 with the host that refused, without the keys."""
    give(monkeypatch, "sk-lf-of-another-project\n")
    assert cli.main(existing(langfuse)) == 1
    assert not Path(".env").exists()
    error = capsys.readouterr().err
    assert f"Langfuse at {langfuse} refuses the keys" in error
    assert "sk-lf-of" not in error


def test_an_unreachable_langfuse_is_refused_and_offline_goes_on(
    langfuse: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
):
    """Offline keys are written unchecked; the next call that can ask adds the project."""
    give(monkeypatch, SECRET)
    assert cli.main(existing("http://127.0.0.1:9")) == 1
    assert "--offline" in capsys.readouterr().err
    assert not Path(".env").exists()
    give(monkeypatch, SECRET)
    assert cli.main(existing(langfuse, "--offline", "--json")) == 0
    answer = json.loads(capsys.readouterr().out)
    assert answer["langfuse"]["keys_checked"] is False
    assert any("LANGFUSE_PROJECT_ID is not known" in note for note in answer["notes"])
    assert "LANGFUSE_PROJECT_ID" not in values()
    assert cli.main(["init", "--json"]) == 0
    answer = json.loads(capsys.readouterr().out)
    assert answer["written"] == ["LANGFUSE_PROJECT_ID"]
    assert answer["langfuse"]["keys_checked"] is True
    assert values()["LANGFUSE_PROJECT_ID"] == "p-17"


def test_keys_of_another_project_are_refused(langfuse: str, capsys: pytest.CaptureFixture[str]):
    """Links of the file would lead elsewhere than its spans."""
    text = f"LANGFUSE_HOST={langfuse}\nLANGFUSE_PUBLIC_KEY={PUBLIC}\n"
    text += f"LANGFUSE_SECRET_KEY={SECRET}\nLANGFUSE_PROJECT_ID=p-18\n"
    Path(".env").write_text(text)
    Path(".env").chmod(0o600)
    assert cli.main(["init"]) == 1
    assert "'p-17', LANGFUSE_PROJECT_ID is 'p-18'" in capsys.readouterr().err
    assert Path(".env").read_text() == text


def test_a_new_pair_of_an_existing_langfuse_is_checked_before_it_replaces(
    langfuse: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
):
    """`--rotate` with a pair that does not fit leaves the old one."""
    rotate = ("--rotate", "LANGFUSE_SECRET_KEY")
    keys = {"LANGFUSE_PUBLIC_KEY": "pk-lf-old", "LANGFUSE_SECRET_KEY": "sk-lf-old"}
    for name, value in keys.items():
        monkeypatch.setenv(name, value)
    assert cli.main(["init", "--host", langfuse, "--offline"]) == 0
    assert cli.main(["init", *rotate]) == 1
    assert "project's settings" in capsys.readouterr().err
    give(monkeypatch, "sk-lf-wrong")
    assert cli.main(existing(langfuse, *rotate)) == 1
    assert values()["LANGFUSE_SECRET_KEY"] == "sk-lf-old"
    give(monkeypatch, SECRET)
    assert cli.main(existing(langfuse, *rotate)) == 0
    assert values()["LANGFUSE_SECRET_KEY"] == SECRET
    for name in keys:
        monkeypatch.delenv(name)
    capsys.readouterr()
    assert cli.main(["init", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["problems"] == []


def test_changing_over_says_which_lines_to_remove(
    langfuse: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
):
    """Both ways: `init` never replaces a value."""
    assert cli.main(["init"]) == 0
    give(monkeypatch, SECRET)
    assert cli.main(existing(langfuse)) == 1
    assert "langfuse from COMPOSE_PROFILES" in capsys.readouterr().err
    Path(".env").unlink()
    give(monkeypatch, SECRET)
    assert cli.main(existing(langfuse)) == 0
    assert cli.main(["init", "--local"]) == 1
    assert "for an existing Langfuse already" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--host", "http://127.0.0.1:9"], "LANGFUSE_PUBLIC_KEY and LANGFUSE_SECRET_KEY needed"),
        (["--public-key", "pk-lf-1"], "add --host"),
        (["--host", "ftp://x"], "http:// or https:// URL"),
        (["--host", "http://h", "--public-key", "pk-lf-1", "--secret-key", "-"], "standard input"),
        (["--host", "http://h", "--local"], "not allowed with"),
        (["--with", "everything"], "no such profile"),
        (["--rotate", "SALT"], "there is no .env yet"),
        (["--rotate", "LANGFUSE_HOST"], "is no secret"),
        (["--print-env", "toml"], "invalid choice"),
        (["--file", "no/such/.env"], "cannot be written"),
    ],
)
def test_unusable_words_are_status_2(
    words: list[str], said: str, capsys: pytest.CaptureFixture[str]
):
    """One line that says what is missing; nothing is written."""
    assert cli.main(["init", *words]) == 2
    assert said in capsys.readouterr().err
    assert not Path(".env").exists()


def test_keys_without_a_home_are_asked_about(capsys: pytest.CaptureFixture[str]):
    """A .env made for an SDK has keys and may mean Langfuse Cloud."""
    Path(".env").write_text(f"LANGFUSE_PUBLIC_KEY={PUBLIC}\nLANGFUSE_SECRET_KEY={SECRET}\n")
    Path(".env").chmod(0o600)
    assert cli.main(["init"]) == 2
    assert "https://cloud.langfuse.com" in capsys.readouterr().err


def test_a_shell_variable_that_compose_would_prefer_is_a_note(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
):
    """Compose takes the shell before the file."""
    monkeypatch.setenv("LANGFUSE_SECRET_KEY", "sk-lf-of-the-shell")
    assert cli.main(["init"]) == 0
    error = capsys.readouterr().err
    assert "unset LANGFUSE_SECRET_KEY" in error
    assert "sk-lf-of-the-shell" not in error


def test_a_key_on_the_command_line_is_a_note(langfuse: str, capsys: pytest.CaptureFixture[str]):
    """It works, and says who else can read it."""
    words = ["init", "--host", langfuse, "--public-key", PUBLIC, "--secret-key", SECRET]
    assert cli.main(words) == 0
    assert "process lists" in capsys.readouterr().err


@pytest.mark.skipif(shutil.which("git") is None, reason="git is not installed")
def test_git_must_ignore_the_file(place: Path, capsys: pytest.CaptureFixture[str]):
    """Not ignored and tracked are refused; a line in .gitignore is the remedy."""
    git = ["git", "-c", "init.defaultBranch=main"]
    subprocess.run([*git, "init", "--quiet"], check=True, timeout=DEADLINE_SECONDS)
    assert cli.main(["init"]) == 1
    assert "echo .env >> .gitignore" in capsys.readouterr().err
    assert not (place / ".env").exists()
    (place / ".gitignore").write_text(".env\n")
    assert cli.main(["init"]) == 0
    subprocess.run([*git, "add", "--force", ".env"], check=True, timeout=DEADLINE_SECONDS)
    assert cli.main(["init"]) == 1
    assert "git rm --cached .env" in capsys.readouterr().err


@pytest.mark.skipif(shutil.which("git") is None, reason="git is not installed")
def test_git_ignores_the_file_in_this_repository():
    """Its own .gitignore has the line."""
    if not (ROOT / ".git").exists():
        pytest.skip("not a checkout")
    done = subprocess.run(
        ["git", "check-ignore", "--quiet", ".env"], cwd=ROOT, check=False, timeout=DEADLINE_SECONDS
    )
    assert done.returncode == 0


def test_volumes_of_an_earlier_stack_stop_new_secrets(
    place: Path, capsys: pytest.CaptureFixture[str]
):
    """A .env that was lost is asked back; with it, everything is as before."""
    assert cli.main(["init"]) == 0
    program(place, "docker", 'echo "$@" > "$0.words"; echo otelbridge_postgres')
    assert cli.main(["init"]) == 0  # complete: nothing is made, nothing is in the way
    (place / ".env").rename(place / "kept")
    assert cli.main(["init"]) == 1
    error = capsys.readouterr().err
    assert "the volume otelbridge_postgres of an earlier start is there" in error
    assert not (place / ".env").exists()
    words = (place / "programs" / "docker.words").read_text()
    assert "label=com.docker.compose.project=otelbridge" in words
    (place / "kept").rename(place / ".env")
    assert cli.main(["init", "--rotate", "SALT", "--force"]) == 1
    assert cli.main(["init", "--rotate", "REDIS_AUTH"]) == 0


def test_an_engine_that_does_not_answer_is_no_obstacle(place: Path):
    """A Docker client without its daemon knows no volumes."""
    program(place, "docker", "echo cannot connect >&2; exit 1")
    assert cli.main(["init"]) == 0


def test_no_secret_is_in_another_program_s_words_or_environment(
    place: Path, langfuse: str, monkeypatch: pytest.MonkeyPatch
):
    """What `ps` and /proc show of git and docker."""
    for name in ("git", "docker", "podman"):
        (place / "programs" / name).unlink(missing_ok=True)
        program(place, name, f'echo "$0 $@" >> "{place}/seen"; export >> "{place}/seen"; exit 128')
    give(monkeypatch, SECRET)
    assert cli.main(existing(langfuse)) == 0
    seen = (place / "seen").read_text()
    assert "check-ignore" in seen
    assert "volume ls" in seen
    assert not [name for name, value in values().items() if BY_NAME[name].secret and value in seen]


def test_print_env_writes_nothing(capsys: pytest.CaptureFixture[str]):
    """Without a file it is refused; with one it prints lines that a shell takes."""
    assert cli.main(["init", "--print-env"]) == 1
    assert "Run: otelbridge init" in capsys.readouterr().err
    assert cli.main(["init"]) == 0
    before = Path(".env").stat().st_mtime_ns
    capsys.readouterr()
    assert cli.main(["init", "--print-env", "--service", "check out"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0] == "export OTEL_SERVICE_NAME='check out'"
    assert "export OTEL_EXPORTER_OTLP_ENDPOINT=http://localhost:4318" in lines
    assert not [line for line in lines if "SECRET" in line]
    assert Path(".env").stat().st_mtime_ns == before


def test_printed_variables_configure_otelbridge(capsys: pytest.CaptureFixture[str]):
    """What is printed is what `Settings` takes, without a warning."""
    assert cli.main(["init"]) == 0
    capsys.readouterr()
    assert cli.main(["init", "--print-env", "dotenv", "--json", "--direct"]) == 0
    variables: dict[str, Any] = json.loads(capsys.readouterr().out)
    settings = Settings.from_env(variables)
    assert settings.warnings == ()
    assert settings.langfuse.configured
    assert settings.export == "direct"


def test_a_person_is_asked_and_the_key_is_not_shown(place: Path, langfuse: str):
    """At a terminal: which Langfuse, its address, its keys; the secret one without echo."""
    dialogue = [("Which?", "2"), ("address?", langfuse), ("Public key", PUBLIC),
                ("Secret key", SECRET)]  # fmt: skip
    terminal, other_end = pty.openpty()
    process = subprocess.Popen(
        [sys.executable, "-m", "otelbridge", "init"],
        stdin=other_end, stdout=other_end, stderr=other_end, start_new_session=True,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
    )  # fmt: skip
    os.close(other_end)
    shown = ""
    deadline = time.monotonic() + DEADLINE_SECONDS
    with contextlib.suppress(OSError):  # the terminal ends with the command
        while time.monotonic() < deadline:
            if not select.select([terminal], [], [], 0.1)[0]:
                continue
            shown += os.read(terminal, 4096).decode()
            if dialogue and dialogue[0][0] in shown:
                os.write(terminal, dialogue.pop(0)[1].encode() + b"\n")
    os.close(terminal)
    assert process.wait(DEADLINE_SECONDS) == 0, shown
    assert SECRET not in shown
    assert values(place / ".env")["LANGFUSE_PROJECT_ID"] == "p-17"
