"""Replaces what was found in a text, and in the values of a JSON text without breaking it.

`TextMasker` is made from `rules.Masking` and is what `spans` calls for each value. JSON is read,
masked value by value (the names of its members count as telling names) and written again only if
something changed. Fails closed: a detector that raises costs the whole value, never a span.
"""

from __future__ import annotations

import bisect
import hashlib
import hmac
import json
from collections.abc import Callable, Mapping, Sequence
from itertools import accumulate
from typing import Any, Final

from otelbridge import _guard
from otelbridge.masking.detectors import BUILT_IN, Detector, Finding, search
from otelbridge.masking.names import Telling, is_placeholder, telling
from otelbridge.masking.secrets import has_telling_part, is_code, is_drawn

#: In place of a value that could not be searched.
FAILED: Final = "[masked:failed]"
#: What becomes of a finding or of a value.
ACTIONS: Final = ("mask", "hash", "last4", "drop", "keep")
#: JSON inside of JSON is read so deep; what is deeper is searched as text.
_JSON_DEPTH: Final = 4
#: Deeper nesting than a person or a schema makes; Python's own limit is near 1,000.
_NESTING: Final = 200
_OPENING: Final = ("{", "[", " ", "\n", "\t", "\r")
_HASH_DIGITS: Final = 16
_MARKERS: Final = {"parameter": "[masked]", "secret": "[masked:secret]"}

Action = str | Callable[[str], str]


class TextMasker:
    """Masks texts.

    Args:
        detectors: In order of precedence, those with the action `off` left out.
        actions: Kind to `mask`, `hash` or `last4`; `mask` where it is absent.
        is_allowed: Whether a found text may stay.
        salt: Key of the HMAC-SHA256 for `hash`.
    """

    def __init__(
        self,
        detectors: Sequence[Detector],
        *,
        actions: Mapping[str, str] | None = None,
        is_allowed: Callable[[str], bool] | None = None,
        salt: str = "",
    ) -> None:
        self._detectors = tuple(detectors)
        self._actions = dict(actions or {})
        self._is_allowed = is_allowed
        self._salt = salt.encode()
        self._built_in_only = all(detector in BUILT_IN for detector in detectors)
        self._names_tell = any(detector.kind == "secret" for detector in detectors)

    def suspects(self, texts: list[str]) -> set[str] | None:
        """Of many texts those that have to be looked at alone; None for all of them.

        One search over all costs a tenth of a search for each of a span's attributes.
        """
        if not self._built_in_only:
            return None
        try:
            return self._lines_with_findings(texts)
        except Exception as error:  # noqa: BLE001 - then each is looked at, and fails closed alone
            _guard.record_failure("masking", error)
            return None

    def mask(self, text: str, suspects: set[str] | None = None) -> str:
        """The text without what must not leave; the same object when there was nothing.

        Args:
            text: Any text.
            suspects: Of `suspects`, when this text was among those asked for.
        """
        if suspects is not None and text not in suspects:
            return text
        try:
            return self._masked(text, 0)
        except Exception as error:  # noqa: BLE001 - a detector of the application may raise anything
            _guard.record_failure("masking", error)
            return FAILED

    def value(self, value: Any, name: str = "", suspects: set[str] | None = None) -> Any:
        """A value of any attribute or JSON type, masked; the same object when there was nothing.

        Args:
            value: Text, a number, a sequence, a mapping; other types stay.
            name: The attribute's or member's name, which may tell what the value is.
            suspects: As for `mask`; for texts in a sequence as well.
        """
        try:
            return self._value(value, name, 0, 0, suspects)
        except Exception as error:  # noqa: BLE001 - as above; hostile mappings and sequences too
            _guard.record_failure("masking", error)
            return FAILED

    def apply(self, action: Action, text: str, kind: str = "value") -> str:
        """A whole text under an action of the rules; fails closed."""
        try:
            return action(text) if callable(action) else self._replacement(action, text, kind)
        except Exception as error:  # noqa: BLE001 - a callable of the application may raise anything
            _guard.record_failure("masking", error)
            return FAILED

    # -- one text ----------------------------------------------------------------------------------
    def _masked(self, text: str, depth: int) -> str:
        if len(text) > 1 and text[0] in _OPENING and depth < _JSON_DEPTH:
            stripped = text.strip()
            if stripped[:1] + stripped[-1:] in ("{}", "[]"):
                return self._json(text, stripped, depth)
        return self._plain(text)

    def _plain(self, text: str) -> str:
        findings = search(text, self._detectors)
        if not findings:
            return text
        parts: list[str] = []
        done = 0
        for finding in findings:
            found = text[finding.start : finding.end]
            if self._is_allowed is not None and self._is_allowed(found):
                continue
            parts += (text[done : finding.start], self._finding(finding, found))
            done = finding.end
        parts.append(text[done:])
        return "".join(parts)

    def _finding(self, finding: Finding, found: str) -> str:
        action = self._actions.get(finding.by, "mask")
        return self._replacement(action, found, finding.kind)

    def _replacement(self, action: str, text: str, kind: str) -> str:
        if action == "hash":
            digest = hmac.new(self._salt, text.encode("utf-8", "replace"), hashlib.sha256)
            return f"[hash:{kind}:{digest.hexdigest()[:_HASH_DIGITS]}]"
        if action == "last4":
            shown = [c for c in text if c.isalnum()]
            # Of a short text the last four would be most of it.
            return f"[masked:{kind}:{''.join(shown[-4:])}]" if len(shown) >= 8 else _marker(kind)
        if action == "keep":
            return text
        return _marker(kind)

    # -- JSON --------------------------------------------------------------------------------------
    def _json(self, text: str, stripped: str, depth: int) -> str:
        if self._built_in_only and not self._is_unclear(text) and not search(text, self._detectors):
            return text  # it reads the same to our detectors
        try:
            value = json.loads(stripped)
        except (ValueError, RecursionError):
            return self._plain(text)  # cut JSON, or text that begins with a bracket
        dirty = None
        if self._built_in_only:
            items: list[str] = []
            _collect(value, items)
            dirty = self._lines_with_findings(items)
        masked = self._value(value, "", depth + 1, 0, dirty)
        if masked is value:
            return text
        compact = '": ' not in stripped and '", ' not in stripped
        separators = (",", ":") if compact else (", ", ": ")
        return json.dumps(masked, ensure_ascii=stripped.isascii(), separators=separators)

    def _lines_with_findings(self, items: list[str]) -> set[str]:
        """The texts in which something is found, by one search over all; JSON may count as such.

        A line each, which is as far as a detector looks around.
        """
        unclear = {item for item in items if item[:1] in _OPENING and self._is_unclear(item)}
        clear = [item for item in items if item not in unclear] if unclear else items
        found = search("\n".join(clear), self._detectors)
        if found:
            ends = list(accumulate(len(item) + 1 for item in clear))
            for finding in found:  # which may go on over several lines, as a private key does
                unclear.add(clear[bisect.bisect_right(ends, finding.start)])
                unclear.add(clear[bisect.bisect_right(ends, finding.end - 1)])
        return unclear

    def _is_unclear(self, text: str) -> bool:
        """Whether JSON has escapes or telling names, so that it has to be read."""
        return "\\" in text or (self._names_tell and has_telling_part(text.lower()))

    def _value(
        self, value: Any, name: str, depth: int, nesting: int, dirty: set[str] | None = None
    ) -> Any:
        if isinstance(value, str):
            return self._named(value, name, depth, dirty)
        if value is None or isinstance(value, bool | float):
            return value
        if isinstance(value, int):
            return self._number(value, name)
        if nesting > _NESTING:
            return FAILED
        if isinstance(value, Mapping):
            return self._mapping(value, depth, nesting, dirty)
        if isinstance(value, bytes):
            text = value.decode("utf-8", "surrogateescape")
            masked = self._named(text, name, depth)
            return value if masked == text else masked.encode("utf-8", "surrogateescape")
        if isinstance(value, Sequence):
            items = [self._value(item, name, depth, nesting + 1, dirty) for item in value]
            if all(new is old for new, old in zip(items, value, strict=True)):
                return value
            return tuple(items) if isinstance(value, tuple) else items
        return value

    def _mapping(
        self, value: Mapping[Any, Any], depth: int, nesting: int, dirty: set[str] | None
    ) -> Any:
        masked: dict[Any, Any] = {}
        changed = False
        for key, item in value.items():
            looked_at = isinstance(key, str) and (dirty is None or key in dirty)
            new_key = self._plain(key) if looked_at else key
            name = key if isinstance(key, str) else ""
            new_item = self._value(item, name, depth, nesting + 1, dirty)
            changed = changed or new_key is not key or new_item is not item
            while new_key in masked:
                new_key = f"{new_key}'"
            masked[new_key] = new_item
        return masked if changed else value

    def _named(self, text: str, name: str, depth: int, dirty: set[str] | None = None) -> str:
        kind = telling(name) if self._names_tell and name else Telling.NO
        if kind and is_named_secret(text, name, kind) and not self._allowed(text):
            return self._replacement(self._actions.get("secret", "mask"), text, "secret")
        if dirty is not None and text not in dirty:
            return text
        return self._masked(text, depth)

    def _allowed(self, text: str) -> bool:
        return self._is_allowed is not None and self._is_allowed(text)

    def _number(self, value: int, name: str) -> Any:
        if name and self._names_tell and telling(name) is Telling.PASSWORD:
            return self._named(str(value), name, _JSON_DEPTH)
        if 10**12 <= value < 10**16:  # a card, a number of a person; larger ones are ids and stamps
            text = str(value)
            masked = self._plain(text)
            return value if masked == text else masked
        return value


def _collect(value: Any, items: list[str]) -> None:
    if isinstance(value, str):
        items.append(value)
    elif isinstance(value, dict):
        items.extend(value)
        for item in value.values():
            _collect(item, items)
    elif isinstance(value, list):
        for item in value:
            _collect(item, items)


def is_named_secret(text: str, name: str, kind: Telling) -> bool:
    """Whether a whole value under a telling name is a secret: all but placeholders and prose."""
    if not text or is_placeholder(text) or "\n" in text.strip():
        return False
    if len(text) > 4096 or text[0] in "{[":
        return False  # looked at like other text
    if kind is Telling.WEAK:
        return is_drawn(text)
    spaces = text.count(" ")
    if kind is Telling.PASSWORD:
        return spaces == 0 or (spaces < 3 and any(c.isdigit() for c in text))
    if spaces:
        return False
    return len(text) >= 6 and not is_code(text, name, quoted=True)


def _marker(kind: str) -> str:
    return _MARKERS.get(kind) or f"[masked:{kind}]"
