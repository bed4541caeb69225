"""The `otelbridge` command: finds the subcommand, turns errors into one line and an exit status.

Each subcommand is a module with `add_parser(subparsers)` and `run(args) -> int`, imported only when
it is the one asked for, so that help and `version` start fast and do not need the packages of the
others. Exit status: 0 good, 1 the answer is no, 2 usage or configuration.
"""

from __future__ import annotations

import argparse
import importlib
import os
import sys
from collections.abc import Sequence
from typing import Final

from otelbridge._version import __version__
from otelbridge.errors import OtelbridgeError

#: Subcommand to what it does, in the order of `--help`.
COMMANDS: Final[dict[str, str]] = {
    "demo": "run services, a Collector and local stores, and show one request in both views",
    "local": "receive OTLP on this machine, answer as Tempo, preview what Langfuse gets",
    "query": "search traces, or plot a metrics query, with TraceQL",
    "trace": "print the tree of one trace",
    "link": "print the addresses of a trace in Langfuse and Grafana",
    "init": "write the stack's .env with new secrets, or keys of an existing Langfuse",
    "doctor": "look for what is wrong with this set-up, and say what to do about it",
    "score": "judge a trace, a span, a session or a request",
    "budget": "show what was spent of the budgets; exit status for cron",
    "spool": "show, send, copy or remove the spans that wait on disk",
    "prompts": "list, read, add, label and roll back the prompts of Langfuse",
    "experiment": "compare the variants of an experiment, or two runs over a dataset",
    "config": "show every variable with value and origin",
    "version": "show versions of otelbridge and the OpenTelemetry packages",
}
EXIT_NO: Final = 1
EXIT_USAGE: Final = 2
#: What a shell reports for a program ended by Ctrl-C.
EXIT_INTERRUPTED: Final = 130


def main(argv: Sequence[str] | None = None) -> int:
    """Run one subcommand.

    Args:
        argv: Words behind `otelbridge`; those of this process by default.
    Returns:
        Exit status: 0 good, 1 the answer is no, 2 usage or configuration.
    """
    words = list(sys.argv[1:] if argv is None else argv)
    try:
        args = build_parser(words).parse_args(words)
        status: int = args.run(args)
        sys.stdout.flush()
    except SystemExit as end:  # argparse: 0 after --help, 2 after bad usage
        return end.code if isinstance(end.code, int) else EXIT_USAGE
    except OtelbridgeError as error:
        print(f"otelbridge: {error}", file=sys.stderr)
        return EXIT_USAGE
    except (KeyboardInterrupt, EOFError):  # Ctrl-C, or Ctrl-D at a question
        print(file=sys.stderr)
        return EXIT_INTERRUPTED
    except BrokenPipeError:  # `otelbridge config | head`
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return EXIT_NO
    return status


def build_parser(words: Sequence[str]) -> argparse.ArgumentParser:
    """The parser, complete for the subcommand among `words`, names and help for the others."""
    parser = argparse.ArgumentParser(
        prog="otelbridge",
        description="One trace for Grafana Tempo and Langfuse.",
        epilog="Exit status: 0 good, 1 the answer is no, 2 usage or configuration.",
    )
    parser.add_argument("--version", action="version", version=f"%(prog)s {__version__}")
    parser.set_defaults(run=lambda _: _no_command(parser))
    subparsers = parser.add_subparsers(title="commands", metavar="<command>")
    chosen = next((word for word in words if not word.startswith("-")), None)
    for name, summary in COMMANDS.items():
        if name == chosen:
            _add_command(subparsers, name)
        else:
            subparsers.add_parser(name, help=summary, add_help=False)
    return parser


def _add_command(
    subparsers: argparse._SubParsersAction[argparse.ArgumentParser], name: str
) -> None:
    try:
        module = importlib.import_module(f"otelbridge.cli.{name}")
    except ModuleNotFoundError as error:
        raise _missing(name, error) from error
    module.add_parser(subparsers)


def _missing(command: str, error: ModuleNotFoundError) -> OtelbridgeError:
    package = (error.name or "").partition(".")[0]
    if package == "otelbridge":
        return OtelbridgeError(f"the command {command!r} is not part of this installation")
    return OtelbridgeError(
        f"the command {command!r} needs the package {package!r}, which is not installed. "
        f"Install it with: pip install 'otelbridge[local]'"
    )


def _no_command(parser: argparse.ArgumentParser) -> int:
    parser.print_help(sys.stderr)
    return EXIT_USAGE
