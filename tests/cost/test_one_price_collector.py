"""The same through the real export path and the real Collector: one priced generation in Langfuse.

A helper, a framework and an instrumented client in one service, a gateway behind them; the spans
between them are recorded ones of real emitters.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from opentelemetry import trace

import otelbridge
from otelbridge import semconv as s
from otelbridge.propagation import inject
from tests.collector import conftest
from tests.collector.conftest import Bench
from tests.cost.test_one_price import ONE_CALL_USD, helper, replay, service

#: The fixtures of the Collector's own tests.
bench, collector_binary = conftest.bench, conftest.collector_binary

pytestmark = [pytest.mark.collector, pytest.mark.timeout(120)]


def test_langfuse_gets_one_priced_generation(bench: Bench, tmp_path: Path) -> None:
    """Four spans of one call: one generation with cost, three spans without; Tempo agrees."""
    otelbridge.configure(
        instrument=False,
        otlp_endpoint=bench.collector.otlp_http_url,
        spool_directory=str(tmp_path),
    )
    with helper() as call:
        with replay("langchain", "ChatOpenAI"), replay("genai_openai", "chat gpt-4o"):
            carrier: dict[str, str] = {}
            inject(carrier)
            with service(carrier), replay("openllmetry", "openai.chat"):
                pass
        trace_id = trace.format_trace_id(call.span.get_span_context().trace_id)
    assert otelbridge.shutdown(timeout_seconds=20)
    raw = bytes.fromhex(trace_id)
    in_langfuse = [seen.attributes for seen in bench.at_langfuse(raw, 5).values()]
    models = [a for a in in_langfuse if s.GEN_AI_REQUEST_MODEL in a or "llm.model_name" in a]
    assert len(models) == 4
    kinds = [a.get(s.LANGFUSE_OBSERVATION_TYPE, "generation") for a in models]
    assert sorted(kinds) == ["generation", "span", "span", "span"]
    costs = [json.loads(a[s.LANGFUSE_OBSERVATION_COST_DETAILS])["total"] for a in models]
    assert sorted(costs) == [0, 0, 0, pytest.approx(ONE_CALL_USD)]
    tokens = [json.loads(a.get(s.LANGFUSE_OBSERVATION_USAGE_DETAILS, "{}")) for a in models]
    assert [found["total"] for found in tokens if found] == [116]
    in_tempo: list[dict[str, Any]] = [seen.attributes for seen in bench.at_tempo(raw, 5).values()]
    costs = [a[s.GEN_AI_USAGE_COST] for a in in_tempo if s.GEN_AI_USAGE_COST in a]
    assert [usd for usd in costs if usd] == [pytest.approx(ONE_CALL_USD)]
    assert sum(a.get(s.GEN_AI_USAGE_INPUT_TOKENS, 0) for a in in_tempo) == 64
