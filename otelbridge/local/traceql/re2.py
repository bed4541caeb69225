"""Whether a regular expression is one of RE2, the syntax that Tempo (Go) and DuckDB share.

Python's `re` cannot judge that: it takes look-arounds and back-references, which RE2 refuses, and
refuses Unicode classes, the end-of-text anchor and `[[:alpha:]]`. This reads the pattern once,
without recursion and without running it, and reports the first fault. Source:
golang.org/s/re2syntax.
"""

from __future__ import annotations

import re

_MAX_REPEAT = 1000
_MAX_NESTING = 1000
_REPEAT = re.compile(r"\{(0|[1-9]\d*)(,(0|[1-9]\d*)?)?\}")
_GROUP_NAME = re.compile(r"\?P?<(\w+)>")
_FLAGS = re.compile(r"\?([imsU]*)(?:-([imsU]+))?[:)]")
_HEX = re.compile(r"x(?:[0-9a-fA-F]{2}|\{([0-9a-fA-F]+)\})")
_OCTAL = re.compile(r"0[0-7]{0,2}|[1-7][0-7]{1,2}")
_PROPERTY = re.compile(r"[pP](?:\{\^?(\w+)\}|(\w))")
_POSIX_CLASS = re.compile(r"\[:\^?(\w+):\]")
_POSIX_NAMES_TEXT = """
alnum alpha ascii blank cntrl digit graph lower print punct space upper word xdigit
"""
_CATEGORIES_TEXT = """
Any C Cc Cf Co Cs L Ll Lm Lo Lt Lu M Mc Me Mn N Nd Nl No P Pc Pd Pe Pf Pi Po Ps S Sc Sk Sm So
Z Zl Zp Zs
"""
_SCRIPTS_TEXT = """
Adlam Arabic Armenian Avestan Balinese Bamum Bengali Bopomofo Brahmi Braille Buginese Buhid
Canadian_Aboriginal Carian Chakma Cham Cherokee Common Coptic Cuneiform Cypriot Cyrillic
Deseret Devanagari Egyptian_Hieroglyphs Ethiopic Georgian Glagolitic Gothic Greek Gujarati
Gurmukhi Han Hangul Hanunoo Hebrew Hiragana Imperial_Aramaic Inherited Javanese Kaithi Kannada
Katakana Kayah_Li Kharoshthi Khmer Lao Latin Lepcha Limbu Linear_A Linear_B Lisu Lycian Lydian
Malayalam Mandaic Meetei_Mayek Mongolian Myanmar New_Tai_Lue Nko Ogham Ol_Chiki Old_Italic
Old_Persian Old_South_Arabian Old_Turkic Oriya Osage Osmanya Phags_Pa Phoenician Rejang Runic
Samaritan Saurashtra Shavian Sinhala Sundanese Syloti_Nagri Syriac Tagalog Tagbanwa Tai_Le
Tai_Tham Tai_Viet Tamil Telugu Thaana Thai Tibetan Tifinagh Ugaritic Vai Yi
"""

_POSIX_NAMES = frozenset(_POSIX_NAMES_TEXT.split())
_PROPERTIES = frozenset(_CATEGORIES_TEXT.split() + _SCRIPTS_TEXT.split())


class _InvalidError(ValueError):
    pass


class _Reader:
    """One pass over a pattern."""

    def __init__(self, pattern: str) -> None:
        self.pattern = pattern
        self.at = 0
        self.names: set[str] = set()
        #: Per open group: the largest product of counted repetitions among its atoms so far.
        self.groups: list[int] = [1]
        #: The same for the last atom; 0 when there is nothing that could be repeated.
        self.atom = 0

    def run(self) -> None:
        pattern, single = self.pattern, {"(": self._open, ")": self._close, "[": self._class}
        while self.at < len(pattern):
            character = pattern[self.at]
            if character in single:
                single[character]()
            elif character == "\\":
                self._escape()
            elif character in "*+?":
                self.at += 1
                self._repeated(1)
            elif character == "{" and (found := _REPEAT.match(pattern, self.at)):
                self._counted(found)
            else:
                self.at += 1
                self._atom(0 if character == "|" else 1)
        if len(self.groups) > 1:
            raise _InvalidError("missing closing )")

    def _atom(self, product: int) -> None:
        self.atom = product
        self.groups[-1] = max(self.groups[-1], product)

    def _repeated(self, count: int) -> None:
        if not self.atom:
            raise _InvalidError("missing argument to repetition operator")
        if self.pattern.startswith("?", self.at):
            self.at += 1
        following = self.pattern[self.at : self.at + 1]
        if (following and following in "*+?") or _REPEAT.match(self.pattern, self.at):
            raise _InvalidError("invalid nested repetition operator")
        product = self.atom * max(count, 1)
        if count > 1 and product > _MAX_REPEAT:
            raise _InvalidError("invalid repeat count")
        self._atom(product)

    def _counted(self, found: re.Match[str]) -> None:
        low, open_ended, high = found.groups()
        if len(low) > 4 or len(high or "") > 4 or max(int(low), int(high or 0)) > _MAX_REPEAT:
            raise _InvalidError("invalid repeat count")
        if high and int(high) < int(low):
            raise _InvalidError("invalid repeat count")
        self.at = found.end()
        self._repeated(int(high) if open_ended and high else int(low))

    def _open(self) -> None:
        self.at += 1
        if self.pattern.startswith("?", self.at):
            if named := _GROUP_NAME.match(self.pattern, self.at):
                if named.group(1) in self.names or not named.group(1).isascii():
                    raise _InvalidError("invalid or repeated group name")
                self.names.add(named.group(1))
                self.at = named.end()
            elif flags := _FLAGS.match(self.pattern, self.at):
                self.at = flags.end()
                if flags.group().endswith(")"):
                    return  # no atom: a repetition after it means the one before
            else:
                raise _InvalidError("invalid or unsupported Perl syntax")
        if len(self.groups) > _MAX_NESTING:
            raise _InvalidError("expression nests too deeply")
        self.groups.append(1)
        self.atom = 0

    def _close(self) -> None:
        if len(self.groups) == 1:
            raise _InvalidError("unexpected )")
        self.at += 1
        self._atom(self.groups.pop())

    def _escape(self) -> None:
        following = self.pattern[self.at + 1 : self.at + 2]
        if following and following in "AzbBdDsSwW":
            self.at += 2
        elif following == "Q":
            end = self.pattern.find("\\E", self.at)
            self.at = len(self.pattern) if end < 0 else end + 2
        else:
            self._character_escape()
        self._atom(1)

    def _character_escape(self) -> int | None:
        """An escape that stands for a character (its code) or a class of them (None)."""
        pattern, start = self.pattern, self.at + 1
        following = pattern[start : start + 1]
        if found := _PROPERTY.match(pattern, start):
            name = found.group(1) or found.group(2)
            if name not in _PROPERTIES:
                raise _InvalidError("invalid character class range")
            self.at = found.end()
            return None
        if found := _HEX.match(pattern, start):
            code = int(found.group(1) or found.group()[1:], 16)
            if code > 0x10FFFF:
                raise _InvalidError("invalid escape sequence")
        elif found := _OCTAL.match(pattern, start):
            code = int(found.group(), 8)
        elif following and following in "afnrtv":
            self.at = start + 1
            return {"a": 7, "f": 12, "n": 10, "r": 13, "t": 9, "v": 11}[following]
        elif following and following.isascii() and not following.isalnum():
            self.at = start + 1
            return ord(following)
        else:
            raise _InvalidError("invalid escape sequence" if following else "trailing backslash")
        self.at = found.end()
        return code

    def _class(self) -> None:
        pattern = self.pattern
        self.at += 2 if pattern.startswith("[^", self.at) else 1
        first = True
        while first or not pattern.startswith("]", self.at):
            if self.at >= len(pattern):
                raise _InvalidError("missing closing ]")
            first = False
            if found := _POSIX_CLASS.match(pattern, self.at):
                if found.group(1) not in _POSIX_NAMES:
                    raise _InvalidError("invalid character class range")
                self.at = found.end()
                continue
            low = self._class_character()
            following = pattern[self.at + 1 : self.at + 2]
            if low is not None and pattern.startswith("-", self.at) and following not in ("", "]"):
                self.at += 1
                high = self._class_character()
                if high is None or high < low:
                    raise _InvalidError("invalid character class range")
        self.at += 1
        self._atom(1)

    def _class_character(self) -> int | None:
        following = self.pattern[self.at : self.at + 2]
        if following.startswith("\\"):
            if following[1:] and following[1:] in "dDsSwW":
                self.at += 2
                return None
            return self._character_escape()
        self.at += 1
        return ord(following[0])


def fault(pattern: str) -> str | None:
    """What is wrong with a pattern as RE2; None if nothing is."""
    try:
        _Reader(pattern).run()
    except _InvalidError as error:
        return str(error)
    return None
