"""The variables of a stack's `.env`: how each is made, what it must look like, when it may change.

Pure data and pure functions; `docker-compose.yml` and `collector/variables/` read these names.
Alphabets are narrow on purpose: `$ ' " # %` and the like mean something in compose, in shells and
in the database addresses that Langfuse builds from the passwords.
"""

from __future__ import annotations

import base64
import re
import secrets
import string
import uuid
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final, Literal

#: `free`: any time, containers are made anew. `pair`: with its other half only. `first`: stored at
#: the first start, a later value is not taken. `never`: stored data is unreadable with another one.
#: `derived`: made from others. `setting`: no secret, edit the file.
Change = Literal["free", "pair", "first", "never", "derived", "setting"]

#: Where the browser and the containers find the parts of docker-compose.yml.
LOCAL_HOST: Final = "http://langfuse-web:3000"
LANGFUSE_PORT: Final = "3000"
GRAFANA_PORT: Final = "3001"
#: Langfuse makes organisation and project with these ids, so that links are right at once.
LOCAL_ORG_ID: Final = "otelbridge"
LOCAL_PROJECT_ID: Final = "otelbridge"
LOCAL_USER_EMAIL: Final = "admin@otelbridge.local"
PUBLIC_PREFIX: Final = "pk-lf-"
SECRET_PREFIX: Final = "sk-lf-"  # noqa: S105 - how every secret key of Langfuse begins


@dataclass(frozen=True, slots=True)
class Variable:
    """One name of the file.

    Attributes:
        meaning: A comment above the line; for `first` and `never` also why.
        make: A new random value; None when it is given, asked for or derived.
        pattern: What a value must match.
        allowed: The pattern in words.
        secret: Never shown by `init`.
        change: See `Change`.
        remedy: How it is changed all the same, or why it cannot be.
        volume: Part of the name of the volume that holds data made with it.
        local_only: Belongs to a Langfuse of the stack itself.
    """

    name: str
    meaning: str
    make: Callable[[], str] | None = None
    pattern: str = r".+"
    allowed: str = "text"
    secret: bool = False
    change: Change = "setting"
    remedy: str = ""
    volume: str = ""
    local_only: bool = False


def hexadecimal(letters: int) -> Callable[[], str]:
    """A maker of random lower-case hexadecimal digits, 4 bits each."""
    return lambda: secrets.token_hex(letters // 2)


def alphanumeric(letters: int) -> Callable[[], str]:
    """A maker of random letters and digits, 5.95 bits each."""
    alphabet = string.ascii_letters + string.digits
    return lambda: "".join(secrets.choice(alphabet) for _ in range(letters))


def login_password() -> str:
    """A password with the kinds of characters that login pages ask for: Aa, 0-9 and `-`."""
    parts = (alphanumeric(9)() for _ in range(3))
    return f"{'-'.join(parts)}-{secrets.choice(string.ascii_letters)}{secrets.randbelow(10)}"


def access_key() -> str:
    """20 capital letters and digits, as object stores have it."""
    return "".join(secrets.choice(string.ascii_uppercase + string.digits) for _ in range(20))


def public_key() -> str:
    """A new public key as Langfuse makes them."""
    return f"{PUBLIC_PREFIX}{uuid.uuid4()}"


def secret_key() -> str:
    """A new secret key as Langfuse makes them: 122 random bits."""
    return f"{SECRET_PREFIX}{uuid.UUID(bytes=secrets.token_bytes(16), version=4)}"


def basic_auth(public: str, secret: str) -> str:
    """What stands behind `Basic ` in the Authorization header (RFC 7617)."""
    return base64.b64encode(f"{public}:{secret}".encode()).decode()


def litellm_key() -> str:
    """A key that LiteLLM takes as a master key: it begins with `sk-`."""
    return f"sk-{secrets.token_hex(24)}"


_URL: Final = r"https?://[^\s/]+[^\s]*"
_URL_WORDS: Final = "an http:// or https:// URL"
_IN_URL: Final = r"[A-Za-z0-9._~-]{12,}"
_IN_URL_WORDS: Final = "at least 12 of A-Z a-z 0-9 . _ ~ - (it becomes part of an address)"
_FIRST_LANGFUSE: Final = (
    "Langfuse reads it only when it makes the user. Change the password in Langfuse."
)

VARIABLES: Final[tuple[Variable, ...]] = (
    Variable("COMPOSE_PROFILES", "what `docker compose up` starts beside the light stack",
             pattern=r"[a-z0-9_,-]+", allowed="profiles separated by commas"),
    Variable("OTELBRIDGE_COMPOSE_LOGS", "logs of the demo services, for the profile logs",
             pattern="otlp", allowed="otlp"),
    Variable("LANGFUSE_HOST", "Langfuse as the Collector's container reaches it", pattern=_URL,
             allowed=_URL_WORDS),
    Variable("LANGFUSE_PUBLIC_URL", "Langfuse as a browser reaches it; links lead there",
             pattern=_URL, allowed=_URL_WORDS),
    Variable("LANGFUSE_PROJECT_ID", "the project, a part of every link into Langfuse",
             pattern=r"[A-Za-z0-9_-]+", allowed="letters, digits, _ and -"),
    Variable("LANGFUSE_PUBLIC_KEY", "the project's keys: all spans for Langfuse are sent with them",
             public_key, r"[\x21-\x39\x3b-\x7e]+", "text without spaces and colons", secret=True,
             change="pair"),
    Variable("LANGFUSE_SECRET_KEY", "", secret_key, r"[\x21-\x7e]+", "text without spaces",
             secret=True, change="pair"),
    Variable("LANGFUSE_BASIC_AUTH", "base64 of both keys, for programs that want a header",
             secret=True, change="derived"),
    Variable("LANGFUSE_INIT_ORG_ID", "what Langfuse makes at its first start", local_only=True),
    Variable("LANGFUSE_INIT_PROJECT_ID", "", local_only=True),
    Variable("LANGFUSE_INIT_USER_EMAIL", "log in to Langfuse with these", local_only=True,
             pattern=r"[^@\s]+@[^@\s]+\.[^@\s]+", allowed="a mail address"),
    Variable("LANGFUSE_INIT_USER_PASSWORD", "", login_password, r".{8,}", "at least 8 characters",
             secret=True, change="first", volume="postgres", local_only=True,
             remedy=_FIRST_LANGFUSE),
    Variable("NEXTAUTH_SECRET", "signs Langfuse's sessions", hexadecimal(64), r".{16,}",
             "at least 16 characters", secret=True, change="free", remedy="Users log in again."),
    Variable("SALT", "never change it after the first start", hexadecimal(64), r".{16,}",
             "at least 16 characters", secret=True, change="never", volume="postgres",
             remedy="Langfuse stores API keys as hashes made with it; with another one no key "
             "works any more."),
    Variable("ENCRYPTION_KEY", "never change it after the first start", hexadecimal(64),
             r"[0-9a-fA-F]{64}", "exactly 64 hexadecimal digits", secret=True, change="never",
             volume="postgres",
             remedy="Langfuse encrypts stored credentials with it; with another one they cannot "
             "be read any more."),
    Variable("POSTGRES_PASSWORD", "passwords of Langfuse's stores", hexadecimal(48), _IN_URL,
             _IN_URL_WORDS, secret=True, change="first", volume="postgres",
             remedy="Postgres stores it at its first start. Change it there with ALTER USER, then "
             "in .env by hand."),
    Variable("CLICKHOUSE_PASSWORD", "", hexadecimal(48), _IN_URL, _IN_URL_WORDS, secret=True,
             change="free"),
    Variable("REDIS_AUTH", "", hexadecimal(48), _IN_URL, _IN_URL_WORDS, secret=True,
             change="free"),
    Variable("OBJECT_STORE_ACCESS_KEY", "", access_key, r"[A-Za-z0-9]{3,}",
             "at least 3 letters and digits", secret=True, change="free"),
    Variable("OBJECT_STORE_SECRET_KEY", "", hexadecimal(48), r"[A-Za-z0-9/+=_-]{8,}",
             "at least 8 letters and digits", secret=True, change="free"),
    Variable("GRAFANA_ADMIN_PASSWORD", "log in to Grafana as admin", alphanumeric(32), r".{5,}",
             "at least 5 characters", secret=True, change="first", volume="grafana",
             remedy="Grafana stores it at its first start. Change it there: docker compose exec "
             "grafana grafana cli admin reset-admin-password --password-from-stdin, then in .env "
             "by hand."),
    Variable("LITELLM_MASTER_KEY", "keys of the LiteLLM gateway (profile gateway)", litellm_key,
             r"sk-\S{8,}", "sk- and at least 8 characters", secret=True, change="free",
             remedy="Clients of the gateway that use it need the new one."),
    Variable("LITELLM_SALT_KEY", "never change it after the first start", litellm_key, r"\S{8,}",
             "at least 8 characters", secret=True, change="never", volume="litellm",
             remedy="LiteLLM encrypts stored credentials with it; with another one they cannot be "
             "read any more."),
    Variable("OTELBRIDGE_GRAFANA_URL", "Grafana as a browser reaches it; links lead there",
             pattern=_URL, allowed=_URL_WORDS),
)  # fmt: skip
BY_NAME: Final[dict[str, Variable]] = {variable.name: variable for variable in VARIABLES}

_DEFAULTS: Final = """
mysalt mysecret secret miniosecret minio minioadmin myredissecret clickhouse postgres langfuse redis
admin password changeme change-me change_me default test example your-secret your_secret sk-1234
sk-1234567890 pk-lf-1234567890 sk-lf-1234567890 lf_pk_1234567890 lf_sk_1234567890 pk-lf-...
sk-lf-...
"""
#: Values that ship with example files everywhere, in lower case. Source: the compose files of
#: Langfuse 4, LiteLLM and Grafana, and what people type instead.
KNOWN_DEFAULTS: Final = frozenset(_DEFAULTS.split())


def weakness(variable: Variable, value: str) -> str:
    """What is wrong with a value, in words that do not show a secret; empty when nothing is."""
    if value.startswith("#"):
        return "is the comment behind it, which compose takes for the value"
    if variable.secret:
        if value.strip().casefold() in KNOWN_DEFAULTS:
            return "is a default that everybody knows"
        if len(value) > 1 and len(set(value)) == 1:
            return "is one character repeated"
        if re.match(r"change.?me|<.*>$", value, re.IGNORECASE):
            return "is a placeholder"
    if not re.fullmatch(variable.pattern, value):
        return f"cannot be used; allowed: {variable.allowed}"
    return ""
