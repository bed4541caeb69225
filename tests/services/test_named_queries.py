"""The named queries of docs/traceql.md, asked of what the demo's requests left behind."""

from __future__ import annotations

import os
import re
from pathlib import Path

import pytest

from otelbridge.cli import main
from otelbridge.cli._examples import EXAMPLES
from otelbridge.demo.runner import drive
from otelbridge.demo.stack import Stack


@pytest.mark.e2e
@pytest.mark.timeout(120)
def test_each_named_query_finds_what_it_says_in_the_demo(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Every one but `retries` (the demo's clients never retry) has an answer, with known counts."""
    with Stack(tmp_path, os.environ, lambda _: None, use_collector=False) as stack:
        assert drive(stack, lambda _: None).ok
        monkeypatch.setenv("OTELBRIDGE_TEMPO_URL", stack.local.tempo_url)
        shown, statuses = {}, {}
        for name in EXAMPLES:
            statuses[name] = main(["query", "--example", name, "--since", "5m"])
            shown[name] = capsys.readouterr().out
    assert statuses == {name: int(name == "retries") for name in EXAMPLES}
    counts = {
        name: int(found[1])
        for name, text in shown.items()
        if (found := re.search(r"^(\d+) traces?, \d+ matched", text, re.MULTILINE))
    }
    assert counts == {
        "openai": 13, "slow-gpt-4o": 1, "one-user": 2, "long-agents": 2, "missing-usage": 4,
    }  # fmt: skip
    assert shown["errors-by-model"].splitlines()[1].split()[-1] == "3"
    users = [line.split()[0] for line in shown["cost-by-user"].splitlines()[1:-1]]
    assert sorted(users) == ["alice", "bob", "carol", "dave", "frank", "user-123"]
    assert shown["expensive-sessions"].splitlines()[1].startswith("s-2 ")
    assert shown["latency-by-model"].splitlines()[1].startswith("gpt-4o, 0.95 ")
