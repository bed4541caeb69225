"""`otelbridge trace <id>`: the tree of one trace, from any Tempo and any Langfuse.

Neighbours: `local.nodes` reads the answers, `_tree` draws. Plain HTTP by the standard library, so
that the command needs no extra. Exit status: 0 shown, 1 not found or not reachable, 2 usage.
"""

from __future__ import annotations

import argparse
import base64
import json
import string
import sys
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Mapping
from dataclasses import asdict
from typing import Any, Final

from otelbridge.cli._tree import render_tree
from otelbridge.local.nodes import observation_node, tempo_nodes
from otelbridge.local.tree import Node
from otelbridge.settings import Settings

_TIMEOUT_SECONDS: Final = 15.0
#: The preview of `otelbridge local` with its usual port and keys, when nothing else is configured.
_LOCAL_PREVIEW: Final = ("http://127.0.0.1:3100", "pk-lf-local", "sk-lf-local")
_FIELDS: Final = "core,basic,time,io,metadata,model,usage,prompt,metrics,trace_context"
_PAGE_SIZE: Final = 1000
_MAX_PAGES: Final = 100
_LOOPBACK: Final = frozenset({"localhost", "127.0.0.1", "::1"})


class FetchError(Exception):
    """A store that does not answer, refuses the keys, or answers something else."""


class _UsageError(Exception):
    """What was asked for cannot be asked: exit status 2."""


def add_parser(subparsers: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Add `trace` to the command line."""
    parser = subparsers.add_parser(
        "trace",
        help="print the tree of one trace",
        description="Print the tree of one trace as Tempo, Langfuse or both have it.",
        epilog="Exit status: 0 shown, 1 not found or not reachable, 2 usage.",
    )
    parser.add_argument("trace_id", metavar="id", help="trace id, up to 32 hexadecimal digits")
    parser.add_argument(
        "--view",
        choices=("tempo", "langfuse", "both"),
        default="tempo",
        help="whose copy to show (default: tempo)",
    )
    parser.add_argument("--tempo-url", help="Tempo's address (default: OTELBRIDGE_TEMPO_URL)")
    parser.add_argument("--langfuse-url", help="Langfuse's address (default: LANGFUSE_HOST)")
    parser.add_argument("--langfuse-public-key", help="default: LANGFUSE_PUBLIC_KEY")
    parser.add_argument("--langfuse-secret-key", help="default: LANGFUSE_SECRET_KEY")
    parser.add_argument("--content", action="store_true", help="print input and output too")
    parser.add_argument("--no-color", action="store_true", help="no colours, on a terminal either")
    parser.add_argument("--json", action="store_true", help="one JSON object")
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    """Fetch and print; see the module for the exit status."""
    try:
        trace_id = _trace_id(args.trace_id)
        settings = Settings.from_env()
        views = ("tempo", "langfuse") if args.view == "both" else (args.view,)
        found = {view: _fetch(view, trace_id, args, settings) for view in views}
    except _UsageError as error:
        print(f"otelbridge trace: {error}", file=sys.stderr)
        return 2
    except FetchError as error:
        print(f"otelbridge trace: {error}", file=sys.stderr)
        return 1
    if args.json:
        shown = {view: [asdict(node) for node in nodes] for view, nodes in found.items()}
        print(json.dumps({"trace_id": trace_id, "views": shown}, ensure_ascii=False, default=str))
    else:
        colour = sys.stdout.isatty() and not args.no_color
        for view, nodes in found.items():
            if nodes:
                title = f"{view} view of trace {trace_id}"
                print(render_tree(nodes, title=title, colour=colour, content=args.content))
    missing = [view for view, nodes in found.items() if not nodes]
    for view in missing:
        print(f"otelbridge trace: {_NOT_FOUND[view].format(trace_id)}", file=sys.stderr)
    return 1 if missing else 0


_NOT_FOUND: Final = {
    "tempo": (
        "Tempo has no trace {}. Spans arrive some seconds after the request (the sender's batch "
        "delay); otherwise check the id, --tempo-url and that the trace was sampled."
    ),
    "langfuse": (
        "Langfuse has no trace {}. A request without LLM work has none there; otherwise spans may "
        "take up to 30 s, and the keys must be those of the project that received them."
    ),
}


def fetch_tempo(base_url: str, trace_id: str) -> list[Node]:
    """The spans that a Tempo has of a trace; empty when it has none.

    Raises:
        FetchError: it does not answer, or not as Tempo does.
    """
    document = _get(f"{base_url.rstrip('/')}/api/v2/traces/{trace_id}", {}, "Tempo", "--tempo-url")
    return tempo_nodes(document or {})


def fetch_langfuse(base_url: str, public_key: str, secret_key: str, trace_id: str) -> list[Node]:
    """The observations that a Langfuse project has of a trace; empty when it has none.

    Asks the v2 API and falls back to GET /api/public/traces/{id}, which Langfuse v3 has instead.

    Raises:
        FetchError: it does not answer, or refuses the keys.
    """
    credentials = base64.b64encode(f"{public_key}:{secret_key}".encode()).decode("ascii")
    headers = {"Authorization": f"Basic {credentials}"}
    root = f"{base_url.rstrip('/')}/api/public"
    items: list[Any] = []
    cursor = ""
    for _ in range(_MAX_PAGES):
        query = {"traceId": trace_id, "fields": _FIELDS, "limit": str(_PAGE_SIZE)}
        if cursor:
            query["cursor"] = cursor
        url = f"{root}/v2/observations?{urllib.parse.urlencode(query)}"
        page = _get(url, headers, "Langfuse", "--langfuse-url")
        if page is None:
            trace = _get(f"{root}/traces/{trace_id}", headers, "Langfuse", "--langfuse-url") or {}
            items = trace.get("observations") or []
            break
        items += page.get("data") or []
        cursor = (page.get("meta") or {}).get("cursor") or ""
        if not cursor:
            break
    return [observation_node(item) for item in items]


def _fetch(view: str, trace_id: str, args: argparse.Namespace, settings: Settings) -> list[Node]:
    if view == "tempo":
        return fetch_tempo(args.tempo_url or settings.tempo_url, trace_id)
    url = args.langfuse_url or settings.langfuse.host
    public = args.langfuse_public_key or settings.langfuse.public_key
    secret = args.langfuse_secret_key or settings.langfuse.secret_key
    if not public and not secret and (url is None or _host(url) in _LOOPBACK):
        local_url, public, secret = _LOCAL_PREVIEW
        url = url or local_url
    if not url or not public or not secret:
        raise _UsageError(
            "Langfuse needs an address and both keys: set LANGFUSE_HOST, LANGFUSE_PUBLIC_KEY and "
            "LANGFUSE_SECRET_KEY, or give --langfuse-url, --langfuse-public-key and "
            "--langfuse-secret-key"
        )
    return fetch_langfuse(url, public, secret, trace_id)


def _trace_id(text: str) -> str:
    digits = text.strip().lower()
    if not 1 <= len(digits) <= 32 or not set(digits) <= set(string.hexdigits):
        raise _UsageError(f"{text!r} is no trace id; it has up to 32 hexadecimal digits")
    return digits.zfill(32)  # Tempo's search leaves leading zeros out


def _get(url: str, headers: Mapping[str, str], store: str, flag: str) -> dict[str, Any] | None:
    """The JSON object at a URL, None for 404."""
    if urllib.parse.urlsplit(url).scheme not in ("http", "https"):
        raise _UsageError(f"{flag} must be an http:// or https:// address, not {url!r}")
    request = urllib.request.Request(  # noqa: S310 - the scheme has been checked
        url, headers={"Accept": "application/json", **headers}
    )
    # A proxy of the environment is for the outside, not for stores on this machine.
    proxies = urllib.request.ProxyHandler({} if _host(url) in _LOOPBACK else None)
    opener = urllib.request.build_opener(proxies)
    where = f"{store} at {url.partition('/api/')[0]}"
    try:
        with opener.open(request, timeout=_TIMEOUT_SECONDS) as reply:
            document = json.loads(reply.read())
    except urllib.error.HTTPError as error:
        with error:
            if error.code == 404:
                return None
            if error.code in (401, 403):
                raise FetchError(f"{where} refuses the keys (status {error.code})") from error
            detail = error.read(300).decode("utf-8", "replace").strip()
        raise FetchError(f"{where} answered status {error.code}: {detail}") from error
    except (OSError, ValueError) as error:
        reason = getattr(error, "reason", error)
        raise FetchError(
            f"{where} cannot be read ({reason}); start one with `otelbridge local`, "
            f"or name another with {flag}"
        ) from error
    if not isinstance(document, dict):
        raise FetchError(f"{where} answered something other than a JSON object")
    return document


def _host(url: str) -> str:
    return urllib.parse.urlsplit(url).hostname or ""
