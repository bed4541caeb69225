"""One native stack for all cases, and one over the containers where `make e2e` asks for it.

Tests marked `e2e_stack` are left out unless they are asked for by that mark: they need the
containers to be up, which `make test` does not see to.
"""

from __future__ import annotations

from collections.abc import Iterator

import httpx
import pytest

from otelbridge import envfile
from otelbridge.collector import project_root
from tests.collector.conftest import collector_binary
from tests.grafana.filling import skip_without_prometheus
from tests.stack import backends, reading
from tests.stack.backends import Backend

__all__ = ["collector_binary"]
_WARM_SECONDS = 40.0
_WARM_COMPOSE_SECONDS = 240.0


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Deselect what needs the containers, unless `-m` names its mark."""
    if "e2e_stack" in (config.option.markexpr or ""):
        return
    asked = [item for item in items if item.get_closest_marker("e2e_stack")]
    if asked:
        config.hook.pytest_deselected(items=asked)
        items[:] = [item for item in items if item not in asked]


@pytest.fixture(scope="session")
def client() -> Iterator[httpx.Client]:
    """Asks every side; no proxy of the environment is used."""
    with httpx.Client(timeout=60, trust_env=False) as made:
        yield made


@pytest.fixture(scope="session")
def native(
    collector_binary, client: httpx.Client, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Backend]:
    """The stack as processes of this machine, warmed by one request."""
    skip_without_prometheus()
    with backends.native(tmp_path_factory.mktemp("stack"), collector_binary) as made:
        reading.fence(made, client, _WARM_SECONDS)
        yield made


@pytest.fixture(scope="session")
def compose(client: httpx.Client) -> Backend:
    """The containers, ready and warmed; skipped with the reason where no engine answers."""
    if why := backends.no_engine():
        pytest.skip(f"{why}; `make test` runs the same cases natively")
    path = project_root() / ".env"
    found = envfile.read(path)
    assert found is not None, f"{path} is not there; run: otelbridge init"
    made = backends.compose(found.values)
    reading.fence(made, client, _WARM_COMPOSE_SECONDS)
    return made
