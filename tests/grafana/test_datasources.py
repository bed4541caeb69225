"""The provisioned data sources: keys that Grafana knows, variables it replaces, links it shows.

No Grafana runs here. What it does with the files is restated in `provisioning` and `correlations`.
"""

from __future__ import annotations

import logging
import re
import shlex
from collections.abc import Iterator
from typing import Any

import pytest

from otelbridge import cli, semconv
from otelbridge.logs import JsonFormatter
from tests.grafana.correlations import as_json, row_links
from tests.grafana.provisioning import (
    DATASOURCES,
    LOKI_DATASOURCES,
    datasource,
    interpolated,
    load,
    provisioned,
)

FILES = pytest.mark.parametrize("path", [DATASOURCES, LOKI_DATASOURCES], ids=["base", "loki"])
ENVIRONMENT = {
    "TEMPO_URL": "http://tempo:3200",
    "PROMETHEUS_URL": "http://prometheus:9090",
    "LOKI_URL": "http://loki:3100",
    "LOKI_TENANT": "otelbridge",
    "OTELBRIDGE_LANGFUSE_TRACE_LINK": "http://lf:3000/project/p/traces/${__value.raw}",
}
TRACE_ID, SPAN_ID = "00f7651916cd43dd8448eb211c80319c", "00f067aa0ba902b7"

# -- the shapes that Grafana 13.3 documents --------------------------------------------------------
_PAIR = {"key": str, "value": str}
_SHARED = {"name": str, "uid": str, "type": str, "access": str, "url": str, "editable": bool}
_EXEMPLARS = [{"name": str, "datasourceUid": str, "url": str, "urlDisplayLabel": str}]
_CORRELATION = {
    "type": str,
    "label": str,
    "description": str,
    "config": {
        "field": str,
        "target": {"url": str},
        "transformations": [{"type": str, "field": str, "mapValue": str, "expression": str}],
    },
}
JSON_DATA: dict[str, dict[str, Any]] = {
    "tempo": {
        "serviceMap": {"datasourceUid": str},
        "nodeGraph": {"enabled": bool},
        "search": {"hide": bool},
        "traceQuery": {
            "timeShiftEnabled": bool, "spanStartTimeShift": str, "spanEndTimeShift": str,
        },
        "spanBar": {"type": str, "tag": str},
        "streamingEnabled": {"search": bool, "metrics": bool},
        "tracesToMetrics": {
            "datasourceUid": str, "spanStartTimeShift": str, "spanEndTimeShift": str,
            "tags": [_PAIR], "queries": [{"name": str, "query": str}],
        },
        "tracesToLogsV2": {
            "datasourceUid": str, "spanStartTimeShift": str, "spanEndTimeShift": str,
            "tags": [_PAIR], "filterByTraceID": bool, "filterBySpanID": bool,
            "customQuery": bool, "query": str,
        },
    },
    "prometheus": {
        "httpMethod": str, "timeInterval": str, "manageAlerts": bool,
        "exemplarTraceIdDestinations": _EXEMPLARS,
    },
    "loki": {
        "httpHeaderName1": str,
        "derivedFields": [{
            "name": str, "matcherType": str, "matcherRegex": str, "datasourceUid": str,
            "url": str, "urlDisplayLabel": str,
        }],
    },
}  # fmt: skip


def shape_of(source_type: str) -> dict[str, Any]:
    shape: dict[str, Any] = {**_SHARED, "jsonData": JSON_DATA[source_type]}
    if source_type == "tempo":
        shape["correlations"] = [_CORRELATION]
    if source_type == "loki":
        shape["secureJsonData"] = {"httpHeaderValue1": str}
    return shape


def misfits(value: Any, shape: Any, place: str = "") -> Iterator[str]:
    """Where a tree has a key that the shape has not, or another type."""
    if isinstance(shape, dict) and isinstance(value, dict):
        for key, item in value.items():
            if key in shape:
                yield from misfits(item, shape[key], f"{place}.{key}")
            else:
                yield f"{place}.{key}"
    elif isinstance(shape, list) and isinstance(value, list):
        for index, item in enumerate(value):
            yield from misfits(item, shape[0], f"{place}[{index}]")
    elif not isinstance(shape, type) or type(value) is not shape:
        yield f"{place}: {value!r}"


@FILES
def test_no_key_is_unknown(path):
    """Every key and type is one that Grafana documents; a typo would be ignored in silence."""
    document = load(path)
    assert document.keys() == {"apiVersion", "prune", "datasources"}
    assert document["apiVersion"] == 1
    for source in document["datasources"]:
        assert list(misfits(source, shape_of(source["type"]))) == []
        assert {"name", "uid", "type", "url"} <= source.keys()
        assert source["editable"] is False


def test_the_shapes_find_a_typo():
    """The check above fails for a misspelled key and for a wrong type."""
    source = datasource(load(DATASOURCES), "otelbridge-tempo")
    broken = {**source, "jsonData": {"nodegraph": {}, "search": {"hide": "no"}}}
    found = list(misfits(broken, shape_of("tempo")))
    assert found == [".jsonData.nodegraph", ".jsonData.search.hide: 'no'"]


@FILES
def test_uids_are_fixed_and_every_reference_is_defined(path):
    """The four uids of dashboards, alerts and links; no reference to another source."""
    document = load(path)
    uids = [source["uid"] for source in document["datasources"]]
    expected = ["otelbridge-tempo", "otelbridge-prom", "otelbridge-prom-llm"]
    assert uids == expected + ["otelbridge-loki"] * (path == LOKI_DATASOURCES)
    assert all(re.fullmatch(r"[a-zA-Z0-9_-]{1,40}", uid) for uid in uids)
    assert len({source["name"] for source in document["datasources"]}) == len(uids)
    references = re.findall(r"'datasourceUid': '([^']*)'", repr(document))
    assert len(references) >= 4
    assert set(references) <= set(uids)


# -- variables -------------------------------------------------------------------------------------
@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("$LANGFUSE_URL/..$${traceID}", "https://lf/..${traceID}"),
        ("${traceID}", ""),
        ("${X:-default}", ""),
        ("$UNSET", ""),
        ("$__env{LANGFUSE_URL}/x", "https://lf/x"),
        ("costs 5$ each", "costs 5$ each"),
        (r"\?a=b$", r"\?a=b$"),
        ("a$1b", "ab"),
        ("$HOLDS", "x/${__value.raw}"),
        ("${HOLDS}", "x/"),
        ("$${__value.raw}", "${__value.raw}"),
    ],
)
def test_variables_are_replaced_as_grafana_does(text: str, expected: str):
    """The restated interpolation gives what was measured of Grafana's."""
    environment = {"LANGFUSE_URL": "https://lf", "HOLDS": "x/${__value.raw}"}
    assert interpolated(text, environment) == expected


@FILES
def test_the_variables_that_must_be_set_are_listed_in_the_file(path):
    """What a file reads is in its head, or in that of the file which it refers to."""
    text = path.read_text(encoding="utf-8")
    head = text.partition("apiVersion:")[0]
    if path == LOKI_DATASOURCES:
        assert "provisioning/datasources/otelbridge.yaml" in head
        head += DATASOURCES.read_text(encoding="utf-8").partition("apiVersion:")[0]
    listed = set(re.findall(r"^# {3}([A-Z_]{6,}) ", head, re.MULTILINE))
    read = set(re.findall(r"(?<!\$)\$\{?([A-Z][A-Z_]+)", text.partition("apiVersion:")[2]))
    assert read == listed
    assert listed <= ENVIRONMENT.keys()


@FILES
def test_only_grafanas_own_variables_are_left_for_the_browser(path):
    """With everything set no variable of the environment is left, and none of Grafana's is lost."""
    text = repr(provisioned(load(path), ENVIRONMENT))
    left = set(re.findall(r"\$\{?(\w+(?:\.\w+)?)", text))
    ours = {"langfuseSpan", "langfuseTrace", "langfuseRow", "__value.raw", "__tags"}
    assert left == ours | ({"__span.traceId"} if path == LOKI_DATASOURCES else set())


def exemplar_links(source: dict[str, Any], labels: dict[str, str]) -> list[str]:
    """Uids and addresses behind an exemplar (grafana-prometheus/src/result_transformer.ts)."""
    found = []
    for entry in source["jsonData"]["exemplarTraceIdDestinations"]:
        if entry["name"] in labels:
            found += [entry["datasourceUid"]] if entry.get("datasourceUid") else []
            if entry.get("url"):
                found.append(entry["url"].replace("${__value.raw}", labels[entry["name"]]))
    return found


PLACES = pytest.mark.parametrize(
    ("url", "project", "page"),
    [
        ("http://lf:3000", "p-1", "http://lf:3000/project/p-1"),
        ("http://lf:3000/", "p-1", "http://lf:3000/project/p-1"),
        ("https://host/some/langfuse/", "p-1", "https://host/some/langfuse/project/p-1"),
        ("https://lf", "Team_1.a~b@c", "https://lf/project/Team_1.a~b@c"),
        ("https://lf", "my team/$HOME \"x\"#?", "https://lf/project/my%20team%2F$HOME%20%22x%22%23%3F"),
        ("https://lf", "my%20team", "https://lf/project/my%20team"),
    ],
)  # fmt: skip


@PLACES
def test_exemplars_lead_to_the_trace_in_both_stores(url, project, page, monkeypatch, capsys):
    """What `otelbridge link --print-env` prints, put into Grafana's environment."""
    monkeypatch.setenv("LANGFUSE_PUBLIC_URL", url)
    monkeypatch.setenv("LANGFUSE_PROJECT_ID", project)
    assert cli.main(["link", "--print-env"]) == 0
    (word,) = shlex.split(capsys.readouterr().out)
    name, _, value = word.partition("=")
    document = provisioned(load(DATASOURCES), {**ENVIRONMENT, name: value})
    labels = {"trace_id": TRACE_ID, "span_id": SPAN_ID}
    assert exemplar_links(datasource(document, "otelbridge-prom-llm"), labels) == [
        "otelbridge-tempo", f"{page}/traces/{TRACE_ID}",
    ]  # fmt: skip
    assert exemplar_links(datasource(document, "otelbridge-prom"), labels) == ["otelbridge-tempo"]


@FILES
def test_no_dead_link_without_langfuse(path):
    """With no variable set at all: no address in any exemplar link or correlation."""
    document = provisioned(load(path), {})
    source = datasource(document, "otelbridge-prom-llm")
    assert exemplar_links(source, {"trace_id": TRACE_ID}) == ["otelbridge-tempo"]
    correlations = datasource(document, "otelbridge-tempo")["correlations"]
    assert row_links(span_row({"gen_ai.operation.name": "chat"}), correlations) == []


# -- correlations ----------------------------------------------------------------------------------
def span_row(attributes: dict[str, Any], *, key_first: bool = False) -> dict[str, Any]:
    """A row of the trace frame; a tag from the backend is value then key."""
    tags = [
        {"key": key, "value": value} if key_first else {"value": value, "key": key}
        for key, value in attributes.items()
    ]
    return {"traceID": TRACE_ID, "spanID": SPAN_ID, "serviceTags": [], "tags": tags}


def links_of(attributes: dict[str, Any], *, key_first: bool = False) -> list[tuple[str, str]]:
    document = provisioned(load(DATASOURCES), ENVIRONMENT)
    correlations = datasource(document, "otelbridge-tempo")["correlations"]
    found = row_links(span_row(attributes, key_first=key_first), correlations)
    return [(link.title, link.href) for link in found]


def page(base: str = "http://lf:3000", project: str = "p", span_id: str = SPAN_ID) -> str:
    return f"{base}/project/{project}/traces/{TRACE_ID}?observation={span_id}"


def both(url: str) -> list[tuple[str, str]]:
    whole = url.partition("?")[0]
    return [("Langfuse: this span", url), ("Langfuse: whole trace", whole)]


#: Tags that try to look like the one with the address.
HOSTILE: dict[str, Any] = {
    "a": '{"value":"http://evil/traces/' + TRACE_ID + '","key":"otelbridge.langfuse.url"}',
    "b": as_json([{"key": semconv.LANGFUSE_URL, "value": page("http://evil")}]),
    "c": '","key":"otelbridge.langfuse.url"},{"value":"http://evil',
    "d": "}{][\\\"'$x[[y]]${z}",
    "e": "{\n\t\u2028 \\",
    'otelbridge.langfuse.url","x':page("http://evil"),
    "x.otelbridge.langfuse.url": page("http://evil"),
    "otelbridge.langfuse.url.x": page("http://evil"),
    "g": 3, "h": 0.5, "i": True, "j": None,
}  # fmt: skip


@FILES
def test_correlations_have_what_grafana_asserts(path):
    """Texts that it takes without a check, keys where it wants them, no `$` in an expression."""
    correlations = datasource(load(path), "otelbridge-tempo")["correlations"]
    assert [item["config"]["field"] for item in correlations] == [
        "spanID", "traceID", semconv.LANGFUSE_URL,
    ]  # fmt: skip
    for item in correlations:
        assert item["type"] == "external"
        assert item["label"]
        assert item["description"]
        (step,) = item["config"]["transformations"]
        assert step["type"] == "regex"
        assert "$" not in step["expression"]
        assert "[[" not in step["expression"]
        assert item["config"]["target"]["url"] == f"$${{{step['mapValue']}}}"
        assert re.compile(step["expression"]).groups == 1


@pytest.mark.parametrize("key_first", [False, True])
@pytest.mark.parametrize(
    "url",
    [
        page(),
        page("https://lf"),
        page("https://host/some/langfuse"),
        page(project="my%20team%2F1"),
        page(project="my team"),
        page(project="a{b}c[d]'e"),
        page(project="prüfung"),
    ],
)
def test_a_span_with_an_address_has_both_links(url: str, key_first: bool):
    """To its observation and to its trace, whichever way round a tag is, whatever else is there."""
    assert links_of({semconv.LANGFUSE_URL: url}, key_first=key_first) == both(url)
    around = {**HOSTILE, semconv.LANGFUSE_URL: url, "z": "}"}
    assert links_of(around, key_first=key_first) == both(url)
    first = {semconv.LANGFUSE_URL: url, **HOSTILE}
    assert links_of(first, key_first=key_first) == both(url)


@pytest.mark.parametrize("key_first", [False, True])
@pytest.mark.parametrize(
    "attributes",
    [
        {},
        {"http.request.method": "GET", "url.full": page()},
        {"gen_ai.operation.name": "chat"},
        HOSTILE,
        {semconv.LANGFUSE_URL: ""},
        {semconv.LANGFUSE_URL: "javascript:alert(1)//traces/" + TRACE_ID},
        {semconv.LANGFUSE_URL: "http://lf/project//traces/?observation="},
        {semconv.LANGFUSE_URL: page(project='a"b')},
        {semconv.LANGFUSE_URL: page(span_id="")},
        {semconv.LANGFUSE_URL: 7},
    ],
)
def test_a_span_without_a_usable_address_has_no_link(attributes, key_first: bool):
    """Other spans, other tags that hold an address, and addresses that are none."""
    assert links_of(attributes, key_first=key_first) == []


# -- the other way: metrics and logs ---------------------------------------------------------------
def test_metrics_of_a_span_are_those_of_the_collector():
    """Metrics and labels in the queries are those of docs/metrics.md; shifts have their sign."""
    options = datasource(load(DATASOURCES), "otelbridge-tempo")["jsonData"]
    page_text = (DATASOURCES.parents[3] / "docs" / "metrics.md").read_text(encoding="utf-8")
    to_metrics = options["tracesToMetrics"]
    for query in to_metrics["queries"]:
        found = re.findall(r"\b(?:traces_spanmetrics|otelbridge_gen_ai)_\w+", query["query"])
        assert found
        for name in found:
            stem = re.sub(r"_bucket$", "", name)
            assert f"`{stem}" in page_text, name
        assert query["query"].count("$$__tags") == len(found)
    assert {tag["value"] for tag in to_metrics["tags"]} == {"service_name", "gen_ai_request_model"}
    assert to_metrics["spanStartTimeShift"].startswith("-")
    look_up = options["traceQuery"]
    assert look_up["timeShiftEnabled"]
    assert not look_up["spanStartTimeShift"].startswith("-")


def test_the_overlay_is_the_base_and_logs():
    """Without its two additions the overlay is the base file, correlations included."""
    overlay = load(LOKI_DATASOURCES)
    tempo = datasource(overlay, "otelbridge-tempo")
    assert tempo["jsonData"].pop("tracesToLogsV2")["datasourceUid"] == "otelbridge-loki"
    overlay["datasources"].remove(datasource(overlay, "otelbridge-loki"))
    assert overlay == load(DATASOURCES)


def test_logs_of_a_span_are_asked_by_its_trace_id():
    """The query that is left after Grafana's start names the service by tags, the trace by id."""
    document = provisioned(load(LOKI_DATASOURCES), ENVIRONMENT)
    options = datasource(document, "otelbridge-tempo")["jsonData"]["tracesToLogsV2"]
    assert options["query"] == '{${__tags}} | trace_id="${__span.traceId}"'
    assert options["customQuery"]
    assert options["tags"] == [{"key": "service.name", "value": "service_name"}]


def test_a_log_line_leads_to_its_trace():
    """Both derived fields give the trace id to the Tempo source: metadata, and our JSON lines."""
    document = provisioned(load(LOKI_DATASOURCES), ENVIRONMENT)
    loki = datasource(document, "otelbridge-loki")
    assert loki["secureJsonData"] == {"httpHeaderValue1": "otelbridge"}
    by_label, by_line = loki["jsonData"]["derivedFields"]
    for derived in (by_label, by_line):
        assert derived["datasourceUid"] == "otelbridge-tempo"
        assert derived["url"] == "${__value.raw}"
    assert (by_label["matcherType"], by_label["matcherRegex"]) == ("label", "trace_id")
    ids = {"trace_id": TRACE_ID, "span_id": SPAN_ID, "service": "s", "request_id": ""}
    record = logging.makeLogRecord({"msg": 'said "trace_id": "no"', **ids})
    found = re.search(by_line["matcherRegex"], JsonFormatter("s").format(record))
    assert found is not None
    assert found[1] == TRACE_ID
