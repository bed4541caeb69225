"""Makes secrets and personal data that are valid by their own rules, from a seeded generator.

The check digits here are computed by other means than in `otelbridge.masking.checksums` (tried out,
or by the definition), so that a mistake there is not repeated. None belongs to anybody on purpose.
"""

from __future__ import annotations

import base64
import json
import random
import string
from collections.abc import Callable

BASE62 = string.ascii_letters + string.digits
BASE64URL = BASE62 + "-_"
HEX = "0123456789abcdef"
UPPER = string.ascii_uppercase + string.digits
WORDS = [
    "amber",
    "basil",
    "cedar",
    "delta",
    "ember",
    "fjord",
    "grove",
    "heron",
    "iris",
    "jade",
    "karst",
    "lotus",
    "maple",
    "nectar",
    "onyx",
    "pearl",
    "quartz",
    "raven",
    "sable",
    "tulip",
    "umber",
    "violet",
    "willow",
    "yarrow",
    "zephyr",
]
NAMES = [
    "kim.minsu",
    "jane.doe",
    "j_smith",
    "a.mueller",
    "park-jy",
    "maria.garcia",
    "x.li",
    "o.sullivan",
    "dev+test",
    "t99",
    "hong.gildong",
]
DOMAINS = [
    "example.com",
    "naver.com",
    "gmail.com",
    "corp.example.co.kr",
    "uni-berlin.de",
    "mail.example.org",
    "hanmail.net",
    "x.io",
]


class Maker:
    """One source of made-up values; the same seed gives the same values."""

    def __init__(self, seed: int | str) -> None:
        self.dice = random.Random(seed)

    def text(self, alphabet: str, length: int) -> str:
        return "".join(self.dice.choices(alphabet, k=length))

    def digits(self, length: int) -> str:
        return self.text(string.digits, length)

    def pick(self, *options: str) -> str:
        return self.dice.choice(options)

    def word(self) -> str:
        return self.dice.choice(WORDS)

    # -- personal data ---------------------------------------------------------------------------
    def email(self) -> str:
        return (
            f"{self.dice.choice(NAMES)}{self.pick('', self.digits(2))}@{self.dice.choice(DOMAINS)}"
        )

    def card(self) -> str:
        start, length, groups = self.dice.choice(
            (
                ("4", 16, (4, 4, 4, 4)),
                ("4", 16, (4, 4, 4, 4)),
                ("51", 16, (4, 4, 4, 4)),
                ("55", 16, (4, 4, 4, 4)),
                ("2221", 16, (4, 4, 4, 4)),
                ("37", 15, (4, 6, 5)),
                ("34", 15, (4, 6, 5)),
                ("6011", 16, (4, 4, 4, 4)),
                ("3530", 16, (4, 4, 4, 4)),
                ("62", 16, (4, 4, 4, 4)),
                ("36", 14, (4, 6, 4)),
            )
        )
        body = start + self.digits(length - len(start) - 1)
        number = next(body + d for d in string.digits if _luhn_sum(body + d) % 10 == 0)
        return self.grouped(number, groups, self.pick("", " ", "-"))

    def grouped(self, text: str, groups: tuple[int, ...], separator: str) -> str:
        parts, at = [], 0
        for size in groups:
            parts.append(text[at : at + size])
            at += size
        return separator.join(part for part in (*parts, text[at:]) if part)

    def iban(self) -> str:
        country, bank, length = self.dice.choice(
            (
                ("DE", "", 18),
                ("FR", "", 23),
                ("NL", "ABNA", 14),
                ("GB", "NWBK", 18),
                ("ES", "", 20),
                ("CH", "", 17),
                ("AT", "", 16),
                ("IT", "X", 23),
                ("PL", "", 24),
                ("SE", "", 20),
                ("BE", "", 12),
                ("IE", "AIBK", 18),
            )
        )
        body = bank + self.digits(length - len(bank))
        number = "".join(str(int(c, 36)) for c in body + country + "00")
        plain = f"{country}{98 - int(number) % 97:02d}{body}"
        return self.pick(plain, self.grouped(plain, (4,) * 8, " "))

    def korean_number(self) -> str:
        year, month, day = (
            self.dice.randint(1940, 2018),
            self.dice.randint(1, 12),
            self.dice.randint(1, 28),
        )
        series = self.dice.choice("12" if year < 2000 else "34")
        body = f"{year % 100:02d}{month:02d}{day:02d}{series}{self.digits(5)}"
        total = sum(
            int(d) * w for d, w in zip(body, [2, 3, 4, 5, 6, 7, 8, 9, 2, 3, 4, 5], strict=True)
        )
        return f"{body[:6]}-{body[6:]}{(11 - total % 11) % 10}"

    def ssn(self) -> str:
        area = self.dice.choice([n for n in range(1, 900) if n != 666])
        return f"{area:03d}-{self.dice.randint(1, 99):02d}-{self.dice.randint(1, 9999):04d}"

    def phone(self) -> str:
        d, n = self.digits, self.dice.randint
        us = f"{n(201, 989)}", f"{n(201, 989)}", d(4)
        return self.dice.choice(
            (
                f"010-{n(2000, 9999)}-{d(4)}",
                f"010{n(2000, 9999)}{d(4)}",
                f"010 {n(2000, 9999)} {d(4)}",
                f"+82 10-{n(2000, 9999)}-{d(4)}",
                f"+82-10-{n(2000, 9999)}-{d(4)}",
                f"+8210{n(2000, 9999)}{d(4)}",
                f"02-{n(200, 999)}-{d(4)}",
                f"031-{n(200, 999)}-{d(4)}",
                f"070-{n(2000, 9999)}-{d(4)}",
                f"({us[0]}) {us[1]}-{us[2]}",
                f"{us[0]}-{us[1]}-{us[2]}",
                f"+1 {us[0]} {us[1]} {us[2]}",
                f"+1-{us[0]}-{us[1]}-{us[2]}",
                f"+1{us[0]}{us[1]}{us[2]}",
                f"{us[0]}.{us[1]}.{us[2]}",
                f"+44 20 7{d(3)} {d(4)}",
                f"+44 7{d(3)} {d(6)}",
                f"020 7{d(3)} {d(4)}",
                f"+49 30 {n(100000, 999999)}",
                f"+49 151 {d(8)}",
                f"0151 {d(8)}",
                f"+33 6 {d(2)} {d(2)} {d(2)} {d(2)}",
                f"06 {d(2)} {d(2)} {d(2)} {d(2)}",
                f"+81 90-{d(4)}-{d(4)}",
                f"03-{n(1000, 9999)}-{d(4)}",
                f"+86 138 {d(4)} {d(4)}",
                f"+65 9{d(3)} {d(4)}",
                f"+971 50 {d(3)} {d(4)}",
                f"+91 98{d(3)} {d(5)}",
                f"0082-10-{d(4)}-{d(4)}",
            )
        )

    def national_id(self) -> str:
        """Brazil or Spain: the rest has tests of its own."""
        if self.dice.random() < 0.5:
            number = self.dice.randint(10_000_000, 99_999_999)
            return f"{number}{'TRWAGMYFPDXBNJZSQVHLCKE'[number % 23]}"
        nine = self.digits(9)
        for length in (9, 10):
            total = sum(int(nine[i]) * (length + 1 - i) for i in range(length))
            nine += str((total * 10 % 11) % 10)
        return f"{nine[:3]}.{nine[3:6]}.{nine[6:9]}-{nine[9:]}"

    # -- keys ------------------------------------------------------------------------------------
    def api_key(self) -> str:
        t = self.text
        makers: tuple[Callable[[], str], ...] = (
            lambda: f"sk-proj-{t(BASE64URL, 48)}",
            lambda: f"sk-{t(BASE62, 20)}T3BlbkFJ{t(BASE62, 20)}",
            lambda: f"sk-ant-api03-{t(BASE64URL, 93)}AA",
            lambda: f"AIza{t(BASE64URL, 35)}",
            lambda: f"AKIA{t(string.ascii_uppercase + '234567', 16)}",
            lambda: f"ghp_{t(BASE62, 36)}",
            lambda: f"github_pat_{t(BASE62, 22)}_{t(BASE62, 59)}",
            lambda: f"gho_{t(BASE62, 36)}",
            lambda: f"glpat-{t(BASE64URL, 20)}",
            lambda: f"xoxb-{self.digits(12)}-{self.digits(12)}-{t(BASE62, 24)}",
            lambda: f"sk_live_{t(BASE62, 24)}",
            lambda: f"rk_live_{t(BASE62, 24)}",
            lambda: f"whsec_{t(BASE62, 32)}",
            lambda: f"hf_{t(string.ascii_letters, 34)}",
            lambda: f"sk-lf-{self.uuid()}",
            lambda: f"npm_{t(BASE62, 36)}",
            lambda: f"pypi-AgEIcHlwaS5vcmc{t(BASE64URL, 80)}",
            lambda: f"SK{t(HEX, 32)}",
            lambda: f"SG.{t(BASE64URL, 22)}.{t(BASE64URL, 43)}",
            lambda: f"{self.dice.randint(10**9, 10**10 - 1)}:AA{t(BASE64URL, 33)}",
            lambda: f"gsk_{t(BASE62, 52)}",
            lambda: f"xai-{t(BASE62, 80)}",
            lambda: f"pplx-{t(BASE62, 48)}",
            lambda: f"r8_{t(BASE62, 37)}",
            lambda: f"dop_v1_{t(HEX, 64)}",
            lambda: f"dapi{t(HEX, 32)}",
            lambda: f"shpat_{t(HEX, 32)}",
            lambda: f"lin_api_{t(BASE62, 40)}",
            lambda: f"hvs.{t(BASE64URL, 90)}",
            lambda: f"glsa_{t(BASE62, 32)}_{t(HEX, 8)}",
            lambda: f"key-{t(HEX, 32)}",
            lambda: f"{t(BASE62, 3)}8Q~{t(BASE62 + '_.-~', 33)}9",
            lambda: f"GOCSPX-{t(BASE64URL, 28)}",
            lambda: (
                f"https://hooks.slack.com/services/T{t(UPPER, 8)}/B{t(UPPER, 10)}/{t(BASE62, 24)}"
            ),
            lambda: f"nvapi-{t(BASE64URL, 64)}",
            lambda: f"sk-or-v1-{t(HEX, 64)}",
            lambda: f"lsv2_pt_{t(HEX, 32)}_{t(HEX, 10)}",
        )
        return self.dice.choice(makers)()

    def uuid(self) -> str:
        h = self.text(HEX, 32)
        return f"{h[:8]}-{h[8:12]}-4{h[13:16]}-a{h[17:20]}-{h[20:]}"

    def jwt(self) -> str:
        def part(value: dict[str, str]) -> str:
            return base64.urlsafe_b64encode(json.dumps(value).encode()).decode().rstrip("=")

        head, claims = {"alg": self.pick("HS256", "RS256"), "typ": "JWT"}, {"sub": self.digits(10)}
        return f"{part(head)}.{part(claims)}.{self.text(BASE64URL, 43)}"

    def pem(self) -> str:
        kind = self.pick("RSA ", "EC ", "", "OPENSSH ", "ENCRYPTED ")
        lines = "\n".join(self.text(BASE62 + "+/", 64) for _ in range(4))
        body = f"{lines}\n{self.text(BASE62, 22)}=="
        return f"-----BEGIN {kind}PRIVATE KEY-----\n{body}\n-----END {kind}PRIVATE KEY-----"

    def password(self) -> str:
        """As people and password managers make them."""
        return self.dice.choice(
            (
                f"{self.word().title()}{self.digits(2)}!",
                f"{self.word()}{self.digits(4)}",
                self.text(BASE62, 12) + "7",
                f"{self.word().title()}-{self.word()}-{self.digits(2)}",
                f"{self.text(BASE62, 8)}#{self.digits(2)}",
                f"P@ss{self.word()}{self.digits(1)}",
                f"{self.text(BASE62 + '!%^*+?~', 15)}4",
            )
        )

    def drawn(self) -> str:
        """A secret without a form of its own."""
        return self.dice.choice(
            (
                self.text(BASE62, 32),
                self.text(HEX, 32),
                self.text(BASE64URL, 43),
                self.text(HEX, 64),
                base64.b64encode(self.dice.randbytes(30)).decode(),
            )
        )


def _luhn_sum(number: str) -> int:
    total = 0
    for place, digit in enumerate(number[::-1]):
        doubled = int(digit) * 2 if place % 2 else int(digit)
        total += doubled // 10 + doubled % 10
    return total
