"""`LocalServer`, `otelbridge local` and `otelbridge trace` as a user meets them."""

from __future__ import annotations

import http.server
import json
import os
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator

import httpx
import pytest

from otelbridge.cli import main
from otelbridge.errors import ConfigError, StoreError
from otelbridge.local.server import LocalServer, Ports

FREE = ["--otlp-http", "0", "--otlp-grpc", "0", "--tempo", "0", "--langfuse", "0"]


@pytest.fixture
def taken() -> Iterator[int]:
    """A loopback port that something listens on."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        yield listener.getsockname()[1]


@pytest.mark.parametrize(
    ("field", "flag"),
    [("otlp_http", "--otlp-http"), ("otlp_grpc", "--otlp-grpc"), ("tempo", "--tempo"),
     ("langfuse", "--langfuse")],
)  # fmt: skip
def test_a_taken_port_is_named_with_its_flag(taken, tmp_path, field, flag):
    """The error says port, flag and remedy; the data directory is free again afterwards."""
    server = LocalServer(Ports(**{field: taken}), directory=tmp_path)
    with pytest.raises(ConfigError, match=rf"{flag}='{taken}'.*free port.*{flag}"):
        server.start()
    with LocalServer(directory=tmp_path) as after:
        assert after.tempo_url


def test_an_address_of_another_machine_cannot_be_bound():
    """A host that is not ours is a ConfigError, not a traceback."""
    with pytest.raises(ConfigError, match=r"192\.0\.2\.1"):
        LocalServer(host="192.0.2.1").start()


def test_a_directory_in_use_stops_the_second_server(tmp_path):
    """The first goes on, the second says why not."""
    with LocalServer(directory=tmp_path) as first:
        with pytest.raises(StoreError, match="in use"):
            LocalServer(directory=tmp_path).start()
        assert httpx.get(f"{first.tempo_url}/ready", trust_env=False).status_code == 200


def test_a_stopped_server_has_freed_its_ports(samples):
    """Stop is clean, may be called twice, and the same ports can be taken again."""
    server = LocalServer().start()
    ports = [int(url.rpartition(":")[2]) for url in server.addresses().values()]
    server.stop()
    server.stop()
    with pytest.raises(httpx.ConnectError):
        httpx.get(f"{server.tempo_url}/ready", trust_env=False)
    order = dict(zip(server.addresses(), ports, strict=True))
    with LocalServer(Ports(**order)) as again:
        assert again.addresses() == server.addresses()


def start_local(*words: str) -> tuple[subprocess.Popen[str], dict[str, str]]:
    """`otelbridge local --json` as a process, and its addresses."""
    process = subprocess.Popen(
        [sys.executable, "-m", "otelbridge", "local", *FREE, "--json", *words],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    assert process.stdout is not None
    line = process.stdout.readline()
    assert line, process.communicate(timeout=20)[1]
    return process, json.loads(line)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_the_command_serves_until_a_signal_and_keeps_the_data(tmp_path, samples, number):
    """One line of JSON with the addresses; a signal ends it with 0; the spans are there again."""
    span = samples.span("kept")
    process, addresses = start_local("--data", str(tmp_path))
    reply = httpx.post(
        f"{addresses['otlp_http']}/v1/traces",
        content=samples.request(span).SerializeToString(),
        headers={"content-type": "application/x-protobuf"},
        trust_env=False,
    )
    assert reply.status_code == 200
    process.send_signal(number)
    _, errors = process.communicate(timeout=20)
    assert (process.returncode, errors) == (0, "")
    process, addresses = start_local("--data", str(tmp_path))
    url = f"{addresses['tempo']}/api/v2/traces/{span.trace_id.hex()}"
    assert "kept" in httpx.get(url, trust_env=False).text
    process.terminate()
    process.communicate(timeout=20)


@pytest.mark.parametrize(
    "words",
    [["--tempo", "x"], ["--tempo", "70000"], ["--retention", "3 days"], ["--retention", "0h"],
     ["--max-bytes", "lots"], ["--max-bytes", "0"], ["--memory", "--data", "x"]],
)  # fmt: skip
def test_bad_usage_of_local_exits_2(words, capsys):
    """A value that cannot be used is named."""
    assert main(["local", *words]) == 2
    assert words[0] in capsys.readouterr().err


def test_a_taken_port_on_the_command_line_is_one_line(taken, capsys):
    """No traceback; the exit status is 2."""
    assert main(["local", *FREE, "--memory", "--tempo", str(taken)]) == 2
    error = capsys.readouterr().err
    assert error.count("\n") == 1
    assert f"--tempo='{taken}'" in error


def test_a_missing_extra_names_the_install_command(monkeypatch, capsys):
    """Without duckdb the command says how to get it."""
    for name in [n for n in sys.modules if n.startswith(("otelbridge.local.", "duckdb"))]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, "duckdb", None)
    assert main(["local", *FREE, "--memory"]) == 2
    assert "pip install 'otelbridge[local]'" in capsys.readouterr().err


def test_command_modules_load_no_server_packages():
    """Help and `trace` need neither DuckDB nor Starlette nor gRPC."""
    code = (
        "import sys, otelbridge.cli.local, otelbridge.cli.trace\n"
        "print(sorted({'duckdb', 'starlette', 'uvicorn', 'grpc', 'httpx'} & set(sys.modules)))"
    )
    result = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, timeout=50, check=True
    )
    assert result.stdout.strip() == "[]"


@pytest.fixture
def chat_trace(talk, samples) -> str:
    """A stored trace with an entry span, a plain one and a chat; its id."""
    trace_id = os.urandom(16)
    root = samples.span(
        "POST /ask", {"otelbridge.llm.keep": True, "otelbridge.llm.parent": ""}, trace_id=trace_id
    )
    plain = samples.span("query orders", trace_id=trace_id, parent_span_id=root.span_id)
    chat = samples.span(
        "chat",
        {"gen_ai.operation.name": "chat", "gen_ai.request.model": "gpt-4o",
         "gen_ai.input.messages": "[]", "gen_ai.usage.input_tokens": 5,
         "otelbridge.llm.parent": root.span_id.hex()},
        trace_id=trace_id,
        parent_span_id=plain.span_id,
    )  # fmt: skip
    talk.send(samples.request(root, plain, chat, service="web"))
    return trace_id.hex()


@pytest.fixture
def stores(local, keys) -> list[str]:
    """Flags that name the local server."""
    return ["--tempo-url", local.tempo_url, "--langfuse-url", local.langfuse_url,
            "--langfuse-public-key", keys[0], "--langfuse-secret-key", keys[1]]  # fmt: skip


def test_trace_prints_both_views_in_plain_text(chat_trace, stores, capsys):
    """Tempo has all three spans, Langfuse the two of the view, nothing is coloured in a pipe."""
    assert main(["trace", chat_trace, "--view", "both", "--content", *stores]) == 0
    out = capsys.readouterr().out
    tempo, langfuse = out.split("langfuse view")
    assert "3 spans" in tempo
    assert "2 spans" in langfuse
    assert "query orders" not in langfuse
    assert "input:" in langfuse
    assert "input:" not in tempo
    assert "\x1b" not in out
    assert "orphan" not in out


def test_trace_takes_ids_without_leading_zeros(local, talk, samples, stores, capsys):
    """Tempo's search prints them so."""
    span = samples.span("padded", trace_id=bytes(2) + os.urandom(14))
    talk.send(samples.request(span))
    assert main(["trace", span.trace_id.hex().lstrip("0").upper(), *stores]) == 0
    assert "padded" in capsys.readouterr().out


def test_trace_as_json(chat_trace, stores, capsys):
    """One object with the nodes of each view."""
    assert main(["trace", chat_trace, "--view", "both", "--json", *stores]) == 0
    document = json.loads(capsys.readouterr().out)
    assert document["trace_id"] == chat_trace
    assert [len(document["views"][view]) for view in ("tempo", "langfuse")] == [3, 2]
    assert {node["model"] for node in document["views"]["tempo"]} == {"", "gpt-4o"}


@pytest.mark.parametrize("view", ["tempo", "langfuse"])
def test_trace_that_is_not_there_exits_1_with_help(view, stores, capsys):
    """Standard output stays empty; the line says what to check."""
    assert main(["trace", os.urandom(16).hex(), "--view", view, *stores]) == 1
    captured = capsys.readouterr()
    assert captured.out == ""
    assert "has no trace" in captured.err


@pytest.mark.parametrize(
    "words",
    [["xyz"], ["a" * 33], [""], ["ab", "--view", "other"], ["ab", "--tempo-url", "ftp://x"],
     ["ab", "--view", "langfuse", "--langfuse-url", "https://langfuse.example.test"],
     ["ab", "--view", "langfuse", "--langfuse-public-key", "pk-lf-only"]],
)  # fmt: skip
def test_bad_usage_of_trace_exits_2(words, capsys):
    """A bad id, view, address or missing keys are usage errors."""
    assert main(["trace", *words]) == 2
    assert capsys.readouterr().err


def test_trace_without_a_server_or_with_wrong_keys_exits_1(local, chat_trace, capsys):
    """Both say whom they asked and what to do."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        gone = f"http://127.0.0.1:{listener.getsockname()[1]}"
    assert main(["trace", "ab", "--tempo-url", gone]) == 1
    assert "otelbridge local" in capsys.readouterr().err
    words = ["--langfuse-url", local.langfuse_url, "--langfuse-public-key", "pk-lf-x",
             "--langfuse-secret-key", "sk-lf-x"]  # fmt: skip
    assert main(["trace", chat_trace, "--view", "langfuse", *words]) == 1
    assert "refuses the keys" in capsys.readouterr().err


class OldLangfuse(http.server.BaseHTTPRequestHandler):
    """Langfuse v3: no v2 observations, but the trace with its observations."""

    def do_GET(self) -> None:
        path = self.path.partition("?")[0]
        found = path == f"/api/public/traces/{'ab' * 16}"
        observation = {"id": "cd" * 8, "name": "from v3", "calculatedTotalCost": 0.5}
        body = json.dumps({"observations": [observation]} if found else {}).encode()
        self.send_response(200 if found else 404)
        self.send_header("content-length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: object) -> None:
        """Quiet."""


def test_trace_reads_a_langfuse_without_the_v2_api(capsys):
    """Langfuse v3 answers 404 there; its trace endpoint is asked instead."""
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), OldLangfuse) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        url = f"http://127.0.0.1:{server.server_port}"
        words = ["--view", "langfuse", "--langfuse-url", url]
        assert main(["trace", "ab" * 16, *words]) == 0
        assert "from v3" in capsys.readouterr().out
        assert main(["trace", "cd" * 16, *words]) == 1
        server.shutdown()
