"""`.env` files: read as docker compose reads them, changed in place, kept to their owner.

`data_envfile.json` holds texts and what compose-go made of them.
"""

from __future__ import annotations

import json
import os
import stat
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from otelbridge import envfile
from otelbridge.envfile import EnvFileError

RECORDED = json.loads((Path(__file__).parent / "data_envfile.json").read_text(encoding="utf-8"))
posix = pytest.mark.skipif(os.name != "posix", reason="modes and links of POSIX")


@pytest.mark.parametrize("case", RECORDED["cases"], ids=lambda case: repr(case["text"]))
def test_a_text_is_read_as_compose_reads_it(case: dict[str, Any]):
    """Quotes, comments, escapes and expressions give what compose-go gives, or are refused too."""
    if case["values"] is None:
        with pytest.raises(EnvFileError, match=r"^line \d"):
            envfile.parse(case["text"], RECORDED["environment"])
    else:
        assert envfile.parse(case["text"], RECORDED["environment"]).values == case["values"]


def test_a_byte_order_mark_is_no_part_of_a_name():
    """Editors put one in front; compose skips it."""
    assert envfile.parse("\ufeffA=1\n").values == {"A": "1"}


def test_an_error_names_the_line_and_no_value():
    """A broken line may hold a secret."""
    with pytest.raises(EnvFileError) as caught:
        envfile.parse("A=1\n\nB='sk-lf-hidden")
    assert str(caught.value).startswith("line 3:")
    assert "hidden" not in str(caught.value)


def test_values_are_filled_in_where_their_names_stand():
    """Order, comments, quotes and foreign lines stay; new names go to the end with a comment."""
    text = "# mine\nA=   # not a value\nSALT=\nB='x # y'  # why\nexport SALT_2: \"\"\n\nC=$B"
    found = envfile.parse(text)
    changed = found.with_values({"SALT": "s1", "SALT_2": "s2", "NEW": "n"}, comments={"NEW": "new"})
    assert changed == (
        "# mine\nA=   # not a value\nSALT=s1\nB='x # y'  # why\nexport SALT_2: s2\n\nC=$B\n"
        "\n# new\nNEW=n\n"
    )


def test_of_two_lines_with_one_name_the_later_one_counts_and_is_changed():
    """As compose takes it; the earlier line has no effect before and after."""
    found = envfile.parse("A=1\nA=\n")
    assert found.values == {"A": ""}
    assert found.with_values({"A": "2"}, comments={}) == "A=1\nA=2\n"


def test_windows_line_endings_stay():
    """A file with CRLF keeps them, and gets them on new lines."""
    found = envfile.parse("A=\r\nB='1'\r\n")
    assert found.with_values({"A": "x", "C": "y"}, comments={}) == "A=x\r\nB='1'\r\nC=y\r\n"


@given(st.text(max_size=40))
def test_what_is_written_is_what_is_read(value: str):
    """Any value survives a round trip, or is refused before it is written."""
    try:
        text = envfile.EnvFile("", ()).with_values({"A": value}, comments={})
    except EnvFileError:
        assert any(letter in "'\\" or not letter.isprintable() for letter in value)
    else:
        assert envfile.parse(text, {"x": "never"}).values == {"A": value}


@posix
def test_a_new_file_is_private_and_never_written_over_another(tmp_path: Path):
    """Mode 0600 whatever the umask; a file that appeared meanwhile wins."""
    path = tmp_path / ".env"
    before = os.umask(0)
    try:
        envfile.write(path, "A=1\n", replaces=None)
    finally:
        os.umask(before)
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    with pytest.raises(EnvFileError, match="appeared meanwhile"):
        envfile.write(path, "A=2\n", replaces=None)
    assert path.read_text() == "A=1\n"
    assert [child.name for child in tmp_path.iterdir()] == [".env"]


def test_a_file_that_changed_since_it_was_read_is_left_alone(tmp_path: Path):
    """An editor's save between reading and writing is not lost."""
    path = tmp_path / ".env"
    envfile.write(path, "A=1\n", replaces=None)
    envfile.write(path, "A=2\n", replaces="A=1\n")
    with pytest.raises(EnvFileError, match="changed meanwhile"):
        envfile.write(path, "A=3\n", replaces="A=1\n")
    assert path.read_text() == "A=2\n"


@posix
def test_a_change_makes_the_file_private_again(tmp_path: Path):
    """A copied example file may be readable by all while it holds nothing."""
    path = tmp_path / ".env"
    path.write_text("A=\n")
    path.chmod(0o644)
    found = envfile.read(path)
    assert found is not None
    envfile.write(path, found.with_values({"A": "1"}, comments={}), replaces=found.text)
    assert stat.S_IMODE(path.stat().st_mode) == 0o600


@posix
@pytest.mark.parametrize("mode", [0o644, 0o640, 0o604, 0o602])
def test_a_file_that_others_can_use_is_refused(tmp_path: Path, mode: int):
    """With the command that puts it right."""
    path = tmp_path / ".env"
    path.write_text("A=secret-value\n")
    path.chmod(mode)
    with pytest.raises(EnvFileError, match="chmod 600") as caught:
        envfile.read(path)
    assert "secret-value" not in str(caught.value)


@posix
def test_links_and_other_kinds_of_files_are_refused(tmp_path: Path):
    """A link could put secrets elsewhere, a pipe would wait for ever."""
    target = tmp_path / "target"
    target.write_text("A=1\n")
    target.chmod(0o600)
    link, pipe, directory = tmp_path / "link", tmp_path / "pipe", tmp_path / "directory"
    link.symlink_to(target)
    os.mkfifo(pipe)
    directory.mkdir()
    for path, words in ((link, "through which"), (pipe, "no regular"), (directory, "no regular")):
        with pytest.raises(EnvFileError, match=words):
            envfile.read(path)
    dangling = tmp_path / "dangling"
    dangling.symlink_to(tmp_path / "nowhere")
    with pytest.raises(EnvFileError, match="symbolic link"):
        envfile.read(dangling)


@pytest.mark.parametrize("content", [b"A=\xff\n", b"A=" + b"x" * envfile.MAX_BYTES])
def test_what_is_no_env_file_is_refused(tmp_path: Path, content: bytes):
    """Binary and endless files are named, not loaded."""
    path = tmp_path / ".env"
    path.write_bytes(content)
    path.chmod(0o600)
    with pytest.raises(EnvFileError, match=r"UTF-8|bytes"):
        envfile.read(path)


def test_no_file_is_none_and_no_directory_is_an_error(tmp_path: Path):
    """Reading nothing is fine, writing to nowhere is not."""
    assert envfile.read(tmp_path / "no" / ".env") is None
    with pytest.raises(EnvFileError, match="cannot be written"):
        envfile.write(tmp_path / "no" / ".env", "A=1\n", replaces=None)
