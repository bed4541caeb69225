"""Prices of one's own: a TOML file for self-hosted models, local ones and negotiated terms.

`read_prices_file` checks everything at start-up and names the line of what is wrong; `CustomPrices`
then answers from memory. The first entry that fits a call decides. USD only; a server that is paid
by the hour has no price per call and is not described here. docs/cost.md shows the file.
"""

from __future__ import annotations

import re
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, date, datetime
from decimal import Decimal
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any, Final

from otelbridge.cost.names import model_names
from otelbridge.cost.usage import Cost, Usage
from otelbridge.errors import ConfigError

VARIABLE: Final = "OTELBRIDGE_PRICES_FILE"
#: USD per million tokens; `request` is USD per call.
PRICE_KEYS: Final[tuple[str, ...]] = (
    "input", "output", "cached_input", "cache_write", "cache_write_1h", "reasoning",
    "audio_input", "audio_output", "request",
)  # fmt: skip
_TEXT_KEYS: Final = ("provider", "model", "currency")
_ENTRY_KEYS: Final = (*_TEXT_KEYS, *PRICE_KEYS, "factor")
_FILE_KEYS: Final = ("as_of", "currency", "price")
_MILLION: Final = Decimal(1_000_000)
_HEADER: Final = re.compile(r"^\s*\[\[\s*price\s*\]\]")
_LINE: Final = re.compile(r"line (\d+)")


@dataclass(frozen=True, slots=True)
class Entry:
    """Prices for the calls that fit two glob patterns (lower case)."""

    provider: str
    model: str
    prices: Mapping[str, Decimal]
    factor: Decimal | None

    def fits(self, provider: str, names: list[str]) -> bool:
        """Whether a call of this provider and model (any of these names) is meant."""
        return fnmatchcase(provider.lower(), self.provider) and any(
            fnmatchcase(name, self.model) for name in names
        )


@dataclass(frozen=True, slots=True)
class CustomPrices:
    """The entries of a file, in order, and the day that they were right (YYYY-MM-DD)."""

    entries: tuple[Entry, ...]
    date: str

    def entry(self, provider: str, models: tuple[str, ...]) -> Entry | None:
        """The first entry that fits; each model is tried by all of its names."""
        if not self.entries:
            return None
        names = [name for model in models for name in model_names(provider, model)]
        return next((entry for entry in self.entries if entry.fits(provider, names)), None)

    def cost(self, entry: Entry, usage: Usage) -> Cost | None:
        """The price of a call by an entry with prices; None where its tokens are not known.

        Args:
            usage: Normalised.
        """
        prices = entry.prices
        per_call = prices.get("request", Decimal(0))
        if "input" not in prices:
            return Cost(float(per_call), "custom", date=self.date)
        if not usage.is_known:
            return None
        plain, plain_out = prices["input"], prices["output"]
        written_price = prices.get("cache_write", plain)
        cached, written = usage.cached_tokens or 0, usage.cache_write_tokens or 0
        for_hour = usage.cache_write_1h_tokens or 0
        audio, audio_out = usage.audio_input_tokens or 0, usage.audio_output_tokens or 0
        reasoning = usage.reasoning_tokens or 0
        total_in, total_out = usage.input_tokens or 0, usage.output_tokens or 0
        paid_in = (
            max(0, total_in - cached - written - audio) * plain
            + cached * prices.get("cached_input", plain)
            + (written - for_hour) * written_price
            + for_hour * prices.get("cache_write_1h", written_price)
            + audio * prices.get("audio_input", plain)
        ) / _MILLION
        paid_out = (
            max(0, total_out - reasoning - audio_out) * plain_out
            + reasoning * prices.get("reasoning", plain_out)
            + audio_out * prices.get("audio_output", plain_out)
        ) / _MILLION
        return Cost(
            float(paid_in + paid_out + per_call),
            "custom",
            float(paid_in),
            float(paid_out),
            self.date,
        )

    def discounted(self, entry: Entry, listed: Cost) -> Cost:
        """A list price times the entry's factor."""
        factor = float(entry.factor if entry.factor is not None else 1)
        parts = (listed.input_usd, listed.output_usd)
        paid_in, paid_out = (None if part is None else part * factor for part in parts)
        source = f"custom x {factor:g} of {listed.source}"
        return Cost(listed.total_usd * factor, source, paid_in, paid_out, self.date)


NO_PRICES: Final = CustomPrices((), "")


def read_prices_file(path: str) -> CustomPrices:
    """The prices of a file.

    Raises:
        ConfigError: it cannot be read, or something in it cannot be used; names the line.
    """
    try:
        text = Path(path).read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(VARIABLE, path, "the path of a TOML file in UTF-8", str(error)) from None
    try:
        content = tomllib.loads(text, parse_float=Decimal)
    except tomllib.TOMLDecodeError as error:
        found = _LINE.search(str(error))
        line = int(found[1]) if found else 1
        raise _wrong(path, line, "TOML (https://toml.io)", str(error)) from None
    return _Checker(path, text).prices(content)


def _wrong(path: str, line: int, allowed: str, remedy: str) -> ConfigError:
    return ConfigError(VARIABLE, f"{path}, line {line}", allowed, remedy)


class _Checker:
    """Turns the content of a file into entries; knows on which line a key stands."""

    def __init__(self, path: str, text: str) -> None:
        self._path = path
        self._lines = text.splitlines()
        self._headers = [n for n, line in enumerate(self._lines) if _HEADER.match(line)]

    def prices(self, content: dict[str, Any]) -> CustomPrices:
        for key in content:
            if key not in _FILE_KEYS:
                raise self._error(None, key, f"{', '.join(_FILE_KEYS)} at the top of the file")
        self._currency(None, content)
        tables = content.get("price", [])
        if not isinstance(tables, list) or not all(isinstance(table, dict) for table in tables):
            raise self._error(None, "price", "tables that open with [[price]]")
        day = content.get("as_of")
        if day is None:
            changed = Path(self._path).stat().st_mtime
            day = datetime.fromtimestamp(changed, tz=UTC).date()
        if not isinstance(day, date):
            raise self._error(None, "as_of", "a date without quotes, as 2026-11-21")
        entries = tuple(self._entry(number, table) for number, table in enumerate(tables))
        return CustomPrices(entries, day.isoformat()[:10])

    def _entry(self, number: int, table: dict[str, Any]) -> Entry:
        for key, value in table.items():
            if key not in _ENTRY_KEYS:
                raise self._error(number, key, f"one of {', '.join(_ENTRY_KEYS)}")
            if key in _TEXT_KEYS and not (isinstance(value, str) and value.strip()):
                raise self._error(number, key, "text in quotes")
        if "model" not in table:
            raise self._error(number, "", 'a model, which may be a pattern ("gpt-4o*")')
        self._currency(number, table)
        prices = {key: self._number(number, key, table[key]) for key in PRICE_KEYS if key in table}
        factor = self._number(number, "factor", table["factor"]) if "factor" in table else None
        if factor is not None and prices:
            raise self._error(number, "factor", "a factor of the list price, or prices; not both")
        if factor is None and ("input" in prices) != ("output" in prices):
            raise self._error(number, "", "input and output together (0 where there is none)")
        if factor is None and "input" not in prices and set(prices) != {"request"}:
            raise self._error(number, "", "input and output, or request alone, or factor")
        provider = table.get("provider", "*").strip().lower()
        return Entry(provider, table["model"].strip().lower(), prices, factor)

    def _number(self, number: int, key: str, value: Any) -> Decimal:
        if isinstance(value, int | Decimal) and not isinstance(value, bool):
            found = Decimal(value)
            if found.is_finite() and found >= 0:
                return found
        unit = "USD per call" if key == "request" else "USD per million tokens"
        unit = "1 is the list price" if key == "factor" else unit
        raise self._error(number, key, f"a number of 0 or more ({unit})")

    def _currency(self, number: int | None, table: dict[str, Any]) -> None:
        if table.get("currency", "USD") != "USD":
            raise self._error(number, "currency", '"USD", the only currency of both stores')

    def _error(self, number: int | None, key: str, allowed: str) -> ConfigError:
        """For a key of the n-th [[price]] table, or of the top of the file."""
        headers = [*self._headers, len(self._lines)]
        begin, end = (0, headers[0]) if number is None else (0, len(self._lines))
        if number is not None and number < len(self._headers):
            begin, end = headers[number], headers[number + 1]
        pattern = re.compile(rf"^\s*(\[+\s*)?[\"']?{re.escape(key)}[\"']?\s*[=.\]]")
        lines = (n for n in range(begin, end) if key and pattern.match(self._lines[n]))
        line = next(lines, begin)
        said = self._lines[line].strip() if line < len(self._lines) else ""
        return _wrong(self._path, line + 1, allowed, f"It says: {said}")
