"""A/B experiments: which variant a request gets, and its name on every span of the request.

Assignment is arithmetic, no state: the same unit gets the same variant in every process and
service. The choice travels as metadata of the request (baggage), so that services behind it take
the same one. `reports` compares the variants afterwards.

The hash (weighted rendezvous): SHA-256 over experiment, unit and variant in UTF-8, a zero byte
between them; the first 52 bits plus one half, divided by 2**52, is u in (0, 1); the variant with
the largest weight / -ln(u) wins. So a weight that is raised takes units to its variant and moves
none between the others.
"""

from __future__ import annotations

import hashlib
import math
import random as dice
import re
from collections.abc import Mapping
from typing import Any, Final

from opentelemetry import baggage, trace
from opentelemetry import context as otel_context
from opentelemetry.context import Context

from otelbridge import _guard, semconv, view
from otelbridge.context import update_request, with_updates

#: A name becomes part of an attribute key and of a tag.
NAME: Final = re.compile(r"[A-Za-z0-9_\-]{1,64}")
#: Metadata key of one experiment: `experiment.<name>`.
METADATA_PREFIX: Final = "experiment."
_BAGGAGE_PREFIX: Final = semconv.LANGFUSE_TRACE_METADATA_PREFIX + METADATA_PREFIX
_dice = dice.SystemRandom()  # forked workers do not repeat each other's


class Variant(str):
    """The name of a variant: text, with what marks a request as having got it.

    Attributes:
        experiment: Its name.
        metadata: For `request_context(metadata=…)`: `variant` and `experiment.<name>`.
        tags: For `request_context(tags=…)`: `experiment:<name>`.
    """

    __slots__ = ("experiment",)
    experiment: str

    def __new__(cls, experiment: str, name: str) -> Variant:
        """A variant of an experiment."""
        made = super().__new__(cls, name)
        made.experiment = experiment
        return made

    @property
    def metadata(self) -> dict[str, str]:
        """What `variant` writes into the request's metadata."""
        return {"variant": str(self), METADATA_PREFIX + self.experiment: str(self)}

    @property
    def tags(self) -> list[str]:
        """What `variant` adds to the request's tags; Langfuse finds the traces by it."""
        return [tag_of(self.experiment)]


def variant(
    name: str,
    weights: Mapping[str, float],
    *,
    user_id: str | None = None,
    session_id: str | None = None,
    key: str | None = None,
    random: bool = False,
    mark: bool = True,
) -> Variant:
    """The variant of an experiment for this request, which all its spans carry from now on.

    A request that has a variant of this experiment, here or in the service before, keeps it. Else
    the unit decides, always alike: `key`, `user_id`, `session_id`, the request's user, its session,
    in this order. Without any of them, and with `random`, chance does.

    Args:
        name: Letters, digits, `_` and `-`, at most 64.
        weights: Variant to weight, at least 0, of any sum: `{"A": 0.5, "B": 0.5}`. A weight that is
            raised moves units to its variant only; one that is lowered, away from it only.
        mark: False: only the answer, as where no span is open; give its `metadata` and `tags` to a
            `request_context` then.
    Raises:
        ValueError: A name or weights that cannot be used.
    """
    shares = _shares(name, weights)
    chosen, context = None, Context()
    with _guard.guard("variant"):
        context = _request()
        present = baggage.get_baggage(_BAGGAGE_PREFIX + name, context)
        if isinstance(present, str) and present in shares:
            chosen = present
    if chosen is None:
        unit = None if random else key or user_id or session_id or _unit_of(context)
        chosen = _drawn(shares) if unit is None else assigned(name, str(unit), shares)
    found = Variant(name, chosen)
    if mark:
        update_request(metadata=found.metadata, tags=found.tags)
    return found


def assigned(experiment: str, unit: str, weights: Mapping[str, float]) -> str:
    """The variant of a unit by the documented hash; one weight at least is above 0."""
    open_to = [name for name, weight in weights.items() if weight > 0]
    return max(
        open_to, key=lambda name: (weights[name] / -math.log(_point(experiment, unit, name)), name)
    )


def _point(experiment: str, unit: str, name: str) -> float:
    """Where a variant stands in (0, 1) for a unit; exact in a double, never 0 or 1."""
    text = f"{experiment}\0{unit}\0{name}".encode("utf-8", "replace")
    bits = int.from_bytes(hashlib.sha256(text).digest()[:8], "big") >> 12
    return (bits + 0.5) / 2**52


def tag_of(experiment: str) -> str:
    """The tag of an experiment's traces."""
    return f"experiment:{experiment}"


def variant_in(metadata: Any, experiment: str) -> str | None:
    """The variant that a trace's metadata names for an experiment, flat or nested."""
    if not isinstance(metadata, Mapping):
        return None
    found = metadata.get(METADATA_PREFIX + experiment)
    nested = metadata.get(METADATA_PREFIX.rstrip("."))
    if found is None and isinstance(nested, Mapping):
        found = nested.get(experiment)
    return found if isinstance(found, str) and found else None


def _shares(name: object, weights: Mapping[str, float]) -> dict[str, float]:
    if not isinstance(name, str) or not NAME.fullmatch(name):
        raise ValueError(
            f"the name of an experiment is 1 to 64 letters, digits, _ and -; not {name!r}"
        )
    if not isinstance(weights, Mapping):
        raise ValueError(f"weights maps names of variants to numbers, not {weights!r}")
    if not weights or not all(isinstance(one, str) and one.strip() == one != "" for one in weights):
        raise ValueError(f"weights maps names of variants to numbers, not {weights!r}")
    numbers = weights.values()
    if not all(isinstance(one, int | float) and math.isfinite(one) and one >= 0 for one in numbers):
        raise ValueError(f"weights are numbers from 0, not {weights!r}")
    if max(map(len, weights)) > 64 or sum(weights.values()) <= 0:
        raise ValueError("names of variants have at most 64 characters, one weight is above 0")
    return {one: weights[one] for one in sorted(weights)}


def _drawn(shares: Mapping[str, float]) -> str:
    return _dice.choices(list(shares), list(shares.values()))[0]


def _request() -> Context:
    """The context with what was said elsewhere in the request: a choice in a block that is left."""
    context = otel_context.get_current()
    node = view.node_of(trace.get_current_span(context))
    return context if node is None else with_updates(context, node.entry)


def _unit_of(context: Context) -> str | None:
    for key in (semconv.USER_ID, semconv.SESSION_ID):
        value = baggage.get_baggage(key, context)
        if isinstance(value, str) and value:
            return value
    return None
