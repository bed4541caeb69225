"""Process-wide switches of the gen_ai helpers.

`otelbridge.configure()` sets them once from the settings; the helpers read them at every call, so
a later change takes effect at once. Without `configure()` the defaults hold, so that the helpers
also work on a provider of the application's own. No environment variable is read here.
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class GenAiConfig:
    """What the helpers write.

    Attributes:
        capture_content: False keeps message text, tool data, documents, inputs and outputs out of
            every span attribute and event. Exception messages stay.
        legacy_gen_ai_system: Also write the deprecated `gen_ai.system`, equal to
            `gen_ai.provider.name`.
        prices: Look up the price of a known model when the caller gives no cost.
    """

    capture_content: bool = True
    legacy_gen_ai_system: bool = True
    prices: bool = True


_state = {"config": GenAiConfig()}


def set_config(config: GenAiConfig) -> None:
    """Replace the switches of this process."""
    _state["config"] = config


def get_config() -> GenAiConfig:
    """The switches in force."""
    return _state["config"]
