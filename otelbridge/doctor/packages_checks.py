"""Checks of what is installed, what the code of the directory starts, and who else traces.

Versions come from metadata of the environment that the doctor runs in; nothing is imported. Code is
searched with expressions, in at most `_MOST_FILES` files; tests and virtual environments are not.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterator, Mapping
from importlib.metadata import distributions, entry_points
from pathlib import Path
from typing import Final

from otelbridge.doctor.findings import Check, Context, Finding
from otelbridge.doctor.table import finding

_Version = tuple[int, ...]
#: Library to the packages that each make a span for its calls. The two official ones for langchain
#: and openai do not double each other.
_LLM_INSTRUMENTATIONS: Final[dict[str, tuple[str, ...]]] = {
    library: (
        f"opentelemetry-instrumentation-{library}",
        f"opentelemetry-instrumentation-genai-{library}",
        f"openinference-instrumentation-{library}",
        *(("opentelemetry-instrumentation-openai-v2",) if library == "openai" else ()),
    )
    for library in (
        "openai",
        "anthropic",
        "langchain",
        "llamaindex",
        "bedrock",
        "vertexai",
        "google-genai",
        "mistralai",
        "cohere",
        "groq",
        "crewai",
    )
}
#: Packages that make a tracer provider of their own when they are started.
_PROVIDERS: Final = (
    "traceloop-sdk",
    "logfire",
    "openlit",
    "arize-phoenix-otel",
    "agentops",
    "mlflow-tracing",
    "mlflow",
    "opik",
    "ddtrace",
    "newrelic",
    "elastic-apm",
    "azure-monitor-opentelemetry",
    "agento11y",
)
_OWN_PROVIDER: Final = "a provider of its own"
_LANGFUSE_SDK: Final = "Langfuse's SDK"
#: Start-up calls in code: what it is, and the expression.
_STARTS: Final[tuple[tuple[str, re.Pattern[str]], ...]] = tuple(
    (name, re.compile(expression, re.MULTILINE))
    for name, expression in (
        (
            _LANGFUSE_SDK,
            r"^\s*from langfuse(?:\.(?:langchain|decorators))? import\s+"
            r"(?!.*\bLangfuseAPI\b)|\blangfuse\.Langfuse\(",
        ),
        (
            "langfuse.openai",
            r"^\s*(?:from langfuse\.openai import\b|import langfuse\.openai\b)",
        ),
        ("Traceloop", r"\bTraceloop\.init\("),
        ("Logfire", r"\blogfire\.configure\("),
        ("OpenLIT", r"\bopenlit\.init\("),
        ("Phoenix", r"^\s*from phoenix\.otel import register"),
        ("MLflow", r"\bmlflow\.\w+\.autolog\("),
        ("AgentOps", r"\bagentops\.init\("),
        ("LangSmith", r"^\s*from langsmith import .*\btraceable\b"),
        (_OWN_PROVIDER, r"^[^#\n]*\btrace\.set_tracer_provider\("),
    )
)
#: Variables that start an exporter without a line of code.
_STARTING_VARIABLES: Final = {
    "TRACELOOP_API_KEY": "Traceloop",
    "LOGFIRE_TOKEN": "Logfire",
    "PHOENIX_COLLECTOR_ENDPOINT": "Phoenix",
    "LANGSMITH_OTEL_ENABLED": "LangSmith",
    "AGENTOPS_API_KEY": "AgentOps",
    "APPLICATIONINSIGHTS_CONNECTION_STRING": "Azure Monitor",
}
_AGENTS: Final = {
    "ddtrace/bootstrap": "ddtrace",
    "newrelic/bootstrap": "New Relic",
    "elasticapm": "Elastic APM",
    "sitecustomize/appdynamics": "AppDynamics",
}
#: Import to the instrumentation without which the context ends at it.
_LIBRARIES: Final = {
    "requests": "requests",
    "aiohttp": "aiohttp-client",
    "fastapi": "fastapi",
    "django": "django",
    "tornado": "tornado",
    "celery": "celery",
    "urllib3": "urllib3",
}
_SKIPPED: Final = frozenset(
    (
        "tests",
        "test",
        "node_modules",
        "site-packages",
        "venv",
        "env",
        "build",
        "dist",
        "examples",
        "benchmarks",
        "otelbridge",
    )
)
_MOST_FILES: Final = 400
_MOST_DIRECTORIES: Final = 1000
_MOST_BYTES: Final = 300_000


def installed() -> dict[str, str]:
    """Every installed distribution, name normalised, to its version."""
    found: dict[str, str] = {}
    for item in distributions():
        name = item.metadata["Name"]  # None for the left-overs of a broken installation
        if name:
            found.setdefault(re.sub(r"[-_.]+", "-", name).lower(), item.version)
    return found


def distro_names() -> dict[str, str]:
    """Entry points `opentelemetry_distro` to the package that brings them."""
    found = entry_points(group="opentelemetry_distro")
    return {entry.name: entry.dist.name if entry.dist else "?" for entry in found}


def version(text: str) -> _Version:
    """Numbers of a version, a beta's as the last one: `0.66b1` is (0, 66, 1)."""
    return tuple(int(part) for part in re.findall(r"\d+", text.partition("+")[0])[:4])


def versions(context: Context) -> Iterator[Finding]:
    """The refuse list: combinations that are known not to work."""
    have = context.packages
    problems = [*_opentelemetry(have), *_openai(have)]
    yield from problems
    if not problems and have:
        shown = ", ".join(
            f"{name} {have[name]}"
            for name in (
                "otelbridge",
                "opentelemetry-sdk",
                "opentelemetry-semantic-conventions",
                "langfuse",
            )
            if name in have
        )
        yield finding("packages-good", "The installed versions go together.", shown)


def _opentelemetry(have: Mapping[str, str]) -> Iterator[Finding]:
    sdk = have.get("opentelemetry-sdk", "")
    flask = have.get("opentelemetry-instrumentation-flask", "")
    if sdk == "1.45.2" and flask and version(flask) < (0, 66, 2):
        yield finding(
            "sdk-flask-gap",
            "opentelemetry-sdk 1.45.2 and the Flask instrumentation do not go together.",
            f"opentelemetry-instrumentation-flask {flask}",
        )
        return
    api = have.get("opentelemetry-api", "")
    conventions = have.get("opentelemetry-semantic-conventions", "")
    if sdk and api and version(sdk)[:2] != version(api)[:2]:
        yield finding(
            "otel-versions-mixed",
            "API and SDK are of different releases.",
            f"opentelemetry-api {api}, opentelemetry-sdk {sdk}",
        )
    elif sdk and conventions and version(conventions)[1:2] != (version(sdk)[1] + 21,):
        yield finding(
            "otel-versions-mixed",
            "SDK and semantic conventions are of different releases.",
            f"opentelemetry-sdk {sdk}, conventions {conventions}",
        )
    else:
        contrib = {
            name: text
            for name, text in have.items()
            if re.fullmatch(
                r"opentelemetry-(?:instrumentation(?:-(?:flask|httpx|wsgi|threading|"
                r"requests|fastapi|asgi|django))?|util-http)",
                name,
            )
        }
        if len({version(text)[:2] for text in contrib.values()}) > 1:
            seen = ", ".join(f"{name} {text}" for name, text in sorted(contrib.items()))
            yield finding(
                "otel-versions-mixed", "Instrumentations are of different releases.", seen
            )


def _openai(have: Mapping[str, str]) -> Iterator[Finding]:
    openai, httpx = have.get("openai", ""), have.get("opentelemetry-instrumentation-httpx", "")
    if openai and version(openai) >= (3,) and (not httpx or version(httpx) < (0, 66)):
        yield finding(
            "openai-httpx2",
            f"openai {openai} uses httpx2, which nothing instruments.",
            f"opentelemetry-instrumentation-httpx {httpx or 'not installed'}",
        )
    old = have.get("opentelemetry-instrumentation-openai-v2", "")
    util = have.get("opentelemetry-util-genai", "")
    if old and util and version(old) <= (2, 4, 0) and version(util) >= (1, 2):
        yield finding(
            "genai-util-gap",
            "opentelemetry-instrumentation-openai-v2 does not import.",
            f"{old} with opentelemetry-util-genai {util}",
        )


def instrumentations(context: Context) -> Iterator[Finding]:
    """Two for one library, those that are switched off, rival distros."""
    off = {
        part.strip()
        for part in context.value("OTEL_PYTHON_DISABLED_INSTRUMENTATIONS").split(",")
        if part.strip()
    }
    for library, names in _LLM_INSTRUMENTATIONS.items():
        there = [name for name in names if name in context.packages]
        active = [
            name
            for name in there
            if library not in off and name.removeprefix("opentelemetry-instrumentation-") not in off
        ]
        if len(there) > 1 and len(active) == len(there):
            yield finding(
                "llm-instrumentations-two",
                f"Calls of {library} are traced twice.",
                ", ".join(f"{name} {context.packages[name]}" for name in there),
                f"pip uninstall {there[0]}, or the other one.",
            )
    if needed := sorted(off & {"flask", "httpx", "httpx2", "threading", "wsgi"}):
        yield finding(
            "instrumentation-disabled",
            f"Switched off: {', '.join(needed)}.",
            f"OTEL_PYTHON_DISABLED_INSTRUMENTATIONS={','.join(sorted(off))}",
        )
    for name in ("OTEL_PYTHON_DISTRO", "OTEL_PYTHON_CONFIGURATOR"):
        chosen = context.value(name)
        if chosen and chosen != "otelbridge":
            yield finding(
                "distro-rival",
                f"{name} names another than otelbridge.",
                f"{name}={chosen}",
                f"Set {name}=otelbridge, or unset it.",
            )
    others = {name: package for name, package in context.distros.items() if name != "otelbridge"}
    if others and "otelbridge" in context.distros and not context.value("OTEL_PYTHON_DISTRO"):
        yield finding(
            "distro-rival",
            "More than one distro is installed.",
            ", ".join(f"{name} ({package})" for name, package in others.items()),
        )


def rivals(context: Context) -> Iterator[Finding]:
    """Who else installs a provider or exports, by packages, variables and wrappers."""
    path = context.environment.get("PYTHONPATH", "").replace("\\", "/")
    for mark, agent in _AGENTS.items():
        if mark in path:
            yield finding(
                "provider-rival",
                f"{agent} is started before the program.",
                f"PYTHONPATH has {mark}",
            )
    if context.value("DD_TRACE_OTEL_ENABLED").lower() in ("true", "1"):
        yield finding(
            "provider-rival",
            "ddtrace installs its own provider.",
            "DD_TRACE_OTEL_ENABLED=true",
            "Unset DD_TRACE_OTEL_ENABLED.",
        )
    for name, who in _STARTING_VARIABLES.items():
        if (value := context.value(name)) and value.lower() not in ("false", "0"):
            yield finding(
                "second-exporter",
                f"{who} exports beside otelbridge.",
                f"{name} is set",
                f"Unset {name}, if {who} is not wanted.",
            )
    for name in _PROVIDERS:
        if name in context.packages:
            yield finding("provider-installed", f"{name} {context.packages[name]} is installed.")


def code(context: Context) -> Iterator[Finding]:
    """Start-up calls and imports in the Python files of the directory."""
    direct = context.value("OTELBRIDGE_EXPORT").lower() == "direct"
    sdk_exports = context.value("OTELBRIDGE_LANGFUSE_SDK_EXPORT").lower() in ("true", "1")
    told: set[str] = set()
    for path in python_files(context.directory):
        try:
            text = path.read_text(encoding="utf-8", errors="replace")
        except OSError:
            continue
        where = path.relative_to(context.directory)
        for who, expression in _STARTS:
            match = expression.search(text)
            if who == _OWN_PROVIDER and "otelbridge.configure(" in text:
                continue  # which completes it
            if who == _LANGFUSE_SDK and not sdk_exports:
                continue  # its spans leave by us
            if match and who not in told:
                told.add(who)
                line = text.count("\n", 0, match.start()) + 1
                target = (
                    "the export to Langfuse" if direct else "the Collector's branch to Langfuse"
                )
                yield finding(
                    "second-exporter", f"{who} is started beside {target}.", f"{where}:{line}"
                )
        for library, name in _LIBRARIES.items():
            package = f"opentelemetry-instrumentation-{name}"
            match = re.search(rf"^(?:import|from) {library}\b", text, re.MULTILINE)
            if (
                match
                and library not in told
                and context.packages
                and package not in context.packages
            ):
                told.add(library)
                line = text.count("\n", 0, match.start()) + 1
                yield finding(
                    "instrumentation-missing",
                    f"{library} is used without {package}.",
                    f"{where}:{line}",
                    f"pip install {package}",
                )


def python_files(directory: Path) -> Iterator[Path]:
    """Python files of an application: not its tests, environments, builds or hidden directories."""
    count = 0
    for walked, (parent, names, files) in enumerate(os.walk(directory)):
        if walked >= _MOST_DIRECTORIES:  # somebody's home
            return
        names[:] = sorted(
            name
            for name in names
            if name not in _SKIPPED
            and not name.startswith((".", "__"))
            and not (Path(parent) / name / "pyvenv.cfg").exists()
        )
        for file in sorted(files):
            path = Path(parent) / file
            if not file.endswith(".py") or path.is_symlink() or path.stat().st_size > _MOST_BYTES:
                continue
            count += 1
            if count > _MOST_FILES:
                return
            yield path


CHECKS: Final[tuple[Check, ...]] = (
    Check("versions", "packages", versions),
    Check("instrumentations", "packages", instrumentations),
    Check("rivals", "packages", rivals),
    Check("code", "packages", code),
)
