"""Sixty invoices: five providers, twelve calls each, against arithmetic that is written out here.

The price tables are the providers' list prices in USD per million tokens as of 2026-10-14:
openai.com/api/pricing, anthropic.com/pricing, ai.google.dev/gemini-api/docs/pricing,
aws.amazon.com/bedrock/pricing, mistral.ai/pricing. A case gives the attributes of a span as some
emitter writes them, and the lines of its invoice: tokens and the name of a price in the table.
"""

from __future__ import annotations

from dataclasses import dataclass
from decimal import Decimal
from typing import Any

import pytest

from otelbridge import semconv as s
from otelbridge.cost.spans import cost_changes

#: 2026-11-15, 12:00 UTC.
CALLED_AT_NS = 1_794_744_000 * 10**9
MILLION = Decimal(1_000_000)

OPENAI = {
    "gpt-4o": {"in": "2.50", "cached": "1.25", "out": "10"},
    "gpt-4o batch": {"in": "1.25", "out": "5"},
    "gpt-4o-mini": {"in": "0.15", "cached": "0.075", "out": "0.60"},
    "gpt-4.1": {"in": "2", "cached": "0.50", "out": "8"},
    "gpt-5": {"in": "1.25", "cached": "0.125", "out": "10"},
    "gpt-5 flex": {"in": "0.625", "cached": "0.0625", "out": "5"},
    "gpt-5 priority": {"in": "2.50", "cached": "0.25", "out": "20"},
    "gpt-5.4": {"in": "2.50", "in long": "5", "out": "15", "out long": "22.50"},
    "o4-mini": {"in": "1.10", "cached": "0.275", "out": "4.40"},
    "gpt-audio": {"in": "2.50", "audio in": "32", "out": "10", "audio out": "64"},
    "text-embedding-3-small": {"in": "0.02"},
}
ANTHROPIC = {
    "claude-sonnet-4-5": {"in": "3", "cached": "0.30", "5m": "3.75", "1h": "6", "out": "15"},
    "claude-sonnet-4-5 long": {"in": "6", "cached": "0.60", "5m": "7.50", "out": "22.50"},
    "claude-sonnet-4-5 batch": {"in": "1.50", "out": "7.50"},
    "claude-opus-4-1": {"in": "15", "cached": "1.50", "5m": "18.75", "1h": "30", "out": "75"},
    "claude-haiku-4-5": {"in": "1", "cached": "0.10", "5m": "1.25", "1h": "2", "out": "5"},
}
GOOGLE = {
    "gemini-2.5-pro": {"in": "1.25", "cached": "0.125", "out": "10"},
    "gemini-2.5-pro long": {"in": "2.50", "cached": "0.25", "out": "15"},
    "gemini-2.5-pro batch": {"in": "0.625", "out": "5"},
    "gemini-2.5-flash": {"in": "0.30", "audio in": "1", "cached": "0.03", "out": "2.50"},
    "gemini-2.5-flash batch": {"in": "0.15", "out": "1.25"},
    "gemini-2.5-flash-lite": {"in": "0.10", "audio in": "0.30", "cached": "0.01", "out": "0.40"},
    "gemini-embedding-001": {"in": "0.15"},
}
BEDROCK = {
    # Profiles of one region cost a tenth more than the global one, from Claude 4.5 on.
    "sonnet-4-5 global": {"in": "3", "cached": "0.30", "5m": "3.75", "1h": "6", "out": "15"},
    "sonnet-4-5 us": {"in": "3.30", "cached": "0.33", "5m": "4.125", "1h": "6.60", "out": "16.50"},
    "haiku-4-5 eu": {"in": "1.10", "cached": "0.11", "5m": "1.375", "out": "5.50"},
    "claude-3-haiku": {"in": "0.25", "out": "1.25"},
    "nova-pro": {"in": "0.80", "cached": "0.20", "out": "3.20"},
    "nova-lite": {"in": "0.06", "cached": "0.015", "out": "0.24"},
    "nova-micro": {"in": "0.035", "cached": "0.00875", "out": "0.14"},
    "llama3-70b": {"in": "2.65", "out": "3.50"},
    "titan-embed-v2": {"in": "0.02"},
}
MISTRAL = {
    "mistral-large-2411": {"in": "2", "out": "6"},
    "mistral-medium": {"in": "1.50", "cached": "0.15", "out": "7.50"},
    "mistral-medium batch": {"in": "0.75", "cached": "0.075", "out": "3.75"},
    "mistral-small": {"in": "0.15", "cached": "0.015", "out": "0.60"},
    "codestral": {"in": "0.30", "out": "0.90"},
    "codestral batch": {"in": "0.15", "out": "0.45"},
    "ministral-8b": {"in": "0.15", "cached": "0.015", "out": "0.15"},
    "mistral-nemo": {"in": "0.15", "out": "0.15"},
    "mistral-embed": {"in": "0.10"},
}


@dataclass(frozen=True)
class Case:
    """A span and its invoice."""

    attributes: dict[str, Any]
    table: dict[str, str]
    lines: tuple[tuple[int, str], ...]

    def invoice_usd(self) -> Decimal:
        return sum(
            (tokens * Decimal(self.table[price]) / MILLION for tokens, price in self.lines),
            Decimal(0),
        )


def chat(provider: str, model: str, **more: Any) -> dict[str, Any]:
    """A span by the conventions; `more` are short names of further attributes."""
    operation = more.pop("operation", "chat")
    span: dict[str, Any] = {
        s.GEN_AI_OPERATION_NAME: operation,
        s.GEN_AI_PROVIDER_NAME: provider,
        s.GEN_AI_REQUEST_MODEL: model,
    }
    names = {
        "i": s.GEN_AI_USAGE_INPUT_TOKENS,
        "o": s.GEN_AI_USAGE_OUTPUT_TOKENS,
        "cached": s.GEN_AI_USAGE_CACHE_READ_INPUT_TOKENS,
        "written": s.GEN_AI_USAGE_CACHE_WRITE_INPUT_TOKENS,
        "hour": s.CACHE_WRITE_1H_TOKENS,
        "reasoning": s.GEN_AI_USAGE_REASONING_OUTPUT_TOKENS,
        "audio_i": s.GEN_AI_USAGE_AUDIO_INPUT_TOKENS,
        "audio_o": s.GEN_AI_USAGE_AUDIO_OUTPUT_TOKENS,
        "total": s.GEN_AI_USAGE_TOTAL_TOKENS,
        "answered": s.GEN_AI_RESPONSE_MODEL,
        "tier": s.OPENAI_RESPONSE_SERVICE_TIER,
        "processing": s.COST_PROCESSING,
    }
    return span | {names[name]: value for name, value in more.items()}


def case(table: dict[str, str], attributes: dict[str, Any], *lines: tuple[int, str]) -> Case:
    return Case(attributes, table, lines)


def openinference(provider: str, model: str, **counts: int) -> dict[str, Any]:
    """A span of OpenInference; a double underscore is a dot."""
    return {
        "openinference.span.kind": "LLM",
        "llm.provider": provider,
        "llm.model_name": model,
    } | {f"llm.token_count.{name.replace('__', '.')}": count for name, count in counts.items()}


CASES: dict[str, list[Case]] = {
    "openai": [
        case(OPENAI["gpt-4o"], chat("openai", "gpt-4o", i=1203, o=1644),
             (1203, "in"), (1644, "out")),
        case(OPENAI["gpt-4o"],
             chat("openai", "gpt-4o", answered="gpt-4o-2024-08-06", i=52_000, o=731, cached=49_152),
             (52_000 - 49_152, "in"), (49_152, "cached"), (731, "out")),
        case(OPENAI["gpt-4o-mini"],
             openinference("openai", "gpt-4o-mini", prompt=8_117, completion=402,
                           prompt_details__cache_read=4_096),
             (8_117 - 4_096, "in"), (4_096, "cached"), (402, "out")),
        case(OPENAI["gpt-4.1"],
             {"gen_ai.system": "openai", "llm.request.type": "chat", "gen_ai.request.model":
              "gpt-4.1", "gen_ai.usage.prompt_tokens": 310, "gen_ai.usage.completion_tokens": 95},
             (310, "in"), (95, "out")),
        case(OPENAI["gpt-5"], chat("openai", "gpt-5", i=2_000, o=9_000, reasoning=8_128),
             (2_000, "in"), (9_000, "out")),
        case(OPENAI["gpt-5 flex"], chat("openai", "gpt-5", i=90_000, o=4_000, cached=30_000,
                                        tier="flex"),
             (60_000, "in"), (30_000, "cached"), (4_000, "out")),
        case(OPENAI["gpt-5 priority"], chat("openai", "gpt-5", i=1_500, o=700, tier="priority"),
             (1_500, "in"), (700, "out")),
        case(OPENAI["gpt-4o batch"], chat("openai", "gpt-4o", i=400_000, o=20_000,
                                          processing="batch"),
             (400_000, "in"), (20_000, "out")),
        case(OPENAI["gpt-5.4"], chat("openai", "gpt-5.4", i=300_000, o=2_000),
             (300_000, "in long"), (2_000, "out long")),
        case(OPENAI["gpt-5.4"], chat("openai", "gpt-5.4", i=272_000, o=2_000),
             (272_000, "in"), (2_000, "out")),
        case(OPENAI["gpt-audio"],
             chat("openai", "gpt-audio", i=5_000, o=1_200, audio_i=4_400, audio_o=900),
             (600, "in"), (4_400, "audio in"), (300, "out"), (900, "audio out")),
        case(OPENAI["text-embedding-3-small"],
             chat("openai", "text-embedding-3-small", operation="embeddings", i=812_345),
             (812_345, "in")),
    ],
    "anthropic": [
        case(ANTHROPIC["claude-sonnet-4-5"],
             chat("anthropic", "claude-sonnet-4-5-20250929", i=1_024, o=512),
             (1_024, "in"), (512, "out")),
        # By the conventions: input with its cached parts.
        case(ANTHROPIC["claude-sonnet-4-5"],
             chat("anthropic", "claude-sonnet-4-5", i=80_000, o=900, cached=40_000, written=30_000),
             (10_000, "in"), (40_000, "cached"), (30_000, "5m"), (900, "out")),
        # As Anthropic's API counts: input without them, known by being smaller.
        case(ANTHROPIC["claude-sonnet-4-5"],
             chat("anthropic", "claude-sonnet-4-5", i=210, o=900, cached=40_000, written=3_000),
             (210, "in"), (40_000, "cached"), (3_000, "5m"), (900, "out")),
        # Likewise, known by the sum of all tokens.
        case(ANTHROPIC["claude-haiku-4-5"],
             chat("anthropic", "claude-haiku-4-5", i=9_000, o=800, cached=5_000, total=14_800),
             (9_000, "in"), (5_000, "cached"), (800, "out")),
        case(ANTHROPIC["claude-haiku-4-5"],
             chat("anthropic", "claude-haiku-4-5-20251001", i=9_000, o=800, cached=5_000,
                  total=9_800),
             (4_000, "in"), (5_000, "cached"), (800, "out")),
        case(ANTHROPIC["claude-sonnet-4-5"],
             chat("anthropic", "claude-sonnet-4-5", i=50_000, o=300, written=45_000, hour=45_000),
             (5_000, "in"), (45_000, "1h"), (300, "out")),
        case(ANTHROPIC["claude-opus-4-1"],
             chat("anthropic", "claude-opus-4-1-20250805", i=60_000, o=2_500, cached=20_000,
                  written=30_000, hour=10_000),
             (10_000, "in"), (20_000, "cached"), (20_000, "5m"), (10_000, "1h"), (2_500, "out")),
        case(ANTHROPIC["claude-sonnet-4-5 long"],
             chat("anthropic", "claude-sonnet-4-5", i=250_000, o=1_000, cached=100_000),
             (150_000, "in"), (100_000, "cached"), (1_000, "out")),
        case(ANTHROPIC["claude-sonnet-4-5"],
             chat("anthropic", "claude-sonnet-4-5", i=200_000, o=1_000),
             (200_000, "in"), (1_000, "out")),
        case(ANTHROPIC["claude-sonnet-4-5 batch"],
             chat("anthropic", "claude-sonnet-4-5", i=123_456, o=7_890, processing="batch"),
             (123_456, "in"), (7_890, "out")),
        case(ANTHROPIC["claude-opus-4-1"],
             openinference("anthropic", "claude-opus-4-1", prompt=15_000, completion=4_000,
                           prompt_details__cache_read=12_000, prompt_details__cache_write=2_000),
             (1_000, "in"), (12_000, "cached"), (2_000, "5m"), (4_000, "out")),
        case(ANTHROPIC["claude-haiku-4-5"],
             {"gen_ai.system": "Anthropic", "gen_ai.request.model": "claude-haiku-4-5",
              "llm.request.type": "chat", "gen_ai.usage.input_tokens": "700",
              "gen_ai.usage.output_tokens": "41", "gen_ai.usage.cache_read_input_tokens": 600},
             (100, "in"), (600, "cached"), (41, "out")),
    ],
    "google": [
        case(GOOGLE["gemini-2.5-pro"], chat("gcp.gemini", "gemini-2.5-pro", i=4_321, o=1_234),
             (4_321, "in"), (1_234, "out")),
        case(GOOGLE["gemini-2.5-pro"],
             chat("gcp.gemini", "models/gemini-2.5-pro", operation="generate_content", i=150_000,
                  o=3_000, cached=120_000, reasoning=2_100),
             (30_000, "in"), (120_000, "cached"), (3_000, "out")),
        case(GOOGLE["gemini-2.5-pro long"],
             chat("gcp.vertex_ai", "gemini-2.5-pro", i=200_001, o=10_000, cached=50_000),
             (150_001, "in"), (50_000, "cached"), (10_000, "out")),
        case(GOOGLE["gemini-2.5-pro"], chat("gcp.vertex_ai", "gemini-2.5-pro", i=200_000, o=10_000),
             (200_000, "in"), (10_000, "out")),
        case(GOOGLE["gemini-2.5-flash"], chat("gemini", "gemini-2.5-flash", i=77_777, o=888),
             (77_777, "in"), (888, "out")),
        case(GOOGLE["gemini-2.5-flash"],
             chat("gcp.gemini", "gemini-2.5-flash", i=30_000, o=500, audio_i=28_000),
             (2_000, "in"), (28_000, "audio in"), (500, "out")),
        case(GOOGLE["gemini-2.5-flash"],
             chat("gcp.gemini", "gemini-2.5-flash", i=30_000, o=500, audio_i=20_000, cached=4_000),
             (6_000, "in"), (4_000, "cached"), (20_000, "audio in"), (500, "out")),
        case(GOOGLE["gemini-2.5-flash-lite"],
             chat("vertex_ai",
                  "projects/p/locations/us-central1/publishers/google/models/gemini-2.5-flash-lite",
                  i=1_000_000, o=65_000),
             (1_000_000, "in"), (65_000, "out")),
        case(GOOGLE["gemini-2.5-flash-lite"],
             chat("gcp.gemini", "gemini-2.5-flash-lite", i=12_000, o=64, cached=8_192),
             (3_808, "in"), (8_192, "cached"), (64, "out")),
        case(GOOGLE["gemini-2.5-flash batch"],
             chat("gcp.gemini", "gemini-2.5-flash", i=640_000, o=32_000, processing="batch"),
             (640_000, "in"), (32_000, "out")),
        case(GOOGLE["gemini-2.5-pro batch"],
             chat("gcp.gemini", "gemini-2.5-pro", i=64_000, o=3_200, processing="batch"),
             (64_000, "in"), (3_200, "out")),
        case(GOOGLE["gemini-embedding-001"],
             openinference("google", "gemini-embedding-001", prompt=44_000)
             | {"openinference.span.kind": "EMBEDDING"},
             (44_000, "in")),
    ],
    "bedrock": [
        case(BEDROCK["sonnet-4-5 global"],
             chat("aws.bedrock", "global.anthropic.claude-sonnet-4-5-20250929-v1:0", i=3_000,
                  o=450),
             (3_000, "in"), (450, "out")),
        case(BEDROCK["sonnet-4-5 us"],
             chat("aws.bedrock", "us.anthropic.claude-sonnet-4-5-20250929-v1:0", i=3_000, o=450),
             (3_000, "in"), (450, "out")),
        # Converse counts input without its cached parts.
        case(BEDROCK["sonnet-4-5 us"],
             chat("aws.bedrock", "us.anthropic.claude-sonnet-4-5-20250929-v1:0", i=700, o=450,
                  cached=9_000, written=1_500),
             (700, "in"), (9_000, "cached"), (1_500, "5m"), (450, "out")),
        case(BEDROCK["sonnet-4-5 us"],
             chat("aws.bedrock", "us.anthropic.claude-sonnet-4-5-20250929-v1:0",
                  answered="anthropic.claude-sonnet-4-5-20250929-v1:0", i=12_000, o=100,
                  written=10_000, hour=10_000),
             (2_000, "in"), (10_000, "1h"), (100, "out")),
        case(BEDROCK["haiku-4-5 eu"],
             chat("aws.bedrock", "arn:aws:bedrock:eu-west-1:123456789012:inference-profile/"
                  "eu.anthropic.claude-haiku-4-5-20251001-v1:0", i=5_500, o=1_100),
             (5_500, "in"), (1_100, "out")),
        case(BEDROCK["claude-3-haiku"],
             chat("aws.bedrock", "anthropic.claude-3-haiku-20240307-v1:0", i=99_999, o=4_096),
             (99_999, "in"), (4_096, "out")),
        case(BEDROCK["nova-pro"], chat("aws.bedrock", "us.amazon.nova-pro-v1:0", i=40_000, o=2_000,
                                       cached=30_000),
             (10_000, "in"), (30_000, "cached"), (2_000, "out")),
        case(BEDROCK["nova-lite"], chat("aws.bedrock", "amazon.nova-lite-v1:0", i=123, o=45),
             (123, "in"), (45, "out")),
        case(BEDROCK["nova-micro"], openinference("aws", "amazon.nova-micro-v1:0", prompt=600_000,
                                                  completion=8_000),
             (600_000, "in"), (8_000, "out")),
        case(BEDROCK["llama3-70b"], chat("aws.bedrock", "meta.llama3-70b-instruct-v1:0", i=7_000,
                                         o=1_000),
             (7_000, "in"), (1_000, "out")),
        case(BEDROCK["nova-lite"],
             chat("bedrock", "bedrock/amazon.nova-lite-v1:0", i=20_000, o=900),
             (20_000, "in"), (900, "out")),
        case(BEDROCK["titan-embed-v2"],
             chat("aws.bedrock", "amazon.titan-embed-text-v2:0", operation="embeddings", i=55_555),
             (55_555, "in")),
    ],
    "mistral": [
        case(MISTRAL["mistral-large-2411"], chat("mistral_ai", "mistral-large-2411", i=900, o=333),
             (900, "in"), (333, "out")),
        case(MISTRAL["mistral-medium"],
             chat("mistral_ai", "mistral-medium-latest", i=10_000, o=1_000),
             (10_000, "in"), (1_000, "out")),
        case(MISTRAL["mistral-medium"],
             chat("mistral_ai", "mistral-medium-latest", i=10_000, o=1_000, cached=6_000),
             (4_000, "in"), (6_000, "cached"), (1_000, "out")),
        case(MISTRAL["mistral-medium batch"],
             chat("mistral_ai", "mistral-medium-latest", i=100_000, o=10_000, processing="batch"),
             (100_000, "in"), (10_000, "out")),
        case(MISTRAL["mistral-small"],
             openinference("mistralai", "mistral-small-latest", prompt=2_468, completion=1_357),
             (2_468, "in"), (1_357, "out")),
        case(MISTRAL["codestral"], chat("mistral_ai", "codestral-latest", i=31_000, o=210),
             (31_000, "in"), (210, "out")),
        case(MISTRAL["codestral"],
             chat("mistral_ai", "mistral/codestral-latest", operation="text_completion", i=64, o=8),
             (64, "in"), (8, "out")),
        case(MISTRAL["codestral batch"],
             chat("mistral_ai", "codestral-latest", i=31_000, o=210, processing="batch"),
             (31_000, "in"), (210, "out")),
        case(MISTRAL["ministral-8b"], chat("mistral_ai", "ministral-8b-latest", i=5_000, o=5_000),
             (5_000, "in"), (5_000, "out")),
        case(MISTRAL["mistral-nemo"], chat("mistral", "open-mistral-nemo", i=128_000, o=1),
             (128_000, "in"), (1, "out")),
        case(MISTRAL["mistral-small"],
             chat("mistral_ai", "mistral-small-latest", i=3_000, o=100, cached=2_999),
             (1, "in"), (2_999, "cached"), (100, "out")),
        case(MISTRAL["mistral-embed"],
             chat("mistral_ai", "mistral-embed", operation="embeddings", i=71_000),
             (71_000, "in")),
    ],
}  # fmt: skip
ALL = [
    pytest.param(one, id=f"{provider}-{number}")
    for provider, cases in CASES.items()
    for number, one in enumerate(cases, 1)
]


def test_there_are_five_providers_with_twelve_invoices_each() -> None:
    """The corpus is as large as it is said to be, and no invoice is free."""
    assert [len(cases) for cases in CASES.values()] == [12] * 5
    assert all(one.invoice_usd() > 0 for cases in CASES.values() for one in cases)


@pytest.mark.parametrize("one", ALL)
def test_the_span_costs_what_the_invoice_says(one: Case) -> None:
    """Within a tenth of a per cent, and from the list, with its version and date."""
    found = cost_changes(one.attributes, CALLED_AT_NS)
    expected = one.invoice_usd()
    assert abs(Decimal(found[s.GEN_AI_USAGE_COST]) - expected) <= expected / 1000
    assert found[s.COST_SOURCE].startswith("genai-prices ")
    assert "2026-01-01" < found[s.COST_DATE] < "2100"
