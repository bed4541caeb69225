"""`make pin`: writes the digest of each image's tag into docker-compose.yml and Dockerfile.

A tag can be pushed again, a digest cannot. The digest is that of the index of all platforms, so it
serves amd64 and arm64. Asks the registries through Docker (buildx imagetools; nothing is pulled).
To take a newer release, change the tag by hand and call this.

    python3 deploy/pin.py [--check]     --check changes nothing

Exit: 0 written, or as pinned; 1 --check found others, or a registry did not answer; 2 no Docker.
"""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
FILES = ("docker-compose.yml", "Dockerfile")
#: `image: host/name:tag@digest` or `FROM host/name:tag@digest`; our own images have no host.
IMAGE = re.compile(
    r"(?m)^(?P<before>\s*image: |FROM )(?P<name>[a-z0-9-]+\.[a-z.]+/[\w./-]+:[\w.-]+)"
    r"(?P<digest>@sha256:[0-9a-f]{64})?"
)


def tell(line: str) -> None:
    """One line for the person who called."""
    sys.stdout.write(f"pin: {line}\n")


def digest(name: str) -> str:
    """`@sha256:...` of a tag's index.

    Raises:
        LookupError: with what Docker said.
    """
    told = subprocess.run(
        ["docker", "buildx", "imagetools", "inspect", "--format", "{{.Manifest.Digest}}", name],
        capture_output=True,
        text=True,
        check=False,
    )
    found = told.stdout.strip()
    if told.returncode or not re.fullmatch(r"sha256:[0-9a-f]{64}", found):
        raise LookupError(f"{name}: {told.stderr.strip() or 'no digest'}")
    return f"@{found}"


def main(arguments: list[str], root: Path = ROOT) -> int:
    """Ask for every image once, and write what changed; the exit status."""
    if shutil.which("docker") is None:
        tell("docker is not installed; it is asked for the digests (no engine has to run)")
        return 2
    texts = {name: (root / name).read_text("utf-8") for name in FILES}
    pinned = {
        found["name"]: found["digest"] or "" for t in texts.values() for found in IMAGE.finditer(t)
    }
    try:
        new = {name: digest(name) for name in sorted(pinned)}
    except LookupError as error:
        tell(f"nothing was written: {error}")
        return 1
    changed = [name for name in new if new[name] != pinned[name]]
    for name in changed:
        tell(f"{name}{new[name]}")
    if "--check" in arguments:
        return 1 if changed else 0
    for file, text in texts.items():
        (root / file).write_text(
            IMAGE.sub(lambda found: f"{found['before']}{found['name']}{new[found['name']]}", text),
            "utf-8",
        )
    tell(f"{len(changed)} of {len(new)} images changed")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
