"""Langfuse's public API by the project's keys: are the keys right, and whose are they?

A thin layer over the `langfuse` package's generated API client, imported at the first call: it
costs 0.7 s and no span needs it. The package's tracing part is never started, so nothing is
exported twice. Missing keys switch these features off with one warning.
"""

from __future__ import annotations

import logging
from dataclasses import dataclass
from typing import Any

from otelbridge.errors import ConfigError, OtelbridgeError
from otelbridge.settings import LangfuseSettings

_logger = logging.getLogger("otelbridge")
_warned: set[str] = set()


@dataclass(frozen=True, slots=True)
class Project:
    """The Langfuse project that a key pair belongs to."""

    id: str
    name: str


class LangfuseApi:
    """Calls to one Langfuse project; a context manager.

    Args:
        settings: `configured` must hold, see `langfuse_api`.
        timeout_seconds: For one call.
    """

    def __init__(self, settings: LangfuseSettings, *, timeout_seconds: float = 10.0) -> None:
        import httpx
        from langfuse.api import LangfuseAPI

        self._http = httpx.Client(timeout=timeout_seconds)
        self._host = settings.host or ""
        self._client: Any = LangfuseAPI(
            base_url=self._host,
            username=settings.public_key,
            password=settings.secret_key,
            x_langfuse_sdk_name="otelbridge",
            x_langfuse_public_key=settings.public_key,
            httpx_client=self._http,
        )

    def __enter__(self) -> LangfuseApi:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Close the connections."""
        self._http.close()

    def project(self) -> Project:
        """The project of the keys (`GET /api/public/projects`).

        Raises:
            ConfigError: Langfuse refuses the keys.
            OtelbridgeError: Langfuse cannot be reached or answers something else.
        """
        try:
            answer = self._client.projects.get()
        except Exception as error:
            if getattr(error, "status_code", None) in (401, 403):
                raise ConfigError(
                    "LANGFUSE_PUBLIC_KEY and LANGFUSE_SECRET_KEY",
                    "…",
                    f"a key pair of a project at {self._host}",
                    "Copy both keys from the project's settings there; keys of another host or "
                    "project are refused.",
                ) from error
            raise OtelbridgeError(
                f"Langfuse at {self._host} did not answer GET /api/public/projects: "
                f"{type(error).__name__}. Check LANGFUSE_HOST and that the server is up."
            ) from error
        if not answer.data:
            raise OtelbridgeError(f"Langfuse at {self._host} knows no project for these keys.")
        return Project(answer.data[0].id, answer.data[0].name)

    def auth_check(self) -> bool:
        """Whether Langfuse accepts the keys; never raises."""
        try:
            self.project()
        except OtelbridgeError:
            return False
        return True


def langfuse_api(settings: LangfuseSettings) -> LangfuseApi | None:
    """The API of the configured project, or None with one warning when it is switched off."""
    if settings.configured:
        return LangfuseApi(settings)
    reason = (
        f"{' and '.join(settings.missing_keys)} not set"
        if settings.enabled
        else "LANGFUSE_ENABLED=false"
    )
    if reason not in _warned:
        _warned.add(reason)
        _logger.warning("otelbridge: Langfuse API features are off: %s.", reason)
    return None
