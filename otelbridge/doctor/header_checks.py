"""Checks of what authenticates: OTLP headers, the Basic value inside, Langfuse's keys.

Shows prefixes, lengths and positions, never a value. The keys are tried against the server by
`langfuse_checks`.
"""

from __future__ import annotations

import base64
import binascii
import re
from collections.abc import Iterator
from typing import Final

from otelbridge.doctor import addresses as at
from otelbridge.doctor.findings import Check, Context, Finding
from otelbridge.doctor.table import finding
from otelbridge.env import split_pairs

_HEADERS: Final = "OTEL_EXPORTER_OTLP_HEADERS"
_TRACES_HEADERS: Final = "OTEL_EXPORTER_OTLP_TRACES_HEADERS"
_PREFIXES: Final = {"LANGFUSE_PUBLIC_KEY": "pk-lf-", "LANGFUSE_SECRET_KEY": "sk-lf-"}


def headers(context: Context) -> Iterator[Finding]:
    """The header list of the OTLP exporter."""
    name = _TRACES_HEADERS if context.value(_TRACES_HEADERS) else _HEADERS
    text = context.value(name)
    endpoint = context.value(at.traces_variable(context))
    to_langfuse = bool(endpoint) and at.is_langfuse(context, endpoint)
    if not text:
        if to_langfuse:
            yield finding(
                "header-missing", "Spans go to Langfuse without a key.", f"{name} not set"
            )
        return
    if "\n" in text or "\r" in text:
        yield finding(
            "header-newline",
            f"{name} has a line end in it.",
            f"after {len(text.splitlines()[0])} characters",
        )
        return  # what the halves hold says nothing about the keys
    pairs, bad = split_pairs(text, headers=True)
    if bad:
        colon = " It has a colon, as in HTTP, where `=` belongs." if ":" in text else ""
        yield finding("header-not-pair", f"Part {', '.join(bad)} of {name} is no key=value.{colon}")
    if re.search(r"\S \S", text):
        yield finding("header-space", f"{name} has a space in it.")
    lower = {key.lower(): value for key, value in pairs.items()}
    if "authorization" in lower:
        yield from _authorization(context, name, lower["authorization"], to_langfuse)
    elif to_langfuse and not bad:
        yield finding(
            "header-missing",
            f"{name} has no Authorization.",
            f"headers: {', '.join(sorted(lower))}",
        )


def _authorization(context: Context, name: str, value: str, to_langfuse: bool) -> Iterator[Finding]:
    if re.match(r"(?i)basic(?:\+|%20)", value):
        seen = "a + for the space" if "+" in value[:7] else "%20 is left after decoding once"
        yield finding("header-encoding", f"{name} is encoded the wrong way.", seen)
        return
    scheme, space, rest = value.partition(" ")
    if scheme.lower() == "basic":
        yield from basic_value(context, name, rest.strip())
    elif to_langfuse:
        kind = scheme if space else _kind(value)
        yield finding(
            "header-not-basic", f"Authorization in {name} is no Basic auth.", f"it is {kind}"
        )


def _kind(value: str) -> str:
    if value.startswith(("pk-lf-", "sk-lf-")):
        return "a raw key"
    pair = decoded(value)
    return "base64 of a key pair without `Basic `" if pair and ":" in pair else "a bare word"


def decoded(value: str) -> str | None:
    """What a base64 text holds, or None for text that is no base64 of printable text."""
    try:
        text = base64.b64decode(value + "=" * (-len(value) % 4), validate=True).decode("utf-8")
    except (binascii.Error, ValueError):
        return None
    return text if text.isprintable() else None


def basic_value(context: Context, name: str, value: str) -> Iterator[Finding]:
    """The base64 behind `Basic `: form, order, the same keys as the variables."""
    if not value:
        yield finding("header-empty", f"Nothing follows `Basic` in {name}.")
        return
    if "%" in value:
        yield finding(
            "header-encoding",
            f"The base64 in {name} is percent-encoded twice.",
            "a % is left after decoding once",
        )
        return
    pair = decoded(value)
    if pair is None or ":" not in pair:
        seen = "a raw key pair" if "-lf-" in value else f"{len(value)} characters"
        yield finding(
            "header-not-base64", f"The value in {name} is no base64 of user:password.", seen
        )
        return
    user, _, password = pair.partition(":")
    given = tuple(at.clean(context.value(key)) for key in _PREFIXES)
    if not user or not password:
        yield finding(
            "header-empty",
            f"{'User' if not user else 'Password'} is empty in {name}.",
            f"{len(pair)} characters are decoded",
        )
    elif user.startswith("sk-lf-"):
        yield finding("header-order", f"{name} has the secret key first.")
    elif user != user.strip() or password != password.strip():
        yield finding(
            "header-not-base64",
            f"A key inside {name} ends with white space.",
            "made with `echo` instead of `printf`",
            'Encode without line end: printf %s "$pk:$sk" | base64 -w0',
        )
    elif all(given) and user.startswith("pk-lf-") and (user, password) != given:
        part = "public keys" if user != given[0] else "secret keys"
        yield finding(
            "header-other-keys",
            f"{name} holds another pair than LANGFUSE_*_KEY.",
            f"the {part} differ",
        )


def basic_auth(context: Context) -> Iterator[Finding]:
    """LANGFUSE_BASIC_AUTH, base64 without `Basic `, for Collectors that read it."""
    text = at.clean(context.value("LANGFUSE_BASIC_AUTH"))
    if text.lower().startswith("basic "):
        yield finding(
            "header-encoding",
            "LANGFUSE_BASIC_AUTH has `Basic ` in it.",
            "configurations that read it add the word",
            "Give the base64 alone.",
        )
        text = text[6:]
    if text:
        yield from basic_value(context, "LANGFUSE_BASIC_AUTH", text)


def keys(context: Context) -> Iterator[Finding]:
    """Prefixes and presence of Langfuse's keys, and the keys of the first start."""
    given = {name: at.clean(context.value(name)) for name in _PREFIXES}
    public, secret = given.values()
    if public.startswith("sk-lf-") or secret.startswith("pk-lf-"):
        seen = "the public key begins with sk-lf-"
        if not public.startswith("sk-lf-"):
            seen = "the secret key begins with pk-lf-"
        yield finding(
            "keys-swapped", "LANGFUSE_PUBLIC_KEY and LANGFUSE_SECRET_KEY are exchanged.", seen
        )
    elif bool(public) != bool(secret):
        missing = "LANGFUSE_PUBLIC_KEY" if secret else "LANGFUSE_SECRET_KEY"
        yield finding(
            "keys-half", f"{missing} is not set, the other key is.", "", f"Set {missing}."
        )
    else:
        for name, prefix in _PREFIXES.items():
            if given[name] and not given[name].startswith(prefix):
                yield finding(
                    "key-prefix",
                    f"{name} does not begin with {prefix}.",
                    f"{len(given[name])} characters",
                )
    for name, initial in (
        ("LANGFUSE_PUBLIC_KEY", "LANGFUSE_INIT_PROJECT_PUBLIC_KEY"),
        ("LANGFUSE_SECRET_KEY", "LANGFUSE_INIT_PROJECT_SECRET_KEY"),
        ("LANGFUSE_PROJECT_ID", "LANGFUSE_INIT_PROJECT_ID"),
    ):
        one, other = at.clean(context.value(name)), at.clean(context.value(initial))
        if one and other and one != other:
            yield finding(
                "keys-not-of-init",
                f"{name} differs from {initial}.",
                "",
                f"Make {name} and {initial} equal.",
            )


CHECKS: Final[tuple[Check, ...]] = (
    Check("headers", "settings", headers),
    Check("basic-auth", "settings", basic_auth),
    Check("keys", "settings", keys),
)
