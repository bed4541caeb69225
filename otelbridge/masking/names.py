"""Names that tell that a secret stands behind them, and values that only stand for one.

Used on attribute keys, on members of JSON objects, on query parameters and on names in text.
`password` and `client_secret` tell, `token_count` and `cache_key` do not. Names in, answers out.
"""

from __future__ import annotations

import re
from enum import IntEnum
from functools import lru_cache
from typing import Final


class Telling(IntEnum):
    """How sure a name is that its value is a secret."""

    NO = 0
    WEAK = 1  # the value must look drawn (`token`, `key`, `session`)
    SECRET = 2  # `api_key`, `client_secret`
    PASSWORD = 3


def word_set(text: str) -> frozenset[str]:
    """The words of a text, for lists that read better without quotation marks."""
    return frozenset(text.split())


_camel = re.compile(r"(?<=[a-z0-9])(?=[A-Z])")
_split = re.compile(r"[^a-z0-9가-힣一-龥ァ-ヶー]+")
_PASSWORDS: Final = word_set(
    """
    password passwd passwort passphrase passcode pwd pw userpassword dbpassword 비밀번호 암호
    비번 패스워드 密码 パスワード motdepasse contraseña pass userpwd pgpassword mysqlpwd
    requirepass
    """
)
_SECRETS: Final = word_set(
    """
    secret apikey secretkey accesskey secretaccesskey accesstoken refreshtoken authtoken idtoken
    bearertoken sessiontoken securitytoken privatekey accountkey sharedaccesskey signingkey
    encryptionkey masterkey clientsecret appsecret consumersecret webhooksecret jwt jwtsecret
    authorization proxyauthorization credential credentials connectionstring connstr authkey
    subscriptionkey servicekey apitoken apisecret bottoken servicetoken personalaccesstoken
    deploytoken adminkey licensekey xapikey sharedsecret signingsecret secrettoken storagekey
    functionkey rootkey hmackey awssecretaccesskey authenticationtoken usertoken admintoken
    sastoken clienttoken cookiesecret
    """
)
_WEAK: Final = word_set(
    """
    token key auth cookie setcookie signature sig session sid code otp
    """
)
#: In front of `key` or `token`: no secret.
_PLAIN: Final = word_set(
    """
    cache primary foreign sort partition routing idempotency public dedup object row composite
    lookup dict hash group translation i18n feature event item page next nextpage prev
    continuation cursor sync pad eos bos unk stop special max min num total count input output
    prompt completion cached reasoning  unique index message trace span metric label
    tag host  publishable config map json attribute  order
    natural surrogate version etag error status postal zip area country dial source exit return
    response http state invite promo coupon discount product hs currency language lang color
    barcode qr byte op char
    """
)
_SUFFIXES: Final = word_set(
    """
    value val prod production dev staging test live old new default current
    """
)


_ENDINGS: Final = (
    *("password", "passwd", "passphrase", "secretkey", "apikey", "accesstoken", "secret"),
)


@lru_cache(maxsize=4096)
def telling(name: str) -> Telling:
    """How much a name tells; `db.password`, `OPENAI_API_KEY`, `userPassword`, `x-api-key`.

    Args:
        name: An attribute key, a member of an object, a parameter; any separators and case.
    """
    if len(name) > 128:
        name = name[-128:]
    words = [word for word in _split.split(_camel.sub("_", name).lower()) if word]
    while len(words) > 1 and (words[-1] in _SUFFIXES or words[-1].isdigit()):
        words.pop()
    if not words:
        return Telling.NO
    last = words[-1].rstrip("0123456789") or words[-1]
    tails = [last, *("".join((*words[-n:-1], last)) for n in (2, 3) if len(words) >= n)]
    for tail in tails:
        for form in (tail, tail.removesuffix("s")):
            if form in _PASSWORDS:
                return Telling.PASSWORD if form != "pass" or len(words) > 1 else Telling.WEAK
    if len(words) > 1 and words[-2] in _PLAIN:
        return Telling.NO
    for tail in tails:
        if tail in _SECRETS or tail.removesuffix("s") in _SECRETS:
            return Telling.SECRET
    for ending in (
        "password",
        "passwd",
        "passphrase",
        "secretkey",
        "apikey",
        "accesstoken",
        "secret",
    ):
        if last.endswith(ending):
            return Telling.PASSWORD if ending.startswith("pass") else Telling.SECRET
    return Telling.WEAK if last in _WEAK else Telling.NO


_PLACEHOLDER: Final = re.compile(
    r"(?i)none|null|nil|undefined|true|false|yes|no|on|off|str|string|text|bytes|int|integer|number"
    r"|object|array|optional.*|required|missing|invalid|expired|incorrect|wrong|empty|unknown"
    r"|redacted|hidden|masked|secret|password|token|changeme|example|dummy|any|your[_\-. ].*|<.*"
    r"|\$.*|\{.*|%[\w]+%|\*+|[x.•·*#]{3,}|\.{3}.*|\[(?:masked|hash|redacted|removed|filtered).*"
    r"|env[.:].*|process\.env.*|os\.(?:environ|getenv).*|vault:.*|my[_-]?(?:api[_-]?key|secret|token"
    r"|password)|sk-\.\.\.|(?:basic|bearer|digest)(?:%20)?[.…]*|n/a|-+"
)


def is_placeholder(value: str) -> bool:
    """Whether a value stands for a secret: `null`, `<token>`, `${TOKEN}`, `****`, `[masked:…]`."""
    return _PLACEHOLDER.fullmatch(value.strip("\"' ")) is not None
