"""Reads the recorded corpus: export requests, fresh copies of them, and the table `KEYS.md`.

`<emitter>.jsonl` holds one OTLP/JSON export request a line, ids in hex, as OTLP/JSON wants them.
`python -m tests.collector.emitters.corpus` writes `KEYS.md` anew; a test holds it to the corpus.
"""

from __future__ import annotations

import base64
import json
import os
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

from google.protobuf.json_format import ParseDict
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest

from otelbridge.policy import is_content_event, is_content_key, is_gen_ai

HERE: Final = Path(__file__).resolve().parent
EMITTERS: Final = tuple(sorted(path.stem for path in HERE.glob("*.jsonl")))

#: The canaries of scenarios.py, spelled again: that file needs no import of this package, nor this
#: one of it; a test compares them.
PHRASE: Final = "quartz heron"
ORDER: Final = "QHN-7431907"
API_KEY: Final = "sk-proj-Canary0123456789abcdefABCDEF"
EMAIL: Final = "canary.person@quartz-secret.example"
PASSWORD: Final = "Hunter2Canary"
SECRETS: Final = (API_KEY, EMAIL, PASSWORD)

#: Sixteen numbers in a row: an embedding vector, which tells much of the text.
_VECTOR: Final = re.compile(r"(?:(?:\"doubleValue\": )?-?\d+(?:\.\d+)?(?:e-?\d+)?[\]}{, ]+){16}")
_ID: Final = re.compile(r'"(?:traceId|spanId|parentSpanId)":"([0-9a-f]+)"')


def lines(emitter: str) -> list[str]:
    """The recorded export requests of an emitter, as text."""
    return (HERE / f"{emitter}.jsonl").read_text(encoding="utf-8").splitlines()


def parse(line: str) -> ExportTraceServiceRequest:
    """OTLP/JSON as a message; its ids are hex where protobuf's own JSON form has base64."""
    message = json.loads(line)
    for node in _dictionaries(message):
        for key in ("traceId", "spanId", "parentSpanId"):
            if node.get(key):
                node[key] = base64.b64encode(bytes.fromhex(node[key])).decode()
    return ParseDict(message, ExportTraceServiceRequest())


def fresh(texts: list[str]) -> tuple[list[str], dict[str, str]]:
    """The requests with new ids, also where an attribute repeats one, and new id → recorded id."""
    whole = "\n".join(texts)
    renamed = {old: os.urandom(len(old) // 2).hex() for old in sorted(set(_ID.findall(whole)))}
    pattern = re.compile("|".join(renamed))
    copied = pattern.sub(lambda found: renamed[found[0]], whole)
    return copied.split("\n"), {new: old for old, new in renamed.items()}


def spans(emitter: str) -> Iterator[tuple[str, dict[str, Any]]]:
    """Scope name and span (as in OTLP/JSON) of everything recorded of an emitter."""
    for line in lines(emitter):
        for batch in json.loads(line)["resourceSpans"]:
            for scope in batch["scopeSpans"]:
                for span in scope["spans"]:
                    yield scope["scope"]["name"], span


def _dictionaries(node: Any) -> Iterator[dict[str, Any]]:
    if isinstance(node, dict):
        yield node
    for child in node.values() if isinstance(node, dict) else node:
        if isinstance(child, dict | list):
            yield from _dictionaries(child)


# -- the table of keys -----------------------------------------------------------------------------
def pairs(holder: dict[str, Any]) -> dict[str, Any]:
    """Attributes of a span, an event or a resource: key → OTLP/JSON value."""
    return {item["key"]: item["value"] for item in holder.get("attributes", [])}


def _holds(value: Any) -> str:
    """Which canaries a value holds, in words."""
    text = json.dumps(value, ensure_ascii=False)
    found = [name for name, canary in (("phrase", PHRASE), ("order", ORDER)) if canary in text]
    if any(secret in text for secret in SECRETS):
        found.append("secrets")
    if _VECTOR.search(text):
        found.append("vector")
    return ", ".join(found)


def _numbered(key: str) -> str:
    return re.sub(r"\.\d+(?=\.|$)", ".<n>", key)


def key_rows(emitter: str) -> list[tuple[str, str, str, bool, str]]:
    """Key, OTLP types, canaries held, whether a content key, scopes; in order of the key."""
    found: dict[str, tuple[set[str], set[str], set[str]]] = {}
    for scope, span in spans(emitter):
        holders = [("", span)] + [
            (f"event {event['name']}: ", event) for event in span.get("events", [])
        ]
        for prefix, holder in holders:
            for key, value in pairs(holder).items():
                types, held, scopes = found.setdefault(
                    prefix + _numbered(key), (set(), set(), set())
                )
                types.update(kind.removesuffix("Value") for kind in value)
                held.update(filter(None, _holds(value).split(", ")))
                scopes.add(scope)
    return [
        (
            key,
            "/".join(sorted(types)) or "empty",
            ", ".join(sorted(held)),
            is_content_key(key.split(": ")[-1].replace("<n>", "0"))
            or (key.startswith("event ") and is_content_event(key[6:].split(": ")[0])),
            ", ".join(sorted(scopes)),
        )
        for key, (types, held, scopes) in sorted(found.items())
    ]


def unmatched(emitter: str) -> list[tuple[str, str]]:
    """Keys with message text or tool data that the content pattern does not know."""
    return [
        (key, held)
        for key, _, held, content, _ in key_rows(emitter)
        if not content and set(held.split(", ")) & {"phrase", "order", "vector"}
    ]


def render_keys() -> str:
    """The text of `KEYS.md`."""
    text = [
        "# Attribute keys of the recorded emitters",
        "",
        "Generated by `python -m tests.collector.emitters.corpus` from the recordings. *Canaries*: "
        "`phrase` free text",
        "of message content, `order` a tool argument, `secrets` strings of the masked kinds, "
        "`vector` an embedding.",
        "*Content*: matched by",
        "`otelbridge.policy` (removed for Tempo). `<n>` is an index.",
        "",
        "## Content that the policy does not match",
        "",
        "A key here holds prompt text, documents or tool data and reaches Tempo unless a rule of "
        "the Collector",
        "other than the content pattern takes it away.",
        "",
        "| Emitter | Key | Holds |",
        "|---|---|---|",
    ]
    for emitter in EMITTERS:
        text += [f"| {emitter} | `{key}` | {held} |" for key, held in unmatched(emitter)]
    text += ["", "## Spans that no key tells to be gen_ai", "", "| Emitter | Scope | Span |"]
    text.append("|---|---|---|")
    for emitter in EMITTERS:
        unknown = {
            (scope, span["name"])
            for scope, span in spans(emitter)
            if not is_gen_ai(pairs(span)) and scope != "shop.web"
        }
        text += [f"| {emitter} | `{scope}` | `{name}` |" for scope, name in sorted(unknown)]
    for emitter in EMITTERS:
        text += ["", f"## {emitter}", "", "| Key | Type | Canaries | Content | Scope |"]
        text.append("|---|---|---|---|---|")
        text += [
            f"| `{key}` | {types} | {held} | {'yes' if content else ''} | {scopes} |"
            for key, types, held, content, scopes in key_rows(emitter)
        ]
    return "\n".join(text) + "\n"


if __name__ == "__main__":
    (HERE / "KEYS.md").write_text(render_keys(), encoding="utf-8")
