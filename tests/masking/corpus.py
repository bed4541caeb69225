"""The labelled corpus: 1,000 texts with secrets, 1,000 without, and 3,000 more that only look so.

Every text is made from frames that a person can read and values of `making`, by a seed: the same
in each run. `python -m tests.masking.corpus` prints it, one JSON object a line. `secrets` are
the texts that must be gone; whatever else is masked counts against precision.
"""

from __future__ import annotations

import base64
import json
import uuid
from collections.abc import Callable, Iterator
from dataclasses import dataclass

from tests.masking.making import BASE62, HEX, UPPER, Maker


@dataclass(frozen=True)
class Labelled:
    """A text, its kind of content, and the secrets in it (none in a negative)."""

    kind: str
    text: str
    secrets: tuple[str, ...] = ()


#: Where a value may stand; `{}` is the value.
PROSE = (
    "{}",
    "Please use {} for this.",
    "It is {}, thanks!",
    "({})",
    '"{}"',
    "<{}>",
    "{},",
    "see: {}.",
    "Hi, I already sent {} yesterday. Can you check again?",
    "고객 정보: {} 입니다",
    "{}로 처리해 주세요",
    "- {}\n- next",
    "Summarise the following.\n\n{}\n\nKeep it short.",
    "user said {} and hung up",
    "| name | {} |",
    "값={}",
    "ValueError: cannot parse '{}'",
    "2026-11-21T10:00:00Z INFO got {} in 12 ms",
    "Traceback: …\n  raise E({})",
)
JSON_FRAMES = (
    '[{"role": "user", "parts": [{"type": "text", "content": %s}]}]',
    '{"input":%s,"n":3}',
    '{"tool": "lookup", "arguments": {"q": %s, "limit": 10}}',
)
PHONE_FRAMES = (
    "전화는 {}입니다",
    "연락처: {}",
    "Call me at {} please",
    "tel:{}",
    "my number is {}",
    "Phone {} / mail",
    "{} 로 문자 주세요",
)
PASSWORD_FRAMES = (
    "password={}",
    'password: "{}"',
    "pwd={};",
    "DB_PASSWORD={}",
    "my password is {}",
    "비밀번호는 {}",
    "비밀번호: {}",
    "export PGPASSWORD={}",
    "--password {} --host db",
    "login(user='a', password='{}')",
    '{{"user":"a","password":"{}"}}',
    "postgres://app:{}@db.internal:5432/orders",
    "redis://:{}@cache:6379/0",
    "https://bob:{}@git.example.com/r.git",
    "mongodb+srv://svc:{}@c0.mongodb.net/x?retryWrites=true",
    "Server=db;User Id=sa;Password={};Encrypt=true",
    "spring.datasource.password={}",
    "passphrase = '{}'",
    "smtp_passwd: '{}'",
)
DRAWN_FRAMES = (
    "api_key={}",
    "API_KEY: {}",
    'client_secret = "{}"',
    "secret_key='{}'",
    "aws_secret_access_key = {}",
    "access_token={}",
    "AccountKey={};EndpointSuffix=core.windows.net",
    '{{"apiKey": "{}"}}',
    "X-API-Key: {}",
    "Authorization: Bearer {}",
    "https://api.example.com/v1/chat?api_key={}&stream=true",
    "refresh_token: {}",
    "curl -H 'Authorization: Bearer {}' https://x.example",
    "OPENAI_API_KEY={}",
    "private_key: {}",
    "signing-key={}",
    "https://s.blob.core.windows.net/c/f.txt?sv=2024&sig={}",
    "datadog_api_key: '{}'",
    "the api key is {}",
)


def positives(seed: int | str, count: int = 1000) -> Iterator[Labelled]:
    """Texts with one or two secrets, all kinds in turn."""
    make = Maker(f"positives {seed}")
    makers: tuple[tuple[str, Callable[[], str], tuple[str, ...]], ...] = (
        ("email", make.email, PROSE),
        ("phone", make.phone, (*PROSE, *PHONE_FRAMES)),
        ("card", make.card, PROSE),
        ("iban", make.iban, PROSE),
        ("kr-rrn", make.korean_number, PROSE),
        ("us-ssn", make.ssn, PROSE),
        ("national-id", make.national_id, PROSE),
        ("api-key", make.api_key, PROSE),
        ("jwt", make.jwt, PROSE),
        ("private-key", make.pem, PROSE),
        ("password", make.password, PASSWORD_FRAMES),
        ("secret", make.drawn, DRAWN_FRAMES),
        ("api-key", make.api_key, PROSE),
    )
    for number in range(count):
        kind, value, frames = makers[number % len(makers)]
        secret = value()
        text = make.dice.choice(frames).replace("{{", "{").replace("}}", "}").replace("{}", secret)
        secrets = (secret,)
        if make.dice.random() < 0.15 and frames is PROSE:
            other = make.email()
            text, secrets = f"{text}\n{other}", (secret, other)
        if make.dice.random() < 0.2:
            text = make.dice.choice(JSON_FRAMES) % json.dumps(
                text, ensure_ascii=make.dice.random() < 0.5
            )
        yield Labelled(kind, text, secrets)


# -- what only looks so ----------------------------------------------------------------------------
def _ids(make: Maker) -> str:
    d, t, n = make.digits, make.text, make.dice.randint
    return make.dice.choice(
        (
            f"trace_id={t(HEX, 32)} span_id={t(HEX, 16)}",
            f"request id {make.uuid()}",
            f"chatcmpl-{t(BASE62, 29)}",
            f"msg_01{t(BASE62, 22)}",
            f"call_{t(BASE62, 24)}",
            f"order number {d(10)}",
            f"order {d(12)}",
            f"ORD-2026-{d(6)}",
            f"주문번호 {d(14)}",
            f"invoice INV-{d(4)}-{d(5)}",
            f"commit {t(HEX, 40)}",
            f"at {t(HEX, 7)}",
            f"sha256:{t(HEX, 64)}",
            f"ISBN 978-3-16-{d(6)}-{d(1)}",
            f"ISBN 0-306-40615-{d(1)}",
            f"doi:10.1145/{d(7)}.{d(7)}",
            f"arXiv:2311.{d(5)}",
            f"thread_{t(BASE62, 24)}",
            f"asst_{t(BASE62, 24)}",
            f"resp_{t(HEX, 48)}",
            f"run-{t(HEX, 8)}",
            f"SKU {t(UPPER, 3)}-{d(5)}",
            f"session {make.uuid()}",
            f"ticket #{d(6)}",
            f"tracking 1Z{t(UPPER, 16)}",
            f"EAN 40{d(11)}",
            f"snowflake {n(10**17, 10**18)}",
            f"운송장 {d(4)}-{d(4)}-{d(4)}",
            f"사업자등록번호 {d(3)}-{d(2)}-{d(5)}",
            f"PR #{d(4)}, job {d(8)}",
            f"block {d(9)}",
            f"id: {d(11)}",
            f"pod checkout-{t(HEX, 9)}-{t(HEX, 5)}",
            f"arn:aws:iam::{d(12)}:role/app",
            f"account {d(12)}",
            f"IMEI 35{d(13)}",
            f"pk-lf-{make.uuid()}",
        )
    )


def _numbers(make: Maker) -> str:
    d, n = make.digits, make.dice.randint
    return make.dice.choice(
        (
            f"37.{d(4)}, 126.{d(4)}",
            f"lat={n(-89, 89)}.{d(6)}&lon={n(-179, 179)}.{d(6)}",
            f"v{n(0, 9)}.{n(0, 30)}.{n(0, 99)}",
            "Python 3.11.7 on Linux 6.1.0-18",
            f"2026-{n(1, 12):02d}-{n(1, 28):02d} 09:{n(10, 59)}:{n(10, 59)}",
            f"ts={n(1_600_000_000, 1_799_999_999)}",
            f"{n(1_600_000_000_000, 1_799_999_999_999)} ms",
            f"start_time_unix_nano={n(16 * 10**17, 18 * 10**17)}",
            f"{n(16 * 10**14, 18 * 10**14)} us",
            f"$1,{d(3)}.{d(2)} and 3.1415926535897{d(2)}",
            f"tokens: {n(1, 99999)} in, {n(1, 9999)} out",
            f"cost 0.0{d(12)} USD",
            f"{d(3)},{d(3)},{d(3)} rows",
            f"range 1000000-{d(7)}",
            f"0.{d(16)}",
            f"{n(1, 12)}/{n(1, 28)}/20{n(10, 26)}",
            f"20{n(10, 26)}.{n(1, 12):02d}.{n(1, 28):02d}",
            f"{n(10, 99)}% of {d(6)}",
            f"[{n(0, 9)}.{d(8)}, -{n(0, 9)}.{d(8)}, 0.{d(8)}]",
            f"{n(100, 999)} {n(100, 999)} {n(100, 999)} {n(100, 999)}",
            f"port {n(1024, 65535)}, pid {n(100, 99999)}",
            f"12:30-13:45, 2026-11-21~2026-11-{n(22, 30)}",
            f"2{n(10, 99)} x {n(10, 99)} = {d(4)}",
            f"1e-{n(1, 9)} 6.02214076e+23",
            f"1920x1080@{n(24, 144)}Hz",
            f"0x{make.text(HEX, 16)}",
            f"{n(1, 9)}-{n(1, 9)}-{n(1, 9)} formation",
            f"row 1 2 3 4 5 6 7 8 9 {n(10, 99)} {n(10, 99)} {n(10, 99)}",
            f"score 3:{n(0, 9)} (2:1, 1:{n(0, 9)})",
            f"RFC 7{d(3)} section {n(1, 9)}.{n(1, 9)}.{n(1, 9)}",
            f"HS 8471.30.01{d(2)}",
        )
    )


def _code(make: Maker) -> str:
    w = make.word
    return make.dice.choice(
        (
            "password = getpass.getpass()",
            "api_key = os.environ['OPENAI_API_KEY']",
            "def login(user: str, password: str) -> Token:",
            f"token = tokens[{make.dice.randint(0, 99)}]",
            "client = OpenAI(api_key=settings.api_key)",
            "secret = config.get('secret')",
            f"cache_key = f'{w()}:{{user_id}}'",
            "if token is None: raise AuthError('token expired')",
            "PRIMARY KEY (id), FOREIGN KEY (user_id)",
            f"SELECT {w()} FROM {w()} WHERE key = ?",
            "max_tokens=4096, top_p=0.9",
            "for key, value in mapping.items():",
            f"git@github.com:{w()}/{w()}.git",
            f"npm install {w()}@{make.dice.randint(1, 9)}.2.0",
            f"icon-{w()}@2x.png",
            "@app.route('/login')",
            f"from {w()}.{w()} import {w()} as key",
            "password: required, at least 12 characters",
            "Authorization: Bearer <token>",
            "export API_KEY=${API_KEY}",
            "token: ****",
            "secret: null",
            "https://example.com/docs?page=2&sort=asc#auth",
            f"https://shop.example/{w()}-{w()}?utm_source={w()}&id={make.digits(6)}",
            "keyboard, monkey, turkey, donkey, hockey",
            f"{w()}_key: {w()}",
            "const password = req.body.password;",
            "a basic understanding of authentication",
            "the bearer representative arrived",
            f"sk-{w()}-{w()}-{w()}",
            f"hf_{w()}_{w()}_{w()}_{w()}",
            '<input type="password" name="password">',
            f"use task-{w()}-{w()}-runner",
            f"X = A @ B.{w()}()",
            f"--api-key-file /run/secrets/{w()}",
            "tokenizer.encode(text)  # token ids",
            f"primary_key={w()}",
            "Set-Cookie: (none)",
            f"model={w()}-{make.digits(8)}",
            "gpt-4o-2024-08-06, claude-3-5-sonnet-20241022, text-embedding-3-large",
            f"ft:gpt-4o-mini-2024-07-18:{w()}::{make.text(BASE62, 8)}",
            f"us.anthropic.claude-sonnet-4-20250514-v1:{make.dice.randint(0, 3)}",
            f"key: {w()} {w()}",
        )
    )


def _prose(make: Maker) -> str:
    w = make.word
    return make.dice.choice(
        (
            f"The secret of {w()} is patience, and the key to {w()} is practice.",
            f"Write a poem about {w()} and {w()} in {make.dice.randint(2, 9)} lines.",
            f"비밀번호를 잊어버렸어요. {w()} 계정인데 어떻게 하나요?",
            "How do I reset my password? The token in the mail does not work.",
            f"Meet me @ {w()} street at 10:30, bring 2 tickets.",
            f"{w().title()} was founded in 1998 and had 12,345 employees in 2024.",
            "전화번호 형식은 3자리-4자리-4자리입니다.",
            f"Explain how a JSON web token begins with eyJ and why {w()} matters.",
            f"Our hotline opens 9-18, room {make.dice.randint(100, 999)}-{make.digits(2)}.",
            f"환불은 3~5일 걸립니다. 주문은 {make.dice.randint(2, 9)}건입니다.",
            "Tell me about the -----BEGIN marker of PEM files.",
            f"Twitter: @{w()} #{w()} (RT @{w()}_{w()})",
            f"Email me at the usual address about {w()}.",
            f"The password policy: 12 characters, 1 digit, changed every 3{make.digits(1)} days.",
            f"internationalization-and-{w()}-{w()}-{w()}",
            "supercalifragilisticexpialidocious antidisestablishmentarianism",
            f"{w()}.{w()}@ is not complete, and neither is @{w()}.com",
            "Token prices fell; API usage rose by 40%.",
        )
    )


def _blobs(make: Maker) -> str:
    blob = base64.b64encode(make.dice.randbytes(make.dice.randint(60, 300))).decode()
    return make.dice.choice(
        (
            f"data:image/png;base64,iVBORw0KGgo{blob}",
            f'{{"image_url": {{"url": "data:image/jpeg;base64,/9j/{blob}"}}}}',
            f'etag W/"{make.text(HEX, 32)}"',
            f"sha512-{blob[:88]}",
            f"embedding {[round(make.dice.uniform(-1, 1), 8) for _ in range(8)]}",
            f"thought_signature bytes {blob[:40]}",
            f"{uuid.UUID(int=make.dice.getrandbits(128))}",
            f"cursor {blob[:24]}",
            f"ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAI{make.text(BASE62, 43)} {make.word()}",
            f"-----BEGIN PUBLIC KEY-----\n{blob[:64]}\n-----END PUBLIC KEY-----",
            f"public_key: {make.text(BASE62, 44)}",
            f"cache_key: {make.text(HEX, 64)}",
            f"next_page_token: {make.text(BASE62, 24)}",
            f"idempotency-key: {make.uuid()}",
        )
    )


def negatives(seed: int | str, count: int = 1000) -> Iterator[Labelled]:
    """Texts without a secret: ids, numbers, code, prose, blobs, in turn."""
    make = Maker(f"negatives {seed}")
    kinds = (
        ("ids", _ids),
        ("numbers", _numbers),
        ("code", _code),
        ("prose", _prose),
        ("blobs", _blobs),
    )
    for number in range(count):
        kind, maker = kinds[number % len(kinds)]
        text = maker(make)
        if make.dice.random() < 0.4:
            text = make.dice.choice(PROSE).replace("{}", text)
        if make.dice.random() < 0.2:
            text = make.dice.choice(JSON_FRAMES) % json.dumps(
                text, ensure_ascii=make.dice.random() < 0.5
            )
        yield Labelled(kind, text)


def corpus(seed: int | str = 9) -> list[Labelled]:
    """The 2,000 texts that recall and precision are stated for."""
    return [*positives(seed), *negatives(seed)]


if __name__ == "__main__":
    for labelled in corpus():
        print(json.dumps(labelled.__dict__, ensure_ascii=False))  # noqa: T201 - for people to read
