"""Text of a rules file as plain values: JSON, TOML or YAML, with one sentence for each mistake.

Used by `budgets.rules` and `masking.rules`, which know what the values mean. Level 1; YAML needs
PyYAML, which is not among the dependencies.
"""

from __future__ import annotations

import json
import tomllib
from typing import Any

from otelbridge.errors import ConfigError


def parse(text: str, form: str, *, variable: str, shown: str) -> Any:
    """The values of a text.

    Args:
        text: What is read.
        form: `json`, `toml` or `yaml`.
        variable, shown: For errors: the setting that named it, and its file or its beginning.
    Raises:
        ConfigError: not well formed, or YAML without PyYAML.
    """
    try:
        if form == "json":
            return json.loads(text)
        return tomllib.loads(text) if form == "toml" else _yaml(text, variable)
    except ValueError as error:
        place = " ".join(str(error).split())
        raise ConfigError(variable, shown, f"well-formed {form.upper()} ({place})") from None


def _yaml(text: str, variable: str) -> Any:
    try:
        import yaml  # most services have it
    except ImportError:
        raise ConfigError(
            variable, "YAML", "JSON or TOML, as PyYAML is not installed", "pip install pyyaml"
        ) from None
    try:
        return yaml.safe_load(text)
    except yaml.YAMLError as error:
        raise ValueError(str(error)) from None
