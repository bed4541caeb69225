"""Entry point of the pytest plugin: options, the fixtures `traces` and `live_traces`.

Loaded by every pytest run of an environment that has otelbridge, so it imports pytest and the
standard library only; DuckDB and Lark are loaded at the first query of a test.
"""

from __future__ import annotations

import importlib.util
from collections.abc import Generator, Iterator
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from otelbridge.testing.live import LiveTraces
    from otelbridge.testing.traces import Traces

_URL = "otelbridge_tempo_url"
_TIMEOUT = "otelbridge_live_timeout"
_INSTRUMENT = "otelbridge_instrument"


def pytest_addoption(parser: pytest.Parser) -> None:
    """Add the options of the plugin."""
    group = parser.getgroup("otelbridge", "otelbridge: traces in tests")
    group.addoption(
        "--otelbridge-tempo-url", metavar="URL",
        help="the Tempo that `live_traces` asks (default: ini option, then OTELBRIDGE_TEMPO_URL)",
    )  # fmt: skip
    parser.addini(_URL, "the Tempo that `live_traces` asks")
    parser.addini(_TIMEOUT, "seconds that `live_traces` waits for spans", default="30")
    parser.addini(
        _INSTRUMENT, "instrument Flask, httpx and threads during a test with `traces`",
        type="bool", default=True,
    )  # fmt: skip


@pytest.fixture
def traces(request: pytest.FixtureRequest) -> Iterator[Traces]:
    """The spans of this test, captured in memory; ask them in TraceQL.

    `traces.query(...)`, `.assert_one(...)`, `.assert_tree(...)` and more: docs/testing.md.
    """
    _need("duckdb", "lark")
    from otelbridge.testing.capture import capturing
    from otelbridge.testing.traces import Traces

    with capturing(instrument=bool(request.config.getini(_INSTRUMENT))) as recorder:
        found = Traces(recorder)
        try:
            yield found
        finally:
            found.close()


@pytest.fixture
def live_traces(request: pytest.FixtureRequest) -> LiveTraces:
    """The traces of a Tempo that are newer than the start of this test, polled with a deadline.

    Skips the test when no address is given.
    """
    _need("lark")
    from otelbridge.testing.live import LiveTraces, tempo_url

    config = request.config
    url = tempo_url(config.getoption("--otelbridge-tempo-url") or config.getini(_URL))
    if url is None:
        pytest.skip(
            "live_traces needs a Tempo: set OTELBRIDGE_TEMPO_URL, the ini option "
            f"{_URL} or --otelbridge-tempo-url"
        )
    try:
        timeout_seconds = float(config.getini(_TIMEOUT))
    except ValueError as error:
        raise pytest.UsageError(f"{_TIMEOUT} must be a number of seconds: {error}") from None
    return LiveTraces(url, timeout_seconds=timeout_seconds)


def _need(*packages: str) -> None:
    missing = [name for name in packages if importlib.util.find_spec(name) is None]
    if missing:
        from otelbridge.errors import DependencyError

        raise DependencyError(f"install otelbridge[local]: {', '.join(missing)} not found")


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(
    item: pytest.Item, call: pytest.CallInfo[Any]
) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """Add the tree of the captured spans to a failure that does not show it already."""
    report = yield
    found: Any = getattr(item, "funcargs", {}).get("traces")
    if call.when == "call" and report.failed and hasattr(found, "tree_of_failure"):
        shown = found.tree_of_failure(call.excinfo.value if call.excinfo else None)
        if shown:
            report.sections.append(("otelbridge traces", shown))
    return report
