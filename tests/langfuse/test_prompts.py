"""Prompts through the stand-in: cache, copies, fallbacks, versions, labels, and the link."""

from __future__ import annotations

import logging
import os
import stat
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from otelbridge.errors import ConfigError
from otelbridge.langfuse import active, prompts
from otelbridge.langfuse.client import LangfuseApiError
from otelbridge.langfuse.prompt_cache import RETRY_SECONDS, PromptCache
from otelbridge.langfuse.prompts import (
    Prompt,
    PromptNotFoundError,
    PromptUnavailableError,
    create_prompt,
    get_prompt,
    list_prompts,
    rollback_prompt,
    set_labels,
)
from otelbridge.settings import Settings
from tests.langfuse.stand_in import StandIn

PATH = "/api/public/v2/prompts"


class Clock:
    """Monotonic seconds that a test moves."""

    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


BOTH = pytest.mark.parametrize("running", ["v3", "v4"], indirect=True)


@pytest.fixture(scope="module")
def running(request: pytest.FixtureRequest) -> Iterator[StandIn]:
    """v4, or what a test asks for: the routes are the same."""
    with StandIn(getattr(request, "param", "v4")) as stand_in:
        yield stand_in


@pytest.fixture
def langfuse(running: StandIn, tmp_path: Path) -> Iterator[StandIn]:
    """The stand-in, empty, as the active project, with copies in a directory of the test."""
    running.recover()
    running.area("prompts").clear()
    running.seen.clear()
    active.use(settings_of(running, tmp_path))
    yield running
    running.recover()
    active.use(None)


def settings_of(stand_in: StandIn, directory: Path, **more: str) -> Settings:
    return Settings.from_env(
        {**stand_in.environment, "OTELBRIDGE_PROMPTS_DIR": str(directory), **more}
    )


def until(holds: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 20
    while not holds():
        assert time.monotonic() < deadline, "it never came true"
        time.sleep(0.005)


def asked(stand_in: StandIn, name: str) -> int:
    return len(stand_in.requests(f"{PATH}/{name}", "GET"))


@BOTH
def test_versions_labels_and_rollback(langfuse: StandIn) -> None:
    """Each create is a version, a label is on one version, a rollback moves it back."""
    create_prompt("greet", "Hello {{name}}", labels=["production"], config={"t": 0.1}, tags=["x"])
    create_prompt("greet", "Hi {{name}}", labels=["production", "beta"], commit_message="shorter")
    now = get_prompt("greet")
    assert (now.version, now.prompt, now.commit_message) == (2, "Hi {{name}}", "shorter")
    assert set(now.labels) == {"production", "beta", "latest"}
    first = get_prompt("greet", version=1)
    assert (first.labels, first.config, first.tags) == ((), {"t": 0.1}, ("x",))

    done = rollback_prompt("greet")
    assert (done.from_version, done.to_version) == (2, 1)
    assert get_prompt("greet").version == 1, "this process gives it at once"
    assert get_prompt("greet", label="beta").version == 2
    with pytest.raises(PromptNotFoundError, match="no version before 1"):
        rollback_prompt("greet")
    assert rollback_prompt("greet", to_version=2).to_version == 2
    (listed,) = list_prompts()
    assert (listed.name, listed.versions, listed.type) == ("greet", (1, 2), "text")


def test_rollback_skips_versions_that_were_deleted(langfuse: StandIn) -> None:
    """The version before is the newest one that still exists."""
    for number in range(3):
        create_prompt("p", f"v{number}", labels=["production"])
    del langfuse.area("prompts")["p"][1]
    assert rollback_prompt("p").to_version == 1


@BOTH
def test_names_with_folders_and_lists_over_pages(langfuse: StandIn) -> None:
    """A folder's slash is part of the name; a list is read to its last page."""
    for number in range(103):
        langfuse.area("prompts")[f"n{number:03}"] = []
        create_prompt(f"n{number:03}", "x") if number in (0, 102) else None
    create_prompt("support/answer", [{"role": "user", "content": "{{q}}"}], labels=["production"])
    assert get_prompt("support/answer").compile(q="why") == [{"role": "user", "content": "why"}]
    assert {one.name for one in list_prompts()} == {"n000", "n102", "support/answer"}


@pytest.mark.parametrize(
    ("call", "error"),
    [
        (lambda: create_prompt("p", "x", labels=["Not Allowed"]), LangfuseApiError),
        (lambda: create_prompt("p", 7), ValueError),  # type: ignore[arg-type]
        (lambda: set_labels("p", 1, ["latest"]), ValueError),
        (lambda: set_labels("p", 9, ["beta"]), PromptNotFoundError),
        (lambda: rollback_prompt("p", label="nowhere"), PromptNotFoundError),
        (lambda: rollback_prompt("p", label="latest"), ValueError),
        (lambda: get_prompt(""), ValueError),
        (lambda: get_prompt("p", version=0), ValueError),
        (lambda: get_prompt("p", fallback=3), ValueError),  # type: ignore[arg-type]
        (lambda: get_prompt("p", label="nowhere"), PromptNotFoundError),
    ],
)
def test_what_cannot_be_done_is_said(
    langfuse: StandIn, call: Callable[[], object], error: type[Exception]
) -> None:
    """Mistakes of the program and refusals of Langfuse raise, each its own class."""
    create_prompt("p", "text")
    with pytest.raises(error):
        call()


def test_a_type_cannot_change(langfuse: StandIn) -> None:
    """Langfuse's own reason is in the message."""
    create_prompt("p", "text")
    with pytest.raises(LangfuseApiError, match="different prompt type"):
        create_prompt("p", [{"role": "user", "content": "x"}])


def test_a_fresh_prompt_costs_no_request(langfuse: StandIn) -> None:
    """A thousand calls within the time to live are one request."""
    create_prompt("p", "text", labels=["production"])
    for _ in range(1000):
        get_prompt("p")
    assert asked(langfuse, "p") == 1


def test_many_threads_ask_once(langfuse: StandIn) -> None:
    """Callers of a prompt that is being fetched wait for that one fetch."""
    create_prompt("p", "text", labels=["production"])
    cache = PromptCache(active.current())
    with ThreadPoolExecutor(16) as pool:
        found = list(pool.map(lambda _: of(cache, "p", timeout=20), range(64)))
    assert {prompt.version for prompt in found} == {1}
    assert asked(langfuse, "p") == 1


def of(
    cache: PromptCache, name: str, *, ttl: float = 60, timeout: float = 10, fallback: bool = False
) -> Prompt:
    return cache.get(
        (name, "label:production"),
        ttl_seconds=ttl, timeout_seconds=timeout, has_fallback=fallback,
    )  # fmt: skip


def test_a_stale_prompt_is_given_at_once_while_it_is_fetched(langfuse: StandIn) -> None:
    """With a server that takes its time the old version comes at once, the new one afterwards."""
    create_prompt("p", "old", labels=["production"])
    clock = Clock()
    cache = PromptCache(active.current(), clock)
    assert of(cache, "p").prompt == "old"
    create_prompt("p", "new", labels=["production"])
    clock.now += 61
    langfuse.fail(500, f"{PATH}/p", seconds=0.5, body={"message": "slow"})
    started = time.perf_counter()
    for _ in range(20):
        assert of(cache, "p").prompt == "old"
    assert time.perf_counter() - started < 0.4, "nobody waited for the 0.5 s of the server"
    until(lambda: asked(langfuse, "p") == 2)
    until(lambda: cache._entry(("p", "label:production")).fetching is None)
    assert of(cache, "p").prompt == "old", "a failed refresh changes nothing"
    assert asked(langfuse, "p") == 2, "and Langfuse rests for a while"
    clock.now += RETRY_SECONDS + 1
    of(cache, "p")
    until(lambda: of(cache, "p").prompt == "new")
    assert asked(langfuse, "p") == 3


def test_without_a_cache_each_call_asks(langfuse: StandIn) -> None:
    """A time to live of 0 gives what Langfuse has now, and the last known one when it is away."""
    create_prompt("p", "one", labels=["production"])
    assert get_prompt("p", cache_ttl_seconds=0).prompt == "one"
    langfuse.area("prompts")["p"][0]["prompt"] = "two"
    assert get_prompt("p", cache_ttl_seconds=0).prompt == "two"
    langfuse.fail(503, PATH, times=10)
    assert get_prompt("p", cache_ttl_seconds=0).prompt == "two"


def test_the_first_wait_ends_at_its_time_out(langfuse: StandIn) -> None:
    """A server that does not answer costs the time-out once; with a fallback never again."""
    create_prompt("p", "text", labels=["production"])
    langfuse.fail(500, f"{PATH}/p", seconds=2, times=1)
    started = time.perf_counter()
    assert get_prompt("p", timeout_seconds=0.2, fallback="mine").is_fallback
    assert time.perf_counter() - started < 1.9, "the time-out counts, not the server's 2 s"
    started = time.perf_counter()
    with pytest.raises(PromptUnavailableError, match=r"no answer within 0\.2 s"):
        get_prompt("p", timeout_seconds=0.2)
    until(lambda: asked(langfuse, "p") == 1)


def test_a_fallback_keeps_the_program_going_and_langfuse_takes_over(langfuse: StandIn) -> None:
    """Down from the start: the fallback at once; up again: Langfuse's version without a restart."""
    create_prompt("p", "theirs", labels=["production"])
    clock = Clock()
    cache = PromptCache(active.current(), clock)
    langfuse.down()
    try:
        with pytest.raises(PromptUnavailableError, match="did not answer"):
            of(cache, "p", fallback=True)
        for _ in range(50):
            with pytest.raises(PromptUnavailableError):
                of(cache, "p", fallback=True)
    finally:
        langfuse.up()
    clock.now += RETRY_SECONDS + 1
    with pytest.raises(PromptUnavailableError):
        of(cache, "p", fallback=True)  # it does not wait, the fetch runs beside
    until(lambda: cache._entry(("p", "label:production")).prompt is not None)
    assert of(cache, "p", fallback=True).prompt == "theirs"


def test_a_fallback_in_use_is_told_once(
    langfuse: StandIn, caplog: pytest.LogCaptureFixture
) -> None:
    """One warning for each prompt says that the program goes on with its own text, and why."""
    for _ in range(3):
        assert get_prompt("none-such", fallback="mine").is_fallback
    (told,) = [one for one in caplog.messages if "fallback" in one]
    assert "none-such" in told
    assert "knows no prompt" in told


def test_the_offline_copy_starts_a_process_without_langfuse(
    langfuse: StandIn, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """A later process gets the last known version from disk, with one warning."""
    create_prompt("p", "text {{a}}", labels=["production"])
    get_prompt("p")
    until(lambda: bool(list(tmp_path.rglob("*.json"))))
    (copy,) = tmp_path.rglob("*.json")
    assert stat.S_IMODE(copy.stat().st_mode) == 0o600
    assert stat.S_IMODE(copy.parent.stat().st_mode) == 0o700
    assert not list(tmp_path.rglob(".*"))
    langfuse.down()
    try:
        later = PromptCache(settings_of(langfuse, tmp_path))
        with caplog.at_level(logging.WARNING):
            assert [of(later, "p").prompt for _ in range(3)] == ["text {{a}}"] * 3
        assert caplog.text.count("offline copy") == 1
        other = settings_of(langfuse, tmp_path, LANGFUSE_PUBLIC_KEY="pk-lf-other")
        with pytest.raises(PromptUnavailableError):
            of(PromptCache(other), "p")
        copy.write_bytes(copy.read_bytes()[:30])
        with pytest.raises(PromptUnavailableError):
            of(PromptCache(settings_of(langfuse, tmp_path)), "p")
    finally:
        langfuse.up()


def test_too_many_requests_are_not_answered_with_more(langfuse: StandIn) -> None:
    """After 429 Langfuse is left alone for as long as it asks, but not for ever."""
    create_prompt("p", "text", labels=["production"])
    clock = Clock()
    cache = PromptCache(active.current(), clock)
    langfuse.fail(429, PATH, times=1, retry_after=86_400)
    with pytest.raises(PromptUnavailableError, match="429"):
        of(cache, "p")
    clock.now += 299
    with pytest.raises(PromptUnavailableError):
        of(cache, "p")
    assert asked(langfuse, "p") == 1
    clock.now += 2
    assert of(cache, "p").version == 1


def test_a_copy_gives_way_when_langfuse_is_back(langfuse: StandIn, tmp_path: Path) -> None:
    """Started on the copy, the process takes over Langfuse's newer version without a restart."""
    create_prompt("p", "old", labels=["production"])
    get_prompt("p")
    until(lambda: bool(list(tmp_path.rglob("*.json"))))
    create_prompt("p", "new", labels=["production"])
    clock = Clock()
    later = PromptCache(active.current(), clock)
    langfuse.fail(503, PATH, times=1)
    assert of(later, "p").prompt == "old"
    assert of(later, "p").prompt == "old", "Langfuse rests for a while"
    clock.now += RETRY_SECONDS + 1
    assert of(later, "p").prompt == "old", "given at once, while it is fetched"
    until(lambda: of(later, "p").prompt == "new")
    until(lambda: b'"new"' in next(tmp_path.rglob("*.json")).read_bytes())


def test_refused_keys_use_the_copy_and_a_missing_prompt_does_not(
    langfuse: StandIn, tmp_path: Path
) -> None:
    """401 leaves the last known version in force, 404 says that there is none any more."""
    create_prompt("p", "text", labels=["production"])
    get_prompt("p")
    until(lambda: bool(list(tmp_path.rglob("*.json"))))
    langfuse.fail(401, PATH, times=1)
    assert of(PromptCache(active.current()), "p").version == 1
    langfuse.area("prompts").clear()
    with pytest.raises(PromptNotFoundError, match="label 'production'"):
        of(PromptCache(active.current()), "p")


def test_a_directory_that_cannot_be_written_costs_one_warning(
    langfuse: StandIn, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """Prompts come from Langfuse all the same."""
    file = tmp_path / "file"
    file.write_text("not a directory")
    create_prompt("p", "text", labels=["production"])
    create_prompt("q", "text", labels=["production"])
    cache = PromptCache(settings_of(langfuse, file))
    with caplog.at_level(logging.WARNING):
        assert of(cache, "p").version == of(cache, "q").version == 1
        until(lambda: "OTELBRIDGE_PROMPTS_DIR" in caplog.text)
        until(lambda: not any(t.name == "otelbridge-prompt" for t in threading.enumerate()))
    assert caplog.text.count("offline copies") == 1


def test_without_keys_there_is_the_fallback_or_a_clear_error(tmp_path: Path) -> None:
    """Switched off, or without keys, nothing is asked and the message names the variables."""
    for environment, named in (
        ({}, "LANGFUSE_PUBLIC_KEY and LANGFUSE_SECRET_KEY"),
        ({"LANGFUSE_PUBLIC_KEY": "pk-lf-a", "LANGFUSE_SECRET_KEY": "sk-lf-a",
          "LANGFUSE_ENABLED": "false"}, "LANGFUSE_ENABLED"),
    ):  # fmt: skip
        active.use(Settings.from_env({**environment, "OTELBRIDGE_PROMPTS_DIR": str(tmp_path)}))
        assert get_prompt("p", fallback="Hi {{a}}").compile(a=1) == "Hi 1"
        with pytest.raises(PromptUnavailableError, match=named):
            get_prompt("p")
        with pytest.raises(ConfigError, match=named):
            create_prompt("p", "x")
    active.use(None)


@pytest.mark.filterwarnings("ignore:.*fork:DeprecationWarning")
def test_a_forked_child_fetches_for_itself(langfuse: StandIn) -> None:
    """A child made while a fetch was under way neither hangs nor uses the parent's connections."""
    create_prompt("p", "text", labels=["production"])
    create_prompt("q", "text", labels=["production"])
    get_prompt("p")
    langfuse.fail(500, f"{PATH}/q", seconds=1, times=1)
    with pytest.raises(PromptUnavailableError):
        get_prompt("q", timeout_seconds=0.05)
    child = os.fork()
    if child == 0:
        status = 1
        try:
            same = get_prompt("p").version == 1
            prompts.forget()
            status = 0 if same and get_prompt("q", timeout_seconds=20).version == 1 else 2
        finally:
            os._exit(status)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0


def test_the_cache_is_bounded(langfuse: StandIn, monkeypatch: pytest.MonkeyPatch) -> None:
    """The least recently used prompt is forgotten."""
    monkeypatch.setattr("otelbridge.langfuse.prompt_cache.MAX_PROMPTS", 2)
    cache = PromptCache(active.current())
    for name in ("a", "b", "c"):
        create_prompt(name, "x", labels=["production"])
        of(cache, name)
    of(cache, "a")
    assert [asked(langfuse, name) for name in ("a", "b", "c")] == [2, 1, 1]
