"""What every test gets: a clean environment, loopback sockets only, fresh OpenTelemetry globals.

Fixtures of single areas live beside their tests. Swallowed errors are raised again during tests
(`swallow_errors` switches that off), so that the guard around telemetry cannot hide a bug.
"""

from __future__ import annotations

import atexit
import ipaddress
import itertools
import os
import random
import socket
import sys
import time
import weakref
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, TypeVar

import hypothesis
import pytest
from hypothesis.internal.conjecture import providers
from opentelemetry import context as otel_context
from opentelemetry import propagate, trace
from opentelemetry.context import Context
from opentelemetry.exporter.otlp.common import http as otlp_http
from opentelemetry.metrics import _internal as metrics_internal
from opentelemetry.util._once import Once

from otelbridge import _guard
from otelbridge.exporters.processor import OtlpSpanProcessor

T = TypeVar("T")

# The same examples in every run, so that a run says something about the change and not about luck;
# `--hypothesis-profile explore` looks for new ones.
hypothesis.settings.register_profile("same", derandomize=True, deadline=None)
hypothesis.settings.register_profile("explore", max_examples=1000, deadline=None)
hypothesis.settings.load_profile("same")
# It also draws constants found in modules of the project that are loaded by then: a module loaded
# between two runs of one example makes them differ, and the test fails as inconsistent.
if hasattr(providers, "_get_local_constants"):
    providers._get_local_constants = lambda: providers._local_constants
# Exporters of a finished test may still wait for a dead endpoint, in threads of their own, and roll
# dice for the pause; Hypothesis takes a change of the global dice for one of the strategy's.
otlp_http.random = random.Random(0)  # type: ignore[attr-defined]  # the module's own import
SCRUBBED = ("OTEL_", "LANGFUSE_", "OTELBRIDGE_", "ENABLE_LANGFUSE")


class OutsideLoopbackError(AssertionError):
    """A test tried to reach something beyond this machine."""


@pytest.fixture(autouse=True, scope="session")
def spools(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Iterator[Path]]:
    """A spool directory for each test; what outlives a test has the first one."""
    root = tmp_path_factory.mktemp("spools")
    names = (root / f"{number}" for number in itertools.count())
    patch = pytest.MonkeyPatch()
    patch.setenv("OTELBRIDGE_SPOOL_DIR", str(next(names)))
    yield names
    patch.undo()


@pytest.fixture(autouse=True)
def clean_environment(monkeypatch: pytest.MonkeyPatch, spools: Iterator[Path]) -> None:
    """No variable of the developer's shell reaches a test; proxies stay out of loopback calls."""
    for name in list(os.environ):
        if name.startswith(SCRUBBED):
            monkeypatch.delenv(name)
    monkeypatch.setenv("OTELBRIDGE_SPOOL_DIR", str(next(spools)))
    for name in ("NO_PROXY", "no_proxy"):
        monkeypatch.setenv(name, "127.0.0.1,localhost,::1")


def _is_loopback(address: Any) -> bool:
    if not isinstance(address, tuple):
        return True  # a path: AF_UNIX
    host = str(address[0])
    if host in ("", "localhost"):
        return True
    try:
        return ipaddress.ip_address(host.partition("%")[0]).is_loopback
    except ValueError:
        return False


@pytest.fixture(autouse=True, scope="session")
def loopback_only() -> Iterator[None]:
    """Connecting to anything but loopback raises, in threads left behind too."""
    patch = pytest.MonkeyPatch()
    for name in ("connect", "connect_ex"):
        original = getattr(socket.socket, name)

        def guarded(self: socket.socket, address: Any, *, _original: Any = original) -> Any:
            if not _is_loopback(address):
                raise OutsideLoopbackError(f"tests may only connect to loopback, not {address!r}")
            return _original(self, address)

        patch.setattr(socket.socket, name, guarded)
    yield
    patch.undo()


@pytest.fixture(autouse=True)
def raise_swallowed_errors(monkeypatch: pytest.MonkeyPatch) -> None:
    """Errors in telemetry code fail the test."""
    monkeypatch.setattr(_guard, "reraise", True)


@pytest.fixture
def swallow_errors(monkeypatch: pytest.MonkeyPatch, raise_swallowed_errors: None) -> None:
    """The guard swallows as in production, for tests about exactly that."""
    monkeypatch.setattr(_guard, "reraise", False)


def _forget_provider() -> None:
    """Shut the global tracer provider down and let the next test set its own."""
    provider: Any = trace._TRACER_PROVIDER
    handler = getattr(provider, "_atexit_handler", None)
    if handler is not None:
        atexit.unregister(handler)
    if hasattr(provider, "shutdown"):
        provider.shutdown()
    trace._TRACER_PROVIDER = None
    trace._TRACER_PROVIDER_SET_ONCE = Once()


def _forget_meter_provider() -> None:
    provider: Any = metrics_internal._METER_PROVIDER
    if provider is not None:
        provider.shutdown()
    metrics_internal._METER_PROVIDER = None
    metrics_internal._METER_PROVIDER_SET_ONCE = Once()
    metrics_internal._PROXY_METER_PROVIDER = metrics_internal._ProxyMeterProvider()


def _shut_down() -> None:
    """End what `configure` has started in this process."""
    assembly = sys.modules.get("otelbridge.provider")
    if assembly is not None and assembly._state.settings is not None:
        assembly.shutdown(0.0)


@pytest.fixture(autouse=True)
def ended_processors(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """No export path outlives its test, or it would go on asking a port that others get later."""
    made: list[weakref.ref[OtlpSpanProcessor]] = []
    build = OtlpSpanProcessor.__init__

    def tracked(self: OtlpSpanProcessor, *args: Any, **kwargs: Any) -> None:
        build(self, *args, **kwargs)
        made.append(weakref.ref(self))

    monkeypatch.setattr(OtlpSpanProcessor, "__init__", tracked)
    yield
    for reference in made:
        processor = reference()
        if processor is not None:
            processor.end(0.0)


@pytest.fixture(autouse=True)
def fresh_opentelemetry() -> Iterator[None]:
    """Global provider, propagators, switches and counts are back to their defaults afterwards."""
    textmap = propagate.get_global_textmap()
    _guard._failures.clear()
    yield
    _shut_down()
    _forget_provider()
    _forget_meter_provider()
    otel_context.attach(Context())
    propagate.set_global_textmap(textmap)
    budgets = sys.modules.get("otelbridge.budgets.checking")
    if budgets is not None:
        budgets.reset()
    integration = sys.modules.get("otelbridge.integrations.starlette")
    if integration is not None:  # a test's own server is no service under test
        integration._state["instrument_apps"] = False
    config = sys.modules.get("otelbridge.genai._config")
    if config is not None:
        config.set_config(config.GenAiConfig())


@pytest.fixture
def eventually() -> Callable[..., Any]:
    """`eventually(predicate, timeout_seconds=10)`: the first true answer, or a failed test."""

    def poll(predicate: Callable[[], T], timeout_seconds: float = 10.0) -> T:
        deadline = time.monotonic() + timeout_seconds
        while True:
            answer = predicate()
            if answer:
                return answer
            if time.monotonic() > deadline:
                pytest.fail(f"not true within {timeout_seconds:g} s, last answer: {answer!r}")
            time.sleep(0.01)

    return poll
