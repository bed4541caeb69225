"""Traces as addresses: `otelbridge.links`, `trace_links()` and `otelbridge link`."""

from __future__ import annotations

import json
import logging
import re
import urllib.parse

import pytest
from opentelemetry import trace

import otelbridge
from otelbridge import cli, links, semconv, span_rules
from otelbridge.links import TraceLinks
from otelbridge.span_rules import Pages, Place
from tests.grafana.explore import opened

TRACE_ID, SPAN_ID = "00f7651916cd43dd8448eb211c80319c", "00f067aa0ba902b7"
START_NS = 1_760_000_000_123_456_789
PAGES = Pages("https://lf/base", "p-7", "https://grafana.example/g")
LANGFUSE = f"https://lf/base/project/p-7/traces/{TRACE_ID}"
ENVIRONMENT = {
    "LANGFUSE_PUBLIC_URL": "https://lf/base/",
    "LANGFUSE_PROJECT_ID": "p-7",
    "OTELBRIDGE_GRAFANA_URL": "https://grafana.example/g/",
}
DASHBOARDS = Pages("https://lf", "p", "https://grafana.example", "dashboard")


@pytest.fixture
def environment(monkeypatch: pytest.MonkeyPatch) -> None:
    """Both stores are configured, with a path and a trailing slash."""
    for name, value in ENVIRONMENT.items():
        monkeypatch.setenv(name, value)


# -- ids to addresses ------------------------------------------------------------------------------
def test_a_span_opens_in_explore_within_its_time():
    """The trace by id from the Tempo source, its span focused, from before to after its start."""
    found = links.links(PAGES, TRACE_ID, SPAN_ID, START_NS)
    assert found.langfuse_url == f"{LANGFUSE}?observation={SPAN_ID}"
    assert found.grafana_url is not None
    assert found.grafana_url.startswith("https://grafana.example/g/explore?")
    pane = opened(found.grafana_url)
    assert (pane.datasource, pane.span_id) == ("otelbridge-tempo", SPAN_ID)
    (query,) = pane.queries
    assert query["query"] == TRACE_ID
    assert query["queryType"] == "traceql"
    assert query["datasource"] == {"type": "tempo", "uid": "otelbridge-tempo"}
    begin, end = map(int, pane.time_range)
    assert begin < START_NS // 1_000_000 < end


def test_without_a_start_grafana_is_asked_for_all_that_tempo_keeps():
    """A trace's age is not known from its id; no span is focused when none is given."""
    found = links.links(PAGES, TRACE_ID)
    assert found.langfuse_url == LANGFUSE
    assert found.grafana_url is not None
    pane = opened(found.grafana_url)
    assert (pane.time_range, pane.span_id) == (("now-14d", "now"), None)


def test_viewers_get_the_dashboard():
    """Explore is closed to Viewers: the other form leads to the dashboard of traces."""
    url = links.links(DASHBOARDS, TRACE_ID, SPAN_ID, START_NS).grafana_url
    assert url is not None
    parts = urllib.parse.urlsplit(url)
    assert parts.path == "/d/otelbridge-traces"
    query = urllib.parse.parse_qs(parts.query)
    assert query["var-traceId"] == [TRACE_ID]
    assert int(query["from"][0]) < START_NS // 1_000_000 < int(query["to"][0])


@pytest.mark.parametrize("pages", [PAGES, DASHBOARDS])
def test_the_addresses_are_those_that_spans_carry(pages: Pages):
    """One maker of addresses: what a span carries is what the command prints."""
    place = Place(TRACE_ID, SPAN_ID, START_NS)
    chat = {semconv.GEN_AI_OPERATION_NAME: "chat"}
    in_tempo, _ = span_rules.tempo_span(chat, content_elsewhere=False, place=place, pages=pages)
    in_langfuse = span_rules.langfuse_span(chat, "", place=place, pages=pages)
    assert in_langfuse is not None
    found = links.links(pages, TRACE_ID, SPAN_ID, START_NS)
    assert in_tempo[semconv.LANGFUSE_URL] == found.langfuse_url
    assert in_langfuse[0][semconv.GRAFANA_URL] == found.grafana_url


@pytest.mark.parametrize(
    ("pages", "expected"),
    [
        (Pages(), {"langfuse": ("LANGFUSE_PUBLIC_URL", "LANGFUSE_PROJECT_ID"),
                   "grafana": ("OTELBRIDGE_GRAFANA_URL",)}),
        (Pages("https://lf"), {"langfuse": ("LANGFUSE_PROJECT_ID",),
                               "grafana": ("OTELBRIDGE_GRAFANA_URL",)}),
        (PAGES, {}),
    ],
)  # fmt: skip
def test_no_address_is_made_up(pages: Pages, expected):
    """A store that is not configured has no link, and what is missing is named."""
    found = links.links(pages, TRACE_ID, SPAN_ID, START_NS)
    assert links.missing_settings(pages) == expected
    assert (found.langfuse_url is None) == ("langfuse" in expected)
    assert (found.grafana_url is None) == ("grafana" in expected)


@pytest.mark.parametrize(
    ("project", "segment"),
    [("p-7", "p-7"), ("a b/c?d#e", "a%20b%2Fc%3Fd%23e"), ("a%20b", "a%20b"), ("ü", "%C3%BC"),
     ('"x"', "%22x%22"), ("a:b@c", "a:b@c")],
)  # fmt: skip
def test_a_project_id_is_one_segment_of_the_path(project: str, segment: str):
    """Whatever it holds; one that was copied out of an address stays as it is."""
    settings = otelbridge.Settings.from_env({**ENVIRONMENT, "LANGFUSE_PROJECT_ID": project})
    url = links.links(links.pages_of(settings), TRACE_ID).langfuse_url
    assert url == f"https://lf/base/project/{segment}/traces/{TRACE_ID}"


# -- addresses to ids ------------------------------------------------------------------------------
@pytest.mark.parametrize("pages", [PAGES, DASHBOARDS])
@pytest.mark.parametrize("span_id", [None, SPAN_ID])
def test_ids_come_back_out_of_every_address(pages: Pages, span_id: str | None):
    """Langfuse's page and both forms of Grafana's; a dashboard cannot name a span."""
    found = links.links(pages, TRACE_ID, span_id, START_NS)
    assert found.langfuse_url is not None
    assert found.grafana_url is not None
    assert links.ids_of(found.langfuse_url) == (TRACE_ID, span_id)
    in_grafana = None if pages is DASHBOARDS else span_id
    assert links.ids_of(found.grafana_url) == (TRACE_ID, in_grafana)


def test_ids_come_out_of_addresses_that_others_make():
    """Langfuse's list with a trace beside it, its short address, and Explore's older form."""
    pane = {"datasource": "x", "queries": [{"refId": "A", "query": TRACE_ID}]}
    left = urllib.parse.quote(json.dumps(pane))
    for url in (
        f"https://lf/project/p/traces?peek={TRACE_ID}&observation={SPAN_ID}",
        f"https://lf/trace/{TRACE_ID}?observation={SPAN_ID}",
    ):
        assert links.ids_of(url) == (TRACE_ID, SPAN_ID)
    assert links.ids_of(f"https://g/explore?left={left}") == (TRACE_ID, None)


@pytest.mark.parametrize(
    "url",
    [
        "https://lf/project/p/traces",
        "https://lf/project/p/traces/xyz",
        "https://g/explore?panes={",
        "https://g/explore?panes=[]",
        "https://g/explore?panes=%7B%22a%22%3A1%7D",
        'https://g/explore?left={"queries":[{"query":"{ }"}]}',
        "https://g/",
    ],
)
def test_other_addresses_are_refused(url: str):
    """An address without a trace id, or with a broken pane, is a ValueError and nothing else."""
    with pytest.raises(ValueError, match="no trace id"):
        links.ids_of(url)


# -- ids -------------------------------------------------------------------------------------------
@pytest.mark.parametrize(
    ("text", "expected"),
    [(TRACE_ID, TRACE_ID), (TRACE_ID.upper(), TRACE_ID), (f" {TRACE_ID}\n", TRACE_ID),
     (TRACE_ID[2:], TRACE_ID), ("a" * 31, "0" + "a" * 31), ("1", "0" * 31 + "1")],
)  # fmt: skip
def test_trace_ids_as_people_paste_them(text: str, expected: str):
    """Upper case, spaces around, and the leading zeros that Tempo's search leaves out."""
    assert links.parse_trace_id(text) == expected


@pytest.mark.parametrize(
    "text", ["", "0" * 32, "g" * 32, "a" * 33, "0x" + "a" * 30, "a b", "\u0661" * 32]
)
def test_what_is_no_trace_id_is_said(text: str):
    """The error repeats what was given and says what an id is."""
    with pytest.raises(ValueError, match=re.escape(f"{text!r} is no trace id: ")):
        links.parse_trace_id(text)


@pytest.mark.parametrize("text", ["", "0" * 16, "a" * 15, "a" * 17, "a" * 32, "z" * 16])
def test_what_is_no_span_id_is_said(text: str):
    """A span id is never repaired by zeros: nothing leaves them out."""
    with pytest.raises(ValueError, match=re.escape(f"{text!r} is no span id: ")):
        links.parse_span_id(text)


# -- the command -----------------------------------------------------------------------------------
def test_the_command_prints_both(environment, capsys):
    """One line for each store, Langfuse first; exit status 0 and nothing on the error stream."""
    assert cli.main(["link", TRACE_ID, "--span", SPAN_ID]) == 0
    out, err = capsys.readouterr()
    assert err == ""
    first, second = (line.split() for line in out.splitlines())
    assert first == ["Langfuse", f"{LANGFUSE}?observation={SPAN_ID}"]
    assert second[0] == "Grafana"
    assert opened(second[1]).span_id == SPAN_ID


def test_the_command_answers_programs(environment, capsys):
    """`--json` gives ids, addresses and what is missing; `--start` sets Grafana's range."""
    assert cli.main(["link", TRACE_ID, "--json", "--start", "2026-11-21T16:40:00Z"]) == 0
    answer = json.loads(capsys.readouterr().out)
    assert (answer["trace_id"], answer["span_id"], answer["missing"]) == (TRACE_ID, None, {})
    assert answer["langfuse_url"] == LANGFUSE
    assert opened(answer["grafana_url"]).time_range == ("1795278300000", "1795282800000")


def test_the_command_turns_an_address_round(environment, capsys):
    """An address of the one store gives that of the other, with the same ids."""
    assert cli.main(["link", f"{LANGFUSE}?observation={SPAN_ID}", "--json"]) == 0
    to_grafana = json.loads(capsys.readouterr().out)["grafana_url"]
    assert opened(to_grafana).span_id == SPAN_ID
    assert cli.main(["link", to_grafana, "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["langfuse_url"].endswith(f"observation={SPAN_ID}")


def test_the_command_says_when_it_adds_zeros(environment, capsys):
    """An id out of Tempo's search works; one that was cut short is not taken in silence."""
    assert cli.main(["link", TRACE_ID.lstrip("0")]) == 0
    out, err = capsys.readouterr()
    assert LANGFUSE in out
    assert f"is taken as {TRACE_ID}" in err


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["xyz"], "'xyz' is no trace id"),
        (["a" * 33], "33 digits"),
        ([TRACE_ID, "--span", "abc"], "'abc' is no span id"),
        (["https://lf/"], "holds no trace id"),
        ([TRACE_ID, "--start", "soon"], "'soon' is no time"),
        ([], "required"),
        ([TRACE_ID, "--print-env"], "not allowed"),
    ],
)
def test_bad_usage_is_status_2(words: list[str], said: str, environment, capsys):
    """With a sentence about what was given, and nothing on the output."""
    assert cli.main(["link", *words]) == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert said in err


def test_the_command_says_what_to_set(capsys, monkeypatch):
    """Status 1 with the names of the variables; what can be printed is printed."""
    assert cli.main(["link", TRACE_ID]) == 1
    out, err = capsys.readouterr()
    assert out == ""
    for name in ("LANGFUSE_PUBLIC_URL", "LANGFUSE_PROJECT_ID", "OTELBRIDGE_GRAFANA_URL"):
        assert name in err
    monkeypatch.setenv("OTELBRIDGE_GRAFANA_URL", "https://grafana.example")
    assert cli.main(["link", TRACE_ID]) == 1
    out, err = capsys.readouterr()
    assert out.startswith("Grafana ")
    assert "OTELBRIDGE_GRAFANA_URL" not in err
    assert cli.main(["link", "--print-env"]) == 1
    out, err = capsys.readouterr()
    assert out == ""
    assert "LANGFUSE_PROJECT_ID" in err


def test_a_bad_form_of_links_is_refused(monkeypatch, capsys):
    """OTELBRIDGE_GRAFANA_LINKS has two words; another one is named, with status 2."""
    monkeypatch.setenv("OTELBRIDGE_GRAFANA_LINKS", "loki")
    assert cli.main(["link", TRACE_ID]) == 2
    assert "OTELBRIDGE_GRAFANA_LINKS" in capsys.readouterr().err


# -- trace_links -----------------------------------------------------------------------------------
def current() -> TraceLinks:
    """The links inside of a span, with ids that belong to it."""
    found = otelbridge.trace_links()
    assert found.trace_id == otelbridge.current_trace_id()
    assert found.span_id == f"{trace.get_current_span().get_span_context().span_id:016x}"
    return found


@pytest.fixture
def configured(environment):
    """`configure(**overrides)` with nowhere to send to; switched off afterwards."""

    def start(**overrides):
        otelbridge.configure(traces_exporter="none", instrument=False, **overrides)

    yield start
    otelbridge.shutdown(1)


def test_a_call_in_the_view_is_selected_in_langfuse(configured):
    """Inside of a model call: its observation and its span."""
    configured()
    with otelbridge.chat("gpt-4o", provider="openai"):
        found = current()
    assert found.langfuse_url is not None
    assert found.langfuse_url.endswith(f"/traces/{found.trace_id}?observation={found.span_id}")
    assert found.grafana_url is not None
    assert opened(found.grafana_url).span_id == found.span_id
    assert found.as_dict() == {
        "trace_id": found.trace_id, "span_id": found.span_id,
        "langfuse_url": found.langfuse_url, "grafana_url": found.grafana_url,
    }  # fmt: skip


def test_another_span_leads_to_the_whole_trace(configured):
    """A span that may be left out of Langfuse is not asked for there, in Grafana it is."""
    configured()
    with trace.get_tracer("shop").start_as_current_span("work"):
        found = current()
    assert found.langfuse_url == f"https://lf/base/project/p-7/traces/{found.trace_id}"
    assert found.grafana_url is not None
    assert opened(found.grafana_url).span_id == found.span_id


def test_the_form_of_links_is_a_setting(configured):
    """The argument of `configure` decides as the variable does."""
    configured(grafana_links="dashboard")
    with otelbridge.span("work"):
        url = otelbridge.trace_links().grafana_url
    assert url is not None
    assert "/d/otelbridge-traces?var-traceId=" in url


@pytest.mark.parametrize("overrides", [{"langfuse_enabled": False}, {"langfuse_sample_rate": 0.0}])
def test_a_trace_that_langfuse_does_not_get_has_no_link_there(overrides, configured):
    """Switched off or sampled out; Grafana has it all the same."""
    configured(**overrides)
    with otelbridge.chat("gpt-4o", provider="openai"):
        found = current()
    assert found.langfuse_url is None
    assert found.grafana_url is not None


def test_a_given_trace_needs_no_current_one(configured):
    """Any id out of a database or a log line; upper case and missing zeros are repaired."""
    configured()
    found = otelbridge.trace_links(TRACE_ID[2:].upper(), SPAN_ID)
    assert found == links.links(PAGES, TRACE_ID, SPAN_ID)
    assert otelbridge.trace_links(TRACE_ID).span_id is None


def test_it_never_raises_and_has_one_shape(configured, caplog):
    """Before `configure`, outside of a trace, and for what is no id: the values are None."""
    with trace.get_tracer("shop").start_as_current_span("work"):
        assert otelbridge.trace_links() == TraceLinks()
    assert otelbridge.trace_links(TRACE_ID) == TraceLinks(TRACE_ID)
    configured()
    assert otelbridge.trace_links() == TraceLinks()
    with caplog.at_level(logging.WARNING, logger="otelbridge"):
        for bad in ("xyz", "", 7, b"ab"):
            assert otelbridge.trace_links(bad) == TraceLinks()
        assert otelbridge.trace_links(TRACE_ID, "xyz") == TraceLinks()
    assert "trace_links" in caplog.text


def test_without_the_sdk_there_are_no_addresses(configured):
    """OTEL_SDK_DISABLED: a no-op of the same shape."""
    configured(sdk_disabled=True)
    with otelbridge.chat("gpt-4o", provider="openai"):
        assert otelbridge.trace_links() == TraceLinks()
    assert otelbridge.trace_links(TRACE_ID) == TraceLinks(TRACE_ID)


def test_an_unsampled_trace_has_no_addresses(configured, monkeypatch):
    """It is in neither store."""
    monkeypatch.setenv("OTEL_TRACES_SAMPLER", "always_off")
    configured()
    with trace.get_tracer("shop").start_as_current_span("work"):
        found = current()
    assert (found.langfuse_url, found.grafana_url) == (None, None)
