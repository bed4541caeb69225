"""`otelbridge init --rotate NAME`: which secrets may be made anew, and why others may not. Pure.

The refusals name what would break and how the value is changed where it is stored. `force` is for
a stack that never ran; it does not help when volumes of an earlier start are there.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Final

from otelbridge.errors import OtelbridgeError
from otelbridge.installation import entries
from otelbridge.installation.entries import BY_NAME
from otelbridge.installation.plan import Choice, Plan, Problem

_KEYS: Final = ("LANGFUSE_PUBLIC_KEY", "LANGFUSE_SECRET_KEY")


def check_names(names: Iterable[str]) -> None:
    """Whether these can be asked for at all.

    Raises:
        OtelbridgeError: a name that is no secret of the file.
    """
    for name in names:
        variable = BY_NAME.get(name)
        if variable is None or not variable.secret:
            secret = ", ".join(each.name for each in entries.VARIABLES if each.secret)
            reason = "is no secret; edit its line" if variable else "is not known"
            raise OtelbridgeError(f"--rotate {name}: {name} {reason}. Secrets: {secret}")


def make_rotation(
    values: Mapping[str, str],
    names: Sequence[str],
    choice: Choice,
    volumes: Sequence[str],
    *,
    force: bool,
) -> Plan:
    """New values for these names, or the reasons against it.

    Args:
        values: The file's.
        names: Checked by `check_names`.
        choice: Its keys are the new pair of an `existing` Langfuse.
        volumes: Of an earlier start of the stack.
        force: The stack never ran, or its data is gone.
    """
    changes: dict[str, str] = {}
    problems: list[Problem] = []
    notes: list[str] = []
    for name in dict.fromkeys(names):
        variable = BY_NAME[name]
        if not values.get(name):
            problem = Problem(name, f"{name} has no value yet", "Run: otelbridge init")
            problems.append(problem)
        elif variable.change == "derived":
            problems.append(
                Problem(
                    name,
                    f"{name} is made from both keys of Langfuse",
                    "Run: otelbridge init --rotate LANGFUSE_SECRET_KEY",
                )
            )
        elif variable.change == "pair":
            _rotate_pair(choice, values, changes, problems, notes)
        elif variable.change == "free" or _may_force(variable, volumes, force):
            assert variable.make is not None  # of every secret that is neither pair nor derived
            changes[name] = variable.make()
            if variable.change == "free" and variable.remedy:
                notes.append(f"{name}: {variable.remedy}")
        else:
            problems.append(_refusal(variable, volumes))
    if changes:
        notes.append("Containers take the new values with: docker compose up -d")
    kept = tuple(name for name, value in values.items() if value and name not in changes)
    return Plan(changes, kept, tuple(problems), tuple(dict.fromkeys(notes)))


def _rotate_pair(
    choice: Choice,
    values: Mapping[str, str],
    changes: dict[str, str],
    problems: list[Problem],
    notes: list[str],
) -> None:
    """Both halves together: Langfuse does not change the secret of a public key that it knows."""
    if changes.keys() >= set(_KEYS):
        return
    if choice.kind == "local":
        public, secret = entries.public_key(), entries.secret_key()
        notes.append(
            "Langfuse adds the new pair when it starts again; the old pair stays valid until it "
            "is deleted in the project's settings."
        )
    elif choice.public_key and choice.secret_key:
        public, secret = choice.public_key, choice.secret_key
        if public == values.get(_KEYS[0]) or secret == values.get(_KEYS[1]):
            problems.append(
                Problem(
                    _KEYS[0],
                    "the pair given is not a new one",
                    "Make a new pair in the project's settings in Langfuse and give both halves.",
                )
            )
            return
    else:
        problems.append(
            Problem(
                _KEYS[0],
                "the keys of an existing Langfuse are made there",
                "Make a new pair in the project's settings in Langfuse, then: otelbridge init "
                "--rotate LANGFUSE_SECRET_KEY --public-key pk-lf-... --secret-key - (which reads "
                "the secret key from standard input)",
            )
        )
        return
    changes |= dict(zip(_KEYS, (public, secret), strict=True))
    changes["LANGFUSE_BASIC_AUTH"] = entries.basic_auth(public, secret)


def _may_force(variable: entries.Variable, volumes: Sequence[str], force: bool) -> bool:
    return force and not any(variable.volume in volume for volume in volumes)


def _refusal(variable: entries.Variable, volumes: Sequence[str]) -> Problem:
    stored = next((volume for volume in volumes if variable.volume in volume), "")
    verb = "must never change" if variable.change == "never" else "cannot be changed here"
    reason = f"{variable.name} {verb} after the first start"
    if stored:
        reason += f", and the volume {stored} is there"
    ending = "" if stored else " If the stack never ran: add --force."
    return Problem(variable.name, reason, variable.remedy + ending)


def volume_problems(changes: Mapping[str, str], volumes: Sequence[str]) -> list[Problem]:
    """New secrets for data that was stored with others: services would not start, or lose keys."""
    found: dict[str, list[str]] = {}
    for name in changes:
        wanted = BY_NAME[name].volume
        for volume in volumes:
            if wanted and wanted in volume:
                found.setdefault(volume, []).append(name)
    return [
        Problem(
            names[0],
            f"the volume {volume} of an earlier start is there, but this file has no "
            f"{' and no '.join(names)}; new values would not fit its data",
            "Bring back the .env of that start. To start anew without its data, remove all "
            "volumes of the stack first: docker compose --profile '*' down --volumes (needs a "
            "complete .env), or docker volume rm " + volume,
        )
        for volume, names in found.items()
    ]
