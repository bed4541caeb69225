"""Who says what a call cost: the caller, the cache, the price file, the provider, the list.

One function for the helpers and for the spans of others, so that they cannot disagree. The prices
of the file are set once, by `configure()`; there is one warning for each model without a price.
"""

from __future__ import annotations

import threading
from dataclasses import dataclass
from typing import Final

from otelbridge import _guard
from otelbridge.cost import pricelist
from otelbridge.cost.custom import NO_PRICES, CustomPrices
from otelbridge.cost.names import PRICE_PROVIDERS, price_provider
from otelbridge.cost.pricelist import Terms
from otelbridge.cost.usage import Cost, Usage

_logger = _guard.logger
_MAX_WARNED: Final = 1_000
_MAX_KNOWN: Final = 1_000
_NO_TERMS: Final = Terms()


@dataclass(frozen=True, slots=True)
class PricedCall:
    """What is known of a call when it is priced.

    Attributes:
        provider: `gen_ai.provider.name`.
        models: As the answer and the request name it, in this order, without empty ones.
        usage: Any form; `cost_usd` is what the provider or another instrumentation states.
        cached: Answered from a cache: no model was called.
        caller_usd: What the application says.
        stated_by: `provider` or `emitter`: who states `usage.cost_usd`.
    """

    provider: str
    models: tuple[str, ...]
    usage: Usage
    terms: Terms = _NO_TERMS
    cached: bool = False
    caller_usd: float | None = None
    stated_by: str = "provider"


class _State:
    def __init__(self) -> None:
        self.enabled = True
        self.custom = NO_PRICES
        self.lock = threading.Lock()
        self.warned: set[tuple[str, str]] = set()
        self.known: dict[tuple[str, str], bool] = {}


_state = _State()


def set_prices(*, enabled: bool = True, custom: CustomPrices = NO_PRICES) -> None:
    """Set how this process prices calls.

    Args:
        enabled: False: only what the caller, a cache or a provider says.
        custom: The prices of the price file.
    """
    _state.enabled, _state.custom = enabled, custom if enabled else NO_PRICES
    _state.known = {}


def is_enabled() -> bool:
    """Whether calls get a price by the list or the file."""
    return _state.enabled


def start_loading() -> None:
    """Begin to load the price list in the background; returns at once."""
    pricelist.current().start()


def cost_of(call: PricedCall) -> Cost | None:
    """What a call cost; None, with one warning for each model, where nobody knows.

    In this order: the caller; nothing for a cached answer; the price file; what the provider or
    the emitter states; the list. A factor in the file is applied to the list price.
    """
    if call.caller_usd is not None:
        return Cost(call.caller_usd, "caller")
    if call.cached:
        return Cost(0.0, "cache", 0.0, 0.0)
    custom = _state.custom
    usage = call.usage.normalised()
    entry = custom.entry(call.provider, call.models) if call.models else None
    if entry is not None and entry.factor is None:
        found = custom.cost(entry, usage)
        if found is not None:
            return found
    stated = call.usage.cost_usd
    if stated is not None and entry is None:
        return Cost(stated, call.stated_by)
    listed = _list_price(call, usage)
    if listed is not None and entry is not None and entry.factor is not None:
        return custom.discounted(entry, listed)
    if listed is None and stated is not None:
        return Cost(stated, call.stated_by)
    if listed is None and call.models and usage.is_known:
        _warn_unknown(call.provider, call.models[0])
    return listed


def _list_price(call: PricedCall, usage: Usage) -> Cost | None:
    if not _state.enabled:
        return None
    prices = pricelist.current()
    models = call.models
    if price_provider(call.provider) == "aws":  # the request names the region's profile, which
        models = models[::-1]  # costs more; the answer only the model
    for model in models:
        found = prices.price(call.provider, model, usage, call.terms)
        if found is not None:
            return found
    return None


def knows(provider: str, model: str) -> bool:
    """Whether a call of this model is expected to get a price; never waits for the list."""
    if not model:
        return False
    if not _state.enabled:
        return False
    asked = (provider, model)
    known = _state.known.get(asked)
    if known is not None:
        return known
    prices = pricelist.current()
    if _state.custom.entry(provider, (model,)) is not None:
        known = True
    elif prices.is_loaded:
        known = prices.price(provider, model, Usage(1, 1)) is not None
    else:  # in the first moments: the common case is a model of the list
        return provider.lower() in PRICE_PROVIDERS
    if len(_state.known) < _MAX_KNOWN:
        _state.known[asked] = known
    return known


def _warn_unknown(provider: str, model: str) -> None:
    if not _state.enabled or not pricelist.current().is_loaded:
        return
    with _state.lock:
        if (provider, model) in _state.warned or len(_state.warned) >= _MAX_WARNED:
            return
        _state.warned.add((provider, model))
    _logger.warning(
        "otelbridge: no price is known for model %r of provider %r; its spans carry no cost. "
        "Name its price in OTELBRIDGE_PRICES_FILE, give the cost with set_usage(cost_usd=...), or "
        "set the provider to one of %s.",
        model,
        provider,
        ", ".join(sorted(set(PRICE_PROVIDERS))),
    )
