"""Text and JSON cut to a bound: JSON inside, so that it stays JSON of the same shape.

What goes first: blobs in base64, then the ends of the longest texts, then the oldest messages but
the first; each leaves a note. Only where that is not enough do lists, objects and keys shrink.
`limits` applies it to spans. Values in, values out. A value of more than 16 MiB is not parsed: only
its outer brackets and a note are left of it.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Callable, Iterator
from json.encoder import encode_basestring
from typing import Any, Final

#: How long a text is: in bytes of UTF-8, or in characters (`len`).
Measure = Callable[[str], int]
_PARSED_CHARS: Final = 16 * 1024 * 1024
#: Texts are not made shorter than this while messages can go instead.
_LEAST_TEXT: Final = 1024
#: Shorter base64 is left to be cut as any text.
_BLOB_CHARS: Final = 512
_data_url = re.compile(r"data:([\w.+-]+/[\w.+-]+)?[^,]{0,200};base64,")
_base64 = re.compile(r"[A-Za-z0-9+/_\-\r\n]+={0,2}\s*")
#: Neighbours of a blob that say what it is: gen_ai semantic conventions, Anthropic, Google, OpenAI.
_MEDIA_KEYS: Final = ("mime_type", "media_type", "mimeType", "mediaType", "format")
#: The last resort: entries of each container, and the length of each text.
_PRUNINGS: Final = (
    (1024, 512), (256, 512), (128, 256), (64, 256), (32, 256), (16, 128), (8, 64), (4, 32), (2, 16),
    (1, 4),
)  # fmt: skip
_PRUNED_DEPTH: Final = 12


def utf8_bytes(text: str) -> int:
    """Bytes of the text on the wire."""
    return len(text) if text.isascii() else len(text.encode("utf-8", "replace"))


def cut(text: str, limit: int, measure: Measure = utf8_bytes) -> str:
    """The text, no longer than the limit; one within it is given back as it is.

    A JSON object, list or string becomes a shorter one, everything else loses its end. Where there
    is room, a note says how much is gone.
    """
    if measure(text) <= limit:
        return text
    done = _cut_json(text, limit, measure)
    return cut_plain(text, limit, measure) if done is None else done


def cut_plain(text: str, limit: int, measure: Measure = utf8_bytes) -> str:
    """The beginning of the text and a note, together no longer than the limit."""
    return text if measure(text) <= limit else _shortened(text, limit, measure)


def _cut_json(text: str, limit: int, measure: Measure) -> str | None:
    """The shorter JSON text; None if it is none."""
    first, last = text.lstrip()[:1], text.rstrip()[-1:]
    if first + last not in ("{}", "[]", '""'):
        return None
    if len(text) <= _PARSED_CHARS:
        for number in (None, _number):  # the second knows what Python cannot write again
            try:
                tree = json.loads(text, parse_float=number, parse_int=number, parse_constant=str)
                return _Document(tree).cut(limit, measure)
            except RecursionError:
                break
            except ValueError:
                continue
        else:
            return None
    return _Document(_stub(first, len(text))).cut(limit, measure)


def _number(text: str) -> Any:
    """A number; as text where Python would not write it as JSON again."""
    if len(text) > 1000:  # Python refuses integers of more than 4,300 digits
        return text
    value = float(text) if set(text) & set(".eE") else int(text)
    return value if isinstance(value, int) or math.isfinite(value) else text


def _stub(bracket: str, chars: int) -> Any:
    note = f"[removed: JSON of {chars} characters]"
    return {"[": [note], "{": {"removed": note}}.get(bracket, note)


def _shortened(text: str, limit: int, measure: Measure) -> str:
    longest_note = len(_cut_note(len(text)))
    noted = limit >= 2 * longest_note
    room = limit - longest_note if noted else limit
    kept = max(0, min(len(text), room))
    while kept and (size := measure(text[:kept])) > room:
        kept = min(kept - 1, kept * room // size)
    if kept and "\ud800" <= text[kept - 1] <= "\udbff":  # half of a character
        kept -= 1
    return text[:kept] + (_cut_note(len(text) - kept) if noted else "")


def _cut_note(chars: int) -> str:
    return f"... [{chars} characters cut]"


class _Document:
    """A parsed JSON text, of this class alone, which it changes."""

    def __init__(self, tree: Any) -> None:
        self._root = [tree]  # so that a text at the top has a container, too

    def cut(self, limit: int, measure: Measure) -> str:
        """The document as JSON, no longer than the limit; empty text below 2."""
        self._limit, self._measure = limit, measure
        self._least_text = min(_LEAST_TEXT, limit // 8)
        steps = (self._drop_blobs, self._shorten, self._drop_messages, self._prune)
        text = _dumps(self._root[0])  # dear for megabytes, so only after a change
        for step in steps:
            excess = measure(text) - limit
            if excess <= 0:
                return text
            if step(excess):
                text = _dumps(self._root[0])
        if measure(text) <= limit:
            return text
        empty = _dumps(type(self._root[0])())
        return empty if measure(empty) <= limit else ""

    def _excess(self) -> int:
        return self._measure(_dumps(self._root[0])) - self._limit

    def _cost(self, text: str) -> int:
        return self._measure(encode_basestring(text)) - 2

    # Each step is told by how much the document is too long, and says whether it changed it.
    def _drop_blobs(self, excess: int) -> bool:
        """The largest first, until it fits."""
        blobs = [place for place in _texts(self._root) if _is_blob(place[0][place[1]])]
        blobs.sort(key=lambda place: -len(place[0][place[1]]))
        for container, key in blobs:
            if excess <= 0:
                break
            blob = container[key]
            container[key] = marker = _blob_marker(blob, container)
            excess -= self._cost(blob) - self._cost(marker)
        return bool(blobs)

    def _shorten(self, excess: int) -> bool:
        """All texts to one length, the greatest that fits; none below `_LEAST_TEXT`."""
        costs = [(self._cost(box[key]), box, key) for box, key in _texts(self._root)]
        level = level_of([cost for cost, _, _ in costs], excess)
        if level < self._least_text:
            return False
        for cost, box, key in costs:
            if cost > level:
                box[key] = _shortened(box[key], level, self._cost)
        return True

    def _drop_messages(self, excess: int) -> bool:
        """The oldest but the first of the longest list, until short texts are enough."""
        messages = self._messages()
        if messages is None:
            return False
        sizes = [self._least_size(message) for message in messages]
        if max(sizes) > self._limit // 2:  # one of them is the trouble: it is pruned
            return False
        note = _removed_note(messages[0], len(messages))
        room = self._measure(_dumps(messages)) - excess
        room -= 2 + (self._measure(_dumps(note)) + 1 if note is not None else 0) + sizes[0]
        first_kept = len(messages)
        while first_kept > 1 and sizes[first_kept - 1] <= room:
            first_kept -= 1
            room -= sizes[first_kept]
        removed = min(first_kept, len(messages) - 1) - 1  # the last one stays
        if removed > 0:
            note = _removed_note(messages[0], removed)
            messages[1 : 1 + removed] = [note] if note is not None else []
        return self._shorten(self._excess()) or removed > 0

    def _messages(self) -> list[Any] | None:
        """The longest list at the top or in an object there."""
        tree = self._root[0]
        found = [tree]
        if isinstance(tree, dict):
            found = list(tree.values())
            for value in tree.values():
                found += value.values() if isinstance(value, dict) else ()
        lists = [value for value in found if isinstance(value, list) and len(value) > 2]
        return max(lists, key=lambda value: len(_dumps(value)), default=None)

    def _least_size(self, message: Any) -> int:
        """With all its texts at their shortest, and a comma."""
        box, least = [message], self._least_text
        costs = [self._cost(holder[key]) for holder, key in _texts(box)]
        saved = sum([cost - least for cost in costs if cost > least])
        return self._measure(_dumps(message)) - saved + 1

    def _prune(self, _: int) -> bool:
        """Fewer entries, shorter texts and keys, step by step."""
        for entries, chars in _PRUNINGS:
            self._root = [_pruned(self._root[0], entries, chars, _PRUNED_DEPTH)]
            if self._excess() <= 0:
                break
        return True


def _dumps(tree: Any) -> str:
    return json.dumps(tree, ensure_ascii=False, allow_nan=False, separators=(",", ":"))


def _texts(tree: Any) -> Iterator[tuple[Any, Any]]:
    """Container and key of each text in it; without recursion, since depth is the sender's."""
    waiting = [tree]
    while waiting:
        container = waiting.pop()
        pairs = container.items() if isinstance(container, dict) else enumerate(container)
        for key, value in list(pairs):
            if isinstance(value, str):
                yield container, key
            elif isinstance(value, dict | list):
                waiting.append(value)


def level_of(sizes: list[int], excess: int) -> int:
    """To which the largest have to shrink so that all together lose so much; below 0: cannot."""
    total = 0
    ordered = sorted(sizes, reverse=True)
    for count, size in enumerate(ordered, start=1):
        total += size
        level = (total - excess) // count
        if count == len(ordered) or level >= ordered[count]:
            return level
    return -1


def _is_blob(text: str) -> bool:
    if len(text) < _BLOB_CHARS:
        return False
    return bool(_data_url.match(text) or _base64.fullmatch(text))


def _blob_marker(blob: str, container: Any) -> str:
    found = _data_url.match(blob)
    media = found[1] if found else None
    if media is None and isinstance(container, dict):
        named = (container.get(key) for key in _MEDIA_KEYS)
        media = next((text for text in named if isinstance(text, str) and len(text) < 100), None)
    data_chars = len(blob) - (found.end() if found else 0)
    return f"[removed: {media or 'base64'}, about {data_chars * 3 // 4} bytes]"


def _removed_note(like: Any, count: int) -> Any:
    """An element that says so and looks like its neighbours; None where no shape is known."""
    text = f"[{count} removed here]"
    if isinstance(like, str):
        return text
    if not isinstance(like, dict):
        return None
    if isinstance(like.get("parts"), list):
        return {"role": "system", "parts": [{"type": "text", "content": text}]}
    if "role" in like:
        return {"role": "system", "content": text}
    if like.get("type") == "text":
        return {"type": "text", ("text" if "text" in like else "content"): text}
    return None


def _pruned(tree: Any, entries: int, chars: int, depth: int) -> Any:
    if isinstance(tree, str):
        return _shortened(tree, chars, len) if len(tree) > chars else tree
    if not isinstance(tree, dict | list):
        return tree if len(str(tree)) <= max(chars, 16) else None
    if not depth:
        return type(tree)()
    if isinstance(tree, list):
        kept = (
            tree
            if len(tree) <= entries
            else tree[: (entries + 1) // 2] + tree[len(tree) - entries // 2 :]
        )
        return [_pruned(value, entries, chars, depth - 1) for value in kept]
    return {
        key[: max(chars, 16)]: _pruned(value, entries, chars, depth - 1)
        for key, value in list(tree.items())[:entries]
    }
