"""Where each part of a span is kept: tables, hot columns and typed attribute maps, as plain data.

`schema` creates the tables and `rows` fills them from this, `traceql.compile` writes SQL against
it; so they cannot differ. An attribute value is in exactly one place: the hot column of its key
when it has the column's type, else the map of its type. Arrays of one type are in the array maps;
an array of one element counts as its element (as in Tempo). Empty and mixed arrays, key-value
lists and bytes are in the serialised span only.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final, Literal, TypeAlias

from otelbridge import semconv as s

#: Type letters: text, integer, double, boolean, and the arrays of each.
ValueType: TypeAlias = Literal["s", "i", "d", "b", "ss", "ii", "dd", "bb"]
DUCKDB_TYPES: Final[dict[str, str]] = {
    "s": "VARCHAR", "i": "BIGINT", "d": "DOUBLE", "b": "BOOLEAN",
    "ss": "VARCHAR[]", "ii": "BIGINT[]", "dd": "DOUBLE[]", "bb": "BOOLEAN[]",
}  # fmt: skip


@dataclass(frozen=True, slots=True)
class Hot:
    """An attribute that has a column of its own, in the table of its scope."""

    key: str
    column: str
    type: str  # one of s, i, d, b


#: Span attributes that people ask for; columns of `tempo_spans`.
HOT_SPAN: Final[tuple[Hot, ...]] = tuple(
    Hot(key, "a_" + key.replace(".", "_"), kind)
    for key, kind in (
        (s.GEN_AI_OPERATION_NAME, "s"),
        (s.GEN_AI_SYSTEM, "s"),
        (s.GEN_AI_PROVIDER_NAME, "s"),
        (s.GEN_AI_REQUEST_MODEL, "s"),
        (s.GEN_AI_RESPONSE_MODEL, "s"),
        (s.GEN_AI_CONVERSATION_ID, "s"),
        (s.GEN_AI_TOOL_NAME, "s"),
        (s.GEN_AI_AGENT_NAME, "s"),
        (s.GEN_AI_USAGE_INPUT_TOKENS, "i"),
        (s.GEN_AI_USAGE_OUTPUT_TOKENS, "i"),
        (s.GEN_AI_USAGE_COST, "d"),
        (s.GEN_AI_REQUEST_TEMPERATURE, "d"),
        (s.GEN_AI_RESPONSE_TIME_TO_FIRST_CHUNK, "d"),
        (s.USER_ID, "s"),
        (s.SESSION_ID, "s"),
        (s.ERROR_TYPE, "s"),
        (s.LLM_KEEP, "b"),
        (s.LLM_PARENT, "s"),
    )
)
#: Resource attributes of that kind; columns of `resources`.
HOT_RESOURCE: Final[tuple[Hot, ...]] = tuple(
    Hot(key, "a_" + key.replace(".", "_"), "s")
    for key in (s.SERVICE_NAME, s.LANGFUSE_USER_ID, s.LANGFUSE_SESSION_ID)
)
#: Copies of these in `tempo_spans`, by column of `resources`: most queries ask for them, and where
#: each trace has resources of its own a join would read as many resources as spans.
RESOURCE_COPIES: Final[dict[str, str]] = {
    one.column: "r_" + one.key.replace(".", "_") for one in HOT_RESOURCE
}

#: Maps of the other attributes: `m_s MAP(VARCHAR, VARCHAR)`, `m_i`, `m_d`, `m_b`, `m_ss`, `m_ii`,
#: `m_dd`, `m_bb`. NULL when a span has none of that type. The same names in `tempo_spans`,
#: `resources`, `scopes`, `span_events` and `span_links`.
MAP_COLUMNS: Final[dict[str, str]] = {kind: f"m_{kind}" for kind in DUCKDB_TYPES}

#: Tables of the side that TraceQL asks, and their columns beside hot ones and maps:
#: - tempo_spans: trace_id UUID, span_id UBIGINT, parent_span_id UBIGINT (NULL on a root, also when
#:   the sender wrote zeros), name VARCHAR, kind and status TINYINT (numbers of OTLP, 0 for others),
#:   status_message VARCHAR ("" when absent), start_ns BIGINT, duration_ns BIGINT (0 when it ends
#:   before it starts), resource_id UBIGINT, scope_id UBIGINT, received_ns BIGINT, has_events and
#:   has_links BOOLEAN, span_bytes UINTEGER, span BLOB (the serialised span without what the
#:   columns hold, see `packing`), and RESOURCE_COPIES, equal to the columns of its resource.
#: - resources: id UBIGINT, schema_url VARCHAR, proto BLOB. Missing service.name: a_service_name
#:   is "".
#: - scopes: id UBIGINT, schema_url VARCHAR, proto BLOB, name VARCHAR, version VARCHAR ("" when
#:   absent).
#: - span_events: trace_id, span_id, event_no USMALLINT, name VARCHAR, since_start_ns BIGINT.
#: - span_links: trace_id, span_id, link_no USMALLINT, linked_trace_id VARCHAR (32 hex),
#:   linked_span_id VARCHAR (16 hex).
#: - span_tree (side table, one row for each span): trace_id, span_id, nested_left, nested_right,
#:   nested_parent INTEGER (0, 0, 0 for a span without a path to a root; nested_parent of a root is
#:   -1), child_count INTEGER.
#: - trace_info (side table, one row for each trace): trace_id, start_ns, end_ns BIGINT,
#:   root_span_id UBIGINT (NULL without a root), root_name, root_service VARCHAR ("" without a
#:   root), span_count INTEGER, received_ns BIGINT (of the newest span that the numbers know).
#: - attribute_keys: scope (span, resource, instrumentation, event, link), key, type (letter)
#:   VARCHAR: every attribute that was ever stored in a column. `Store.catalog` has them in memory.
SPANS: Final = "tempo_spans"
RESOURCES: Final = "resources"
SCOPES: Final = "scopes"
EVENTS: Final = "span_events"
LINKS: Final = "span_links"
TREE: Final = "span_tree"
TRACES: Final = "trace_info"
KEYS: Final = "attribute_keys"
