"""The examples of docs/budgets.md and docs/events.md do what the pages say."""

from __future__ import annotations

import re
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import InMemoryMetricReader

import otelbridge
from otelbridge import BudgetExceededError, budgets
from otelbridge.budgets.rules import read_budgets_file
from otelbridge.cli import main
from otelbridge.local.server import LocalServer

DOCS = Path(__file__).parents[2] / "docs"


def blocks(page: str, language: str) -> list[str]:
    text = (DOCS / page).read_text(encoding="utf-8")
    return re.findall(rf"^```{language}\n(.*?)^```", text, re.MULTILINE | re.DOTALL)


def test_the_file_of_the_page_can_be_read(tmp_path: Path) -> None:
    """Three budgets, as described."""
    (text,) = blocks("budgets.md", "toml")
    (tmp_path / "b.toml").write_text(text)
    session, user, sales = read_budgets_file(str(tmp_path / "b.toml"))
    assert (session.limit_usd, session.soft_usd) == (0.5, 0.4)
    assert (user.limit_usd, user.per) == (None, ("user", "day"))
    assert (sales.only, sales.timezone) == ({"team": "sales"}, "Asia/Seoul")


def test_the_code_of_the_page_runs(declare: Any, capsys: pytest.CaptureFixture[str]) -> None:
    """It answers, takes the cheaper model when little is left, then refuses."""
    declare()
    (code,) = blocks("budgets.md", "python")
    names: dict[str, Any] = {}
    exec(compile(code, "budgets.md", "exec"), names)
    assert names["answer"]("q", "s-1") == "…"
    budgets.add(0.42, {"session.id": "s-1"})
    with otelbridge.request_context(session_id="s-1"):
        assert otelbridge.choose_model("gpt-4o", "gpt-4o-mini", below_usd=0.10) == "gpt-4o-mini"
    budgets.add(0.1, {"session.id": "s-1"})
    assert names["answer"]("q", "s-1") == "This session has spent its 0.5 USD."
    assert "session session=s-1 hard" in capsys.readouterr().out


def test_the_code_of_the_other_page_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Events without a complaint; the metrics have the spans' resource."""
    first, second = blocks("events.md", "python")
    exec(compile(first, "events.md", "exec"), {})
    monkeypatch.setenv("OTEL_SERVICE_NAME", "shop")
    monkeypatch.setenv("OTEL_TRACES_EXPORTER", "none")
    monkeypatch.setenv("OTELBRIDGE_BUDGETS_DIR", str(tmp_path))
    given: list[MeterProvider] = []
    reader = InMemoryMetricReader()
    monkeypatch.setattr("opentelemetry.metrics.set_meter_provider", given.append)
    sdk = "opentelemetry.sdk.metrics.export.PeriodicExportingMetricReader"
    monkeypatch.setattr(sdk, lambda exporter: reader)
    exec(compile(second, "events.md", "exec"), {})
    given[0].get_meter("shop").create_counter("shop.orders").add(1)
    data = reader.get_metrics_data()
    assert data is not None
    assert data.resource_metrics[0].resource.attributes["service.name"] == "shop"
    given[0].shutdown()


def test_the_queries_of_the_pages_find_something(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Each TraceQL line, asked of a local server after a session ran out of budget."""
    queries = [
        line
        for page in ("budgets.md", "events.md")
        for line in (DOCS / page).read_text(encoding="utf-8").splitlines()
        if line.startswith("{ ")
    ]
    assert len(queries) == 4
    with LocalServer() as local:
        otelbridge.configure(
            instrument=False,
            otlp_endpoint=local.otlp_http_url,
            spool_directory=str(tmp_path / "s"),
            budgets_directory=str(tmp_path / "b"),
        )
        budgets.declare(budgets.Budget("session", 0.5, per="session"))
        with otelbridge.request_context(session_id="s-1"), otelbridge.span("request"):
            otelbridge.performance("sql", 6)
            otelbridge.query_quality(0.3)
            with otelbridge.chat("gpt-4o", provider="openai") as call:
                call.set_usage(cost_usd=0.6)
            with suppress(BudgetExceededError), otelbridge.chat("gpt-4o", provider="openai"):
                pytest.fail("the call was made")
        assert otelbridge.flush(20)
        for query in queries:
            assert main(["query", query, "--tempo", local.tempo_url]) == 0, query
    assert capsys.readouterr().out.count("1 matched span") == 4
