"""docs/configuration.md is what the declarations say."""

from __future__ import annotations

from pathlib import Path

from otelbridge.cli.config import markdown
from otelbridge.env import VARIABLES

PAGE = Path(__file__).parents[2] / "docs" / "configuration.md"


def test_the_page_is_generated_from_the_declarations():
    """A change of a declaration and of the page are one change; `make docs` writes the page."""
    assert PAGE.read_text(encoding="utf-8") == markdown()


def test_every_name_and_alias_is_on_the_page():
    """A user finds whatever name stands in their deployment."""
    page = PAGE.read_text(encoding="utf-8")
    missing = [name for v in VARIABLES for name in v.spellings if f"`{name}`" not in page]
    assert missing == []
