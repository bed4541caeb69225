"""Configurations with overlays for the Collector's tests, and requests that carry credentials.

Files are merged as the Collector merges several `--config` (benchmarks/_collector_faults.merged),
so that a test can start one from Python. Used by the tests of overlays, of access and of tiers.
"""

from __future__ import annotations

import ssl
import urllib.error
import urllib.request
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml

from benchmarks._collector_faults import merged
from otelbridge import collector as collector_module
from otelbridge import semconv
from tests.collector.conftest import Bench

FOLDER = collector_module.project_root() / "collector"
OVERLAYS = sorted((FOLDER / "overlays").glob("*.yaml"))
CONFIGS = ("config.yaml", "config.no-langfuse.yaml")
LLM = {semconv.GEN_AI_OPERATION_NAME: "chat", semconv.LLM_KEEP: True}


def load(path: Path) -> dict[str, Any]:
    """The content of a YAML file."""
    return yaml.safe_load(path.read_text(encoding="utf-8"))


def with_overlays(
    folder: Path, *names: str, base: str = "config.yaml", over: Mapping[str, Any] | None = None
) -> Path:
    """A file in `folder`: a configuration, overlays by name, and at last a mapping of its own."""
    config = load(FOLDER / base)
    for name in names:
        config = merged(config, load(FOLDER / "overlays" / f"{name}.yaml"))
    path = folder / f"merged-{'-'.join(names)}.yaml"
    path.write_text(yaml.safe_dump(merged(config, over or {}), width=10**6), encoding="utf-8")
    return path


def ask(
    bench: Bench,
    body: bytes,
    headers: Mapping[str, str] | None = None,
    context: ssl.SSLContext | None = None,
) -> int:
    """Status of an export request over HTTP, over https with a TLS context."""
    url = bench.collector.otlp_http_url + "/v1/traces"
    if context:
        url = url.replace("http://", "https://")
    request = urllib.request.Request(
        url, body, {"Content-Type": "application/x-protobuf", **(headers or {})}
    )
    try:
        with urllib.request.urlopen(request, timeout=10, context=context) as answer:
            return answer.status
    except urllib.error.HTTPError as error:
        error.close()
        return error.code
