"""Langfuse's public API by the project's keys: one way to call it, with errors that say what to do.

A thin layer over the `langfuse` package's generated API client, imported when it is first called:
it costs 0.7 s and no span needs it. The package's tracing part is never started, so nothing
is exported twice. Missing keys switch these features off with one warning. Calls raise: whatever
runs beside the application's work catches them. Neighbour: `scores` sends by the spool, not by it.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, TypeVar

from opentelemetry.instrumentation.utils import suppress_instrumentation

from otelbridge import endpoints
from otelbridge._version import __version__
from otelbridge.errors import ConfigError, OtelbridgeError
from otelbridge.exporters.answers import retry_after
from otelbridge.masks import mask_text
from otelbridge.settings import CLOUD_HOST, LangfuseSettings

T = TypeVar("T")

_logger = logging.getLogger("otelbridge")
_warned: set[str] = set()


@dataclass(frozen=True, slots=True)
class Project:
    """The Langfuse project that a key pair belongs to."""

    id: str
    name: str


class LangfuseApiError(OtelbridgeError):
    """Langfuse could not be reached, or did not answer what was asked.

    Attributes:
        status: HTTP status of the answer; None when there was none.
        retry_after_seconds: What the answer asked for.
    """

    def __init__(
        self, message: str, status: int | None = None, retry_after_seconds: float | None = None
    ) -> None:
        super().__init__(message)
        self.status = status
        self.retry_after_seconds = retry_after_seconds


class LangfuseApi:
    """Calls to one Langfuse project; a context manager. No call makes spans of its own.

    Args:
        settings: `configured` must hold, see `langfuse_api`.
        timeout_seconds: For connecting and for each wait for the answer of one call.
    """

    def __init__(self, settings: LangfuseSettings, *, timeout_seconds: float = 10.0) -> None:
        import httpx

        self._settings = settings
        self._host = (settings.host or CLOUD_HOST).rstrip("/")
        self._http = httpx.Client(
            timeout=timeout_seconds,
            base_url=self._host,
            auth=(settings.public_key or "", settings.secret_key or ""),
            headers={"x-langfuse-sdk-name": "otelbridge", "x-langfuse-sdk-version": __version__},
        )
        self._generated: Any = None

    def __enter__(self) -> LangfuseApi:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Close the connections."""
        self._http.close()

    @property
    def client(self) -> Any:
        """The generated client, `langfuse.api.LangfuseAPI`; made at its first use."""
        if self._generated is None:
            from langfuse.api import LangfuseAPI

            self._generated = LangfuseAPI(
                base_url=self._host,
                username=self._settings.public_key,
                password=self._settings.secret_key,
                x_langfuse_sdk_name="otelbridge",
                x_langfuse_public_key=self._settings.public_key,
                httpx_client=self._http,
            )
        return self._generated

    @property
    def host(self) -> str:
        """Langfuse's base URL without a password, for messages."""
        return endpoints.shown(self._host)

    def call(self, what: str, action: Callable[[Any], T]) -> T:
        """What an action on the generated client (`langfuse.api.LangfuseAPI`) answers.

        Args:
            what: The route, for a message: `GET /api/public/projects`.
            action: Is given the client; `lambda client: client.projects.get()`. The client of
                another version of the package may lack a route, for which `request` is.
        Raises:
            ConfigError: Langfuse refuses the keys.
            LangfuseApiError: Langfuse cannot be reached or answers something else.
        """
        with suppress_instrumentation():
            try:
                return action(self.client)
            except Exception as error:
                status = getattr(error, "status_code", None)
                headers = getattr(error, "headers", None)
                raise self._error(what, type(error).__name__, status, headers) from error

    def request(
        self,
        method: str,
        path: str,
        *,
        query: Mapping[str, Any] | None = None,
        body: object = None,
    ) -> Any:
        """One call by its path, for routes that a version of the package lacks.

        Args:
            path: `/api/public/…`, with names in it already quoted.
            query: Parameters; None values are left out.
            body: Becomes JSON; None for no body.
        Returns:
            The JSON of the answer, None for an empty one.
        Raises:
            ConfigError, LangfuseApiError: as `call`.
        """
        what = f"{method} {path}"
        wanted = {key: value for key, value in (query or {}).items() if value is not None}
        with suppress_instrumentation():
            try:
                answer = self._http.request(method, path, params=wanted, json=body)
                if answer.is_success:
                    return answer.json() if answer.content else None
            except Exception as error:
                raise self._error(what, type(error).__name__) from error
        reason = f"HTTP {answer.status_code} {_message(answer)}".strip()
        raise self._error(what, reason, answer.status_code, answer.headers)

    def _error(
        self,
        what: str,
        reason: str,
        status: int | None = None,
        headers: Mapping[str, str] | None = None,
    ) -> OtelbridgeError:
        if status in (401, 403):
            return ConfigError(
                "LANGFUSE_PUBLIC_KEY and LANGFUSE_SECRET_KEY",
                "…",
                f"a key pair of a project at {self.host}",
                "Copy both keys from the project's settings there; keys of another host or "
                "project are refused.",
            )
        shown = reason if status is None or "HTTP" in reason else f"{reason}, HTTP {status}"
        if status is None:
            message = (
                f"Langfuse at {self.host} did not answer {what}: {shown}. Check LANGFUSE_HOST "
                f"and that the server is up."
            )
        else:
            message = f"Langfuse at {self.host} did not do {what}: {shown}."
        told = {name.lower(): value for name, value in (headers or {}).items()}
        return LangfuseApiError(message, status, retry_after(told.get("retry-after")))

    def project(self) -> Project:
        """The project of the keys (`GET /api/public/projects`).

        Raises:
            ConfigError, LangfuseApiError: as `call`.
            OtelbridgeError: Langfuse knows no project for these keys.
        """
        answer = self.call("GET /api/public/projects", lambda client: client.projects.get())
        if not answer.data:
            raise OtelbridgeError(f"Langfuse at {self.host} knows no project for these keys.")
        return Project(answer.data[0].id, answer.data[0].name)

    def auth_check(self) -> bool:
        """Whether Langfuse accepts the keys; never raises."""
        try:
            self.project()
        except OtelbridgeError:
            return False
        return True


def _message(answer: Any) -> str:
    """What an error answer says for itself, in at most 200 characters."""
    try:
        told = answer.json()
    except ValueError:  # a page of a proxy
        return ""
    text = told.get("message") if isinstance(told, dict) else None
    return mask_text(text)[:200] if isinstance(text, str) else ""


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
