"""The manager shape: one object for a process that opens traces, spans and events by name.

    manager = LangfuseManager()
    manager.trace("text2sql_query", input={"user_query": question}, session_id=s, user_id=u)
    span = manager.span("generate_sql", span_type="LLM")
    span.update(output=sql, end_time=datetime.now())
    manager.end_trace(output={"generated_sql": sql})

Trace, session and user are those of the current request, so one manager serves all of them.
"""

from __future__ import annotations

import weakref
from collections.abc import Mapping
from contextvars import ContextVar
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any, Final

from opentelemetry import context as otel_context
from opentelemetry import trace as otel_trace

from otelbridge import _guard, view
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
from otelbridge.errors import ConfigError
from otelbridge.genai._values import optional_text
from otelbridge.settings import CLOUD_HOST, Settings

ANONYMOUS: Final = "anonymous"


@dataclass
class LangfuseConfig:
    """Keys and switch of the manager.

    In `direct` export a missing key sets `enabled=False`, with one warning; in `collector` export
    a service needs no keys.
    """

    enabled: bool = True
    host: str = CLOUD_HOST
    public_key: str = ""
    secret_key: str = field(default="", repr=False)

    def __post_init__(self) -> None:
        if self.enabled and not (self.public_key and self.secret_key) and _exports_directly():
            self.enabled = False
            _guard.logger.warning(
                "otelbridge: LANGFUSE_PUBLIC_KEY or LANGFUSE_SECRET_KEY is missing, which direct "
                "export needs; tracing by the manager is off."
            )

    @classmethod
    def from_env(cls) -> LangfuseConfig:
        """From LANGFUSE_ENABLED, LANGFUSE_HOST, LANGFUSE_PUBLIC_KEY and LANGFUSE_SECRET_KEY."""
        try:
            found = _settings().langfuse
        except ConfigError as error:
            _guard.logger.error("otelbridge: tracing stays off: %s", error)
            return cls(enabled=False)
        return cls(
            enabled=found.enabled,
            host=found.host or CLOUD_HOST,
            public_key=found.public_key or "",
            secret_key=found.secret_key or "",
        )


def _settings() -> Settings:
    from otelbridge import provider

    return provider.active_settings() or Settings.from_env()


def _exports_directly() -> bool:
    try:
        return _settings().export == "direct"
    except ConfigError:
        return False


@dataclass
class _Who:
    """Session and user that were set for a request, outside of any trace of it."""

    session_id: str | None = None
    user_id: str | None = None


#: By the first span of a request in this process: threads of a pool serve one after the other.
_of_requests: weakref.WeakKeyDictionary[view.Entry, _Who] = weakref.WeakKeyDictionary()
_of_task: ContextVar[_Who | None] = ContextVar("otelbridge_compat_who", default=None)


def _who() -> _Who:
    node = view.node_of(otel_trace.get_current_span())
    if node is not None:
        return _of_requests.get(node.entry) or _Who()
    return _of_task.get() or _Who()


def _set_who(who: _Who) -> None:
    node = view.node_of(otel_trace.get_current_span())
    if node is not None:
        _of_requests[node.entry] = who
    else:
        _of_task.set(who)


class LangfuseManager:
    """Opens traces, spans and events; see the module. No method raises.

    Args:
        config: From the environment by default; keys given here count if otelbridge has not been
            configured before.
    """

    def __init__(self, config: LangfuseConfig | None = None) -> None:
        self.config = LangfuseConfig.from_env() if config is None else config
        self._started = False
        if self.config.enabled:
            given = {} if config is None else _given(config)
            self._started = _state.start(**given)

    def is_enabled(self) -> bool:
        """Whether it records."""
        return self.config.enabled and self._started and _state.is_enabled()

    # -- who ------------------------------------------------------------------------------------

    @property
    def session_id(self) -> str:
        """The session of the current request; one is made up where none was given."""
        trace, who = current_trace(), _who()
        found = (trace.session_id if trace is not None else None) or who.session_id
        if found is None:
            found = f"session_{datetime.now(UTC).astimezone():%Y%m%d_%H%M%S}"
            if view.node_of(otel_trace.get_current_span()) is not None:
                _set_who(_Who(found, who.user_id))  # kept for the request, not for its thread
        return found

    @session_id.setter
    def session_id(self, value: str | None) -> None:
        self._name(session_id=optional_text(value))

    @property
    def user_id(self) -> str:
        """The user of the current request, `anonymous` where none was given."""
        trace = current_trace()
        return (trace.user_id if trace is not None else None) or _who().user_id or ANONYMOUS

    @user_id.setter
    def user_id(self, value: str | None) -> None:
        self._name(user_id=optional_text(value))

    def _name(self, **named: str | None) -> None:
        with _guard.guard("compat: session and user"):
            trace = current_trace()
            if trace is not None:
                trace.update(**dict[str, Any](named))
            else:
                who = _who()
                _set_who(_Who(**{"session_id": who.session_id, "user_id": who.user_id, **named}))

    # -- traces ---------------------------------------------------------------------------------

    def trace(
        self,
        name: str,
        input: Any = None,
        session_id: str | None = None,
        user_id: str | None = None,
        **fields: Any,
    ) -> Trace | NoOp:
        """Start a trace and make it current; the falsy no-op object when tracing is off."""
        if self.is_enabled():
            with _guard.guard("compat: trace"):
                return open_trace(
                    name,
                    session_id=optional_text(session_id) or self.session_id,
                    user_id=optional_text(user_id) or self.user_id,
                    fields={"input": input, **fields},
                )
        return NO_OP

    def end_trace(self, output: Any = None, error: Any = None) -> None:
        """End the current trace with its output, whether it succeeded, and the error if not.

        Args:
            error: Text or an exception.
        """
        trace = current_trace()
        if trace is None:
            return
        with _guard.guard("compat: end a trace"):
            success = {"success": error is None}
            trace.update(output=output, metadata=success, error=error)
            trace.end()

    @property
    def current_trace(self) -> Trace | None:
        """The open trace of the current request."""
        return current_trace()

    def span(
        self, name: str, input: Any = None, span_type: str = "DEFAULT", **fields: Any
    ) -> Observation | NoOp:
        """A child of the current trace: DEFAULT, LLM, RETRIEVAL, TOOL, AGENT or EMBEDDING."""
        if self.is_enabled():
            with _guard.guard("compat: span"):
                given = {"input": input, **fields}
                trace = current_trace()
                if trace is None:
                    context = otel_context.get_current()
                    return open_observation(kind_of(span_type), name, context, given)
                return trace.span_here(name, kind_of(span_type), given)
        return NO_OP

    def event(
        self,
        name: str,
        input: Any = None,
        output: Any = None,
        level: str = "DEFAULT",
        metadata: Mapping[str, Any] | None = None,
    ) -> Observation | NoOp:
        """Something that happened: an event observation in Langfuse, a span event in Tempo.

        Belongs to the current trace; without one to the trace that a `query_id`, `request_id`,
        `message_id` or `recommendation_id` among its values names; else it makes a trace.
        """
        if self.is_enabled():
            with _guard.guard("compat: event"):
                trace = current_trace()
                if trace is not None:
                    return trace.event(name, input, output, level, metadata=metadata)
                given = {"input": input, "output": output, "level": level, "metadata": metadata}
                return lone_event(name, given)
        return NO_OP

    def score(self, name: str, value: Any, comment: str | None = None, **fields: Any) -> str:
        """Judge the current trace, or the one that `trace_id` names."""
        from otelbridge.compat._scores import give_score

        if not self.is_enabled():
            return ""
        trace = current_trace()
        if trace is not None:
            fields.setdefault("trace_id", trace.trace_id)
        return give_score(name, value, comment=comment, **fields)

    def get_session_cost(self, session_id: str | None = None) -> float:
        """What a session, by default the current one, has cost in USD; 0.0 if nobody can say."""
        from otelbridge.langfuse.budget import get_session_cost

        return get_session_cost(session_id or self.session_id)

    def flush(self) -> None:
        """Deliver what is queued."""
        from otelbridge import provider

        with _guard.guard("compat: flush"):
            provider.flush()


def _given(config: LangfuseConfig) -> dict[str, Any]:
    """The members that were set, as settings of `configure`."""
    given = {
        "langfuse_host": config.host if config.host != CLOUD_HOST else None,
        "langfuse_public_key": config.public_key or None,
        "langfuse_secret_key": config.secret_key or None,
    }
    return {key: value for key, value in given.items() if value is not None}
