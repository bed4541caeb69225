"""docs/migration.md: every snippet runs as it stands there, in a process of its own."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from tests.compat.test_langfuse_sdk import Stores, names, value
from tests.langfuse.stand_in import StandIn

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs" / "migration.md").read_text(encoding="utf-8")
TRACE, PARENT = "0af7651916cd43dd8448eb211c80319c", "b7ad6b7169203331"


def snippet(name: str) -> str:
    """The Python block below the comment of that name."""
    found = re.search(rf"<!-- snippet: {name} -->\n```python\n(.*?)```", PAGE, re.DOTALL)
    assert found is not None, name
    return found[1]


def environment(name: str) -> dict[str, str]:
    """The variables of the block below the comment of that name."""
    found = re.search(rf"<!-- environment: {name} -->\n```bash\n(.*?)```", PAGE, re.DOTALL)
    assert found is not None, name
    return dict(line.split("=", 1) for line in found[1].split())


def run(code: str, *arguments: str, **variables: str) -> subprocess.CompletedProcess[str]:
    done = subprocess.run(
        [sys.executable, "-c", code, *arguments],
        env={**os.environ, "PYTHONPATH": str(ROOT), **variables},
        capture_output=True, text=True, timeout=50, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    return done


@pytest.fixture
def stores() -> Iterator[Stores]:
    found = Stores()
    yield found
    found.close()


def variables(stores: Stores) -> dict[str, str]:
    return {
        "OTEL_EXPORTER_OTLP_ENDPOINT": stores.url,
        "LANGFUSE_HOST": stores.url,
        "LANGFUSE_BASE_URL": stores.url,
        "LANGFUSE_PUBLIC_KEY": "pk-lf-1",
        "LANGFUSE_SECRET_KEY": "sk-lf-1",
    }


def test_sdk_3_to_5_both_on_then_off(stores: Stores) -> None:
    """Step 1 sends by both, step 3 by otelbridge alone, with the same code."""
    run(snippet("sdk"), **variables(stores), **environment("both on"))
    assert names(stores.collector) == names(stores.langfuse) == ["answer", "generate"]
    ids = {span.span_id for span in stores.collector}
    assert {span.span_id for span in stores.langfuse} == ids
    stores.collector.clear()
    stores.langfuse.clear()
    run(snippet("sdk"), **variables(stores))
    assert (names(stores.collector), stores.langfuse) == (["answer", "generate"], [])


def test_the_comparison_asks_both_projects() -> None:
    """Step 2: two projects, two sums."""
    moment = (datetime.now(UTC) - timedelta(days=1)).isoformat()
    with StandIn() as before, StandIn() as after:
        for project, cost in ((before, 1.25), (after, 1.5)):
            project.area("costs", []).append({"startTime": moment, "totalCost": cost})
        arguments = [
            text
            for project in (before, after)
            for text in (project.url, project.public_key, project.secret_key)
        ]
        printed = run(snippet("compare"), *arguments).stdout
    assert printed == "SDK 1.2500 USD, otelbridge 1.5000 USD\n"


def test_without_the_sdk_the_tree_is_the_same(stores: Stores) -> None:
    """Step 3: the helpers in the place of the SDK's decorator."""
    run(snippet("own"), **variables(stores))
    by_name = {span.name: span for span in stores.collector}
    assert set(by_name) == {"answer", "chat gpt-4o"}
    assert by_name["chat gpt-4o"].parent_span_id == by_name["answer"].span_id


def test_sdk_2_runs_unchanged(stores: Stores) -> None:
    """One variable; the trace of the headers goes on."""
    run(snippet("v2"), **variables(stores), **environment("v2"))
    by_name = {span.name: span for span in stores.collector}
    assert set(by_name) == {"rag:answer", "rag:search", "generate"}
    assert {span.trace_id.hex() for span in stores.collector} == {TRACE}
    assert by_name["rag:answer"].parent_span_id.hex() == PARENT
    for span in stores.collector:
        assert value(span, "user.id") == "u-1"
        assert value(span, "langfuse.trace.metadata.task.type") == "rag"
    assert stores.langfuse == []


@pytest.mark.parametrize(
    ("name", "spans"),
    [
        ("manager", ["query_quality", "text2sql_query", "vector_search"]),
        ("tracer", ["intent_classification", "recommendation"]),
    ],
)
def test_wrappers(stores: Stores, name: str, spans: list[str]) -> None:
    """The two shapes send one tree; switched off, the same code sends nothing."""
    run(snippet(name), **variables(stores))
    assert names(stores.collector) == spans
    assert len({span.trace_id for span in stores.collector}) == 1
    stores.collector.clear()
    run(snippet(name), **variables(stores), LANGFUSE_ENABLED="false")
    assert stores.collector == []


def test_langsmith_both_on_then_off(stores: Stores) -> None:
    """With LangSmith's variables present and after the switch each call is one generation."""
    pytest.importorskip("langchain_core")
    both = {
        "ENABLE_TRACING": "true", "LANGSMITH_TRACING": "true", "LANGSMITH_API_KEY": "lsv2_pt_1",
        "LANGSMITH_ENDPOINT": stores.url,
    }  # fmt: skip
    for switch in (both, {**both, **environment("langsmith off")}):
        stores.collector.clear()
        run(snippet("langchain"), **variables(stores), **switch)
        found = [s for s in stores.collector if value(s, "gen_ai.operation.name") == "chat"]
        assert len(found) == 1
        assert value(found[0], "session.id") == "s-1"


def test_every_block_of_the_page_is_run() -> None:
    """A new snippet needs a test."""
    assert set(re.findall(r"<!-- snippet: (.+?) -->", PAGE)) == {
        "sdk", "compare", "own", "v2", "manager", "tracer", "langchain",
    }  # fmt: skip
    blocks = re.findall(r"```(?:python|bash)\n", PAGE)
    marks = re.findall(r"<!-- (?:snippet|environment): ", PAGE)
    assert len(blocks) == len(marks)
