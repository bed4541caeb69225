"""`otelbridge link <trace id>`: the addresses of a trace in Langfuse and in Grafana.

Takes an address of either store as well and gives the other one. Neighbour: `otelbridge.links`
makes them from the settings; neither store is asked whether it has the trace. Exit status: 0 both
printed, 1 one of them is not configured, 2 usage.
"""

from __future__ import annotations

import argparse
import json
import shlex
import sys
from datetime import UTC, datetime
from typing import Final

from otelbridge import links
from otelbridge.settings import Settings

_NAMES: Final = {"langfuse": "Langfuse", "grafana": "Grafana"}
_ADVICE: Final = {
    "LANGFUSE_PUBLIC_URL": "Langfuse as a browser reaches it",
    "LANGFUSE_PROJECT_ID": "the project's id, as in the addresses of its pages",
    "OTELBRIDGE_GRAFANA_URL": "Grafana as a browser reaches it",
}
#: The variable that grafana/provisioning/datasources/otelbridge.yaml reads.
_GRAFANA_VARIABLE: Final = "OTELBRIDGE_LANGFUSE_TRACE_LINK"


def add_parser(subparsers: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Add `link` to the command line."""
    parser = subparsers.add_parser(
        "link",
        help="print the addresses of a trace in Langfuse and Grafana",
        description="Print the addresses of a trace in Langfuse and in Grafana.",
        epilog="Exit status: 0 both printed, 1 one of them is not configured, 2 usage.",
    )
    what = parser.add_mutually_exclusive_group(required=True)
    what.add_argument(
        "trace", nargs="?", metavar="id", help="trace id, up to 32 hexadecimal digits, or an "
        "address of the trace in Langfuse or Grafana",
    )  # fmt: skip
    what.add_argument(
        "--print-env", action="store_true",
        help="print the line that Grafana's environment needs for links from exemplars",
    )  # fmt: skip
    parser.add_argument("--span", metavar="ID", help="a span of it, 16 hexadecimal digits")
    parser.add_argument(
        "--start", metavar="TIME", type=_nanoseconds,
        help="when it started, in ISO 8601, for Grafana's time range (default: the last 14 days)",
    )  # fmt: skip
    parser.add_argument("--json", action="store_true", help="one JSON object")
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    """Print; see the module for the exit status.

    Raises:
        ConfigError: a value that cannot be used.
    """
    pages = links.pages_of(Settings.from_env())
    missing = links.missing_settings(pages)
    if args.print_env:
        return _print_env(links.grafana_trace_link(pages), missing)
    try:
        trace_id, span_id = _ids(args.trace, args.span)
    except ValueError as error:
        print(f"otelbridge link: {error}", file=sys.stderr)
        return 2
    if "://" not in args.trace and len(args.trace.strip()) < len(trace_id):
        print(
            f"otelbridge link: {args.trace.strip()} is taken as {trace_id}; an id that was cut "
            f"short leads nowhere",
            file=sys.stderr,
        )
    found = links.links(pages, trace_id, span_id, args.start)
    if args.json:
        print(json.dumps({**found.as_dict(), "missing": missing}))
    else:
        for name, url in (("langfuse", found.langfuse_url), ("grafana", found.grafana_url)):
            if url:
                print(f"{_NAMES[name]:<8}  {url}")
    _say(missing)
    return 1 if missing else 0


def _ids(trace: str, span: str | None) -> tuple[str, str | None]:
    if "://" in trace:
        trace_id, span_id = links.ids_of(trace)
    else:
        trace_id, span_id = links.parse_trace_id(trace), None
    return trace_id, span_id if span is None else links.parse_span_id(span)


def _print_env(value: str | None, missing: dict[str, tuple[str, ...]]) -> int:
    """Quoted, since shells and compose's .env files would replace `${...}`."""
    if value is None:
        _say({"langfuse": missing["langfuse"]})
        return 1
    print(f"{_GRAFANA_VARIABLE}={shlex.quote(value)}")
    return 0


def _say(missing: dict[str, tuple[str, ...]]) -> None:
    for store, names in missing.items():
        wanted = " and ".join(f"{name} ({_ADVICE[name]})" for name in names)
        print(f"otelbridge link: no address in {_NAMES[store]}; set {wanted}", file=sys.stderr)


def _nanoseconds(text: str) -> int:
    try:
        moment = datetime.fromisoformat(text)
    except ValueError:
        example = "2026-11-21T16:40:00Z"
        raise argparse.ArgumentTypeError(f"{text!r} is no time as in {example}") from None
    moment = moment if moment.tzinfo else moment.replace(tzinfo=UTC)
    return int(moment.timestamp() * 1000) * 1_000_000
