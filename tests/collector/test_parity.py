"""One set of rules, three places: the real Collector, `otelbridge local`, and `direct` export.

The recorded emitters and made-up spans go through all of them; what comes out must be equal with
its types, besides the differences that the last part of this file asserts one by one.
"""

from __future__ import annotations

import random
from collections.abc import Iterable, Iterator
from typing import Any

import pytest
from opentelemetry.exporter.otlp.proto.common.trace_encoder import encode_spans
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.proto.common.v1.common_pb2 import KeyValue
from opentelemetry.proto.trace.v1.trace_pb2 import Span
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import Event, ReadableSpan
from opentelemetry.sdk.trace.export import SpanExporter, SpanExportResult
from opentelemetry.sdk.util.instrumentation import InstrumentationScope
from opentelemetry.trace import Link, SpanContext, SpanKind, TraceFlags
from opentelemetry.trace.status import Status, StatusCode

from otelbridge import dialects, masks, policy, semconv
from otelbridge.exporters.branches import Branch, langfuse_branch, tempo_branch
from otelbridge.local.records import SpanRecord, from_otlp_port, records
from otelbridge.local.values import attributes_of, to_any_value
from otelbridge.span_rules import NO_PAGES, Pages
from tests.collector.emitters import corpus

pytestmark = pytest.mark.collector

BRANCHES = ("tempo", "langfuse")
Sent = dict[str, dict[str, Any]]  # span id → what left for a branch


# -- comparing -------------------------------------------------------------------------------------
def typed(value: Any) -> Any:
    """A value with its type: 1, 1.0 and True are equal in Python."""
    if isinstance(value, dict):
        return {key: typed(item) for key, item in value.items()}
    return (type(value).__name__, repr(value))


def of_record(record: SpanRecord) -> dict[str, Any]:
    """All that a branch may change of a span, and what it must not."""
    span = record.span
    return {
        "trace": span.trace_id.hex(),
        "parent": span.parent_span_id.hex().strip("0") and span.parent_span_id.hex(),
        "name": span.name,
        "kind": span.kind or Span.SPAN_KIND_INTERNAL,  # the SDK knows no unspecified kind
        "times": (span.start_time_unix_nano, span.end_time_unix_nano),
        "status": (span.status.code, span.status.message),
        "attributes": typed(attributes_of(span.attributes)),
        "events": [
            (event.name, event.time_unix_nano, typed(attributes_of(event.attributes)))
            for event in span.events
        ],
        "links": [
            (link.trace_id.hex(), link.span_id.hex(), typed(attributes_of(link.attributes)))
            for link in span.links
        ],
        "resource": typed(attributes_of(record.resource.attributes)),
        "scope": (record.scope.name, record.scope.version),
    }


def by_id(found: Iterable[SpanRecord]) -> Sent:
    return {record.span.span_id.hex(): of_record(record) for record in found}


def through_collector(bench: Any, requests: list[ExportTraceServiceRequest]) -> dict[str, Sent]:
    """What the stand-ins of the two stores got for these requests."""
    ids = {record.span.span_id for request in requests for record in records(request)}
    stores = {"tempo": bench.tempo.store, "langfuse": bench.langfuse.store}
    for request in requests:
        assert bench.post(request.SerializeToString()) == 200

    def arrived(store: Any) -> Iterator[SpanRecord]:
        with store.lock:
            bodies = list(store.bodies)
        for body in bodies:
            for record in records(ExportTraceServiceRequest.FromString(body)):
                if record.span.span_id in ids:
                    yield record

    def all_there() -> bool:
        with bench.tempo.store.lock:
            return len(ids) <= sum(r.span.span_id in ids for r in bench.tempo.store.spans)

    bench.wait(all_there, f"{len(ids)} spans at Tempo", 30)
    bench.settle()
    return {branch: by_id(arrived(store)) for branch, store in stores.items()}


def through_local(
    requests: list[ExportTraceServiceRequest], pages: Pages = NO_PAGES
) -> dict[str, Sent]:
    """What `otelbridge local` stores on each side."""
    batches = [from_otlp_port(request, pages=pages) for request in requests]
    return {
        "tempo": by_id(record for batch in batches for record in batch.tempo),
        "langfuse": by_id(record for batch in batches for record in batch.langfuse),
    }


class Keep(SpanExporter):
    """Keeps what it is given, as OTLP."""

    def __init__(self) -> None:
        self.found: list[SpanRecord] = []

    def export(self, spans: Any) -> SpanExportResult:
        self.found += records(encode_spans(spans))
        return SpanExportResult.SUCCESS


def through_direct(
    requests: list[ExportTraceServiceRequest], pages: Pages = NO_PAGES
) -> dict[str, Sent]:
    """What a service with `OTELBRIDGE_EXPORT=direct` sends."""
    spans = [readable(record) for request in requests for record in records(request)]
    sent = {}
    for name, branch in (("tempo", tempo_branch), ("langfuse", langfuse_branch)):
        keep = Keep()
        exporter: Branch = branch(keep, pages)
        exporter.export(spans)
        sent[name] = by_id(keep.found)
    return sent


def readable(record: SpanRecord) -> ReadableSpan:
    """An OTLP span as the SDK would hand it to an exporter."""
    span = record.span

    def context(trace_id: bytes, span_id: bytes) -> SpanContext:
        ids = int.from_bytes(trace_id, "big"), int.from_bytes(span_id, "big")
        return SpanContext(*ids, False, TraceFlags(TraceFlags.SAMPLED))

    return ReadableSpan(
        name=span.name,
        context=context(span.trace_id, span.span_id),
        parent=context(span.trace_id, span.parent_span_id) if span.parent_span_id else None,
        resource=Resource(attributes_of(record.resource.attributes)),
        attributes=attributes_of(span.attributes),
        events=[
            Event(event.name, attributes_of(event.attributes), event.time_unix_nano)
            for event in span.events
        ],
        links=[
            Link(context(link.trace_id, link.span_id), attributes_of(link.attributes))
            for link in span.links
        ],
        kind=SpanKind(max(span.kind - 1, 0)),
        status=Status(StatusCode(span.status.code), span.status.message or None),
        start_time=span.start_time_unix_nano,
        end_time=span.end_time_unix_nano,
        instrumentation_scope=InstrumentationScope(record.scope.name, record.scope.version),
    )


def differences(one: Sent, other: Sent) -> list[str]:
    """What differs, one line for each field; attributes key by key."""
    found = [f"{i} only in one" for i in sorted(one.keys() ^ other.keys())]
    for span_id in one.keys() & other.keys():
        for field, value in one[span_id].items():
            twin = other[span_id][field]
            if value == twin:
                continue
            where = f"{one[span_id]['name']!r} {field}"
            if not isinstance(value, dict):
                found.append(f"{where}: {value!r:.600} != {twin!r:.600}")
                continue
            found += [
                f"{where} {key}: {value.get(key)!r:.300} != {twin.get(key)!r:.300}"
                for key in sorted(value.keys() | twin.keys())
                if value.get(key) != twin.get(key)
            ]
    return found


def assert_the_same_everywhere(
    bench: Any, requests: list[ExportTraceServiceRequest], pages: Pages = NO_PAGES
) -> dict[str, Sent]:
    collector = through_collector(bench, requests)
    for others in (through_local(requests, pages), through_direct(requests, pages)):
        for branch in BRANCHES:
            assert collector[branch], "nothing was compared"
            assert differences(collector[branch], others[branch]) == []
    return collector


# -- made-up spans ---------------------------------------------------------------------------------
SECRETS = (
    "sk-proj-abcdefghijklmnop",
    "mail a.person@example.com, and b.c-d@example.org-x",
    "Bearer abcdefghijklmnopqrstuvwxyz",
    "postgres://app:hunter2hunter2@db:5432/x",
    "https://api.example/v1?page=2&api_key=abcdef&x=1",
    "eyJhbGciOiJI.eyJzdWIiOiIx.c2lnbmF0dXJl",
    "-----BEGIN RSA PRIVATE KEY-----\nabc\n-----END RSA PRIVATE KEY-----",
)
LIMIT = policy.TEMPO_VALUE_BYTES
TEXTS = (
    *SECRETS,
    *("", "plain", "0", "17", "-3", "2.5", "1e-3", "true", "many", "über €", "line\nline", " "),
    *("a" * LIMIT, "b" * (LIMIT + 1), "€" * LIMIT, "x" + "ü" * LIMIT),
    *('{"a": "' + "c" * LIMIT + '"}', "[" + "1," * LIMIT + "1]", "{" + "d" * LIMIT),
    *(secret + " " + "e" * LIMIT for secret in SECRETS[:2]),
)
VALUES = (*TEXTS, True, False, 0, 7, -1, 2**40, 0.0, 0.25, 17.0, 1e18)
NESTED = (["a", "b"], [SECRETS[0], 1], [], {"key": SECRETS[1]}, b"\x00bytes")
#: Keys that some rule knows; any value may stand under any of them.
KEYS = tuple(
    sorted(
        {
            *policy.GEN_AI_KEYS,
            *(rule.source for dialect in dialects.DIALECTS for rule in dialect.rules),
            *(rule.target for dialect in dialects.DIALECTS for rule in dialect.rules),
            *dialects.INTEGER_KEYS,
            *dialects.DOUBLE_KEYS,
            *masks.UNMASKED_KEYS,
            *(semconv.GEN_AI_SYSTEM, semconv.GEN_AI_PROVIDER_NAME),
            *(semconv.GEN_AI_INPUT_MESSAGES, semconv.GEN_AI_TOOL_CALL_RESULT),
            *("input.value", "prompt", "model", "output", "gen_ai.prompt.0.content"),
            *(semconv.GEN_AI_PROMPT_NAME, semconv.GEN_AI_PROMPT_VERSION, semconv.OVERSIZE),
            *(semconv.LANGFUSE_OBSERVATION_LEVEL, semconv.LANGFUSE_TRACE_NAME),
            semconv.LANGFUSE_OBSERVATION_PROMPT_VERSION,
            semconv.LANGFUSE_OBSERVATION_COMPLETION_START_TIME,
            *(semconv.LLM_KEEP, semconv.LLM_PARENT, semconv.GRAFANA_URL),
            *("url.full", "http.request.header.authorization", "http.request.header.accept"),
            *("rpc.grpc.request.metadata.cookie", "note", "db.statement", "count"),
        }
    )
)
FITTING = {
    semconv.LLM_KEEP: (True, False, "true", "false"),
    semconv.LLM_PARENT: ("", "0000000000000000", "00000000000000aB", "zz", 5),
    semconv.GEN_AI_OPERATION_NAME: ("chat", "embedding", "retrieval", "plan", "invoke_agent"),
    semconv.GEN_AI_SYSTEM: ("OpenAI", "az.ai.openai", "Ollama", ""),
    semconv.LANGFUSE_OBSERVATION_LEVEL: ("info", "ERROR", "loud"),
}
EVENT_NAMES = ("exception", "gen_ai.user.message", "gen_ai.choice", "gen_ai.evaluation.result")


def attributes(generator: random.Random, most: int) -> dict[str, Any]:
    chosen = generator.sample(KEYS, generator.randint(0, most))
    return {
        key: generator.choice(FITTING.get(key, VALUES) if generator.random() < 0.7 else VALUES)
        for key in chosen
    }


def made_up(bench: Any, seed: str, count: int) -> list[ExportTraceServiceRequest]:
    """Requests of spans with anything anywhere, several users in each."""
    generator = random.Random(seed)
    trace_id = generator.randbytes(16)
    requests = []
    while count > 0:
        spans = []
        for _ in range(min(count, 50)):
            events = [
                (generator.choice((*EVENT_NAMES, *SECRETS)), attributes(generator, 4))
                for _ in range(generator.choice((0, 0, 1, 3)))
            ]
            span = bench.span(
                trace_id,
                attributes(generator, 14),
                parent=generator.choice(("", "00000000000000ff")),
                name=generator.choice(("work", "", *SECRETS)),
                events=events,
            )
            span.attributes.add(key="nested", value=to_any_value(generator.choice(NESTED)))
            span.kind = generator.choice((1, 2, 3))
            if generator.random() < 0.3:
                span.status.code = 2  # error
                span.status.message = generator.choice(("failed", *SECRETS))
            span.links.add(trace_id=generator.randbytes(16), span_id=generator.randbytes(8))
            spans.append(span)
        count -= 50
        resource = {
            "service.name": f"made-up-{len(requests)}",
            **({"process.command_line": "run --key=zzz"} if generator.random() < 0.5 else {}),
            **({"note": generator.choice(VALUES)} if generator.random() < 0.5 else {}),
            **({semconv.LANGFUSE_USER_ID: "of-resource"} if generator.random() < 0.3 else {}),
        }
        requests.append(bench.request(spans, resource))
    return requests


# -- equal -----------------------------------------------------------------------------------------
@pytest.mark.parametrize("emitter", corpus.EMITTERS)
def test_recorded_spans_leave_alike(module_bench, emitter: str):
    """Every span of a real emitter is the same in both stores, whoever applied the rules."""
    assert_the_same_everywhere(module_bench, [corpus.parse(line) for line in corpus.lines(emitter)])


@pytest.mark.parametrize("seed", ["one", "two", "three"])
def test_made_up_spans_leave_alike(module_bench, seed: str):
    """Secrets, long values, JSON, wrong types, marks, events and users, in any combination."""
    requests = made_up(module_bench, seed, 300)
    sent = assert_the_same_everywhere(module_bench, requests)
    assert len(sent["tempo"]) == 300 > len(sent["langfuse"]) > 30
    users = {str(span["resource"].get(semconv.LANGFUSE_USER_ID)) for span in sent["tempo"].values()}
    assert len(users) > 5


def test_links_between_the_stores_are_alike(make_bench):
    """The page of a span in the other store: present on the same spans, with the same text."""
    pages = Pages("https://langfuse.example", "project-7", "https://grafana.example")
    bench = make_bench(
        environment={
            "LANGFUSE_PROJECT_ID": pages.langfuse_project_id,
            "LANGFUSE_PUBLIC_URL": pages.langfuse_url,
            "OTELBRIDGE_GRAFANA_URL": pages.grafana_url,
        }
    )
    sent = assert_the_same_everywhere(bench, made_up(bench, "links", 100), pages)
    for branch, key in (("tempo", semconv.LANGFUSE_URL), ("langfuse", semconv.GRAFANA_URL)):
        assert any(key in span["attributes"] for span in sent[branch].values())


def test_first_token_times_that_no_clock_can_show_are_left_out_alike(module_bench):
    """Infinite, undefined and huge seconds cost neither the span nor its neighbours."""
    key, trace_id = semconv.GEN_AI_RESPONSE_TIME_TO_FIRST_CHUNK, module_bench.new_trace()
    odd = (float("inf"), float("nan"), 1e300, 1e10, -0.5, 0.25)
    spans = [
        module_bench.span(trace_id, {semconv.GEN_AI_OPERATION_NAME: "chat", key: value})
        for value in odd
    ]
    sent = assert_the_same_everywhere(module_bench, [module_bench.request(spans)])
    started = semconv.LANGFUSE_OBSERVATION_COMPLETION_START_TIME
    assert sum(started in span["attributes"] for span in sent["langfuse"].values()) == 2


# -- different, each for a reason ------------------------------------------------------------------
def one_of_each(bench: Any, span: Span, branch: str) -> list[dict[str, Any]]:
    """What became of one span in the Collector, in `local` and in `direct` export."""
    requests = [bench.request([span])]
    ways = (through_collector(bench, requests), through_local(requests), through_direct(requests))
    return [sent[branch][span.span_id.hex()] for sent in ways]


def test_link_attributes_are_cleaned_in_python_only(module_bench):
    """OTTL cannot reach span links: the Collector passes them on, the others mask and strip."""
    span = module_bench.span(module_bench.new_trace(), {})
    link = {"input.value": "the text of a prompt", "note": SECRETS[0], "reason": "retry"}
    span.links.add(trace_id=b"t" * 16, span_id=b"s" * 8)
    span.links[0].attributes.extend(
        KeyValue(key=key, value=to_any_value(value)) for key, value in link.items()
    )
    collector, local, direct = one_of_each(module_bench, span, "tempo")
    assert collector["links"][0][2] == typed(link)
    assert local == direct
    assert local["links"][0][2] == typed({"note": "[masked:api-key]", "reason": "retry"})
    assert local["attributes"] == typed({semconv.CONTENT_REMOVED: True})
    assert {**collector, "links": [], "attributes": {}} == {**local, "links": [], "attributes": {}}


def test_a_replacement_character_at_the_end_of_a_short_value_stays_in_python(module_bench):
    """The Collector takes it for what is left of a cut character when another value is long."""
    attributes = {"short": "ends in \ufffd", "long": "x" * (LIMIT + 1)}
    span = module_bench.span(module_bench.new_trace(), attributes)
    collector, local, direct = one_of_each(module_bench, span, "tempo")
    assert collector["attributes"] == typed({"short": "ends in ", "long": "x" * LIMIT})
    assert local["attributes"] == typed({**attributes, "long": "x" * LIMIT})
    assert local == direct


def test_numbers_beyond_64_bits_become_integers_in_the_collector_only(module_bench):
    """Go's conversion overflows; Python leaves a double that no integer holds as it is."""
    tokens = semconv.GEN_AI_USAGE_INPUT_TOKENS
    attributes = {semconv.GEN_AI_OPERATION_NAME: "chat", tokens: 1e30}
    span = module_bench.span(module_bench.new_trace(), attributes)
    collector, local, direct = one_of_each(module_bench, span, "tempo")
    assert local["attributes"] == typed(attributes)
    assert local == direct
    assert collector["attributes"][tokens][0] == "int"


def test_attributes_without_a_value_pass_only_where_otlp_comes_in(module_bench):
    """The SDK's spans never have one; in the Collector and in `local` nothing reads them."""
    span = module_bench.span(module_bench.new_trace(), {"note": SECRETS[0]})
    span.attributes.add(key="unset")
    collector, local, direct = one_of_each(module_bench, span, "tempo")
    assert collector == local
    assert local["attributes"] == typed({"note": "[masked:api-key]", "unset": None})
    assert direct["attributes"] == typed({"note": "[masked:api-key]"})
