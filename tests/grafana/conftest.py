"""One filled stack for all tests that ask real servers: of panels, variables and rules."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.collector.conftest import collector_binary, make_bench
from tests.grafana.asking import Asker
from tests.grafana.filling import Fill, filled, skip_without_prometheus

__all__ = ["asker", "collector_binary", "fill", "make_bench"]


@pytest.fixture(scope="session")
def fill(collector_binary, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Fill]:
    """Collector, `otelbridge local` and Prometheus, filled by every emitter."""
    skip_without_prometheus()
    with filled(tmp_path_factory.mktemp("grafana"), collector_binary) as made:
        yield made


@pytest.fixture(scope="session")
def asker(fill: Fill) -> Asker:
    """Asks the filled servers as of the end of the fill."""
    return Asker(fill.prometheus.url, fill.local.tempo_url, fill.end_s)
