"""What is wrong with a case's evidence, one line per finding; nothing found means that it holds.

Pure: no I/O. `judge(case, evidence, backend)`; with `opened=False` the pages of links are left out,
which are opened once all else holds. Facts that hold for every trace (the Langfuse side is the LLM
view, in Tempo's order; no content in Tempo) are the demo's own checks, asked of each case.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping
from typing import Any

from otelbridge.demo import checks, traffic
from otelbridge.demo.views import View, ViewSpan
from otelbridge.links import ids_of
from tests.stack.backends import Backend
from tests.stack.casefile import MATCHERS, Case, filled
from tests.stack.reading import Evidence, links

_ALWAYS = (
    checks.no_content_in_tempo,
    checks.langfuse_is_the_llm_view,
    checks.unbroken_tree,
)


def judge(case: Case, evidence: Evidence, backend: Backend, *, opened: bool = True) -> list[str]:
    """Every finding about the answers, the traces, the queries and, if asked, the links."""
    return list(_judge(case, evidence, backend, opened))


def _judge(case: Case, evidence: Evidence, backend: Backend, opened: bool) -> Iterator[str]:
    values = evidence.driven.values
    yield from _answers(case, evidence)
    for name, facts in filled(dict(case.traces), values, case.name).items():
        for tempo, langfuse in evidence.traces(name):
            yield from (f"{name}: Tempo: {one}" for one in _tempo(facts.get("tempo", {}), tempo))
            wanted = facts.get("langfuse", {})
            yield from (f"{name}: Langfuse: {one}" for one in _langfuse(wanted, langfuse))
            if not facts.get("tempo", {}).get("absent"):
                yield from _always(name, tempo, langfuse, evidence)
            for kind, status in facts.get("links", {}).items():
                carriers = tempo if kind == "langfuse" else langfuse
                found = _links(kind, status, carriers, evidence, backend, opened)
                yield from (f"{name}: link to {kind}: {one}" for one in found)
    for number, one in enumerate(filled(case.traceql, values, case.name)):
        yield from _traceql(one, evidence.found[number], evidence.matched[number])
    for number, one in enumerate(filled(case.promql, values, case.name)):
        now, before = evidence.measured[number], evidence.driven.before[number]
        if "above" in one and not now > one["above"]:
            yield f"{one['query']} is {now:g}, not above {one['above']}"
        if "grows_by" in one and abs(now - before - one["grows_by"]) > 1e-6:
            yield f"{one['query']} grew by {now - before:g}, not by {one['grows_by']}"


def _answers(case: Case, evidence: Evidence) -> Iterator[str]:
    for request in case.requests:
        for answer in evidence.driven.answers[request.name]:
            if answer.status != request.status:
                yield f"{request.name}: answered {answer.status}: {answer.text[:200]}"
            for text in filled(request.says, evidence.driven.values, case.name):
                if text not in answer.text:
                    yield f"{request.name}: the answer does not say {text!r}: {answer.text[:200]}"


def _always(name: str, tempo: View, langfuse: View, evidence: Evidence) -> Iterator[str]:
    sent = traffic.Sent(traffic.Case(name, "", llm=bool(langfuse.spans)), tempo.trace_id, 200, "")
    pair = checks.Pair(sent, tempo, langfuse)
    asked = checks.Evidence([pair], [], evidence.driven.values["canary"])
    for check in _ALWAYS:
        yield from check(asked)


# -- traces ----------------------------------------------------------------------------------------
def _tempo(facts: Mapping[str, Any], view: View) -> Iterator[str]:
    if facts.get("absent"):
        if view.spans:
            yield f"trace {view.trace_id} is there, {len(view.spans)} spans"
        return
    if not view.spans:
        yield f"trace {view.trace_id} is not there"
        return
    if "services" in facts and view.services != set(facts["services"]):
        yield f"services are {sorted(view.services)}, not {sorted(facts['services'])}"
    for name in ("roots", "orphans"):
        if name in facts and len(getattr(view, name)) != facts[name]:
            have = [span.name for span in getattr(view, name)]
            yield f"{name} are {have}, not {facts[name]}"
    if "enters_below" in facts:
        parents = {span.parent for span in view.orphans}
        if parents != {facts["enters_below"]}:
            yield f"it enters below {sorted(parents)}, not {facts['enters_below']}"
    yield from _paths(facts, view)
    yield from _without(facts, view)


def _langfuse(facts: Mapping[str, Any], view: View) -> Iterator[str]:
    if facts.get("absent"):
        if view.spans:
            yield f"it has {[span.name for span in view.spans.values()]}"
        return
    if not facts:
        return
    spans = list(view.spans.values())
    types = dict(Counter(str(span.attributes.get("type")) for span in spans))
    if not spans:
        yield f"trace {view.trace_id} is not there"
    elif "types" in facts and types != facts["types"]:
        yield f"types are {types}, not {facts['types']}"
    for span in spans:
        for field, value in facts.get("every", {}).items():
            yield from _field(span, field, value)
    for one in facts.get("observations", ()):
        wanted = (one["name"], one.get("service"))
        found = [span for span in spans if wanted in ((span.name, span.service), (span.name, None))]
        if len(found) != one["count"]:
            yield f"{len(found)} observations are called {one['name']}, not {one['count']}"
        for span in found:
            for field, value in one.get("has", {}).items():
                yield from _field(span, field, value)
    yield from _paths(facts, view)
    yield from _without(facts, view)


def _field(span: ViewSpan, field: str, wanted: Any) -> Iterator[str]:
    value: Any = span.attributes
    for part in field.split("."):
        value = value.get(part) if isinstance(value, Mapping) else None
    if wrong := mismatch(value, wanted):
        yield f"{span.name}: {field} {wrong}"


def _without(facts: Mapping[str, Any], view: View) -> Iterator[str]:
    for text in facts.get("without", ()):
        if text in view.raw:
            yield f"{text!r} is there"


def _paths(facts: Mapping[str, Any], view: View) -> Iterator[str]:
    for path in facts.get("paths", ()):
        if not has_path(view, path):
            yield f"there is no {path}"


def has_path(view: View, path: str) -> bool:
    """Whether spans hang below each other as the path says.

    Args:
        path: `service: name` of each, `>` before a child, `>>` before any descendant.
    """
    steps = [step.strip() for step in path.replace(">>", "> ..").split(">")]
    first, *rest = steps
    here = {i for i, span in view.spans.items() if f"{span.service}: {span.name}" == first}
    for step in rest:
        deep, wanted = step.startswith(".."), step.removeprefix("..").strip()
        here = {
            span_id
            for span_id, span in view.spans.items()
            if f"{span.service}: {span.name}" == wanted
            and here & set(_above(view, span) if deep else [span.parent])
        }
    return bool(here)


def _above(view: View, span: ViewSpan) -> Iterator[str]:
    seen: set[str] = set()
    while span.parent in view.spans and span.parent not in seen:
        seen.add(span.parent)
        yield span.parent
        span = view.spans[span.parent]


# -- links and queries -----------------------------------------------------------------------------
def _links(
    kind: str, status: int, view: View, evidence: Evidence, backend: Backend, opened: bool
) -> Iterator[str]:
    base = backend.langfuse_public_url if kind == "langfuse" else backend.grafana_url
    found = links(view, kind)
    if not found:
        yield "no span has one"
    for span_id, url in found.items():
        if not url.startswith(base + "/"):
            yield f"{url} is not below {base}"
        if ids_of(url) != (view.trace_id, span_id):
            yield f"{url} is not that of span {span_id}"
        if opened and kind in backend.followed and evidence.opened.get(url) != status:
            yield f"{url} answers {evidence.opened.get(url)}, not {status}"


def _traceql(
    wanted: Mapping[str, Any], spans: Mapping[str, Mapping[str, Any]], matched: int
) -> Iterator[str]:
    if wrong := mismatch(matched, wanted["spans"]):
        yield f"{wanted['query']}: the number of spans {wrong}"
    for attributes in spans.values():
        for name, value in wanted.get("with", {}).items():
            key = name.split(".", 1)[1] if name.startswith(("span.", "resource.")) else name
            if wrong := mismatch(attributes.get(key), value):
                yield f"{wanted['query']}: {name} {wrong}"


def mismatch(value: Any, wanted: Any) -> str:
    """Why a value is not what is wanted, or empty text.

    Args:
        wanted: A value to equal; or a mapping with some of `above` (a number), `contains` (a text),
            `items` (a list in any order), `present` (neither missing nor empty: true or false).
    """
    if not (isinstance(wanted, Mapping) and wanted and set(wanted) <= MATCHERS):
        return "" if value == wanted else f"is {value!r}, not {wanted!r}"
    if "above" in wanted and not (isinstance(value, (int, float)) and value > wanted["above"]):
        return f"is {value!r}, not above {wanted['above']}"
    if "contains" in wanted and wanted["contains"] not in str(value):
        return f"is {value!r}, without {wanted['contains']!r}"
    if "items" in wanted and sorted(map(str, value or ())) != sorted(map(str, wanted["items"])):
        return f"is {value!r}, not {wanted['items']} in any order"
    if "present" in wanted and (value not in (None, "", [], {})) != wanted["present"]:
        return f"is {value!r}"
    return ""
