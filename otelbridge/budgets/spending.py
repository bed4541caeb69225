"""What ended model calls add to the sums of the budgets.

`processors.pipeline` hands over every ended span once it is decided which span of a call counts
(`processors.one_price`). Helpers have priced theirs by then; the spans of other emitters are
priced here, in the thread that ended them, so that a budget acts on the next call and not on the
next export. While the price list loads they wait, at most so many.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Mapping
from typing import Any

from otelbridge import _guard, policy, semconv
from otelbridge.budgets import checking
from otelbridge.cost import pricelist, pricing
from otelbridge.cost.spans import cost_changes

_late: deque[tuple[dict[str, Any], int | None]] = deque(maxlen=1_000)


@_guard.guarded("booking a cost", None)
def at_end(attributes: Mapping[str, Any], start_time_ns: int | None) -> dict[str, Any] | None:
    """Add an ended span's cost to the sums; attributes to add to the span, if it got a cost here.

    Args:
        attributes: As the span leaves.
        start_time_ns: For prices that change.
    """
    if not policy.is_gen_ai(attributes):
        return None
    if _late and pricelist.current().is_done:
        _book_late()
    if semconv.COST_SOURCE in attributes:
        _book(attributes)
        return None
    if not pricelist.current().is_done and pricing.is_enabled():
        pricing.start_loading()
        _late.append((dict(attributes), start_time_ns))
        return None
    changes = cost_changes(attributes, start_time_ns)
    if changes:
        _book({**attributes, **changes})
    return changes or None


def _book_late() -> None:
    while _late:
        attributes, start_time_ns = _late.popleft()
        _book({**attributes, **cost_changes(attributes, start_time_ns)})


def _book(attributes: Mapping[str, Any]) -> None:
    usd = attributes.get(semconv.GEN_AI_USAGE_COST)
    if isinstance(usd, float) and usd > 0:
        add(usd, attributes)


def add(usd: float, attributes: Mapping[str, Any] | None = None) -> None:
    """Add a cost that no span of this process carries: a call by other means, an invoice.

    Args:
        usd: Added to every budget that concerns the request.
        attributes: as `checking.states`.
    """
    with _guard.guard("booking a cost"):
        if attributes is None:
            attributes = checking.request_attributes()
        keys = checking.keys_of(attributes)
        if keys:
            checking.ledger().add(dict.fromkeys(key for _, key in keys), usd)
            checking.states_of(keys)  # says what is reached now
