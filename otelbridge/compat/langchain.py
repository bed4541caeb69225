"""A callback handler for LangChain and LangGraph: their runs as spans of the current trace.

    chain.invoke(question, config={"callbacks": [CallbackHandler(session_id="s-1")]})

Chains, agents' tools, retrievers, chat models and older LLMs; a run's parent is the run that called
it, the first one's is the current span. A model's span is current while its request is sent, and a
tool's while it runs, so that what they call is below them. Needs `langchain-core`; no keys.
"""

from __future__ import annotations

import sys
from collections.abc import Iterable, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Any, Final
from uuid import UUID

from langchain_core.callbacks import BaseCallbackHandler
from opentelemetry import context as otel_context
from opentelemetry.context import Context
from opentelemetry.trace import set_span_in_context

from otelbridge import _guard, semconv
from otelbridge.compat import _state
from otelbridge.compat._langchain_values import (
    answer_of,
    messages_of,
    model_of,
    parameters_of,
    provider_of,
)
from otelbridge.context import request_context
from otelbridge.genai._scope import Scope, StepScope
from otelbridge.genai._span import Call
from otelbridge.genai.calls import ModelCall
from otelbridge.genai.spans import chat, span

#: A guard against runs that never end (a cancelled graph): the oldest are ended first.
_MAX_OPEN_RUNS: Final = 10_000
#: How LangGraph stops a run to ask a person, or sends control elsewhere: no failures.
_CONTROL_FLOW: Final = ("GraphInterrupt", "GraphBubbleUp", "NodeInterrupt", "ParentCommand")
#: Steps that LangGraph and LangChain hide from traces themselves.
_HIDDEN_TAG: Final = "langsmith:hidden"
_warned: list[str] = []


@dataclass(slots=True)
class _Run:
    """A run while it is open; `call` is None for a hidden one, whose children are its parent's."""

    call: Call | None
    context: Context
    scope: Scope | None = None
    block: AbstractContextManager[None] | None = None


class CallbackHandler(BaseCallbackHandler):
    """Give it to `callbacks`; one may serve many requests at once. No method raises.

    Args:
        public_key, secret_key, host: Count if otelbridge has not been configured before.
        user_id, session_id, tags, metadata: Of each run that this handler sees; what the request
            itself says stays where they are left out.
        trace_name: Names the trace in Langfuse.
        settings: What v2 knew besides is accepted and has no effect.
    """

    run_inline = True  # in the task of the run: a span can only be made current there
    raise_error = False

    def __init__(
        self,
        public_key: str | None = None,
        secret_key: str | None = None,
        host: str | None = None,
        *,
        user_id: str | None = None,
        session_id: str | None = None,
        metadata: Mapping[str, Any] | None = None,
        tags: Iterable[str] | None = None,
        trace_name: str | None = None,
        **settings: Any,
    ) -> None:
        given = {
            "langfuse_public_key": public_key,
            "langfuse_secret_key": secret_key,
            "langfuse_host": host,
        }
        _state.start(**{key: value for key, value in given.items() if value is not None})
        _warn_of_langsmith()
        self._request: dict[str, Any] = {
            "user_id": user_id,
            "session_id": session_id,
            "tags": list(tags) if tags is not None else None,
            "metadata": metadata,
            "trace_name": trace_name,
        }
        self._runs: dict[UUID, _Run] = {}
        self.last_trace_id: str | None = None

    def get_trace_id(self) -> str | None:
        """The trace of the newest run, 32 hex digits."""
        return self.last_trace_id

    def get_trace_url(self) -> str | None:
        """That trace's page in Langfuse, None where it is not known."""
        from otelbridge.provider import trace_links

        return trace_links(self.last_trace_id).langfuse_url if self.last_trace_id else None

    def flush(self) -> None:
        """Deliver what is queued."""
        from otelbridge.provider import flush

        with _guard.guard("langchain: flush"):
            flush()

    # -- starts ---------------------------------------------------------------------------------

    @_guard.guarded("langchain: chat model", None)
    def on_chat_model_start(
        self, serialized: Any, messages: list[list[Any]], *, run_id: UUID, **kwargs: Any
    ) -> None:
        """A call of a chat model."""
        self._model(serialized, run_id, kwargs, messages_of(messages))

    @_guard.guarded("langchain: llm", None)
    def on_llm_start(
        self, serialized: Any, prompts: list[str], *, run_id: UUID, **kwargs: Any
    ) -> None:
        """A call of a model that takes text."""
        given = [{"role": "user", "content": text} for text in prompts]
        self._model(serialized, run_id, kwargs, given, operation="text_completion")

    def _model(
        self,
        serialized: Any,
        run_id: UUID,
        kwargs: Mapping[str, Any],
        messages: list[dict[str, Any]],
        operation: str = "chat",
    ) -> None:
        given = kwargs.get("invocation_params") or {}
        metadata = kwargs.get("metadata") or {}
        call = chat(
            model_of(serialized, given, metadata),
            provider=provider_of(serialized, given, metadata),
            messages=messages,
            operation=operation,
            tools=given.get("tools") or given.get("functions"),
            **parameters_of(given, metadata),
        )
        self._open(call, run_id, kwargs, current=True)

    @_guard.guarded("langchain: chain", None)
    def on_chain_start(self, serialized: Any, inputs: Any, *, run_id: UUID, **kwargs: Any) -> None:
        """A chain, a graph, or a node of one."""
        metadata = kwargs.get("metadata") or {}
        name = _name(serialized, kwargs, "chain")
        # Steps of a stream alternate with their consumer's code, a graph's node runs by itself.
        self._open(
            span(name, kind="chain", input=inputs),
            run_id,
            kwargs,
            current="langgraph_node" in metadata,
        )

    @_guard.guarded("langchain: tool", None)
    def on_tool_start(
        self, serialized: Any, input_str: str, *, run_id: UUID, **kwargs: Any
    ) -> None:
        """A tool."""
        name = _name(serialized, kwargs, "tool")
        given = kwargs.get("inputs") or input_str
        attributes = {semconv.GEN_AI_OPERATION_NAME: "execute_tool", semconv.GEN_AI_TOOL_NAME: name}
        call = span(name, kind="tool", input=given, attributes=attributes)
        self._open(call, run_id, kwargs, current=True)

    @_guard.guarded("langchain: retriever", None)
    def on_retriever_start(
        self, serialized: Any, query: str, *, run_id: UUID, **kwargs: Any
    ) -> None:
        """A search."""
        name = _name(serialized, kwargs, "retriever")
        attributes = {
            semconv.GEN_AI_OPERATION_NAME: "retrieval",
            semconv.GEN_AI_DATA_SOURCE_ID: name,
        }
        call = span(name, kind="retriever", input=query, attributes=attributes)
        self._open(call, run_id, kwargs, current=True)

    def _open(self, call: Call, run_id: UUID, kwargs: Mapping[str, Any], *, current: bool) -> None:
        parent = self._runs.get(kwargs.get("parent_run_id") or run_id)
        base = parent.context if parent is not None else otel_context.get_current()
        if _HIDDEN_TAG in (kwargs.get("tags") or ()):
            self._runs[run_id] = _Run(None, base)
            return
        with StepScope(base), self._asked_for(parent, kwargs.get("metadata") or {}):
            call._start()
            context = set_span_in_context(call.span, otel_context.get_current())
        run = self._runs[run_id] = _Run(call, context)
        self.last_trace_id = call.trace_id or None
        if current:
            if any(self._request.values()):
                run.block = request_context(**self._request)
                run.block.__enter__()
            run.scope = Scope(call.span)
            run.scope.enter()
        while len(self._runs) > _MAX_OPEN_RUNS:
            self._close(next(iter(self._runs)))

    def _asked_for(
        self, parent: _Run | None, metadata: Mapping[str, Any]
    ) -> AbstractContextManager[None]:
        """User, session, tags and metadata of the first run, which those below it inherit."""
        if parent is not None:
            return request_context()
        # The SDK reads these three from the metadata of a run.
        told = {
            "user_id": metadata.get("langfuse_user_id"),
            "session_id": metadata.get("langfuse_session_id"),
            "tags": metadata.get("langfuse_tags"),
        }
        given = {key: value for key, value in told.items() if value}
        return request_context(**{**self._request, **given})

    # -- on the way -----------------------------------------------------------------------------

    @_guard.guarded("langchain: token", None)
    def on_llm_new_token(self, token: Any, *, run_id: UUID, **kwargs: Any) -> None:
        """The first one sets the time to first token."""
        run = self._runs.get(run_id)
        if run is not None and run.call is not None:
            run.call.first_chunk()
            _leave(run)  # the request is sent; the consumer's code runs between the tokens

    # -- ends -----------------------------------------------------------------------------------

    @_guard.guarded("langchain: model end", None)
    def on_llm_end(self, response: Any, *, run_id: UUID, **kwargs: Any) -> None:
        """The answer of a model, its usage and cost."""
        run = self._runs.get(run_id)
        if run is not None and isinstance(run.call, ModelCall):
            answer = answer_of(response)
            run.call.set_output(answer.messages)
            run.call.set_usage(**dict[str, Any](answer.usage))
            run.call.set_response(
                id=answer.id, model=answer.model, finish_reasons=answer.finish_reasons
            )
        self._close(run_id)

    @_guard.guarded("langchain: chain end", None)
    def on_chain_end(self, outputs: Any, *, run_id: UUID, **kwargs: Any) -> None:
        """The result of a chain."""
        self._close(run_id, output=outputs, input=kwargs.get("inputs"))

    @_guard.guarded("langchain: tool end", None)
    def on_tool_end(self, output: Any, *, run_id: UUID, **kwargs: Any) -> None:
        """The result of a tool."""
        self._close(run_id, output=getattr(output, "content", output))

    @_guard.guarded("langchain: retriever end", None)
    def on_retriever_end(self, documents: Sequence[Any], *, run_id: UUID, **kwargs: Any) -> None:
        """The documents found."""
        self._close(run_id, output=list(documents))

    @_guard.guarded("langchain: error", None)
    def on_llm_error(self, error: BaseException, *, run_id: UUID, **kwargs: Any) -> None:
        """A call of a model failed."""
        self._close(run_id, error=error)

    on_chain_error = on_llm_error
    on_tool_error = on_llm_error
    on_retriever_error = on_llm_error

    def _close(
        self,
        run_id: UUID,
        *,
        output: Any = None,
        input: Any = None,
        error: BaseException | None = None,
    ) -> None:
        run = self._runs.pop(run_id, None)
        if run is None or run.call is None:
            return
        _leave(run)
        if input is not None:  # a stream's input is known at its end
            run.call.set_input(input)
        if output is not None and not isinstance(run.call, ModelCall):
            run.call.set_output(output)
        if error is not None and type(error).__name__ in _CONTROL_FLOW:
            run.call.set_attribute(semconv.LANGFUSE_OBSERVATION_STATUS_MESSAGE, str(error))
            error = None
        run.call._finish(error)


def _warn_of_langsmith() -> None:
    """LangSmith's OpenTelemetry mode makes spans of the same runs, in our provider."""
    utils = sys.modules.get("langsmith.utils")
    if utils is None or _warned:
        return
    with _guard.guard("langchain: langsmith"):
        if utils.is_truish(utils.get_env_var("OTEL_ENABLED")) and utils.tracing_is_enabled():
            _warned.append("langsmith")
            _guard.logger.warning(
                "otelbridge: LANGSMITH_OTEL_ENABLED makes LangSmith record the same model calls in "
                "this process once more, and Langfuse would count both. Unset it; LangSmith keeps "
                "its own traces without it."
            )


def _leave(run: _Run) -> None:
    scope, run.scope = run.scope, None
    block, run.block = run.block, None
    if scope is not None:
        scope.leave()
    if block is not None:
        block.__exit__(None, None, None)


def _name(serialized: Any, kwargs: Mapping[str, Any], default: str) -> str:
    """The name of a run: given to it, or of its class."""
    given = kwargs.get("name")
    if given:
        return str(given)
    known = serialized if isinstance(serialized, Mapping) else {}
    path = known.get("id")
    return str(known.get("name") or (path[-1] if path else default))
