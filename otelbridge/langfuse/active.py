"""The settings that Langfuse's API features work with: of `configure()`, else the environment.

`provider.configure` calls `use`; a program that never calls it (a script, a job) is read from its
environment at the first use. Knows no feature and imports nothing heavy.
"""

from __future__ import annotations

from otelbridge.settings import Settings

_state: dict[str, Settings | None] = {"given": None, "read": None}


def use(settings: Settings | None) -> None:
    """Work with these settings from now on; None: with the environment, read again."""
    _state.update(given=settings, read=None)


def current() -> Settings:
    """The settings in force.

    Raises:
        ConfigError: the environment cannot be used.
    """
    found = _state["given"] or _state["read"]
    if found is None:
        found = _state["read"] = Settings.from_env()
    return found
