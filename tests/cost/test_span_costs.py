"""Costs of spans that otelbridge did not make, on their way out; names of models and providers."""

from __future__ import annotations

import json
import logging
import re
from pathlib import Path
from typing import Any

import pytest
from opentelemetry import trace
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

import otelbridge
from otelbridge import genai
from otelbridge import semconv as s
from otelbridge.cost import pricelist, pricing
from otelbridge.cost.custom import read_prices_file
from otelbridge.cost.names import model_names, same_model
from otelbridge.cost.pricing import PricedCall, cost_of
from otelbridge.cost.spans import cost_changes, read_usage
from otelbridge.cost.usage import Usage
from otelbridge.genai.responses import read_usage as read_answer_usage
from otelbridge.processors.pricing import priced

MILLION = 1_000_000
GUIDE = Path(__file__).parents[2] / "docs" / "cost.md"


def chat(provider: str = "openai", model: str = "gpt-4o", **more: Any) -> dict[str, Any]:
    """A million input tokens."""
    return {
        s.GEN_AI_OPERATION_NAME: "chat",
        s.GEN_AI_PROVIDER_NAME: provider,
        s.GEN_AI_REQUEST_MODEL: model,
        s.GEN_AI_USAGE_INPUT_TOKENS: MILLION,
        **more,
    }


@pytest.fixture
def exported(monkeypatch: pytest.MonkeyPatch) -> InMemorySpanExporter:
    """What `configure()` sends to a Collector."""
    memory = InMemorySpanExporter()
    monkeypatch.setattr("otelbridge.exporters.stock.span_exporter", lambda settings: memory)
    return memory


def test_the_export_path_prices_what_other_libraries_record(
    exported: InMemorySpanExporter,
) -> None:
    """After configure(), any tracer's model call has a cost, other spans stay as they are."""
    otelbridge.configure(instrument=False, exporter="stock")
    tracer = trace.get_tracer("opentelemetry.instrumentation.genai.openai")
    with tracer.start_as_current_span("chat gpt-4o", attributes=chat()):
        pass
    with tracer.start_as_current_span("GET /"):
        pass
    assert otelbridge.shutdown(timeout_seconds=20)
    call, other = exported.get_finished_spans()
    assert (call.attributes or {})[s.GEN_AI_USAGE_COST] == pytest.approx(2.5)
    assert s.COST_SOURCE not in (other.attributes or {})


def test_a_span_gets_figure_details_source_and_date() -> None:
    """All that the stores and an auditor need."""
    found = cost_changes(chat(**{s.GEN_AI_USAGE_OUTPUT_TOKENS: MILLION}))
    assert found[s.GEN_AI_USAGE_COST] == pytest.approx(12.5)
    details = json.loads(found[s.LANGFUSE_OBSERVATION_COST_DETAILS])
    assert details == pytest.approx({"total": 12.5, "input": 2.5, "output": 10.0})
    assert re.fullmatch(r"genai-prices \d+\.\d+\.\d+", found[s.COST_SOURCE])
    assert re.fullmatch(r"\d{4}-\d\d-\d\d", found[s.COST_DATE])


@pytest.mark.parametrize(
    "attributes",
    [
        {},
        {"http.route": "/"},
        {s.GEN_AI_OPERATION_NAME: "chat", s.GEN_AI_REQUEST_MODEL: "gpt-4o"},
        chat() | {s.GEN_AI_OPERATION_NAME: "invoke_agent"},
        chat() | {s.GEN_AI_OPERATION_NAME: "execute_tool"},
        chat() | {s.COST_COUNTED_BY: "caller"},
        chat() | {s.COST_SOURCE: "caller", s.GEN_AI_USAGE_COST: 1.0},
        chat() | {s.GEN_AI_USAGE_INPUT_TOKENS: "many"},
        chat() | {s.GEN_AI_USAGE_INPUT_TOKENS: -5},
    ],
)
def test_what_has_no_cost_of_its_own_gets_none(attributes: dict[str, Any]) -> None:
    """No call, no usage, a sum of calls below, counted elsewhere, or priced before."""
    assert cost_changes(attributes) == {}


def test_an_emitters_own_figure_is_believed() -> None:
    """LiteLLM knows the deployment behind an alias."""
    found = cost_changes(chat("litellm", "team-smart") | {"gen_ai.cost.total_cost": 0.25,
                                                         "hidden_params": "{}"})  # fmt: skip
    assert found[s.GEN_AI_USAGE_COST] == 0.25
    assert found[s.COST_SOURCE] == "emitter"


@pytest.mark.parametrize("figure", [-1.0, float("nan"), 1e12, True, "much"])
def test_an_impossible_figure_is_not_believed(figure: Any) -> None:
    """The list decides then."""
    found = cost_changes(chat() | {s.GEN_AI_USAGE_COST: figure})
    assert found[s.GEN_AI_USAGE_COST] == pytest.approx(2.5)


def test_an_unknown_model_has_no_cost_and_one_warning(
    caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It names the model, the provider and the file that could price it."""
    monkeypatch.setattr(pricing._state, "warned", set())
    with caplog.at_level(logging.WARNING, logger="otelbridge"):
        for _ in range(3):
            assert cost_changes(chat("openai", "house-model-9")) == {}
    [record] = caplog.records
    assert "house-model-9" in record.getMessage()
    assert "OTELBRIDGE_PRICES_FILE" in record.getMessage()


def test_a_cached_answer_is_free() -> None:
    """Marked by `otelbridge.cached`, whoever made the span."""
    found = cost_changes(chat() | {s.CACHED: True})
    assert (found[s.GEN_AI_USAGE_COST], found[s.COST_SOURCE]) == (0.0, "cache")


def test_input_without_its_cached_part_is_completed_on_the_span() -> None:
    """So that Langfuse's token counts are right as well."""
    exclusive = {s.GEN_AI_USAGE_INPUT_TOKENS: 10, s.GEN_AI_USAGE_OUTPUT_TOKENS: 5}
    cached = {s.GEN_AI_USAGE_CACHE_READ_INPUT_TOKENS: 90}
    found = cost_changes(chat("anthropic", "claude-sonnet-4-5", **exclusive, **cached))
    assert found[s.GEN_AI_USAGE_INPUT_TOKENS] == 100
    inclusive = {s.GEN_AI_USAGE_INPUT_TOKENS: 100}
    found = cost_changes(chat("anthropic", "claude-sonnet-4-5", **inclusive, **cached))
    assert s.GEN_AI_USAGE_INPUT_TOKENS not in found


def test_the_sum_of_all_tokens_tells_what_input_means() -> None:
    """1,000 input and 400 cached of 1,410: without; of 1,010: with."""
    counts = {
        s.GEN_AI_USAGE_INPUT_TOKENS: 1000,
        s.GEN_AI_USAGE_OUTPUT_TOKENS: 10,
        s.GEN_AI_USAGE_CACHE_READ_INPUT_TOKENS: 400,
    }
    total = s.GEN_AI_USAGE_TOTAL_TOKENS
    assert read_usage(counts | {total: 1410}).input_tokens == 1400
    assert read_usage(counts | {total: 1010}).input_tokens == 1000
    assert read_usage(counts).input_tokens == 1000


@pytest.mark.parametrize(
    ("provider", "model", "usd"),
    [
        ("azure.ai.openai", "gpt-4o", 2.5),
        ("azure", "gpt-4.1", 2.0),
        ("gcp.vertex_ai", "claude-sonnet-4-5@20250929", 6.0),
        ("gcp.gemini", "models/gemini-2.5-flash", 0.3),
        ("x_ai", "grok-3", 3.0),
        ("deepseek", "deepseek-reasoner", None),
        ("groq", "llama-3.3-70b-versatile", 0.59),
        ("openrouter", "openai/gpt-4o", 2.5),
        ("together_ai", "meta-llama/Llama-3.3-70B-Instruct-Turbo", 0.88),
        ("litellm", "openai/gpt-4o", 2.5),
        ("openai", "openai/gpt-4o", 2.5),
        ("openai", "gpt-4o-20240806", 2.5),
        ("", "gpt-4o", 2.5),
        ("strands-agents", "gpt-4o", 2.5),
        ("ollama", "gpt-4o", False),
        ("", "gpt-oss-120b", False),
        ("", "llama-3.3-70b", False),
    ],
)
def test_providers_and_models_are_found_by_many_names(
    provider: str, model: str, usd: float | bool | None
) -> None:
    """None: some price; False: none, because nobody says whose model it is."""
    found = cost_changes(chat(provider, model)).get(s.GEN_AI_USAGE_COST)
    if usd is False:
        assert found is None
    elif usd is None:
        assert found > 0
    else:
        assert found == pytest.approx(usd)


def test_an_api_that_speaks_another_ones_is_known_by_its_address() -> None:
    """The openai package with the base URL of Groq."""
    spans = chat("openai", "llama-3.3-70b-versatile") | {s.SERVER_ADDRESS: "api.groq.com"}
    assert cost_changes(spans)[s.GEN_AI_USAGE_COST] == pytest.approx(0.59)


def test_the_price_of_the_day_of_the_call_counts() -> None:
    """o3 became cheaper on 2025-06-10."""
    before, after = 1_748_000_000 * 10**9, 1_751_000_000 * 10**9
    assert cost_changes(chat("openai", "o3"), before)[s.GEN_AI_USAGE_COST] == pytest.approx(10.0)
    assert cost_changes(chat("openai", "o3"), after)[s.GEN_AI_USAGE_COST] == pytest.approx(2.0)


def test_a_path_and_a_region_are_taken_off_a_name_step_by_step() -> None:
    """As given first: a region may have a price of its own."""
    arn = "arn:aws:bedrock:eu-west-1:1:inference-profile/eu.anthropic.claude-x-20250101-v1:0"
    assert model_names("aws.bedrock", arn) == [
        arn,
        "eu.anthropic.claude-x-20250101-v1:0",
        "anthropic.claude-x-20250101-v1:0",
        "anthropic.claude-x-20250101",
        "anthropic.claude-x",
    ]
    assert same_model("openai/gpt-4o", "gpt-4o-2024-08-06")
    assert not same_model("gpt-4o", "gpt-4o-mini")


def test_the_answer_of_a_provider_is_read_to_its_finest_tokens() -> None:
    """Audio of OpenAI, one-hour cache writes of Anthropic."""
    openai = read_answer_usage(
        {
            "prompt_tokens": 100,
            "completion_tokens": 50,
            "prompt_tokens_details": {"audio_tokens": 80},
            "completion_tokens_details": {"audio_tokens": 30},
        }
    )
    assert (openai.audio_input_tokens, openai.audio_output_tokens) == (80, 30)
    anthropic = read_answer_usage(
        {
            "input_tokens": 10,
            "output_tokens": 5,
            "cache_creation_input_tokens": 30,
            "cache_creation": {"ephemeral_5m_input_tokens": 20, "ephemeral_1h_input_tokens": 10},
        }
    )
    assert anthropic.input_tokens == 40
    assert (anthropic.cache_write_tokens, anthropic.cache_write_1h_tokens) == (30, 10)


def test_a_helper_prices_tier_and_batch(exported: InMemorySpanExporter) -> None:
    """The tier of the answer, streamed or whole; the batch as it is said."""
    otelbridge.configure(instrument=False, exporter="stock")
    usage = {"prompt_tokens": MILLION, "completion_tokens": 0}
    with genai.chat("gpt-5", provider="openai") as call:
        call.record({"choices": [{}], "usage": usage, "service_tier": "priority"})
    with genai.chat("gpt-5", provider="openai") as call:
        chunk = {"object": "chat.completion.chunk", "choices": [], "service_tier": "priority"}
        list(call.stream([chunk | {"usage": usage}]))
    with genai.chat("gpt-4o", provider="openai") as call:
        call.set_usage(input_tokens=MILLION, output_tokens=0, batch=True)
    assert otelbridge.shutdown(timeout_seconds=20)
    costs = [(a.attributes or {})[s.GEN_AI_USAGE_COST] for a in exported.get_finished_spans()]
    assert costs == [pytest.approx(2.5), pytest.approx(2.5), pytest.approx(1.25)]


def test_prices_off_leaves_what_others_say() -> None:
    """Neither list nor file; the emitter's own figure stays."""
    pricing.set_prices(enabled=False)
    try:
        assert cost_changes(chat()) == {}
        stated = cost_changes(chat() | {s.GEN_AI_USAGE_COST: 0.5})
    finally:
        pricing.set_prices()
    assert stated[s.COST_SOURCE] == "emitter"


def test_a_span_that_cannot_be_priced_leaves_as_it_is(
    monkeypatch: pytest.MonkeyPatch, swallow_errors: None
) -> None:
    """A fault in pricing costs no span."""
    from opentelemetry.sdk.trace import ReadableSpan

    def broken(attributes: Any, start_time_ns: Any) -> Any:
        raise RuntimeError("broken")

    monkeypatch.setattr("otelbridge.processors.pricing.cost_changes", broken)
    span = ReadableSpan("chat", attributes=chat())
    assert priced(span) is span


def test_counts_that_contradict_each_other_are_priced_without_the_finer_ones() -> None:
    """More audio than input: the total counts."""
    usage = Usage(1_000_000, 0, audio_input_tokens=2_000_000)
    found = cost_of(PricedCall("openai", ("gpt-audio",), usage))
    assert found is not None
    assert found.total_usd == pytest.approx(2.5)


def test_the_list_says_how_old_it_is() -> None:
    """Not after today, and not before the package began."""
    from datetime import UTC, datetime

    prices = pricelist.current()
    assert prices.module() is not None
    assert "2026-01-01" < prices.date <= datetime.now(tz=UTC).date().isoformat()


def test_the_example_of_the_guide_is_a_file_that_works(tmp_path: Path) -> None:
    """docs/cost.md."""
    [example] = re.findall(r"```toml\n(.*?)```", GUIDE.read_text(encoding="utf-8"), re.DOTALL)
    path = tmp_path / "prices.toml"
    path.write_text(example, encoding="utf-8")
    prices = read_prices_file(str(path))
    assert [entry.provider for entry in prices.entries] == ["ollama", "vllm", "openai"]
    assert prices.date == "2026-11-01"
