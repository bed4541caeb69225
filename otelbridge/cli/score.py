"""`otelbridge score <name> <value>`: judge a trace, a span, a session or a request from a shell.

The same score as by `otelbridge.score`: Langfuse gets it, and the Collector its span. Exit status:
0 Langfuse has it, 1 it waits in the spool or its request is not known, 2 usage or configuration.
Unlike there a `--trace` that is no trace id is an error, not a request id.
"""

from __future__ import annotations

import argparse
import json
import logging
import re
import sys
from typing import Any

from otelbridge import provider, request_ids
from otelbridge.errors import ConfigError, OtelbridgeError
from otelbridge.langfuse import scores
from otelbridge.langfuse.resolving import Resolver, UnansweredError
from otelbridge.langfuse.score_body import DATA_TYPES
from otelbridge.links import parse_span_id, parse_trace_id
from otelbridge.settings import Settings

_WAIT_SECONDS = 10.0
_UUID = re.compile(r"[0-9a-fA-F]{8}(-[0-9a-fA-F]{4}){3}-[0-9a-fA-F]{12}")


def add_parser(subparsers: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Add `score` to the command line."""
    parser = subparsers.add_parser(
        "score",
        help="judge a trace, a span, a session or a request",
        description="Judge a trace, a span, a session or a request; a repeat overwrites.",
        epilog="Exit status: 0 Langfuse has it, 1 it waits in the spool or its request is not "
        "known, 2 usage or configuration.",
    )
    parser.add_argument("name", help="name of the score, such as user_rating")
    parser.add_argument("value", help="a number, true, false, or a category")
    target = parser.add_mutually_exclusive_group(required=True)
    target.add_argument("--trace", metavar="ID", help="trace id, 32 hexadecimal digits")
    target.add_argument("--request", metavar="ID", help="request id, as in X-Request-ID")
    target.add_argument("--session", metavar="ID", help="session id")
    parser.add_argument("--span", metavar="ID", help="a span of --trace, 16 hexadecimal digits")
    parser.add_argument("--comment", metavar="TEXT")
    parser.add_argument(
        "--type", metavar="TYPE", type=str.upper, choices=DATA_TYPES,
        help=f"{', '.join(DATA_TYPES)}; by default what the value is",
    )  # fmt: skip
    parser.add_argument("--source", default="", metavar="NAME", help="who judges, if several do")
    parser.add_argument(
        "--wait", type=float, default=_WAIT_SECONDS, metavar="SECONDS",
        help=f"for Langfuse's answer (default: {_WAIT_SECONDS:g})",
    )  # fmt: skip
    parser.add_argument("--json", action="store_true", help="one JSON object")
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    """Score; see the module for the exit status.

    Raises:
        ConfigError: settings that cannot be used, or no keys of Langfuse.
        OtelbridgeError: a target that is none.
    """
    _check_target(args)
    settings = Settings.from_env()
    if not settings.langfuse.configured:
        missing = settings.langfuse.missing_keys or ("LANGFUSE_ENABLED",)
        raise ConfigError(missing[0], "", "the keys of a Langfuse project", "Scores need them.")
    logging.getLogger("otelbridge").setLevel(logging.WARNING)
    provider.configure(settings, instrument=False)
    try:
        if args.request and (problem := _unknown(settings, args.request)):
            return _answer(args, "", problem)
        return _give(args)
    finally:
        provider.shutdown(min(args.wait, settings.shutdown_timeout_seconds))


def _check_target(args: argparse.Namespace) -> None:
    if args.span and not args.trace:
        raise OtelbridgeError("--span is a span of --trace ID; give both")
    try:
        if args.trace:
            is_uuid = _UUID.fullmatch(args.trace.strip())
            args.trace = parse_trace_id(args.trace.replace("-", "") if is_uuid else args.trace)
        if args.span:
            args.span = parse_span_id(args.span)
    except ValueError as error:
        hint = "" if args.span else ". A request id goes behind --request."
        raise OtelbridgeError(f"{error}{hint}") from None


def _unknown(settings: Settings, request_id: str) -> str:
    """Find the trace of a request; why that failed, empty when it did not."""
    try:
        trace_id = Resolver(settings).find(request_id)
    except UnansweredError:
        return "no store answered where the trace of this request is"
    if trace_id is None:
        return f"no trace of the request {request_id} is known"
    request_ids.remember(request_id, trace_id, "")
    return ""


def _give(args: argparse.Namespace) -> int:
    try:
        made = scores.score(
            args.name, _value(args.value, args.type), trace_id=args.trace,
            request_id=args.request, session_id=args.session, span_id=args.span,
            comment=args.comment, data_type=args.type, source=args.source,
        )  # fmt: skip
    except ValueError as error:
        print(f"otelbridge score: {error}", file=sys.stderr)
        return 2
    if not made:
        _answer(args, "", "this value or target cannot be scored")
        return 2
    sent = scores.flush_scores(args.wait)
    waits = "" if sent else "Langfuse did not take it; it waits in the spool"
    return _answer(args, made, waits)


def _value(text: str, data_type: str | None) -> float | str | bool:
    """The value of a word of the command line."""
    if data_type in ("CATEGORICAL", "TEXT", "CORRECTION"):
        return text
    if text.lower() in ("true", "false"):
        return text.lower() == "true"
    try:
        return float(text)
    except ValueError:
        return text


def _answer(args: argparse.Namespace, made: str, problem: str) -> int:
    if args.json:
        told: dict[str, Any] = {"id": made or None, "delivered": not problem, "problem": problem}
        print(json.dumps(told))
    elif made:
        print(made)
    if problem:
        print(f"otelbridge score: {problem}", file=sys.stderr)
    return 1 if problem else 0
