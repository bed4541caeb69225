"""The models of grafana-foundation-sdk, imported in one place.

The SDK warns that it prefers dashboards v2, which file provisioning does not take in every Grafana
13; the warning is answered here.
"""

from __future__ import annotations

import warnings

with warnings.catch_warnings():
    warnings.simplefilter("ignore", DeprecationWarning)
    from grafana_foundation_sdk.cog.encoder import JSONEncoder
    from grafana_foundation_sdk.cog.plugins import register_default_plugins
    from grafana_foundation_sdk.models import (
        bargauge,
        common,
        dashboard,
        heatmap,
        histogram,
        nodegraph,
        piechart,
        prometheus,
        stat,
        table,
        tempo,
        text,
        timeseries,
    )

__all__ = [
    "JSONEncoder", "bargauge", "common", "dashboard", "heatmap", "histogram", "nodegraph",
    "piechart", "prometheus", "register_default_plugins", "stat", "table", "tempo", "text",
    "timeseries",
]  # fmt: skip
