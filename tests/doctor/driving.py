"""Drives the real `otelbridge doctor --json` over a case of the corpus, in this process or a child.

A case's environment is the process's own for the time of the run, its files lie in the working
directory, and its packages are distributions in a directory of the import path.
"""

from __future__ import annotations

import contextlib
import io
import json
import os
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from unittest import mock

from otelbridge.cli import main
from tests.doctor.cases import GOOD, Case, Changes
from tests.doctor.servers import World

_ROOT = Path(__file__).resolve().parents[2]
#: How long the doctor may wait for a canary that never comes; 30 s outside of tests.
READBACK_SECONDS = "6"
_CHILD_SECONDS = 90
#: Of the machine that tests run on; they win over OTEL_EXPORTER_OTLP_CERTIFICATE.
_AUTHORITIES = ("REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE")


@dataclass(frozen=True)
class Report:
    """What the doctor said: exit status and findings by level."""

    status: int
    findings: tuple[dict[str, str], ...]

    def codes(self, *levels: str) -> list[str]:
        """Codes of the findings of these levels, in order."""
        return [one["code"] for one in self.findings if one["level"] in levels]

    def shown(self) -> str:
        """The findings that are no `ok`, one a line."""
        return "\n".join(
            f"  {one['level']} {one['code']}: {one['what']} ({one['evidence']})"
            for one in self.findings
            if one["level"] != "ok"
        )


class Places(Mapping[str, Any]):
    """The addresses of a world, for `str.format_map`; servers start when they are named."""

    def __init__(self, world: World) -> None:
        self._world = world

    def __getitem__(self, name: str) -> Any:
        if name == "collector_port":
            return self._world.places("collector")["otlp"].rpartition(":")[2]
        return self._world.places(name)

    def __iter__(self) -> Any:
        return iter(())

    def __len__(self) -> int:
        return 0


def environment(world: World, *changes: Changes) -> dict[str, str]:
    """The variables of `GOOD` with these changes, addresses filled in."""
    merged: Changes = dict(GOOD)
    for change in changes:
        merged |= change
    places = Places(world)
    return {name: text.format_map(places) for name, text in merged.items() if text is not None}


def prepare(directory: Path, case: Case, *, fixed: bool) -> None:
    """Write the case's files, and its packages unless the fix takes them away."""
    directory.mkdir(exist_ok=True)
    files: dict[str, str | None] = {**case.files, **(case.fixed_files if fixed else {})}
    for name, text in files.items():
        if text is None:
            (directory / name).unlink(missing_ok=True)
        else:
            (directory / name).write_text(text, encoding="utf-8")
    for name, version in case.packages.items():
        info = directory / "site" / f"{name.replace('-', '_')}-{version}.dist-info"
        if fixed:
            info.joinpath("METADATA").unlink(missing_ok=True)
            info.rmdir()
            continue
        info.mkdir(parents=True, exist_ok=True)
        text = f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n"
        info.joinpath("METADATA").write_text(text, encoding="utf-8")


def words(case: Case, directory: Path, *, fixed: bool) -> list[str]:
    """The command line."""
    arguments = list(case.arguments)
    if fixed and None in case.fixed_files.values():  # the file is gone
        arguments = []
    return ["doctor", "--json", "--readback", READBACK_SECONDS, "--directory", str(directory),
            *arguments]  # fmt: skip


def in_process(variables: Mapping[str, str], case: Case, directory: Path, *, fixed: bool) -> Report:
    """Run the command here, with these variables and nothing else of ours in the environment."""
    prepare(directory, case, fixed=fixed)
    output = io.StringIO()
    before = Path.cwd()
    with (
        mock.patch.dict(os.environ, variables),
        mock.patch.object(sys, "path", [str(directory / "site"), *sys.path]),
        contextlib.redirect_stdout(output),
    ):
        for name in _AUTHORITIES:
            os.environ.pop(name, None)
        os.chdir(directory)
        try:
            status = main(words(case, directory, fixed=fixed))
        finally:
            os.chdir(before)
    return _report(status, output.getvalue())


def as_child(variables: Mapping[str, str], case: Case, directory: Path, *, fixed: bool) -> Report:
    """Run the command as a process of its own."""
    prepare(directory, case, fixed=fixed)
    kept = {name: os.environ[name] for name in ("PATH", "HOME", "LANG") if name in os.environ}
    path = os.pathsep.join([str(directory / "site"), str(_ROOT)])
    done = subprocess.run(
        [sys.executable, "-m", "otelbridge", *words(case, directory, fixed=fixed)],
        env={
            **kept, "PYTHONPATH": path,
            "OTELBRIDGE_SPOOL_DIR": str(directory / "spool"), **variables,
        },
        cwd=directory, capture_output=True, text=True, timeout=_CHILD_SECONDS, check=False,
    )  # fmt: skip
    assert done.returncode in (0, 1), done.stderr
    return _report(done.returncode, done.stdout)


def _report(status: int, text: str) -> Report:
    answer = json.loads(text)
    assert answer["status"] == status, "the status in the JSON is that of the process"
    return Report(status, tuple(answer["findings"]))
