"""The fixture in suites of their own: nothing leaves, nothing is lost, everything is put back."""

from __future__ import annotations

import http.server
import importlib.util
import os
import subprocess
import sys
import textwrap
import threading
import tomllib
from collections.abc import Iterator
from pathlib import Path

import pytest

from otelbridge.errors import DependencyError
from otelbridge.testing import plugin

ROOT = Path(__file__).parents[2]


def file(text: str) -> str:
    return textwrap.dedent(text)


@pytest.fixture
def collector() -> Iterator[tuple[str, list[str]]]:
    """An OTLP endpoint, and the paths that were posted to it."""
    seen: list[str] = []

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            self.rfile.read(int(self.headers["content-length"]))
            seen.append(self.path)
            self.send_response(200)
            self.end_headers()

        def log_message(self, *args: object) -> None:
            pass

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True).start()
    yield f"http://127.0.0.1:{server.server_port}", seen
    server.shutdown()
    server.server_close()


def test_module_level_tracers_are_captured_in_every_test(suite):
    """A tracer made at import time reports to each test its own spans, and to none in between."""
    done = suite({"test_it.py": file("""
        import pytest
        from opentelemetry import trace
        tracer = trace.get_tracer("app")

        def work(name):
            with tracer.start_as_current_span(name) as span:
                return span.is_recording()

        @pytest.mark.parametrize("name", ["one", "two"])
        def test_captured(traces, name):
            assert work(name)
            assert [span.name for span in traces.query()] == [name]

        def test_without_the_fixture():
            assert not work("three")
    """)})  # fmt: skip
    assert set(done.tests.values()) == {"passed"}, done.output
    assert len(done.tests) == 3


def test_the_globals_are_put_back(suite):
    """Provider, propagator, helpers' switches, configure() and instrumentations are as before."""
    done = suite({"test_it.py": file("""
        import flask, httpx, threading
        from opentelemetry import propagate, trace
        from otelbridge import provider
        from otelbridge.genai import _config
        from otelbridge.integrations import flask as integration

        def state():
            return (
                trace._TRACER_PROVIDER, trace._TRACER_PROVIDER_SET_ONCE._done,
                propagate.get_global_textmap(), _config.get_config(), flask.Flask,
                httpx.HTTPTransport.handle_request.__wrapped__.__class__ if hasattr(
                    httpx.HTTPTransport.handle_request, "__wrapped__") else None,
                threading.Thread.start, integration._state["instrument_apps"],
                provider.active_settings(), provider._state.provider,
            )

        def test_inside(traces):
            before = state()
            assert type(before[0]).__name__ == "_Provider"
            assert flask.Flask.__name__ == "_InstrumentedFlask"

        def test_outside():
            after = state()
            assert after[:2] == (None, False)
            assert type(after[2]).__name__ == "CompositePropagator"
            assert flask.Flask.__name__ == "Flask"
            assert not hasattr(threading.Thread.start, "__wrapped__")
            assert after[7:] == (False, None, None)

        def test_inside_again(traces):
            assert flask.Flask.__name__ == "_InstrumentedFlask"

        def test_outside_again():
            test_outside()
    """)})  # fmt: skip
    assert list(done.tests.values()) == ["passed"] * 4, done.output


def test_a_configured_suite_exports_nothing_during_a_test(suite, collector):
    """With `configure()` at import the fixture takes over the export path and gives it back."""
    url, seen = collector
    done = suite({
        "app.py": file("""
            import otelbridge
            from opentelemetry import trace
            provider = otelbridge.configure(instrument=False)
            tracer = trace.get_tracer("app")
        """),
        "test_it.py": file("""
            import app, otelbridge
            from opentelemetry import trace

            def test_captured(traces):
                assert trace.get_tracer_provider() is app.provider
                with app.tracer.start_as_current_span("held back"):
                    pass
                assert otelbridge.flush()
                span = traces.assert_one('{ name = "held back" }')
                assert span.get("otelbridge.llm.parent") == ""

            def test_given_back():
                before = trace.get_tracer_provider()._active_span_processor._span_processors
                assert len(before) == 1
                with app.tracer.start_as_current_span("sent"):
                    pass
                assert otelbridge.flush()
        """),
    }, env={"OTEL_EXPORTER_OTLP_ENDPOINT": url})  # fmt: skip
    assert list(done.tests.values()) == ["passed"] * 2, done.output
    assert seen == ["/v1/traces"]


def test_another_librarys_provider_is_completed_and_silenced(suite, collector):
    """A suite's own SDK provider keeps its in-memory exporter and sends nothing to the outside."""
    url, seen = collector
    done = suite({"test_it.py": file("""
        from opentelemetry import trace
        from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
        from opentelemetry.sdk.trace import TracerProvider
        from opentelemetry.sdk.trace.export import SimpleSpanProcessor
        from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

        own = InMemorySpanExporter()
        provider = TracerProvider(shutdown_on_exit=False)
        provider.add_span_processor(SimpleSpanProcessor(own))
        provider.add_span_processor(SimpleSpanProcessor(OTLPSpanExporter()))
        trace.set_tracer_provider(provider)
        tracer = trace.get_tracer("app")

        def test_captured(traces):
            with tracer.start_as_current_span("seen by both"):
                pass
            traces.assert_one('{ name = "seen by both" }')
            assert [span.name for span in own.get_finished_spans()] == ["seen by both"]

        def test_put_back():
            assert trace.get_tracer_provider() is provider
            assert len(provider._active_span_processor._span_processors) == 2
    """)}, env={"OTEL_EXPORTER_OTLP_ENDPOINT": url})  # fmt: skip
    assert list(done.tests.values()) == ["passed"] * 2, done.output
    assert seen == []


def test_configure_and_shutdown_in_the_code_under_test_change_nothing(suite, collector):
    """An application that configures and shuts down by itself is captured and exports nothing."""
    url, seen = collector
    done = suite({"test_it.py": file("""
        import otelbridge
        from opentelemetry import trace

        def app(name):
            otelbridge.configure(service_name="mine")
            with trace.get_tracer("app").start_as_current_span(name):
                pass
            otelbridge.shutdown()
            trace.get_tracer_provider().shutdown()

        def test_one(traces):
            app("first")
            app("second")
            traces.assert_count("{ }", 2)

        def test_two(traces):
            app("third")
            traces.assert_one('{ name = "third" }')
    """)}, env={"OTEL_EXPORTER_OTLP_ENDPOINT": url})  # fmt: skip
    assert list(done.tests.values()) == ["passed"] * 2, done.output
    assert seen == []


def test_environment_that_switches_tracing_off_does_not_empty_the_fixture(suite):
    """OTEL_SDK_DISABLED and a sampler that drops everything are common in test runs."""
    done = suite({"test_it.py": file("""
        from opentelemetry import trace

        def test_captured(traces):
            with trace.get_tracer("app").start_as_current_span("work"):
                pass
            assert traces.assert_one("{ }").service == "clerk"
    """)}, env={"OTEL_SDK_DISABLED": "true", "OTEL_TRACES_SAMPLER": "always_off",
                "OTEL_SERVICE_NAME": "clerk"})  # fmt: skip
    assert done.tests == {"test_captured": "passed"}, done.output


def test_async_tests_are_captured(suite):
    """Spans of an anyio test and of its tasks are in one trace."""
    pytest.importorskip("anyio")
    done = suite({"test_it.py": file("""
        import anyio, pytest
        from opentelemetry import trace
        tracer = trace.get_tracer("app")

        @pytest.fixture
        def anyio_backend():
            return "asyncio"

        async def step(name):
            with tracer.start_as_current_span(name):
                await anyio.sleep(0)

        @pytest.mark.anyio
        @pytest.mark.parametrize("turn", [1, 2])
        async def test_captured(traces, turn):
            with tracer.start_as_current_span("work"):
                async with anyio.create_task_group() as group:
                    group.start_soon(step, "left")
                    group.start_soon(step, "right")
            traces.assert_tree('''
                work
                  left
                  right
            ''')
    """)}, "-p", "anyio")  # fmt: skip
    assert list(done.tests.values()) == ["passed"] * 2, done.output


def test_xdist_workers_capture_their_own_tests(suite):
    """Every worker process has a capture of its own."""
    if importlib.util.find_spec("xdist") is None:
        pytest.skip("pytest-xdist is not installed")
    done = suite({"test_it.py": file("""
        import pytest
        from opentelemetry import trace
        tracer = trace.get_tracer("app")

        @pytest.mark.parametrize("number", range(6))
        def test_captured(traces, number):
            with tracer.start_as_current_span(f"work {number}"):
                pass
            assert traces.assert_one("{ }").name == f"work {number}"
    """)}, "-n", "2")  # fmt: skip
    assert list(done.tests.values()) == ["passed"] * 6, done.output


def test_a_flask_service_is_instrumented_and_waited_for(suite):
    """The server's span and the client's are in one tree, however late the server's one ends."""
    done = suite({"test_it.py": file("""
        import threading, time
        import flask, httpx, otelbridge
        from werkzeug.serving import make_server

        def test_request(traces):
            app = flask.Flask("clerk")

            @app.post("/ask")
            def ask():
                with otelbridge.chat("gpt-4o", provider="openai", messages="How many?") as call:
                    call.set_usage(input_tokens=1, output_tokens=1)

                def body():
                    yield "forty"
                    time.sleep(0.2)
                return flask.Response(body())

            server = make_server("127.0.0.1", 0, app, threaded=True)
            threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True).start()
            with httpx.Client(trust_env=False) as client:
                with client.stream("POST", f"http://127.0.0.1:{server.server_port}/ask") as reply:
                    assert "".join(reply.iter_text()) == "forty"
            traces.assert_one('{ name = "POST /ask" && kind = server } > { name = "chat gpt-4o" }')
            traces.assert_one('{ kind = client } > { kind = server }')
            traces.assert_no_orphans()
            server.shutdown()
            server.server_close()
    """)}, "-W", "ignore::ResourceWarning")  # fmt: skip
    assert done.tests == {"test_request": "passed"}, done.output


def test_instrumentation_can_be_left_alone(suite):
    """With the ini option off no library is touched; spans are captured as before."""
    done = suite({"test_it.py": file("""
        import flask
        from opentelemetry import trace

        def test_it(traces):
            assert flask.Flask.__name__ == "Flask"
            with trace.get_tracer("app").start_as_current_span("work"):
                pass
            traces.assert_one("{ }")
    """)}, "-o", "otelbridge_instrument=false")  # fmt: skip
    assert done.tests == {"test_it": "passed"}, done.output


def test_a_library_imported_during_the_test_is_instrumented(suite):
    """Import hooks work while the fixture is active and are inert outside of it."""
    done = suite({"test_it.py": file("""
        import sys

        def test_before_the_import(traces):
            assert "flask" not in sys.modules

        def test_imports(traces):
            import flask
            assert flask.Flask.__name__ == "_InstrumentedFlask"

        def test_after():
            import flask
            assert flask.Flask.__name__ == "Flask"
    """)})  # fmt: skip
    assert list(done.tests.values()) == ["passed"] * 3, done.output


def test_spans_of_this_thread_are_not_waited_for(traces):
    """A query inside of an open span answers at once, without that span."""
    from opentelemetry import trace

    tracer = trace.get_tracer("app")
    with tracer.start_as_current_span("open"):
        with tracer.start_as_current_span("ended"):
            pass
        assert [span.name for span in traces.query()] == ["ended"]
        assert [span.name for span in traces.open_spans()] == ["open"]
    assert {span.name for span in traces.query()} == {"open", "ended"}


def test_a_failed_test_shows_its_tree(suite):
    """Any failure of a test with the fixture ends with the tree of what it did, not twice."""
    done = suite({"test_it.py": file("""
        from opentelemetry import trace

        def test_plain(traces):
            with trace.get_tracer("app").start_as_current_span("work"):
                pass
            assert 1 == 2

        def test_ours(traces):
            with trace.get_tracer("app").start_as_current_span("toil"):
                pass
            traces.assert_none("{ }")
    """)})  # fmt: skip
    assert done.tests == {"test_plain": "failure", "test_ours": "failure"}
    assert done.output.count("- otelbridge traces -") == 1
    assert "  work" in done.output
    assert "  toil   ◄ match" in done.output


def test_a_pytest_without_the_fixture_loads_nothing_heavy(suite):
    """The plugin costs other suites neither DuckDB nor Lark."""
    done = suite({"test_it.py": file("""
        import sys

        def test_light():
            assert "otelbridge.testing.plugin" in sys.modules
            heavy = ("duckdb", "lark", "starlette", "uvicorn", "flask", "grpc", "langfuse")
            assert [name for name in heavy if name in sys.modules] == []
            assert [name for name in sys.modules if name.startswith("otelbridge.local")] == []
    """)})  # fmt: skip
    assert done.tests == {"test_light": "passed"}, done.output


def test_the_plugin_module_alone_loads_nothing_heavy():
    """Importing the entry point's module leaves DuckDB and Lark out."""
    code = (
        "import sys, otelbridge.testing.plugin;"
        "print([n for n in ('duckdb', 'lark', 'otelbridge.testing.traces') if n in sys.modules])"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=True,
        cwd=ROOT,
    )  # fmt: skip
    assert done.stdout.strip() == "[]"


def test_the_entry_point_brings_the_fixtures(tmp_path):
    """A pytest that finds the declared entry point has `traces` without any option."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    declared = project["entry-points"]["pytest11"]
    assert declared == {"otelbridge": "otelbridge.testing.plugin"}
    metadata = tmp_path / "otelbridge_declared-1.dist-info"
    metadata.mkdir()
    (metadata / "METADATA").write_text("Metadata-Version: 2.1\nName: declared\nVersion: 1\n")
    lines = [f"{name} = {module}" for name, module in declared.items()]
    (metadata / "entry_points.txt").write_text("\n".join(["[pytest11]", *lines]) + "\n")
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "--fixtures", "-q"], capture_output=True, text=True,
        timeout=55, cwd=tmp_path, check=False,
        env={**os.environ, "PYTHONPATH": os.pathsep.join([str(tmp_path), str(ROOT)])},
    )  # fmt: skip
    assert "traces -- " in done.stdout, done.stdout + done.stderr
    assert "live_traces -- " in done.stdout


def test_a_missing_package_is_named(monkeypatch):
    """Without the extra the fixture says what to install."""
    found = importlib.util.find_spec
    monkeypatch.setattr(
        importlib.util, "find_spec", lambda name: None if name == "duckdb" else found(name)
    )
    with pytest.raises(DependencyError, match=r"install otelbridge\[local\]: duckdb not found"):
        plugin._need("duckdb", "lark")
