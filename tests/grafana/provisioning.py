"""How Grafana reads a provisioning file, restated: variables in values, nothing else.

After `pkg/services/provisioning/values/values.go` and `pkg/setting/expanders.go` of
grafana/grafana, and Go's os.ExpandEnv. Keys are left alone. `$__file{}` is not restated: nothing
here uses it.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml

GRAFANA = Path(__file__).resolve().parents[2] / "grafana"
DATASOURCES = GRAFANA / "provisioning" / "datasources" / "otelbridge.yaml"
LOKI_DATASOURCES = GRAFANA / "overlays" / "loki" / "datasources" / "otelbridge.yaml"

_EXPANDER = re.compile(r"\$(|__\w+)\{([^}]+)\}")
#: os.Expand: `${name}`, `${` without an end, one special character, or a name.
_GO_EXPAND = re.compile(r"\$(?:\{([^}]*)\}|([*#$@!?\-0-9])|([A-Za-z_][A-Za-z0-9_]*))")


def interpolated(text: str, environment: Mapping[str, str]) -> str:
    """One value as Grafana takes it: split at `$$`, expanders, then os.ExpandEnv, on each part."""
    return "$".join(_expanded(part, environment) for part in text.split("$$"))


def _expanded(part: str, environment: Mapping[str, str]) -> str:
    for found in _EXPANDER.finditer(part):
        if found[1] in ("", "__env"):
            part = part.replace(found[0], environment.get(found[2], ""), 1)

    def value(found: re.Match[str]) -> str:
        return environment.get(next((name for name in found.groups() if name is not None), ""), "")

    return _GO_EXPAND.sub(value, part)


def provisioned(value: Any, environment: Mapping[str, str]) -> Any:
    """A YAML tree with every text value interpolated."""
    if isinstance(value, dict):
        return {key: provisioned(item, environment) for key, item in value.items()}
    if isinstance(value, list):
        return [provisioned(item, environment) for item in value]
    return interpolated(value, environment) if isinstance(value, str) else value


def load(path: Path) -> dict[str, Any]:
    """A provisioning file as it is written."""
    document = yaml.safe_load(path.read_text(encoding="utf-8"))
    assert isinstance(document, dict)
    return document


def datasource(document: Mapping[str, Any], uid: str) -> dict[str, Any]:
    """The data source with this uid; fails unless there is exactly one."""
    (found,) = (source for source in document["datasources"] if source["uid"] == uid)
    assert isinstance(found, dict)
    return found
