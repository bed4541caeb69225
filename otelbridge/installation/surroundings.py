"""What is around the `.env` file: does git keep it out, are there volumes of an earlier stack?

Asks `git` and `docker` or `podman` where they are installed; without them, or without an answer in
time, nothing is known and nothing is said. No secret is passed to any of them.
"""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Final

from otelbridge.installation.plan import Problem

_TIMEOUT_SECONDS: Final = 10
#: `name:` of docker-compose.yml; COMPOSE_PROJECT_NAME wins over it.
PROJECT: Final = "otelbridge"
_PROJECT_LABEL: Final = "label=com.docker.compose.project="
_IGNORED, _NOT_IGNORED = 0, 1  # exit status of `git check-ignore`


def _ask(words: Sequence[str], directory: Path) -> subprocess.CompletedProcess[str] | None:
    program = shutil.which(words[0])
    if program is None:
        return None
    try:
        return subprocess.run(  # fixed words and a path, no shell
            [program, *words[1:]],
            cwd=directory,
            capture_output=True,
            text=True,
            timeout=_TIMEOUT_SECONDS,
            check=False,
            stdin=subprocess.DEVNULL,
        )
    except (OSError, subprocess.TimeoutExpired):
        return None


def git_problems(path: Path) -> list[Problem]:
    """Whether git would take the file with the secrets into a commit."""
    tracked = _ask(("git", "ls-files", "--error-unmatch", "--", path.name), path.parent)
    if tracked is not None and tracked.returncode == 0:
        return [
            Problem(
                str(path),
                f"git tracks {path.name}, so its secrets would be committed",
                f"Run: git rm --cached {path.name} && echo {path.name} >> .gitignore   and treat "
                f"values that were committed as known to others",
            )
        ]
    ignored = _ask(("git", "check-ignore", "--quiet", "--", path.name), path.parent)
    if ignored is not None and ignored.returncode == _NOT_IGNORED:
        return [
            Problem(
                str(path),
                f"git does not ignore {path.name}, so its secrets could be committed",
                f"Run: echo {path.name} >> .gitignore",
            )
        ]
    return []


def volumes(directory: Path, values: Mapping[str, str]) -> tuple[str, ...]:
    """Names of the volumes that an earlier start of the stack left."""
    project = values.get("COMPOSE_PROJECT_NAME") or PROJECT
    words = ("volume", "ls", "--filter", _PROJECT_LABEL + project, "--format", "{{.Name}}")
    for engine in ("docker", "podman"):
        answer = _ask((engine, *words), directory)
        if answer is not None and answer.returncode == 0:
            return tuple(line.strip() for line in answer.stdout.splitlines() if line.strip())
    return ()
