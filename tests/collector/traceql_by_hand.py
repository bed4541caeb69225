"""The guide's three TraceQL queries as conditions written by hand, over received spans.

Tempo may not be used by tests, so each condition does what Tempo does with these three: a scope is
that scope only, a string compares with a string only, `duration` is end minus start in nanoseconds.
`matches` is the one door: a TraceQL engine takes its place by answering the same question.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Final

from tests.collector.conftest import Received

SYSTEM: Final = '{ span.gen_ai.system = "openai" }'
SLOW_MODEL: Final = '{ span.gen_ai.request.model = "gpt-4o" && duration > 3s }'
USER: Final = '{ resource.langfuse.user.id = "user-123" }'
_SECOND_NS: Final = 1_000_000_000


def _is_slow_gpt_4o(item: Received) -> bool:
    length_ns = item.span.end_time_unix_nano - item.span.start_time_unix_nano
    return item.attributes.get("gen_ai.request.model") == "gpt-4o" and length_ns > 3 * _SECOND_NS


# A value of another type than text never equals text in Python either.
_CONDITIONS: Final[dict[str, Callable[[Received], bool]]] = {
    SYSTEM: lambda item: item.attributes.get("gen_ai.system") == "openai",
    SLOW_MODEL: _is_slow_gpt_4o,
    USER: lambda item: item.resource.get("langfuse.user.id") == "user-123",
}
QUERIES: Final = tuple(_CONDITIONS)


def matches(query: str, spans: Iterable[Received]) -> set[tuple[str, str]]:
    """Hex trace id and span id of each span that the query selects.

    Raises:
        KeyError: the query is none of `QUERIES`.
    """
    condition = _CONDITIONS[query]
    return {(item.span.trace_id.hex(), item.id) for item in spans if condition(item)}
