"""Budgets of one test: a directory of its own, nothing declared before and after."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

import otelbridge
from otelbridge.budgets import checking
from otelbridge.budgets.rules import Budget
from otelbridge.cost import pricelist


@pytest.fixture(autouse=True)
def fresh_budgets() -> Iterator[None]:
    """No budget of another test."""
    checking.reset()
    yield
    otelbridge.shutdown(1)
    checking.reset()


@pytest.fixture(scope="session", autouse=True)
def loaded_prices() -> None:
    """A slow machine needs longer than a span would wait."""
    pricelist.current().start()
    pricelist.current().wait(60)


@pytest.fixture
def declare(tmp_path: Path) -> Callable[..., None]:
    """`declare(*budgets)`: in force, with sums under `tmp_path`, tracing on, nothing sent."""

    def put(*budgets: Budget) -> None:
        otelbridge.configure(
            instrument=False,
            traces_exporter="none",
            budgets_directory=str(tmp_path),
            spool_directory=str(tmp_path / "spool"),
        )
        checking.declare(*budgets)

    return put
