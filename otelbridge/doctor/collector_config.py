"""Reads a Collector's configuration file and names what breaks the fan-out in it.

Works on any Collector configuration, not only on otelbridge's: exporters are taken for Langfuse's
or Tempo's by their address and name. `${env:NAME}` and `${NAME:-default}` are filled in from the
environment given. Needs PyYAML, which the `otelbridge` package does not; without it one note says
so. Limits: one file, no `--config` merging, no `confmap` providers other than `env`.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, Final
from urllib.parse import urlsplit

from otelbridge.doctor.findings import Finding
from otelbridge.doctor.table import finding
from otelbridge.endpoints import LANGFUSE_OTEL_PATH, shown
from otelbridge.semconv import LLM_PARENT

_VARIABLE: Final = re.compile(r"\$\{(?:env:)?([A-Za-z_]\w*)(?::-([^${}]*))?\}")  # innermost
_GRPC_KINDS: Final = ("otlp", "otlp_grpc")
_HTTP_KINDS: Final = ("otlphttp", "otlp_http")
_LANGFUSE_PARTS: Final = ("langfuse", LANGFUSE_OTEL_PATH)


def check_file(path: Path, environment: Mapping[str, str]) -> Iterator[Finding]:
    """Findings about one configuration file."""
    try:
        import yaml
    except ModuleNotFoundError:
        yield finding(
            "collector-config-unread", f"{path} was not read: PyYAML is not installed.",
            fix="pip install pyyaml",
        )  # fmt: skip
        return
    try:
        config = yaml.safe_load(path.read_text(encoding="utf-8"))
        exporters = config["exporters"]
        pipelines = config["service"]["pipelines"]
        traces = {k: v for k, v in pipelines.items() if k.partition("/")[0] == "traces"}
        found = list(_problems(config, exporters, traces, environment))
    except OSError as error:
        yield finding("collector-config-bad", f"{path} cannot be read: {error.strerror}.")
        return
    except (yaml.YAMLError, KeyError, TypeError, AttributeError) as error:
        detail = " ".join(str(error).split())[:200]
        yield finding("collector-config-bad", f"{path} is no Collector configuration.", detail)
        return
    yield from found
    if not found:
        yield finding("collector-config-ok", f"{path} has both branches as they should be.")


def _problems(
    config: Mapping[str, Any],
    exporters: Mapping[str, Any],
    traces: Mapping[str, Any],
    environment: Mapping[str, str],
) -> Iterator[Finding]:
    used = {name for pipeline in traces.values() for name in pipeline.get("exporters", ())}
    langfuse = {n: exporters.get(n) or {} for n in used if _is_langfuse(n, exporters.get(n))}
    if not langfuse:
        yield finding("collector-no-langfuse", "No pipeline of traces exports to Langfuse.")
    if len(langfuse) > 1:
        yield finding(
            "duplicate-langfuse-route",
            f"{len(langfuse)} exporters send to Langfuse.", ", ".join(sorted(langfuse)),
        )  # fmt: skip
    for name, exporter in langfuse.items():
        yield from _langfuse_exporter(name, exporter, config, environment)
        yield from _langfuse_pipelines(name, traces, config)
    for name, pipeline in traces.items():
        to_tempo = any("tempo" in item for item in pipeline.get("exporters", ()))
        if to_tempo and not any(map(_removes_content, _texts(pipeline, config))):
            yield finding(
                "collector-content-to-tempo",
                f"Pipeline {name} sends prompts and answers to Tempo as they are.",
                f"processors: {', '.join(_reach(pipeline, config)) or 'none'}",
            )


def _is_langfuse(name: str, exporter: Any) -> bool:
    kind = name.partition("/")[0]
    if kind not in _GRPC_KINDS + _HTTP_KINDS:
        return False
    endpoint = str((exporter or {}).get("endpoint", "")) + str(
        (exporter or {}).get("traces_endpoint", "")
    )
    return any(part in (name + endpoint).lower() for part in _LANGFUSE_PARTS)


def _langfuse_exporter(
    name: str, exporter: Mapping[str, Any], config: Mapping[str, Any], env: Mapping[str, str]
) -> Iterator[Finding]:
    kind = name.partition("/")[0]
    if kind in _GRPC_KINDS:
        yield finding(
            "collector-langfuse-grpc",
            f"Exporter {name} speaks gRPC, which Langfuse does not.",
            fix="Use otlp_http with endpoint https://<host>/api/public/otel.",
        )
        return
    full = exporter.get("traces_endpoint")
    endpoint = _filled(str(full or exporter.get("endpoint", "")), env)
    path = urlsplit(endpoint).path.rstrip("/")
    right = LANGFUSE_OTEL_PATH + ("/v1/traces" if full else "")
    if not path.endswith(right):
        yield finding(
            "collector-langfuse-path",
            f"Exporter {name} posts to a path where Langfuse takes nothing.",
            f"endpoint {shown(endpoint)}",
            f"{'traces_endpoint' if full else 'endpoint'}: https://<host>{right}",
        )
    if exporter.get("compression") not in (None, "none", "gzip", ""):
        yield finding(
            "collector-langfuse-compression",
            f"Exporter {name} uses {exporter['compression']}, which Langfuse does not undo.",
        )
    yield from _login(name, exporter, config, env)


def _login(
    name: str, exporter: Mapping[str, Any], config: Mapping[str, Any], env: Mapping[str, str]
) -> Iterator[Finding]:
    headers = {str(k).lower(): str(v) for k, v in (exporter.get("headers") or {}).items()}
    header = headers.get("authorization")
    authenticator = (exporter.get("auth") or {}).get("authenticator")
    client = ((config.get("extensions") or {}).get(authenticator) or {}).get("client_auth")
    texts = [header] if header is not None else []
    if isinstance(client, Mapping):
        texts = [str(client.get("username", "")), str(client.get("password", ""))]
    elif header is None and not authenticator:
        yield finding("collector-langfuse-no-auth", f"Exporter {name} sends no Authorization.")
        return
    for text in texts:
        missing = [
            match[1]
            for match in _VARIABLE.finditer(text)
            if not env.get(match[1], "").strip() and not match[2]
        ]
        if missing or not _filled(text, env).removeprefix("Basic").strip():
            which = ", ".join(missing) or "nothing in it"
            yield finding(
                "collector-langfuse-no-auth",
                f"Exporter {name} would send an empty login: {which} has no value.",
            )
            return


def _langfuse_pipelines(
    name: str, traces: Mapping[str, Any], config: Mapping[str, Any]
) -> Iterator[Finding]:
    for pipeline_name, pipeline in traces.items():
        if name not in pipeline.get("exporters", ()):
            continue
        reach = _reach(pipeline, config)
        filters = [item for item in reach if item.partition("/")[0] == "filter"]
        dropping = [f for f in filters if "gen_ai" in _text(config, f) or "llm" in f]
        if not dropping:
            yield finding(
                "collector-unfiltered",
                f"Pipeline {pipeline_name} sends every span to Langfuse, not only LLM work.",
                f"processors: {', '.join(reach) or 'none'}",
            )
        elif not any(LLM_PARENT in text for text in _texts(pipeline, config)):
            yield finding(
                "collector-orphans",
                f"Pipeline {pipeline_name} drops spans for Langfuse and leaves their children "
                "without a parent: traces have no root, no name, no input and output.",
                f"processors: {', '.join(reach)}",
            )


def _reach(pipeline: Mapping[str, Any], config: Mapping[str, Any]) -> list[str]:
    """Processors on the way into a pipeline, those of the pipelines behind its connectors too."""
    connectors = set(config.get("connectors") or ())
    names = [str(item) for item in pipeline.get("processors") or ()]
    sources = connectors & set(pipeline.get("receivers") or ())
    for other in config["service"]["pipelines"].values():
        if sources & set(other.get("exporters") or ()):
            names = [*(str(item) for item in other.get("processors") or ()), *names]
    return names


def _texts(pipeline: Mapping[str, Any], config: Mapping[str, Any]) -> list[str]:
    return [_text(config, name) for name in _reach(pipeline, config)]


def _removes_content(text: str) -> bool:
    """Whether a processor takes gen_ai attributes away; which ones is not judged."""
    return "gen_ai" in text and bool(re.search(r"delete|keep_|redact|allowed_keys", text))


def _text(config: Mapping[str, Any], processor: str) -> str:
    return repr((config.get("processors") or {}).get(processor) or {})


def _filled(text: str, environment: Mapping[str, str]) -> str:
    for _ in range(text.count("${")):  # a default may hold another variable
        text = _VARIABLE.sub(lambda m: environment.get(m[1], "").strip() or m[2] or "", text)
    return text
