"""Case files: what is sent to the services, and what has to be true of it afterwards.

`load` reads and checks one YAML file; a misspelt key is an error and never an expectation that
holds by being ignored. The form is told in README.md. Knows no backend and judges nothing.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any, Final

import yaml

FOLDER: Final = Path(__file__).resolve().parent / "cases"
SERVICES: Final = ("gateway", "rag", "llm")
MATCHERS: Final = frozenset({"above", "contains", "items", "present"})
_TEMPO: Final = frozenset({"absent", "services", "roots", "orphans", "enters_below", "paths",
                           "without"})  # fmt: skip
_LANGFUSE: Final = frozenset({"absent", "types", "every", "observations", "paths", "without"})
_OBSERVATION: Final = frozenset({"name", "service", "count", "has"})
_NAME: Final = re.compile(r"\$(?:(\$)|([a-z_]+))")


class CaseError(Exception):
    """A case file that cannot mean what it says; the message names the file and the place."""


@dataclass(frozen=True, slots=True)
class Request:
    """One request, sent `times` times.

    Attributes:
        name: What the expectations call it and, in them, `$name` its trace id.
        together: Sent at the same time as the requests beside it that are too.
        trace: Where its trace id comes from: `answered` (X-Trace-Id), or `sent` (traceparent).
        says: Texts that the answer's body has to contain.
    """

    name: str
    to: str
    path: str
    method: str = "POST"
    headers: Mapping[str, str] = field(default_factory=dict)
    body: Any = None
    status: int = 200
    times: int = 1
    together: bool = False
    trace: str = "answered"
    says: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Case:
    """One file: requests in their order, then the facts.

    Attributes:
        traces: Request name → facts about each trace of it: `tempo`, `langfuse`, `links`.
        traceql: `query`, `spans` (how many match), `with` (attributes of each that does).
        promql: `query`, and `above` or `grows_by` of the sum of its series.
    """

    name: str
    about: str
    requests: tuple[Request, ...]
    traces: Mapping[str, Mapping[str, Any]]
    traceql: tuple[Mapping[str, Any], ...]
    promql: tuple[Mapping[str, Any], ...]

    @property
    def expects_absence(self) -> bool:
        """Whether something must be missing from a whole side, which needs a later sign of life."""
        sides = [facts.get(side, {}) for facts in self.traces.values() for side in _SIDES]
        return any(side.get("absent") for side in sides) or any(
            one["spans"] == 0 for one in self.traceql
        )


_SIDES: Final = ("tempo", "langfuse")


def names() -> list[str]:
    """The names of all cases: file names without `.yaml`."""
    return sorted(path.stem for path in FOLDER.glob("*.yaml"))


def load(name: str, folder: Path = FOLDER) -> Case:
    """The case of this name.

    Raises:
        CaseError: an unknown key, a missing one, or a name that is not there.
    """
    text = (folder / f"{name}.yaml").read_text("utf-8")
    return read(name, yaml.safe_load(text))


def read(name: str, found: Any) -> Case:
    """A case from the content of its file."""
    _check(found, name, {"about", "requests"}, {"traces", "traceql", "promql"})
    requests = tuple(
        _request(one, f"{name}: request {number}")
        for number, one in enumerate(found["requests"], start=1)
    )
    by_name = {one.name: one for one in requests}
    if len(by_name) != len(requests):
        raise CaseError(f"{name}: two requests have one name")
    case = Case(
        name=name,
        about=str(found["about"]),
        requests=requests,
        traces=found.get("traces", {}),
        traceql=tuple(found.get("traceql", ())),
        promql=tuple(found.get("promql", ())),
    )
    for asked, facts in case.traces.items():
        if asked not in by_name:
            raise CaseError(f"{name}: traces: no request is called {asked!r}")
        _check_facts(facts, f"{name}: traces of {asked}")
    for one in case.traceql:
        _check(one, f"{name}: traceql", {"query", "spans"}, {"with"})
    for one in case.promql:
        _check(one, f"{name}: promql", {"query"}, {"above", "grows_by"})
        if ("above" in one) == ("grows_by" in one):
            raise CaseError(f"{name}: promql needs one of above and grows_by")
    if not (case.traces or case.traceql):
        raise CaseError(f"{name}: it expects nothing")
    return case


def filled(value: Any, values: Mapping[str, str], place: str = "") -> Any:
    """The value with every `$name` in its texts replaced; `$$` stands for a dollar sign.

    Raises:
        CaseError: a name that has no value.
    """

    def replace(match: re.Match[str]) -> str:
        if match[1]:
            return "$"
        if match[2] not in values:
            raise CaseError(f"{place}: ${match[2]} has no value; there are {sorted(values)}")
        return values[match[2]]

    if isinstance(value, str):
        return _NAME.sub(replace, value)
    if isinstance(value, Mapping):
        return {
            filled(key, values, place): filled(item, values, place) for key, item in value.items()
        }
    if isinstance(value, (list, tuple)):
        return type(value)(filled(item, values, place) for item in value)
    return value


def _request(found: Any, place: str) -> Request:
    known = {one.name for one in fields(Request)}
    _check(found, place, {"name", "to", "path"}, known)
    request = Request(**{**found, "says": tuple(found.get("says", ()))})
    if request.to not in SERVICES:
        raise CaseError(f"{place}: to: {request.to!r} is none of {', '.join(SERVICES)}")
    if request.trace not in ("answered", "sent"):
        raise CaseError(f"{place}: trace: {request.trace!r} is neither answered nor sent")
    return request


def _check_facts(facts: Any, place: str) -> None:
    _check(facts, place, set(), {"tempo", "langfuse", "links"})
    tempo, langfuse = facts.get("tempo", {}), facts.get("langfuse", {})
    _check(tempo, f"{place}: tempo", set(), _TEMPO)
    _check(langfuse, f"{place}: langfuse", set(), _LANGFUSE)
    _check(facts.get("links", {}), f"{place}: links", set(), {"langfuse", "grafana"})
    for one in langfuse.get("observations", ()):
        _check(one, f"{place}: observation", {"name", "count"}, _OBSERVATION)
    for side in (tempo, langfuse):
        if side.get("absent") and len(side) > 1:
            raise CaseError(f"{place}: what is absent has no other facts")


def _check(found: Any, place: str, needed: set[str], further: set[str] | frozenset[str]) -> None:
    if not isinstance(found, Mapping):
        raise CaseError(f"{place}: a mapping is needed, not {found!r}")
    if unknown := set(found) - needed - further:
        raise CaseError(f"{place}: unknown {sorted(map(str, unknown))}")
    if missing := needed - set(found):
        raise CaseError(f"{place}: {sorted(missing)} missing")
