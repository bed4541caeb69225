"""The pages a reader starts with say what is true: examples run, names exist, links resolve.

Tables marked `generated` are written by `python -m tests.unit.test_docs_readme` and held here.
"""

from __future__ import annotations

import ast
import http.server
import importlib
import importlib.util
import inspect
import os
import re
import subprocess
import sys
import textwrap
import threading
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from opentelemetry import trace
from opentelemetry.proto.trace.v1.trace_pb2 import Span
from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

import otelbridge
from otelbridge import cli, policy, semconv
from otelbridge.demo.processes import ProcessGroup, free_ports
from otelbridge.env import VARIABLES
from otelbridge.local.receivers.otlp_decode import decode_protobuf, decompress
from otelbridge.local.records import SpanRecord, from_otlp_port
from tests.unit.test_layers import LEVELS, PACKAGE

ROOT = Path(__file__).parents[2]
OWN = ("README.md", "ARCHITECTURE.md", "CHANGELOG.md", "docs/python.md")
PAGES = (
    *OWN, "CONTRIBUTING.md", "docs/quickstart.md", "docs/configuration.md", "docs/collector.md",
    "docs/collector-operations.md", "docs/dialects.md", "docs/metrics.md",
    "docs/traceql.md", "docs/testing.md",
    "examples/services/README.md",
)  # fmt: skip
HELPERS = (
    "chat", "embeddings", "execute_tool", "retrieval", "invoke_agent", "evaluate", "span",
)  # fmt: skip
#: A fenced block, and the HTML comment in the line before it.
FENCE = re.compile(
    r"^(?:<!-- (?P<mark>[^\n]+?) -->\n)?```(?P<kind>\w*)\n(?P<text>.*?)^```$",
    re.MULTILINE | re.DOTALL,
)


def text_of(page: str) -> str:
    return (ROOT / page).read_text(encoding="utf-8")


def blocks(page: str, kind: str, mark: str | None = None) -> list[tuple[int, str]]:
    """Fenced blocks of one kind: line number of the first line, and text."""
    text = text_of(page)
    return [
        (text[: found.start("text")].count("\n"), found["text"])
        for found in FENCE.finditer(text)
        if found["kind"] == kind and (mark is None or found["mark"] == mark)
    ]


# -- what is generated ----------------------------------------------------------------------------


def _used_to_the_full() -> list[ReadableSpan]:
    """One span per helper, in the order of `HELPERS`, given everything that it takes."""
    exporter = InMemorySpanExporter()
    provider = TracerProvider(shutdown_on_exit=False)
    provider.add_span_processor(SimpleSpanProcessor(exporter))
    trace.set_tracer_provider(provider)
    tools = [{"type": "function", "function": {"name": "f", "parameters": {}}}]
    usage = {"input_tokens": 9, "output_tokens": 5}
    with otelbridge.chat(
        "gpt-4o", provider="openai", messages="q", system="s", temperature=1, top_p=1, top_k=1,
        max_tokens=1, frequency_penalty=1, presence_penalty=1, stop="x", seed=1, n=2, stream=True,
        tools=tools, output_type="json", reasoning_level="low", conversation_id="c",
        prompt_name="p", prompt_version=1, cached=True,
    ) as chat:  # fmt: skip
        chat.first_chunk()
        chat.set_output("a")
        chat.set_response(id="r", model="gpt-4o", finish_reasons="stop")
        chat.set_usage(**usage, cached_tokens=1, cache_write_tokens=1, reasoning_tokens=1)
        list(chat.stream(["a"]))
    with otelbridge.embeddings(
        "m", provider="openai", input="q", dimensions=3, encoding_formats="float", cached=True
    ) as embeddings:
        embeddings.set_usage(input_tokens=9)
        embeddings.set_response(id="r", model="m")
    with otelbridge.execute_tool("f", arguments={}, call_id="1", description="d") as tool:
        tool.set_result("r")
    with otelbridge.retrieval("kb", query="q", top_k=1, provider="x") as search:
        search.set_documents(["d"])
    with otelbridge.invoke_agent(
        "a", provider="x", model="m", input="q", id="1", description="d", conversation_id="c"
    ) as agent:
        agent.set_output("a")
        agent.set_usage(**usage)
    with otelbridge.evaluate("e", input="q") as judge:
        judge.set_score(1, label="l", explanation="e")
    with otelbridge.span("s", input="q") as step:
        step.set_output("a")
    return list(exporter.get_finished_spans())


def _row(*cells: str) -> str:
    return f"| {' | '.join(cells)} |"


def helpers_table(spans: list[ReadableSpan]) -> str:
    """What span each helper makes."""
    names = (
        "{operation} {model}", "embeddings {model}", "execute_tool {name}",
        "retrieval {data_source}", "invoke_agent {name}", "evaluate {name}", "{name}",
    )  # fmt: skip
    rows = [_row("Helper", "Span name", "Kind", "In Langfuse"), "|---|---|---|---|"]
    for helper, name, span in zip(HELPERS, names, spans, strict=True):
        assert span.attributes is not None
        kind = str(span.attributes[semconv.LANGFUSE_OBSERVATION_TYPE])
        rows.append(_row(f"`{helper}`", f"`{name}`", span.kind.name, kind))
    return "\n".join(rows)


def attributes_table(spans: list[ReadableSpan]) -> str:
    """Which helper writes which attribute, with its type."""
    keys = dict.fromkeys(key for span in spans for key in span.attributes or {})
    order = sorted(keys, key=lambda key: (key.partition(".")[0], key))
    rows = [_row("Attribute", "Type", *(f"`{name}`" for name in HELPERS)), "|---" * 9 + "|"]
    for key in order:
        values = [(span.attributes or {}).get(key) for span in spans]
        kinds = {_type_name(value) for value in values if value is not None}
        assert len(kinds) == 1, (key, kinds)
        kind = "*content*" if policy.is_content_key(key) else kinds.pop()
        marks = ("●" if value is not None else "" for value in values)
        rows.append(_row(f"`{key}`", kind, *marks))
    return "\n".join(rows)


def _type_name(value: object) -> str:
    names = {bool: "boolean", int: "integer", float: "double", str: "text", tuple: "list of text"}
    return names[type(value)]


def signatures() -> str:
    """The public functions with their parameters and defaults, wrapped."""
    parts = []
    for name in (*HELPERS, "observe", "request_context", "set_trace_io", "inject", "extract",
                 "configure", "flush", "shutdown", "current_trace_id", "trace_links"):  # fmt: skip
        signature = inspect.signature(getattr(otelbridge, name))
        words = [_parameter(parameter) for parameter in signature.parameters.values()]
        kinds = [parameter.kind for parameter in signature.parameters.values()]
        if inspect.Parameter.POSITIONAL_ONLY in kinds:
            words.insert(kinds.count(inspect.Parameter.POSITIONAL_ONLY), "/")
            kinds.insert(1, inspect.Parameter.POSITIONAL_ONLY)
        if inspect.Parameter.KEYWORD_ONLY in kinds:
            words.insert(kinds.index(inspect.Parameter.KEYWORD_ONLY), "*")
        line = f"otelbridge.{name}({', '.join(words)})"
        parts.append(textwrap.fill(line, 100, subsequent_indent="    "))
    return "```text\n" + "\n".join(parts) + "\n```"


def _parameter(parameter: inspect.Parameter) -> str:
    if parameter.kind is inspect.Parameter.VAR_KEYWORD:
        return f"**{parameter.name}"
    if parameter.default is inspect.Parameter.empty:
        return parameter.name
    plain = parameter.default is None or isinstance(parameter.default, str | int | float)
    return f"{parameter.name}={parameter.default!r}" if plain else f"{parameter.name}=…"


def methods_table() -> str:
    """Which object has which public method."""
    made = [getattr(otelbridge, name)("x", **({"provider": "x"} if name in HELPERS[:2] else {}))
            for name in HELPERS]  # fmt: skip
    names = sorted(
        {name for call in made for name, _ in inspect.getmembers(type(call)) if name[0] != "_"}
    )
    rows = [_row("", *(f"`{name}`" for name in HELPERS)), "|---" * 8 + "|"]
    for name in names:
        marks = ("●" if hasattr(type(call), name) else "" for call in made)
        rows.append(_row(f"`{name}`", *marks))
    return "\n".join(rows)


def generated() -> dict[str, str]:
    spans = _used_to_the_full()
    return {
        "helpers": helpers_table(spans),
        "signatures": signatures(),
        "methods": methods_table(),
        "attributes": attributes_table(spans),
    }


def _with_generated(page_text: str, parts: dict[str, str]) -> str:
    for name, part in parts.items():
        begin, end = f"<!-- generated: {name} -->\n", "<!-- end of generated -->"
        head, found, rest = page_text.partition(begin)
        _, closed, tail = rest.partition(end)
        assert found, f"docs/python.md has no place for {name!r}"
        assert closed, f"docs/python.md does not end {name!r}"
        page_text = f"{head}{begin}{part}\n{end}{tail}"
    return page_text


def test_generated_tables_are_what_the_code_does():
    """A change of a helper and of docs/python.md are one change."""
    page = text_of("docs/python.md")
    assert page == _with_generated(page, generated()), "run python -m tests.unit.test_docs_readme"


# -- examples run ---------------------------------------------------------------------------------


class Intake:
    """An OTLP/HTTP receiver on loopback that keeps what it gets."""

    def __init__(self) -> None:
        intake = self
        self.records: list[SpanRecord] = []
        self.view: list[SpanRecord] = []

        class Handler(http.server.BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers["Content-Length"]))
                plain = decompress(body, self.headers.get("Content-Encoding", ""))
                batch = from_otlp_port(decode_protobuf(plain))
                intake.records += batch.tempo
                intake.view += batch.langfuse
                self.send_response(200)
                self.send_header("Content-Length", "0")
                self.end_headers()

            def log_message(self, *args: Any) -> None:
                pass

        self._server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self._server.server_port}"
        self._thread = threading.Thread(target=self._server.serve_forever, daemon=True)
        self._thread.start()

    def close(self) -> None:
        self._server.shutdown()
        self._thread.join(timeout=10)
        self._server.server_close()

    def names(self) -> list[str]:
        return [record.span.name for record in self.records]

    def view_spans(self) -> list[Span]:
        return [record.span for record in self.view]


@pytest.fixture
def intake() -> Iterator[Intake]:
    receiver = Intake()
    yield receiver
    receiver.close()


@pytest.fixture(scope="module")
def provider_url() -> Iterator[str]:
    """The mock provider of the examples, in a thread."""
    from werkzeug.serving import make_server

    path = ROOT / "examples" / "services" / "upstream.py"
    spec = importlib.util.spec_from_file_location("docs_upstream", path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    server = make_server("127.0.0.1", 0, module.app, threaded=True)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    yield f"http://127.0.0.1:{server.port}/v1"
    server.shutdown()
    thread.join(timeout=10)
    server.server_close()


def _environment(intake: Intake, provider_url: str) -> dict[str, str]:
    return {
        **os.environ,
        "OTEL_SERVICE_NAME": "shop",
        "OTEL_EXPORTER_OTLP_ENDPOINT": intake.url,
        "OTEL_BSP_SCHEDULE_DELAY": "100",
        "OPENAI_BASE_URL": provider_url,
        "OPENAI_API_KEY": "not-a-key",
    }


def _assert_no_orphans(spans: list[Span]) -> None:
    known = {span.span_id for span in spans} | {b""}
    assert [span.name for span in spans if span.parent_span_id not in known] == []


EXPECTED = {
    "README.md": {
        "invoke_agent support", "execute_tool lookup", "retrieval shop-handbook", "chat gpt-4o",
        "order placed", "order packed", "label printed", "POST",
    },
    "docs/python.md": {
        "handle", "chat gpt-4o", "embeddings text-embedding-3-small", "retrieval shop-handbook",
        "invoke_agent support", "execute_tool lookup", "evaluate helpful", "choose a template",
        "rank", "send", "receive", "answer", "POST",
    },
}  # fmt: skip


@pytest.mark.e2e
@pytest.mark.parametrize("page", EXPECTED)
def test_the_examples_of_a_page_run(
    page: str, intake: Intake, provider_url: str, tmp_path: Path
) -> None:
    """The blocks marked as running, in order, are a program that ends well and sends its spans."""
    program = "\n".join(
        f"# {page}, line {line + 1}\n{text}" for line, text in blocks(page, "python", "runs")
    )
    path = tmp_path / "page.py"
    path.write_text(program, encoding="utf-8")
    done = subprocess.run(
        [sys.executable, str(path)], env=_environment(intake, provider_url), text=True,
        capture_output=True, timeout=50, check=False, cwd=tmp_path,
    )  # fmt: skip
    assert done.returncode == 0, f"{done.stderr}\n{program}"
    assert "the program goes on without" not in done.stderr
    assert EXPECTED[page] - set(intake.names()) == set()
    _assert_no_orphans(intake.view_spans())


@pytest.mark.e2e
def test_the_zero_code_service_of_the_readme_runs(
    intake: Intake, provider_url: str, tmp_path: Path, eventually: Callable[..., Any]
) -> None:
    """`app.py` under `opentelemetry-instrument flask` gives one named trace with its output."""
    ((_, source),) = blocks("README.md", "python", "file: app.py")
    (tmp_path / "app.py").write_text(source, encoding="utf-8")
    (port,) = free_ports(1)
    bin_dir = Path(sys.executable).parent
    environment = _environment(intake, provider_url)
    environment["PATH"] = f"{bin_dir}{os.pathsep}{environment['PATH']}"
    command = ["opentelemetry-instrument", "flask", "--app", str(tmp_path / "app.py"), "run"]
    assert f"{' '.join(command[:3])} app run" in text_of("README.md")
    command[0] = str(bin_dir / command[0])
    with ProcessGroup(tmp_path) as group:
        child = group.start("shop", [*command, "--port", str(port)], environment)
        group.wait_listening(child, "127.0.0.1", port, deadline_seconds=30)
        request = urllib.request.Request(
            f"http://127.0.0.1:{port}/ask",
            data=b'{"question": "Where is my order A-17?", "user": "u-1"}',
            headers={"Content-Type": "application/json"},
        )
        with urllib.request.urlopen(request, timeout=30) as response:
            answer = response.read().decode()
        eventually(lambda: "POST /ask" in intake.names())
    entry = next(span for span in intake.view_spans() if span.name == "POST /ask")
    attributes = {pair.key: pair.value.string_value for pair in entry.attributes}
    assert entry.trace_id.hex() in answer
    assert attributes[semconv.USER_ID] == "u-1"
    assert attributes[semconv.LANGFUSE_TRACE_NAME] == "ask"
    assert attributes[semconv.LANGFUSE_OBSERVATION_INPUT] == "Where is my order A-17?"
    assert attributes[semconv.LANGFUSE_OBSERVATION_OUTPUT] in answer
    _assert_no_orphans(intake.view_spans())


@pytest.mark.parametrize("page", OWN)
def test_every_python_block_is_python(page: str) -> None:
    """Blocks that are not run are at least read by the compiler."""
    for line, text in blocks(page, "python"):
        compile("\n" * line + text, page, "exec")


# -- names exist ----------------------------------------------------------------------------------


def _code(page: str) -> str:
    """What stands between backticks, one piece a line, and shell blocks."""
    text = text_of(page)
    pieces = re.findall(r"`([^`\n]+)`", FENCE.sub("", text))
    return "\n".join([*pieces, *(block for _, block in blocks(page, "sh"))])


def _keys() -> set[str]:
    return {value for value in vars(semconv).values() if isinstance(value, str)}


def _resolves(dotted: str) -> bool:
    """Whether `otelbridge.a.b.c` is an attribute key, a module, or a name in one."""
    if dotted in _keys():
        return True
    parts = dotted.split(".")
    for length in range(len(parts), 0, -1):
        try:
            found: Any = importlib.import_module(".".join(parts[:length]))
        except ModuleNotFoundError:
            continue
        try:
            for part in parts[length:]:
                found = getattr(found, part)
        except AttributeError:
            return False
        return True
    return False


@pytest.mark.parametrize("page", OWN)
def test_every_dotted_name_exists(page: str) -> None:
    """`otelbridge.x.y` in code is a module, a symbol or an attribute key."""
    names = set(re.findall(r"\botelbridge(?:\.[A-Za-z_]\w*)+", _code(page)))
    assert [name for name in sorted(names) if not _resolves(name)] == []


@pytest.mark.parametrize("page", PAGES)
def test_every_variable_exists(page: str) -> None:
    """A variable is declared in env.py or in the Collector's table."""
    declared = {name for variable in VARIABLES for name in variable.spellings}
    declared |= set(re.findall(r"^\| `(\w+)` \|", text_of("docs/collector.md"), re.MULTILINE))
    # What tests read themselves, for what this machine may have.
    declared |= {"OTELBRIDGE_TEST_TEMPO_URL", "OTELBRIDGE_TEST_TEMPO_OTLP_URL"}
    found = set(
        re.findall(r"(?<![\w$])((?:OTEL|LANGFUSE|OTELBRIDGE)_[A-Z0-9_]*[A-Z0-9])\b", text_of(page))
    )
    assert sorted(found - declared) == []


@pytest.mark.parametrize("page", PAGES)
def test_every_command_and_flag_exists(page: str) -> None:
    """`otelbridge <command> --flag` is what the command line takes."""
    wrong = []
    for command, rest in re.findall(r"^otelbridge ([a-z]\S*)([^\n]*)", _code(page), re.MULTILINE):
        if command not in cli.COMMANDS:
            wrong.append(command)
            continue
        parser = cli.build_parser([command])
        choices = parser._subparsers._group_actions[0].choices  # type: ignore[union-attr]
        known = choices[command]._option_string_actions
        flags = re.findall(r"(--[a-z-]+)", rest.partition("#")[0])
        wrong += [f"{command} {flag}" for flag in flags if flag not in known]
    assert wrong == []


@pytest.mark.parametrize("page", PAGES)
def test_every_make_target_exists(page: str) -> None:
    """`make x` is a target of the Makefile."""
    targets = set(re.findall(r"^([a-z0-9]+):", text_of("Makefile"), re.MULTILINE))
    named = {
        word
        for words in re.findall(r"^make ((?:[a-z0-9]+ ?)+)", _code(page), re.MULTILINE)
        for word in words.split()
    }
    assert sorted(named - targets) == []


def _anchors(path: Path) -> set[str]:
    """Heading anchors as GitHub makes them."""
    headings = re.findall(r"^#+ (.+)$", path.read_text(encoding="utf-8"), re.MULTILINE)
    words = (re.sub(r"[^\w\- ]", "", heading).strip().lower() for heading in headings)
    return {heading.replace(" ", "-") for heading in words}


@pytest.mark.parametrize("page", PAGES)
def test_links_between_files_resolve(page: str) -> None:
    """A relative link leads to a file, and its anchor to a heading there."""
    wrong = []
    for target in re.findall(r"\]\(([^)\s]+)\)", text_of(page)):
        if re.match(r"[a-z]+:", target):
            continue
        name, _, anchor = target.partition("#")
        path = (ROOT / page).parent / name if name else ROOT / page
        if not path.exists() or (anchor and anchor not in _anchors(path)):
            wrong.append(target)
    assert wrong == []


def test_the_layer_table_is_the_one_that_is_tested():
    """ARCHITECTURE.md names every module that exists on the level that test_layers gives it."""
    part = text_of("ARCHITECTURE.md").partition("<!-- layers -->")[2].partition("<!-- end")[0]
    shown = {
        name: float(level)
        for level, names in re.findall(r"^\| ([\d.]+) \| ([^|]+) \|", part, re.MULTILINE)
        for name in re.findall(r"`([^`]+)`", names)
    }
    shown[""] = shown.pop("otelbridge")
    exists = {
        name: float(level)
        for name, level in LEVELS.items()
        if (PACKAGE / name.replace(".", "/")).is_dir()
        or (PACKAGE / f"{name.replace('.', '/')}.py").is_file()
    }
    assert shown == exists


def test_the_changelog_names_every_public_symbol():
    """A user finds in the changelog what the package offers."""
    text = text_of("CHANGELOG.md")
    quiet = {"__version__", "OtelbridgeError"}
    missing = [n for n in otelbridge.__all__ if n not in quiet and f"`otelbridge.{n}" not in text]
    assert missing == []


def test_the_checks_find_what_is_wrong():
    """The checks themselves: a name that does not exist is seen."""
    assert not _resolves("otelbridge.nothing")
    assert not _resolves("otelbridge.genai.calls.ModelCall.nothing")
    assert _resolves("otelbridge.genai.calls.ModelCall.record")
    assert _resolves(semconv.LLM_KEEP)
    assert "two-commands" in _anchors(ROOT / "README.md")
    assert ast.parse(blocks("README.md", "python", "runs")[0][1])


if __name__ == "__main__":
    target = ROOT / "docs" / "python.md"
    target.write_text(
        _with_generated(target.read_text(encoding="utf-8"), generated()), encoding="utf-8"
    )
