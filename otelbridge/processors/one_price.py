"""Exactly one priced span for a model call that several emitters record.

A helper around an instrumented client, a framework around both, a gateway behind them: each ends a
span with the same usage. The outermost model call carries usage and cost (it has the prompt, the
variant and the application's own cost); it takes over what the inner ones know when it has no
usage itself. The others keep their figures under `otelbridge.uncounted.*`. Across services the
tracestate member says what an open model call of the caller counts (`view.Member.counted`).
State is kept on the nodes of `view`; everything here runs when a span starts or ends.
"""

from __future__ import annotations

import weakref
from collections import deque
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

from opentelemetry import trace
from opentelemetry.attributes import BoundedAttributes
from opentelemetry.sdk.trace import ReadableSpan
from opentelemetry.sdk.util.instrumentation import InstrumentationScope

from otelbridge import _guard, dialects, policy, semconv, view
from otelbridge.cost import pricing
from otelbridge.cost.names import same_model
from otelbridge.cost.spans import (
    cost_attributes,
    models_of,
    provider_of,
    read_usage,
    usage_attributes,
)
from otelbridge.cost.usage import Cost, Usage
from otelbridge.processors.sdk_spans import raw_attributes

#: Names of one operation: what is recorded as `chat` by one emitter is a completion for another.
_INFERENCE: Final = "inference"
_KINDS: Final = {
    "chat": _INFERENCE,
    "generate_content": _INFERENCE,
    "text_completion": _INFERENCE,
    "embeddings": "embeddings",
    # Machinery around a call, and spans that do not say what they are: looked through.
    "invoke_workflow": "",
}
#: Letters of `view.Member.counted`.
_LETTERS: Final = {_INFERENCE: "c", "embeddings": "e"}
#: Agents, tools and all else: a call below is one of its own.
_APART: Final = "apart"
#: Keys, or beginnings of keys, that hold usage or cost in any dialect.
_FIGURES: Final = (
    semconv.GEN_AI_USAGE_PREFIX,
    semconv.LANGFUSE_OBSERVATION_USAGE_DETAILS,
    semconv.LANGFUSE_OBSERVATION_COST_DETAILS,
    "llm.token_count.",
    "llm.usage.",
    "llm.cost.",
    "ai.usage.",
    semconv.GEN_AI_PREFIX + "cost.",
    "operation.cost",
    semconv.COST_SOURCE,
    semconv.COST_DATE,
    "otelbridge.usage.",
)
_CALLER: Final = "caller"
_UNKNOWN: Final = Usage()
#: A span that stays open for hours does not remember all that went on below it.
_KEPT_BELOW: Final = 64
#: The same under every spelling of an operation.
_KINDS_NAMED: Final = {
    **_KINDS,
    **{name: _KINDS.get(meant, _APART) for name, meant in dialects.OPERATIONS},
}
_lock = _guard.fork_safe_lock()


@dataclass(frozen=True, slots=True)
class _Facts:
    """What a span says of its call, in current names."""

    kind: str  # a value of _KINDS, or _APART
    scope: str
    span_id: int = 0
    models: tuple[str, ...] = ()
    response_id: str = ""
    provider: str = ""
    usage: Usage = _UNKNOWN
    source: str = ""  # of the cost that it carries

    @property
    def is_model_call(self) -> bool:
        return self.kind not in ("", _APART)

    @property
    def has_price(self) -> bool:
        return any(pricing.knows(self.provider, model) for model in self.models)

    def same_call(self, other: _Facts) -> bool:
        if not self.is_model_call or self.kind != other.kind:
            return False
        if self.response_id and self.response_id == other.response_id:
            return True
        # One emitter does not record a call twice: a helper within a helper is another call.
        if self.scope == other.scope:
            return False
        return any(same_model(one, two) for one in self.models for two in other.models)


_NOTHING: Final = _Facts("", "")
_OTHER: Final = _Facts(_APART, "")


class CallState:
    """A span while it or a span below it is open; sits on its `view.Node`.

    Args:
        from_caller: What the caller's model call counts (`view.Member.counted`); empty text below
            an agent or a tool, whose calls are their own.
    """

    __slots__ = ("__weakref__", "_ended", "_facts", "_given", "counted", "from_caller", "left")

    def __init__(self, from_caller: str = "") -> None:
        self.from_caller = from_caller
        self.left: list[_Facts] | None = None
        """Ended calls below that leave their figures to this span."""
        self.counted: deque[CallState] | None = None
        """Ended calls below that count themselves."""
        self._ended: tuple[weakref.ref[BoundedAttributes], InstrumentationScope | None, int] | None
        self._ended = None
        self._facts: _Facts | None = None

    def ended_as(self, span: ReadableSpan, span_id: int) -> None:
        """It has ended as the span that counts.

        What it says is worked out when somebody asks, which is rare and takes 30 us: its attributes
        are read where they wait for their export. `leaving` comes before they go.
        """
        attributes = getattr(span, "_attributes", None)
        if type(attributes) is BoundedAttributes:
            self._ended = (weakref.ref(attributes), span.instrumentation_scope, span_id)
            attributes._otelbridge_call = weakref.ref(self)  # type: ignore[attr-defined]  # ours
        else:
            self._facts = _facts(raw_attributes(span), _scope_name(span), span_id)

    @property
    def has_ended(self) -> bool:
        """Whether `final` is known."""
        return self._ended is not None or self._facts is not None

    @property
    def final(self) -> _Facts | None:
        """What it says, once it has ended as the span that counts."""
        if self._facts is None and self._ended is not None:
            known, scope, span_id = self._ended
            attributes = known()  # None for a span that a full queue has dropped
            given = attributes.copy() if attributes is not None else {}
            self._facts = _facts(given, scope.name if scope is not None else "", span_id)
        return self._facts

    def end_with(self, facts: _Facts) -> None:
        """The same, where they are known."""
        self._facts = facts

    def counts_for_callee(self, node: view.Node) -> str:
        """What an open model call that will get a price counts for a callee."""
        return _counts_for_callee(node, self.from_caller)


class _Untold:
    """Stands on a node, in place of a state, as long as there is nothing to remember."""

    __slots__ = ()

    def counts_for_callee(self, node: view.Node) -> str:
        """As `CallState.counts_for_callee`."""
        return _counts_for_callee(node, "")


#: What a node begins with where no caller counts.
UNTOLD: Final = _Untold()


def _counts_for_callee(node: view.Node, from_caller: str) -> str:
    above: view.Node | None = node
    while above is not None:
        seen = _facts_of(above)
        if seen.kind == _APART:
            return ""
        if seen.is_model_call:
            letter = _LETTERS[seen.kind]
            return letter if _from_caller(above) == letter or seen.has_price else ""
        above = _above(above)
    return from_caller


def _above(node: view.Node) -> view.Node | None:
    above = node.above
    return above if above is not None and above.call is not None else None


def _from_caller(node: view.Node) -> str:
    return node.call.from_caller if isinstance(node.call, CallState) else ""


def _state_of(node: view.Node) -> CallState:
    state = node.call
    if not isinstance(state, CallState):
        state = node.call = CallState()
    return state


def _facts_of(node: view.Node) -> _Facts:
    """What a span says by now."""
    call = node.call
    if isinstance(call, CallState) and (final := call.final) is not None:
        return final
    span = node.live()
    if span is None:
        return _NOTHING
    present = raw_attributes(span)
    if not policy.is_gen_ai(present):
        return _NOTHING
    if _kind_named(present) == _APART:
        return _OTHER
    return _facts(present.copy(), _scope_name(span), node.id)


def _scope_name(span: ReadableSpan) -> str:
    scope = span.instrumentation_scope
    return scope.name if scope is not None else ""


def _kind_named(present: Mapping[str, Any]) -> str | None:
    """The kind of a gen_ai span that names its operation as the conventions do, else None."""
    operation = present.get(semconv.GEN_AI_OPERATION_NAME)
    if type(operation) is not str:
        return None
    return _KINDS_NAMED.get(operation, _APART)


@_guard.guarded("one price: start", None)
def at_start(node: view.Node) -> None:
    """Note a starting span."""
    above = _above(node)
    if above is None:
        from_caller = node.entry.counted_by_caller
    else:
        from_caller = _from_caller(above)
        if from_caller and _facts_of(above).kind == _APART:
            from_caller = ""
    node.call = CallState(from_caller) if from_caller else UNTOLD


def at_end(
    span: ReadableSpan, node: view.Node, present: Mapping[str, Any]
) -> dict[str, Any] | None:
    """Changes to an ended gen_ai span; None as a value takes the attribute away."""
    try:
        kind = _kind_named(present)
        if kind in ("", _APART) or node.call is None:
            return None
        with _lock:
            if kind is not None and node.call is UNTOLD and _stands_alone(span, node):
                return None
            return _settled(span, node, present)
    except Exception as error:  # not `guarded`: every model call would pay for it
        _guard.record_failure("one price: end", error)
        if _guard.reraise:
            raise
        return None


def _stands_alone(span: ReadableSpan, node: view.Node) -> bool:
    """Whether a call is the only one on its way up, as most are; remembers it if so."""
    above = top = node.above
    while above is not None and (state := above.call) is not None:
        live = above.live()
        if state is not UNTOLD and isinstance(state, CallState) and state.has_ended:
            return False
        if live is not None and policy.is_gen_ai(seen := raw_attributes(live)):
            if _kind_named(seen) == _APART:
                break
            return False
        above = above.above
    ended = node.call = CallState()
    ended.ended_as(span, node.id)
    while top is not above and top is not None:
        known = top.call
        if isinstance(known, CallState) and known.counted is not None:
            known.counted.append(ended)
        else:
            _count_below(top, ended)
        top = top.above
    return True


@_guard.guarded("one price: leaving", None)
def leaving(span: ReadableSpan) -> None:
    """An ended span's attributes are about to go: keep what outer calls may ask for."""
    known = getattr(getattr(span, "_attributes", None), "_otelbridge_call", None)
    state = known() if known is not None else None
    if state is not None:  # a span above is still open
        _ = state.final


def _count_below(node: view.Node, ended: CallState) -> None:
    state = _state_of(node)
    if state.counted is None:
        state.counted = deque(maxlen=_KEPT_BELOW)
    state.counted.append(ended)


def _settled(
    span: ReadableSpan, node: view.Node, present: Mapping[str, Any]
) -> dict[str, Any] | None:
    facts = _facts(present, _scope_name(span), node.id)
    if not facts.is_model_call:
        return None
    by_caller = _from_caller(node) == _LETTERS[facts.kind]
    owner = _CALLER if by_caller else _owner(node, facts)
    if owner is not None:
        return _uncounted(present, owner)
    state = _state_of(node)
    state.end_with(facts)
    above = _above(node)
    while above is not None and _facts_of(above).kind != _APART:
        _count_below(above, state)
        above = _above(above)
    return _taken_over(present, facts, state.left or [])


def _owner(node: view.Node, facts: _Facts) -> str | None:
    """The span id of who counts this call instead; None for this span itself."""
    own = _state_of(node)
    for inner in own.counted or ():
        seen_below = inner.final
        if seen_below is not None and facts.same_call(seen_below):
            return trace.format_span_id(seen_below.span_id)
    nearest: CallState | None = None
    last = facts  # of the chain up to the outermost
    above = _above(node)
    while above is not None:
        seen = _facts_of(above)
        if seen.kind == _APART:
            break
        # An outer span whose model has no price leaves the call to one whose model has.
        if seen.same_call(last) and (seen.has_price or not last.has_price):
            nearest, last = nearest or _state_of(above), seen
        above = _above(above)
    if nearest is None:
        return None
    if not nearest.has_ended:  # still open: it takes over what is known here, or passes it on
        left = own.left or []
        more = left if _is_sum(facts, left) else [facts]
        nearest.left = [*(nearest.left or ()), *more]
    return trace.format_span_id(last.span_id)


def _is_sum(facts: _Facts, left: list[_Facts]) -> bool:
    """Whether the calls left to a span say more than the span itself."""
    known = [inner for inner in left if inner.usage.is_known]
    return bool(known) and (not facts.usage.is_known or len(known) > 1)


def _taken_over(present: Mapping[str, Any], facts: _Facts, left: list[_Facts]) -> dict[str, Any]:
    """What this span learns from the calls left to it: usage it has not, or that of several."""
    if not left or facts.source in ("caller", "cache"):
        return {}
    changes: dict[str, Any] = {}
    models = [model for inner in left for model in inner.models]
    if semconv.GEN_AI_RESPONSE_MODEL not in present and models:
        changes[semconv.GEN_AI_RESPONSE_MODEL] = models[0]
    if not facts.provider and left[0].provider:
        changes[semconv.GEN_AI_PROVIDER_NAME] = left[0].provider
    if all(inner.source == "cache" for inner in left):
        return changes | cost_attributes(Cost(0.0, "cache", 0.0, 0.0))
    if _is_sum(facts, left):
        total = Usage()
        for inner in left:
            total = total.plus(inner.usage)
        if _tokens(total) > _tokens(facts.usage):
            changes |= {key: None for key in present if key.startswith(_FIGURES)}
            changes |= {key: count for key, count in usage_attributes(total).items() if count}
    return changes


def _uncounted(present: Mapping[str, Any], owner: str) -> dict[str, Any]:
    """The figures under names that nobody adds up, and no room for Langfuse's own estimate."""
    changes: dict[str, Any] = {semconv.COST_COUNTED_BY: owner}
    for key, value in present.items():
        if key.startswith(_FIGURES):
            changes[key] = None
            changes[semconv.UNCOUNTED_PREFIX + key] = value
    changes[semconv.LANGFUSE_OBSERVATION_TYPE] = "span"
    changes[semconv.LANGFUSE_OBSERVATION_COST_DETAILS] = '{"total":0}'
    return changes


def _tokens(usage: Usage) -> int:
    return (usage.input_tokens or 0) + (usage.output_tokens or 0)


def _facts(present: Mapping[str, Any], scope: str, span_id: int) -> _Facts:
    known = {key: value for key, value in present.items() if value is not None}
    if not policy.is_gen_ai(known):
        return _Facts("", scope, span_id)
    seen = dialects.normalise(known, policy.GEN_AI_KEYS)
    operation = seen.get(semconv.GEN_AI_OPERATION_NAME)
    response_id = seen.get(semconv.GEN_AI_RESPONSE_ID)
    return _Facts(
        kind=_KINDS.get(operation, _APART) if isinstance(operation, str) else "",
        scope=scope,
        span_id=span_id,
        models=models_of(seen),
        response_id=response_id if isinstance(response_id, str) else "",
        provider=provider_of(seen),
        usage=read_usage(seen),
        source=str(known.get(semconv.COST_SOURCE, "")),
    )
