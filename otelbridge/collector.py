"""Finds the Collector binary that `make collector` built, and runs it on loopback.

Used by the demo and by the tests; a deployment runs the binary by itself (docs/collector.md). Reads
no environment variable: everything is an argument, and the child gets only the variables made
here. Works from a checkout, because the configuration files live in `collector/`.
"""

from __future__ import annotations

import hashlib
import http.client
import os
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from collections.abc import Mapping
from pathlib import Path
from types import TracebackType
from typing import Final, Self

from otelbridge.errors import DependencyError, OtelbridgeError

BINARY_NAME: Final = "otelbridge-collector"
_HOST: Final = "127.0.0.1"
_LOCKED_INPUTS: Final = ("builder.yaml", "lock/go.mod", "lock/go.sum")  # as in collector/build.sh
_LOG_LINES_IN_ERROR: Final = 15
_START_ATTEMPTS: Final = 3  # a free port may be taken before the Collector binds it
_POLL_SECONDS: Final = 0.05


def project_root() -> Path | None:
    """The checkout that this package runs from, or None for an installed package."""
    root = Path(__file__).resolve().parent.parent
    return root if (root / "collector" / "builder.yaml").is_file() else None


def build_hash(project_dir: Path) -> str:
    """16 hex digits that name a build: of the manifest and the locked module versions."""
    digest = hashlib.sha256()
    for name in _LOCKED_INPUTS:
        digest.update((project_dir / "collector" / name).read_bytes())
    return digest.hexdigest()[:16]


def find_collector(
    project_dir: Path | None = None, *, binary: str | os.PathLike[str] | None = None
) -> Path | None:
    """The Collector binary to use, or None when none is built for the current manifest.

    Args:
        project_dir: A checkout; default is the one that this package runs from.
        binary: A binary that the caller was told to use (`OTELBRIDGE_COLLECTOR_BINARY`).
    Raises:
        DependencyError: `binary` is given and is no executable file.
    """
    if binary:
        path = Path(binary)
        if not path.is_file() or not os.access(path, os.X_OK):
            raise DependencyError(
                f"OTELBRIDGE_COLLECTOR_BINARY={str(binary)!r} is not an executable file; give the "
                "path of a Collector binary, or unset it and run `make collector`"
            )
        return path.resolve()
    root = project_dir or project_root()
    if root is None or not (root / "collector" / "builder.yaml").is_file():
        return None
    built = root.glob(f".cache/collector/{build_hash(root)}-*/{BINARY_NAME}")
    usable = [path for path in built if os.access(path, os.X_OK)]
    return max(usable, key=lambda path: path.stat().st_mtime, default=None)


def config_file(project_dir: Path, *, langfuse: bool) -> Path:
    """The rendered configuration: both branches, or Tempo only when there are no Langfuse keys."""
    name = "config.yaml" if langfuse else "config.no-langfuse.yaml"
    return project_dir / "collector" / name


class CollectorProcess:
    """The real Collector as a child process on loopback; a context manager.

    Without both Langfuse keys and a URL it runs the configuration without that branch. Its queues
    and its log live in `work_dir`, or in a temporary directory that is removed at the end.

    Raises:
        OtelbridgeError: at start, with the last lines of the Collector's log.
    """

    def __init__(
        self,
        binary: Path,
        *,
        tempo_endpoint: str,
        langfuse_url: str | None = None,
        langfuse_public_key: str | None = None,
        langfuse_secret_key: str | None = None,
        otlp_grpc_port: int = 0,
        otlp_http_port: int = 0,
        health_port: int = 0,
        metrics_port: int = 0,
        prometheus_port: int = 0,
        work_dir: Path | None = None,
        config: Path | None = None,
        environment: Mapping[str, str] | None = None,
        start_timeout_seconds: float = 20.0,
    ) -> None:
        """Keep what to run; nothing starts before `start` or `with`.

        Args:
            binary: From `find_collector`.
            tempo_endpoint: `host:port` of an OTLP/gRPC receiver without TLS.
            langfuse_url: Base URL, as in `LANGFUSE_HOST`.
            langfuse_public_key: User name of Basic auth towards Langfuse.
            langfuse_secret_key: Its password.
            otlp_grpc_port: Port on 127.0.0.1; 0 chooses a free one. Likewise the other ports.
            otlp_http_port: For OTLP/HTTP.
            health_port: For the health check.
            metrics_port: For the Collector's own metrics.
            prometheus_port: For the metrics of docs/metrics.md.
            work_dir: Directory of queues and log, kept; default is a temporary one.
            config: Another configuration file.
            environment: Further variables of docs/collector.md; they win over the ones made here.
            start_timeout_seconds: How long the health check may take to answer.
        """
        self.binary = binary
        self.langfuse = bool(langfuse_url and langfuse_public_key and langfuse_secret_key)
        self._config = config
        self._asked_ports = {
            "grpc": otlp_grpc_port,
            "http": otlp_http_port,
            "health": health_port,
            "metrics": metrics_port,
            "prometheus": prometheus_port,
        }
        self._ports = dict(self._asked_ports)
        self._given_work_dir = work_dir
        self._work_dir: Path | None = work_dir
        self._start_timeout_seconds = start_timeout_seconds
        self._environment = dict(environment or {})
        self._targets = {
            "OTELBRIDGE_TEMPO_OTLP_ENDPOINT": tempo_endpoint,
            "LANGFUSE_HOST": (langfuse_url or "").rstrip("/"),
            "LANGFUSE_PUBLIC_KEY": langfuse_public_key or "",
            "LANGFUSE_SECRET_KEY": langfuse_secret_key or "",
        }
        self._process: subprocess.Popen[bytes] | None = None

    # -- addresses ---------------------------------------------------------------------------------
    @property
    def otlp_http_url(self) -> str:
        """Base URL for `OTEL_EXPORTER_OTLP_ENDPOINT`; traces go to `<url>/v1/traces`."""
        return f"http://{_HOST}:{self._ports['http']}"

    @property
    def otlp_grpc_endpoint(self) -> str:
        """`host:port` for OTLP/gRPC without TLS."""
        return f"{_HOST}:{self._ports['grpc']}"

    @property
    def health_url(self) -> str:
        """Answers 200 while the Collector takes spans."""
        return f"http://{_HOST}:{self._ports['health']}/"

    @property
    def metrics_url(self) -> str:
        """The Collector's own metrics in Prometheus text format."""
        return f"http://{_HOST}:{self._ports['metrics']}/metrics"

    @property
    def prometheus_url(self) -> str:
        """The metrics made of spans and those of the services, in Prometheus text format."""
        return f"http://{_HOST}:{self._ports['prometheus']}/metrics"

    @property
    def pid(self) -> int | None:
        """Process id while it runs."""
        running = self._process is not None and self._process.poll() is None
        return self._process.pid if running and self._process is not None else None

    @property
    def log_path(self) -> Path:
        """File with the Collector's own log."""
        if self._work_dir is None:
            raise OtelbridgeError("the Collector has not been started, so it has no log yet")
        return self._work_dir / "collector.log"

    def log_tail(self, lines: int = _LOG_LINES_IN_ERROR) -> str:
        """The last lines of the log, for messages to the user."""
        try:
            text = self.log_path.read_text(encoding="utf-8", errors="replace")
        except FileNotFoundError:
            return ""
        return "\n".join(text.splitlines()[-lines:])

    # -- life --------------------------------------------------------------------------------------
    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.stop()

    def start(self) -> None:
        """Start and return once the health check answers."""
        if self.pid is not None:
            return
        if self._work_dir is None:
            self._work_dir = Path(tempfile.mkdtemp(prefix="otelbridge-collector-"))
        self._work_dir.mkdir(parents=True, exist_ok=True)
        for attempt in range(_START_ATTEMPTS):
            self._choose_ports()
            log_start = self.log_path.stat().st_size if self.log_path.exists() else 0
            self._spawn()
            problem = self._wait_until_healthy()
            if problem is None:
                return
            self._terminate(0.5)
            output = self.log_path.read_bytes()[log_start:]
            tail = self.log_tail()
            retry = b"address already in use" in output and 0 in self._asked_ports.values()
            if not retry or attempt == _START_ATTEMPTS - 1:
                self._remove_work_dir()
                raise OtelbridgeError(
                    f"the Collector ({self.binary}) {problem}. Its last log lines:\n{tail}"
                )

    def stop(self, timeout_seconds: float = 10.0) -> int | None:
        """Ask it to end (SIGTERM), kill it after the timeout; its exit status, None if not run.

        What its queues still hold stays on disk when a `work_dir` was given.
        """
        status = self._terminate(timeout_seconds)
        self._remove_work_dir()
        return status

    def kill(self) -> None:
        """End it at once (SIGKILL), as a crash would; the work directory stays for a restart."""
        if self._process is not None:
            self._process.kill()
            self._process.wait()

    # -- steps -------------------------------------------------------------------------------------
    def _choose_ports(self) -> None:
        held: list[socket.socket] = []
        try:
            for name, asked in self._asked_ports.items():
                if asked:
                    self._ports[name] = asked
                    continue
                probe = socket.socket()
                held.append(probe)  # all are held until the last is chosen, so that they differ
                probe.bind((_HOST, 0))
                self._ports[name] = probe.getsockname()[1]
        finally:
            for probe in held:
                probe.close()

    def _spawn(self) -> None:
        assert self._work_dir is not None
        config = self._config
        if config is None:
            root = project_root()
            if root is None:
                raise DependencyError(
                    "the Collector's configuration is part of the project's source tree; run from "
                    "a checkout, or give `config`"
                )
            config = config_file(root, langfuse=self.langfuse)
        variables = {
            "OTELBRIDGE_COLLECTOR_OTLP_GRPC_ENDPOINT": f"{_HOST}:{self._ports['grpc']}",
            "OTELBRIDGE_COLLECTOR_OTLP_HTTP_ENDPOINT": f"{_HOST}:{self._ports['http']}",
            "OTELBRIDGE_COLLECTOR_HEALTH_ENDPOINT": f"{_HOST}:{self._ports['health']}",
            "OTELBRIDGE_COLLECTOR_METRICS_HOST": _HOST,
            "OTELBRIDGE_COLLECTOR_METRICS_PORT": str(self._ports["metrics"]),
            "OTELBRIDGE_COLLECTOR_PROMETHEUS_ENDPOINT": f"{_HOST}:{self._ports['prometheus']}",
            "OTELBRIDGE_COLLECTOR_QUEUE_DIR": str(self._work_dir.resolve() / "queue"),
            **{name: value for name, value in self._targets.items() if value},
            **self._environment,
        }
        with self.log_path.open("ab") as log:
            # A session of its own: Ctrl-C reaches the caller, who flushes first and then stops it.
            self._process = subprocess.Popen(
                [str(self.binary), "--config", str(config)],
                env=variables,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                cwd=self._work_dir,
                start_new_session=True,
            )

    def _wait_until_healthy(self) -> str | None:
        assert self._process is not None
        deadline = time.monotonic() + self._start_timeout_seconds
        while time.monotonic() < deadline:
            status = self._process.poll()
            if status is not None:
                return f"ended with status {status} while starting"
            if _answers_200(self._ports["health"]):
                return None
            time.sleep(_POLL_SECONDS)
        return f"did not become healthy within {self._start_timeout_seconds:g} s"

    def _terminate(self, timeout_seconds: float) -> int | None:
        if self._process is None:
            return None
        if self._process.poll() is None:
            self._process.send_signal(signal.SIGTERM)
            try:
                self._process.wait(timeout_seconds)
            except subprocess.TimeoutExpired:
                self._process.kill()
                self._process.wait()
        return self._process.returncode

    def _remove_work_dir(self) -> None:
        if self._given_work_dir is None and self._work_dir is not None:
            shutil.rmtree(self._work_dir, ignore_errors=True)
            self._work_dir = None


def _answers_200(port: int) -> bool:
    """Whether the health check on this loopback port answers 200 now."""
    connection = http.client.HTTPConnection(_HOST, port, timeout=1.0)
    try:
        connection.request("GET", "/")
        return connection.getresponse().status == http.client.OK
    except (OSError, http.client.HTTPException):
        return False
    finally:
        connection.close()
