"""All that a dashboard's module imports: declarations, filters by the variables, tables of spans.

The filters are the one place that knows how a variable on top of a dashboard reaches a query: as
label matchers in PromQL, as conditions in TraceQL, both right for All as well.
"""

from __future__ import annotations

import re
from typing import Final

from grafana.dashboards_src.declarations import (
    COMMON_VARIABLES,
    EMITTERS,
    ENVIRONMENT,
    GATEWAY,
    MODEL,
    PROM,
    PROM_LLM,
    PROVIDER,
    SERVICE,
    SOURCES,
    TAG,
    TEMPO,
    TRACE_ID,
    UNITLESS,
    USER,
    Column,
    Dashboard,
    Kind,
    Link,
    Panel,
    Prom,
    Query,
    Row,
    Search,
    ServiceMap,
    Threshold,
    TraceById,
    TraceMetrics,
    Variable,
    panel_id,
)

__all__ = [
    "BY_MODEL",
    "BY_SERVICE",
    "CALLS",
    "COLUMNS",
    "COMMON_VARIABLES",
    "EMITTERS",
    "ENVIRONMENT",
    "GATEWAY",
    "KEEP",
    "LANGFUSE_URL",
    "MODEL",
    "MODEL_CALLS",
    "PROM",
    "PROM_LLM",
    "PROVIDER",
    "SERVICE",
    "SOURCES",
    "TAG",
    "TEMPO",
    "TO_TRACE",
    "TRACE_ID",
    "UNITLESS",
    "USER",
    "WHERE_CALL",
    "WHERE_MODEL",
    "WHERE_SERVICE",
    "WHERE_USER",
    "Column",
    "Dashboard",
    "Kind",
    "Link",
    "Panel",
    "Prom",
    "Query",
    "Row",
    "Search",
    "ServiceMap",
    "Threshold",
    "TraceById",
    "TraceMetrics",
    "Variable",
    "calls_with",
    "matching",
    "panel_id",
    "span_table",
    "to_dashboard",
]

def matching(label: str, variable: str) -> str:
    """A PromQL label matcher for a variable, right for any value that has no backtick.

    Backticks, because Grafana's own escaping for quotes leaves a quote in a value as it is.
    """
    return f"{label}=~`${{{variable}:regex}}`"


#: PromQL label matchers for the variables.
BY_SERVICE: Final = (
    f"{matching('deployment_environment_name', 'environment')},"
    f" {matching('service_name', 'service')}"
)
BY_MODEL: Final = (
    f"{BY_SERVICE}, {matching('gen_ai_provider_name', 'provider')},"
    f" {matching('gen_ai_request_model', 'model')}"
)

#: Operations that are one call of a model, as a regular expression for PromQL and TraceQL; agents,
#: workflows and tools are around them and would count them twice.
MODEL_CALLS: Final = (
    "chat|text_completion|generate_content|embeddings|rerank|image_generation|transcription|speech"
)
#: The same as label matchers, with the variables.
CALLS: Final = f'gen_ai_operation_name=~"{MODEL_CALLS}", {BY_MODEL}'


def _maybe(variable: str, *attributes: str) -> str:
    """A condition on attributes that may be absent: none, while the variable stands on All.

    A comparison with an absent attribute never holds, `.*` neither; hence the comparison of two
    texts, which Tempo folds. Values stand in backticks, where a backslash is one.
    """
    tests = " || ".join(f"{name} =~ `${{{variable}:regex}}`" for name in attributes)
    return f"(`${{{variable}:raw}}` = `.*` || {tests})"


#: TraceQL conditions for the same variables, to be joined by &&.
WHERE_SERVICE: Final = (
    "resource.service.name =~ `${service:regex}` && "
    + _maybe(
        "environment", "span.langfuse.environment", "resource.deployment.environment.name",
        "resource.deployment.environment",
    )
)  # fmt: skip
WHERE_MODEL: Final = (
    f"{WHERE_SERVICE} && {_maybe('provider', 'span.gen_ai.provider.name')}"
    f" && {_maybe('model', 'span.gen_ai.request.model')}"
)
WHERE_USER: Final = _maybe("user", "resource.langfuse.user.id")
#: One call of a model, under all variables; not a second time by the gateway that passed it on.
WHERE_CALL: Final = (
    f'span.gen_ai.operation.name =~ "{MODEL_CALLS}" && {WHERE_MODEL} && {WHERE_USER}'
    " && resource.service.name !~ `${gateway:raw}`"  # a pattern, hence not `:regex`
)


def calls_with(*attributes: str, where: str = WHERE_CALL) -> str:
    """A TraceQL filter: model calls that have these attributes, which sums and averages need."""
    return "{ " + " && ".join((where, *(f"{name} != nil" for name in attributes))) + " }"


#: All common variables for the URL of a sibling dashboard.
KEEP: Final = "${__url_time_range}&" + "&".join(
    f"${{{variable.name}:queryparam}}" for variable in COMMON_VARIABLES
)


def to_dashboard(uid: str, title: str, extra: str = "") -> Link:
    """A link to a sibling that keeps time and variables; `extra` are further parameters."""
    return Link(title, f"/d/{uid}?{KEEP}" + (f"&{extra}" if extra else ""))


# -- tables of spans -------------------------------------------------------------------------------

LANGFUSE_URL: Final = "otelbridge.langfuse.url"
#: From a row to the trace view of the Traces dashboard.
TO_TRACE: Final = to_dashboard(
    "otelbridge-traces", "Trace view", "var-traceId=${__data.fields.traceIdHidden}"
)
_IN_LANGFUSE = Link("Open in Langfuse", "${__value.raw}", new_tab=True)

#: Columns by the name that a field has in Tempo's spans table: an attribute without its scope.
COLUMNS: Final = {
    column.field: column
    for column in (
        Column("time", "Time", width=170),
        Column("traceService", "Entry service", width=130),
        Column("name", "Span", width=180),
        Column("service.name", "Service", width=130),
        Column("gen_ai.operation.name", "Operation", width=110),
        Column("gen_ai.provider.name", "Provider", width=110),
        Column("gen_ai.request.model", "Model", width=150),
        Column("gen_ai.response.model", "Answering model", width=150),
        Column("langfuse.user.id", "User", width=120),
        Column("langfuse.session.id", "Session", width=140),
        Column("langfuse.environment", "Environment", width=110),
        Column("deployment.environment.name", "Environment (resource)", width=110),
        Column("deployment.environment", "Environment (older name)", width=110),
        Column("gen_ai.usage.input_tokens", "Input tokens", "short", 100),
        Column("gen_ai.usage.output_tokens", "Output tokens", "short", 100),
        Column("gen_ai.usage.cache_read.input_tokens", "Cached tokens", "short", 100),
        Column("gen_ai.usage.cost", "Cost", "currencyUSD", 90),
        Column("gen_ai.response.time_to_first_chunk", "First chunk", "s", 90),
        Column("gen_ai.prompt.name", "Prompt", width=120),
        Column("gen_ai.prompt.version", "Prompt version", width=90),
        Column("gen_ai.agent.name", "Agent", width=130),
        Column("gen_ai.tool.name", "Tool", width=130),
        Column("error.type", "Error type", width=150),
        Column("statusMessage", "Error", width=240),
        Column("status", "Status", width=80),
        Column("db.system.name", "Database", width=110),
        Column("langfuse.trace.metadata.team", "Team", width=110),
        Column("duration", "Duration", "ns", 100),
        Column(LANGFUSE_URL, "Langfuse", width=130, links=(_IN_LANGFUSE,)),
        Column("spanID", "Trace", width=150, links=(TO_TRACE,)),
    )
}


def span_table(
    key: str,
    title: str,
    description: str,
    where: str,
    select: tuple[str, ...],
    *,
    emitters: tuple[str, ...] = EMITTERS,
    needs: str = "",
    empty: str = "",
    limit: int = 50,
    width: int = 24,
    height: int = 10,
    sort: str = "",
    extra_columns: tuple[Column, ...] = (),
) -> Panel:
    """A table with a row for each span that `where` (all before `| select`) finds.

    select: attributes with scope. The links to Langfuse and to the trace view come of themselves;
    a span that Langfuse does not have has no address and so no link. `extra_columns` describe
    selected attributes that COLUMNS does not know.

    Raises:
        ValueError: an attribute that neither describes.
    """
    known = COLUMNS | {column.field: column for column in extra_columns}
    fields = [name.split(".", 1)[1] if "." in name else name for name in select]
    order = ["time", "traceService", "name", *fields, "duration", LANGFUSE_URL, "spanID"]
    unknown = [name for name in order if name not in known]
    if unknown:
        raise ValueError(f"{key}: describe in extra_columns: {', '.join(unknown)}")
    columns = [known[name] for name in dict.fromkeys(order)]
    # Attributes of the conditions are columns as well; they get their titles, behind the others.
    mentioned = set(re.findall(r"(?:span|resource)\.([\w.]+)", where)) - set(order)
    columns += [known[name] for name in sorted(mentioned) if name in known]
    chosen = ", ".join(dict.fromkeys(("name", f"span.{LANGFUSE_URL}", *select)))
    return Panel(
        key=key, title=title, description=description, kind="table",
        queries=(Search(f"{where} | select({chosen})", limit=limit),), columns=tuple(columns),
        emitters=emitters, needs=needs, empty=empty, width=width, height=height, sort=sort,
    )  # fmt: skip
