"""The API side of Langfuse through the `langfuse` package, against the local preview."""

from __future__ import annotations

import logging
from collections.abc import Iterator

import pytest

from otelbridge.errors import ConfigError, OtelbridgeError
from otelbridge.langfuse import client
from otelbridge.local.langfuse_preview import Project
from otelbridge.local.server import LocalServer
from otelbridge.settings import Settings

KEYS = {"LANGFUSE_PUBLIC_KEY": "pk-lf-test", "LANGFUSE_SECRET_KEY": "sk-lf-test"}


@pytest.fixture(scope="module")
def preview() -> Iterator[LocalServer]:
    """A local preview with a project of its own."""
    with LocalServer(project=Project("p-17", "pk-lf-test", "sk-lf-test")) as server:
        yield server


def test_the_project_of_the_keys_is_found(preview: LocalServer) -> None:
    """`project()` reads id and name by the official client."""
    settings = Settings.from_env({**KEYS, "LANGFUSE_HOST": preview.langfuse_url}).langfuse
    api = client.langfuse_api(settings)
    assert api is not None
    with api:
        assert api.project().id == "p-17"
        assert api.auth_check() is True


def test_refused_keys_are_named(preview: LocalServer) -> None:
    """Wrong keys are a configuration error that does not show them."""
    wrong = {**KEYS, "LANGFUSE_SECRET_KEY": "sk-lf-wrong", "LANGFUSE_HOST": preview.langfuse_url}
    api = client.langfuse_api(Settings.from_env(wrong).langfuse)
    assert api is not None
    with api:
        with pytest.raises(ConfigError, match="LANGFUSE_SECRET_KEY") as caught:
            api.project()
        assert "sk-lf-wrong" not in str(caught.value)
        assert api.auth_check() is False


def test_an_unreachable_langfuse_is_named() -> None:
    """A refused connection says which address, and `auth_check` does not raise."""
    settings = Settings.from_env({**KEYS, "LANGFUSE_HOST": "http://127.0.0.1:9"}).langfuse
    with client.LangfuseApi(settings, timeout_seconds=2) as api:
        with pytest.raises(OtelbridgeError, match=r"http://127\.0\.0\.1:9"):
            api.project()
        assert api.auth_check() is False


def test_a_password_in_the_host_is_not_told() -> None:
    """Errors name the address without the password that a proxy in front of Langfuse may want."""
    host = "http://proxy:hunter2pw@127.0.0.1:9"
    settings = Settings.from_env({**KEYS, "LANGFUSE_HOST": host}).langfuse
    with client.LangfuseApi(settings, timeout_seconds=2) as api:
        for status in (None, 401, 500):
            assert "hunter2pw" not in str(api._error("GET /x", "ConnectError", status))
        with pytest.raises(OtelbridgeError, match=r"proxy:\[masked:password\]@127") as caught:
            api.request("GET", "/api/public/projects")
        assert "hunter2pw" not in str(caught.value)


@pytest.mark.parametrize(
    ("environment", "reason"),
    [({}, "LANGFUSE_PUBLIC_KEY"), ({**KEYS, "ENABLE_LANGFUSE": "false"}, "LANGFUSE_ENABLED=false")],
)
def test_switched_off_features_warn_once(
    environment: dict[str, str], reason: str, caplog: pytest.LogCaptureFixture
) -> None:
    """Without keys, or switched off, there is no API and one warning however often it is used."""
    client._warned.clear()
    settings = Settings.from_env(environment).langfuse
    with caplog.at_level(logging.WARNING):
        assert [client.langfuse_api(settings) for _ in range(3)] == [None] * 3
    assert caplog.text.count("API features are off") == 1
    assert reason in caplog.text
