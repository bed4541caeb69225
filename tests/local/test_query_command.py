"""`otelbridge query` against a running local server: tables, plots, refusals, exit statuses."""

from __future__ import annotations

import contextlib
import http.server
import json
import sys
import threading
import time
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from otelbridge.cli import main
from otelbridge.cli._examples import EXAMPLES
from otelbridge.local.server import LocalServer

TRACE = "00000000000000000000000000c0ffee"
Shown = tuple[int, str, str]


@pytest.fixture(scope="module")
def server(samples: Any) -> Iterator[LocalServer]:
    """A server with one trace of a minute ago: a root and three model calls, one of them failed."""
    with LocalServer() as running:
        now = time.time_ns() - 60 * 10**9
        base = {"trace_id": bytes.fromhex(TRACE)}

        def span(number: int, name: str, seconds: float, **more: Any) -> Any:
            return samples.span(
                name, more.pop("attributes", None), span_id=number.to_bytes(8, "big"),
                start_time_unix_nano=now + number, end_time_unix_nano=now + int(seconds * 1e9),
                **base, **more,
            )  # fmt: skip

        def call(number: int, model: str, cost: float, seconds: float, **more: Any) -> Any:
            values = {
                "gen_ai.operation.name": "chat", "gen_ai.request.model": model,
                "gen_ai.usage.cost": cost, "otelbridge.branch": "tempo",
            }  # fmt: skip
            parent = (1).to_bytes(8, "big")
            return span(
                number, f"chat {model}", seconds, attributes=values, parent_span_id=parent, **more
            )

        request = samples.request(
            span(1, "POST /ask\x1b[31m", 4),
            call(2, "gpt-4o", 0.25, 3.5, status={"code": 2, "message": "429"}),
            call(3, "gpt-4o", 0.5, 3.75),
            call(4, "o4-mini", 0.125, 0.5),
            service="gateway",
        )
        from otelbridge.local import records

        running.store.write(records.Batch(tuple(records.records(request)), ())).result()
        yield running


@pytest.fixture
def ask(
    server: LocalServer, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> Callable[..., Shown]:
    """Run `otelbridge query`; gives exit status, standard output and standard error."""
    monkeypatch.setenv("OTELBRIDGE_TEMPO_URL", server.tempo_url)

    def run(*words: str) -> Shown:
        status = main(["query", *words])
        streams = capsys.readouterr()
        return status, streams.out, streams.err

    return run


@contextlib.contextmanager
def answering(body: bytes, status: int = 200) -> Iterator[str]:
    """The address of a server that answers every GET alike."""

    class Other(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(status)
            self.send_header("content-length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_: object) -> None:
            pass

    with http.server.HTTPServer(("127.0.0.1", 0), Other) as other:
        thread = threading.Thread(target=other.serve_forever)
        thread.start()
        try:
            yield f"http://127.0.0.1:{other.server_port}"
        finally:
            other.shutdown()
            thread.join()


def test_a_search_is_a_table_with_one_line_a_trace(ask: Callable[..., Shown]):
    """Padded trace id, root without control characters, service, duration, spans, attributes."""
    status, out, err = ask(
        '{ span.gen_ai.request.model = "gpt-4o" } | select(span.gen_ai.usage.cost)'
    )
    head, row, counts = out.splitlines()
    assert (status, err) == (0, "")
    assert head.split() == [
        "trace", "id", "start", "(UTC)", "root", "service", "duration", "spans", "attributes",
    ]  # fmt: skip
    assert row.startswith(TRACE)
    assert "\x1b" not in out
    assert "POST /ask" in row
    assert row.split()[-6:-2] == ["gateway", "4.00", "s", "2"]
    assert row.split()[-2:] == ["gen_ai.request.model=gpt-4o", "gen_ai.usage.cost=0.25|0.5"]
    assert counts == "1 trace, 2 matched spans"


def test_spans_are_listed_one_a_line_with_their_names(ask: Callable[..., Shown]):
    """`--spans` asks for the names too, which Tempo leaves out otherwise."""
    status, out, _ = ask('{ span.gen_ai.request.model = "gpt-4o" } // mine', "--spans")
    rows = out.splitlines()[1:-1]
    assert status == 0
    assert [row.split()[1] for row in rows] == ["0000000000000002", "0000000000000003"]
    assert all("chat gpt-4o" in row for row in rows)


def test_the_langfuse_link_is_shown_when_a_project_is_configured(
    ask: Callable[..., Shown], monkeypatch: pytest.MonkeyPatch
):
    """The whole link, never cut, at the end of the line."""
    monkeypatch.setenv("LANGFUSE_PUBLIC_URL", "https://langfuse.example.com")
    monkeypatch.setenv("LANGFUSE_PROJECT_ID", "shop")
    _, out, _ = ask("{ status = error }")
    assert out.splitlines()[1].endswith(
        f"  https://langfuse.example.com/project/shop/traces/{TRACE}"
    )


def test_a_metrics_query_is_a_plot_with_figures(ask: Callable[..., Shown]):
    """Largest series first, one scale for all, sums where they make sense."""
    query = "{ } | sum_over_time(span.gen_ai.usage.cost) by (span.gen_ai.request.model)"
    status, out, _ = ask(query, "--since", "10m")
    head, first, second, axis = out.splitlines()
    assert status == 0
    assert head.split() == ["span.gen_ai.request.model", "min", "max", "last", "sum"]
    assert first.split() == ["gpt-4o", "█", "0.75", "0.75", "0.75", "0.75"]
    assert second.split() == ["o4-mini", "▂", "0.125", "0.125", "0.125", "0.125"]
    assert first.index("█") == second.index("▂")
    assert axis.endswith("UTC, 0 to 0.75")
    _, out, _ = ask("{ } | rate()", "--since", "10m")
    assert out.splitlines()[0].split() == ["series", "min", "max", "last"]
    assert out.splitlines()[1].startswith("rate    ▁▁▁")


@pytest.mark.parametrize(
    "query", ['{ name = "nobody" }', '{ name = "nobody" } | rate()',
              '{ name = "nobody" } | rate() by (name)'],
)  # fmt: skip
def test_nothing_found_is_status_1_and_a_line_on_standard_error(
    ask: Callable[..., Shown], query: str
):
    """A script can tell; series of zeros alone are nothing too."""
    status, _, err = ask(query)
    assert status == 1
    assert err == "otelbridge query: nothing matches; --since looks further back\n"


def test_since_limits_how_far_back_is_looked(ask: Callable[..., Shown]):
    """The trace is a minute old: 30 s find nothing, an hour does."""
    assert ask("{ }", "--since", "30s")[0] == 1
    assert ask("{ }", "--since", "1h")[0] == 0


def test_json_is_the_answer_as_it_came(ask: Callable[..., Shown]):
    """Standard output is Tempo's JSON and nothing else."""
    status, out, _ = ask("{ status = error }", "--json", "--limit", "1")
    assert status == 0
    assert [trace["traceID"] for trace in json.loads(out)["traces"]] == ["c0ffee"]
    status, out, _ = ask('{ name = "nobody" }', "--json")
    assert (status, json.loads(out)["traces"]) == (1, [])


def test_a_refused_query_shows_the_place_and_a_hint(ask: Callable[..., Shown]):
    """Status 2, nothing on standard output, a caret below the offending piece."""
    status, out, err = ask("{ span.a = 1 && name = 5 }")
    assert (status, out) == (2, "")
    first, query, caret, hint = err.splitlines()
    assert first.startswith("otelbridge: the query is refused: binary operations must operate")
    assert query[caret.index("^")] == "="
    assert hint.startswith("hint: ")


def test_a_refusal_that_only_the_server_knows_is_shown_as_it_came(ask: Callable[..., Shown]):
    """A range that is too long, for example."""
    status, _, err = ask("{ } | rate()", "--since", "9d")
    assert status == 2
    assert "metrics query time range 216h0m0s exceeds" in err


def test_a_trap_is_a_warning_on_standard_error(ask: Callable[..., Shown]):
    """The answer comes all the same; `--compat tempo` gives Tempo's, which is empty here."""
    status, out, err = ask("{ 0.3 < span.gen_ai.usage.cost }")
    assert status == 0
    assert out.endswith("1 trace, 1 matched span\n")
    assert err.startswith("warning: literal_on_left at ")
    assert "Instead: span.gen_ai.usage.cost > 0.3" in err
    assert ask("{ 0.3 < span.gen_ai.usage.cost }", "--compat", "tempo")[0] == 1


@pytest.mark.parametrize(
    "words",
    [[], ["{ }", "--example", "openai"], ["--example", "no-such"], ["{ }", "--since", "soon"],
     ["{ }", "--limit", "0"], ["{ }", "--tempo", "ftp://host"], ["{ }", "--tempo", "http://127.0.0.1:1"],
     ["{ }", "--tempo", "http://127.0.0.1:many"], ["{ }", "--tempo", "http://[::1"]],
)  # fmt: skip
def test_bad_usage_and_an_absent_tempo_are_status_2(ask: Callable[..., Shown], words: list[str]):
    """So that status 1 always means: asked, and nothing matched."""
    status, out, err = ask(*words)
    assert (status, out) == (2, "")
    assert "otelbridge" in err
    assert "Traceback" not in err


@pytest.mark.parametrize(
    ("status", "body", "text"),
    [
        (500, b"boom\x1b[2J", "Tempo answered status 500: boom"),
        (200, b"<html>", "did not answer as Tempo does"),
        (200, b"[1]", "did not answer as Tempo does"),
        (200, b'{"traces": [7]}', "did not answer as Tempo does"),
    ],
)
def test_something_else_than_a_tempo_is_one_line_and_status_2(
    ask: Callable[..., Shown], status: int, body: bytes, text: str
):
    """Whatever stands at the address, the command ends with a sentence."""

    with answering(body, status) as url:
        got, out, err = ask("{ }", "--tempo", url)
    assert (got, out) == (2, "")
    assert text in err
    assert "\x1b" not in err
    assert err.count("\n") == 1


def test_the_named_queries_are_listed_and_asked_by_name(ask: Callable[..., Shown]):
    """`--example list` shows all; a name asks its query and prints it on standard error."""
    status, out, _ = ask("--example", "list")
    assert status == 0
    assert all(example.query in out for example in EXAMPLES.values())
    status, out, err = ask("--example", "slow-gpt-4o")
    assert status == 0
    assert TRACE in out
    assert err == EXAMPLES["slow-gpt-4o"].query + "\n"


def test_retries_are_calls_beside_a_failed_one(ask: Callable[..., Shown]):
    """The named query finds the two calls that stand beside the failed one."""
    status, out, _ = ask("--example", "retries")
    assert status == 0
    assert out.endswith("1 trace, 2 matched spans\n")


@pytest.mark.parametrize(
    ("query", "body", "shown"),
    [
        ("{ }", b'{"traces": [{"traceID": "abc", "rootTraceName": "job"}]}', "job"),
        ("{ } | rate()", b'{"series": [{"samples": [{"timestampMs": "1", "value": 2}]}]}',
         "UTC, 0 to 2"),
    ],
)  # fmt: skip
def test_a_tempo_can_be_asked_without_the_local_extra(
    ask: Callable[..., Shown], monkeypatch: pytest.MonkeyPatch, query: str, body: bytes, shown: str
):
    """Parser and lint are only an aid: without them the query is sent as it is."""
    monkeypatch.setitem(sys.modules, "lark", None)
    with answering(body) as url:
        status, out, err = ask(query, "--tempo", url)
    assert (status, err) == (0, "")
    assert shown in out
