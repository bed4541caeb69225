"""`get_prompt` against servers that fail in every way a network can: it ends in time."""

from __future__ import annotations

import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path

import pytest

from otelbridge.langfuse import active, client, prompt_cache
from otelbridge.langfuse.prompts import PromptUnavailableError, get_prompt
from otelbridge.settings import Settings

HEAD = b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\n"


def _drip(peer: socket.socket, stop: threading.Event) -> None:
    """A byte now and then keeps every time-out of a single read from striking."""
    peer.sendall(HEAD + b"content-length: 100000\r\n\r\n")
    while not stop.wait(0.05):
        peer.sendall(b" ")


#: What a server does with a connection after it has read the request.
FAULTS: dict[str, Callable[[socket.socket, threading.Event], None]] = {
    "says nothing": lambda _, stop: stop.wait(30) and None,
    "closes": lambda _, __: None,
    "resets": lambda peer, _: peer.setsockopt(
        socket.SOL_SOCKET, socket.SO_LINGER, b"\x01\x00\x00\x00\x00\x00\x00\x00"
    ),
    "stops in the middle": lambda peer, _: peer.sendall(
        HEAD + b'content-length: 99\r\n\r\n{"name"'
    ),
    "drips": _drip,
    "answers HTML": lambda peer, _: peer.sendall(
        b"HTTP/1.1 200 OK\r\ncontent-length: 6\r\n\r\n<html>"
    ),
    "answers something else": lambda peer, _: peer.sendall(HEAD + b"content-length: 2\r\n\r\n[]"),
    "redirects": lambda peer, _: peer.sendall(
        b"HTTP/1.1 302 Found\r\nlocation: http://127.0.0.1:9/\r\ncontent-length: 0\r\n\r\n"
    ),
    "speaks no HTTP": lambda peer, _: peer.sendall(b"220 mail ready\r\n"),
}


@pytest.fixture(params=FAULTS)
def faulty(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """The address of a server with this fault."""
    fault, stop = FAULTS[request.param], threading.Event()
    api = client.LangfuseApi
    monkeypatch.setattr(prompt_cache, "LangfuseApi", lambda s: api(s, timeout_seconds=2))
    listener = socket.create_server(("127.0.0.1", 0))

    def serve(peer: socket.socket) -> None:
        with suppress(OSError), peer:
            peer.recv(65536)
            fault(peer, stop)

    def accept() -> None:
        with suppress(OSError):
            while True:
                peer, _ = listener.accept()
                threading.Thread(target=serve, args=(peer,), daemon=True).start()

    thread = threading.Thread(target=accept, daemon=True)
    thread.start()
    yield f"http://127.0.0.1:{listener.getsockname()[1]}"
    stop.set()
    listener.shutdown(socket.SHUT_RDWR)
    listener.close()
    thread.join(10)
    deadline = time.monotonic() + 20
    while any(one.name == "otelbridge-prompt" for one in threading.enumerate()):
        assert time.monotonic() < deadline, "a fetch does not end"
        time.sleep(0.01)


def test_every_fault_ends_in_the_fallback_in_time(faulty: str, tmp_path: Path) -> None:
    """The first call waits for its time-out at most, the next fifty not at all; no other errors."""
    environment = {
        "LANGFUSE_HOST": faulty, "LANGFUSE_PUBLIC_KEY": "pk-lf-a", "LANGFUSE_SECRET_KEY": "sk-lf-a",
        "OTELBRIDGE_PROMPTS_DIR": str(tmp_path),
    }  # fmt: skip
    active.use(Settings.from_env(environment))
    started = time.perf_counter()
    assert get_prompt("p", fallback="Hi {{a}}", timeout_seconds=0.5).compile(a=1) == "Hi 1"
    first = time.perf_counter() - started
    for _ in range(50):
        with pytest.raises(PromptUnavailableError):
            get_prompt("p", timeout_seconds=0.01)
        assert get_prompt("p", fallback="x", timeout_seconds=30).is_fallback
    active.use(None)
    assert first < 5, "half a second was allowed; a slow machine gets ten times that"
    assert time.perf_counter() - started < 25, "no call of these waited its 30 s"
    assert not list(tmp_path.rglob("*.json")), "nothing of it is kept"


def test_a_fetch_that_never_ends_is_given_up(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A server that drips bytes does not keep the prompt from being fetched when it recovers."""
    monkeypatch.setattr(prompt_cache, "FETCH_SECONDS", 10.0)
    stop, now = threading.Event(), [0.0]
    with socket.create_server(("127.0.0.1", 0)) as listener:
        environment = {
            "LANGFUSE_HOST": f"http://127.0.0.1:{listener.getsockname()[1]}",
            "LANGFUSE_PUBLIC_KEY": "pk-lf-a", "LANGFUSE_SECRET_KEY": "sk-lf-a",
            "OTELBRIDGE_PROMPTS_DIR": str(tmp_path),
        }  # fmt: skip
        cache = prompt_cache.PromptCache(Settings.from_env(environment), lambda: now[0])

        def asked() -> tuple[socket.socket, prompt_cache.Key]:
            key = ("p", "label:production")
            with pytest.raises(PromptUnavailableError):
                cache.get(key, ttl_seconds=60, timeout_seconds=0.05, has_fallback=True)
            return listener.accept()[0], key

        dripping, key = asked()
        with dripping:
            dripping.recv(65536)
            dripper = threading.Thread(target=_quietly, args=(dripping, stop), daemon=True)
            dripper.start()
            now[0] += 11
            good, key = asked()
            with good:
                good.recv(65536)
                body = b'{"name": "p", "version": 4, "type": "text", "prompt": "x"}'
                good.sendall(HEAD + b"content-length: %d\r\n\r\n" % len(body) + body)
                deadline = time.monotonic() + 20
                while cache._entry(key).prompt is None:
                    assert time.monotonic() < deadline
                    time.sleep(0.005)
            while any(one.name == "otelbridge-prompt" for one in threading.enumerate()):
                assert time.monotonic() < deadline, "the first fetch does not end"
                time.sleep(0.01)
            stop.set()
            dripper.join(10)
    found = cache.get(key, ttl_seconds=60, timeout_seconds=0.05, has_fallback=True)
    assert found.version == 4


def _quietly(peer: socket.socket, stop: threading.Event) -> None:
    with suppress(OSError):
        _drip(peer, stop)
