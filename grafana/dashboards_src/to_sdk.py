"""Declarations of `kit` to the models of grafana-foundation-sdk, and from there to JSON text.

The SDK knows the shapes of Grafana's own panels, so that a misspelt option cannot be written; the
traces panel, which it lacks, is a panel without options. Nothing here depends on time, environment
or the order of a set: the same declarations give the same bytes.
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from typing import Final

from grafana.dashboards_src import kit
from grafana.dashboards_src.looks import LETTERS, field_config, options, transformations
from grafana.dashboards_src.sdk import JSONEncoder, common, dashboard, prometheus, tempo

_COLUMNS: Final = 24  # of Grafana's grid


def to_json(declared: kit.Dashboard) -> str:
    """The dashboard's file: indented JSON with a line feed at its end."""
    return json.dumps(to_model(declared), cls=JSONEncoder, indent=1, ensure_ascii=False) + "\n"


def to_model(declared: kit.Dashboard) -> dashboard.Dashboard:
    """The dashboard as the SDK's classic model.

    Raises:
        ValueError: a numeric panel without a unit, an emitter that is not known, two searches in a
            panel, or a table column without a title.
    """
    for panel in declared.panels:
        _check(panel)
    panels: list[dashboard.Panel | dashboard.RowPanel] = []
    placed, y = _placed(declared.top, 0)
    panels.extend(placed)
    for row in declared.rows:
        below, _ = _placed(row.panels, y + 1)
        position = dashboard.GridPos(h=1, w=_COLUMNS, x=0, y=y)
        panels.append(
            dashboard.RowPanel(
                collapsed=True, title=row.title, id_val=row.id, grid_pos=position, panels=below
            )
        )
        y += 1
    return dashboard.Dashboard(
        uid=declared.uid,
        title=declared.title,
        description=declared.description,
        tags=[kit.TAG],
        editable=False,
        graph_tooltip=dashboard.DashboardCursorSync.CROSSHAIR,
        time=dashboard.DashboardDashboardTime(from_val=declared.since, to="now"),
        refresh=declared.refresh,
        panels=panels,
        templating=dashboard.DashboardDashboardTemplating(
            [_variable(each) for each in declared.variables]
        ),
        annotations=dashboard.AnnotationContainer([]),
        links=[
            dashboard.DashboardLink(
                title="otelbridge", type_val=dashboard.DashboardLinkType.DASHBOARDS,
                tags=[kit.TAG], include_vars=True, keep_time=True, icon="dashboard",
                tooltip="The other dashboards, with this time range and these variables",
            )
        ],
    )  # fmt: skip


def described(panel: kit.Panel) -> str:
    """The panel's description as it stands in Grafana: with what it needs and who feeds it."""
    parts = [panel.description]
    if panel.needs:
        parts.append(f"Needs: {panel.needs}.")
    if panel.emitters:
        parts.append(f"Fed by spans of: {', '.join(panel.emitters)}.")
    return "\n\n".join(parts)


def _check(panel: kit.Panel) -> None:
    if panel.kind not in kit.UNITLESS and not panel.unit:
        raise ValueError(f"{panel.key}: a panel of numbers has a unit")
    if set(panel.emitters) - set(kit.EMITTERS):
        raise ValueError(f"{panel.key}: emitters are {', '.join(kit.EMITTERS)}")
    if sum(isinstance(query, kit.Search) for query in panel.queries) > 1:
        raise ValueError(f"{panel.key}: one TraceQL search in a panel")


def _placed(panels: Iterable[kit.Panel], y: int) -> tuple[list[dashboard.Panel], int]:
    """Panels from left to right, in as many lines as they need, and the line below them."""
    placed, x, height = [], 0, 0
    for panel in panels:
        if x + panel.width > _COLUMNS:
            x, y, height = 0, y + height, 0
        position = dashboard.GridPos(h=panel.height, w=panel.width, x=x, y=y)
        placed.append(_panel(panel, position))
        x, height = x + panel.width, max(height, panel.height)
    return placed, y + height


def _panel(panel: kit.Panel, position: dashboard.GridPos) -> dashboard.Panel:
    return dashboard.Panel(
        type_val=panel.kind,
        id_val=panel.id,
        title=panel.title,
        description=described(panel),
        grid_pos=position,
        datasource=_source(panel.source) if panel.source else None,
        targets=[_target(q, LETTERS[n], panel) for n, q in enumerate(panel.queries)] or None,
        links=[_link(link) for link in panel.links] or None,
        options=options(panel),
        field_config=None if panel.kind in ("text", "traces") else field_config(panel),
        transformations=transformations(panel),
        time_from=panel.time_from or None,
    )


def _source(uid: str) -> common.DataSourceRef:
    return common.DataSourceRef(type_val=kit.SOURCES[uid], uid=uid)


def _target(query: kit.Query, ref: str, panel: kit.Panel) -> prometheus.Dataquery | tempo.Dataquery:
    source = _source(panel.source)
    match query:
        case kit.Prom():
            return prometheus.Dataquery(
                ref_id=ref, datasource=source, expr=query.expr,
                legend_format=query.legend or None, instant=query.instant,
                range_val=not query.instant, exemplar=query.exemplars,
                format_val=prometheus.PromQueryFormat(query.format),
                editor_mode=prometheus.QueryEditorMode.CODE,
            )  # fmt: skip
        case kit.Search():
            return tempo.Dataquery(
                ref_id=ref, datasource=source, query_type="traceql", query=query.query,
                limit=query.limit, spss=query.spss, table_type=tempo.SearchTableType.SPANS,
            )  # fmt: skip
        case kit.TraceMetrics():
            kind = tempo.MetricsQueryType.INSTANT if query.instant else tempo.MetricsQueryType.RANGE
            return tempo.Dataquery(
                ref_id=ref, datasource=source, query_type="traceql", query=query.query,
                metrics_query_type=kind, step=query.step or None, limit=None,
            )  # fmt: skip
        case kit.TraceById():
            return tempo.Dataquery(
                ref_id=ref, datasource=source, query_type="traceql", query=query.query
            )
        case kit.ServiceMap():
            return tempo.Dataquery(
                ref_id=ref, datasource=source, query_type="serviceMap",
                service_map_query=query.query or None,
            )  # fmt: skip


def _link(link: kit.Link) -> dashboard.DashboardLink:
    return dashboard.DashboardLink(
        title=link.title, url=link.url, type_val=dashboard.DashboardLinkType.LINK,
        target_blank=link.new_tab,
    )  # fmt: skip


def _variable(declared: kit.Variable) -> dashboard.VariableModel:
    model = dashboard.VariableModel
    if not declared.query:
        return model(
            type_val=dashboard.VariableType.TEXTBOX, name=declared.name, label=declared.label,
            description=declared.description, query=declared.default,
            current=dashboard.VariableOption(text=declared.default, value=declared.default),
        )  # fmt: skip
    query: dict[str, object]
    if declared.source == kit.TEMPO:
        query = {"type": 1, "label": declared.query, "refId": "TempoDatasourceVariableQueryEditor"}
    else:
        query = {
            "qryType": 1,  # label values
            "query": declared.query,
            "refId": "PrometheusVariableQueryEditor-VariableQuery",
        }
    return model(
        type_val=dashboard.VariableType.QUERY, name=declared.name, label=declared.label,
        description=declared.description, query=query, datasource=_source(declared.source),
        current=dashboard.VariableOption(selected=True, text=["All"], value=["$__all"]),
        multi=True, include_all=True, all_value=".*", options=[],
        refresh=dashboard.VariableRefresh.ON_TIME_RANGE_CHANGED,
        sort=dashboard.VariableSort.ALPHABETICAL_ASC,
    )  # fmt: skip
