"""Checks of Langfuse and Tempo, against `otelbridge local` and against servers that are neither."""

from __future__ import annotations

import base64
import json
import socket
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest

from otelbridge.doctor import run as runner
from otelbridge.doctor.findings import Context, Finding
from otelbridge.local.server import LocalServer
from tests.doctor.stand_ins import Answer, Reply, StandIn, loki, web_page
from tests.doctor.test_network import pki, server_side  # noqa: F401 - pki is a fixture

KEYS = {"LANGFUSE_PUBLIC_KEY": "pk-lf-local", "LANGFUSE_SECRET_KEY": "sk-lf-local"}
JSON = {"Content-Type": "application/json"}


def grafana(method: str, path: str, headers: dict[str, str], body: bytes) -> Reply:
    """Grafana as far as a wrong address sees it: health in JSON, 404 on APIs it has not."""
    if path == "/api/health":
        said = {"database": "ok", "version": "13.2.3", "commit": "0"}
        return 200, JSON, json.dumps(said).encode()
    if path.startswith("/api/"):
        return 404, JSON, b'{"message":"Not found"}'
    return web_page(method, path, headers, body)


def nothing_here(method: str, path: str, headers: dict[str, str], body: bytes) -> Reply:
    """A program that knows none of the paths asked for."""
    return 404, {"Content-Type": "text/plain"}, b"404 page not found\n"


@pytest.fixture(scope="module")
def local() -> Iterator[LocalServer]:
    with LocalServer() as server:
        yield server


@pytest.fixture
def stack() -> Iterator[ExitStack]:
    with ExitStack() as stack:
        yield stack


def start(stack: ExitStack, answer: Answer, **more: Any) -> StandIn:
    server = StandIn(answer, **more)
    stack.callback(server.close)
    return server


def look(name: str, environment: dict[str, str], **more: Any) -> list[Finding]:
    context = Context.of(environment, more.pop("directory", Path("/nowhere")), **more)
    found = runner.run(context, only=(name,))
    for one in found:
        assert "sk-lf-local" not in one.what + one.evidence + one.fix
    return found


def langfuse_of(version: str, status: int = 200, projects: Any = None) -> Answer:
    """Langfuse as far as the doctor asks: health, and the project of the keys."""

    def answer(method: str, path: str, headers: dict[str, str], body: bytes) -> Reply:
        if path == "/api/public/health":
            return 200, JSON, json.dumps({"status": "OK", "version": version}).encode()
        told = {"data": [{"id": "local", "name": "x"}]} if projects is None else projects
        return status, JSON, json.dumps(told).encode()

    return answer


# -- Langfuse --------------------------------------------------------------------------------------
def test_langfuse_with_the_right_keys_is_good(local: LocalServer):
    """Version and project are in the line; the facts are there for the canary."""
    environment = {**KEYS, "LANGFUSE_HOST": local.langfuse_url, "LANGFUSE_PROJECT_ID": "local"}
    context = Context.of(environment, Path("/nowhere"))
    found = runner.run(context, only=("langfuse",))
    assert [one.code for one in found if one.level != "note"] == ["langfuse-good"]
    assert "project local" in found[-1].evidence
    assert context.facts["langfuse_ok"]
    assert context.facts["langfuse_project_id"] == "local"
    assert context.facts["langfuse_url"] == local.langfuse_url


def test_wrong_keys_are_refused_by_the_server(local: LocalServer):
    """A pair of two projects cannot be told from its text; the server tells."""
    wrong = {**KEYS, "LANGFUSE_SECRET_KEY": "sk-lf-of-another-project"}
    found = look("langfuse", {**wrong, "LANGFUSE_HOST": local.langfuse_url})
    assert [one.code for one in found if one.level == "error"] == ["langfuse-keys-refused"]
    assert "sk-lf-of" not in str(found)


def test_the_project_of_the_keys_is_compared(local: LocalServer):
    """Links would lead to another project; the remedy has the right id."""
    environment = {**KEYS, "LANGFUSE_HOST": local.langfuse_url, "LANGFUSE_PROJECT_ID": "clx123"}
    (one,) = [one for one in look("langfuse", environment) if one.level == "error"]
    assert one.code == "langfuse-wrong-project"
    assert one.fix.startswith("Set LANGFUSE_PROJECT_ID=local")


@pytest.mark.parametrize(
    ("answer", "code"),
    [
        (langfuse_of("4.16.0", status=403), "langfuse-key-kind"),
        (langfuse_of("4.16.0", projects={"data": []}), "langfuse-not-langfuse"),
        (langfuse_of("2.95.0"), "langfuse-old"),
        (langfuse_of("3.10.0"), "langfuse-old"),
        (lambda *_: (503, JSON, b'{"status":"unavailable","version":"4.16.0"}'),
         "langfuse-unhealthy"),
        (web_page, "langfuse-not-langfuse"),
        (grafana, "langfuse-not-langfuse"),
        (nothing_here, "langfuse-not-langfuse"),
        (lambda *_: (302, {"Location": "/login"}, b""), "langfuse-not-langfuse"),
    ],
)  # fmt: skip
def test_what_is_wrong_with_a_langfuse_is_named(stack: ExitStack, answer: Answer, code: str):
    """Kind of key, version, health, or no Langfuse at all."""
    found = look("langfuse", {**KEYS, "LANGFUSE_HOST": start(stack, answer).url})
    assert [one.code for one in found if one.level in ("warning", "error")] == [code]


def test_version_3_is_worth_a_note(stack: ExitStack):
    """It works, and gets security fixes only."""
    found = look("langfuse", {**KEYS, "LANGFUSE_HOST": start(stack, langfuse_of("3.225.4")).url})
    assert [(one.code, one.level) for one in found] == [
        ("langfuse-old", "note"), ("langfuse-good", "ok"),
    ]  # fmt: skip


def test_an_address_of_the_containers_is_asked_at_the_public_one(local: LocalServer):
    """`LANGFUSE_HOST=http://langfuse-web:3000` of the stack's .env is right, and unknown here."""

    def resolve(host: str, *rest: Any, **more: Any) -> list[Any]:
        if host == "langfuse-web":
            raise socket.gaierror(socket.EAI_NONAME, "unknown")
        return socket.getaddrinfo(host, *rest, **more)

    environment = {**KEYS, "LANGFUSE_HOST": "http://langfuse-web:3000"}
    (one,) = look("langfuse", environment, resolve=resolve)
    assert one.code == "dns-failed"
    public = {**environment, "LANGFUSE_PUBLIC_URL": local.langfuse_url}
    found = [
        one.code for one in look("langfuse", public, resolve=resolve) if one.code != "langfuse-old"
    ]
    assert found == ["langfuse-other-address", "langfuse-good"]


def test_keys_of_another_cloud_region_are_found_there(stack: ExitStack, pki: Path):  # noqa: F811
    """Refused in one region, accepted in another: the remedy is that host."""

    def cloud(method: str, path: str, headers: dict[str, str], body: bytes) -> Reply:
        if headers["host"].startswith("us.") or path == "/api/public/health":
            return langfuse_of("4.50.0")(method, path, headers, body)
        return 401, JSON, b'{"message":"Invalid credentials"}'

    server = start(stack, cloud, tls=server_side(pki, "cloud"))

    def resolve(*_: Any, **__: Any) -> list[Any]:
        return [(socket.AF_INET, socket.SOCK_STREAM, 6, "", ("127.0.0.1", server.port))]

    environment = {
        **KEYS, "LANGFUSE_HOST": "https://cloud.langfuse.com", "SSL_CERT_FILE": str(pki / "ca.pem"),
    }  # fmt: skip
    (one,) = look("langfuse", environment, resolve=resolve)
    assert one.code == "langfuse-wrong-region"
    assert one.fix == "Set LANGFUSE_HOST=https://us.cloud.langfuse.com"


def test_a_server_that_echoes_the_login_does_not_get_it_into_the_report(stack: ExitStack):
    """What a server says is shown, but for what it was sent as a secret."""

    def echo(method: str, path: str, headers: dict[str, str], body: bytes) -> Reply:
        said = headers.get("authorization", "")
        told = {"status": "OK", "version": "4.16.0", "data": [{"id": said.removeprefix("Basic ")}]}
        return 200, JSON, json.dumps(told).encode()

    keys = {"LANGFUSE_PUBLIC_KEY": "pk-lf-aaaaaaaa", "LANGFUSE_SECRET_KEY": "sk-lf-bbbbbbbb"}
    url = start(stack, echo).url
    found = look("langfuse", {**keys, "LANGFUSE_HOST": url, "LANGFUSE_PROJECT_ID": "mine"})
    assert "langfuse-wrong-project" in [one.code for one in found]
    assert base64.b64encode(b"pk-lf-aaaaaaaa:sk-lf-bbbbbbbb").decode() not in str(found)


@pytest.mark.parametrize("environment", [{}, {"LANGFUSE_ENABLED": "false", **KEYS}])
def test_langfuse_that_is_not_used_is_not_asked(environment: dict[str, str]):
    """Without keys and address, or switched off."""
    assert look("langfuse", environment) == []


# -- Tempo -----------------------------------------------------------------------------------------
def test_a_tempo_that_answers_is_good(local: LocalServer):
    """The stand-in answers as Tempo does; its address is a fact for the canary."""
    context = Context.of({"OTELBRIDGE_TEMPO_URL": local.tempo_url}, Path("/nowhere"))
    found = runner.run(context, only=("tempo",))
    assert [one.code for one in found] == ["tempo-good"]
    assert context.facts["tempo_url"] == local.tempo_url


def tempo_of(version: str, ready: int = 200) -> Answer:
    """Tempo as far as the doctor asks: its build and whether it is ready."""

    def answer(method: str, path: str, headers: dict[str, str], body: bytes) -> Reply:
        if path == "/ready":
            return ready, {"Content-Type": "text/plain"}, b"Ingester not ready: waiting\n"
        return 200, JSON, json.dumps({"version": version}).encode()

    return answer


@pytest.mark.parametrize(
    ("answer", "code"),
    [
        (loki, "tempo-is-loki"),
        (grafana, "tempo-not-tempo"),
        (langfuse_of("4.16.0", status=404), "tempo-not-tempo"),
        (web_page, "tempo-not-tempo"),
        (nothing_here, "tempo-not-tempo"),
        (tempo_of("2.4.1"), "tempo-old"),
        (tempo_of("3.0.3", ready=503), "tempo-not-ready"),
        (lambda *_: (401, {"Content-Type": "text/plain"}, b"no org id\n"), "tempo-tenant"),
    ],
)
def test_what_is_wrong_with_a_tempo_is_named(stack: ExitStack, answer: Answer, code: str):
    """Another program, an old one, one that starts, one with tenants."""
    (one,) = look("tempo", {"OTELBRIDGE_TEMPO_URL": start(stack, answer).url})
    assert one.code == code
    assert one.level != "ok"


def test_who_answers_in_tempo_s_place_is_named(stack: ExitStack):
    """By the health address of each."""
    for answer, who in ((loki, "Loki"), (grafana, "Grafana")):
        (one,) = look("tempo", {"OTELBRIDGE_TEMPO_URL": start(stack, answer).url})
        assert one.what.startswith(who)


def test_a_tempo_that_nobody_asked_for_is_a_note_without_compose(tmp_path: Path):
    """Given, or part of a compose stack: an error."""

    def refused(*_: Any, **__: Any) -> list[Any]:
        return [(socket.AF_INET, socket.SOCK_STREAM, 6, "", ("127.0.0.1", port))]

    with socket.socket() as held:
        held.bind(("127.0.0.1", 0))
        port = held.getsockname()[1]
        levels = [
            look("tempo", {}, resolve=refused, directory=tmp_path)[0].level,
            look("tempo", {"OTELBRIDGE_TEMPO_URL": "http://tempo:3200"}, resolve=refused)[0].level,
        ]
        (tmp_path / "docker-compose.yml").write_text("services: {}\n")
        levels.append(look("tempo", {}, resolve=refused, directory=tmp_path)[0].level)
    assert levels == ["note", "error", "error"]
