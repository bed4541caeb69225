"""How Grafana reads an address of Explore, restated, and what a person then sees.

After public/app/features/explore/hooks/useStateSync/migrators/v1.ts of grafana/grafana 13.x: what
has another type than expected is replaced by a default, without a word.
"""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from typing import Any
from urllib.parse import parse_qs, urlsplit

DEFAULT_RANGE = ("now-1h", "now")
_KEY = re.compile(r"(?=.*[a-z])[0-9a-z]{3}", re.ASCII)


@dataclass(frozen=True)
class Pane:
    """The one pane of an address of Explore."""

    path: str
    datasource: str | None
    queries: list[dict[str, Any]]
    time_range: tuple[str, str]
    span_id: str | None


def opened(url: str) -> Pane:
    """What Explore opens for an address; fails for several panes or a key that it would change."""
    parts = urlsplit(url)
    query = parse_qs(parts.query, strict_parsing=True)
    assert query["schemaVersion"] == ["1"]
    assert query["orgId"] == ["1"]
    ((key, pane),) = json.loads(query["panes"][0]).items()
    assert _KEY.fullmatch(key), "Grafana would rename the pane"
    assert pane.keys() <= {"datasource", "queries", "range", "panelsState"}, "dropped by Grafana"
    begin, end = (pane.get("range", {}).get(name) for name in ("from", "to"))
    known = isinstance(begin, str) and isinstance(end, str)
    source = pane.get("datasource")
    return Pane(
        path=parts.path,
        datasource=source if isinstance(source, str) else None,
        queries=pane["queries"] if isinstance(pane.get("queries"), list) else [],
        time_range=(begin, end) if known else DEFAULT_RANGE,
        span_id=pane.get("panelsState", {}).get("trace", {}).get("spanId"),
    )
