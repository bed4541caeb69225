"""What each kind of panel looks like: options, units, thresholds, columns, as the SDK's models."""

from __future__ import annotations

from typing import Any, Final

from grafana.dashboards_src import kit
from grafana.dashboards_src.sdk import (
    bargauge,
    common,
    dashboard,
    heatmap,
    histogram,
    nodegraph,
    piechart,
    stat,
    table,
    text,
    timeseries,
)

_PALETTE = dashboard.FieldColor(mode=dashboard.FieldColorModeId.PALETTE_CLASSIC)
_BY_THRESHOLD = dashboard.FieldColor(mode=dashboard.FieldColorModeId.THRESHOLDS)
LETTERS: Final = "ABCDEFGHIJKLMNOPQRSTUVWXYZ"


def options(panel: kit.Panel) -> object:
    """The options of the panel's kind; None for the traces panel, which has none."""
    reduce = common.ReduceDataOptions(values=False, calcs=["lastNotNull"], fields="")
    tooltip = common.VizTooltipOptions(
        mode=common.TooltipDisplayMode.MULTI, sort=common.SortOrder.DESCENDING
    )
    match panel.kind:
        case "stat":
            colour = "BACKGROUND" if panel.thresholds else "VALUE"
            return stat.Options(
                reduce_options=reduce, graph_mode=common.BigValueGraphMode.AREA,
                color_mode=common.BigValueColorMode[colour],
                text_mode=common.BigValueTextMode.AUTO,
            )  # fmt: skip
        case "bargauge":
            return bargauge.Options(
                reduce_options=reduce, orientation=common.VizOrientation.HORIZONTAL,
                display_mode=common.BarGaugeDisplayMode.BASIC,
            )  # fmt: skip
        case "piechart":
            legend = piechart.PieChartLegendOptions(
                values=[
                    piechart.PieChartLegendValues.VALUE,
                    piechart.PieChartLegendValues.PERCENT,
                ],
                display_mode=common.LegendDisplayMode.TABLE,
                placement=common.LegendPlacement.RIGHT, show_legend=True, calcs=[],
            )  # fmt: skip
            return piechart.Options(
                pie_type=piechart.PieChartType.DONUT, reduce_options=reduce, tooltip=tooltip,
                legend=legend,
            )  # fmt: skip
        case "heatmap":
            return _heatmap(panel)
        case "histogram":
            return histogram.Options(legend=_legend(), tooltip=tooltip)
        case "table":
            order = [common.TableSortByFieldState(display_name=panel.sort, desc=True)]
            return table.Options(
                show_header=True, cell_height=common.TableCellHeight.SM,
                sort_by=order if panel.sort else None,
            )  # fmt: skip
        case "nodeGraph":
            return nodegraph.Options()
        case "text":
            return text.Options(mode=text.TextMode.MARKDOWN, content=panel.content)
        case "timeseries":
            return timeseries.Options(legend=_legend(), tooltip=tooltip)
        case _:  # traces has none
            return None


def _legend() -> common.VizLegendOptions:
    return common.VizLegendOptions(
        display_mode=common.LegendDisplayMode.TABLE, placement=common.LegendPlacement.BOTTOM,
        show_legend=True, calcs=["mean", "max", "lastNotNull"],
    )  # fmt: skip


def _heatmap(panel: kit.Panel) -> heatmap.Options:
    return heatmap.Options(
        calculate=False,  # Prometheus has the buckets already
        color=heatmap.HeatmapColorOptions(
            mode=heatmap.HeatmapColorMode.SCHEME, scheme="Oranges", exponent=0.5, steps=64
        ),
        y_axis=heatmap.YAxisConfig(
            unit=panel.unit, axis_placement=common.AxisPlacement.LEFT, reverse=False
        ),
        legend=heatmap.HeatmapLegend(show=True),
        tooltip=heatmap.HeatmapTooltip(mode=common.TooltipDisplayMode.SINGLE, y_histogram=True),
        exemplars=heatmap.ExemplarConfig(color="rgba(255,0,255,0.7)"),
        rows_frame=heatmap.RowsHeatmapOptions(layout=common.HeatmapCellLayout.AUTO),
    )


def field_config(panel: kit.Panel) -> dashboard.FieldConfigSource:
    """Unit, thresholds, what an empty panel says, and what single columns and series have."""
    empty = panel.empty or (f"No data. This panel needs: {panel.needs}" if panel.needs else None)
    steps = [dashboard.Threshold(value=None, color="green")]
    steps += [dashboard.Threshold(value=value, color=colour) for value, colour in panel.thresholds]
    by_threshold = panel.kind in ("stat", "bargauge") and bool(panel.thresholds)
    defaults = dashboard.FieldConfig(
        unit=panel.unit or None, decimals=panel.decimals, min_val=panel.min, max_val=panel.max,
        no_value=empty, custom=_custom(panel),
        color=_BY_THRESHOLD if by_threshold else _PALETTE,
        thresholds=dashboard.ThresholdsConfig(
            mode=dashboard.ThresholdsMode.ABSOLUTE, steps=steps
        ),
    )  # fmt: skip
    overrides = [_override("byName", column.field, _of(column)) for column in panel.columns]
    for number, query in enumerate(panel.queries):
        if isinstance(query, kit.TraceMetrics) and query.name:
            name = {"displayName": query.name}
            overrides.append(_override("byFrameRefID", LETTERS[number], name))
    if panel.dashed:
        style = {"dash": [10, 10], "fill": "dash"}
        dashes = {"custom.lineStyle": style, "custom.fillOpacity": 0}
        overrides.append(_override("byRegexp", panel.dashed, dashes))
    return dashboard.FieldConfigSource(defaults=defaults, overrides=overrides)


def _custom(panel: kit.Panel) -> object:
    match panel.kind:
        case "timeseries":
            mode = common.StackingMode.NORMAL if panel.stack else common.StackingMode.NONE
            shown = common.GraphThresholdsStyleMode.DASHED
            return common.GraphFieldConfig(
                draw_style=common.GraphDrawStyle.LINE, line_width=1, fill_opacity=15,
                show_points=common.VisibilityMode.AUTO, span_nulls=False,
                stacking=common.StackingConfig(mode=mode, group="A"),
                thresholds_style=common.GraphThresholdsStyleConfig(
                    mode=shown if panel.thresholds else None
                ),
            )  # fmt: skip
        case "table":
            return common.TableFieldOptions(filterable=True, inspect=False)
        case "heatmap":
            return heatmap.FieldConfig()
        case "histogram":
            return histogram.FieldConfig()
        case "piechart":
            return common.HideableFieldConfig()
        case _:
            return None


def _of(column: kit.Column) -> dict[str, Any]:
    """A column's properties, in the order in which Grafana applies them."""
    properties: dict[str, Any] = {}
    if column.title:
        properties["displayName"] = column.title
    if column.unit:
        properties["unit"] = column.unit
    if column.width:
        properties["custom.width"] = column.width
    if column.field == kit.LANGFUSE_URL:
        shown = {"pattern": "^https?://.*", "result": {"text": "Open", "index": 0}}
        properties["mappings"] = [{"type": "regex", "options": shown}]
    if column.links:
        properties["links"] = [
            {"title": link.title, "url": link.url, "targetBlank": link.new_tab}
            for link in column.links
        ]
    return properties


def _override(
    matcher: str, options: str, properties: dict[str, Any]
) -> dashboard.DashboardFieldConfigSourceOverrides:
    return dashboard.DashboardFieldConfigSourceOverrides(
        matcher=dashboard.MatcherConfig(id_val=matcher, options=options),
        properties=[
            dashboard.DynamicConfigValue(id_val=name, value=value)
            for name, value in properties.items()
        ],
    )


def transformations(panel: kit.Panel) -> list[dashboard.DataTransformerConfig] | None:
    """Columns of a table in the order in which they are declared; hidden ones stay for links.

    Answers of several queries become one table, whose rows have the same labels.
    """
    if panel.kind != "table" or not panel.columns:
        return None
    order = {column.field: n for n, column in enumerate(panel.columns)}
    several = len(panel.queries) > 1
    excluded = {"Time": True} if several else {}
    options = {"excludeByName": excluded, "indexByName": order, "renameByName": {}}
    organized = dashboard.DataTransformerConfig(id_val="organize", options=options)
    merged = [dashboard.DataTransformerConfig(id_val="merge", options={})] if several else []
    return [*merged, organized]
