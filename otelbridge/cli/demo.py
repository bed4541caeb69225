"""`otelbridge demo`: three services, one request, two views, checked.

Starts a local store, the Collector when it is built, three services and a mock model provider;
sends a dozen requests, checks what arrived on both sides and shows one trace. The work is in
`otelbridge.demo`; this module prints.
"""

from __future__ import annotations

import argparse
import json
import shutil
import sys
import tempfile
import threading
import time
from pathlib import Path

from otelbridge.cli._tree import render_tree
from otelbridge.cli.trace import fetch_langfuse, fetch_tempo
from otelbridge.demo.processes import sigterm_as_exit
from otelbridge.demo.runner import Result, Tell, differences, drive
from otelbridge.demo.stack import Stack
from otelbridge.settings import Settings, process_environment

MAX_FINDINGS = 5  # of one check; all of them are in --json


def add_parser(subparsers: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Add `demo` to the command line."""
    parser = subparsers.add_parser(
        "demo",
        help="run services, a Collector and local stores, and show one request in both views",
        description="Run the example services as separate processes, send them a dozen requests, "
        "and check that each is one trace in both views. Nothing leaves this machine.",
        epilog="Exit status: 0 when every check holds, 1 when one fails, 2 when it cannot run.",
    )
    parser.add_argument("--keep", action="store_true", help="leave all running until Ctrl-C")
    parser.add_argument("--json", action="store_true", help="one JSON object, progress on stderr")
    parser.add_argument(
        "--no-collector", action="store_true", help="export directly even if a Collector is built"
    )
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    """Run the demo; 0 when all its checks hold, else 1.

    Raises:
        OtelbridgeError: it could not run; the message names the log.
    """
    start = time.monotonic()
    output = sys.stderr if args.json else sys.stdout

    def tell(line: str) -> None:
        print(f"[{time.monotonic() - start:5.1f} s] {line}", file=output, flush=True)

    log_dir = Path(tempfile.mkdtemp(prefix="otelbridge-demo-"))
    settings = Settings.from_env()
    stack = Stack(
        log_dir,
        process_environment(),
        tell,
        use_collector=not args.no_collector,
        collector_binary=settings.collector_binary,
    )
    good = False
    try:
        with sigterm_as_exit(), stack:
            result = drive(stack, tell)
            good = result.ok
            if args.json:
                print(json.dumps(result.as_json(), indent=2), flush=True)
            else:
                show(result, stack)
                show_commands(result, stack, args.keep)
            if not good:
                tell(f"a check failed; logs of the processes: {log_dir}")
            if args.keep:
                wait_for_interrupt(result, tell)
            tell("stopping everything")
    except BaseException:
        tell(f"stopped; logs of the processes: {log_dir}")
        raise
    if good:
        shutil.rmtree(log_dir, ignore_errors=True)
    return 0 if good else 1


def show(result: Result, stack: Stack) -> None:
    """Print the trace in both views, what differs, and the checks."""
    trace_id, local = result.shown.sent.trace_id, stack.local
    keys = (local.project.public_key, local.project.secret_key)
    views = (
        ("Tempo", fetch_tempo(local.tempo_url, trace_id)),
        ("Langfuse", fetch_langfuse(local.langfuse_url, *keys, trace_id)),
    )
    for side, nodes in views:
        title = f"{side} view of {result.shown.name!r}, trace {trace_id}"
        print("\n" + render_tree(nodes, title=title, colour=sys.stdout.isatty()))
    print("\nWhat differs, and why")
    for line in differences(result.shown):
        print(f"  - {line}")
    print("\nChecks")
    for check in result.checks:
        print(f"  {'ok    ' if check.ok else 'FAILED'}  {check.title}")
        for finding in check.findings[:MAX_FINDINGS]:
            print(f"            {finding}")
        if len(check.findings) > MAX_FINDINGS:
            print(f"            and {len(check.findings) - MAX_FINDINGS} more")
    print(flush=True)


def show_commands(result: Result, stack: Stack, kept: bool) -> None:
    """Print how to look further: while this demo runs, or how to get there."""
    trace_id, local = result.shown.sent.trace_id, stack.local
    if kept:
        print("Go on (until Ctrl-C here):")
        print(f"  otelbridge trace {trace_id} --tempo-url {local.tempo_url}")
        print(
            f"  otelbridge trace {trace_id} --view langfuse --content "
            f"--langfuse-url {local.langfuse_url}"
        )
        print(f"  {local.langfuse_url}/project/{local.project.project_id}/traces/{trace_id}")
        print(
            f"  curl -i {stack.addresses.gateway}/ask -H 'content-type: application/json' "
            "-d '{\"question\": \"Has order A-18 left?\", \"user\": \"me\", \"session\": \"s-9\"}'"
        )
    else:
        print("Go on:")
        print("  otelbridge demo --keep        leaves it running and names what to call then:")
        print("    otelbridge trace <id> --view tempo|langfuse --content --tempo-url ...")
        print(f"    http://.../project/{local.project.project_id}/traces/<id>   in a browser")
        print("  examples/services/README.md   the services by hand, a terminal each")
    print(flush=True)


def wait_for_interrupt(result: Result, tell: Tell) -> None:
    """Show the addresses and wait for Ctrl-C."""
    try:
        tell("running until Ctrl-C:")
        for name, address in result.addresses.items():
            tell(f"  {name:<10} {address}")
        threading.Event().wait()
    except KeyboardInterrupt:
        return
