"""`otelbridge local`: Tempo and a Langfuse preview in one process, in the foreground.

The work is `otelbridge.local.server`, imported only here inside `run`, so that help is fast and a
missing extra is named. Ends cleanly on SIGINT and SIGTERM: what was accepted is stored.
"""

from __future__ import annotations

import argparse
import gc
import json
import logging
import re
import signal
import sys
import threading
from pathlib import Path
from typing import TYPE_CHECKING, Final

from otelbridge.errors import DependencyError
from otelbridge.settings import Settings
from otelbridge.span_rules import Pages

if TYPE_CHECKING:
    from otelbridge.local.server import LocalServer

_SECONDS: Final = {"s": 1, "m": 60, "h": 3600, "d": 86400}
_BYTES: Final = {"": 1, "KiB": 1024, "MiB": 1024**2, "GiB": 1024**3, "TiB": 1024**4}
#: Packages of the `local` extra.
_EXTRA: Final = frozenset({"duckdb", "starlette", "uvicorn", "grpc", "google", "opentelemetry"})
_MAX_PORT: Final = 65535
#: Of the garbage collector: spans make many objects and no cycles, and the default threshold of
#: 700 costs a tenth of the ingest. Set here and not in the server, which others embed.
_GC_THRESHOLDS: Final = (50_000, 20, 20)
#: How long a thread may keep the interpreter while another waits: a query beside ingest.
_SWITCH_SECONDS: Final = 0.001


def add_parser(subparsers: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Add `local` to the command line."""
    parser = subparsers.add_parser(
        "local",
        help="receive OTLP on this machine, answer as Tempo, preview what Langfuse gets",
        description="Receive OTLP, answer as Grafana Tempo and preview what Langfuse gets.",
        epilog="Beside a Collector on this machine: --otlp-http 14318 --otlp-grpc 14317.",
    )
    for flag, port, what in (
        ("--otlp-http", 4318, "OTLP over HTTP"),
        ("--otlp-grpc", 4317, "OTLP over gRPC"),
        ("--tempo", 3200, "Tempo's API"),
        ("--langfuse", 3100, "the Langfuse preview"),
    ):
        parser.add_argument(
            flag,
            type=_port,
            default=port,
            metavar="PORT",
            help=f"port of {what} (default: {port}; 0 picks a free one)",
        )
    parser.add_argument(
        "--host", default="127.0.0.1", help="address to listen on (default: 127.0.0.1)"
    )
    place = parser.add_mutually_exclusive_group()
    place.add_argument(
        "--data", type=Path, metavar="DIR", help=f"data directory (default: {_SHOWN_DIRECTORY})"
    )
    place.add_argument("--memory", action="store_true", help="keep spans in memory only")
    parser.add_argument(
        "--retention",
        type=_age_seconds,
        default="72h",
        metavar="AGE",
        help="forget traces this long after arrival: 90m, 72h, 7d or off (default: 72h)",
    )
    parser.add_argument(
        "--max-bytes",
        type=_size_bytes,
        default="2GiB",
        metavar="SIZE",
        help="forget the oldest traces above this size: 500MiB, 2GiB or off (default: 2GiB)",
    )
    parser.add_argument(
        "--project-id", default="local", help="project id of the preview (default: local)"
    )
    parser.add_argument("--langfuse-public-key", default="pk-lf-local", metavar="KEY")
    parser.add_argument("--langfuse-secret-key", default="sk-lf-local", metavar="KEY")
    parser.add_argument(
        "--no-raw-preview",
        action="store_true",
        help="only the preview's own intake feeds the preview, not spans from the OTLP ports",
    )
    parser.add_argument(
        "--compat",
        choices=("clean", "tempo"),
        default="clean",
        help="TraceQL where Tempo's own answer is a trap: the clean one, or Tempo's "
        "(default: clean)",
    )
    parser.add_argument("--json", action="store_true", help="addresses as one line of JSON")
    parser.set_defaults(run=run)


_SHOWN_DIRECTORY: Final = "~/.local/state/otelbridge/local"


def run(args: argparse.Namespace) -> int:
    """Serve until SIGINT or SIGTERM.

    Raises:
        DependencyError: the `local` extra is not installed.
        ConfigError, StoreError: a port or the data directory cannot be used.
    """
    logging.basicConfig(level=logging.WARNING, format="%(levelname)s %(message)s")
    directory = None if args.memory else args.data or Path(_SHOWN_DIRECTORY).expanduser()
    stop = threading.Event()
    server = _server(args, directory)
    gc.set_threshold(*_GC_THRESHOLDS)
    sys.setswitchinterval(_SWITCH_SECONDS)
    previous = {
        number: signal.signal(number, lambda *_: stop.set())
        for number in (signal.SIGINT, signal.SIGTERM)
    }
    try:
        with server:
            _announce(server, directory, as_json=args.json)
            stop.wait()
            if not args.json:
                print("otelbridge local: stopping", flush=True)
    finally:
        for number, handler in previous.items():
            signal.signal(number, handler)
    return 0


def _server(args: argparse.Namespace, directory: Path | None) -> LocalServer:
    try:
        from otelbridge.local.langfuse_preview import Project
        from otelbridge.local.server import LocalServer, Ports
        from otelbridge.local.store.retention import Limits
    except ModuleNotFoundError as error:
        if (error.name or "").partition(".")[0] not in _EXTRA:
            raise
        raise DependencyError(
            f"`otelbridge local` needs the package {error.name!r}: pip install 'otelbridge[local]'"
        ) from error
    return LocalServer(
        Ports(args.otlp_http, args.otlp_grpc, args.tempo, args.langfuse),
        directory=directory,
        limits=Limits(args.retention, args.max_bytes),
        project=Project(args.project_id, args.langfuse_public_key, args.langfuse_secret_key),
        host=args.host,
        preview_raw=not args.no_raw_preview,
        compat=args.compat,
        grafana=_grafana(),
    )


def _grafana() -> Pages:
    """Where links of the preview lead; none unless OTELBRIDGE_GRAFANA_URL is set."""
    settings = Settings.from_env()
    return Pages(grafana_url=settings.grafana_url or "", grafana_links=settings.grafana_links)


def _announce(server: LocalServer, directory: Path | None, *, as_json: bool) -> None:
    """Print the chosen addresses; a program that waits for them reads one line of JSON."""
    project = server.project
    if as_json:
        shown = {
            **server.addresses(),
            "langfuse_project_id": project.project_id,
            "langfuse_public_key": project.public_key,
            "data": None if directory is None else str(directory),
        }
        print(json.dumps(shown), flush=True)
        return
    place = "in memory, gone at exit" if directory is None else str(directory)
    print(
        f"otelbridge local listens\n"
        f"  OTLP/HTTP         {server.otlp_http_url}\n"
        f"  OTLP/gRPC         {server.otlp_grpc_endpoint}\n"
        f"  Tempo API         {server.tempo_url}\n"
        f"  Langfuse preview  {server.langfuse_url}  "
        f"(project {project.project_id}, public key {project.public_key})\n"
        f"  data              {place}\n"
        "Stop with Ctrl-C.",
        flush=True,
    )
    if server.host not in ("127.0.0.1", "::1", "localhost"):
        print(
            f"otelbridge local: anyone who reaches {server.host} can write spans and read traces",
            file=sys.stderr,
        )


def _port(text: str) -> int:
    if not text.isascii() or not text.isdigit() or int(text) > _MAX_PORT:
        raise argparse.ArgumentTypeError(f"{text!r} is no port; use 0 to {_MAX_PORT}")
    return int(text)


def _age_seconds(text: str) -> float | None:
    if text == "off":
        return None
    found = re.fullmatch(r"(\d+(?:\.\d+)?)([smhd])", text)
    if found is None or float(found[1]) <= 0:
        raise argparse.ArgumentTypeError(f"{text!r} is no age; use for example 90m, 72h, 7d or off")
    return float(found[1]) * _SECONDS[found[2]]


def _size_bytes(text: str) -> int | None:
    if text == "off":
        return None
    found = re.fullmatch(r"(\d+)\s*([KMGT]iB)?", text)
    if found is None or int(found[1]) <= 0:
        raise argparse.ArgumentTypeError(
            f"{text!r} is no size; use bytes, or for example 500MiB, 2GiB or off"
        )
    return int(found[1]) * _BYTES[found[2] or ""]
