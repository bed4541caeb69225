"""Detectors of numbers: payment cards, IBANs, national ids, phone numbers, IP addresses.

Each is a function from a `Scan` to offsets: a pattern finds candidates near runs of digits, a check
(`checksums`, ranges, words in front) decides. Numbers that only look alike (time stamps, ids,
ISBNs, decimals, versions, hashes) fail a check or are recognised by their neighbours.
"""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Iterator
from typing import Final

from otelbridge.masking import checksums
from otelbridge.masking.names import word_set
from otelbridge.masking.scan import SEPARATORS, Offsets, Scan, in_runs

_not_digits = re.compile(r"[^0-9]")
#: Neither part of a word or decimal nor of a longer chain of groups; a segment of a path may be.
_ALONE: Final = r"(?<![0-9A-Za-z_])(?<![0-9A-Za-z][.,\-])(?<![0-9]/)"
_ALONE_AFTER: Final = r"(?![0-9A-Za-z_])(?![.,\-:][0-9A-Za-z])(?!/[0-9])"
_SPACE: Final = r"[ .+\-\u00a0\u2010-\u2013]"  # `+` is a blank in a query


def _digits(text: str) -> str:
    return _not_digits.sub("", text)


# -- payment cards ---------------------------------------------------------------------------------
_CARD: Final = re.compile(
    rf"{_ALONE}(?:[0-9]{{14,19}}|[0-9]{{4}}(?P<a>{_SPACE})[0-9]{{4}}(?P=a)[0-9]{{4}}(?P=a)[0-9]{{4}}"
    rf"(?:(?P=a)[0-9]{{3}})?|[0-9]{{4}}(?P<b>{_SPACE})[0-9]{{6}}(?P=b)[0-9]{{4,5}}){_ALONE_AFTER}"
)


def cards(scan: Scan) -> Iterator[Offsets]:
    """Payment card numbers of 14 to 19 digits, plain or in the groups that are printed on them."""
    return in_runs(_CARD, scan, _is_card)


def _is_card(scan: Scan, match: re.Match[str]) -> bool:
    if not checksums.is_card(_digits(match[0])):
        return False
    return len(match[0]) != 14 or not _is_named_id(scan.before(match.start()))


# -- IBAN ------------------------------------------------------------------------------------------
_IBAN_CHECK: Final = re.compile(r"[0-9]{2}[ +A-Za-z0-9-]")
#: The longest in groups of four, each with a blank behind it.
_IBAN_CHARACTERS: Final = 43
#: From the country to the first run of digits: check digits, a bank's letters, blanks between.
_IBAN_FRONT: Final = 12


def ibans(scan: Scan) -> Iterator[Offsets]:
    """IBANs of every country of the registry, plain or in groups of four."""
    text, done = scan.text, 0
    for run_start, run_end in scan.runs:
        for check in _IBAN_CHECK.finditer(text, max(done, run_start - _IBAN_FRONT), run_end):
            found = _iban_at(text, check.start() - 2) if check.start() - 2 >= done else None
            if found is not None:
                yield found
                done = found[1]


def _iban_at(text: str, start: int) -> Offsets | None:
    length = checksums.IBAN_LENGTHS.get(text[start : start + 2].upper())
    if length is None or (start > 0 and _is_ascii_alnum(text[start - 1])):
        return None
    end, count, limit = start, 0, min(len(text), start + _IBAN_CHARACTERS)
    while end < limit and count < length and (text[end] in " -+" or _is_ascii_alnum(text[end])):
        count += text[end] not in " -+"
        end += 1
    glued = end < len(text) and _is_ascii_alnum(text[end])
    if glued or not checksums.is_iban(re.sub("[ +-]", "", text[start:end])):
        return None
    return start, end


def _is_ascii_alnum(character: str) -> bool:
    return character.isascii() and character.isalnum()


# -- national numbers ------------------------------------------------------------------------------
_KOREAN: Final = re.compile(
    r"(?<![0-9A-Za-z_.\-])(?<![0-9]/)[0-9]{2}[01][0-9][0-3][0-9]"
    rf"(?P<s>[ \u00a0]?[-\u2010-\u2013][ \u00a0]?)?[1-8][0-9]{{6}}{_ALONE_AFTER}"
)
_KOREAN_WORDS: Final = ("주민", "외국인등록", "resident", "rrn", "registration")


def korean_numbers(scan: Scan) -> Iterator[Offsets]:
    """Korean resident and foreigner registration numbers.

    Written with a hyphen: by the birth date, and the check digit where that could be another date.
    Without: by both, and only where it is no time stamp. A telling word in front makes the date
    enough in either case.
    """
    return in_runs(_KOREAN, scan, _is_korean)


def _is_korean(scan: Scan, match: re.Match[str]) -> bool:
    digits = _digits(match[0])
    if not checksums.is_korean_birth(digits):
        return False
    before = scan.before(match.start())
    if any(word in before for word in _KOREAN_WORDS):
        return True
    if match["s"] is None:
        stamp = digits[:2] in ("15", "16", "17", "18", "19", "20")  # milliseconds since 1970
        return checksums.korean_check(digits) and not stamp
    # Since October 2020 the last six digits are drawn. A birth date before 1930 or after that may
    # as well be the date of an order, so there the check digit (or the newer series) decides.
    year = int(digits[:2]) + (1900 if digits[6] in "1256" else 2000)
    plausible = 1930 <= year <= 2019 or (year >= 2020 and digits[:4] >= "2010")
    return (plausible or checksums.korean_check(digits)) and not _is_named_id(before)


_SSN: Final = re.compile(
    rf"{_ALONE}(?!000|666|9)[0-9]{{3}}(?P<s>[ \-\u2010-\u2013]?)(?!00)[0-9]{{2}}(?P=s)(?!0000)"
    rf"[0-9]{{4}}{_ALONE_AFTER}"
)
_SSN_WORDS: Final = ("ssn", "social sec", "social-sec", "socialsec", "tax id", "사회보장")


def social_security_numbers(scan: Scan) -> Iterator[Offsets]:
    """US social security numbers: 3-2-4 with hyphens, other spellings behind a telling word."""
    return in_runs(_SSN, scan, _is_ssn)


def _is_ssn(scan: Scan, match: re.Match[str]) -> bool:
    before = scan.before(match.start(), 32)
    if any(word in before for word in _SSN_WORDS):
        return True
    return match["s"] not in ("", " ") and not _is_named_id(before)


_CHINESE: Final = re.compile(rf"{_ALONE}[1-8][0-9]{{16}}[0-9Xx]{_ALONE_AFTER}")
_CPF: Final = re.compile(rf"{_ALONE}[0-9]{{3}}\.[0-9]{{3}}\.[0-9]{{3}}-[0-9]{{2}}{_ALONE_AFTER}")
_AADHAAR: Final = re.compile(
    rf"{_ALONE}[2-9][0-9]{{3}}(?P<s>[ -])[0-9]{{4}}(?P=s)[0-9]{{4}}{_ALONE_AFTER}(?![ -][0-9])"
)
_ITALIAN: Final = re.compile(
    r"[A-Z]{6}[0-9]{2}[A-EHLMPRST][0-9]{2}[A-Z][0-9]{3}[A-Z](?![0-9A-Za-z_\-])"
)
_LETTERED: Final = re.compile(
    r"(?<![0-9A-Za-z_.\-])(?:(?P<sg>[STFG][0-9]{7}[A-Z])|(?P<es>[XYZ0-9][0-9]{7}[A-Z])"
    r"|(?P<uk>(?!BG|GB|NK|KN|TN|NT|ZZ)[A-CEGHJ-PR-TW-Z][A-CEGHJ-NPR-TW-Z](?: [0-9]{2}){3}"
    r" [A-D]))(?![0-9A-Za-z_\-])"
)


def national_ids(scan: Scan) -> Iterator[Offsets]:
    """National numbers of China, Brazil, India, Italy, Singapore, Spain by check digit; UK NINO."""
    yield from in_runs(_CHINESE, scan, lambda _, match: checksums.is_chinese_id(match[0]))
    yield from in_runs(_CPF, scan, lambda _, match: checksums.is_cpf(_digits(match[0])))
    yield from in_runs(_AADHAAR, scan, _is_aadhaar)
    yield from in_runs(_LETTERED, scan, _is_lettered, margin=3)
    for start, end in scan.long_words:
        match = _ITALIAN.match(scan.text, start) if end - start == 16 else None
        if match is not None and checksums.is_codice_fiscale(match[0]):
            yield start, end


def _is_aadhaar(scan: Scan, match: re.Match[str]) -> bool:
    return not _is_named_id(scan.before(match.start())) and checksums.is_aadhaar(_digits(match[0]))


def _is_lettered(_: Scan, match: re.Match[str]) -> bool:
    number, kind = match[0], match.lastgroup
    if kind == "sg":
        return checksums.is_nric(number)
    return kind == "uk" or checksums.is_dni(number)


# -- phone numbers ---------------------------------------------------------------------------------
#: Country codes of ITU-T E.164 (one and two digits; all of three digits begin 21 to 29, 35, …).
_ONE_TWO: Final = word_set(
    """
    1 7 20 27 30 31 32 33 34 36 39 40 41 43 44 45 46 47 48 49 51 52 53 54 55 56 57 58 60 61 62
    63 64 65 66 81 82 84 86 90 91 92 93 94 95 98
    """
)
_THREE_FIRST: Final = word_set(
    """
    21 22 23 24 25 26 29 35 37 38 42 50 59 67 68 69 80 85 87 88 96 97 99
    """
)
_PREFIX: Final = r"(?:\+|(?<![0-9A-Za-z.\-])(?<![0-9]/)00(?=(?:[17]|[2-9][0-9]{1,2})[ .\-]))"
_INTERNATIONAL: Final = re.compile(
    rf"(?<![0-9A-Za-z+]){_PREFIX}[(]?[1-9][0-9]{{0,2}}[)]?"
    rf"(?:{_SPACE}?(?:\([0-9]{{1,4}}\)|[0-9]{{1,12}})){{1,6}}(?![0-9A-Za-z_])"
    r"(?![.,\-/:][0-9])"
)
_KOREAN_MOBILE: Final = rf"01[016789]{_SPACE}?[0-9]{{3,4}}{_SPACE}?[0-9]{{4}}"
_KOREAN_AREA: Final = r"0(?:2|3[1-3]|4[1-4]|5[1-5]|6[1-4]|70|50[0-9]?|80)"
_KOREAN_LAND: Final = (
    rf"(?:{_KOREAN_AREA}{_SPACE}|\({_KOREAN_AREA}\){_SPACE}?)[0-9]{{3,4}}{_SPACE}[0-9]{{4}}"
)
_AMERICAN: Final = (
    rf"(?:1{_SPACE})?(?:\([2-9][0-9]{{2}}\){_SPACE}?|[2-9][0-9]{{2}}(?P<u>{_SPACE}))[2-9][0-9]{{2}}"
    rf"(?(u)(?P=u)|{_SPACE})[0-9]{{4}}"
)
#: Trunk zero and groups: British, German, Japanese, Italian, … with 9 to 11 digits.
_TRUNK: Final = (
    r"(?:0[1-9][0-9]{0,4}|\(0[1-9][0-9]{0,4}\))[ +\-/\u00a0]{1,2}[0-9]{2,8}"
    r"(?:[ +\-\u00a0][0-9]{2,6}){0,3}"
)
_FRENCH: Final = r"0[1-9](?P<f>[ .+])[0-9]{2}(?P=f)[0-9]{2}(?P=f)[0-9]{2}(?P=f)[0-9]{2}"
_CHINESE_MOBILE: Final = r"1[3-9][0-9](?P<c>[ -])[0-9]{4}(?P=c)[0-9]{4}"
_NATIONAL: Final = re.compile(
    rf"(?<![0-9A-Za-z_.+])(?<![0-9A-Za-z)]-)(?<![0-9)]/)(?:(?P<kr>{_KOREAN_MOBILE}|{_KOREAN_LAND})"
    rf"|(?P<us>{_AMERICAN})|(?P<fr>{_FRENCH})|(?P<trunk>{_TRUNK})|(?P<cn>{_CHINESE_MOBILE}))"
    rf"{_ALONE_AFTER}"
)
_ANY_NUMBER: Final = re.compile(
    rf"(?<![0-9A-Za-z_.])\+?[0-9](?:[{SEPARATORS}]{{0,2}}[0-9]){{6,14}}(?![0-9A-Za-z_])"
)
_PHONE_WORD: Final = re.compile(
    r"(?<![a-z])(?:phone|tel|telephone|mobile|mob|cell|fax|call|sms|text me at|whatsapp"
    r"|contact|dial|전화|전화번호|휴대폰|핸드폰|휴대전화|연락처|폰번호|팩스|電話|手机|telefon|móvil|téléphone)"
    r"(?:[ _]?(?:number|no|num|nr))?(?:[ \"'.:=#(]|is|at|me|us|on|번호|는|은|에|로){0,4}\(?\+?$"
)


def phones(scan: Scan) -> Iterator[Offsets]:
    """Phone numbers: international with + or 00, Korean, North American, with a trunk zero."""
    yield from in_runs(_INTERNATIONAL, scan, _is_international, margin=5)
    yield from in_runs(_NATIONAL, scan, _is_national, margin=1)
    yield from in_runs(_ANY_NUMBER, scan, _is_called_phone, margin=1)


_DECIMAL: Final = re.compile(r"\.[0-9](?![0-9])|^\+[0-9]*\.[0-9]*$")


def _is_international(scan: Scan, match: re.Match[str]) -> int | bool:
    number = match[0]
    digits = _digits(number).removeprefix("00")
    if number[0] == "0" and _is_named_id(scan.before(match.start())):
        return False
    if _DECIMAL.search(number) is not None:
        return False
    if digits[0] in "17":
        most = 11
    elif digits[:2] in _ONE_TWO or digits[:2] in _THREE_FIRST:
        most = 13
    else:
        return False
    if match.start() > 0 and scan.text[match.start() - 1] in "eE":  # 1e+10
        return False
    while len(_digits(number).removeprefix("00")) > most:  # the next number begins after a blank
        number = number[: max(number.rfind(" "), number.rfind("+"))].rstrip()
    digits = _digits(number).removeprefix("00")
    if len(digits) < 8 or len(set(digits)) <= 2:
        return False
    return match.start() + len(number)


def _is_national(scan: Scan, match: re.Match[str]) -> bool:
    number, digits = match[0], _digits(match[0])
    if len(set(digits)) <= 2 or _is_named_id(scan.before(match.start())):
        return False
    if "-" not in number and "(" not in number and _in_a_row(scan.text, *match.span()):
        return False
    return not match["trunk"] or (9 <= len(digits) <= 12 and not _is_date_like(number))


def _in_a_row(text: str, start: int, end: int) -> bool:
    """Whether further digits stand behind a blank on either side: a row of figures."""
    before, after = text[max(0, start - 2) : start], text[end : end + 2]
    return (before[-1:] == " " and before[0].isdigit()) or (
        after[:1] == " " and after[1:].isdigit()
    )


def _is_called_phone(scan: Scan, match: re.Match[str]) -> bool:
    before = scan.before(match.start())
    return _PHONE_WORD.search(before) is not None and 7 <= len(_digits(match[0])) <= 15


def _is_date_like(text: str) -> bool:
    return re.fullmatch(r"[0-9]{1,2}[-/ ][0-9]{1,2}[-/ ](?:19|20)[0-9]{2}.*", text) is not None


_NAMED_ID: Final = re.compile(
    r"(?<![a-z])(?:order|invoice|item|ticket|tracking|serial|sku|ref|reference|isbn|issn|ean|upc|part|model|batch"
    r"|version|build|case|account|policy|booking|shipment|patent|doi|lot|request|job|run|id|uuid|hash"
    r"|주문|송장|운송장|계좌|접수|예약|사업자)"
    r"(?:[ _-]?(?:number|no|num|nr|id|번호|등록번호))?[\"' .:=#(]{0,4}$"
)


def _is_named_id(before: str) -> bool:
    """Whether the words in front say that a number is that of an order, a ticket, a part."""
    return _NAMED_ID.search(before) is not None


# -- IP addresses ----------------------------------------------------------------------------------
_IPV4: Final = re.compile(
    r"(?<![0-9A-Za-z_.\-])[0-9]{1,3}\.[0-9]{1,3}\.[0-9]{1,3}\.[0-9]{1,3}(?![0-9A-Za-z_])(?!\.[0-9])"
)
_IPV6: Final = re.compile(
    r"(?<![0-9A-Za-z:.])(?:[0-9A-Fa-f]{0,4}:){2,7}(?:[0-9]{1,3}(?:\.[0-9]{1,3}){3}|[0-9A-Fa-f]{0,4})(?![0-9A-Za-z:])"
)


def ip_addresses(scan: Scan) -> Iterator[Offsets]:
    """IPv4 and IPv6 addresses, loopback and unspecified ones left out."""
    text = scan.text
    if text.count(".") >= 3:
        for match in _IPV4.finditer(text):
            if _is_address(match[0]) and "version" not in scan.before(match.start(), 10):
                yield match.span()
    if text.count(":") >= 2:
        for match in _IPV6.finditer(text):
            whole = "::" in match[0] or match[0].count(":") == 7
            if whole and _is_address(match[0]):
                yield match.span()


def _is_address(text: str) -> bool:
    try:
        address = ipaddress.ip_address(text)
    except ValueError:
        return False
    return not (address.is_loopback or address.is_unspecified)
