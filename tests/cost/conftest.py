"""The price list is there before a test asks it: its own wait ends after a second."""

from __future__ import annotations

import pytest

from otelbridge.cost import pricelist


@pytest.fixture(autouse=True)
def loaded_prices() -> None:
    """A slow machine needs longer than a span would wait."""
    pricelist.current().start()
    pricelist.current().wait(60)
    assert pricelist.current().module() is not None
