"""Records `tests/collector/emitters/*.jsonl`: real OTLP spans of third-party emitters.

For each emitter: a virtual environment with its packages, a sink for OTLP/HTTP on loopback, and a
child that runs `tests/collector/emitters/emit.py` (or `vercel.mjs`) against the example
upstream. The child believes that it talks to api.openai.com: the recorder is its HTTP proxy. What
the sink received is written as JSON lines, one export request a line, ids in hex, with machine
paths, host and process values replaced (`sanitised`). Needs package registries; not part of
`make test`.

    python -m benchmarks.record_emitters --work DIR [EMITTER ...]
"""

from __future__ import annotations

import argparse
import base64
import getpass
import gzip
import importlib.util
import json
import os
import re
import shutil
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any, Final

from flask import Response, request
from google.protobuf.json_format import MessageToDict
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import (
    ExportTraceServiceRequest,
    ExportTraceServiceResponse,
)
from werkzeug.serving import make_server

ROOT: Final = Path(__file__).resolve().parent.parent
CORPUS: Final = ROOT / "tests" / "collector" / "emitters"
EXPORTER: Final = "opentelemetry-exporter-otlp-proto-http"
_TRACELOOP_NEEDS: Final = ("logging", "redis", "requests", "sqlalchemy", "threading", "urllib3")
#: What each emitter installs; the versions found are written to `versions.json`.
PACKAGES: Final[dict[str, tuple[str, ...]]] = {
    "genai_openai": ("opentelemetry-instrumentation-genai-openai==1.3b0", "openai", EXPORTER),
    "openinference": ("openinference-instrumentation-openai==0.1.66", "openai", EXPORTER),
    # Its 30 other instrumentations are left out: they admit no common version of their clients.
    "openllmetry": (
        "--no-deps traceloop-sdk==0.62.4",
        "opentelemetry-instrumentation-openai==0.62.4",
        *(f"opentelemetry-instrumentation-{name}" for name in _TRACELOOP_NEEDS),
        *("aiohttp", "colorama", "cuid", "deprecated", "httpx", "jinja2", "openai", "tenacity"),
        "opentelemetry-exporter-otlp-proto-grpc",
        EXPORTER,
    ),
    "openllmetry_old": (
        "opentelemetry-instrumentation-openai==0.40.14",
        "openai<2",
        "opentelemetry-sdk<1.35",
        f"{EXPORTER}<1.35",
    ),
    "langfuse": ("langfuse==5.0.4", "openai"),
    "logfire": ("logfire==5.2.0", "genai-prices", "openai"),
    "pydantic_ai": ("pydantic-ai-slim[openai]==2.68.0", EXPORTER),
    "langchain": (
        "openinference-instrumentation-langchain==0.1.80",
        "langchain-openai==1.7.3",
        "langgraph==1.2.22",
        EXPORTER,
    ),
    "strands": ("strands-agents[openai]==1.62.0", EXPORTER),
    "litellm": ("litellm==1.106.2", "mcp", EXPORTER),
    "anthropic": ("anthropic==2.12.0", EXPORTER),
    "otelbridge": ("-r", str(ROOT / "requirements.lock"), f"--no-deps {ROOT}"),
    "vercel": (
        "ai@5",
        "@ai-sdk/openai@2",
        "zod",
        "@opentelemetry/api",
        "@opentelemetry/sdk-trace-node",
        "@opentelemetry/otlp-transformer",
        "@opentelemetry/resources",
    ),
}
#: Emitters whose spans depend on a switch in the environment.
SWITCHES: Final[dict[str, dict[str, str]]] = {
    "genai_openai": {"OTEL_INSTRUMENTATION_GENAI_CAPTURE_MESSAGE_CONTENT": "SPAN_ONLY"},
    "litellm": {"LITELLM_LOCAL_MODEL_COST_MAP": "True", "OTEL_EXPORTER": "otlp_http"},
    "anthropic": {"ANTHROPIC_OPEN_TELEMETRY_TRACES_CONTENT_MODE": "content"},
}
#: Values that say where something was recorded; their keys stay, as the emitter sends them.
_MACHINE_KEY: Final = re.compile(r"^(host|os|process|container)\.|^service\.instance\.id$")
_SANITISED: Final = "sanitised"
_RUN_SECONDS: Final = 120


class Sink:
    """Takes OTLP/HTTP on any path that ends in `/v1/traces`, and keeps the requests."""

    def __init__(self) -> None:
        self.requests: list[ExportTraceServiceRequest] = []
        sink = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers["Content-Length"]))
                if self.headers.get("Content-Encoding") == "gzip":
                    body = gzip.decompress(body)
                if self.path.endswith("/v1/traces"):
                    sink.requests.append(ExportTraceServiceRequest.FromString(body))
                self.send_response(200)
                self.send_header("Content-Type", "application/x-protobuf")
                self.end_headers()
                self.wfile.write(ExportTraceServiceResponse().SerializeToString())

            def do_GET(self) -> None:
                self.send_error(404)

            def log_message(self, format: str, *args: Any) -> None:
                """Quiet."""

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)


def load(path: Path) -> Any:
    """A Python file as a module, without being on the path."""
    specification = importlib.util.spec_from_file_location(path.stem, path)
    assert specification is not None
    assert specification.loader is not None
    module = importlib.util.module_from_spec(specification)
    specification.loader.exec_module(module)
    return module


def upstream_app(scenarios: Any) -> Any:
    """The example upstream, with Anthropic's messages and with secrets in its error texts."""
    upstream = load(ROOT / "examples" / "services" / "upstream.py")

    @upstream.app.before_request  # type: ignore[untyped-decorator]  # the module is loaded by path
    def join_parts() -> None:
        for message in (request.get_json(silent=True) or {}).get("messages", ()):
            if isinstance(message.get("content"), list) and request.path.endswith("/completions"):
                message["content"] = "".join(part.get("text", "") for part in message["content"])

    @upstream.app.after_request  # type: ignore[untyped-decorator]  # the module is loaded by path
    def plant(response: Response) -> Response:
        if response.status_code >= 400:
            body = json.loads(response.get_data())
            body["error"]["message"] += f" Asked with {scenarios.LEAK}."
            response.set_data(json.dumps(body))
        else:  # ids of calls are no content: they must hold no canary
            named = f"call_{scenarios.ORDER}".encode()
            response.set_data(response.get_data().replace(named, b"call_1"))
        return response

    @upstream.app.post("/v1/messages")  # type: ignore[untyped-decorator]  # likewise
    def messages() -> Response:
        return anthropic_answer(upstream, request.get_json())

    return upstream.app


def anthropic_answer(upstream: Any, body: dict[str, Any]) -> Response:
    """One answer in the wire format of Anthropic's messages API, as JSON or as SSE."""
    last = body["messages"][-1]["content"]
    result = not isinstance(last, str)
    question = last[0]["content"] if result else last
    if "[[status=429]]" in question:
        error = {"type": "rate_limit_error", "message": "The upstream was asked to answer 429."}
        reply = json.dumps({"type": "error", "error": error})
        return Response(reply, 429, mimetype="application/json")
    named = re.search(r"\b[A-Z]{1,3}-\d+\b", question)
    block: dict[str, Any] = {"type": "text", "text": f"You asked: {question}"}
    if body.get("tools") and named and not result:
        name = body["tools"][0]["name"]
        block = {"type": "tool_use", "id": "toolu_1", "name": name, "input": {"order_id": named[0]}}
    usage = {
        "input_tokens": upstream.tokens(json.dumps(body["messages"])),
        "output_tokens": 9,
        "cache_read_input_tokens": 16,
        "cache_creation_input_tokens": 0,
    }
    reason = "tool_use" if block["type"] == "tool_use" else "end_turn"
    head = {"id": "msg_1", "type": "message", "role": "assistant", "model": body["model"]}
    if not body.get("stream"):
        whole = {**head, "content": [block], "stop_reason": reason, "usage": usage}
        return Response(json.dumps({**whole, "stop_sequence": None}), mimetype="application/json")
    opened = {**head, "content": [], "stop_reason": None, "stop_sequence": None, "usage": usage}
    events: list[dict[str, Any]] = [
        {"type": "message_start", "message": opened},
        {"type": "content_block_start", "index": 0, "content_block": {"type": "text", "text": ""}},
        {
            "type": "content_block_delta",
            "index": 0,
            "delta": {"type": "text_delta", "text": block["text"]},
        },
        {"type": "content_block_stop", "index": 0},
        {
            "type": "message_delta",
            "delta": {"stop_reason": reason, "stop_sequence": None},
            "usage": {"output_tokens": 9},
        },
        {"type": "message_stop"},
    ]
    lines = "".join(f"event: {e['type']}\ndata: {json.dumps(e)}\n\n" for e in events)
    return Response(lines, mimetype="text/event-stream")


@contextmanager
def serving(server: Any) -> Iterator[str]:
    """The address of a server while its thread runs."""
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}"
    finally:
        server.shutdown()
        thread.join()


def install(emitter: str, directory: Path) -> Path:
    """The interpreter of an environment with the emitter's packages, made if it is not there."""
    if emitter == "vercel":
        if not (directory / "node_modules").exists():
            directory.mkdir(parents=True, exist_ok=True)
            run(["npm", "init", "-y"], cwd=directory)
            run(["npm", "install", "--silent", *PACKAGES[emitter]], cwd=directory)
        return Path("node")
    python = directory / "bin" / "python"
    if not python.exists():
        run([sys.executable, "-m", "venv", str(directory)])
        pip = [str(python), "-m", "pip", "install", "-q"]
        alone = [name for name in PACKAGES[emitter] if name.startswith("--no-deps ")]
        try:
            run([*pip, *(name for name in PACKAGES[emitter] if name not in alone)])
            for name in alone:
                run([*pip, *name.split()])
        except SystemExit:  # half an environment must not look like a whole one
            shutil.rmtree(directory)
            raise
    return python


def run(command: list[str], **arguments: Any) -> str:
    """The output of a command; its failure ends the recording with the command's own words."""
    done = subprocess.run(command, check=False, capture_output=True, text=True, **arguments)
    if done.returncode:
        sys.exit(f"{command} answered {done.returncode}:\n{done.stdout}\n{done.stderr}")
    return str(done.stdout)


def versions(emitter: str, interpreter: Path, directory: Path) -> dict[str, str]:
    """Versions of the emitter's packages, of the SDK and of the clients, by name."""
    if emitter == "vercel":
        listed = json.loads(run(["npm", "ls", "--json", "--depth=0"], cwd=directory))
        return {name: entry["version"] for name, entry in listed["dependencies"].items()}
    listed = json.loads(run([str(interpreter), "-m", "pip", "list", "--format=json"]))
    wanted = re.compile(
        r"^(opentelemetry-(sdk|util-genai|semantic-conventions-ai)|opentelemetry-instrumentation-"
        r"(genai-)?openai|openinference-instrumentation(-openai|-langchain)?|traceloop-sdk|langfuse"
        r"|logfire|langchain-(core|openai)|langgraph|strands-agents|pydantic-ai-slim|litellm|anthropic"
        r"|openai|otelbridge)$"
    )
    return {item["name"]: item["version"] for item in listed if wanted.match(item["name"])}


def record(emitter: str, work: Path, app: Any, scenarios: Any) -> dict[str, str]:
    """Record one emitter into the corpus; the versions of what was recorded."""
    directory = work / emitter
    interpreter = install(emitter, directory)
    sink = Sink()
    with (
        serving(sink.server) as sink_url,
        serving(make_server("127.0.0.1", 0, app, threaded=True)) as upstream_url,
    ):
        environment = {
            "PATH": os.environ["PATH"],
            "HOME": str(directory),
            "OTEL_SERVICE_NAME": f"shop-{emitter.replace('_', '-')}",
            "OTEL_EXPORTER_OTLP_ENDPOINT": sink_url,
            "OTEL_EXPORTER_OTLP_PROTOCOL": "http/protobuf",
            "OTEL_ENDPOINT": sink_url,  # litellm's name for it
            "OPENAI_API_KEY": "made-up",
            "OPENAI_BASE_URL": "http://api.openai.com/v1",
            "ANTHROPIC_API_KEY": "made-up",
            "ANTHROPIC_BASE_URL": "http://api.anthropic.com",
            "HTTP_PROXY": upstream_url,
            "http_proxy": upstream_url,
            "HTTPS_PROXY": upstream_url,  # refuses CONNECT: nothing leaves the machine
            "NO_PROXY": "127.0.0.1,localhost",
            **SWITCHES.get(emitter, {}),
        }
        if emitter == "vercel":
            script = directory / "vercel.mjs"
            script.write_bytes((CORPUS / "vercel.mjs").read_bytes())
            texts = {k: v for k, v in vars(scenarios).items() if k.isupper() and k[0] != "_"}
            environment["CANARIES"] = json.dumps(texts, default=str)
            environment["UPSTREAM_URL"] = upstream_url
            command = ["node", str(script)]
        else:
            command = [str(interpreter), str(CORPUS / "emit.py"), emitter]
        said = run(command, env=environment, cwd=directory, timeout=_RUN_SECONDS)
        settled(sink)
    if not sink.requests:
        sys.exit(f"{emitter}: no span arrived. The child said:\n{said}")
    hidden = (sink_url, upstream_url)
    lines = [as_line(request, directory, hidden) for request in sink.requests]
    (CORPUS / f"{emitter}.jsonl").write_text("".join(lines), encoding="utf-8")
    return versions(emitter, interpreter, directory)


def settled(sink: Sink) -> None:
    """Wait until no request has come for half a second."""
    seen = -1
    while seen != len(sink.requests):
        seen = len(sink.requests)
        time.sleep(0.5)


def as_line(request: ExportTraceServiceRequest, directory: Path, hidden: tuple[str, ...]) -> str:
    """An export request as one line of OTLP/JSON without traces of the recording machine."""
    message = MessageToDict(request, use_integers_for_enums=True)
    for node in dictionaries(message):
        for key in ("traceId", "spanId", "parentSpanId"):
            if key in node:
                node[key] = base64.b64decode(node[key]).hex()
        if _MACHINE_KEY.match(str(node.get("key", ""))):
            node["value"] = {"stringValue": _SANITISED}
    text = json.dumps(message, separators=(",", ":"), ensure_ascii=False)
    for address in hidden:
        text = text.replace(address.removeprefix("http://"), "127.0.0.1:9")
    text = re.sub(r"[^\s\"'(]*/(?:site-packages|node_modules|python3\.\d+)/", "", text)
    text = re.sub(r'File \\"/[^"\\]*/(?=otelbridge/)', r'File \\"', text)
    for path in (directory.resolve(), directory, ROOT, Path(sys.base_prefix), Path.home()):
        text = text.replace(f"{path}/", "").replace(str(path), _SANITISED)
    text = text.replace("file://", "")
    found = [name for name in (socket.gethostname(), getpass.getuser()) if f"/{name}/" in text]
    if found or re.search(r"[\"(/](?:tmp|home|root|work|Users)/", text):
        sys.exit(f"machine names left in the recording of {directory.name}: {found}")
    return text + "\n"


def dictionaries(node: Any) -> Iterator[dict[str, Any]]:
    """Every dictionary in a tree, the outer ones first."""
    if isinstance(node, dict):
        yield node
    for child in node.values() if isinstance(node, dict) else node:
        if isinstance(child, dict | list):
            yield from dictionaries(child)


def main() -> int:
    """Record the emitters named, or all."""
    parser = argparse.ArgumentParser(description="Record the corpus of real emitters.")
    parser.add_argument("emitters", nargs="*", metavar="EMITTER", help="; ".join(PACKAGES))
    parser.add_argument("--work", type=Path, required=True, help="directory of environments")
    arguments = parser.parse_args()
    unknown = set(arguments.emitters) - set(PACKAGES)
    if unknown:
        parser.error(f"no such emitter: {', '.join(sorted(unknown))}")
    scenarios = load(CORPUS / "scenarios.py")
    app = upstream_app(scenarios)
    known = CORPUS / "versions.json"
    found = json.loads(known.read_text(encoding="utf-8")) if known.exists() else {}
    for emitter in arguments.emitters or PACKAGES:
        found[emitter] = record(emitter, arguments.work.resolve(), app, scenarios)
        known.write_text(json.dumps(found, indent=2, sort_keys=True) + "\n", encoding="utf-8")
        size = (CORPUS / f"{emitter}.jsonl").stat().st_size
        sys.stdout.write(f"{emitter}: {size} bytes, {found[emitter]}\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
