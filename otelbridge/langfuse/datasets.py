"""Runs a function over a dataset of Langfuse: a trace and scores for each item, linked to it.

Langfuse v4 takes the link from attributes on spans (`langfuse.experiment.*`), v3 from a call of its
API for each item; both are done where they work. The run goes on whatever Langfuse, the function or
an evaluator do; only a dataset that cannot be read ends it. Neighbours: `evaluation`, `runs`,
`scores`.
"""

from __future__ import annotations

import inspect
import json
import logging
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from hashlib import sha256
from typing import Any, Final
from urllib.parse import quote

from opentelemetry import context as otel_context
from opentelemetry.context import Context
from opentelemetry.trace import Status, StatusCode

from otelbridge import semconv
from otelbridge.context import RUN_ATTRIBUTES_KEY, request_context
from otelbridge.errors import ConfigError, OtelbridgeError
from otelbridge.genai.spans import evaluate, span
from otelbridge.langfuse import active
from otelbridge.langfuse.client import LangfuseApi, LangfuseApiError
from otelbridge.langfuse.evaluation import (
    call_by_name,
    call_evaluator,
    finished,
    name_of,
    results_of,
)
from otelbridge.langfuse.experiment_data import paged
from otelbridge.langfuse.runs import Run, RunItem
from otelbridge.langfuse.scores import score

#: The environment that Langfuse's own runner uses: evaluations stay out of production's figures.
ENVIRONMENT: Final = "sdk-experiment"
_ITEMS: Final = "/api/public/dataset-items"
_RUN_ITEMS: Final = "/api/public/dataset-run-items"

_logger = logging.getLogger("otelbridge")


@dataclass(frozen=True, slots=True)
class DatasetItem:
    """One item of a dataset."""

    id: str
    input: Any = None
    expected_output: Any = None
    metadata: Any = None


@dataclass(slots=True)
class _Plan:
    """What all items of a run share.

    Attributes:
        run_id: Of the run on v4, where it is derived; the same on every span.
        api: For v3's links; None where none are needed.
        v3_run_id: What v3 answered.
    """

    dataset: str
    dataset_id: str
    run_name: str
    run_id: str
    description: str
    metadata: Mapping[str, Any]
    environment: str
    project_id: str = ""
    api: LangfuseApi | None = None
    v3_run_id: str = ""
    unlinked: list[str] = field(default_factory=list)


def run_dataset(
    name: str,
    fn: Callable[..., Any],
    evaluators: Sequence[Callable[..., Any]] = (),
    *,
    run_name: str | None = None,
    max_workers: int = 4,
    description: str = "",
    metadata: Mapping[str, Any] | None = None,
    items: Iterable[DatasetItem] | None = None,
    run_evaluators: Sequence[Callable[[Run], Any]] = (),
    environment: str = ENVIRONMENT,
) -> Run:
    """Call a function for every item of a dataset, judge its answers, and link all of it.

    Args:
        name: Of the dataset; archived items are left out.
        fn: Is given the item's input, or the item itself if it has a parameter `item`. May be a
            coroutine function. What it raises becomes the item's error.
        evaluators: See `evaluation`; `judge` makes one of a model. They run after `fn`, on items
            that did not fail; their scores are given to the item's span.
        run_name: Items of runs with one name come together; by default the dataset and the time.
        max_workers: Items at the same time.
        items: These, and the dataset is not asked for its own.
        run_evaluators: Are given the finished run; their scores belong to the run.
        environment: Of the spans.
    Returns:
        Items in the dataset's order. Call `otelbridge.flush()` before a short program ends.
    Raises:
        ConfigError, LangfuseApiError: The dataset cannot be read.
        OtelbridgeError: It has no items.
        ValueError: `max_workers` below 1.
    """
    if max_workers < 1:
        raise ValueError(f"max_workers is at least 1, not {max_workers!r}")
    settings = active.current().langfuse
    if not settings.configured:
        variable = " and ".join(settings.missing_keys) or "LANGFUSE_ENABLED"
        raise ConfigError(
            variable, "", "what Langfuse's API needs: both keys, and not switched off"
        )
    chosen_name = run_name or f"{name} {datetime.now(UTC):%Y-%m-%d %H:%M:%S}"
    with LangfuseApi(settings) as api:
        plan = _plan(api, name, chosen_name)
        plan.description, plan.metadata = description, dict(metadata or {})
        plan.environment = environment
        found = list(items) if items is not None else _items(api, name)
        if not found:
            raise OtelbridgeError(f"The dataset {name!r} has no active items.")
        with ThreadPoolExecutor(max_workers, "otelbridge-run") as pool:
            done = list(pool.map(lambda item: _run_item(item, fn, evaluators, plan), found))
    if plan.unlinked:
        _logger.warning(
            "otelbridge: %d of %d items of the run %r could not be linked to their dataset items; "
            "their traces and scores are there. First: %s",
            len(plan.unlinked), len(found), chosen_name, plan.unlinked[0],
        )  # fmt: skip
    run = Run(chosen_name, name, done, plan.v3_run_id or plan.run_id, _url(plan))
    _judge_run(run, run_evaluators)
    return run


# -- the dataset -----------------------------------------------------------------------------------
def _plan(api: LangfuseApi, dataset: str, run_name: str) -> _Plan:
    """Ids of dataset, project and run, and whether links go by the API."""
    path = f"/api/public/v2/datasets/{quote(dataset, safe='')}"
    try:
        answer = api.request("GET", path)
    except LangfuseApiError as error:
        if error.status != 404:
            raise
        raise OtelbridgeError(f"Langfuse at {api.host} knows no dataset {dataset!r}.") from error
    dataset_id = str(answer.get("id") or "")
    project_id = active.current().langfuse.project_id or str(answer.get("projectId") or "")
    health = api.request("GET", "/api/public/health") or {}
    plan = _Plan(dataset, dataset_id, run_name, "", "", {}, ENVIRONMENT, project_id)
    plan.run_id = experiment_id(project_id, dataset_id, run_name)
    if str(health.get("version", "")).startswith(("2.", "3.")):
        plan.api = api
    return plan


def experiment_id(project_id: str, dataset_id: str, run_name: str) -> str:
    """The id that Langfuse v4 and its SDKs derive for a run: runs of one name come together."""
    parts = ["langfuse-experiment-v1", project_id, dataset_id, run_name]
    text = json.dumps(parts, separators=(",", ":"), ensure_ascii=False)
    return sha256(text.encode("utf-8", "replace")).hexdigest()[:16]


def _items(api: LangfuseApi, dataset: str) -> list[DatasetItem]:
    return [
        DatasetItem(
            str(row["id"]), row.get("input"), row.get("expectedOutput"), row.get("metadata")
        )
        for row in paged(api, _ITEMS, {"datasetName": dataset})
        if row.get("status", "ACTIVE") == "ACTIVE"
    ]


def _url(plan: _Plan) -> str:
    base = active.current().langfuse.public_url
    if not base or not plan.project_id:
        return ""
    start = f"{base.rstrip('/')}/project/{quote(plan.project_id, safe='')}"
    if plan.api is None:
        return f"{start}/experiments/results?baseline={quote(plan.run_id, safe='')}"
    return (
        f"{start}/datasets/{quote(plan.dataset_id, safe='')}/runs/{quote(plan.v3_run_id, safe='')}"
        if plan.v3_run_id
        else ""
    )


def _judge_run(run: Run, evaluators: Sequence[Callable[[Run], Any]]) -> None:
    """Scores of the whole run."""
    for evaluator in evaluators:
        name = name_of(evaluator)
        try:
            for one in results_of(finished(evaluator(run)), name):
                score(one.name, one.value, dataset_run_id=run.id, comment=one.comment or None)
        except Exception as error:  # noqa: BLE001 - a run that is done is not lost for it
            _logger.warning("otelbridge: run evaluator %s: %r", name, error)


# -- one item --------------------------------------------------------------------------------------
def _run_item(
    item: DatasetItem,
    fn: Callable[..., Any],
    evaluators: Sequence[Callable[..., Any]],
    plan: _Plan,
) -> RunItem:
    """Run and judge one item in a trace of its own."""
    done = RunItem(item.id)
    attributes = _attributes(item, plan)
    with (
        _own_trace(),
        request_context(trace_name=plan.run_name, metadata={"dataset_item_id": item.id}),
        _on_every_span(attributes),
        span("dataset item", kind="chain", input=item.input) as outer,
    ):
        with span("run item", kind="chain", input=item.input) as call:
            done.trace_id, done.span_id = call.trace_id, call.span_id
            expected = _json(item.expected_output)
            own = {
                semconv.EXPERIMENT_ITEM_ROOT: call.span_id,
                semconv.EXPERIMENT_ITEM_EXPECTED_OUTPUT: expected,
                semconv.EXPERIMENT_DESCRIPTION: plan.description or None,
            }
            known = {key: value for key, value in own.items() if value is not None}
            outer.span.set_attributes(known)
            call.span.set_attributes(known)
            with _on_every_span({**attributes, semconv.EXPERIMENT_ITEM_ROOT: call.span_id}):
                started = time.perf_counter()
                try:
                    done.output = _called(fn, item)
                    call.set_output(done.output)
                except Exception as error:  # noqa: BLE001 - the application's own
                    done.error = f"{type(error).__name__}: {error}"
                    call.span.record_exception(error)
                    call.span.set_status(Status(StatusCode.ERROR, done.error))
                    outer.span.set_status(Status(StatusCode.ERROR, done.error))
                done.latency_seconds = time.perf_counter() - started
        outer.set_output(done.output)
        if not done.error:
            with _on_every_span({**attributes, semconv.EXPERIMENT_ITEM_ROOT: done.span_id}):
                _judge(item, done, evaluators)
    _link(plan, done)
    return done


def _called(fn: Callable[..., Any], item: DatasetItem) -> Any:
    if "item" in _parameters(fn):
        return call_by_name(fn, {"item": item})
    return finished(fn(item.input))


def _parameters(fn: Callable[..., Any]) -> Iterable[str]:
    try:
        return inspect.signature(fn).parameters
    except (TypeError, ValueError):  # some built-in functions have none that can be read
        return ()


def _judge(item: DatasetItem, done: RunItem, evaluators: Sequence[Callable[..., Any]]) -> None:
    given = {
        "input": item.input, "output": done.output, "expected_output": item.expected_output,
        "metadata": item.metadata, "item": item,
    }  # fmt: skip
    for evaluator in evaluators:
        name = name_of(evaluator)
        with evaluate(name) as call:
            try:
                results = call_evaluator(evaluator, given)
            except Exception as error:  # noqa: BLE001 - the application's own
                done.failed_evaluators[name] = f"{type(error).__name__}: {error}"
                call.span.record_exception(error)
                call.span.set_status(Status(StatusCode.ERROR, done.failed_evaluators[name]))
                continue
            for one in results:
                call.set_score(one.value, explanation=one.comment or None)
        for one in results:
            value = one.value if isinstance(one.value, str) else float(one.value)
            done.scores[one.name] = value
            score(
                one.name, one.value, trace_id=done.trace_id, span_id=done.span_id,
                comment=one.comment or None, data_type=one.data_type, metadata=one.metadata or None,
            )  # fmt: skip


def _link(plan: _Plan, done: RunItem) -> None:
    """Tell v3 which item the trace belongs to."""
    if plan.api is None:
        return
    body = {
        "runName": plan.run_name, "datasetItemId": done.item_id, "traceId": done.trace_id,
        "observationId": done.span_id, "runDescription": plan.description or None,
        "metadata": dict(plan.metadata) or None,
    }  # fmt: skip
    try:
        sent = {key: value for key, value in body.items() if value is not None}
        answer = plan.api.request("POST", _RUN_ITEMS, body=sent) or {}
        plan.v3_run_id = str(answer.get("datasetRunId") or plan.v3_run_id)
    except OtelbridgeError as error:
        plan.unlinked.append(str(error))


def _attributes(item: DatasetItem, plan: _Plan) -> dict[str, str]:
    """What every span of an item carries; Langfuse's runner writes the same."""
    found = {
        semconv.EXPERIMENT_ID: plan.run_id,
        semconv.EXPERIMENT_NAME: plan.run_name,
        semconv.EXPERIMENT_DATASET_ID: plan.dataset_id,
        semconv.EXPERIMENT_ITEM_ID: item.id,
        semconv.EXPERIMENT_METADATA: _json(plan.metadata or None),
        semconv.EXPERIMENT_ITEM_METADATA: _json(item.metadata),
        semconv.LANGFUSE_ENVIRONMENT: plan.environment,
    }
    return {key: value for key, value in found.items() if value}


def _json(value: Any) -> str | None:
    if value is None or isinstance(value, str):
        return value
    return json.dumps(value, ensure_ascii=False, default=str)


@contextmanager
def _own_trace() -> Iterator[None]:
    """No parent and no baggage of the caller inside."""
    token = otel_context.attach(Context())
    try:
        yield
    finally:
        otel_context.detach(token)


@contextmanager
def _on_every_span(attributes: Mapping[str, str]) -> Iterator[None]:
    token = otel_context.attach(otel_context.set_value(RUN_ATTRIBUTES_KEY, attributes))
    try:
        yield
    finally:
        otel_context.detach(token)
