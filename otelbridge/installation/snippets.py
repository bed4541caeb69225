"""What a service needs of the stack, as text to paste: shell, .env, compose or Kubernetes. Pure.

In `collector` mode a service needs no secret of Langfuse: the Collector holds the keys. Keys are
printed only when asked for; compose gets references to the `.env` file instead of values.
"""

from __future__ import annotations

import json
import shlex
from collections.abc import Mapping
from typing import Final, Literal

from otelbridge import envfile
from otelbridge.installation.entries import LOCAL_HOST
from otelbridge.installation.plan import CONTAINER_HOST, url_from_here

Form = Literal["shell", "dotenv", "compose", "kubernetes"]
FORMS: Final[tuple[Form, ...]] = ("shell", "dotenv", "compose", "kubernetes")
#: OTLP/HTTP of the Collector from each place: docker-compose.yml, and a Service in the cluster.
ENDPOINTS: Final[Mapping[Form, str]] = {
    "shell": "http://localhost:4318",
    "dotenv": "http://localhost:4318",
    "compose": "http://collector:4318",
    "kubernetes": "http://otelbridge-collector:4318",
}
KEYS: Final = ("LANGFUSE_PUBLIC_KEY", "LANGFUSE_SECRET_KEY")
_PAGES: Final = ("LANGFUSE_PUBLIC_URL", "LANGFUSE_PROJECT_ID", "OTELBRIDGE_GRAFANA_URL")
_SECRET_NAME: Final = "otelbridge-langfuse"  # noqa: S105 - the name of an object


def service_variables(
    values: Mapping[str, str],
    form: Form,
    *,
    service: str,
    endpoint: str | None = None,
    keys: bool = False,
    direct: bool = False,
) -> dict[str, str]:
    """Name to value of what one service needs.

    Args:
        values: Of a complete `.env`.
        form: Where the service runs decides about addresses.
        service: Its name.
        endpoint: OTLP/HTTP base URL; that of `ENDPOINTS` by default.
        keys: With the keys: prompts and scores need them.
        direct: Export to Langfuse without a Collector; needs `keys`.
    """
    variables = {
        "OTEL_SERVICE_NAME": service,
        "OTEL_EXPORTER_OTLP_ENDPOINT": endpoint or _endpoint(values, form),
        "OTEL_EXPORTER_OTLP_PROTOCOL": "http/protobuf",
        "OTEL_PROPAGATORS": "tracecontext,baggage",
        "OTELBRIDGE_EXPORT": "direct" if direct else "collector",
    }
    variables |= {name: values[name] for name in _PAGES if values.get(name)}
    if keys or direct:
        variables["LANGFUSE_HOST"] = langfuse_url(values, form)
        variables |= {name: values[name] for name in KEYS}
    return variables


def _endpoint(values: Mapping[str, str], form: Form) -> str:
    port = values.get("OTELBRIDGE_COMPOSE_OTLP_HTTP_PORT", "")
    if port and form in ("shell", "dotenv"):
        return f"http://localhost:{port}"
    return ENDPOINTS[form]


def langfuse_url(values: Mapping[str, str], form: Form) -> str:
    """Langfuse as seen from there: containers have names of their own, a cluster does not."""
    return values["LANGFUSE_HOST"] if form == "compose" else url_from_here(values)


def notes(values: Mapping[str, str], form: Form) -> list[str]:
    """What the reader of a snippet must change."""
    host = values.get("LANGFUSE_HOST", "")
    if form == "kubernetes" and (host == LOCAL_HOST or CONTAINER_HOST in host):
        return ["LANGFUSE_HOST: a cluster does not reach a Langfuse on this machine; replace it."]
    return []


def render(variables: Mapping[str, str], values: Mapping[str, str], form: Form,
           *, keys: bool) -> str:  # fmt: skip
    """The text to paste.

    Args:
        variables: Of `service_variables`.
        values: Of the `.env`, for the Collector's Secret.
        form: See `Form`.
        keys: For Kubernetes: print the Secret as well.
    Raises:
        EnvFileError: a value that a `.env` file cannot hold.
    """
    if form == "shell":
        lines = [f"export {name}={shlex.quote(value)}" for name, value in variables.items()]
    elif form == "dotenv":
        lines = [f"{name}={envfile.quoted(name, value)}" for name, value in variables.items()]
    elif form == "compose":
        lines = _compose(variables)
    else:
        lines = _kubernetes(variables, values, keys=keys)
    return "\n".join(lines) + "\n"


def _compose(variables: Mapping[str, str]) -> list[str]:
    service = variables["OTEL_SERVICE_NAME"]
    lines = ["services:", f"  {service}:", "    environment:"]
    for name, value in variables.items():
        shown = f"${{{name}:?run: otelbridge init}}" if name in KEYS else value.replace("$", "$$")
        lines.append(f"      {name}: {json.dumps(shown)}")
    return lines


def _kubernetes(
    variables: Mapping[str, str], values: Mapping[str, str], *, keys: bool
) -> list[str]:
    service = variables["OTEL_SERVICE_NAME"]
    lines = _object("v1", "ConfigMap", f"{service}-otelbridge", "data", {
        name: value for name, value in variables.items() if name not in KEYS
    })  # fmt: skip
    if not keys:
        return [*lines, f"# The Collector needs the Secret {_SECRET_NAME}: add --with-keys."]
    secret = {name: values[name] for name in KEYS}
    secret["LANGFUSE_HOST"] = langfuse_url(values, "kubernetes")
    secret |= {name: values[name] for name in _PAGES[:2] if values.get(name)}
    return [*lines, "---", *_object("v1", "Secret", _SECRET_NAME, "stringData", secret)]


def _object(version: str, kind: str, name: str, field: str, data: Mapping[str, str]) -> list[str]:
    head = [f"apiVersion: {version}", f"kind: {kind}", "metadata:", f"  name: {json.dumps(name)}"]
    if kind == "Secret":
        head.append("type: Opaque")
    return [*head, f"{field}:", *(f"  {key}: {json.dumps(text)}" for key, text in data.items())]
