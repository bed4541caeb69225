"""Grafana's own JavaScript libraries for tests: installed once, asked through one node process.

`node/` holds what is installed (exact versions, checksums in the lock) and the scripts; packages go
to <project>/.cache/grafana-node-<hash of versions and lock>. Without node, or where the packages
cannot be had, tests are skipped with the reason; under CI a failed installation is a failed test.
Limits: @grafana/ui, @grafana/runtime and all drawing are stand-ins (node/stand_ins.js).
"""

from __future__ import annotations

import atexit
import functools
import hashlib
import json
import os
import shutil
import subprocess
import tempfile
from pathlib import Path
from typing import Any, Final

import pytest

HERE: Final = Path(__file__).resolve().parent / "node"
CACHE: Final = Path(__file__).resolve().parents[2] / ".cache"
_MANIFESTS: Final = ("package.json", "package-lock.json", ".npmrc")
_INSTALL_SECONDS: Final = 240
#: What @grafana/scenes and its dependencies need; older ones stop at syntax they do not know.
_NODE_MAJOR: Final = 20


class InstallError(Exception):
    """npm could not install what the lock says."""


def ask(op: str, **question: Any) -> Any:
    """The answer of node/main.js; `op` is one of its operations.

    Skips the test where node or the packages are not to be had.

    Raises:
        NodeError: the script failed; the message has its stack, or what it wrote before it ended.
    """
    return _process(found(_state())).ask({"op": op, **question})


class NodeError(AssertionError):
    """Grafana's code or a script of ours threw."""


class _Process:
    """node/main.js, running until this process ends: loading the libraries takes most of a call."""

    def __init__(self, folder: Path) -> None:
        self._log = tempfile.TemporaryFile("w+", encoding="utf-8")  # noqa: SIM115 - see close
        self._child = subprocess.Popen(
            ["node", str(HERE / "main.js")],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._log,
            env={**_environment(), "NODE_PATH": str(folder / "node_modules")},
            text=True,
        )
        atexit.register(self.close)

    def ask(self, question: dict[str, Any]) -> Any:
        assert self._child.stdin is not None
        assert self._child.stdout is not None
        self._child.stdin.write(json.dumps(question) + "\n")
        self._child.stdin.flush()
        line = self._child.stdout.readline()
        if not line:
            self._log.seek(0)
            raise NodeError(f"node ended: {self._log.read()[-4000:]}")
        reply = json.loads(line)
        if "error" in reply:
            raise NodeError(reply["error"])
        return reply["answer"]

    def close(self) -> None:
        """Close its input, at which it ends."""
        assert self._child.stdin is not None
        assert self._child.stdout is not None
        self._child.stdin.close()
        try:
            self._child.wait(5)
        except subprocess.TimeoutExpired:
            self._child.kill()
            self._child.wait()
        self._child.stdout.close()
        self._log.close()


_process = functools.cache(_Process)


def state() -> Path | InstallError | str:
    """Where the packages are; else the failed installation, or why none was tried."""
    missing = unusable_node()
    if missing:
        return missing
    try:
        return install(CACHE)
    except InstallError as error:
        return error


_state = functools.cache(state)  # a failed installation is not tried again by each test


def found(answer: Path | InstallError | str) -> Path:
    """The directory with node_modules; else the test is skipped, or fails under CI."""
    if isinstance(answer, Path):
        return answer
    if isinstance(answer, InstallError) and os.environ.get("CI"):
        pytest.fail(str(answer))
    pytest.skip(str(answer))


def unusable_node() -> str:
    """Why node cannot be used here; empty text when it can."""
    for tool in ("node", "npm"):
        if shutil.which(tool) is None:
            return f"{tool} is not installed: Grafana's own libraries cannot be asked"
    told = subprocess.run(["node", "--version"], capture_output=True, text=True, check=True)
    major = int(told.stdout.removeprefix("v").partition(".")[0])
    if major < _NODE_MAJOR:
        return f"node {told.stdout.strip()} is too old: {_NODE_MAJOR} or newer is needed"
    return ""


def install(cache: Path, source: Path = HERE) -> Path:
    """`npm ci` of `source` into a directory of `cache` named by its content, once.

    Raises:
        InstallError: with npm's own message.
    """
    digest = hashlib.sha256(b"".join((source / name).read_bytes() for name in _MANIFESTS))
    target = cache / f"grafana-node-{digest.hexdigest()[:16]}"
    if (target / "node_modules").is_dir():
        return target
    cache.mkdir(exist_ok=True)
    with tempfile.TemporaryDirectory(prefix="grafana-node-", dir=cache) as scratch:
        work = Path(scratch) / "made"
        work.mkdir()
        for name in _MANIFESTS:
            shutil.copy(source / name, work)
        try:
            done = subprocess.run(
                ["npm", "ci", "--prefer-offline", "--no-progress"],
                cwd=work,
                env=_environment(),
                capture_output=True,
                text=True,
                timeout=_INSTALL_SECONDS,
                check=False,
            )
        except subprocess.TimeoutExpired as error:
            raise InstallError(f"npm ci took more than {_INSTALL_SECONDS} s") from error
        if done.returncode:
            raise InstallError(f"npm ci failed: {done.stderr[:1000]}")
        try:
            work.rename(target)
        except OSError:  # another process was faster
            if not (target / "node_modules").is_dir():
                raise
    return target


def _environment() -> dict[str, str]:
    """This process' environment, without what changes how node runs scripts, and in UTC."""
    changes = ("NODE_OPTIONS", "NODE_PATH")
    return {key: value for key, value in os.environ.items() if key not in changes} | {"TZ": "UTC"}
