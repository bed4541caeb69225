"""An environment of its own with the packages that otelbridge is measured against.

They never go into the project's environment: their pins and their instrumentations would change
it. It stands in `.cache/peers-<hash>`, by Python version and `requirements-peers.txt`, is made once
and is only usable as a whole (a stamp is written last).
"""

from __future__ import annotations

import hashlib
import json
import platform
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Final

from benchmarks._results import ROOT

REQUIREMENTS: Final = ROOT / "benchmarks" / "requirements-peers.txt"
_INSTALL_SECONDS: Final = 900
_LIST = """
import json, sys
from importlib.metadata import version
print(json.dumps({name: version(name) for name in sys.argv[1:]}))
"""


class PeersMissingError(Exception):
    """The environment cannot be made; the text says why."""


def peers_python(requirements: Path = REQUIREMENTS, cache: Path | None = None) -> Path:
    """The interpreter of the environment, which is installed if it is not there.

    Raises:
        PeersMissingError: no venv module, no package index, or packages that do not resolve.
    """
    text = f"{platform.python_version()}\n{requirements.read_text(encoding='utf-8')}"
    key = hashlib.sha256(text.encode()).hexdigest()[:16]
    folder = (cache or ROOT / ".cache") / f"peers-{key}"
    python, stamp = folder / "bin" / "python", folder / ".installed"
    if stamp.exists():
        return python
    shutil.rmtree(folder, ignore_errors=True)
    _run([sys.executable, "-m", "venv", str(folder)])
    pip = [str(python), "-m", "pip", "--disable-pip-version-check", "--no-input"]
    try:
        _run([*pip, "install", "--quiet", "--progress-bar", "off", "-r", str(requirements)])
    except PeersMissingError:
        shutil.rmtree(folder, ignore_errors=True)
        raise
    stamp.touch()
    return python


def _run(command: list[str]) -> None:
    try:
        subprocess.run(
            command, capture_output=True, text=True, check=True, timeout=_INSTALL_SECONDS
        )
    except subprocess.CalledProcessError as error:
        lines = (error.stderr or error.stdout or "").strip().splitlines()
        said = [line for line in lines if "ERROR" in line] or lines or ["no message"]
        raise PeersMissingError(said[-1].strip()) from error
    except (OSError, subprocess.TimeoutExpired) as error:
        raise PeersMissingError(str(error)) from error


def peer_versions(python: Path, names: tuple[str, ...]) -> dict[str, str]:
    """Versions of distributions in that environment."""
    command = [str(python), "-c", _LIST, *names]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    found: dict[str, str] = json.loads(done.stdout)
    return found
