"""The tracer shape: class methods that start tracing, a context manager, a LangChain handler.

    Tracer.initialize()
    with trace_span("recommendation_request", user_id=user_id, metadata={"query": query}) as t:
        chain.invoke(query, config={"callbacks": [get_langfuse_callback(session_id=session_id)]})
        t.update(output=answer, status="completed")

Reads LANGFUSE_ENABLED, _PUBLIC_KEY, _SECRET_KEY, _HOST, _RELEASE, _ENVIRONMENT and _DEBUG as the
rest of otelbridge does.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

from otelbridge import _guard, provider
from otelbridge.compat import _state
from otelbridge.compat._observation import Trace, open_trace
from otelbridge.compat._off import NO_OP, NoOp
from otelbridge.compat.client import Langfuse


class Tracer:
    """Starts tracing for the process and gives its client."""

    _client: Langfuse | None = None

    @classmethod
    def initialize(cls) -> bool:
        """Start, once; whether tracing is on. Allowed while modules are imported."""
        return _state.start()

    @classmethod
    def get_client(cls) -> Langfuse | None:
        """The client for scores, events and prompts; None when tracing is off."""
        _state.start_once()
        if not _state.is_enabled():
            return None
        if cls._client is None:
            cls._client = Langfuse()
        return cls._client

    @classmethod
    def is_enabled(cls) -> bool:
        """Whether tracing is on."""
        return _state.is_enabled()

    @classmethod
    def flush(cls) -> None:
        """Deliver what is queued."""
        with _guard.guard("compat: flush"):
            provider.flush()


def get_client() -> Langfuse | None:
    """As `Tracer.get_client`."""
    return Tracer.get_client()


def get_langfuse_callback(
    session_id: str | None = None,
    user_id: str | None = None,
    metadata: Mapping[str, Any] | None = None,
    tags: Iterable[str] | None = None,
) -> Any:
    """A handler for LangChain's `callbacks`; None when tracing is off or LangChain is missing."""
    _state.start_once()
    if not _state.is_enabled():
        return None
    try:
        from otelbridge.compat.langchain import CallbackHandler
    except ImportError:
        _guard.logger.warning(
            "otelbridge: get_langfuse_callback() gives None: langchain-core is not installed."
        )
        return None
    return CallbackHandler(session_id=session_id, user_id=user_id, metadata=metadata, tags=tags)


@contextmanager
def trace_span(
    name: str,
    user_id: str | None = None,
    metadata: Mapping[str, Any] | None = None,
    *,
    session_id: str | None = None,
    **fields: Any,
) -> Iterator[Trace | NoOp]:
    """A span of the current request, or the first one of a trace; gives what takes `update(...)`.

    When tracing is off it gives the falsy no-op object. Exceptions are recorded and go on.
    """
    _state.start_once()
    opened: Trace | NoOp = NO_OP
    if _state.is_enabled():
        with _guard.guard("compat: trace_span"):
            opened = open_trace(
                name,
                session_id=session_id,
                user_id=user_id,
                fields={"metadata": metadata, **fields},
            )
    try:
        yield opened
    except BaseException as error:
        opened.finish(error)
        raise
    else:
        opened.finish(None)
