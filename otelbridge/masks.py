"""Secrets that a regular expression can decide, and what stands in their place.

The second line after the services' own masking: the Collector (`collector/layers/masking.yaml` is
generated from here), `direct` export and `otelbridge local` apply it; `logs` masks its text with
it. Patterns are written in the common ground of Python's `re` and Go's RE2. Card numbers (Luhn) and
entropy are no regular expressions and do not belong here. Values in, values out.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any, Final

from otelbridge import semconv

#: Secrets that a regular expression can decide, each with what replaces it (`$1` is the first
#: group). The order matters: longer forms first.
MASK_PATTERNS: Final[tuple[tuple[str, str], ...]] = (
    (
        r"-----BEGIN [A-Z ]*PRIVATE KEY-----[^-]*(-----END [A-Z ]*PRIVATE KEY-----)?",
        "[masked:private-key]",
    ),
    (r"\beyJ[A-Za-z0-9_-]{8,}\.[A-Za-z0-9_-]{8,}\.[A-Za-z0-9_-]*", "[masked:jwt]"),
    (
        r"\b(sk-ant-|sk-proj-|sk-lf-|sk-or-|sk-|gsk_|hf_|xai-|pplx-|AIza|AKIA|ASIA|ghp_|gho_|ghs_"
        r"|github_pat_|glpat-|xox[abprs]-|rk_live_|sk_live_)[A-Za-z0-9_\-]{12,}",
        "[masked:api-key]",
    ),
    (
        r"\b([Bb]earer|BEARER|[Bb]asic|BASIC)\s+[A-Za-z0-9+/_\-.=]{12,}",
        "[masked:credential]",
    ),
    (r"(://[^/\s:@]*):[^/\s@]+@", "$1:[masked:password]@"),
    (
        r"(?i)([?&](?:api[_-]?key|key|access[_-]?token|refresh[_-]?token|id[_-]?token|token|auth"
        r"|authorization|secret|client[_-]?secret|password|passwd|pwd|sig|signature|code|session"
        r"|credential|x-amz-[a-z-]+|x-goog-[a-z-]+)=)[^&#\s\"']+",
        "$1[masked]",
    ),
    (r"\b[A-Za-z0-9._%+\-]+@[A-Za-z0-9.\-]+\.[A-Za-z]{2,}\b", "[masked:email]"),
)
_masks = tuple(
    # As RE2 reads them: \s, \b and (?i) know ASCII only.
    (re.compile(pattern, re.ASCII), replacement.replace("$1", r"\1"))
    for pattern, replacement in MASK_PATTERNS
)


#: One row for each of `MASK_PATTERNS`: pieces of text of which one must be there for the pattern to
#: match at all. The Collector looks for these in all values of a span at once before it runs the
#: pattern. `&`, `<` and `>` never stand here: the text it searches is JSON, which escapes them.
MASK_TRIGGERS: Final[tuple[tuple[str, ...], ...]] = (
    ("-----BEGIN ",),
    ("eyJ",),
    (
        *("sk-", "_live_", "gsk_", "hf_", "xai-", "pplx-", "AIza", "AKIA", "ASIA"),
        *("ghp_", "gho_", "ghs_", "github_pat_", "glpat-", "xox"),
    ),
    ("earer", "EARER", "asic", "ASIC"),
    ("@",),
    ("=",),
    ("@",),
)

#: Identifiers that a person chose to send; a user id that is a mail address stays one.
UNMASKED_KEYS: Final = (
    semconv.USER_ID,
    semconv.SESSION_ID,
    semconv.LANGFUSE_USER_ID,
    semconv.LANGFUSE_SESSION_ID,
    semconv.GEN_AI_CONVERSATION_ID,
)
#: Captured headers that are secrets as a whole; their values are lists, which no pattern reaches.
CREDENTIAL_HEADER_PATTERN: Final = (
    r"^(http|rpc)\.[a-z._]+\.(header|metadata)\.((proxy-)?authorization|(set-)?cookie|x-auth-token"
    r"|(x-)?(goog-)?api[-_]?key)$"
)
_credential_header = re.compile(CREDENTIAL_HEADER_PATTERN)

#: A query parameter of this name loses its value wherever a URL or a query string is recorded.
SECRET_PARAMETER: Final = re.compile(
    r"(?i)((?:^|[?&;])(?:[a-z0-9._\-]*(?:key|token|auth|secret|passw|pwd|sig|credential)[a-z0-9._\-]*"
    r"|code|session(?:_?id)?|sid|jwt|otp|pin)=)[^&;#\s]+"
)


def mask_text(text: str) -> str:
    """The text with every secret that a regular expression can decide replaced by a marker."""
    for pattern, replacement in _masks:
        text = pattern.sub(replacement, text)
    return text


def mask_query(text: str) -> str:
    """A URL or a query string whose secret-named parameters have lost their values."""
    return SECRET_PARAMETER.sub(r"\1[masked]", text)


def mask_attributes(attributes: Mapping[str, Any]) -> dict[str, Any]:
    """Span or event attributes with every text value masked; lists and numbers stay.

    Identifiers (`UNMASKED_KEYS`) stay as they are; headers that are secrets are removed.
    """
    return {
        key: mask_text(value) if isinstance(value, str) and key not in UNMASKED_KEYS else value
        for key, value in attributes.items()
        if not _credential_header.match(key)
    }
