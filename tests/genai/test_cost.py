"""Usage buckets and prices: no token counted twice, no cost made up."""

from __future__ import annotations

import json
import logging
import subprocess
import sys
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from otelbridge import genai, semconv
from otelbridge.cost import pricelist, pricing
from otelbridge.cost.names import PRICE_PROVIDERS
from otelbridge.cost.pricing import PricedCall
from otelbridge.cost.usage import Cost, Usage
from otelbridge.genai import _config


def price_usd(provider: str, model: str, usage: Usage) -> Cost | None:
    """The list price of a call."""
    models = (model,) if model else ()
    return pricing.cost_of(PricedCall(provider, models, usage))


COUNT = st.none() | st.integers(0, 10**9)


@given(COUNT, COUNT, COUNT, COUNT, COUNT)
def test_buckets_are_disjoint_and_their_total_is_input_plus_output(
    total_in: int | None,
    total_out: int | None,
    read: int | None,
    wrote: int | None,
    why: int | None,
) -> None:
    """Whatever was given: nothing negative, and the total counts every token once."""
    usage = Usage(total_in, total_out, read, wrote, why)
    buckets = usage.buckets()
    if not buckets:
        assert total_in is None
        assert total_out is None
        return
    total = buckets.pop("total")
    assert all(count >= 0 for count in buckets.values())
    assert sum(buckets.values()) == total
    whole = usage.normalised()
    assert total == (whole.input_tokens or 0) + (whole.output_tokens or 0)
    inner_in = (read or 0) + (wrote or 0)
    if inner_in <= (total_in or 0):
        assert whole.input_tokens == total_in
    else:  # the total was given without its parts
        assert whole.input_tokens == (total_in or 0) + inner_in


@pytest.mark.parametrize(
    ("provider", "model", "usage", "expected_usd"),
    [
        # list prices per million tokens, bundled with genai-prices 0.2
        ("openai", "gpt-4o", Usage(1_000_000, 1_000_000), 12.50),
        ("openai", "gpt-4o", Usage(1_000_000, 0, 500_000), 1.875),
        ("anthropic", "claude-sonnet-4-5", Usage(100_000, 10_000, 40_000, 30_000), 0.3645),
        ("azure.ai.openai", "gpt-4o", Usage(1_000_000, 1_000_000), 12.50),
        ("x_ai", "grok-3", Usage(1_000, 10), 0.00315),
    ],
)
def test_known_models_have_their_list_price(
    provider: str, model: str, usage: Usage, expected_usd: float
) -> None:
    """Cached and cache-written tokens at their own prices, under every provider spelling."""
    found = price_usd(provider, model, usage)
    assert found is not None
    assert found.total_usd == pytest.approx(expected_usd)
    assert found.input_usd is not None
    assert found.output_usd is not None
    assert found.input_usd + found.output_usd == pytest.approx(found.total_usd)
    assert found.source.startswith("genai-prices 0.2")


@pytest.mark.parametrize(
    ("provider", "model", "usage"),
    [
        ("openai", "no-such-model", Usage(10, 10)),
        ("ollama", "gpt-4o", Usage(10, 10)),
        ("my-gateway", "gpt-4o", Usage(10, 10)),
        ("openai", "gpt-4o", Usage()),
        ("", "gpt-4o", Usage(10, 10)),
        ("openai", "", Usage(10, 10)),
    ],
)
def test_what_is_not_known_has_no_price(provider: str, model: str, usage: Usage) -> None:
    """None, never zero, and no guess for a provider that is not in the list."""
    assert price_usd(provider, model, usage) is None


@pytest.mark.parametrize("provider", sorted(PRICE_PROVIDERS))
def test_every_mapped_provider_is_in_the_price_list(provider: str) -> None:
    """The ids on the right-hand side of the map exist."""
    from genai_prices.data_snapshot import get_snapshot

    known = {entry.id for entry in get_snapshot().providers}
    assert PRICE_PROVIDERS[provider] in known


def _attributes(spans: Any, **usage: Any) -> dict[str, Any]:
    with genai.chat("gpt-4o", provider="openai") as call:
        call.set_usage(**usage)
    return spans.attributes


def test_a_generation_gets_cost_from_the_list(spans: Any) -> None:
    """`gen_ai.usage.cost` is a double, the details are JSON numbers with their total."""
    found = _attributes(spans, input_tokens=1_000_000, output_tokens=1_000_000)
    assert type(found[semconv.GEN_AI_USAGE_COST]) is float
    assert found[semconv.GEN_AI_USAGE_COST] == pytest.approx(12.5)
    details = json.loads(found[semconv.LANGFUSE_OBSERVATION_COST_DETAILS])
    assert details == pytest.approx({"input": 2.5, "output": 10.0, "total": 12.5})
    assert found[semconv.COST_SOURCE].startswith("genai-prices")


def test_the_callers_cost_wins(spans: Any) -> None:
    """Even a cost of zero."""
    found = _attributes(spans, input_tokens=10, output_tokens=10, cost_usd=0)
    assert found[semconv.GEN_AI_USAGE_COST] == 0.0
    assert found[semconv.COST_SOURCE] == "caller"


def test_a_provider_that_states_the_cost_is_believed(spans: Any) -> None:
    """OpenRouter and LiteLLM put it into the usage."""
    with genai.chat("gpt-4o", provider="openrouter") as call:
        call.record({"choices": [{}], "usage": {"prompt_tokens": 1, "cost": 0.25}})
    assert spans.attributes[semconv.GEN_AI_USAGE_COST] == 0.25
    assert spans.attributes[semconv.COST_SOURCE] == "provider"


def test_a_cached_answer_costs_nothing_unless_said_otherwise(spans: Any) -> None:
    """`cached=True`: cost 0.0, usage kept, marked as cached."""
    with genai.chat("gpt-4o", provider="openai", cached=True) as call:
        call.set_usage(input_tokens=1_000_000, output_tokens=1_000_000)
    assert spans.attributes[semconv.GEN_AI_USAGE_COST] == 0.0
    assert spans.attributes[semconv.CACHED] is True
    assert spans.attributes[semconv.GEN_AI_USAGE_INPUT_TOKENS] == 1_000_000
    assert json.loads(spans.attributes[semconv.LANGFUSE_OBSERVATION_COST_DETAILS])["total"] == 0


def test_an_unknown_model_has_no_cost_and_one_warning(
    spans: Any, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The warning names model, provider and the remedy; the second span is silent."""
    monkeypatch.setattr(pricing._state, "warned", set())
    with caplog.at_level(logging.WARNING, logger="otelbridge"):
        for _ in range(2):
            with genai.chat("house-model", provider="openai") as call:
                call.set_usage(input_tokens=10)
    for span in spans.all:
        assert semconv.GEN_AI_USAGE_COST not in span.attributes
        assert semconv.LANGFUSE_OBSERVATION_COST_DETAILS not in span.attributes
    [record] = caplog.records
    assert "house-model" in record.getMessage()
    assert "set_usage(cost_usd=" in record.getMessage()


def test_the_requested_model_prices_a_response_under_another_name(spans: Any) -> None:
    """A deployment name in the response falls back to the model asked for."""
    with genai.chat("gpt-4o", provider="azure.ai.openai") as call:
        call.set_response(model="team-deployment-7")
        call.set_usage(input_tokens=1_000_000, output_tokens=0)
    assert spans.attributes[semconv.GEN_AI_USAGE_COST] == pytest.approx(2.5)


def test_prices_can_be_switched_off(spans: Any) -> None:
    """No cost, usage all the same."""
    _config.set_config(_config.GenAiConfig(prices=False))
    found = _attributes(spans, input_tokens=10, output_tokens=10)
    assert semconv.GEN_AI_USAGE_COST not in found
    assert semconv.LANGFUSE_OBSERVATION_USAGE_DETAILS in found


def test_impossible_figures_are_left_out(spans: Any) -> None:
    """Negative, fractional, textual and infinite figures are no figures."""
    found = _attributes(
        spans,
        input_tokens=-1,
        output_tokens=2.5,
        cached_tokens="many",
        reasoning_tokens=True,
        cost_usd=float("nan"),
    )
    assert not [key for key in found if key.startswith("gen_ai.usage")]


def test_a_price_list_that_does_not_load_in_time_is_waited_for_once(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Spans wait until a second after the load began, later ones not at all; nothing fails."""
    import time

    stuck = pricelist.PriceList()
    monkeypatch.setattr(stuck, "_load", lambda: None)  # a loader that never gets there
    begin = time.perf_counter()
    assert stuck.module() is None
    first = time.perf_counter() - begin
    begin = time.perf_counter()
    assert stuck.module() is None
    assert time.perf_counter() - begin < 0.1
    assert 0.9 <= first < 2.0


def test_importing_the_helpers_does_not_load_the_price_list() -> None:
    """`genai_prices` and pydantic come with the first model call, in the background."""
    code = (
        "import sys, otelbridge.genai;"
        "assert 'genai_prices' not in sys.modules and 'pydantic' not in sys.modules;"
        "assert 'openai' not in sys.modules and 'anthropic' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", code], check=True, timeout=30)
