"""Prompts of Langfuse's registry: get with cache and fallback, create, label, roll back.

`get_prompt` may stand on the path of a request: `prompt_cache` says what it waits for. What writes
goes to Langfuse at once and raises when it fails. A prompt is a value (`prompt_text`); given to
`chat(prompt=…)` its version is linked to the call. Settings: `active`.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Final
from urllib.parse import quote

from otelbridge import _guard
from otelbridge.errors import ConfigError, OtelbridgeError
from otelbridge.langfuse import active
from otelbridge.langfuse.client import LangfuseApi, LangfuseApiError
from otelbridge.langfuse.prompt_cache import (
    PromptCache,
    PromptNotFoundError,
    PromptUnavailableError,
)
from otelbridge.langfuse.prompt_text import Message, Prompt, checked_template, from_answer
from otelbridge.settings import Settings

__all__ = [
    "Prompt",
    "PromptInfo",
    "PromptNotFoundError",
    "PromptUnavailableError",
    "Rollback",
    "create_prompt",
    "get_prompt",
    "list_prompts",
    "read_prompt",
    "rollback_prompt",
    "set_labels",
]

#: What Langfuse gives when neither version nor label is asked for.
PRODUCTION: Final = "production"
#: Langfuse moves it to the newest version by itself.
LATEST: Final = "latest"
_PROMPTS: Final = "/api/public/v2/prompts"
_PAGE: Final = 100

#: The cache of the settings in force, under the key `cache`.
_state: dict[str, tuple[Settings, PromptCache]] = {}
_lock = _guard.fork_safe_lock()


@dataclass(frozen=True, slots=True)
class PromptInfo:
    """What Langfuse lists of a prompt.

    Attributes:
        versions: Ascending.
    """

    name: str
    type: str
    versions: tuple[int, ...]
    labels: tuple[str, ...]
    tags: tuple[str, ...]
    updated_at: str


@dataclass(frozen=True, slots=True)
class Rollback:
    """What a rollback did: a label went from one version to another."""

    name: str
    label: str
    from_version: int
    to_version: int


def get_prompt(
    name: str,
    *,
    version: int | None = None,
    label: str = PRODUCTION,
    fallback: str | Sequence[Mapping[str, Any]] | None = None,
    cache_ttl_seconds: float = 60.0,
    timeout_seconds: float = 5.0,
) -> Prompt:
    """A prompt of Langfuse's registry, from memory where it is known.

    A prompt that was fetched within `cache_ttl_seconds` is given at once. An older one is given at
    once too, while it is fetched again beside. Only a prompt of which nothing is known is waited
    for. When Langfuse cannot be reached: what is in memory, the copy of an earlier run on disk
    (OTELBRIDGE_PROMPTS_DIR), the fallback, an error, in this order.

    Args:
        name: With its folders: `support/answer`.
        version: This version; `label` is not used then.
        label: The version with this label.
        fallback: Text or chat messages; the prompt then has `is_fallback` and links nothing.
        cache_ttl_seconds: 0 asks Langfuse each time.
        timeout_seconds: The most that this call waits.
    Raises:
        PromptNotFoundError: Langfuse has no such prompt, and there is no fallback.
        PromptUnavailableError: It cannot be had at all, and there is no fallback.
        ValueError: A fallback that is no prompt, no name, a version below 1.
    """
    if not isinstance(name, str) or not name:
        raise ValueError(f"the name of a prompt is text that is not empty, not {name!r}")
    if version is not None and (not isinstance(version, int) or version < 1):
        raise ValueError(f"the version of a prompt is a whole number from 1, not {version!r}")
    template = None if fallback is None else checked_template(fallback)
    key = (name, f"label:{label}" if version is None else f"version:{version}")
    cache = _cache()
    try:
        return cache.get(
            key,
            ttl_seconds=cache_ttl_seconds,
            timeout_seconds=timeout_seconds,
            has_fallback=template is not None,
        )
    except OtelbridgeError as error:
        if template is None:
            raise
        cache.warn_of_fallback(key, error)
        _guard.count("prompt: fallback used")
        return Prompt(name, 0, template, is_fallback=True)


def read_prompt(name: str, *, version: int | None = None, label: str = PRODUCTION) -> Prompt:
    """A prompt as Langfuse has it now, past cache and copies.

    Raises:
        PromptNotFoundError: There is none.
        ConfigError, LangfuseApiError: As `create_prompt`.
    """
    query, what = (
        ({"label": label}, f"with label {label!r}")
        if version is None
        else ({"version": version}, f"version {version}")
    )
    with _api() as api, _not_found(api, name, what):
        return _prompt(api.request("GET", _path(name), query=query))


def create_prompt(
    name: str,
    prompt: str | Sequence[Mapping[str, Any]],
    *,
    labels: Sequence[str] = (),
    tags: Sequence[str] | None = None,
    config: Mapping[str, Any] | None = None,
    commit_message: str = "",
) -> Prompt:
    """A new version of a prompt, the first one if the name is new.

    Args:
        prompt: Text, or chat messages and placeholders; all versions of a name are of one type.
        labels: Lower case, at most 36 characters; each is taken away from the version that has it.
            `production` makes it what `get_prompt` gives.
        tags: Of all versions; None leaves them as they are.
    Raises:
        ConfigError, LangfuseApiError: The keys are missing or refused; Langfuse does not take it.
        ValueError: `prompt` is neither text nor messages.
    """
    template = checked_template(prompt)
    body: dict[str, Any] = {
        "name": name,
        "type": "text" if isinstance(template, str) else "chat",
        "prompt": template if isinstance(template, str) else [_typed(one) for one in template],
        "labels": list(labels),
        "config": dict(config or {}),
    }
    if tags is not None:
        body["tags"] = list(tags)
    if commit_message:
        body["commitMessage"] = commit_message
    with _api() as api:
        created = _prompt(api.request("POST", _PROMPTS, body=body))
    _cache().forget(name)
    return created


def list_prompts(
    *, name: str | None = None, label: str | None = None, tag: str | None = None
) -> list[PromptInfo]:
    """The prompts of the project, of one name, label or tag where asked for.

    Raises:
        ConfigError, LangfuseApiError: As `create_prompt`.
    """
    found: list[PromptInfo] = []
    with _api() as api:
        page = 1
        while True:
            query = {"name": name, "label": label, "tag": tag, "page": page, "limit": _PAGE}
            answer = api.request("GET", _PROMPTS, query=query) or {}
            data = answer.get("data") or []
            found += [_info(one) for one in data]
            if page >= (answer.get("meta") or {}).get("totalPages", 1) or not data:
                return found
            page += 1


def set_labels(name: str, version: int, labels: Sequence[str]) -> Prompt:
    """Labels for a version; each is taken away from the version that has it. None is removed.

    Raises:
        PromptNotFoundError: There is no such version.
        ConfigError, LangfuseApiError: As `create_prompt`.
        ValueError: `latest` is Langfuse's own.
    """
    if LATEST in labels:
        raise ValueError("Langfuse sets the label 'latest' by itself")
    with _api() as api:
        return _labelled(api, name, version, labels)


def rollback_prompt(
    name: str, *, label: str = PRODUCTION, to_version: int | None = None
) -> Rollback:
    """Move a label to the version before the one that has it.

    This process gives the version at once, others when their cache is older than its time to live.

    Args:
        to_version: This version instead of the one before.
    Raises:
        PromptNotFoundError: No version has the label, or there is none before it.
        ConfigError, LangfuseApiError: As `create_prompt`.
    """
    if label == LATEST:
        raise ValueError("Langfuse sets the label 'latest' by itself")
    with _api() as api:
        current = _version_with(api, name, label)
        target = to_version
        if target is None:
            answer = api.request("GET", _PROMPTS, query={"name": name, "limit": _PAGE}) or {}
            versions = [v for one in map(_info, answer.get("data") or []) for v in one.versions]
            earlier = [version for version in versions if version < current]
            if not earlier:
                raise PromptNotFoundError(
                    f"Prompt {name!r} has no version before {current}, which has the label "
                    f"{label!r}. Name one with to_version."
                )
            target = max(earlier)
        _labelled(api, name, target, [label])
    return Rollback(name, label, current, target)


def forget(name: str = "") -> None:
    """Forget what this process knows of the prompts of a name, or of all; copies on disk stay."""
    _cache().forget(name)


def _version_with(api: LangfuseApi, name: str, label: str) -> int:
    with _not_found(api, name, f"with label {label!r}"):
        answer = api.request("GET", _path(name), query={"label": label})
    return _prompt(answer).version


def _labelled(api: LangfuseApi, name: str, version: int, labels: Sequence[str]) -> Prompt:
    with _not_found(api, name, f"version {version}"):
        path = f"{_path(name)}/versions/{version}"
        answer = api.request("PATCH", path, body={"newLabels": list(labels)})
    changed = _prompt(answer)
    _cache().forget(name, labels=labels)
    return changed


@contextmanager
def _not_found(api: LangfuseApi, name: str, what: str) -> Iterator[None]:
    try:
        yield
    except LangfuseApiError as error:
        if error.status != 404:
            raise
        raise PromptNotFoundError(
            f"Langfuse at {api.host} knows no prompt {name!r} {what}."
        ) from error


def _cache() -> PromptCache:
    settings = active.current()
    with _lock:
        found = _state.get("cache")
        if found is None or found[0] is not settings:
            found = _state["cache"] = (settings, PromptCache(settings))
        return found[1]


def _api() -> LangfuseApi:
    settings = active.current().langfuse
    if not settings.configured:
        variable = " and ".join(settings.missing_keys) or "LANGFUSE_ENABLED"
        raise ConfigError(
            variable, "", "what Langfuse's API needs: both keys, and not switched off"
        )
    return LangfuseApi(settings)


def _path(name: str) -> str:
    return f"{_PROMPTS}/{quote(name, safe='')}"


def _prompt(answer: Any) -> Prompt:
    try:
        return from_answer(answer)
    except ValueError as error:
        raise LangfuseApiError(
            f"Langfuse's answer about a prompt cannot be read: {error}."
        ) from error


def _typed(message: Message) -> Message:
    """A message with the `type` that Langfuse's request wants."""
    return message if "type" in message else {"type": "chatmessage", **message}


def _info(one: Mapping[str, Any]) -> PromptInfo:
    return PromptInfo(
        name=str(one.get("name", "")),
        type=str(one.get("type", "text")),
        versions=tuple(sorted(int(version) for version in one.get("versions") or ())),
        labels=tuple(one.get("labels") or ()),
        tags=tuple(one.get("tags") or ()),
        updated_at=str(one.get("lastUpdatedAt", "")),
    )
