"""Detectors of secrets with a form: keys and tokens of providers, JSON web tokens, private keys.

Each is a function from a `Scan` to offsets. Keys are found by their prefixes, from a table, and
only where a word is long enough. Searches go forward only.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from typing import Final

from otelbridge.masking.checksums import looks_random, turns
from otelbridge.masking.scan import Offsets, Scan

# -- keys and tokens of providers ------------------------------------------------------------------
_W: Final = r"[A-Za-z0-9_\-]"
_A: Final = r"[A-Za-z0-9]"
#: Prefix, what follows it, and whether the rest must look drawn because the prefix is a word too.
_KEYS: Final[tuple[tuple[str, str, bool], ...]] = (
    ("sk-ant-", rf"{_W}{{12,}}", False),
    ("sk-proj-", rf"{_W}{{12,}}", False),
    ("sk-svcacct-", rf"{_W}{{12,}}", False),
    ("sk-admin-", rf"{_W}{{12,}}", False),
    ("sk-lf-", rf"{_W}{{12,}}", False),  # Langfuse
    ("sk-or-", rf"{_W}{{12,}}", False),  # OpenRouter
    ("sk-", rf"{_W}{{12,}}", True),
    ("gsk_", rf"{_A}{{20,}}", False),  # Groq
    ("xai-", rf"{_A}{{20,}}", False),
    ("pplx-", rf"{_A}{{20,}}", False),
    ("r8_", rf"{_A}{{30,}}", False),  # Replicate
    ("hf_", rf"{_A}{{20,}}", False),  # Hugging Face
    ("nvapi-", rf"{_W}{{20,}}", False),
    ("pcsk_", rf"{_W}{{20,}}", False),  # Pinecone
    ("tvly-", rf"{_W}{{20,}}", False),  # Tavily
    ("lsv2_", rf"{_W}{{20,}}", False),  # LangSmith
    ("tgp_v1_", rf"{_W}{{20,}}", False),  # Together
    ("fw_", rf"{_A}{{20,}}", True),  # Fireworks
    ("AIza", rf"{_W}{{30,}}", False),  # Google
    ("GOCSPX-", rf"{_W}{{20,}}", False),
    ("ya29.", rf"{_W}{{20,}}", False),
    ("AKIA", r"[A-Z0-9]{16}(?![A-Za-z0-9])", False),  # AWS
    ("ASIA", r"[A-Z0-9]{16}(?![A-Za-z0-9])", False),
    ("ABIA", r"[A-Z0-9]{16}(?![A-Za-z0-9])", True),
    ("ACCA", r"[A-Z0-9]{16}(?![A-Za-z0-9])", True),
    ("ghp_", rf"{_A}{{20,}}", False),  # GitHub
    ("gho_", rf"{_A}{{20,}}", False),
    ("ghu_", rf"{_A}{{20,}}", False),
    ("ghs_", rf"{_A}{{20,}}", False),
    ("ghr_", rf"{_A}{{20,}}", False),
    ("github_pat_", r"[A-Za-z0-9_]{20,}", False),
    ("glpat-", rf"{_W}{{12,}}", False),  # GitLab
    ("gldt-", rf"{_W}{{20,}}", False),
    ("glrt-", rf"{_W}{{20,}}", False),
    ("glptt-", rf"{_W}{{20,}}", False),
    ("gloas-", rf"{_W}{{20,}}", False),
    ("glcbt-", rf"{_W}{{20,}}", False),
    ("xoxa-", rf"{_W}{{12,}}", False),  # Slack
    ("xoxb-", rf"{_W}{{12,}}", False),
    ("xoxe", rf"[.\-]{_W}{{12,}}", False),
    ("xoxp-", rf"{_W}{{12,}}", False),
    ("xoxr-", rf"{_W}{{12,}}", False),
    ("xoxs-", rf"{_W}{{12,}}", False),
    ("xapp-", rf"{_W}{{20,}}", False),
    ("hooks.slack.com/services/", r"[A-Z0-9]{8,}/[A-Z0-9]{8,}/[A-Za-z0-9]{16,}", False),
    ("sk_live_", rf"{_A}{{12,}}", False),  # Stripe
    ("sk_test_", rf"{_A}{{16,}}", False),
    ("rk_live_", rf"{_A}{{12,}}", False),
    ("rk_test_", rf"{_A}{{16,}}", False),
    ("whsec_", r"[A-Za-z0-9+/=]{20,}", False),
    ("sk_", r"[0-9a-f]{48}(?![A-Za-z0-9])", False),  # ElevenLabs
    ("npm_", rf"{_A}{{30,}}", False),
    ("pypi-", rf"{_W}{{50,}}", False),
    ("SK", r"[0-9a-f]{32}(?![A-Za-z0-9])", False),  # Twilio
    ("SG.", rf"{_W}{{16,}}\.{_W}{{30,}}", False),  # SendGrid
    ("key-", r"[0-9a-f]{32}(?![A-Za-z0-9])", False),  # Mailgun
    ("dop_v1_", r"[0-9a-f]{40,}", False),  # DigitalOcean
    ("shpat_", r"[0-9A-Fa-f]{32}", False),  # Shopify
    ("shpss_", r"[0-9A-Fa-f]{32}", False),
    ("dapi", r"[0-9a-f]{32}(?:-[0-9])?(?![A-Za-z0-9])", False),  # Databricks
    ("lin_api_", rf"{_A}{{30,}}", False),  # Linear
    ("ntn_", rf"{_A}{{30,}}", False),  # Notion
    ("secret_", rf"{_A}{{40,}}", True),
    ("PMAK-", r"[0-9a-f]{24}-[0-9a-f]{34}", False),  # Postman
    ("hvs.", rf"{_W}{{24,}}", False),  # Vault
    ("hvb.", rf"{_W}{{24,}}", False),
    ("dp.pt.", rf"{_A}{{40,}}", False),  # Doppler
    ("sntrys_", rf"{_W}{{40,}}", False),  # Sentry
    ("sntryu_", rf"{_A}{{40,}}", False),
    ("glsa_", r"[A-Za-z0-9]{32}_[0-9A-Fa-f]{8}", False),  # Grafana
    ("glc_", r"[A-Za-z0-9+/=]{40,}", False),
    ("NRAK-", r"[A-Z0-9]{27}", False),  # New Relic
    ("ATATT3", r"[A-Za-z0-9_\-=]{40,}", False),  # Atlassian
    ("figd_", rf"{_W}{{30,}}", False),  # Figma
    ("sbp_", r"[0-9a-f]{40}", False),  # Supabase
    ("jina_", rf"{_W}{{40,}}", False),
    ("LTAI", rf"{_A}{{16,26}}(?![A-Za-z0-9])", True),  # Alibaba
    ("sq0atp-", rf"{_W}{{22}}", False),  # Square
    ("sq0csp-", rf"{_W}{{40,}}", False),
    ("EAACEdEose0cBA", rf"{_A}{{10,}}", False),  # Facebook
    ("AGE-SECRET-KEY-1", r"[A-Z0-9]{40,}", False),
    ("ops_eyJ", rf"{_W}{{40,}}", False),  # 1Password
    ("discord.com/api/webhooks/", rf"[0-9]{{16,20}}/{_W}{{50,}}", False),
)
_keys = tuple((prefix, re.compile(rest), drawn) for prefix, rest, drawn in _KEYS)
#: Keys that have their mark in the middle: Azure's client secrets, Telegram and Discord bots,
#: Mailchimp; found by that mark, then looked at as a whole.
_MARKED: Final = tuple(
    (mark, before, re.compile(whole))
    for mark, before, whole in (
        ("8Q~", (3,), r"[A-Za-z0-9_~.\-]{3}8Q~[A-Za-z0-9_~.\-]{31,34}(?![A-Za-z0-9_~\-])"),
        ("7Q~", (3,), r"[A-Za-z0-9_~.\-]{3}7Q~[A-Za-z0-9_~.\-]{31,34}(?![A-Za-z0-9_~\-])"),
        (":AA", (10, 9, 8), r"[0-9]{8,10}:AA[A-Za-z0-9_\-]{33}(?![A-Za-z0-9_\-])"),
        ("-us", (32,), r"[0-9a-f]{32}-us[0-9]{1,2}(?![A-Za-z0-9])"),
    )
)
_DISCORD_MIDDLE: Final = re.compile(r"\.[A-Za-z0-9_\-]{6}\.(?=[A-Za-z0-9_\-]{27})")
_DISCORD: Final = re.compile(
    r"[MNO][A-Za-z0-9_\-]{23,27}\.[A-Za-z0-9_\-]{6}\.[A-Za-z0-9_\-]{27,40}"
)


def api_keys(scan: Scan) -> Iterator[Offsets]:
    """Keys and tokens of common providers, by their prefixes."""
    if not scan.long_words:
        return
    text, keys_text = scan.text, scan.keys_text
    for prefix, rest, drawn in _keys:
        position = text.find(prefix) if prefix in keys_text else -1
        while position >= 0:
            after = position + len(prefix)
            if not glued(text, position):
                match = rest.match(text, after)
                if match is not None:
                    if not drawn or looks_random(match[0]) or _is_long_mix(match[0]):
                        yield position, match.end()
                    after = match.end()
            position = text.find(prefix, after)
    for mark, lengths, whole in _MARKED:
        position = text.find(mark) if mark in keys_text else -1
        while position >= 0:
            yield from _whole(text, position, lengths, whole)
            position = text.find(mark, position + 1)
    if keys_text.count(".") >= 1:
        for middle in _DISCORD_MIDDLE.finditer(text):
            yield from _whole(text, middle.start(), range(28, 23, -1), _DISCORD)


def _is_long_mix(text: str) -> bool:
    return len(text) >= 32 and text.isalnum() and not text.isalpha()


def _whole(
    text: str, position: int, lengths: Iterable[int], whole: re.Pattern[str]
) -> Iterator[Offsets]:
    for length in lengths:
        start = position - length
        if start >= 0 and not glued(text, start):
            match = whole.match(text, start)
            if match is not None and turns(match[0]) >= 3:
                yield match.span()
                return


def glued(text: str, position: int) -> bool:
    """Whether an ASCII letter, digit or underscore stands before."""
    if position == 0:
        return False
    before = text[position - 1]
    return before == "_" or (before.isascii() and before.isalnum())


# -- JWT, private keys -----------------------------------------------------------------------------
_SEGMENT: Final = re.compile(r"[A-Za-z0-9_\-]*+")


def jwts(scan: Scan) -> Iterator[Offsets]:
    """JSON web tokens (two or three segments, five when encrypted)."""
    text = scan.text
    start = text.find("eyJ")
    while start >= 0:
        end = _segment_end(text, start)
        if not glued(text, start) and end - start >= 11 and text[end : end + 1] == ".":
            second = _segment_end(text, end + 1)
            if second - end > 8 or text[second : second + 1] == ".":
                end = second
                while text[end : end + 1] == ".":
                    end = _segment_end(text, end + 1)
                yield start, end - (text[end - 1] == ".")
        start = text.find("eyJ", max(end, start + 3))


def _segment_end(text: str, position: int) -> int:
    match = _SEGMENT.match(text, position)
    return position if match is None else match.end()


_PEM: Final = re.compile(r"-----BEGIN [A-Z0-9 ]{0,40}PRIVATE KEY(?: BLOCK)?-----")
_PEM_END: Final = re.compile(r"-----END [A-Z0-9 ]{0,40}PRIVATE KEY(?: BLOCK)?-----")
_PEM_BODY: Final = re.compile(r"(?:\s*+[A-Za-z0-9+/=]{12,}+)*+(?:\s*+[A-Za-z0-9+/=]++(?=\s*\Z))?")


def private_keys(scan: Scan) -> Iterator[Offsets]:
    """Private keys in PEM form, also cut ones."""
    text = scan.text
    begin = _PEM.search(text)
    while begin is not None:
        end = _PEM_END.search(text, begin.end())
        if end is None:
            body = _PEM_BODY.match(text, begin.end())
            stop = begin.end() if body is None else body.end()
        else:
            stop = end.end()
        yield begin.start(), stop
        begin = _PEM.search(text, stop)
