"""A complete .env as a mapping, and what compose renders from it, for all tests of the stack."""

from __future__ import annotations

import os
import secrets
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from otelbridge.collector import find_collector
from tests.deploy.tools import CACHE, PROFILES, ROOT, rendered

_BINARY = os.environ.get("OTELBRIDGE_COLLECTOR_BINARY")  # read before it is scrubbed
NOT_SECRET = {
    "COMPOSE_PROFILES": "",
    "LANGFUSE_HOST": "http://langfuse-web:3000",
    "LANGFUSE_PUBLIC_URL": "http://localhost:3000",
    "LANGFUSE_PROJECT_ID": "otelbridge",
    "LANGFUSE_INIT_ORG_ID": "otelbridge",
    "LANGFUSE_INIT_PROJECT_ID": "otelbridge",
    "LANGFUSE_INIT_USER_EMAIL": "admin@otelbridge.local",
    "OTELBRIDGE_GRAFANA_URL": "http://localhost:3001",
}


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """While compose and dclint are not in the cache, the test that makes them may take minutes."""
    if all(any(CACHE.glob(name)) for name in ("compose/*/docker-compose", "dclint-*/node_modules")):
        return
    here = Path(__file__).parent
    for item in items:
        if here in item.path.parents:
            item.add_marker(pytest.mark.timeout(900))


@pytest.fixture(scope="session")
def variables() -> dict[str, str]:
    """Every name of .env.example; a secret of its own for each that is one."""
    lines = (ROOT / ".env.example").read_text("utf-8").splitlines()
    names = [line.partition("=")[0] for line in lines if "=" in line and not line.startswith("#")]
    return {name: NOT_SECRET.get(name, secrets.token_hex(32)) for name in names}


@pytest.fixture(scope="session")
def light(variables: Mapping[str, str]) -> dict[str, Any]:
    """The stack without a profile."""
    return rendered(variables)


@pytest.fixture(scope="session")
def full(variables: Mapping[str, str]) -> dict[str, Any]:
    """The stack with every profile."""
    return rendered(variables, *PROFILES)


@pytest.fixture(scope="session")
def collector_binary() -> Path:
    """The built Collector; tests that want it are marked `collector`."""
    binary = find_collector(binary=_BINARY)
    assert binary is not None, "run `make collector`"
    return binary
