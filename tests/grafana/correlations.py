"""Grafana's gate for correlation links, restated; it is not published as a package.

After public/app of grafana/grafana 13.x: explore/utils/links.ts (a link is dropped unless each
variable in any of its texts was found), correlations/transformations.ts (regex, flags `gi`, the
last match counts) and TemplateSrv's notation. It is a restatement: what it shows is that our file
is right under these rules, not that Grafana follows them.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, NamedTuple

_VARIABLE = re.compile(r"\$(\w+)|\[\[(\w+)(?::\w+)?\]\]|\$\{(\w+)(?:[.\[][^:}]+)?(?::[^}]+)?\}")


class Link(NamedTuple):
    """One link on a row: the field that it hangs on, its text and address."""

    field: str
    title: str
    href: str


def row_links(row: Mapping[str, Any], correlations: Sequence[Mapping[str, Any]]) -> list[Link]:
    """The links of one row of a frame (field name to value), from provisioned correlations."""
    found = []
    for item in correlations:
        config = item["config"]
        if config["field"] not in row:
            continue
        transformations = config.get("transformations", [])
        known = {name: value for name, value in row.items() if value is not None}
        known |= {"__value": row[config["field"]]}
        for step in transformations:
            known = _transformed(step, row, config["field"]) | known
        url, title = config["target"]["url"], item["label"]
        used = _VARIABLE.findall(" ".join(_texts([url, title, transformations])))
        if all((short or brackets or braces) in known for short, brackets, braces in used):
            found.append(Link(config["field"], _replaced(title, known), _replaced(url, known)))
    return found


def _transformed(step: Mapping[str, Any], row: Mapping[str, Any], own: str) -> dict[str, str]:
    value = row.get(step.get("field", own))
    text = value if isinstance(value, str) else as_json(value) if value is not None else ""
    assert step["type"] == "regex"
    matches = re.finditer(step["expression"], text, re.IGNORECASE)
    return {step.get("mapValue", own): match[1] or match[0] for match in matches}


def _replaced(text: str, known: Mapping[str, Any]) -> str:
    return _VARIABLE.sub(lambda match: str(known[match[1] or match[2] or match[3]]), text)


def _texts(node: Any) -> Iterator[str]:
    if isinstance(node, str):
        yield node
    elif isinstance(node, dict | list):
        for child in node.values() if isinstance(node, dict) else node:
            yield from _texts(child)


def as_json(value: Any) -> str:
    """As JSON.stringify writes it."""
    return json.dumps(value, ensure_ascii=False, separators=(",", ":"))
