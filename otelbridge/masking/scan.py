"""One text while it is searched: what several detectors need of it, worked out once and late.

A text without a secret is the usual case, so everything starts with tests that run at the speed of
`memchr`: pieces of text, runs of digits, words too long for prose. Detectors (`numbers`,
`secrets`) read a `Scan` and give pairs of offsets into its text.
"""

from __future__ import annotations

import bisect
import re
import string
from collections.abc import Callable, Iterator
from typing import Final

Offsets = tuple[int, int]

#: Between groups of digits: spaces, signs, dots, brackets, slashes.
SEPARATORS: Final = " .+\\-()/\u00a0\u2010-\u2013"
_DIGIT_RUN: Final = re.compile(rf"[0-9][0-9{SEPARATORS}]{{5,}}[0-9]")
#: The shortest text with a known key's prefix.
LONG_WORD: Final = 15
_WORD_BYTES: Final = (string.ascii_letters + string.digits + "_-").encode()
_word_table = bytes(0x61 if byte in _WORD_BYTES else 0x20 for byte in range(256))
#: Longer than every prefix of a key (a webhook's host and path).
_IN_FRONT: Final = 64
#: ISO dates, with the hour if a blank stands between.
_DATE: Final = re.compile(
    r"(?:19|20)[0-9]{2}([-./])(?:0[1-9]|1[0-2])\1(?:0[1-9]|[12][0-9]|3[01])(?: [0-2][0-9])?"
)
_LONG_RUN: Final = b"a" * LONG_WORD
#: Characters of text that is quoted once more: escapes of JSON and of programs, ASCII in a URL.
_ESCAPE: Final = re.compile(r"\\(?:u[0-9a-fA-F]{4}|[nrtbf\"'/\\])|%[0-7][0-9A-Fa-f]")
_ESCAPED: Final = {"n": "\n", "r": "\r", "t": "\t", "b": "\b", "f": "\f"}


class Scan:
    r"""A text and what is known about it.

    Attributes:
        text: What is searched: the given text with its escapes (`\n`, `\u0040`, `%40`) undone;
            `original` gives back the offsets.
        lower: The text in lower case, each character at its place.
        runs: Where seven or more digits and separators stand in a row; no plain dates.
        long_words: Words of letters, digits, `_` and `-` too long for most prose.
    """

    def __init__(self, text: str) -> None:
        self.text = text
        #: Where a piece of the searched text begins, where it comes from, and its length there;
        #: pieces without an escape are as long as they were.
        self._pieces: list[tuple[int, int, int]] = []
        if ("\\" in text or "%" in text) and _ESCAPE.search(text) is not None:
            self._undo_escapes(text)
        self.lower = _lower(self.text)
        self.runs = _digit_runs(self.text)
        self.long_words = _long_words(self.text)

    def _undo_escapes(self, text: str) -> None:
        parts: list[str] = []
        size = done = 0
        for match in _ESCAPE.finditer(text):
            start, end = match.span()
            self._pieces += ((size, done, start - done), (size + start - done, start, end - start))
            parts += (text[done:start], _unescaped(match[0]))
            size += start - done + 1
            done = end
        self._pieces.append((size, done, len(text) - done))
        parts.append(text[done:])
        self.text = "".join(parts)

    def original(self, start: int, end: int) -> Offsets:
        """Offsets of the searched text in the given one."""
        if not self._pieces:
            return start, end
        return self._place(start)[0], self._place(end - 1)[1]

    def _place(self, offset: int) -> Offsets:
        """Where the character at an offset begins and ends in the given text."""
        index = bisect.bisect_right(self._pieces, offset, key=lambda piece: piece[0]) - 1
        begin, source, length = self._pieces[index]
        if index % 2:  # every other piece is an escape
            return source, source + length
        return source + offset - begin, source + offset - begin + 1

    @property
    def keys_text(self) -> str:
        """The long words with what stands in front of them: where a known key must be."""
        text = self.text
        return "\n".join([text[max(0, start - _IN_FRONT) : end] for start, end in self.long_words])

    def before(self, start: int, characters: int = 24) -> str:
        """What stands in front of an offset on its line, in lower case."""
        # A line only: values are searched together, a line each (`TextMasker`).
        return self.lower[max(0, start - characters) : start].rpartition("\n")[2]


def _lower(text: str) -> str:
    lower = text.lower()
    if len(lower) == len(text):
        return lower
    return "".join([c.lower() if len(c.lower()) == 1 else c for c in text])


def _digit_runs(text: str) -> list[Offsets]:
    return [
        match.span() for match in _DIGIT_RUN.finditer(text) if _DATE.fullmatch(match[0]) is None
    ]


def _long_words(text: str) -> list[Offsets]:
    # One byte a character, whatever it is, so that offsets stay.
    words = text.encode("latin-1", "replace").translate(_word_table)
    found: list[Offsets] = []
    start = words.find(_LONG_RUN)
    while start >= 0:
        end = words.find(b" ", start)
        end = len(words) if end < 0 else end
        found.append((start, end))
        start = words.find(_LONG_RUN, end)
    return found


def _unescaped(escape: str) -> str:
    if escape[0] == "%" or escape[1] == "u":
        return chr(int(escape.lstrip("%\\u"), 16))
    return _ESCAPED.get(escape[1], escape[1])


def in_runs(
    pattern: re.Pattern[str],
    scan: Scan,
    accept: Callable[[Scan, re.Match[str]], int | bool],
    *,
    margin: int = 0,
) -> Iterator[Offsets]:
    """Accepted matches of a bounded pattern in and around (`margin`) the runs of digits.

    `accept` answers False, True, or the offset where the match had better end. After a match that
    is not accepted the search goes on one character later, so that a number that failed its check
    does not hide the one that begins inside it.
    """
    text, done = scan.text, 0
    for start, end in scan.runs:
        position = max(done, start - margin)
        limit = min(len(text), end + margin + 2)
        while (match := pattern.search(text, position, limit)) is not None:
            answer = accept(scan, match)
            if answer is False:
                position = match.start() + 1
            else:
                position = done = match.end() if answer is True else answer
                yield match.start(), done
