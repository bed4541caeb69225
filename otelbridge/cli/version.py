"""`otelbridge version [--json]`: versions for a bug report, without importing the packages."""

from __future__ import annotations

import argparse
import json
import platform
from importlib import metadata
from typing import Final

from otelbridge._version import __version__

#: Packages whose versions decide how spans look; the `local` extra at the end.
PACKAGES: Final = (
    "opentelemetry-api",
    "opentelemetry-sdk",
    "opentelemetry-exporter-otlp",
    "opentelemetry-semantic-conventions",
    "opentelemetry-instrumentation",
    "opentelemetry-instrumentation-flask",
    "opentelemetry-instrumentation-httpx",
    "opentelemetry-instrumentation-threading",
    "langfuse",
    "genai-prices",
    "duckdb",
)


def add_parser(subparsers: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Add `version` to the command line."""
    parser = subparsers.add_parser(
        "version", help="show versions", description="Show versions for a bug report."
    )
    parser.add_argument("--json", action="store_true", help="one JSON object")
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    """Print the versions."""
    found = versions()
    if args.json:
        print(json.dumps(found, indent=2))
        return 0
    width = max(map(len, found))
    for name, version in found.items():
        print(f"{name:<{width}}  {version or 'not installed'}")
    return 0


def versions() -> dict[str, str | None]:
    """Name to version; None for a package that is not installed."""
    found: dict[str, str | None] = {
        "otelbridge": __version__,
        "python": platform.python_version(),
    }
    for package in PACKAGES:
        try:
            found[package] = metadata.version(package)
        except metadata.PackageNotFoundError:
            found[package] = None
    return found
