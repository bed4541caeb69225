"""The bundled list of `genai-prices`: loaded late, asked with a deadline, never fetched.

Loading takes a few hundred milliseconds, so a daemon thread does it from the first model call on;
until one second after that, spans that need a price wait for it. A provider or model that is not
in the list has no price: None, never zero.
"""

from __future__ import annotations

import importlib.metadata
import os
import re
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, date, datetime
from decimal import Decimal
from typing import Any, Final

from otelbridge import _guard
from otelbridge.cost.names import model_names, price_provider
from otelbridge.cost.usage import Cost, Usage

_WAIT_SECONDS: Final = 1.0
_MAX_MISSES: Final = 1_000
_MAX_RATES: Final = 1_000
_DATE: Final = re.compile(r"\b20\d{2}-\d{2}-\d{2}\b")


@dataclass(frozen=True, slots=True)
class Terms:
    """What decides on the price beside model and tokens.

    Attributes:
        at_ns: When the call was made, in ns since 1970; None is now. Prices change.
        service_tier: As OpenAI names it (`flex`, `priority`, …), from the answer if it says so.
        batch: Whether it was a batch request.
        server_address: Host of the API: tells providers that speak another one's API.
    """

    at_ns: int | None = None
    service_tier: str = ""
    batch: bool = False
    server_address: str = ""


class PriceList:
    """The lazily loaded `genai_prices` module."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._ready = threading.Event()
        self._started = False
        self._deadline = 0.0
        self._module: Any = None
        self._misses: set[tuple[str, str, str]] = set()
        #: USD of an input and of an output token, see `_flat_rates`.
        self._rates: dict[tuple[str, str, str], tuple[Decimal, Decimal]] = {}
        self.source = ""
        self.date = ""

    def start(self) -> None:
        """Begin to load in the background; returns at once."""
        if self._started:
            return
        with self._lock:
            if self._started:
                return
            self._deadline = time.monotonic() + _WAIT_SECONDS
            self._started = True
        threading.Thread(target=self._load, name="otelbridge-prices", daemon=True).start()

    def _load(self) -> None:
        try:
            import genai_prices  # 0.2-0.35 s, and pydantic: not at start-up
            from genai_prices.data_snapshot import get_snapshot

            self.source = f"genai-prices {importlib.metadata.version('genai-prices')}"
            self.date = _newest_date(get_snapshot().providers)
            self._module = genai_prices
        # Missing or broken: costs are left out, the calls go on.
        except Exception as error:  # noqa: BLE001 - an import may raise anything
            _guard.record_failure("loading the price list", error)
        finally:
            self._ready.set()

    def wait(self, timeout_seconds: float = _WAIT_SECONDS) -> None:
        """Wait until a load that has begun is over, at most this long."""
        if self._started:
            self._ready.wait(timeout_seconds)

    def module(self) -> Any:
        """The module, or None; waits for it until a second after its load began."""
        self.start()
        if not self._ready.is_set():
            self._ready.wait(max(0.0, self._deadline - time.monotonic()))
        return self._module

    @property
    def is_loaded(self) -> bool:
        """Whether a price is known at once."""
        return self._module is not None

    @property
    def is_done(self) -> bool:
        """Whether a load has ended, with a list or without: nothing waits any more."""
        return self._ready.is_set()

    def price(
        self, provider: str, model: str, usage: Usage, terms: Terms | None = None
    ) -> Cost | None:
        """The list price of a call, None where it is not known.

        Args:
            usage: Normalised.
        """
        module = self.module()
        if module is None or not usage.is_known:
            return None
        terms = terms or Terms()
        asked = (provider, terms.server_address, model)
        if asked in self._misses:  # a search in vain reads the whole list
            return None
        is_plain = _is_plain(usage, terms)
        rates = self._rates.get(asked) if is_plain else None
        if rates is not None:
            input_usd = rates[0] * (usage.input_tokens or 0)
            output_usd = rates[1] * (usage.output_tokens or 0)
            return Cost(
                total_usd=float(input_usd + output_usd),
                source=self.source,
                input_usd=float(input_usd),
                output_usd=float(output_usd),
                date=self.date,
            )
        for where in _places(provider, terms):
            for name in model_names(provider, model):
                try:
                    found = _calculate(module, where, name, usage, terms)
                except LookupError:
                    continue
                if is_plain and len(self._rates) < _MAX_RATES:
                    rates = _flat_rates(found, usage)
                    if rates is not None:
                        self._rates[asked] = rates
                return Cost(
                    total_usd=float(found.total_price),
                    source=self.source,
                    input_usd=float(found.input_price),
                    output_usd=float(found.output_price),
                    date=self.date,
                )
        if len(self._misses) < _MAX_MISSES:
            self._misses.add(asked)
        return None


def _is_plain(usage: Usage, terms: Terms) -> bool:
    """Whether nothing but the counts of input and output tokens decides on the price."""
    return not (
        usage.cached_tokens
        or usage.cache_write_tokens
        or usage.cache_write_1h_tokens
        or usage.reasoning_tokens
        or usage.audio_input_tokens
        or usage.audio_output_tokens
        or terms.batch
        or terms.service_tier not in ("", "auto")
    )


def _flat_rates(found: Any, usage: Usage) -> tuple[Decimal, Decimal] | None:
    """What one input and one output token cost where that is all, else None.

    Asking the list takes 80 us. Prices in steps, by the time of day or by request are asked for
    each time, and so is all that these two rates do not give to the last digit.
    """
    price = found.model_price
    rates = (price.input_mtok, price.output_mtok)
    if type(found.model.prices) is not type(price):  # several, by date or condition
        return None
    if not all(type(rate) is Decimal for rate in rates):  # in steps, or none
        return None
    each = (rates[0] / 1_000_000, rates[1] / 1_000_000)
    counts = (usage.input_tokens or 0, usage.output_tokens or 0)
    given = (each[0] * counts[0], each[1] * counts[1])
    asked = (found.input_price, found.output_price)
    is_exact = all(counts) and given == asked and sum(given) == found.total_price
    return each if is_exact else None


def _places(provider: str, terms: Terms) -> Iterator[dict[str, str]]:
    if provider:
        yield {"provider_id": price_provider(provider)}
    if terms.server_address:
        yield {"provider_api_url": f"https://{terms.server_address}"}


def _calculate(module: Any, where: dict[str, str], model: str, usage: Usage, terms: Terms) -> Any:
    context = {}
    if terms.service_tier and terms.service_tier not in ("auto", "batch"):
        context["service_tier"] = terms.service_tier
    if terms.batch or terms.service_tier == "batch":
        context["processing"] = "batch"
    moment = None
    if terms.at_ns is not None:
        moment = datetime.fromtimestamp(terms.at_ns / 1e9, tz=UTC)
    for counts in (_all_counts(usage), _plain_counts(usage)):
        try:
            return module.calc_price(
                module.Usage(**counts),
                model_ref=model,
                genai_request_timestamp=moment,
                price_context=context or None,
                **where,
            )
        except ValueError:  # counts that do not fit each other: without the finer ones
            continue
    raise LookupError(model)


def _plain_counts(usage: Usage) -> dict[str, int | None]:
    return {
        "input_tokens": usage.input_tokens,
        "output_tokens": usage.output_tokens,
        "cache_read_tokens": usage.cached_tokens,
        "cache_write_tokens": usage.cache_write_tokens,
    }


def _all_counts(usage: Usage) -> dict[str, int | None]:
    """With audio, reasoning and one-hour writes; what is in two of them is taken to be none."""
    counts = _plain_counts(usage)
    if usage.reasoning_tokens:
        counts["output_reasoning_tokens"] = usage.reasoning_tokens
    if usage.cache_write_1h_tokens:
        counts["cache_write_1h_tokens"] = usage.cache_write_1h_tokens
        written = usage.cache_write_tokens or 0
        counts["cache_write_5m_tokens"] = written - usage.cache_write_1h_tokens
    if usage.audio_input_tokens:
        counts["input_audio_tokens"] = usage.audio_input_tokens
        for name in ("read", "write", "write_5m", "write_1h"):
            if counts.get(f"cache_{name}_tokens"):
                counts[f"cache_audio_{name}_tokens"] = 0
    if usage.audio_output_tokens:
        counts["output_audio_tokens"] = usage.audio_output_tokens
        if usage.reasoning_tokens:
            counts["output_audio_reasoning_tokens"] = 0
    return counts


def _newest_date(providers: Any) -> str:
    """The newest day, not after today, on which the list says that a price began or was checked.

    The package has no date of its own.
    """
    today = datetime.now(tz=UTC).date().isoformat()
    newest = ""
    for provider in providers:
        for model in provider.models:
            found = _DATE.findall(model.price_comments or "")
            conditions = model.prices if isinstance(model.prices, list) else ()
            begins = (getattr(item.constraint, "start_date", None) for item in conditions)
            found += [day.isoformat() for day in begins if isinstance(day, date)]
            newest = max([newest, *(day for day in found if day <= today)])
    return newest


_current = PriceList()


def current() -> PriceList:
    """The list of this process."""
    return _current


def _before_fork() -> None:
    """Let a load that has begun come to its end, within the limit."""
    _current.wait()


def _after_fork() -> None:
    """A child has no loader thread: what is not loaded there is loaded anew."""
    global _current  # noqa: PLW0603 - the one process-wide list, replaced whole
    if not _current._ready.is_set():
        _current = PriceList()


if hasattr(os, "register_at_fork"):
    # A fork while the loader holds import locks would leave them locked in the child for ever.
    os.register_at_fork(before=_before_fork, after_in_child=_after_fork)
