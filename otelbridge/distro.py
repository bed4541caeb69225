"""The zero-code entry points: `opentelemetry-instrument` finds these two classes.

`OtelbridgeDistro` sets the environment defaults that third-party instrumentations read,
`OtelbridgeConfigurator` calls `provider.configure`. Both leave what the user set alone.
"""

from __future__ import annotations

import logging
from typing import Any

from opentelemetry.instrumentation.distro import (  # type: ignore[attr-defined]  # not typed
    BaseDistro,
)
from opentelemetry.sdk._configuration import _OTelSDKConfigurator

from otelbridge import provider, settings
from otelbridge.errors import OtelbridgeError

_logger = logging.getLogger("otelbridge")


class OtelbridgeDistro(BaseDistro):  # type: ignore[misc]  # the base is not typed
    """Environment defaults for the process, before any instrumentation is loaded."""

    def _configure(self, **kwargs: Any) -> None:
        settings.set_environment_defaults()


class OtelbridgeConfigurator(_OTelSDKConfigurator):
    """Builds the provider from the environment; a bad setting is logged, the program runs on."""

    def _configure(self, **kwargs: Any) -> None:
        try:
            chosen = settings.Settings.from_env()
            if chosen.config_file:
                # The SDK builds provider and exporters from the file; ours only adds its marks.
                super()._configure()  # type: ignore[no-untyped-call]  # upstream has no types
            provider.configure(chosen, instrument=False)
            provider.instrument_libraries(stock=False)
        except OtelbridgeError as error:
            _logger.error("otelbridge: tracing is off: %s", error)
        except Exception as error:  # noqa: BLE001  # a library's, on a value that only it reads
            _logger.error("otelbridge: tracing is off: %s: %s", type(error).__name__, error)
