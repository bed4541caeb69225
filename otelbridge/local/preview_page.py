"""The preview's page for one trace: the tree of observations and the one that is selected.

Server-rendered HTML without scripts or outside assets, light and dark by the browser's wish. Every
value is escaped, and the response headers forbid whatever would get past that.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from html import escape
from typing import Any, Final

from otelbridge.local.nodes import observation_node
from otelbridge.local.tree import Node, Placed, arrange

HEADERS: Final = {
    "Content-Security-Policy": "default-src 'none'; style-src 'unsafe-inline'",
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Cache-Control": "no-store",
}
_STYLE: Final = """
:root{color-scheme:light dark;--line:#8884;--soft:#8881;--mark:#2563eb;--bad:#dc2626;--quiet:#777}
body{font:14px/1.5 system-ui,sans-serif;margin:0 auto;max-width:1200px;padding:16px}
h1{font-size:20px;margin:0}h2{font-size:16px;margin:24px 0 8px}
.quiet{color:var(--quiet)}code,pre{font:12.5px/1.5 ui-monospace,monospace}
dl{display:grid;grid-template-columns:max-content 1fr;gap:2px 16px;margin:8px 0}
dt{color:var(--quiet)}dd{margin:0;overflow-wrap:anywhere}
.wide{overflow-x:auto}table{border-collapse:collapse;width:100%;white-space:nowrap}
th{text-align:left;font-weight:500;color:var(--quiet)}
td,th{padding:4px 12px 4px 0;border-bottom:1px solid var(--line)}
td.n{text-align:right;font-variant-numeric:tabular-nums}
tr.on{background:var(--soft)}tr.on a{font-weight:600}a{color:var(--mark);text-decoration:none}
a:hover{text-decoration:underline}.bad{color:var(--bad)}
.type{border:1px solid var(--line);border-radius:4px;font-size:11px;padding:1px 5px}
.bar{background:var(--soft);height:8px;min-width:140px;position:relative}
.bar i{background:var(--mark);height:8px;min-width:2px;position:absolute}
pre{background:var(--soft);border:1px solid var(--line);border-radius:6px;max-height:420px;
overflow:auto;padding:10px;white-space:pre-wrap;overflow-wrap:anywhere}
"""


def trace_page(
    project_id: str, trace_id: str, observations: list[dict[str, Any]], selected_id: str
) -> str:
    """The page of a trace; without a known `selected_id` the first observation is shown."""
    by_id = {item["id"]: item for item in observations}
    placed = arrange([observation_node(item) for item in observations])
    selected = by_id.get(selected_id) or by_id[placed[0].node.span_id]
    root = by_id[placed[0].node.span_id]
    title = root["traceName"] or root["name"]
    begin_ns = min(item.node.start_ns for item in placed)
    end_ns = max(item.node.start_ns + item.node.duration_ns for item in placed)
    base = f"/project/{escape(project_id)}/traces/{escape(trace_id)}"
    rows = "".join(
        _row(item, base, begin_ns, max(1, end_ns - begin_ns), selected["id"]) for item in placed
    )
    body = (
        f"<h1>{escape(title)}</h1><div class=quiet>trace <code>{escape(trace_id)}</code></div>"
        f"{_facts(_trace_facts(observations))}<h2>Observations</h2><div class=wide><table><tr>"
        "<th>Name<th>Type<th>Service<th>Model<th>Tokens in / out<th>Cost<th>Duration<th></tr>"
        f"{rows}</table></div>{_selected(selected)}"
    )
    return _document(title, body)


def not_found(what: str, identifier: str) -> str:
    """The page for a trace or project that is not here, with what to check."""
    return _document(
        "Not found",
        f"<h1>No such {escape(what)}</h1><p>{escape(what.capitalize())} "
        f"<code>{escape(identifier)}</code> is not in this preview. Langfuse gets LLM work only: a "
        "request without it has no trace here, and spans arrive some seconds after the request.",
    )


def _row(item: Placed, base: str, begin_ns: int, total_ns: int, selected_id: str) -> str:
    node = item.node
    left = 100 * (node.start_ns - begin_ns) / total_ns
    width = 100 * node.duration_ns / total_ns
    orphan = " <span class=quiet>(parent not here)</span>" if item.orphan else ""
    failed = f" <span class=bad>{escape(node.status_message or 'error')}</span>"
    return (
        f"<tr{' class=on' if node.span_id == selected_id else ''}>"
        f'<td style="padding-left:{20 * item.depth}px">'
        f'<a href="{base}?observation={escape(node.span_id)}">{escape(node.name) or "(no name)"}'
        f"</a>{orphan}{failed if node.error else ''}"
        f"<td><span class=type>{escape(node.kind)}</span><td>{escape(node.service)}"
        f"<td>{escape(node.model)}<td class=n>{_pair(node)}<td class=n>{_cost(node.cost_usd)}"
        f"<td class=n>{node.duration_ns / 1e6:,.0f} ms"
        f'<td><div class=bar><i style="left:{left:.2f}%;width:{width:.2f}%"></i></div></tr>'
    )


def _pair(node: Node) -> str:
    if node.input_tokens is None and node.output_tokens is None:
        return ""
    return f"{node.input_tokens or 0:,} / {node.output_tokens or 0:,}"


def _cost(value: float | None) -> str:
    return "" if value is None else f"${value:.6f}"


def _trace_facts(observations: list[dict[str, Any]]) -> dict[str, str]:
    def first(key: str) -> str:
        return next((str(item[key]) for item in observations if item[key]), "")

    costs = [item["totalCost"] for item in observations if item["totalCost"] is not None]
    tags = sorted({tag for item in observations for tag in item["tags"]})
    return {
        "User": first("userId"),
        "Session": first("sessionId"),
        "Tags": ", ".join(tags),
        "Environment": first("environment"),
        "Release": first("release"),
        "Start": first("startTime"),
        "Cost": _cost(sum(costs)) if costs else "",
    }


def _selected(item: dict[str, Any]) -> str:
    usage = ", ".join(f"{key} {value:,}" for key, value in item["usageDetails"].items())
    cost = ", ".join(f"{key} {_cost(value)}" for key, value in item["costDetails"].items())
    facts = {
        "Type": item["type"],
        "Observation": item["id"],
        "Parent": item["parentObservationId"] or "none: a root",
        "Level": item["level"],
        "Message": item["statusMessage"] or "",
        "Model": item["model"] or "",
        "Parameters": json.dumps(item["modelParameters"]) if item["modelParameters"] else "",
        "Usage": usage,
        "Cost": cost,
        "Start": item["startTime"],
        "First token": item["completionStartTime"] or "",
        "End": item["endTime"],
    }
    parts = [f"<h2>{escape(item['name'])}</h2>{_facts(facts)}"]
    for heading, key in (("Input", "input"), ("Output", "output")):
        if item[key] is not None:
            parts.append(f"<h2>{heading}</h2><pre>{escape(_pretty(item[key]))}</pre>")
    metadata = json.dumps(item["metadata"], indent=2, ensure_ascii=False, default=str)
    parts.append(f"<details><summary>Metadata</summary><pre>{escape(metadata)}</pre></details>")
    return "".join(parts)


def _facts(facts: Mapping[str, str]) -> str:
    pairs = "".join(
        f"<dt>{escape(key)}</dt><dd>{escape(value)}</dd>" for key, value in facts.items() if value
    )
    return f"<dl>{pairs}</dl>"


def _pretty(text: str) -> str:
    """JSON objects and lists indented, other text as it is."""
    try:
        value = json.loads(text)
    except (ValueError, RecursionError):
        return text
    if not isinstance(value, (dict, list)):
        return text
    return json.dumps(value, indent=2, ensure_ascii=False)


def _document(title: str, body: str) -> str:
    return (
        "<!doctype html><html lang=en><head><meta charset=utf-8>"
        '<meta name=viewport content="width=device-width, initial-scale=1">'
        f"<title>{escape(title)} · otelbridge preview</title><style>{_STYLE}</style></head>"
        f"<body>{body}</body></html>"
    )
