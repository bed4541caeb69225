"""`otelbridge local` in one process: OTLP in, Tempo's API and the Langfuse preview out.

`LocalServer` binds every port before it starts anything, so that a taken port is one clear error
and port 0 has an address at once. The three HTTP applications share one event loop in a background
thread, gRPC has its own threads. Usable from tests, from the demo and from the command line.
"""

from __future__ import annotations

import asyncio
import socket
import threading
from dataclasses import dataclass, replace
from pathlib import Path
from types import TracebackType
from typing import Final

import grpc
import uvicorn
from starlette.applications import Starlette

from otelbridge.errors import ConfigError
from otelbridge.local.langfuse_preview import Project, langfuse_app
from otelbridge.local.query import Compat
from otelbridge.local.receivers.otlp_grpc import grpc_server
from otelbridge.local.receivers.otlp_http import otlp_http_app
from otelbridge.local.store.database import Store
from otelbridge.local.store.retention import Limits
from otelbridge.local.tempo_api import tempo_app
from otelbridge.span_rules import NO_PAGES, Pages

_START_SECONDS: Final = 15.0
_STOP_SECONDS: Final = 5.0
_REQUEST_HEAD_BYTES: Final = 4 * 1024**2
_NO_LIMITS: Final = Limits()
_LOCAL_PROJECT: Final = Project()


@dataclass(frozen=True, slots=True)
class Ports:
    """The ports to listen on; 0 picks a free one. The command line names the usual ones."""

    otlp_http: int = 0
    otlp_grpc: int = 0
    tempo: int = 0
    langfuse: int = 0


_FREE_PORTS: Final = Ports()


class LocalServer:
    """Receivers, store and both APIs on one host.

    Args:
        ports: Where to listen; free ports unless named.
        directory: Data directory; None keeps spans in memory.
        limits: Retention by age and size.
        project: Project id and key pair of the Langfuse preview.
        host: Address to bind, loopback by default.
        preview_raw: Whether raw spans from the OTLP ports also feed the preview.
        compat: Whose answer TraceQL queries get where otelbridge's differs from Tempo's.
        grafana: Where Grafana is, for `grafana_url` in the preview; the preview's own address and
            project take the place of the other fields.

    Attributes (after `start`):
        otlp_http_url: Base URL for OTEL_EXPORTER_OTLP_ENDPOINT, without /v1/traces.
        otlp_grpc_endpoint: `host:port`.
        tempo_url: Base URL of the Tempo API.
        langfuse_url: Base URL of the preview, for LANGFUSE_HOST.
    """

    def __init__(
        self,
        ports: Ports = _FREE_PORTS,
        *,
        directory: Path | None = None,
        limits: Limits = _NO_LIMITS,
        project: Project = _LOCAL_PROJECT,
        host: str = "127.0.0.1",
        preview_raw: bool = True,
        compat: Compat = "clean",
        grafana: Pages = NO_PAGES,
    ) -> None:
        self._ports = ports
        self._directory = directory
        self._limits = limits
        self.host = host
        self._preview_raw = preview_raw
        self._compat = compat
        self._pages = grafana
        self.project = project
        self.otlp_http_url = ""
        self.otlp_grpc_endpoint = ""
        self.tempo_url = ""
        self.langfuse_url = ""
        self._store: Store | None = None
        self._servers: list[uvicorn.Server] = []
        self._thread: threading.Thread | None = None
        self._grpc: grpc.Server | None = None
        self._ready = threading.Event()
        self._failure: BaseException | None = None

    @property
    def store(self) -> Store:
        """The store behind the server; for tests and fixtures that read it directly."""
        if self._store is None:
            raise RuntimeError("LocalServer has not been started")
        return self._store

    def addresses(self) -> dict[str, str]:
        """The chosen addresses, in the shape that `otelbridge local --json` prints."""
        return {
            "otlp_http": self.otlp_http_url,
            "otlp_grpc": self.otlp_grpc_endpoint,
            "tempo": self.tempo_url,
            "langfuse": self.langfuse_url,
        }

    def start(self) -> LocalServer:
        """Listen on every port and return once all answer.

        Raises:
            ConfigError: a port is taken or the host cannot be bound; nothing is left running.
            StoreError: the data directory cannot be used or is in use.
        """
        sockets: list[socket.socket] = []
        try:
            for flag, port in (
                ("--otlp-http", self._ports.otlp_http),
                ("--tempo", self._ports.tempo),
                ("--langfuse", self._ports.langfuse),
            ):
                sockets.append(_bind(self.host, port, flag))
            self._store = Store(self._directory, self._limits)
            if self._preview_raw:  # only then the spans of the OTLP ports have a page there
                url = f"http://{_url_host(self.host)}:{sockets[2].getsockname()[1]}"
                self._pages = replace(
                    self._pages, langfuse_url=url, langfuse_project_id=self.project.project_id
                )
            self._grpc = grpc_server(
                self._store.write, preview_raw=self._preview_raw, pages=self._pages
            )
            grpc_port = _bind_grpc(self._grpc, self.host, self._ports.otlp_grpc)
            self._name_addresses(sockets, grpc_port)
            self._serve(sockets)
            self._grpc.start()
        except BaseException:
            for bound in sockets:
                bound.close()
            self.stop()
            raise
        self._ready.set()
        return self

    def stop(self) -> None:
        """Stop listening, finish what was accepted, close the store. Safe to call twice."""
        self._ready.clear()
        if self._grpc is not None:
            self._grpc.stop(grace=1.0).wait(_STOP_SECONDS)
            self._grpc = None
        for server in self._servers:
            server.should_exit = True
        if self._thread is not None:
            self._thread.join(_STOP_SECONDS)
            self._thread = None
        self._servers = []
        if self._store is not None:
            self._store.close()
            self._store = None

    def __enter__(self) -> LocalServer:
        return self.start()

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.stop()

    def _name_addresses(self, sockets: list[socket.socket], grpc_port: int) -> None:
        host = _url_host(self.host)
        http, tempo, langfuse = (bound.getsockname()[1] for bound in sockets)
        self.otlp_http_url = f"http://{host}:{http}"
        self.otlp_grpc_endpoint = f"{host}:{grpc_port}"
        self.tempo_url = f"http://{host}:{tempo}"
        self.langfuse_url = f"http://{host}:{langfuse}"

    def _serve(self, sockets: list[socket.socket]) -> None:
        """Run the three HTTP applications in a thread; returns once all have started."""
        store = self.store
        apps: tuple[Starlette, ...] = (
            otlp_http_app(store.write, preview_raw=self._preview_raw, pages=self._pages),
            tempo_app(store, self._ready.is_set, self._compat),
            langfuse_app(store, self.project),
        )
        self._servers = [uvicorn.Server(_uvicorn_config(app)) for app in apps]
        started = threading.Event()

        async def run() -> None:
            tasks = [
                asyncio.ensure_future(server.serve(sockets=[bound]))
                for server, bound in zip(self._servers, sockets, strict=True)
            ]
            while not all(server.started for server in self._servers):
                if any(task.done() for task in tasks):
                    break
                await asyncio.sleep(0.005)
            started.set()
            await asyncio.gather(*tasks)

        def body() -> None:
            try:
                asyncio.run(run())
            except BaseException as error:  # noqa: BLE001 - handed to start()
                self._failure = error
            finally:
                started.set()

        self._thread = threading.Thread(target=body, name="otelbridge-local", daemon=True)
        self._thread.start()
        started.wait(_START_SECONDS)
        if self._failure is not None or not all(server.started for server in self._servers):
            raise RuntimeError("otelbridge local could not start its HTTP ports") from self._failure


def _uvicorn_config(app: Starlette) -> uvicorn.Config:
    return uvicorn.Config(
        app,
        log_config=None,
        access_log=False,
        lifespan="off",
        ws="none",
        timeout_graceful_shutdown=2,
        # A query of a megabyte is refused by the application, with a text that says why.
        h11_max_incomplete_event_size=_REQUEST_HEAD_BYTES,
    )


def _bind(host: str, port: int, flag: str) -> socket.socket:
    """A bound listening socket; `ConfigError` that names the flag and what to do."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    # asyncio switches Nagle's algorithm off only where the protocol is named: without it every
    # answer of headers and body waits 40 ms for the client's delayed acknowledgement.
    bound = socket.socket(family, socket.SOCK_STREAM, socket.IPPROTO_TCP)
    # A port in TIME_WAIT may be taken again at once; one with a listener may not.
    bound.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        bound.bind((host, port))
        bound.listen(1024)
    except (OSError, OverflowError) as error:
        bound.close()
        raise _port_error(flag, host, port, str(error)) from error
    return bound


def _bind_grpc(server: grpc.Server, host: str, port: int) -> int:
    if port:
        # gRPC's own error does not say why; a socket of ours finds out and is closed again.
        _bind(host, port, "--otlp-grpc").close()
    address = f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
    try:
        chosen = server.add_insecure_port(address)
    except RuntimeError as error:
        raise _port_error("--otlp-grpc", host, port, str(error)) from error
    if not chosen:
        raise _port_error("--otlp-grpc", host, port, "gRPC could not bind it")
    return int(chosen)


def _port_error(flag: str, host: str, port: int, reason: str) -> ConfigError:
    return ConfigError(
        flag,
        str(port),
        f"a free port on {host}, or 0 to pick one ({reason})",
        f"Stop what listens on port {port}, or give another with {flag}.",
    )


def _url_host(host: str) -> str:
    """The host to write into a URL: an address that means "all" is reached on loopback."""
    if host in ("0.0.0.0", ""):  # noqa: S104 - compared, not bound
        return "127.0.0.1"
    if ":" in host:
        return "[::1]" if host == "::" else f"[{host}]"
    return host
