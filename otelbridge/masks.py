"""Secrets that a regular expression can decide, and what stands in their place.

The second line after the services' own masking: the Collector (`collector/layers/masking.yaml` is
generated from here), `direct` export and `otelbridge local` apply it; `logs` masks its text with
it. Patterns are written in the common ground of Python's `re` and Go's RE2. Card numbers (Luhn) and
entropy are no regular expressions and do not belong here. Values in, values out.
"""

from __future__ import annotations

import re
import string
from collections.abc import Callable, Collection, Mapping
from functools import partial
from typing import Any, Final

from otelbridge import semconv


def _unlike_a_word(least: int) -> str:
    """So many characters of a token or more, among them a digit, `+/=` or a capital inside.

    "Basic authentication" is no credential. RE2 cannot look ahead, so each place of the first such
    character is an alternative of its own.
    """
    some, sign = r"[A-Za-z0-9+/_\-.=]", r"[A-Z0-9+/=]"
    places = [f"{some}{{{n}}}{sign}{some}{{{least - 1 - n},}}" for n in range(1, least - 1)]
    first, last = f"[0-9+/=]{some}{{{least - 1},}}", f"{some}{{{least - 1},}}{sign}{some}*"
    return "|".join([first, *places, last])


#: Secrets that a regular expression can decide, each with what replaces it (`$1` is the first
#: group). The order matters: longer forms first.
MASK_PATTERNS: Final[tuple[tuple[str, str], ...]] = (
    (
        r"-----BEGIN [A-Z ]*PRIVATE KEY-----[^-]*(-----END [A-Z ]*PRIVATE KEY-----)?",
        "[masked:private-key]",
    ),
    (r"\beyJ[A-Za-z0-9_-]{8,}\.[A-Za-z0-9_-]{8,}\.[A-Za-z0-9_-]*", "[masked:jwt]"),
    (
        r"\b((sk-ant-|sk-proj-|sk-lf-|sk-or-|sk-|gsk_|xai-|pplx-|AIza|AKIA|ASIA|ghp_|gho_|ghs_"
        r"|github_pat_|glpat-|xox[abprs]-|rk_live_|sk_live_)[A-Za-z0-9_\-]{12,}"
        r"|hf_[A-Za-z0-9]{12,})",  # `hf_hub_download` is a function
        "[masked:api-key]",
    ),
    (
        r"\b([Bb]earer|BEARER|[Bb]asic|BASIC)\s+(" + _unlike_a_word(12) + r")",
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
#: Letters by how often English text has them; what is not here (`-`, `@`, `J`) is rarer still.
_FREQUENT: Final = "etaoinsrhldcumfpgwybvkxzjq"


def _gated(part: str) -> tuple[str, str, str]:
    """A trigger behind its two rarest characters: to look for one takes a tenth of the time."""
    rarest = sorted(set(part), key=_FREQUENT[::-1].find)[:2]
    return rarest[0], rarest[-1], part


_triggers = tuple(_gated(part) for part in dict.fromkeys(sum(MASK_TRIGGERS, ())))

#: Identifiers that a person chose to send; a user id that is a mail address stays one.
UNMASKED_KEYS: Final = (
    semconv.USER_ID,
    semconv.SESSION_ID,
    semconv.LANGFUSE_USER_ID,
    semconv.LANGFUSE_SESSION_ID,
    semconv.GEN_AI_CONVERSATION_ID,
)
#: The same on a resource, and names of machines, which may look like mail addresses (`celery@…`).
UNMASKED_RESOURCE_KEYS: Final = (
    *UNMASKED_KEYS,
    semconv.SERVICE_INSTANCE_ID,
    semconv.HOST_NAME,
)
#: Captured headers that are secrets as a whole; their values are lists, which no pattern reaches.
#: Where an emitter puts all headers into one attribute (OpenLLMetry, LiteLLM), that one goes.
CREDENTIAL_HEADER_PATTERN: Final = (
    r"^(((http|rpc)\.[a-z._]+\.(header|metadata)|ai\.request\.headers)\.((proxy-)?authorization"
    r"|(set-)?cookie|x-auth-token|(x-)?(goog-)?api[-_]?key)|(gen_ai|llm)\.headers"
    r"|metadata\.requester_custom_headers)$"
)
#: One of these is in every such key.
CREDENTIAL_HEADER_PARTS: Final = (".header", ".metadata.", "custom_headers")
_credential_header = re.compile(CREDENTIAL_HEADER_PATTERN)

#: A query parameter whose name has one of these parts, or is one of these words, loses its value
#: wherever a URL or a query string is recorded.
_SECRET_NAME: Final = re.compile(
    r"(?i)key|token|auth|secret|passw|pwd|sig|credential"
    r"|\A(?:code|session(?:_?id)?|sid|jwt|otp|pin)\Z"
)
#: The head of a parameter. What its name says is asked apart, and the value is read only then: one
#: pass over hostile text, and a URL inside of a value has its own parameters looked at.
_PARAMETER: Final = re.compile(r"(?:^|[?&;])([A-Za-z0-9._\-]++)=")
_PARAMETER_VALUE: Final = re.compile(r"[^&;#\s]++")


def may_hold_secret(text: str) -> bool:
    """False when no pattern can match: quick, for many values of a span at once."""
    for one, other, part in _triggers:  # noqa: SIM110 - any() takes twice the time
        if one in text and other in text and part in text:
            return True
    return False


def mask_text(text: str) -> str:
    """The text with every secret that a regular expression can decide replaced by a marker."""
    for triggers, mask in _masks:
        for part in triggers:
            if part in text:
                text = mask(text)
                break
    return text


def mask_query(text: str) -> str:
    """A URL or a query string whose secret-named parameters have lost their values."""
    parts: list[str] = []
    done = 0
    for head in _PARAMETER.finditer(text):
        if head.start() < done or _SECRET_NAME.search(head[1]) is None:
            continue
        value = _PARAMETER_VALUE.match(text, head.end())
        if value is not None:
            parts += (text[done : head.end()], "[masked]")
            done = value.end()
    return "".join(parts) + text[done:] if parts else text


def mask_changes(
    attributes: Mapping[str, Any], unmasked: Collection[str] = UNMASKED_KEYS
) -> dict[str, str | None]:
    """What `mask_attributes` changes: keys and their masked text, or None for a header to remove.

    Args:
        attributes: Attributes of a span, an event or a link.
        unmasked: Keys whose values stay. The Collector knows identifiers on spans only: the
            attributes of events are masked with `unmasked=()`.
    """
    changes: dict[str, str | None] = {}
    texts = []
    for key, value in attributes.items():
        if is_credential_header(key):
            changes[key] = None
        elif isinstance(value, str):
            texts.append(value)
    if may_hold_secret("\n".join(texts)):
        for key, value in attributes.items():
            if isinstance(value, str) and key not in unmasked and key not in changes:
                masked = mask_text(value)
                if masked != value:
                    changes[key] = masked
    return changes


def is_credential_header(key: str) -> bool:
    """Whether an attribute of this key is a captured header that is a secret as a whole."""
    return _may_be_header(key) and _credential_header.match(key) is not None


def _may_be_header(key: str) -> bool:
    return "header" in key or ".metadata." in key


def mask_attributes(
    attributes: Mapping[str, Any], unmasked: Collection[str] = UNMASKED_KEYS
) -> dict[str, Any]:
    """Span or event attributes with every text value masked; lists and numbers stay.

    Identifiers (`unmasked`) stay as they are; headers that are secrets are removed.
    """
    changes = mask_changes(attributes, unmasked)
    return {
        key: changes.get(key, value)
        for key, value in attributes.items()
        if changes.get(key, value) is not None or key not in changes
    }


# -- the patterns as functions ---------------------------------------------------------------------
# RE2 takes a time in proportion to the text. Python's matcher starts anew at each word boundary:
# 100 kB of `a-a-a-…` with one `@` hold it, and every thread of the service, for seconds. So the two
# patterns that this concerns are searched by hand, with the same result (a test compares them).
_EMAIL_CHARACTERS: Final = f"{string.ascii_letters}{string.digits}._%+-"
_email_domain = re.compile(r"@[A-Za-z0-9.\-]+\.[A-Za-z]{2,}\b", re.ASCII)
_jwt_start = re.compile(r"\beyJ", re.ASCII)
_jwt_segment = re.compile(r"[A-Za-z0-9_-]*", re.ASCII)
_JWT_SEGMENT_LENGTH: Final = 8


def _mask_emails(text: str, replacement: str) -> str:
    parts: list[str] = []
    done = searched = 0
    while (at := text.find("@", searched)) >= 0:
        local = text[max(done, searched) : at]
        run = local[len(local.rstrip(_EMAIL_CHARACTERS)) :]
        after_match = parts and len(run) == at - done  # a match before it is a word boundary
        run = run if after_match else run.lstrip("%+.-")
        searched = at + 1
        domain = _email_domain.match(text, at) if run else None
        if domain is not None:
            parts += [text[done : at - len(run)], replacement]
            done = searched = domain.end()
    return "".join(parts) + text[done:] if parts else text


def _mask_jwts(text: str, replacement: str) -> str:
    parts: list[str] = []
    done = searched = 0
    while (start := _jwt_start.search(text, searched)) is not None:
        first = _jwt_segment.match(text, start.end())
        assert first is not None  # it matches empty text
        searched = start.end()
        end = first.end()
        second = _jwt_segment.match(text, end + 1) if text[end : end + 1] == "." else None
        if (
            second is None
            or second.end() - second.start() < _JWT_SEGMENT_LENGTH
            or text[second.end() : second.end() + 1] != "."
        ):
            searched = end  # no start within this segment can match
        elif end - start.end() >= _JWT_SEGMENT_LENGTH:
            last = _jwt_segment.match(text, second.end() + 1)
            assert last is not None
            parts += [text[done : start.start()], replacement]
            done = searched = last.end()
    return "".join(parts) + text[done:] if parts else text


def _mask_function(pattern: str, replacement: str) -> Callable[[str], str]:
    by_hand = {"[masked:jwt]": _mask_jwts, "[masked:email]": _mask_emails}.get(replacement)
    if by_hand is not None:
        return partial(by_hand, replacement=replacement)
    # As RE2 reads them: \s, \b and (?i) know ASCII only.
    return partial(re.compile(pattern, re.ASCII).sub, replacement.replace("$1", r"\1"))


_masks: Final = tuple(
    (triggers, _mask_function(*row))
    for triggers, row in zip(MASK_TRIGGERS, MASK_PATTERNS, strict=True)
)
