"""Prompts in memory: fresh ones at once, stale ones at once while they are fetched again.

Each fetch runs in a daemon thread of its own, so that a caller's wait has a hard end whatever the
network does, and only the first caller of a prompt that nothing is known of waits. Then the order
is: Langfuse, the offline copy (`prompt_files`), the caller's fallback, an error. Threads and forks
share nothing but the cache's values. `prompts` is its public face.
"""

from __future__ import annotations

import logging
import os
import threading
import time
from collections import OrderedDict
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Final
from urllib.parse import quote

from otelbridge import _guard
from otelbridge.errors import ConfigError, OtelbridgeError
from otelbridge.langfuse.client import LangfuseApi, LangfuseApiError
from otelbridge.langfuse.prompt_files import PromptFiles
from otelbridge.langfuse.prompt_text import Prompt, from_answer
from otelbridge.settings import CLOUD_HOST, Settings

Key = tuple[str, str]
#: Prompts that a process keeps; the least recently used one goes first.
MAX_PROMPTS: Final = 1000
#: How long Langfuse is left alone after a fetch that failed.
RETRY_SECONDS: Final = 5.0
#: What Retry-After may ask for at most.
LONGEST_REST_SECONDS: Final = 300.0
#: A fetch that is older is given up: a server that drips bytes keeps every other limit from biting.
FETCH_SECONDS: Final = 30.0

_logger = logging.getLogger("otelbridge")


class PromptNotFoundError(OtelbridgeError):
    """Langfuse knows no prompt of this name with this version or label."""


class PromptUnavailableError(OtelbridgeError):
    """Langfuse did not give the prompt, and there is neither a copy nor a fallback."""


@dataclass(slots=True)
class _Entry:
    """What is known of one prompt; guarded by the cache's lock.

    Attributes:
        fetched_at: Monotonic seconds of the last answer; None while it is only a copy.
        retry_at: Not fetched again before.
        fetching: Set while a thread fetches; waiting callers hold the event.
        began_at: When that began.
        api: What it asks by.
    """

    prompt: Prompt | None = None
    fetched_at: float | None = None
    retry_at: float = 0.0
    error: OtelbridgeError | None = None
    looked_on_disk: bool = False
    fetching: threading.Event | None = None
    began_at: float = 0.0
    api: LangfuseApi | None = None

    def is_fresh(self, ttl_seconds: float, now: float) -> bool:
        return self.fetched_at is not None and now - self.fetched_at < ttl_seconds


class PromptCache:
    """The prompts of one Langfuse project.

    Args:
        settings: With Langfuse's keys, else every prompt is unavailable.
        clock: Monotonic seconds; for tests.
    """

    def __init__(self, settings: Settings, clock: Callable[[], float] = time.monotonic) -> None:
        self._settings = settings.langfuse
        self._clock = clock
        host = (settings.langfuse.host or CLOUD_HOST).rstrip("/")
        self._files = PromptFiles(
            settings.prompts_directory, (host, settings.langfuse.public_key or "")
        )
        self._lock = _guard.fork_safe_lock()
        self._entries: OrderedDict[Key, _Entry] = OrderedDict()
        self._pid = os.getpid()
        self._warned: set[str] = set()

    def get(
        self, key: Key, *, ttl_seconds: float, timeout_seconds: float, has_fallback: bool
    ) -> Prompt:
        """The prompt of a name and a version or label.

        Args:
            key: Name; `version:<n>` or `label:<text>`.
            ttl_seconds: Younger ones are given without asking Langfuse.
            timeout_seconds: The most that this call may take.
            has_fallback: The caller has a text of its own: after one failure it never waits again.
        Raises:
            PromptNotFoundError: Langfuse answers that there is none.
            PromptUnavailableError: Langfuse does not answer, or refuses, and there is no copy.
        """
        with self._lock:
            entry = self._entry(key)
            now = self._clock()
            if entry.prompt is not None and entry.is_fresh(ttl_seconds, now):
                return entry.prompt
            resting = now < entry.retry_at
            waiting = None if resting else self._start(key, entry)
            known, failed = entry.prompt, entry.error is not None
        if waiting is not None:
            first = known is None and not (failed and has_fallback)
            uncached = known is not None and ttl_seconds <= 0 and not failed
            if (first or uncached) and not waiting.wait(timeout_seconds):
                self._overdue(entry, timeout_seconds)
        return self._known(key, entry)

    def warn_of_fallback(self, key: Key, error: OtelbridgeError) -> None:
        """Say once for each prompt that the caller goes on with a text of its own."""
        reason = str(error.__cause__ or error).removesuffix(".")
        self._warn(f"fallback {key}", f"{reason}. The fallback is used", key)

    def forget(self, name: str = "", *, labels: Iterable[str] = ()) -> None:
        """Forget the prompts of a name, or all, and the copies on disk of these labels."""
        with self._lock:
            for key in [key for key in self._entries if name in ("", key[0])]:
                del self._entries[key]
        for label in labels:
            self._files.drop((name, f"label:{label}"))

    # -- what is known --------------------------------------------------------------------------
    def _entry(self, key: Key) -> _Entry:
        if self._pid != os.getpid():  # its threads stay with the parent
            self._pid = os.getpid()
            for one in self._entries.values():
                one.fetching = None
        entry = self._entries.setdefault(key, _Entry())
        self._entries.move_to_end(key)
        if len(self._entries) > MAX_PROMPTS:
            self._entries.popitem(last=False)
        return entry

    def _overdue(self, entry: _Entry, timeout_seconds: float) -> None:
        """One caller has waited in vain: those that can go on without do not wait again."""
        with self._lock:
            if entry.error is None and entry.fetching is not None:
                entry.error = PromptUnavailableError(f"no answer within {timeout_seconds:g} s.")

    def _known(self, key: Key, entry: _Entry) -> Prompt:
        if entry.prompt is not None:
            return entry.prompt
        error = entry.error
        if isinstance(error, PromptNotFoundError):
            raise PromptNotFoundError(str(error)) from error  # a traceback of its own each time
        copy = None if entry.looked_on_disk else self._files.get(key)
        with self._lock:
            entry.looked_on_disk = True
            if entry.prompt is None and copy is not None:
                entry.prompt = copy
            found = entry.prompt
        if found is not None:
            if copy is found:
                self._warn(f"copy {key}", "the offline copy is used", key)
            return found
        reason = str(error) if error else "no answer."
        raise PromptUnavailableError(
            f"Prompt {key[0]!r} ({_shown(key)}) cannot be had from Langfuse and there is no "
            f"offline copy: {reason} Give get_prompt a fallback to go on without it."
        ) from error

    def _warn(self, once: str, text: str, key: Key) -> None:
        if once not in self._warned:
            self._warned.add(once)
            _logger.warning(
                "otelbridge: prompt %r (%s): %s until Langfuse answers.", key[0], _shown(key), text
            )

    # -- fetching -------------------------------------------------------------------------------
    def _start(self, key: Key, entry: _Entry) -> threading.Event:
        """The event of the fetch under way, which is started if there is none."""
        now = self._clock()
        if entry.fetching is not None:
            if now - entry.began_at < FETCH_SECONDS:
                return entry.fetching
            if entry.api is not None:
                entry.api.close()  # its thread ends with an error, and touches nothing any more
        # Here and not in the thread, where it could meet the application's own import of it.
        import httpx  # noqa: F401

        done = entry.fetching = threading.Event()
        entry.began_at = now
        thread = threading.Thread(
            target=self._fetch, args=(key, entry, done), name="otelbridge-prompt", daemon=True
        )
        try:
            thread.start()
        except RuntimeError as error:  # no more threads, or the interpreter is ending
            entry.fetching = None
            entry.error = PromptUnavailableError(f"{error}.")
            entry.retry_at = self._clock() + RETRY_SECONDS
            done.set()
        return done

    def _fetch(self, key: Key, entry: _Entry, done: threading.Event) -> None:
        prompt, failure = None, None
        try:
            with self._api() as entry.api:  # one connection a minute needs no pool, see forks
                prompt = self._ask(entry.api, key)
        except OtelbridgeError as error:
            failure = error
        except Exception as error:  # noqa: BLE001 - a thread of ours must end well
            _guard.record_failure("fetching a prompt", error)
            failure = PromptUnavailableError(f"{type(error).__name__}.")
        with self._lock:
            if entry.fetching is not done:
                return  # given up, or of the parent process
            now = self._clock()
            had = entry.prompt
            entry.fetching, entry.error, entry.api = None, failure, None
            if prompt is not None:
                entry.prompt, entry.fetched_at, entry.retry_at = prompt, now, 0.0
            else:
                rest = getattr(failure, "retry_after_seconds", None) or RETRY_SECONDS
                entry.retry_at = now + min(rest, LONGEST_REST_SECONDS)
        done.set()
        if prompt is not None:
            if prompt != had or not entry.looked_on_disk:
                entry.looked_on_disk = True
                self._files.put(key, prompt)
        elif had is not None:
            self._warn(f"stale {key}", f"{failure} What is known is used", key)

    def _ask(self, api: LangfuseApi, key: Key) -> Prompt:
        name, wanted = key
        kind, _, value = wanted.partition(":")
        path = f"/api/public/v2/prompts/{quote(name, safe='')}"
        try:
            answer = api.request("GET", path, query={kind: value})
        except LangfuseApiError as error:
            if error.status == 404:
                raise PromptNotFoundError(
                    f"Langfuse at {api.host} knows no prompt {name!r} with {_shown(key)}. "
                    f"`otelbridge prompts list` shows what it knows."
                ) from error
            raise
        try:
            return from_answer(answer)
        except ValueError as error:
            raise LangfuseApiError(f"Langfuse at {api.host}: GET {path}: {error}.") from error

    def _api(self) -> LangfuseApi:
        if not self._settings.configured:
            missing = " and ".join(self._settings.missing_keys)
            if missing:
                raise ConfigError(missing, "", "the keys of a Langfuse project")
            raise ConfigError("LANGFUSE_ENABLED", "false", "true, for prompts")
        return LangfuseApi(self._settings)


def _shown(key: Key) -> str:
    kind, _, value = key[1].partition(":")
    return f"{kind} {value}" if kind == "version" else f"{kind} {value!r}"
