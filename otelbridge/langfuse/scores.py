"""`score`: a judgement on a trace, a span, a session or a request, for Langfuse and for Tempo.

Langfuse gets it through `score_delivery` (queue, spool, worker), Tempo and the metrics through
`score_signals`. `provider` hands over the settings (`use`) and ends the delivery (`stop`); without
it the environment is read at the first score. `score` returns at once and raises only for mistakes
in the program (ValueError); whatever else goes wrong is counted in `score_stats`.
"""

from __future__ import annotations

import atexit
import os
import time
from collections import Counter
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Final

from opentelemetry.trace import Span, format_span_id

from otelbridge import _guard, request_ids, semconv
from otelbridge.langfuse import active, score_signals
from otelbridge.langfuse.score_body import (
    MAX_COMMENT_CHARACTERS,
    BadValueError,
    Score,
    Target,
    checked_name,
    checked_type,
    clean,
    plain_metadata,
    score_id,
    typed_value,
)
from otelbridge.langfuse.score_targets import Judged, judged_of
from otelbridge.links import links, pages_of
from otelbridge.settings import Settings

if TYPE_CHECKING:
    from otelbridge.langfuse.score_delivery import ScoreDelivery
    from otelbridge.masking.rules import Masking

_logger = _guard.logger
_TRACE_ID_MASK: Final = (1 << 64) - 1
#: Members of `metadata` that say what was judged, to the attribute of the score's span.
_FACTS: Final = {
    "prompt_name": semconv.GEN_AI_PROMPT_NAME,
    "prompt_version": semconv.GEN_AI_PROMPT_VERSION,
    "variant": semconv.VARIANT,
}


class _State:
    """What the scores of this process need."""

    def __init__(self) -> None:
        self.lock = _guard.fork_safe_lock()
        self.settings: Settings | None = None
        self.delivery: ScoreDelivery | None = None
        self.masking: Masking | None = None
        self.is_set = False
        self.counts: Counter[str] = Counter()
        self.count_lock = _guard.fork_safe_lock()
        #: Score id to the time of its first value.
        self.first_ns = request_ids.Recent[int]()
        self.said: set[str] = set()


_state = _State()


def score(
    name: str,
    value: float | str | bool,
    *,
    trace_id: str | None = None,
    span: Span | None = None,
    session_id: str | None = None,
    request_id: str | None = None,
    dataset_run_id: str | None = None,
    span_id: str | None = None,
    comment: str | None = None,
    data_type: str | None = None,
    metadata: Mapping[str, Any] | None = None,
    config_id: str | None = None,
    score_id: str | None = None,
    source: str = "",
) -> str:
    """Judge a trace, a span, a session, a dataset run or a request; by default the current trace.

    Langfuse gets the score, Tempo a span with a link to the judged trace and, while the judged span
    is open, the event `gen_ai.evaluation.result` on it; metrics count it. Returns at once; delivery
    goes through the spool.

    Args:
        name: At most 200 characters.
        value: A number, a boolean, or a category as text.
        trace_id: 32 hex digits or a UUID; any other text is taken as a request id.
        span: A span, such as `call.span`; that observation is judged.
        request_id: An `X-Request-ID`; its trace is looked up, now or later.
        span_id: 16 hex digits of one span of `trace_id`.
        data_type: NUMERIC, BOOLEAN, CATEGORICAL, TEXT (1 to 500 characters) or CORRECTION; by
            default what the value is.
        metadata: `prompt_name`, `prompt_version` and `variant` also become labels in Tempo and of
            the metrics; where they are absent, those of the judged trace are taken if it ran in
            this process.
        config_id: A score configuration of the Langfuse project.
        score_id: Instead of the deterministic id.
        source: Who judges, if several do: each keeps a score of that name. Part of the id.
    Returns:
        The id: the same for the same target, name and source, so a repeat overwrites. Empty text
        for a value or a target that cannot be scored, which is logged once and counted.
    Raises:
        ValueError: name, data_type, or more than one target: a mistake in the program.
    """
    checked_name(name)
    checked_type(data_type)
    _check_targets(trace_id, span, session_id, request_id, dataset_run_id)
    given = {
        "comment": comment, "data_type": data_type, "metadata": metadata, "config_id": config_id,
        "score_id": score_id, "source": source,
    }  # fmt: skip
    with _guard.guard("score"):
        judged = judged_of(trace_id, span, session_id, request_id, dataset_run_id, span_id)
        if judged is not None:
            return _give(name, value, judged, given)
        _refuse("no target: no trace is open here, and none was named")
    return ""


def _check_targets(*targets: object) -> None:
    named = [target for target in targets if target is not None]
    if len(named) > 1:
        raise ValueError(
            "score takes one of trace_id, span, session_id, request_id and dataset_run_id, "
            f"not {len(named)} of them"
        )


def _give(name: str, value: object, judged: Judged, given: Mapping[str, Any]) -> str:
    settings = _settings()
    target, plain = judged.target, plain_metadata(given["metadata"])
    try:
        typed, data_type = typed_value(value, checked_type(given["data_type"]))
    except BadValueError as error:
        _refuse(f"{name}: {error}")
        return ""
    name, source = checked_name(name), clean(str(given["source"] or ""))
    comment, now_ns = given["comment"], time.time_ns()
    own_id = str(given["score_id"] or score_id(target, name, source))
    first_ns = _state.first_ns.get(own_id) or now_ns
    _state.first_ns.put(own_id, first_ns)
    made = Score(
        id=own_id,
        name=name,
        value=typed,
        data_type=data_type,
        target=target,
        time_ns=now_ns,
        first_ns=first_ns,
        comment=clean(str(comment))[:MAX_COMMENT_CHARACTERS] if comment is not None else "",
        metadata={**plain, **({"source": source} if source else {})},
        environment=(settings.langfuse.environment or "") if settings is not None else "",
        config_id=str(given["config_id"] or ""),
        facts=_facts(judged, plain),
    )
    note("given")
    _signal(made, judged, settings)
    return made.id


def _facts(judged: Judged, metadata: Mapping[str, Any]) -> dict[str, Any]:
    found = request_ids.judged(judged.target.trace_id) if judged.target.trace_id else {}
    attributes = getattr(judged.open_span, "attributes", None) or {}
    for source in (judged.request, attributes):
        found |= {key: source[key] for key in _FACTS.values() if key in source}
    found |= {key: metadata[name] for name, key in _FACTS.items() if name in metadata}
    # Text in Tempo whatever was given: a literal of another type would not match.
    return {key: str(value) for key, value in found.items() if value is not None}


def _signal(made: Score, judged: Judged, settings: Settings | None) -> None:
    """Everything that a score sets off; nothing of it waits for a network or a disk."""
    score_signals.count(made)
    content = settings is not None and settings.capture_on_span
    if not judged.sampled:
        note("unsampled")
        return
    event = judged.open_span is not None and score_signals.add_event(
        judged.open_span, made, content=content
    )
    delivery = _delivery()
    target = made.target
    is_open = bool(target.request_id) and not target.trace_id
    request = dict(judged.request)
    if not is_open or delivery is None:
        _make_span(made, request, event=not event, near=judged.open_span)
    if delivery is not None and not _outside_sample(target, settings):
        delivery.submit(made, request)


def _make_span(
    made: Score, request: Mapping[str, Any], *, event: bool, near: Span | None = None
) -> None:
    settings, target, page = _state.settings, made.target, None
    if settings is not None and target.trace_id:
        page = links(pages_of(settings), target.trace_id, target.span_id or None).langfuse_url
    score_signals.make_span(
        made,
        request,
        content=settings is not None and settings.capture_on_span,
        event=event,
        langfuse_url=page,
        judged_span_id="" if near is None else format_span_id(near.get_span_context().span_id),
    )


def _settled(made: Score, request: Mapping[str, Any]) -> None:
    """A request's trace was found later, or given up: now its span is made."""
    _make_span(made, request, event=True)


def _outside_sample(target: Target, settings: Settings | None) -> bool:
    """Whether LANGFUSE_SAMPLE_RATE keeps the judged trace out of Langfuse."""
    rate = settings.langfuse.sample_rate if settings is not None else 1.0
    if rate >= 1 or not target.trace_id:
        return False
    out = int(target.trace_id, 16) & _TRACE_ID_MASK >= round(rate * (1 << 64))
    if out:
        note("unsampled")
    return out


# -- state -----------------------------------------------------------------------------------------
def use(settings: Settings, masking: Masking | None = None) -> None:
    """Score under these settings from now on; what an earlier process left is sent.

    Args:
        masking: Rules in code, in place of those of the settings.
    """
    with _guard.guard("scores"), _state.lock:
        _state.masking = masking
        _set(settings)
        delivery = _state.delivery
        if delivery is not None and delivery.has_backlog():
            delivery.start()


def _set(settings: Settings) -> None:
    _state.settings, _state.is_set = settings, True
    _state.delivery = _new_delivery(settings)
    atexit.register(stop)  # by `provider`, or, where it is not used, at the end of the program


def _new_delivery(settings: Settings) -> ScoreDelivery | None:
    if settings.sdk_disabled or not settings.langfuse.configured:
        return None
    # Imported here: a process without Langfuse's keys needs none of it.
    from otelbridge.langfuse.score_delivery import delivery_of

    return delivery_of(settings, _settled, _state.masking)


def _settings() -> Settings | None:
    if not _state.is_set:
        with _state.lock:
            if not _state.is_set:
                _state.is_set = True  # settings that cannot be read are read once
                with _guard.guard("scores: settings"):
                    _set(active.current())
    return _state.settings


def _delivery() -> ScoreDelivery | None:
    delivery, settings = _state.delivery, _state.settings
    if delivery is None and settings is not None:
        note("off")
        _say(f"scores reach no Langfuse: {_off_reason(settings)}. Tempo and metrics have them.")
    return delivery


def _off_reason(settings: Settings) -> str:
    if settings.sdk_disabled:
        return "OTEL_SDK_DISABLED=true"
    if not settings.langfuse.enabled:
        return "LANGFUSE_ENABLED=false"
    return f"{' and '.join(settings.langfuse.missing_keys)} not set"


def _refuse(why: str) -> None:
    note("refused")
    _say(f"score not given: {why}; further ones are only counted.")


def _say(what: str) -> None:
    if (kind := what.partition(":")[0]) not in _state.said:
        _state.said.add(kind)
        _logger.warning("otelbridge: %s", what)


def flush_scores(timeout_seconds: float = 5.0) -> bool:
    """Send what waits, for at most this long.

    Returns:
        Whether nothing waits any more; False does not mean that anything was lost.
    """
    delivery = _state.delivery
    return delivery is None or _flushed(delivery, timeout_seconds)


@_guard.guarded("scores", False)
def _flushed(delivery: ScoreDelivery, timeout_seconds: float) -> bool:
    return delivery.flush(timeout_seconds)


def begin_stop(timeout_seconds: float) -> None:
    """The end is near: the worker ends within this time, beside what else ends."""
    if (delivery := _state.delivery) is not None:
        delivery.begin_stop(timeout_seconds)


def stop(timeout_seconds: float | None = None) -> bool:
    """End the delivery: send for so long, then leave the rest in the spool for the next process.

    Args:
        timeout_seconds: By default that of the settings (OTELBRIDGE_SHUTDOWN_TIMEOUT).
    Returns:
        Whether nothing was lost.
    """
    with _state.lock:
        delivery, _state.delivery = _state.delivery, None
        settings, _state.settings = _state.settings, None
        _state.is_set = False
        atexit.unregister(stop)
    kept = True
    if delivery is not None:
        seconds = timeout_seconds
        if seconds is None:
            seconds = settings.shutdown_timeout_seconds if settings is not None else 1.5
        with _guard.guard("scores: end"):
            kept = delivery.stop(seconds)
    return kept


def score_stats() -> dict[str, int]:
    """What became of the scores of this process; never raises.

    Returns:
        `given`; `delivered` to Langfuse; `queued`; `held` in memory for want of a spool;
        `unresolved` and `resolved` scores of requests; `refused` values and targets; `off`, without
        Langfuse's keys; `unsampled`; `evaluators_…` (see `evaluate_later`); `dropped_<reason>`.
    """
    found = Counter({"given": 0, "delivered": 0})
    found.update(_state.counts)
    with _guard.guard("score_stats"):
        if (delivery := _state.delivery) is not None:
            found.update(delivery.stats())
    return dict(found)


def note(what: str) -> None:
    """Count one more of something, for `score_stats`."""
    with _state.count_lock:
        _state.counts[what] += 1


def _after_fork() -> None:
    """A child has no worker, and what waits is its parent's."""
    settings, had = _state.settings, _state.delivery
    _state.counts.clear()
    if settings is not None and had is not None:
        _state.delivery = None
        with _guard.guard("scores: fork"):
            _state.delivery = _new_delivery(settings)


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork)
