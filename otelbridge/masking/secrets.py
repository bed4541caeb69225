"""Detectors of secrets without a form of their own, and of e-mail addresses.

Each is a function from a `Scan` to offsets: passwords in URLs, parameters, headers, and whatever
stands behind a telling name (`names`) and is no word, type or code. How far a value is looked at
is bounded, so hostile text costs no more than long text. `keys` has those with a form.
"""

from __future__ import annotations

import base64
import binascii
import re
import string
from collections.abc import Iterator
from typing import Final

from otelbridge.masking.checksums import looks_random, turns
from otelbridge.masking.keys import glued
from otelbridge.masking.names import Telling, is_placeholder, telling, word_set
from otelbridge.masking.scan import Offsets, Scan

# -- e-mail ----------------------------------------------------------------------------------------
_LOCAL: Final = f"{string.ascii_letters}{string.digits}._%+-'"
_DOMAIN: Final = re.compile(
    r"(?:@|%40)(?:[A-Za-z0-9](?:[A-Za-z0-9\-]{0,62}\.)){1,8}?[A-Za-z]{2,24}(?![A-Za-z0-9_\-])(?!\.[A-Za-z0-9])"
)
_ANY_DOMAIN: Final = re.compile(r"(?:@|%40)[\w\-]{1,63}(?:\.[\w\-]{1,63}){0,8}\.[^\W\d_]{2,24}")
#: Endings of file names that look like domains (`icon@2x.png`).
_FILES: Final = word_set(
    """
    png jpg jpeg gif svg webp ico js ts jsx tsx mjs css scss py rb go rs java c h cpp json yaml
    yml toml md txt html htm pdf zip tgz gz tar log csv xml sql sh lock map wasm exe dll so
    """
)


def emails(scan: Scan) -> Iterator[Offsets]:
    """E-mail addresses, also percent-encoded and with letters of other scripts."""
    text, done = scan.text, 0
    for sign in ("@", "%40"):
        at = text.find(sign)
        while at >= 0:
            found = _email_at(text, at, len(sign), done)
            if found is not None:
                yield found
                done = found[1]
            at = text.find(sign, max(done, at + 1))


def _email_at(text: str, at: int, sign: int, done: int) -> Offsets | None:
    local = text[max(done, at - 64) : at]
    run = local[len(local.rstrip(_LOCAL)) :].lstrip("%+.-'")
    domain = _DOMAIN.match(text, at)
    if not run or domain is None:
        run, domain = _foreign(local), _ANY_DOMAIN.match(text, at)
    if not run or domain is None:
        return None
    start, end = at - len(run), domain.end()
    ending = domain[0].rpartition(".")[2].lower()
    after = text[end : end + 1]
    user_info = text[max(0, start - 64) : start].rpartition("://")
    if user_info[1] and ":" in user_info[2] and not {" ", "/", "\n"} & set(user_info[2]):
        return None  # `url_passwords` takes it, and the host may stay
    if ending in _FILES or after == "(" or (run == "git" and after == ":"):
        return None
    return start, end


def _foreign(local: str) -> str:
    count = 0
    for character in reversed(local):
        if not (character.isalnum() or character in "._+-"):
            break
        count += 1
    return local[len(local) - count :] if count else ""


# -- passwords in URLs, query parameters -----------------------------------------------------------
_USER: Final = re.compile(r"[^/\s:@?#\"'<>]*+:")
_PORT: Final = re.compile(r"[0-9]{1,5}(?:[/?#\s\"'<>,)]|$)")
_NO_AT: Final = re.compile(r"[^\s\"'<>@]*+")
_MORE_AT: Final = re.compile(r"(?:@[^\s\"'<>@/?#]*+(?=@))*+")
_ANY_AT: Final = re.compile(r"(?:@[^\s\"'<>@]*+(?=@))*+")
_QUERY: Final = re.compile(r"[?&;]([A-Za-z0-9_.\-]{1,64}+)(?:\[\])?=")
_QUERY_VALUE: Final = re.compile(r"[^&#\s\"'<>]++")
#: So much of a value decides whether it is a secret; all of a secret goes.
_LOOKED_AT: Final = 160


def url_passwords(scan: Scan) -> Iterator[Offsets]:
    """The password of `scheme://user:password@host`, one with `@` and `/` in it too."""
    text = scan.text
    start = text.find("://") if "@" in text else -1
    while start >= 0:
        after = start + 3
        user = _USER.match(text, after)
        if user is not None and _PORT.match(text, user.end()) is None:
            run = _NO_AT.match(text, user.end())
            after = (
                run.end() if run is not None else after
            )  # without `@`, none in this word has one
            if text[after : after + 1] == "@":
                web = text[max(0, start - 5) : start].endswith(("http", "https"))
                more = (_MORE_AT if web else _ANY_AT).match(text, after)  # /@name is a path there
                after = more.end() if more is not None else after
                if after > user.end():
                    yield user.end(), after
        start = text.find("://", after)


def query_values(scan: Scan) -> Iterator[Offsets]:
    """Values of query parameters with telling names."""
    text, done = scan.text, 0
    heads = _QUERY.finditer(text) if "=" in text else ()
    for head in heads:
        kind = telling(head[1]) if head.start() >= done else Telling.NO
        if kind is Telling.NO:
            continue
        start = head.end()
        looked_at = _QUERY_VALUE.match(text, start, start + _LOOKED_AT)
        if looked_at is None or is_placeholder(looked_at[0]):
            continue
        if kind >= Telling.SECRET or (len(looked_at[0]) >= 8 and _mixed(looked_at[0])):
            whole = _QUERY_VALUE.match(text, start)
            done = looked_at.end() if whole is None else whole.end()
            yield start, done


def _mixed(value: str) -> bool:
    return _DIGIT.search(value) is not None and _LETTER.search(value) is not None


_DIGIT: Final = re.compile(r"[0-9]")
_LETTER: Final = re.compile(r"[^\W\d_]")
_MARK: Final = re.compile(r"[!@#$%^&*+?~]")


# -- credentials -----------------------------------------------------------------------------------
_VALUE: Final = re.compile(r"\s{1,3}([A-Za-z0-9+/_\-.~=:]{8,}+)")


def credentials(scan: Scan) -> Iterator[Offsets]:
    """What follows `Bearer` and `Basic`, in a header or anywhere else."""
    for scheme in ("bearer", "basic"):
        position = scan.lower.find(scheme)
        while position >= 0:
            after = position + len(scheme)
            value = _VALUE.match(scan.text, after)
            if value is not None and not glued(scan.text, position):
                if _is_credential(scheme, value[1].rstrip(".")):
                    yield value.start(1), value.start(1) + len(value[1].rstrip("."))
                after = value.end()
            position = scan.lower.find(scheme, after)
    if "-u" in scan.text and ":" in scan.text:
        for option in _USER_OPTION.finditer(scan.text):
            yield option.span(1)


_USER_OPTION: Final = re.compile(  # curl -u name:password
    r"(?<![\w\-])-(?:u|-user)[ =]['\"]?[A-Za-z0-9._@\-]{1,64}+:(?!//)([^\s'\"]{3,}+)"
)


def _is_credential(scheme: str, value: str) -> bool:
    if scheme == "basic":
        try:
            return ":" in base64.b64decode(value, validate=True).decode("utf-8")
        except (binascii.Error, UnicodeDecodeError):
            pass
    return len(value) >= 12 and (turns(value) >= 3 or (_mixed(value) and len(value) >= 20))


# -- secrets next to telling names -----------------------------------------------------------------
#: Parts of telling names: of one of these every such name is made.
_PARTS: Final = (
    *("pass", "pw", "secret", "token", "key", "credential", "auth", "cookie", "sig", "jwt"),
    *("connection", "비밀번호", "암호", "비번", "패스워드", "密码", "パスワード"),
)
_NAME: Final = f"{string.ascii_letters}{string.digits}_.-"
_NAME_REST: Final = re.compile(r"[A-Za-z0-9_.\-]*+")
_SIGN: Final = re.compile(
    r"[\"'`\]]{0,2}[ \t]{0,4}(?:=>|:=|={1,3}|:|!=)[ \t]{0,4}(?:[rbfu]{0,2}(?P<q>[\"'`]))?"
    r"|[ \t]{1,4}(?:is|was|=|->)[: \t][ \t]{0,3}(?P<w>)(?:[\"'`])?|(?:는|은)[ \t]{0,3}(?P<k>)"
)
_OPTION: Final = re.compile(r"[ \t]{1,4}(?P<q>[\"'])?(?P<w>\b)?(?P<k>\b)?")  # --password x
_BARE: Final = re.compile(r"[^\s\"'`<>;&]++")
_BARE_AFTER_COLON: Final = re.compile(r"[^\s\"'`<>;]++")
_HEADER: Final = re.compile(r"[^\n\"]++")
_SCHEMES: Final = re.compile(r"(?i)(?:bearer|basic|token|apikey|digest|negotiate)\s{1,3}")


def named_secrets(scan: Scan) -> Iterator[Offsets]:
    """Values behind `password=`, `api_key: "…"`, `token is …`, where they are no names or code."""
    text, seen = scan.text, 0
    for place, part_end in _name_places(scan.lower):
        if place < seen:
            continue
        rest = _NAME_REST.match(text, part_end)
        seen = part_end if rest is None else rest.end()
        head = text[max(0, place - 48) : place]
        name = head[len(head.rstrip(_NAME)) :] + text[place:seen]
        end = seen - (len(name) - len(name.rstrip(".-")))
        kind = telling(name)
        if kind is not Telling.NO and (found := _value_after(text, end, kind, name)) is not None:
            yield found
            seen = found[1]


def has_telling_part(lower: str) -> bool:
    """Whether a text in lower case may have a telling name in it."""
    return any(part in lower for part in _PARTS)


def _name_places(lower: str) -> list[Offsets]:
    places: list[Offsets] = []
    for part in _PARTS:
        at = lower.find(part)
        while at >= 0:
            places.append((at, at + len(part)))
            at = lower.find(part, at + len(part))
    return sorted(places)


def _value_after(text: str, end: int, kind: Telling, name: str) -> Offsets | None:
    sign = _SIGN.match(text, end) or (_OPTION.match(text, end) if name.startswith("--") else None)
    if sign is None:
        start = end - len(name.rstrip(".-"))
        element = text.startswith(">", end) and text.startswith("<", start - 1)
        if not element:
            return None
        start, quote, told, tight, prose = end + 1, None, "=", True, False
    else:
        start, quote, told = sign.end(), sign["q"], sign[0].strip()
        tight, prose = sign[0] in ("=", ":="), sign["w"] is not None or sign["k"] is not None
    if told == ":" and name.lower().endswith("cookie"):
        header = _HEADER.match(text, start) if "=" in text[start : start + _LOOKED_AT] else None
        return header.span() if header is not None else None
    if (scheme := _SCHEMES.match(text, start)) is not None:
        start = scheme.end()
    bare = _BARE if "=" in told else _BARE_AFTER_COLON
    limit = start + _LOOKED_AT
    stop = text.find(quote, start, limit) if quote else -1
    if stop < 0 or "\n" in text[start:stop]:
        stop = _bare_end(bare, text, start, limit)
    if not _is_secret(text[start:stop], kind, name, quoted=bool(quote), prose=prose, tight=tight):
        return None
    return start, _bare_end(bare, text, start, len(text)) if stop == limit else stop


def _bare_end(bare: re.Pattern[str], text: str, start: int, limit: int) -> int:
    match = bare.match(text, start, limit)
    if match is None:
        return start
    if match.end() == limit < len(text):
        return limit
    return start + (len(match[0].rstrip(".,)]}:")) or len(match[0]))


def _is_secret(
    value: str, kind: Telling, name: str, *, quoted: bool, prose: bool, tight: bool
) -> bool:
    """Whether a value behind a telling name is a secret, and no word, type or piece of code."""
    if len(value) < 4 or is_placeholder(value) or is_code(value, name, quoted=quoted):
        return False
    digits, letters = _DIGIT.search(value) is not None, _LETTER.search(value) is not None
    marks = _MARK.search(value) is not None
    if kind is Telling.WEAK:
        return is_drawn(value)
    if " " in value:
        return quoted and kind is Telling.PASSWORD and digits and marks
    if prose:
        return len(value) >= 6 and letters and (digits or marks) and _is_typed(value)
    if kind is Telling.SECRET:
        return len(value) >= 8 and ((digits and (letters or tight or quoted)) or turns(value) >= 3)
    if digits or marks:
        return True
    return len(value) >= 6 and (quoted or (tight and value.isalpha()))


def is_drawn(value: str) -> bool:
    """Whether a value behind a name that tells little (`token`, `key`) was drawn; no UUID."""
    return (
        len(value) >= 16
        and " " not in value
        and _UUID.fullmatch(value) is None
        and _CAMEL.fullmatch(value) is None
        and looks_random(value)
    )


def _is_typed(value: str) -> bool:
    return not re.fullmatch(r"[0-9][0-9.,%]*[A-Za-z가-힣]{0,4}|[A-Za-z]+-[0-9]+|[#@]\w+", value)


_CAMEL: Final = re.compile(
    r"(?:[A-Z]?[a-z]{2,}+|[0-9]{1,4}+|[_\-./:=,])*+"
)  # a name of several words
_UUID: Final = re.compile(
    r"[0-9a-fA-F]{8}-[0-9a-fA-F]{4}-[0-9a-fA-F]{4}-[0-9a-fA-F]{4}-[0-9a-fA-F]{12}"
)
_CODE: Final = re.compile(
    r"[A-Za-z_$][\w$]*(?:\.[A-Za-z_$][\w$]*)*[(\[].*|[A-Za-z_$][\w$]*(?:(?:\.|->|::)[A-Za-z_$][\w$]*)+"
    r"|[A-Z][A-Z0-9]*(?:_[A-Z0-9]+)+|[a-z]+(?:_[a-z]+)+|/?[\w.\-]+(?:/[\w.\-]+)+/?|\.{1,2}/[\w./\-]+|[a-z]+://[^:@]*",
    re.DOTALL,
)


#: How people end the words they choose as passwords (`Password123!`); names seldom do.
_CHOSEN: Final = re.compile(r"[A-Za-z][0-9]{1,6}[!@#$%^&*+?~.]*$")
_OWN_NAMES: Final = ("password", "passwd", "secret", "token", "apikey", "credential")


def is_code(value: str, name: str, *, quoted: bool) -> bool:
    """Whether a value is an expression, a path, a constant's name or the name itself again."""
    folded = value.lower().replace("_", "").replace("-", "")
    named = any(part in folded for part in _OWN_NAMES)
    if named and (_DIGIT.search(value) is None or turns(value) < 3) and not _CHOSEN.search(value):
        return True
    if _CODE.fullmatch(value) is None:
        return False
    if "(" in value or "[" in value:
        return not quoted
    return _DIGIT.search(value) is None or not looks_random(value)
