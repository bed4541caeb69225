"""`otelbridge query '<TraceQL>'`: search traces, or plot a metrics query, at any Tempo.

Asks over HTTP, so that Tempo and `otelbridge local` are the same to it; what can be said of a
refused or surprising query is said here too when the `local` extra is installed. Neighbours:
`_matches` and `_plot` draw, `_examples` has the named queries. Exit status: 0 something matched,
1 nothing did, 2 no answer (bad usage, refused query, no Tempo).
"""

from __future__ import annotations

import argparse
import http.client
import json
import re
import sys
import time
import urllib.error
import urllib.parse
import urllib.request
from dataclasses import dataclass
from typing import Any, Final

from otelbridge.cli._cells import YELLOW, clean, paint
from otelbridge.cli._examples import EXAMPLES
from otelbridge.cli._matches import render_matches
from otelbridge.cli._plot import render_series
from otelbridge.errors import OtelbridgeError
from otelbridge.settings import Settings

_TIMEOUT_SECONDS: Final = 60.0
_LOOPBACK: Final = frozenset({"localhost", "127.0.0.1", "::1"})
_UNITS: Final = {"s": 1, "m": 60, "h": 3600, "d": 86400, "w": 604800}
#: A span that a clock running ahead has dated is found too.
_AHEAD_SECONDS: Final = 60
_PLOT_STEPS: Final = 60
_STEPS: Final = (1, 2, 5, 10, 15, 30, 60, 120, 300, 600, 900, 1800, 3600, 7200, 21600, 43200, 86400)
_METRICS: Final = re.compile(
    r"\|\s*(rate|compare|(?:count|min|max|avg|sum|quantile|histogram)_over_time)\s*\("
)
_WARNING: Final = re.compile(r'299 \S+ "((?:[^"\\]|\\.)*)"')


@dataclass(frozen=True, slots=True)
class _Reply:
    status: int
    warnings: list[str]
    text: str


@dataclass(frozen=True, slots=True)
class _Known:
    """What is known of a query before it is asked."""

    metrics: str = ""
    names_can_be_added: bool = False
    warnings: tuple[str, ...] = ()
    refusal: str = ""


def add_parser(subparsers: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Add `query` to the command line."""
    parser = subparsers.add_parser(
        "query",
        help="search traces, or plot a metrics query, with TraceQL",
        description="Ask a Tempo, or `otelbridge local`, in TraceQL.",
        epilog="Exit status: 0 something matched, 1 nothing did, 2 no answer: usage, a refused "
        "query, no Tempo.",
    )
    parser.add_argument("query", nargs="?", help="TraceQL, in single quotes for the shell")
    parser.add_argument(
        "--example", metavar="NAME", help="ask a named query; `--example list` shows them"
    )
    parser.add_argument(
        "--tempo",
        "--tempo-url",
        metavar="URL",
        help="Tempo's address (default: OTELBRIDGE_TEMPO_URL)",
    )
    parser.add_argument(
        "--since", type=_seconds, default="1h", metavar="AGE",
        help="how far to look back: 30m, 1h, 7d (default: 1h)",
    )  # fmt: skip
    parser.add_argument(
        "--limit", type=_positive, default=20, metavar="N", help="traces at most (default: 20)"
    )
    parser.add_argument("--spans", action="store_true", help="one line for each matched span")
    parser.add_argument(
        "--compat", choices=("clean", "tempo"),
        help="of `otelbridge local`: its own answer, or Tempo's where that is a trap",
    )  # fmt: skip
    parser.add_argument("--json", action="store_true", help="Tempo's answer as it came")
    parser.add_argument("--no-color", action="store_true", help="no colours, on a terminal either")
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    """Ask and print; see the module for the exit status."""
    if args.example == "list":
        for example in EXAMPLES.values():
            print(f"{example.name:<19} {example.what}\n{'':<19} {example.query}")
        return 0
    text = _text(args)
    settings = Settings.from_env()
    known = _look_at(text)
    base_url = args.tempo or settings.tempo_url
    reply = _get(_url(base_url, text, args, known), base_url)
    if reply.status != 200:
        raise OtelbridgeError(_refused(reply, known))
    _warn(reply.warnings or list(known.warnings), colour=_colour(args, sys.stderr))
    try:
        answer = json.loads(reply.text)
        found = (answer.get("series") if known.metrics else answer.get("traces")) or []
        if args.json:
            print(reply.text)
        elif found:
            print(_rendered(found, args, settings, known))
        matched = _has_values(found) if known.metrics else bool(found)
    except (ValueError, TypeError, AttributeError, KeyError) as error:
        raise OtelbridgeError(f"{base_url} did not answer as Tempo does ({error!r})") from error
    if not matched and not args.json:
        print("otelbridge query: nothing matches; --since looks further back", file=sys.stderr)
    return 0 if matched else 1


def _rendered(
    found: list[dict[str, Any]], args: argparse.Namespace, settings: Settings, known: _Known
) -> str:
    colour = _colour(args, sys.stdout)
    if known.metrics:
        step_ms = _step_seconds(args.since) * 1000
        end_ms = int(time.time()) * 1000 // step_ms * step_ms
        times = range(end_ms - args.since * 1000 // step_ms * step_ms, end_ms + 1, step_ms)
        return render_series(found, times, sums=known.metrics in _ADDABLE, colour=colour)
    project = settings.langfuse.project_id
    base = settings.langfuse.public_url
    link = None
    if settings.langfuse.enabled and project and base:
        start = f"{base.rstrip('/')}/project/{urllib.parse.quote(project, safe='')}/traces/"
        link = start.__add__
    return render_matches(found, spans=args.spans, link=link, colour=colour)


_ADDABLE: Final = frozenset({"count_over_time", "sum_over_time"})


def _text(args: argparse.Namespace) -> str:
    if (args.query is None) == (args.example is None):
        raise OtelbridgeError("give a query, or --example with a name: `--example list` shows them")
    if args.query is not None:
        return str(args.query)
    if args.example not in EXAMPLES:
        names = ", ".join(EXAMPLES)
        raise OtelbridgeError(f"--example {args.example!r} is not one of: {names}")
    text = EXAMPLES[args.example].query
    print(text, file=sys.stderr)
    return text


def _look_at(text: str) -> _Known:
    """The kind of a query; with the `local` extra also what the lint or the parser has to say."""
    found = _METRICS.search(text)
    metrics = found[1] if found else ""
    try:
        from otelbridge.local.traceql import lint, parser, validate
        from otelbridge.local.traceql.errors import TraceQLError

        try:
            query = parser.parse(text)
            validate.validate(query, metrics=query.metrics is not None)
        except TraceQLError as error:
            return _Known(metrics=metrics, refusal=error.at(text).render())
    except ModuleNotFoundError:
        return _Known(metrics=metrics)
    endpoint: Any = "search" if query.metrics is None else "metrics"
    return _Known(
        metrics="" if query.metrics is None else query.metrics.function,
        names_can_be_added=query.metrics is None and not query.hints and bool(text.strip()),
        warnings=tuple(
            f"{one.code} at {one.pos}: {one.message} Instead: {one.instead}"
            for one in lint.lint(query, endpoint=endpoint)
            if one.level == "warning"
        ),
    )


def _url(base_url: str, text: str, args: argparse.Namespace, known: _Known) -> str:
    now = int(time.time())
    given: dict[str, Any] = {"q": text, "start": now - args.since, "end": now}
    if known.metrics:
        path = "/api/metrics/query_range"
        given["step"] = _step_seconds(args.since)
    else:
        path = "/api/search"
        given |= {"end": now + _AHEAD_SECONDS, "limit": args.limit}
        if args.spans:
            given["spss"] = 100
            if known.names_can_be_added:
                given["q"] = f"{text}\n| select(name)"
    if args.compat:
        given["compat"] = args.compat
    return f"{base_url.rstrip('/')}{path}?{urllib.parse.urlencode(given, errors='replace')}"


def _step_seconds(since: int) -> int:
    """A round step that gives about `_PLOT_STEPS` of them; it divides the day, as stamps do."""
    return next((step for step in _STEPS if step * _PLOT_STEPS >= since), _STEPS[-1])


def _get(url: str, base_url: str) -> _Reply:
    """What is at a URL, refusals too.

    Raises:
        OtelbridgeError: nobody answers there, or the address cannot be asked.
    """
    try:
        parts = urllib.parse.urlsplit(url)
        if parts.scheme not in ("http", "https"):
            raise OtelbridgeError(
                f"--tempo must be an http:// or https:// address, not {base_url!r}"
            )
        # A proxy of the environment is for the outside, not for stores on this machine.
        proxies = urllib.request.ProxyHandler({} if parts.hostname in _LOOPBACK else None)
        headers = {"Accept": "application/json"}
        request = urllib.request.Request(url, headers=headers)  # noqa: S310 - the scheme has been checked
        opener = urllib.request.build_opener(proxies)
        with opener.open(request, timeout=_TIMEOUT_SECONDS) as reply:
            return _read(reply)
    except urllib.error.HTTPError as error:
        with error:
            return _read(error)
    except (OSError, ValueError, http.client.HTTPException) as error:
        reason = getattr(error, "reason", error)
        raise OtelbridgeError(
            f"Tempo at {base_url} cannot be read ({reason}); start one with `otelbridge local`, "
            "or name another with --tempo"
        ) from error


def _read(reply: Any) -> _Reply:
    warnings = [
        re.sub(r"\\(.)", r"\1", text)
        for header in reply.headers.get_all("Warning") or []
        for text in _WARNING.findall(header)
    ]
    return _Reply(int(reply.status), warnings, reply.read().decode("utf-8", "replace"))


def _refused(reply: _Reply, known: _Known) -> str:
    """The refusal with the place in the query, if both agree that it is one."""
    detail = "\n".join(clean(line) for line in reply.text.strip().splitlines()[:5])[:2000]
    if reply.status == 400 and known.refusal:
        return f"the query is refused: {known.refusal}"
    if reply.status == 400:
        return f"the query is refused: {detail}"
    return f"Tempo answered status {reply.status}: {detail or '(no text)'}"


def _warn(warnings: list[str], *, colour: bool) -> None:
    for warning in warnings:
        print(paint("warning:", YELLOW, colour), clean(warning), file=sys.stderr)


def _has_values(series: list[dict[str, Any]]) -> bool:
    return any(sample.get("value") for one in series for sample in one.get("samples") or [])


def _colour(args: argparse.Namespace, stream: Any) -> bool:
    return bool(stream.isatty()) and not args.no_color


def _seconds(text: str) -> int:
    found = re.fullmatch(r"([0-9]{1,9})([smhdw])", text)
    if found is None or int(found[1]) < 1:
        raise argparse.ArgumentTypeError(f"{text!r} is no age; use for example 30m, 1h or 7d")
    return int(found[1]) * _UNITS[found[2]]


def _positive(text: str) -> int:
    if not re.fullmatch(r"[0-9]{1,9}", text, re.ASCII) or int(text) < 1:
        raise argparse.ArgumentTypeError(f"{text!r} is no number above 0")
    return int(text)
