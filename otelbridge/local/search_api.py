"""Tempo's search, tag and metrics endpoints over the local store: what Grafana's Explore asks.

Routes only: `search_params` reads the parameters, `query` and `tags` answer, `search_json` writes
Tempo's JSON. Refusals are plain text with Tempo's status; what the lint has to say of a query goes
into a `Warning` header, which no client needs to read.
"""

from __future__ import annotations

import functools
import time
from collections.abc import Callable
from typing import Any, Final, Literal, TypeAlias

from starlette.requests import Request
from starlette.responses import JSONResponse, PlainTextResponse, Response
from starlette.routing import Route

from otelbridge.local import query, search_json, search_params, tags
from otelbridge.local.query import Compat
from otelbridge.local.search_params import ParameterError
from otelbridge.local.traceql import lint, parser
from otelbridge.local.traceql.errors import TraceQLError

#: A search without an end looks this far ahead, for senders whose clocks are ahead.
_FUTURE_SECONDS: Final = 3600
_MAX_WARNINGS: Final = 5
#: Names and values may be asked of any range: an editor sends the dashboard's.
_ANY_RANGE: Final = 2**64
Endpoint: TypeAlias = Literal["search", "metrics"]


def search_routes(store: Any, compat: Compat = "clean") -> list[Route]:
    """The routes; `compat` is what a request without the parameter `compat` gets."""

    def mode(request: Request) -> Compat:
        given = request.query_params.get("compat", compat)
        if given not in ("clean", "tempo"):
            raise ParameterError(f'invalid compat: "{given}" is neither "clean" nor "tempo"')
        return "tempo" if given == "tempo" else "clean"

    def search(request: Request) -> Response:
        given = search_params.search_parameters(request.query_params)
        end_s = given.end_s or int(time.time()) + _FUTURE_SECONDS
        answer = query.search(
            store, given.query, start_s=given.start_s, end_s=end_s, limit=given.limit,
            spss=given.spss, compat=mode(request),
        )  # fmt: skip
        return _json(search_json.dumped(search_json.search(answer)), store, given.query, "search")

    def query_range(request: Request) -> Response:
        given = search_params.metrics_parameters(
            request.query_params, time.time_ns(), with_step=True
        )
        answer = query.query_range(
            store, given.query, start_ns=given.start_ns, end_ns=given.end_ns,
            step_ns=given.step_ns, exemplars=True, compat=mode(request),
        )  # fmt: skip
        return _json(search_json.query_range(answer), store, given.query, "metrics")

    def query_instant(request: Request) -> Response:
        given = search_params.metrics_parameters(
            request.query_params, time.time_ns(), with_step=False
        )
        answer = query.query_instant(
            store, given.query, start_ns=given.start_ns, end_ns=given.end_ns, compat=mode(request)
        )
        body = search_json.dumped(search_json.query_instant(answer))
        return _json(body, store, given.query, "metrics")

    return [
        _route("/api/search", search),
        _route("/api/metrics/query_range", query_range, "metrics_text"),
        _route("/api/metrics/query", query_instant, "metrics_text"),
        *_tag_routes(store),
    ]


def _tag_routes(store: Any) -> list[Route]:
    def names_v2(request: Request) -> Response:
        scope = request.query_params.get("scope") or "none"
        if scope not in (*tags.SCOPES, "none", "intrinsic"):
            raise ParameterError(f"invalid scope: {scope}")
        scopes = tags.SCOPES if scope == "none" else tuple(s for s in tags.SCOPES if s == scope)
        limit = search_params.tag_limit(request.query_params)
        window = search_params.window(request.query_params, _ANY_RANGE)
        found = tags.names(store, scopes, request.query_params.get("q", ""), window)
        listed = [(name, keys) for name, keys in found.items() if keys]
        if scope in ("none", "intrinsic"):
            listed.append(("intrinsic", list(tags.INTRINSICS)))
        body = [{"name": name, "tags": keys[: limit or None]} for name, keys in listed]
        return JSONResponse({"scopes": body, "metrics": {}})

    def names_v1(request: Request) -> Response:
        window = search_params.window(request.query_params, _ANY_RANGE)
        found = tags.names(store, tags.SCOPES, request.query_params.get("q", ""), window)
        keys = sorted({key for listed in found.values() for key in listed})
        limit = search_params.tag_limit(request.query_params)
        return JSONResponse({"tagNames": keys[: limit or None], "metrics": {}})

    def values_v2(request: Request) -> Response:
        window = search_params.window(request.query_params, _ANY_RANGE)
        limit = search_params.tag_limit(request.query_params)
        found = tags.values(
            store, request.path_params["tag"], request.query_params.get("q", ""), window
        )
        body = [
            {"type": kind, "value": text} if text else {"type": kind}
            for kind, text in found[: limit or None]
        ]
        return JSONResponse({"tagValues": body, "metrics": {}})

    def values_v1(request: Request) -> Response:
        limit = search_params.tag_limit(request.query_params)
        found = tags.values_of_any_scope(store, request.path_params["tag"])
        return JSONResponse({"tagValues": found[: limit or None], "metrics": {}})

    return [
        _route("/api/v2/search/tags", names_v2),
        _route("/api/search/tags", names_v1),
        _route("/api/v2/search/tag/{tag:path}/values", values_v2),
        _route("/api/search/tag/{tag:path}/values", values_v1),
    ]


def _route(
    path: str, handler: Callable[[Request], Response], error_text: str = "search_text"
) -> Route:
    """A route whose refusals are Tempo's 400 answers; a POST is taken by its URL, as Tempo does."""

    def answer(request: Request) -> Response:
        try:
            return handler(request)
        except TraceQLError as error:
            return PlainTextResponse(_printable(getattr(error, error_text)), 400)
        except (ParameterError, tags.UnknownTagError) as error:
            return PlainTextResponse(_printable(str(error)), 400)

    return Route(path, answer, methods=["GET", "POST"])


def _json(body: str, store: Any, text: str, endpoint: Endpoint) -> Response:
    response = Response(body, media_type="application/json")
    stored = frozenset(store.catalog()) if hasattr(store, "catalog") else None
    for warning in _warnings(text, endpoint, stored):
        response.headers.append("Warning", warning)
    return response


@functools.lru_cache(maxsize=256)  # dashboards ask the same again and again
def _warnings(
    text: str, endpoint: Endpoint, stored: frozenset[tuple[str, str, str]] | None
) -> tuple[str, ...]:
    """What the lint says of a query, as RFC 9111 `Warning` values: code 299, ASCII only."""
    if not text:
        return ()
    types: dict[tuple[str, str], set[str]] | None = None
    if stored is not None:
        types = {}
        for scope, key, kind in stored:
            types.setdefault((scope, key), set()).add(kind)
    found = lint.lint(parser.parse(text), endpoint=endpoint, stored=types)
    traps = [one for one in found if one.level == "warning"]
    return tuple(map(_warning, traps[:_MAX_WARNINGS]))


def _warning(found: lint.Lint) -> str:
    message = f"{found.code} at {found.pos}: {found.message} Instead: {found.instead}"
    message = " ".join(message.split()).replace("\\", "\\\\").replace('"', '\\"')
    return f'299 otelbridge "{message.encode("ascii", "replace").decode("ascii")}"'


def _printable(text: str) -> str:
    """Text that can be sent: lone surrogates of the query cannot."""
    return text.encode("utf-8", "replace").decode("utf-8")
