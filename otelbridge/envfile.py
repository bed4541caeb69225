"""`.env` files as docker compose reads them: parsed, filled in, and written without a race.

The grammar is that of compose-go 2.16 (`dotenv/parser.go`), except that expressions such
as `${A:-${B}}` nest once only. A change keeps order, comments and every value that is not named
in it. Reading refuses links and files that others can read; writing is atomic and leaves mode 0600.
Used by `otelbridge init` and `otelbridge doctor`; knows nothing of what the names mean.
"""

from __future__ import annotations

import contextlib
import os
import re
import stat
import tempfile
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from otelbridge.errors import OtelbridgeError

try:
    import fcntl
except ImportError:  # Windows has no advisory locks; modes mean little there as well
    fcntl = None  # type: ignore[assignment]

#: Nobody but the owner reads or writes.
PRIVATE_MODE: Final = 0o600
MAX_BYTES: Final = 1 << 20
_SPACE: Final = "\t\v\f\r \x85\xa0"
_NAME: Final = re.compile(r"[\w.\-\[\]\t\v\f\r \x85\xa0]*")
_PLAIN: Final = re.compile(r"[A-Za-z0-9_./:@%+=,~-]*", re.ASCII)
_ESCAPE: Final = re.compile(r'\\(?:[abcfnrtv$"\\]|0[0-9]{0,3})')
_ESCAPES: Final = dict(
    a="\a", b="\b", f="\f", n="\n", r="\r", t="\t", v="\v", **{"$": "$$", '"': '"', "\\": "\\"}
)
_VARIABLE: Final = re.compile(
    r"\$(?:(?P<dollar>\$)|(?P<name>[A-Za-z_]\w*)"
    r"|\{(?P<braced>[A-Za-z_]\w*)(?:(?P<rule>:?[-+?])(?P<word>(?:[^{}]|\$\{[^{}]*\})*))?\}"
    r"|(?P<bad>\{))",
    re.ASCII,
)


class EnvFileError(OtelbridgeError):
    """A `.env` file that cannot be read safely, or text that is none."""


@dataclass(frozen=True, slots=True)
class Entry:
    """One `NAME=value` of a file.

    Attributes:
        value: As compose sees it: unquoted, expressions replaced.
        line: From 1, of the name.
        start: Offset of the value's text in the file, quotes included; -1 for a name alone.
        end: Offset behind it; -1 for a name alone.
    """

    name: str
    value: str
    line: int
    start: int
    end: int


@dataclass(frozen=True, slots=True)
class EnvFile:
    """A parsed file; `text` is kept as it came."""

    text: str
    entries: tuple[Entry, ...]

    @property
    def values(self) -> dict[str, str]:
        """Name to value; of two entries with one name the later counts, as with compose."""
        return {entry.name: entry.value for entry in self.entries}

    def with_values(self, changes: Mapping[str, str], *, comments: Mapping[str, str]) -> str:
        """The text with these values: in place where a name stands, else at the end.

        Args:
            changes: Name to new value. Whether a value may be replaced is the caller's business.
            comments: Name to a comment that goes above it when it is added at the end.
        Raises:
            EnvFileError: a value that a `.env` file cannot hold.
        """
        text = self.text
        last = {
            entry.name: entry
            for entry in self.entries
            if entry.name in changes and entry.start >= 0
        }
        for entry in sorted(last.values(), key=lambda entry: entry.start, reverse=True):
            text = text[: entry.start] + quoted(entry.name, changes[entry.name]) + text[entry.end :]
        newline = "\r\n" if "\r\n" in text else "\n"
        for name, value in changes.items():
            if name in last:
                continue
            if text and not text.endswith("\n"):
                text += newline
            if name in comments:
                text += (newline if text else "") + f"# {comments[name]}{newline}"
            text += f"{name}={quoted(name, value)}{newline}"
        return text


def quoted(name: str, value: str) -> str:
    """The value as it is written: bare, or in single quotes, where `$` and `#` mean themselves.

    Raises:
        EnvFileError: quotes, backslashes or control characters, which compose, shells and other
            readers of `.env` files undo in different ways.
    """
    if _PLAIN.fullmatch(value):
        return value
    if any(letter in "'\\" or not letter.isprintable() for letter in value):
        raise EnvFileError(
            f"the value of {name} holds a quote, a backslash or a control character, which "
            f"programs read differently from a .env file; use another value"
        )
    return f"'{value}'"


def parse(text: str, environment: Mapping[str, str] | None = None) -> EnvFile:
    """The entries of a `.env` text.

    Args:
        text: With or without a byte order mark.
        environment: What `${NAME}` finds first, and where a line with a name only gets its value.
    Raises:
        EnvFileError: compose would refuse the file too; names the line, never a value.
    """
    known = dict(environment or {})
    seen: dict[str, str] = {}
    entries: list[Entry] = []
    position = 1 if text.startswith("\ufeff") else 0
    while (position := _statement(text, position)) < len(text):
        line = text.count("\n", 0, position) + 1
        name, position, assigned = _key(text, position, line)
        if not assigned:  # a name alone: passed on from the environment
            if name in known:
                entries.append(Entry(name, known[name], line, -1, -1))
            continue
        value, end, position = _value(text, position, line, {**seen, **known})
        seen[name] = value
        entries.append(Entry(name, value, line, end[0], end[1]))
    return EnvFile(text, tuple(entries))


def _statement(text: str, position: int) -> int:
    while position < len(text):
        if text[position].isspace():
            position += 1
        elif text[position] == "#":
            end = text.find("\n", position)
            position = len(text) if end < 0 else end
        else:
            break
    return position


def _key(text: str, position: int, line: int) -> tuple[str, int, bool]:
    """The name, where its value starts, and whether there is one."""
    if match := re.compile(r"export\s+").match(text, position):
        position = match.end()
    found = _NAME.match(text, position)
    end = found.end() if found else position
    stop = text[end : end + 1]
    if stop not in ("=", ":", "\n", ""):
        raise EnvFileError(f"line {line}: {stop!r} cannot stand in the name of a variable")
    name = text[position:end].rstrip()
    if " " in name or not name:
        raise EnvFileError(f"line {line}: a name without spaces and = are expected")
    if stop in ("\n", ""):
        return name, end, False
    position = end + 1
    while position < len(text) and text[position] in _SPACE:
        position += 1
    return name, position, True


def _value(
    text: str, start: int, line: int, known: Mapping[str, str]
) -> tuple[str, tuple[int, int], int]:
    """The value, the range of its text, and where the next statement may start."""
    quote = text[start : start + 1]
    if quote in ("'", '"') and quote:
        content, end = _until_quote(text, start, line)
        if quote == '"':
            content = _expand(_ESCAPE.sub(_unescape, content), known, line)
        return content, (start, end), end
    line_end = text.find("\n", start)
    line_end = len(text) if line_end < 0 else line_end
    raw = text[start:line_end].partition(" #")[0].rstrip()
    while not raw and text[start - 1] in _SPACE:  # a value goes right behind =, not behind a \r
        start -= 1
    return _expand(raw, known, line), (start, start + len(raw)), line_end


def _until_quote(text: str, start: int, line: int) -> tuple[str, int]:
    r"""The text between quotes, `\` in front of a quote undone, and the offset behind."""
    quote, content, position = text[start], [], start + 1
    while position < len(text):
        letter = text[position]
        if letter == "\\" and text[position + 1 : position + 2] == quote:
            content.append(quote)
            position += 2
            continue
        if letter == quote:
            return "".join(content), position + 1
        step = 2 if letter == "\\" else 1  # a pair is whole: the quote behind `\\\\` is an end
        content.append(text[position : position + step])
        position += step
    raise EnvFileError(f"line {line}: the value starts with {quote} and has no end")


def _unescape(match: re.Match[str]) -> str:
    code = match.group()[1:]
    if code[0] == "0":
        digits = code[1:]
        octal = re.fullmatch("[0-3][0-7]{2}", digits)  # anything else loses its zero only
        return chr(int(digits, 8)) if octal else f"\\{digits}"
    return _ESCAPES.get(code, match.group())


def _expand(value: str, known: Mapping[str, str], line: int) -> str:
    def replace(match: re.Match[str]) -> str:
        if match["dollar"]:
            return "$"
        name = match["name"] or match["braced"]
        if not name:
            raise EnvFileError(
                f"line {line}: ${{ without a variable and an end; write $$ for a dollar sign, or "
                f"use single quotes"
            )
        rule, word = match["rule"] or "", match["word"] or ""
        given = known.get(name)
        there = bool(given) if rule.startswith(":") else given is not None
        if rule.endswith("-"):
            return (given or "") if there else _expand(word, known, line)
        if rule.endswith("+"):
            return _expand(word, known, line) if there else ""
        if rule.endswith("?") and not there:
            raise EnvFileError(f"line {line}: ${{{name}}} is required and has no value")
        return given or ""

    return _VARIABLE.sub(replace, value)


# -- files -----------------------------------------------------------------------------------------
def read(path: Path, environment: Mapping[str, str] | None = None) -> EnvFile | None:
    """The file, or None when there is none.

    Raises:
        EnvFileError: a link, no regular file, too long, no UTF-8, readable by others while it has
            values, or no `.env` text.
    """
    flags = os.O_RDONLY | getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_NONBLOCK", 0)
    if path.is_symlink():
        raise EnvFileError(
            f"{path} is a symbolic link, through which secrets could land elsewhere; use a "
            f"regular file"
        )
    try:
        descriptor = os.open(path, flags)
    except FileNotFoundError:
        return None
    except OSError as error:
        raise EnvFileError(f"{path} cannot be read: {error.strerror}") from error
    status = os.fstat(descriptor)
    if not stat.S_ISREG(status.st_mode):
        os.close(descriptor)
        raise EnvFileError(f"{path} is no regular file")
    with open(descriptor, "rb") as stream:
        content = stream.read(MAX_BYTES + 1)
    if len(content) > MAX_BYTES:
        raise EnvFileError(f"{path} has more than {MAX_BYTES} bytes")
    try:
        text = content.decode("utf-8")
    except UnicodeDecodeError as error:
        raise EnvFileError(f"{path} is no UTF-8 text (byte {error.start})") from None
    try:
        found = parse(text, environment)
    except EnvFileError as error:
        raise EnvFileError(f"{path}, {error}") from None
    others = stat.S_IMODE(status.st_mode) & 0o077
    if others and os.name == "posix" and any(found.values.values()):
        raise EnvFileError(
            f"{path} can be read by others (mode {stat.S_IMODE(status.st_mode):04o}) and holds "
            f"values; run: chmod 600 {path}   and rotate secrets that others may have read"
        )
    return found


def write(path: Path, text: str, *, replaces: str | None) -> None:
    """Write the file whole or not at all, mode 0600.

    Args:
        path: Its directory must exist.
        text: The whole new content.
        replaces: The content it was made from, None for a file that did not exist.
    Raises:
        EnvFileError: the file changed or appeared meanwhile, or cannot be written.
    """
    try:
        descriptor, name = tempfile.mkstemp(prefix=".env-", dir=path.parent)  # mode 0600
        temporary = Path(name)
        try:
            with open(descriptor, "w", encoding="utf-8", newline="") as stream:
                stream.write(text)
                stream.flush()
                os.fsync(descriptor)
            with _locked(path.parent):
                _put(temporary, path, replaces)
        finally:
            temporary.unlink(missing_ok=True)
    except OSError as error:
        raise EnvFileError(f"{path} cannot be written: {error.strerror}") from error


def _put(temporary: Path, path: Path, replaces: str | None) -> None:
    if replaces is None:
        try:  # a rename alone would go over something that is there
            os.close(os.open(path, os.O_CREAT | os.O_EXCL | os.O_WRONLY, PRIVATE_MODE))
        except FileExistsError:
            raise EnvFileError(f"{path} appeared meanwhile; run the command again") from None
    elif path.is_symlink() or path.read_bytes() != replaces.encode("utf-8"):
        raise EnvFileError(f"{path} was changed meanwhile; run the command again")
    temporary.replace(path)


@contextlib.contextmanager
def _locked(directory: Path) -> Iterator[None]:
    """Between comparing and replacing, no other `otelbridge init` writes in this directory."""
    if fcntl is None:
        yield
        return
    descriptor = os.open(directory, os.O_RDONLY)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield
    finally:
        os.close(descriptor)
