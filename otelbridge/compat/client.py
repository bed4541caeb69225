"""The client of the Langfuse SDK v2, as far as applications use it, over otelbridge.

Traces go the way of all spans; scores, prompts and figures go through `otelbridge.langfuse`. No
method of tracing, scoring or checking raises; a prompt that cannot be had does, as it did.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any

from opentelemetry import context as otel_context
from opentelemetry import trace as otel_trace

from otelbridge import _guard, legacy_headers, provider
from otelbridge.compat import _state
from otelbridge.compat._observation import (
    Observation,
    Trace,
    current_trace,
    kind_of,
    lone_event,
    open_observation,
    open_trace,
)
from otelbridge.compat._off import NO_OP, NoOp
from otelbridge.compat._prompts import PromptClient
from otelbridge.compat._scores import give_score
from otelbridge.compat._traces import FetchedTraces, fetch_traces


class Langfuse:
    """`Langfuse()` of v2: traces, scores, prompts.

    Args:
        public_key, secret_key, host, release, environment, sample_rate: Count if otelbridge has not
            been configured before.
        enabled: False gives no-op objects.
        settings: What v2 knew besides is accepted and has no effect.
    """

    def __init__(
        self,
        public_key: str | None = None,
        secret_key: str | None = None,
        host: str | None = None,
        release: str | None = None,
        debug: bool = False,
        *,
        enabled: bool = True,
        environment: str | None = None,
        sample_rate: float | None = None,
        **settings: Any,
    ) -> None:
        self._enabled = enabled is not False
        if self._enabled:
            given = {
                "langfuse_public_key": public_key,
                "langfuse_secret_key": secret_key,
                "langfuse_host": host or settings.get("base_url"),
                "langfuse_release": release,
                "langfuse_environment": environment,
                "langfuse_sample_rate": sample_rate,
                "langfuse_debug": debug or None,
            }
            _state.start(**{key: value for key, value in given.items() if value is not None})

    def _is_on(self) -> bool:
        return self._enabled and _state.is_enabled()

    # -- traces ---------------------------------------------------------------------------------

    def trace(
        self,
        *,
        id: str | None = None,
        name: str = "trace",
        user_id: str | None = None,
        session_id: str | None = None,
        **fields: Any,
    ) -> Trace | NoOp:
        """A trace; ends with `end()`, `update(end_time=…)` or the end of what is below it.

        Args:
            id: 32 hex digits or a UUID to go on with where no trace is current; else ignored, as
                the current trace goes on.
        """
        if self._is_on():
            with _guard.guard("compat: client trace"):
                return open_trace(
                    name,
                    session_id=session_id,
                    user_id=user_id,
                    current=False,
                    trace_id=id,
                    fields=fields,
                )
        return NO_OP

    def span(
        self,
        *,
        trace_id: str | None = None,
        parent_observation_id: str | None = None,
        name: str = "span",
        **fields: Any,
    ) -> Observation | NoOp:
        """An observation in the current trace, or in the one that is named."""
        return self._observation("span", trace_id, parent_observation_id, name, fields)

    def generation(
        self,
        *,
        trace_id: str | None = None,
        parent_observation_id: str | None = None,
        name: str = "generation",
        **fields: Any,
    ) -> Observation | NoOp:
        """A call of a model in the current trace, or in the one that is named."""
        return self._observation("generation", trace_id, parent_observation_id, name, fields)

    def _observation(
        self, kind: str, trace_id: object, parent: object, name: str, fields: Mapping[str, Any]
    ) -> Observation | NoOp:
        if self._is_on():
            with _guard.guard("compat: client observation"):
                context = otel_context.get_current()
                if not otel_trace.get_current_span(context).get_span_context().is_valid:
                    context = legacy_headers.continued(trace_id, parent, context)
                return open_observation(kind_of(kind), name, context, fields)
        return NO_OP

    def event(
        self, name: str = "event", metadata: Mapping[str, Any] | None = None, **fields: Any
    ) -> Observation | NoOp:
        """Something that happened; found by its ids like those of the manager."""
        if self._is_on():
            with _guard.guard("compat: client event"):
                given = {**fields, "metadata": metadata}
                trace = current_trace()
                if trace is not None:
                    return trace.event(name, **given)
                return lone_event(name, given)
        return NO_OP

    # -- scores ---------------------------------------------------------------------------------

    def score(
        self,
        trace_id: str | None = None,
        name: str = "score",
        value: Any = None,
        comment: str | None = None,
        **fields: Any,
    ) -> str:
        """Judge a trace; the id of the score, empty text when there is none.

        Args:
            trace_id: 32 hex digits, a UUID, an `X-Request-ID`, or an id that the application gave
                a request; the current trace by default.
        """
        if not self._is_on():
            return ""
        return give_score(name, value, trace_id=trace_id, comment=comment, **fields)

    # -- prompts --------------------------------------------------------------------------------

    def create_prompt(
        self,
        name: str,
        prompt: str | Sequence[Mapping[str, Any]],
        config: Mapping[str, Any] | None = None,
        *,
        is_active: bool | None = None,
        labels: Sequence[str] = (),
        tags: Sequence[str] | None = None,
        **_: object,
    ) -> PromptClient:
        """A new version of a prompt.

        Args:
            is_active: The older word for the label `production`.
        Raises:
            OtelbridgeError: Langfuse did not take it.
        """
        from otelbridge.langfuse import prompts

        wanted = [*labels, prompts.PRODUCTION] if is_active else list(labels)
        return PromptClient(
            prompts.create_prompt(name, prompt, labels=wanted, tags=tags, config=config)
        )

    def get_prompt(
        self,
        name: str,
        version: int | None = None,
        *,
        label: str | None = None,
        fallback: str | Sequence[Mapping[str, Any]] | None = None,
        cache_ttl_seconds: float | None = None,
        fetch_timeout_seconds: float | None = None,
        **_: object,
    ) -> PromptClient:
        """A prompt, from the cache where it is known.

        Raises:
            OtelbridgeError: it cannot be had and there is no fallback.
        """
        from otelbridge.langfuse import prompts

        given = {
            "label": label,
            "cache_ttl_seconds": cache_ttl_seconds,
            "timeout_seconds": fetch_timeout_seconds,
        }
        known: dict[str, Any] = {key: value for key, value in given.items() if value is not None}
        found = prompts.get_prompt(name, version=version, fallback=fallback, **known)
        return PromptClient(found)

    # -- reading --------------------------------------------------------------------------------

    def auth_check(self) -> bool:
        """Whether Langfuse takes the keys; never raises."""
        from otelbridge.langfuse import active
        from otelbridge.langfuse.client import langfuse_api

        try:
            api = langfuse_api(active.current().langfuse)
            if api is None:
                return False
            with api:
                return api.auth_check()
        except Exception as error:  # noqa: BLE001 - promised to answer, whatever is wrong
            _guard.logger.warning("otelbridge: auth_check: %s", error)
            return False

    def fetch_traces(
        self,
        *,
        from_timestamp: datetime | None = None,
        to_timestamp: datetime | None = None,
        **conditions: Any,
    ) -> FetchedTraces:
        """Traces of a time with their cost, from Langfuse's metrics.

        Args:
            from_timestamp: Midnight UTC by default.
            conditions: `user_id`, `session_id`, `name`, `limit`.
        Returns:
            `data` has `id`, `name`, `cost`, …; empty when Langfuse does not answer.
        """
        begin = from_timestamp or datetime.now(UTC).replace(
            hour=0, minute=0, second=0, microsecond=0
        )
        return fetch_traces(
            begin, to_timestamp or datetime.now(UTC) + timedelta(seconds=1), conditions
        )

    def get_session_cost(self, session_id: str) -> float:
        """What the model calls of a session have cost, in USD; 0.0 where nobody can say."""
        from otelbridge.langfuse.budget import get_session_cost

        return get_session_cost(session_id)

    def get_trace_url(self) -> str | None:
        """The page of the current trace."""
        return provider.trace_links().langfuse_url

    # -- end ------------------------------------------------------------------------------------

    def flush(self) -> None:
        """Deliver what is queued."""
        with _guard.guard("compat: flush"):
            provider.flush()

    def shutdown(self) -> None:
        """Deliver what is queued; tracing goes on for the rest of the process."""
        self.flush()
