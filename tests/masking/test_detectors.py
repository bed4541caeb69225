"""Single texts that were hard to decide, with what they become; and the check digits."""

from __future__ import annotations

import pytest

from otelbridge.masking import checksums
from otelbridge.masking.names import Telling, telling
from otelbridge.masking.rules import load
from otelbridge.masking.text import TextMasker

#: Text, and what must be left of it.
FOUND = (
    ("john.doe+news@sub.example.co.uk;jane@x.org", "[masked:email];[masked:email]"),
    ("메일은hong@naver.com으로", "메일은[masked:email]으로"),
    ("이메일:minsu@한국.kr", "이메일:[masked:email]"),
    ("?to=john%40example.com", "?to=[masked:email]"),
    ("내 주민등록번호는 9001011234568이야", "내 주민등록번호는 [masked:kr-rrn]이야"),
    ("resident registration number 8501011234567", "resident registration number [masked:kr-rrn]"),
    ("850101-1234567", "[masked:kr-rrn]"),
    ("카드 4111-1111-1111-1111 유효기간 12/27", "카드 [masked:card] 유효기간 12/27"),
    ("1234 4111 1111 1111 1111", "1234 [masked:card]"),
    ("전화는 010-1234-5678입니다", "전화는 [masked:phone]입니다"),
    ("(02)123-4567", "[masked:phone]"),
    ("김철수(010-9876-5432)", "김철수([masked:phone])"),
    ("+44 (0)20 7946 0958", "[masked:phone]"),
    (
        "+82 10-1234-5678 (555) 234-5678 +14155552671",
        "[masked:phone] [masked:phone] [masked:phone]",
    ),
    ("call 415 555 2671 now", "call [masked:phone] now"),
    ("social security number is 123 45 6789", "social security number is [masked:us-ssn]"),
    ("IBAN: de89370400440532013000", "IBAN: [masked:iban]"),
    ("GB82-WEST-1234-5698-7654-32", "[masked:iban]"),
    ("RSSMRA85T10A562S", "[masked:national-id]"),
    ("11010519491231002X", "[masked:national-id]"),
    ("2345 6789 0124", "[masked:national-id]"),
    ("S1234567D", "[masked:national-id]"),
    ("X1234567L", "[masked:national-id]"),
    ("AB 12 34 56 C", "[masked:national-id]"),
    ("password is hunter2", "password is [masked:secret]"),
    ("pw: Tr0ub4dor&3", "pw: [masked:secret]"),
    ("암호는 test1234 입니다", "암호는 [masked:secret] 입니다"),
    ("PASSWORD = 'correcthorse'", "PASSWORD = '[masked:secret]'"),
    ("<password>hunter22</password>", "<password>[masked:secret]</password>"),
    ("--password hunter22 -v", "--password [masked:secret] -v"),
    ("curl -u admin:s3cretpw https://x", "curl -u admin:[masked:credential] https://x"),
    ("Cookie: sid=s%3AAbCdEf123456; a=b\nHost: x", "Cookie: [masked:secret]\nHost: x"),
    ("Authorization: Basic dXNlcjpwYXNz", "Authorization: Basic [masked:credential]"),
    ("postgres://u:p@ss/w@db:5432/x", "postgres://u:[masked:password]@db:5432/x"),
    ("redis://:abc@h:6379/0", "redis://:[masked:password]@h:6379/0"),
    ("/callback?next=/x?token=abcdef12&a=1", "/callback?next=/x?token=[masked]&a=1"),
    (
        "see https://u:pw1@h/p and https://h/@you",
        "see https://u:[masked:password]@h/p and https://h/@you",
    ),
    ("a\\n4111111111111111\\nb", "a\\n[masked:card]\\nb"),
    ("-----BEGIN PRIVATE KEY-----\nMIIEvQIBADANBgkqhkiG9w0\nabc", "[masked:private-key]"),
)
#: Texts that stay.
CLEAN = (
    *(
        "serial 850101-1234567",
        "order 241105-0000123",
        "line 1234 5678 9012 3456",
        "call 911 or 119",
    ),
    *("the key is under the mat", "secret: ask Bob", "password: see vault", "password=password"),
    *("token=token, key=key", "sig = inspect.signature(fn)", "apiKey: process.env.API_KEY,"),
    *("secretName: my-secret-name", "token_type: bearer", "kubectl get secret db-creds -o yaml"),
    *("user@host:~$ ls", "react@18.2.0.js", "git@gitlab.com:a/b.git", "X = A @ B.transpose(0)"),
    *("3.14159265358979", "192.168.1.1", "00:1A:2B:3C:4D:5E", "1,234,567,890", "-1 234 567"),
    *("Chrome/120.0.6099.109 Safari/537.36", "1.2.840.113549.1.1.11", "$4,111,111.11"),
    *("ISBN 9780306406157", "sha1 da39a3ee5e6b4b0d3255bfef95601890afd80709", "key: 'value'"),
    *("uuid=6ba7b810-9dad-11d1-80b4-00c04fd430c8", "Basic authentication required"),
    *("bearer token authentication", "sk-estimator-checks-common", "hf_hub_download_snapshot_v2"),
    *("npm_package_version_1234", "req_011CSHoEeqs5C35K2UUqR7Fy", "toolu_01A09q90qw90lq917835lq9"),
    *("9007199254740991", "18446744073709551615", "1763754223.123456", "20261121T194343Z"),
    *("password: str", "def f(password: str = None) -> None: ...", "1763754223123456789"),
    *("00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01", "otelbridge=242b77f0-e49e-p"),
    *("gen_ai.usage.input_tokens=1234", "claude-opus-4-1-20250805", "[masked:card]", "+100%"),
    *("http://localhost:8080/a@b", "icon@2x.png", "0.4242424242424242", "v10.15.7.2024"),
)


@pytest.fixture(scope="module")
def masker() -> TextMasker:
    return load().text_masker()


@pytest.mark.parametrize(("text", "left"), FOUND)
def test_is_found(masker: TextMasker, text: str, left: str):
    """The secret goes, all of it and nothing else."""
    assert masker.mask(text) == left


@pytest.mark.parametrize("text", CLEAN)
def test_is_left_alone(masker: TextMasker, text: str):
    """Ids, numbers, code and prose come back as the same object."""
    assert masker.mask(text) is text


def test_addresses_of_machines_are_found_when_asked_for():
    """The detector `ip` is off unless switched on; loopback and versions never count."""
    text = "from 203.0.113.7 and 2001:db8::1 to 127.0.0.1 and ::1, version 1.2.3.4, at 10:20:30"
    assert load().text_masker().mask(text) == text
    assert load("+ip").text_masker().mask(text) == (
        "from [masked:ip] and [masked:ip] to 127.0.0.1 and ::1, version 1.2.3.4, at 10:20:30"
    )


@pytest.mark.parametrize(
    ("check", "right"),
    [
        (checksums.is_card, "4242424242424242"),
        (checksums.is_card, "378282246310005"),
        (checksums.is_iban, "GB29NWBK60161331926819"),
        (checksums.is_iban, "MT84MALT011000012345MTLCAST001S"),
        (checksums.korean_check, "9001011234568"),
        (checksums.is_cpf, "52998224725"),
        (checksums.is_dni, "12345678Z"),
        (checksums.is_nric, "S1234567D"),
        (checksums.is_codice_fiscale, "RSSMRA85T10A562S"),
        (checksums.is_chinese_id, "11010519491231002X"),
        (checksums.is_aadhaar, "234567890124"),
    ],
)
def test_a_check_digit_takes_published_examples_and_no_neighbour(check, right: str):
    """Numbers from the issuers' own pages pass; with one digit changed they do not."""
    assert check(right)
    place = len(right) - 3 if right[-3].isdigit() else len(right) - 2
    wrong = [right[:place] + d + right[place + 1 :] for d in "0123456789" if d != right[place]]
    assert not any(check(number) for number in wrong)


@pytest.mark.parametrize(
    ("name", "kind"),
    [
        *(
            (n, Telling.PASSWORD)
            for n in ("password", "DB_PASSWORD", "userPassword", "비밀번호", "pwd_1")
        ),
        *(
            (n, Telling.SECRET)
            for n in ("api_key", "x-api-key", "clientSecret", "app.access_token")
        ),
        *((n, Telling.WEAK) for n in ("token", "key", "csrf_token", "signature")),
        *(
            (n, Telling.NO)
            for n in ("max_tokens", "cache_key", "next_page_token", "public_key", "")
        ),
        *(
            (n, Telling.NO)
            for n in ("password_hint", "api_key_id", "secret_name", "tokenizer", "monkey")
        ),
    ],
)
def test_names_tell_by_their_last_words(name: str, kind: Telling):
    """`client_secret` tells, `secret_name` and `cache_key` do not."""
    assert telling(name) is kind
