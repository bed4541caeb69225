"""Prices of one's own: what a file may say, what it costs then, and what is wrong on which line."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest

import otelbridge
from otelbridge import genai
from otelbridge import semconv as s
from otelbridge.cost import pricing
from otelbridge.cost.custom import read_prices_file
from otelbridge.cost.pricing import PricedCall, cost_of
from otelbridge.cost.spans import cost_changes
from otelbridge.cost.usage import Usage
from otelbridge.errors import ConfigError

FULL = """\
as_of = 2026-11-01
currency = "USD"

[[price]]
provider = "ollama"
model = "*"
input = 0
output = 0

[[price]]
provider = "vllm"
model = "llama-3.3-70b*"
input = 0.20
output = 0.60
cached_input = 0.02
cache_write = 0.25
cache_write_1h = 0.40
reasoning = 0.70
audio_input = 1.5
audio_output = 3
request = 0.001

[[price]]
provider = "openai"
model = "gpt-4o*"
factor = 0.85

[[price]]
provider = "search"
model = "rank"
request = 0.002

[[price]]
model = "plain"
input = 1
output = 2
"""

Write = Callable[[str], str]


@pytest.fixture
def prices_file(tmp_path: Path) -> Write:
    """Writes a file and gives its path."""

    def write(text: str) -> str:
        path = tmp_path / "prices.toml"
        path.write_text(text, encoding="utf-8")
        return str(path)

    return write


@pytest.fixture
def full(prices_file: Write) -> Iterator[None]:
    """The prices of FULL are in use."""
    pricing.set_prices(custom=read_prices_file(prices_file(FULL)))
    yield
    pricing.set_prices()


def usd(provider: str, model: str, usage: Usage, **more: Any) -> float | None:
    """What a call costs."""
    found = cost_of(PricedCall(provider, (model,), usage, **more))
    return None if found is None else found.total_usd


@pytest.mark.usefixtures("full")
def test_every_kind_of_token_has_its_price() -> None:
    """Parts are taken out of the totals; a call has a price of its own beside."""
    usage = Usage(
        input_tokens=100_000,
        output_tokens=50_000,
        cached_tokens=30_000,
        cache_write_tokens=20_000,
        reasoning_tokens=10_000,
        cache_write_1h_tokens=5_000,
        audio_input_tokens=8_000,
        audio_output_tokens=4_000,
    )
    expected = (
        Decimal(42000) * Decimal("0.20")
        + Decimal(30000) * Decimal("0.02")
        + Decimal(15000) * Decimal("0.25")
        + Decimal(5000) * Decimal("0.40")
        + Decimal(8000) * Decimal("1.5")
        + Decimal(36000) * Decimal("0.60")
        + Decimal(10000) * Decimal("0.70")
        + Decimal(4000) * Decimal(3)
    ) / 1_000_000 + Decimal("0.001")
    found = cost_of(PricedCall("vllm", ("llama-3.3-70b-instruct",), usage))
    assert found is not None
    assert found.total_usd == pytest.approx(float(expected))
    assert (found.source, found.date) == ("custom", "2026-11-01")


@pytest.mark.usefixtures("full")
def test_parts_without_a_price_cost_what_their_total_costs() -> None:
    """Cached and written tokens as input, reasoning as output."""
    usage = Usage(1_000_000, 1_000_000, 200_000, 100_000, 300_000)
    assert usd("anyone", "plain", usage) == pytest.approx(3.0)


@pytest.mark.usefixtures("full")
def test_a_local_model_costs_nothing_because_the_file_says_so() -> None:
    """0.0 and not None: it is counted, and it is free."""
    assert usd("ollama", "llama3.2:3b", Usage(500, 500)) == 0.0


def test_a_local_model_without_an_entry_has_no_price() -> None:
    """Nobody has said that it is free."""
    assert usd("ollama", "llama3.2:3b", Usage(500, 500)) is None


@pytest.mark.usefixtures("full")
def test_a_negotiated_factor_is_applied_to_the_list_price() -> None:
    """15 per cent off, and the source says of what."""
    found = cost_of(PricedCall("openai", ("gpt-4o-2024-08-06",), Usage(1_000_000, 1_000_000)))
    assert found is not None
    assert found.total_usd == pytest.approx(12.5 * 0.85)
    assert found.source.startswith("custom x 0.85 of genai-prices ")


@pytest.mark.usefixtures("full")
def test_a_price_per_call_needs_no_tokens() -> None:
    """Rerankers and search."""
    assert usd("search", "rank", Usage()) == pytest.approx(0.002)


@pytest.mark.usefixtures("full")
def test_who_is_asked_first() -> None:
    """The caller, then the cache, the file, the emitter's own figure, and the list."""
    usage = Usage(1_000_000, 0, cost_usd=9.0)
    assert usd("anyone", "plain", usage, caller_usd=7.0, cached=True) == 7.0
    assert usd("anyone", "plain", usage, cached=True) == 0.0
    assert usd("anyone", "plain", usage) == pytest.approx(1.0)
    assert usd("anyone", "other", usage) == 9.0
    assert usd("openai", "gpt-4o", Usage(1_000_000, 0)) == pytest.approx(2.5 * 0.85)
    assert usd("openai", "gpt-4.1", Usage(1_000_000, 0)) == pytest.approx(2.0)


@pytest.mark.usefixtures("full")
def test_spans_of_others_get_the_prices_of_the_file() -> None:
    """Also where their emitter states a list price."""
    found = cost_changes(
        {
            s.GEN_AI_OPERATION_NAME: "chat",
            "gen_ai.system": "vllm",
            s.GEN_AI_REQUEST_MODEL: "llama-3.3-70b",
            s.GEN_AI_USAGE_INPUT_TOKENS: 1_000_000,
            s.GEN_AI_USAGE_COST: 5.0,
        }
    )
    assert found[s.GEN_AI_USAGE_COST] == pytest.approx(0.201)
    assert found[s.COST_SOURCE] == "custom"
    assert found[s.COST_DATE] == "2026-11-01"


def test_a_file_without_a_date_is_as_old_as_it_is(prices_file: Write) -> None:
    """The day of its last change."""
    path = prices_file('[[price]]\nmodel = "m"\ninput = 1\noutput = 1\n')
    assert read_prices_file(path).date >= "2026"


def test_the_file_is_read_by_configure(
    prices_file: Write, monkeypatch: pytest.MonkeyPatch, spans: Any
) -> None:
    """From the variable on to the helper's span."""
    monkeypatch.setenv("OTELBRIDGE_PRICES_FILE", prices_file(FULL))
    monkeypatch.setenv("OTEL_TRACES_EXPORTER", "none")
    try:
        otelbridge.configure(instrument=False)
        with genai.chat("llama3.2:3b", provider="ollama") as call:
            call.set_usage(input_tokens=10, output_tokens=10)
    finally:
        otelbridge.shutdown()
        pricing.set_prices()
    [span] = spans.get_finished_spans()
    assert span.attributes[s.GEN_AI_USAGE_COST] == 0.0
    assert span.attributes[s.COST_SOURCE] == "custom"


@pytest.fixture
def spans() -> Any:
    """What a provider of the application's own has recorded."""
    from opentelemetry import trace
    from opentelemetry.sdk.trace import TracerProvider
    from opentelemetry.sdk.trace.export import SimpleSpanProcessor
    from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

    exporter = InMemorySpanExporter()
    provider = TracerProvider(shutdown_on_exit=False)
    provider.add_span_processor(SimpleSpanProcessor(exporter))
    trace.set_tracer_provider(provider)
    return exporter


@pytest.mark.parametrize(
    ("text", "line", "says"),
    [
        ("[[price]\n", 1, "TOML"),
        ('[[price]]\nmodel = "m"\ninput = -1\noutput = 1\n', 3, "0 or more"),
        ('[[price]]\nmodel = "m"\ninput = "1"\noutput = 1\n', 3, "USD per million tokens"),
        ('[[price]]\nmodel = "m"\ninput = nan\noutput = 1\n', 3, "0 or more"),
        ('[[price]]\nmodel = "m"\ninput = 1\n', 1, "input and output together"),
        ('[[price]]\nmodel = "m"\n', 1, "request alone, or factor"),
        ("[[price]]\ninput = 1\noutput = 1\n", 1, "a model"),
        ('[[price]]\nmodel = "m"\ninput = 1\noutput = 1\nfactor = 1\n', 5, "not both"),
        ('[[price]]\nmodel = "m"\nhourly = 4\n', 3, "one of provider, model"),
        ('[[price]]\nmodel = "m"\ninput=1\noutput=1\n\n[[price]]\nmodel = 3\n', 7, "quotes"),
        ('currency = "EUR"\n', 1, '"USD"'),
        ('[[price]]\nmodel = "m"\ncurrency = "KRW"\ninput = 1\noutput = 1\n', 3, '"USD"'),
        ('as_of = "yesterday"\n', 1, "a date"),
        ("# first\nprices = 1\n", 2, "at the top"),
        ("price = 1\n", 1, "[[price]]"),
    ],
)  # fmt: skip
def test_a_mistake_is_named_with_its_line(
    prices_file: Write, text: str, line: int, says: str
) -> None:
    """Which line, what is allowed, and what stands there."""
    path = prices_file(text)
    with pytest.raises(ConfigError) as caught:
        read_prices_file(path)
    assert f"{path}, line {line}'" in str(caught.value)
    assert says in str(caught.value)
    assert caught.value.variable == "OTELBRIDGE_PRICES_FILE"


def test_a_file_that_is_not_there_is_named(tmp_path: Path) -> None:
    """At start-up, by configure()."""
    with pytest.raises(ConfigError, match=r"nowhere\.toml"):
        otelbridge.configure(prices_file=str(tmp_path / "nowhere.toml"), instrument=False)


def test_a_file_that_is_no_text_is_named(tmp_path: Path) -> None:
    """Bytes that are no UTF-8."""
    path = tmp_path / "prices.toml"
    path.write_bytes(b"\xff\xfe")
    with pytest.raises(ConfigError, match="UTF-8"):
        read_prices_file(str(path))
