"""The servers of the corpus: the real Collector, `otelbridge local`, and the stand-ins.

`World` starts each at its first use and keeps it for the whole module; `World.places` gives the
addresses that environments of the corpus are filled in with.
"""

from __future__ import annotations

import socket
import ssl
import subprocess
from contextlib import ExitStack
from functools import cached_property
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest
import yaml

from otelbridge.collector import CollectorProcess, config_file, project_root
from otelbridge.demo.processes import free_ports
from otelbridge.local.server import LocalServer
from tests.doctor.stand_ins import (
    Answer,
    PlainTempo,
    StandIn,
    forwarded,
    langfuse_v3,
    loki,
    web_page,
)

PUBLIC_KEY = "pk-lf-local"
SECRET_KEY = "sk-lf-local"
TOKEN = "corpus-bearer-token"

# -- Collector configurations of people ------------------------------------------------------------
_FRAME: dict[str, Any] = {
    "extensions": {
        "health_check": {"endpoint": "${env:OTELBRIDGE_COLLECTOR_HEALTH_ENDPOINT}"},
        "basicauth/langfuse": {
            "client_auth": {
                "username": "${env:LANGFUSE_PUBLIC_KEY}",
                "password": "${env:LANGFUSE_SECRET_KEY}",
            }
        },
    },
    "receivers": {
        "otlp": {
            "protocols": {
                "grpc": {"endpoint": "${env:OTELBRIDGE_COLLECTOR_OTLP_GRPC_ENDPOINT}"},
                "http": {"endpoint": "${env:OTELBRIDGE_COLLECTOR_OTLP_HTTP_ENDPOINT}"},
            }
        }
    },
    "exporters": {
        "otlp_grpc/tempo": {
            "endpoint": "${env:OTELBRIDGE_TEMPO_OTLP_ENDPOINT}",
            "tls": {"insecure": True},
        },
        "otlp_http/langfuse": {
            "endpoint": "${env:LANGFUSE_HOST}/api/public/otel",
            "auth": {"authenticator": "basicauth/langfuse"},
        },
    },
    "service": {
        "extensions": ["health_check", "basicauth/langfuse"],
        "telemetry": {
            "metrics": {
                "readers": [
                    {
                        "pull": {
                            "exporter": {
                                "prometheus": {
                                    "host": "127.0.0.1",
                                    "port": "${env:OTELBRIDGE_COLLECTOR_METRICS_PORT}",
                                }
                            }
                        }
                    }
                ]
            }
        },
    },
}
_NO_CONTENT = {
    "transform/no_content": {
        "trace_statements": [
            'delete_matching_keys(span.attributes, "^(gen_ai\\\\.(input|output)\\\\.messages|'
            'langfuse\\\\.observation\\\\.(input|output))$$")'
        ]
    }
}
_LLM_ONLY = {"filter/llm": {"traces": {"span": ['attributes["gen_ai.operation.name"] == nil']}}}


def own_config() -> dict[str, Any]:
    """A Collector configuration as people write it: a filter on LLM spans, and nothing else."""
    pipelines = {
        "traces/tempo": {
            "receivers": ["otlp"], "processors": ["transform/no_content"],
            "exporters": ["otlp_grpc/tempo"],
        },
        "traces/langfuse": {
            "receivers": ["otlp"], "processors": ["filter/llm"],
            "exporters": ["otlp_http/langfuse"],
        },
    }  # fmt: skip
    service = {**_FRAME["service"], "pipelines": pipelines}
    return {**_FRAME, "processors": {**_NO_CONTENT, **_LLM_ONLY}, "service": service}


def _merge(base: dict[str, Any], over: dict[str, Any]) -> dict[str, Any]:
    merged = dict(base)
    for key, value in over.items():
        known = merged.get(key)
        both = isinstance(known, dict) and isinstance(value, dict)
        merged[key] = _merge(known, value) if both else value
    return merged


class World:
    """Every server of the corpus, each started at its first use.

    Args:
        directory: For configurations, queues and certificates.
        binary: The built Collector, or None: then cases that need it are skipped.
        stack: Ends them.
    """

    def __init__(self, directory: Path, binary: Path | None, stack: ExitStack) -> None:
        self.directory = directory
        self._binary = binary
        self._stack = stack
        self._behind_tls = ""
        self.zpages = ""
        self._made: dict[str, dict[str, str]] = {}

    def places(self, name: str) -> dict[str, str]:
        """Addresses of one server by what they are for; see the `_start_` functions."""
        if name not in self._made:
            kind, _, variant = name.partition("_")
            start = getattr(self, f"_start_{kind}")
            self._made[name] = start(variant)
        return self._made[name]

    # -- real ones -------------------------------------------------------------------------------
    @cached_property
    def store(self) -> LocalServer:
        """`otelbridge local`: Tempo's API, the Langfuse preview and OTLP."""
        return self._stack.enter_context(LocalServer(preview_raw=False))

    @cached_property
    def other_store(self) -> LocalServer:
        """A second one, with the same keys and other contents."""
        return self._stack.enter_context(LocalServer(preview_raw=False))

    @cached_property
    def plain_tempo(self) -> PlainTempo:
        """A Tempo that takes nothing away."""
        tempo = PlainTempo()
        self._stack.callback(tempo.close)
        return tempo

    def _start_plaintempo(self, _: str) -> dict[str, str]:
        return {"url": self.plain_tempo.url, "grpc": self.plain_tempo.endpoint}

    def _start_local(self, variant: str) -> dict[str, str]:
        store = self.store
        if variant == "raw":  # as `otelbridge local` runs: its OTLP ports feed the preview as well
            store = self._stack.enter_context(LocalServer())
        found = store.addresses()
        return {
            "otlp": found["otlp_http"], "grpc": found["otlp_grpc"], "tempo": found["tempo"],
            "langfuse": found["langfuse"], "health": "127.0.0.1:1", "metrics_port": "1",
        }  # fmt: skip

    def _start_collector(self, variant: str) -> dict[str, str]:
        if self._binary is None:
            pytest.skip("no Collector binary for this manifest: `make collector` builds it")
        process = CollectorProcess(
            self._binary,
            work_dir=self.directory / f"collector-{variant or 'good'}",
            **self._collector_arguments(variant),
        )
        self._stack.enter_context(process)
        return {
            "otlp": process.otlp_http_url,
            "grpc": process.otlp_grpc_endpoint,
            "health": process.health_url.removeprefix("http://").rstrip("/"),
            "metrics_port": str(urlsplit(process.metrics_url).port),
            "prometheus_port": str(urlsplit(process.prometheus_url).port),
        }

    def _collector_arguments(self, variant: str) -> dict[str, Any]:
        store = self.store
        given: dict[str, Any] = {
            "tempo_endpoint": store.otlp_grpc_endpoint,
            "langfuse_url": store.langfuse_url,
            "langfuse_public_key": PUBLIC_KEY,
            "langfuse_secret_key": SECRET_KEY,
        }
        environment = {
            "OTELBRIDGE_COLLECTOR_FLUSH_TIMEOUT": "20ms",
            "OTELBRIDGE_COLLECTOR_RETRY_MAX_INTERVAL": "1s",
        }
        if variant == "wrongkeys":
            given["langfuse_secret_key"] = "sk-lf-of-another-project"
        elif variant == "nolangfuse":
            given["langfuse_secret_key"] = None
        elif variant == "nokeys":  # config.yaml without keys: the branch drops its spans
            given |= {"langfuse_public_key": None, "langfuse_secret_key": None}
            given["config"] = config_file(_root(), langfuse=True)
        elif variant == "langfusedown":
            given["langfuse_url"] = self.places("closed")["url"]
        elif variant == "tempodown":
            given["tempo_endpoint"] = urlsplit(self.places("closed")["url"]).netloc
        elif variant in ("plaintempo", "contenttotempo"):
            given["tempo_endpoint"] = self.plain_tempo.endpoint
        elif variant == "elsewhere":
            given["langfuse_url"] = self.other_store.langfuse_url
        elif variant == "bearer":
            environment["OTELBRIDGE_COLLECTOR_AUTH_TOKEN"] = TOKEN
            config = _merge(_our_config(), _overlay("auth-bearer"))
            given["config"] = self._written(variant, config)
        elif variant == "orphans":
            given["config"] = self._written(variant, own_config())
        elif variant == "zpages":  # a cut branch as well, and its pages on a port of their own
            config = _merge(self._cut_config("unfiltered"), _overlay("zpages"))
            given["config"] = self._written(variant, config)
            (port,) = free_ports(1)
            environment["OTELBRIDGE_COLLECTOR_ZPAGES_ENDPOINT"] = f"127.0.0.1:{port}"
            self.zpages = f"127.0.0.1:{port}"
        if variant in _CUT_BRANCHES:
            given["config"] = self._written(variant, self._cut_config(variant))
        return {**given, "environment": environment}

    def _cut_config(self, variant: str) -> dict[str, Any]:
        """Our configuration from which somebody took a branch's processors."""
        config = _our_config()
        config["service"]["pipelines"][_CUT_BRANCHES[variant]]["processors"] = []
        return config

    def _written(self, name: str, config: dict[str, Any]) -> Path:
        path = self.directory / f"{name}.yaml"
        path.write_text(yaml.safe_dump(config, allow_unicode=True), encoding="utf-8")
        return path

    # -- stand-ins -------------------------------------------------------------------------------
    def _stand_in(self, answer: Answer, tls: ssl.SSLContext | None = None) -> dict[str, str]:
        server = StandIn(answer, tls)
        self._stack.callback(server.close)
        return {"url": server.url, "port": str(server.port)}

    def _start_page(self, _: str) -> dict[str, str]:
        return self._stand_in(web_page)

    def _start_loki(self, _: str) -> dict[str, str]:
        return self._stand_in(loki)

    def _start_skewed(self, _: str) -> dict[str, str]:
        return self._stand_in(forwarded(self.store.tempo_url, skew_seconds=3600))

    def _start_v3(self, _: str) -> dict[str, str]:
        return self._stand_in(langfuse_v3(self.store.langfuse_url))

    def _start_closed(self, _: str) -> dict[str, str]:
        """A port on which nobody listens: bound and never listened on, so nobody else gets it."""
        held = socket.socket()
        self._stack.callback(held.close)
        held.bind(("127.0.0.1", 0))
        port = held.getsockname()[1]
        return {"url": f"http://127.0.0.1:{port}", "port": str(port)}

    def serve_behind_tls(self, url: str) -> None:
        """Put this server behind `tls` instead of the good Collector."""
        self._behind_tls = url

    def _start_tls(self, _: str) -> dict[str, str]:
        """The good Collector behind TLS, with a certificate that nobody signed but itself."""
        key, certificate = self.directory / "key.pem", self.directory / "certificate.pem"
        made = subprocess.run(
            ["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256",
             "-nodes", "-days", "2", "-subj", "/CN=127.0.0.1", "-addext",
             "subjectAltName=IP:127.0.0.1", "-keyout", str(key), "-out", str(certificate)],
            capture_output=True, check=False,
        )  # fmt: skip
        if made.returncode:
            pytest.skip("openssl makes no certificate here")
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(certificate, key)
        behind = self._behind_tls or self.places("collector")["otlp"]
        found = self._stand_in(forwarded(behind), context)
        return {**found, "certificate": str(certificate)}


#: Variant to the pipeline whose processors are taken away.
_CUT_BRANCHES = {"unfiltered": "traces/langfuse", "contenttotempo": "traces/tempo"}


def _root() -> Path:
    root = project_root()
    assert root is not None, "tests run from a checkout"
    return root


def _overlay(name: str) -> dict[str, Any]:
    text = (_root() / "collector" / "overlays" / f"{name}.yaml").read_text(encoding="utf-8")
    overlay: dict[str, Any] = yaml.safe_load(text)
    return overlay


def _our_config() -> dict[str, Any]:
    text = config_file(_root(), langfuse=True).read_text(encoding="utf-8")
    config: dict[str, Any] = yaml.safe_load(text)
    return config
