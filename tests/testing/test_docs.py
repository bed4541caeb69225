"""docs/testing.md: its examples run, its messages are what is said, its table is complete."""

from __future__ import annotations

import re
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest

from otelbridge.testing.assertions import Assertions
from otelbridge.testing.live import LiveTraces
from otelbridge.testing.traces import Traces

PAGE = (Path(__file__).parents[2] / "docs" / "testing.md").read_text(encoding="utf-8")
BLOCKS = re.findall(r"<!-- (file|fails|message)(?:: (\S+))? -->\n```\w+\n(.*?)```", PAGE, re.DOTALL)
FILES = {name: text for kind, name, text in BLOCKS if kind in ("file", "fails")}
MESSAGES = {
    before[1].removesuffix(".py"): block[2]
    for before, block in pairwise(BLOCKS)
    if block[0] == "message"
}


def same(text: str) -> str:
    """Without what differs from run to run."""
    return re.sub(r"trace [0-9a-f]{32}", "trace 0", text).strip()


@pytest.fixture
def outcome(suite) -> Any:
    """A run of all examples of the page."""
    return suite(FILES)


def test_the_examples_of_the_page(outcome):
    """Tests pass or fail as the page says, and failures say what it shows."""
    assert outcome.tests == {
        "test_a_question_calls_the_model_once": "passed",
        "test_everything_else": "passed",
        "test_the_deployed_clerk": "skipped",
        "test_trap": "failure",
        "test_wrong": "failure",
    }, outcome.output
    assert set(MESSAGES) == {"test_wrong", "test_trap"}
    for name, message in MESSAGES.items():
        assert same(message) in same(outcome.failures[name])


#: What the README's test calls; it imports the fixture's name only.
SUPPORT = '''
import otelbridge


def answer(question):
    with otelbridge.invoke_agent("support"):
        with otelbridge.chat("gpt-4o", provider="openai", messages=question) as call:
            {usage}
'''


@pytest.mark.parametrize(
    ("usage", "expected"),
    [("call.set_usage(input_tokens=7, output_tokens=9)", "passed"), ("pass", "failure")],
)
def test_the_example_of_the_readme(suite, usage, expected):
    """It passes for a service that says its usage, and fails for one that does not."""
    readme = (Path(__file__).parents[2] / "README.md").read_text(encoding="utf-8")
    example = re.search(r"<!-- file: test_answer.py -->\n```python\n(.*?)```", readme, re.DOTALL)
    files = {"test_answer.py": SUPPORT.format(usage=usage) + example[1]}
    outcome = suite(files)
    assert outcome.tests == {"test_the_answer_is_grounded": expected}, outcome.output


def test_the_table_has_every_method():
    """What can be called is in the table, and what is in the table can be called."""
    rows = re.findall(r"^\| (`.*?) \|", PAGE, re.MULTILINE)
    named = {name for row in rows for name in re.findall(r"`(\w+)\(", row)}
    public = {name for name in dir(Assertions) if not name.startswith("_")} - {"ask"}
    assert named == public
    for cls in (Traces, LiveTraces):
        assert all(callable(getattr(cls, name)) for name in named)


def test_options_of_the_page_exist():
    """Every ini option and flag that the page names is one of the plugin."""
    plugin = (Path(__file__).parents[2] / "otelbridge" / "testing" / "plugin.py").read_text()
    for name in set(re.findall(r"`(otelbridge_\w+|--otelbridge-[\w-]+)", PAGE)):
        assert f'"{name}"' in plugin
