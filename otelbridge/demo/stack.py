"""What the demo runs and with what environment: local store, Collector, services, mock provider.

`Stack` is a context manager over all of it; addresses are chosen free on loopback. The children
get no OTEL_*, LANGFUSE_* or OTELBRIDGE_* variable of the caller's, so that the demo never sends
anywhere else. Neighbours: `processes` (children), `local.server` (both views), `collector`.
"""

from __future__ import annotations

import importlib.util
import shutil
import sys
from collections.abc import Callable, Mapping
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Final, Self

from otelbridge.collector import CollectorProcess, find_collector
from otelbridge.demo.processes import (
    DemoError,
    ProcessGroup,
    free_ports,
    interrupts_held,
    untrusted_address,
)
from otelbridge.errors import DependencyError
from otelbridge.local.server import LocalServer, Ports

READY_SECONDS: Final = 45.0  # instrumented Flask start on a busy two-core machine, with room
_INHERITED: Final = (
    "PATH", "HOME", "LANG", "LC_ALL", "TMPDIR", "TEMP", "USER", "VIRTUAL_ENV", "PYTHONPATH",
    "SYSTEMROOT", "LD_LIBRARY_PATH",
)  # fmt: skip
_NEEDED: Final = ("flask", "httpx", "openai")


@dataclass(frozen=True, slots=True)
class Addresses:
    """Base URLs of everything that listens, and the host of the provider."""

    gateway: str
    rag: str
    llm: str
    upstream: str
    upstream_host: str
    upstream_bind: str


def services_dir() -> Path:
    """The folder with the example services: in the package, else in the checkout.

    Raises:
        DemoError: it is in neither place.
    """
    packaged = Path(__file__).resolve().parent / "services"
    checkout = Path(__file__).resolve().parents[2] / "examples" / "services"
    for folder in (packaged, checkout):
        if (folder / "gateway.py").is_file():
            return folder
    raise DemoError(
        f"the example services are not at {checkout}. `otelbridge demo` runs them from a checkout "
        "of the project: clone it, `make install`, then `make demo`"
    )


def check_packages() -> None:
    """Raise DependencyError when a package that the services import is missing."""
    missing = [name for name in _NEEDED if importlib.util.find_spec(name) is None]
    if missing:
        raise DependencyError(
            f"the example services need {', '.join(missing)}, not installed here. "
            f"Install with: pip install {' '.join(missing)}"
        )


def choose_addresses() -> Addresses:
    """Free loopback ports; the provider on an address that the services do not trust."""
    bind, host = untrusted_address()
    gateway, rag, llm = (f"http://127.0.0.1:{port}" for port in free_ports(3))
    (port,) = free_ports(1, bind)
    return Addresses(gateway, rag, llm, f"http://{host}:{port}", host, bind)


def service_environment(
    name: str, addresses: Addresses, export: Mapping[str, str], inherited: Mapping[str, str]
) -> dict[str, str]:
    """The whole environment of one service.

    Args:
        export: Variables that say where spans go, from `Stack`.
        inherited: The caller's environment; only what a program needs to run is taken.
    """
    env = {key: inherited[key] for key in _INHERITED if key in inherited}
    env |= {
        "PYTHONUNBUFFERED": "1",
        "OTEL_SERVICE_NAME": name,
        "OTEL_BSP_SCHEDULE_DELAY": "200",  # ms: the demo waits for these spans
        "OTEL_METRICS_EXPORTER": "none",
        "OTEL_LOGS_EXPORTER": "none",
        "OTELBRIDGE_TRUSTED_HOSTS": f"!{addresses.upstream_host}",
        "LANGFUSE_ENVIRONMENT": "demo",
        "OPENAI_BASE_URL": f"{addresses.upstream}/v1",
        "OPENAI_API_KEY": "not-a-key",
        "RAG_URL": addresses.rag,
        "LLM_URL": addresses.llm,
        **export,
    }
    if name == "gateway":
        env["OTELBRIDGE_TRUST_INBOUND"] = "false"
    return env


class Stack:
    """Everything that the demo runs, started by `with` and ended with it."""

    def __init__(
        self,
        log_dir: Path,
        inherited: Mapping[str, str],
        tell: Callable[[str], None],
        *,
        use_collector: bool = True,
        collector_binary: str | None = None,
    ) -> None:
        """Keep what to run.

        Args:
            log_dir: Where the children's logs go.
            inherited: The caller's environment.
            tell: Called with a line of progress.
            use_collector: False exports directly even when a Collector is built.
            collector_binary: The one to run instead of the one that `make collector` builds.
        """
        self._log_dir = log_dir
        self._inherited = inherited
        self._tell = tell
        self._exit = ExitStack()
        self._binary = find_collector(binary=collector_binary) if use_collector else None
        self._use_collector = use_collector
        self.addresses = choose_addresses()
        # Without preview_raw the preview holds what was sent to it, and nothing else.
        self.local = LocalServer(Ports(0, 0, 0, 0), preview_raw=False)
        self.processes = ProcessGroup(log_dir)

    @property
    def mode(self) -> str:
        """`collector`, or `direct` when there is none."""
        return "direct" if self._binary is None else "collector"

    def __enter__(self) -> Self:
        with ExitStack() as undo:
            self._exit = undo
            self._start()
            self._exit = undo.pop_all()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._exit.close()

    def _start(self) -> None:
        check_packages()
        folder = services_dir()
        self._tell("starting the local store (Tempo API and Langfuse preview, in memory)")
        self._exit.enter_context(self.local)
        # The next demo has other ports, so nothing of this one's would ever be sent.
        spool = {"OTELBRIDGE_SPOOL_DIR": str(self._log_dir / "spool")}
        export = self._start_export() | spool
        self._exit.enter_context(self.processes)
        self._tell("starting gateway, rag, llm and the mock provider as separate processes")
        self._start_services(folder, export)

    def _start_export(self) -> dict[str, str]:
        """Start the Collector when there is one; the variables that say where spans go."""
        if self._binary is None:
            why = "is not built (`make collector`)" if self._use_collector else "is switched off"
            self._tell(f"the Collector {why}: the services export directly to both sides")
            return {
                "OTELBRIDGE_EXPORT": "direct",
                "OTEL_EXPORTER_OTLP_ENDPOINT": self.local.otlp_http_url,
                "LANGFUSE_HOST": self.local.langfuse_url,
                "LANGFUSE_PUBLIC_KEY": self.local.project.public_key,
                "LANGFUSE_SECRET_KEY": self.local.project.secret_key,
            }
        self._tell(f"starting the Collector ({self._binary.name})")
        collector = CollectorProcess(
            self._binary,
            tempo_endpoint=self.local.otlp_grpc_endpoint,
            langfuse_url=self.local.langfuse_url,
            langfuse_public_key=self.local.project.public_key,
            langfuse_secret_key=self.local.project.secret_key,
            work_dir=self._log_dir,
        )
        self._exit.callback(collector.stop)  # before the start, which SIGTERM may interrupt
        with interrupts_held():
            collector.start()
        return {"OTEL_EXPORTER_OTLP_ENDPOINT": collector.otlp_http_url}

    def _start_services(self, folder: Path, export: Mapping[str, str]) -> None:
        beside = Path(sys.executable).parent / "opentelemetry-instrument"
        instrument = str(beside) if beside.exists() else shutil.which("opentelemetry-instrument")
        if instrument is None:
            raise DependencyError(
                "opentelemetry-instrument is not installed; "
                "pip install opentelemetry-instrumentation"
            )
        flask = [sys.executable, "-m", "flask", "--app"]
        for name in ("upstream", "llm", "rag", "gateway"):
            _, _, port = getattr(self.addresses, name).rpartition(":")
            command = [*flask, name, "run", "--port", port]
            if name == "upstream":
                command += ["--host", self.addresses.upstream_bind]
            else:
                command = [instrument, *command]
            env = service_environment(name, self.addresses, export, self._inherited)
            self.processes.start(name, command, env, folder)
        for child in list(self.processes.children):
            host = self.addresses.upstream_bind if child.name == "upstream" else "127.0.0.1"
            _, _, port = getattr(self.addresses, child.name).rpartition(":")
            self.processes.wait_listening(child, host, int(port), READY_SECONDS)
            self._tell(f"  {child.name:<8} listens at {getattr(self.addresses, child.name)}")
