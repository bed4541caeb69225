"""Reads declared variables from a mapping: spellings, arguments, fallbacks, origins, warnings.

The working part behind `Settings.from_env`; knows the declarations of `env.py` and nothing about
what the variables mean together. Secrets never get into a message or a shown value.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Mapping
from typing import Any
from urllib.parse import quote

from otelbridge import endpoints
from otelbridge.env import (
    BY_NAME,
    OTHERS_PREFIXES,
    VARIABLES,
    Variable,
    milliseconds,
    split_pairs,
)
from otelbridge.errors import ConfigError

MASKED = "********"
#: Likeness (difflib ratio) from which a Collector's variable is taken for a misspelled one of ours.
_MISSPELLED = 0.95
_ARGUMENTS = {variable.argument: variable for variable in VARIABLES if variable.argument}


class Reader:
    """One reading of the environment; collects where values came from and what was repaired.

    Args:
        mapping: Variable name to text.
        overrides: Argument name to value; None counts as not given.
    Raises:
        TypeError: an argument that no variable declares.
    """

    def __init__(self, mapping: Mapping[str, str], overrides: Mapping[str, Any]) -> None:
        self._mapping = mapping
        self._overrides = {key: value for key, value in overrides.items() if value is not None}
        self._origins: dict[str, str] = {}
        self._shown: dict[str, str] = {}
        self._values: dict[str, Any] = {}
        self._texts: dict[str, str] = {}
        self._warnings: list[str] = []
        for argument in overrides:
            if argument not in _ARGUMENTS:
                close = difflib.get_close_matches(argument, _ARGUMENTS, n=1, cutoff=0.5)
                hint = f"; did you mean {close[0]!r}?" if close else ""
                raise TypeError(f"unknown setting {argument!r}{hint}")
        for variable in VARIABLES:
            self._read(variable)
        self._warn_unknown()

    def get(self, name: str) -> Any:
        """The parsed value in force; None when there is neither a value nor a default."""
        return self._values[name]

    def text(self, name: str) -> str:
        """The text in force, as given; empty when there is none. May be a secret."""
        return self._texts.get(name, "")

    def given(self, name: str) -> bool:
        """Whether an argument or the environment gave a value."""
        return self._origins[name] != "default"

    def traces_form(self, name: str) -> str:
        """`..._TRACES_X` when that is what decides, else the general `..._X`."""
        specific = name.replace("OTEL_EXPORTER_OTLP_", "OTEL_EXPORTER_OTLP_TRACES_")
        if self.given(specific) and self._origins[name] != "argument":
            return specific
        return name

    def pairs(self, name: str, *, headers: bool = False) -> dict[str, str]:
        """The key=value pairs of a variable; parts that are no pair are left out and named."""
        found, bad = split_pairs(self.text(name), headers=headers)
        if bad:
            self.warn(
                f"{name}: part {', '.join(bad)} is not key=value and is left out; write {name}="
                f"key=value,key2=value2 with commas inside values as %2C."
            )
        return found

    def base_url(self, name: str) -> str | None:
        """A base address, repaired where the intent is plain.

        Raises:
            ConfigError: not an http or https URL.
        """
        given = self.text(name)
        if not given:
            return None
        try:
            url, warnings = endpoints.base_url(name, given)
        except ValueError:
            raise ConfigError(
                name,
                endpoints.shown(given),
                BY_NAME[name].allowed,
                "Give scheme, host and port, such as http://localhost:3000.",
            ) from None
        self.warn(*warnings)
        self.show(name, url)
        return url

    def warn(self, *sentences: str) -> None:
        """Add sentences to the warnings, each once."""
        self._warnings += [line for line in sentences if line not in self._warnings]

    def reject(self, name: str, value: str, allowed: str, instead: str) -> None:
        """Name a value that is not used as given: an error for an argument, else a warning."""
        if self._origins[name] == "argument":
            raise ConfigError(BY_NAME[name].argument, endpoints.shown(value), allowed)
        self.warn(
            f"{name}={endpoints.shown(value)!r} cannot be used as it is; allowed: {allowed}. "
            f"Instead {instead}."
        )

    def show(self, name: str, value: str) -> None:
        """Replace the shown text by what is in force after repairs; secrets stay masked."""
        if not BY_NAME[name].secret:
            self._shown[name] = endpoints.shown(value)

    def finish(self) -> dict[str, Any]:
        """Keyword arguments `origins`, `values` and `warnings` of Settings."""
        return {
            "origins": dict(self._origins),
            "values": dict(self._shown),
            "warnings": tuple(self._warnings),
        }

    def _read(self, variable: Variable) -> None:
        origin, given = self._lookup(variable)
        try:
            value = variable.parse(given) if given else None
        except ValueError:
            self._origins[variable.name] = origin
            fallback = (
                "it is taken as not set"
                if variable.default is None
                else f"the default {variable.default} is used"
            )
            self._refuse(variable, origin, given, fallback)
            origin, given, value = "default", "", None
        if not given and variable.default is not None:
            given, value = variable.default, variable.parse(variable.default)
        self._origins[variable.name] = origin
        self._texts[variable.name] = given
        self._values[variable.name] = value
        text = given if variable.parse is milliseconds else as_text(value)  # in the variable's unit
        self._shown[variable.name] = MASKED if given and variable.secret else endpoints.shown(text)

    def _refuse(self, variable: Variable, origin: str, given: str, instead: str) -> None:
        """The OpenTelemetry rule for `OTEL_*` from the environment, ConfigError for the rest."""
        if variable.lenient and origin != "argument":
            self.reject(variable.name, given, variable.allowed, instead)
            return
        spelling = variable.argument if origin == "argument" else variable.name
        if origin.endswith(")"):
            spelling = origin.removeprefix("environment (").removesuffix(")")
        raise ConfigError(
            spelling,
            MASKED if variable.secret else endpoints.shown(given),
            variable.allowed,
            "Correct it or unset it.",
        )

    def _lookup(self, variable: Variable) -> tuple[str, str]:
        """Origin and text of a variable; names aliases that contradict each other."""
        if variable.argument in self._overrides:
            return "argument", _argument_text(variable, self._overrides[variable.argument])
        found = [
            (spelling, given)
            for spelling in variable.spellings
            if (given := self._mapping.get(spelling, "").strip())
        ]
        if not found:
            return "default", ""
        spelling, given = found[0]
        for other, other_given in found[1:]:
            if _canonical(variable, other_given) != _canonical(variable, given):
                self.warn(
                    f"{spelling} and {other} are the same setting and have different values; "
                    f"{spelling} wins. Unset one of them."
                )
        return ("environment" if spelling == variable.name else f"environment ({spelling})"), given

    def _warn_unknown(self) -> None:
        known = [variable.name for variable in VARIABLES if variable.name.startswith("OTELBRIDGE_")]
        for name in sorted(self._mapping):
            if not name.startswith("OTELBRIDGE_") or name in known:
                continue
            cutoff = _MISSPELLED if name.startswith(OTHERS_PREFIXES) else 0.0
            for close in difflib.get_close_matches(name, known, n=1, cutoff=cutoff):
                self.warn(f"{name} is not a variable of otelbridge; the closest is {close}.")


def _canonical(variable: Variable, given: str) -> Any:
    try:
        return variable.parse(given)
    except ValueError:
        return given


def _argument_text(variable: Variable, value: Any) -> str:
    """The text of an argument, so that arguments and environment are judged by one parser."""
    if isinstance(value, Mapping):
        return ",".join(f"{quote(str(k))}={quote(str(v))}" for k, v in value.items())
    if variable.parse is milliseconds and not isinstance(value, str):
        return str(round(float(value) * 1000))
    return as_text(value)


def as_text(value: Any) -> str:
    """A parsed value as a person would write it; empty for None."""
    if value is None:
        return ""
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, Iterable) and not isinstance(value, str):
        return ",".join(str(item) for item in value)
    return f"{value:.15g}" if isinstance(value, float) else str(value)
