"""The offline copies of prompts: one small file each, for a start while Langfuse is away.

Below OTELBRIDGE_PROMPTS_DIR, one directory for each Langfuse project (host and public key, hashed),
0700 with files 0600. A file is written beside its place and renamed, so that a reader sees the old
one or the new one. Nothing here raises: a copy that cannot be written or read is no copy, and one
warning says so. Used by `prompts`.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import logging
import os
import secrets
from pathlib import Path
from typing import Any, Final

from otelbridge.langfuse.prompt_text import Prompt, as_answer, from_answer

#: A copy over this many bytes is not ours.
_MAX_BYTES: Final = 10_000_000
_FORMAT: Final = 1

_logger = logging.getLogger("otelbridge")


class PromptFiles:
    """Copies of one project's prompts.

    Args:
        directory: OTELBRIDGE_PROMPTS_DIR; empty text: no copies.
        project: What tells projects apart: host and public key.
    """

    def __init__(self, directory: str, project: tuple[str, str]) -> None:
        self._directory = Path(directory) / _hash(*project) if directory else None
        self._warned = False

    def put(self, key: tuple[str, str], prompt: Prompt) -> None:
        """Keep a copy.

        Args:
            key: Name, and the version or label that was asked for.
        """
        if self._directory is None:
            return
        content = {"format": _FORMAT, "key": list(key), "prompt": as_answer(prompt)}
        path = self._path(key)
        draft = path.with_name(f".{path.name}-{secrets.token_hex(6)}")
        try:
            data = json.dumps(content, ensure_ascii=False).encode("utf-8", "surrogatepass")
            self._directory.mkdir(parents=True, exist_ok=True, mode=0o700)
            file = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW, 0o600)
            with os.fdopen(file, "wb") as opened:
                opened.write(data)
            draft.replace(path)
        except (OSError, TypeError, ValueError) as error:
            with contextlib.suppress(OSError):
                draft.unlink(missing_ok=True)
            self._warn("written", error)

    def get(self, key: tuple[str, str]) -> Prompt | None:
        """The copy of a prompt; None without one, or when it is damaged."""
        if self._directory is None:
            return None
        try:
            with self._path(key).open("rb") as opened:
                content: Any = json.loads(opened.read(_MAX_BYTES))
            if content["format"] != _FORMAT or content["key"] != list(key):
                return None
            return from_answer(content["prompt"])
        except FileNotFoundError:
            return None
        except (OSError, KeyError, TypeError, ValueError) as error:
            self._warn("read", error)
            return None

    def drop(self, key: tuple[str, str]) -> None:
        """Forget the copy of a prompt."""
        if self._directory is not None:
            with contextlib.suppress(OSError):
                self._path(key).unlink(missing_ok=True)

    def _path(self, key: tuple[str, str]) -> Path:
        assert self._directory is not None
        return self._directory / f"{_hash(*key)}.json"

    def _warn(self, what: str, error: Exception) -> None:
        if not self._warned:
            self._warned = True
            _logger.warning(
                "otelbridge: offline copies of prompts cannot be %s in %s (%s); prompts come from "
                "Langfuse only. Set OTELBRIDGE_PROMPTS_DIR to a directory that this user may "
                "write, or to `off`.",
                what,
                self._directory,
                error,
            )


def _hash(*parts: str) -> str:
    return hashlib.sha256("\0".join(parts).encode("utf-8", "replace")).hexdigest()[:32]
