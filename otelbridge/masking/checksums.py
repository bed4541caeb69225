"""Check digits of payment cards, bank accounts and national numbers, and how random a text looks.

Pure functions over text, called by `numbers` and `secrets` on candidates that a pattern has found;
nothing here searches. Sources: ISO/IEC 7812 (Luhn), ISO 13616 with the IBAN registry of SWIFT
(release 99), the national rules named at each function.
"""

from __future__ import annotations

from datetime import date
from typing import Final

#: Country to the length of its IBAN (SWIFT registry, release 99).
IBAN_LENGTHS: Final[dict[str, int]] = {
    **dict.fromkeys(("NO",), 15), **dict.fromkeys(("BE",), 16),
    **dict.fromkeys(("DK", "FO", "FI", "GL", "NL", "FK", "SD"), 18),
    **dict.fromkeys(("MK", "SI"), 19),
    **dict.fromkeys(("AT", "BA", "EE", "KZ", "XK", "LT", "LU", "MN"), 20),
    **dict.fromkeys(("HR", "LV", "LI", "CH"), 21),
    **dict.fromkeys(("BH", "BG", "CR", "GE", "DE", "IE", "ME", "RS", "GB", "VA"), 22),
    **dict.fromkeys(("TL", "GI", "IQ", "IL", "AE", "OM", "SO"), 23),
    **dict.fromkeys(("AD", "CZ", "MD", "PK", "RO", "SA", "SK", "ES", "SE", "TN", "VG"), 24),
    **dict.fromkeys(("PT", "ST", "LY"), 25), **dict.fromkeys(("IS", "TR"), 26),
    **dict.fromkeys(("FR", "GR", "IT", "MC", "MR", "SM", "BI", "DJ"), 27),
    **dict.fromkeys(("AL", "AZ", "BY", "CY", "DO", "SV", "GT", "HU", "LB", "NI"), 28),
    **dict.fromkeys(("PL",), 28),
    **dict.fromkeys(("BR", "EG", "PS", "QA", "UA"), 29),
    **dict.fromkeys(("JO", "KW", "MU", "YE"), 30),
    **dict.fromkeys(("MT", "SC"), 31), **dict.fromkeys(("LC",), 32), **dict.fromkeys(("RU",), 33),
}  # fmt: skip
_LUHN_DOUBLED: Final = (0, 2, 4, 6, 8, 1, 3, 5, 7, 9)


def luhn(digits: str) -> bool:
    """Whether the last digit is the Luhn check digit of the others."""
    total = 0
    for position, digit in enumerate(reversed(digits)):
        value = int(digit)
        total += _LUHN_DOUBLED[value] if position % 2 else value
    return total % 10 == 0


def is_card(digits: str) -> bool:
    """Whether digits are a payment card's: a network's first digits, its length, Luhn."""
    return _is_card_prefix(digits) and len(set(digits)) > 1 and luhn(digits)


def _is_card_prefix(digits: str) -> bool:
    """First digits and length as the networks issue them (ISO/IEC 7812 ranges)."""
    length, two, four = len(digits), int(digits[:2]), int(digits[:4])
    if length == 15:
        return two in (34, 37)  # American Express; an IMEI begins otherwise
    if length == 14:
        return two in (36, 38, 39) or 3000 <= four <= 3059  # Diners
    if length == 16:
        return (
            digits[0] == "4"
            or 51 <= two <= 55
            or 2221 <= four <= 2720  # Mastercard
            or 2200 <= four <= 2204  # Mir
            or 3528 <= four <= 3589  # JCB
            or two in (36, 38, 39, 60, 62, 64, 65, 81, 82)  # Diners, Discover, UnionPay, RuPay
            or four in (5018, 5020, 5038, 5893, 6304, 6759, 6761, 6762, 6763, 9792)
        )
    return 17 <= length <= 19 and (two in (62, 67) or (length == 19 and digits[0] == "4"))


def is_iban(text: str) -> bool:
    """Whether text without spaces is an IBAN: known country, its length, remainder 1 by 97."""
    text = text.upper()
    if IBAN_LENGTHS.get(text[:2]) != len(text):
        return False
    return int("".join(str(int(c, 36)) for c in text[4:] + text[:4])) % 97 == 1


def is_korean_birth(digits: str) -> bool:
    """Whether 13 digits can be a Korean resident number by birth date and century digit."""
    century = {1: 1900, 2: 1900, 5: 1900, 6: 1900, 3: 2000, 4: 2000, 7: 2000, 8: 2000}.get(
        int(digits[6])
    )
    return century is not None and _is_date(century + int(digits[:2]), digits[2:4], digits[4:6])


def korean_check(digits: str) -> bool:
    """The check digit of a Korean resident or foreigner number, as issued until October 2020."""
    weighted = sum(
        int(d) * w for d, w in zip(digits, (2, 3, 4, 5, 6, 7, 8, 9, 2, 3, 4, 5), strict=False)
    )
    check = (11 - weighted % 11) % 10
    return int(digits[12]) in (check, (check + 2) % 10 if digits[6] in "5678" else check)


def is_chinese_id(text: str) -> bool:
    """A Chinese resident id: 17 digits with a birth date, check character of GB 11643."""
    if not _is_date(int(text[6:10]), text[10:12], text[12:14]):
        return False
    weights = (7, 9, 10, 5, 8, 4, 2, 1, 6, 3, 7, 9, 10, 5, 8, 4, 2)
    total = sum(int(d) * w for d, w in zip(text, weights, strict=False))
    return "10X98765432"[total % 11] == text[17].upper()


def is_cpf(digits: str) -> bool:
    """A Brazilian CPF: two check digits, not one digit eleven times."""
    if len(set(digits)) == 1:
        return False
    for length in (9, 10):
        total = sum(int(digits[i]) * (length + 1 - i) for i in range(length))
        if total * 10 % 11 % 10 != int(digits[length]):
            return False
    return True


def is_dni(text: str) -> bool:
    """A Spanish DNI or NIE: the letter is the number modulo 23."""
    number = text[:-1].translate(str.maketrans("XYZ", "012"))
    return "TRWAGMYFPDXBNJZSQVHLCKE"[int(number) % 23] == text[-1]


def is_nric(text: str) -> bool:
    """A Singapore NRIC or FIN (series S, T, F, G)."""
    total = sum(int(d) * w for d, w in zip(text[1:8], (2, 7, 6, 5, 4, 3, 2), strict=True))
    total += 4 if text[0] in "TG" else 0
    return ("JZIHGFEDCBA" if text[0] in "ST" else "XWUTRQPNMLK")[total % 11] == text[8]


def is_codice_fiscale(text: str) -> bool:
    """An Italian fiscal code: check letter over 15 characters."""
    odd = dict(zip("0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZ", (
        1, 0, 5, 7, 9, 13, 15, 17, 19, 21, 1, 0, 5, 7, 9, 13, 15, 17, 19, 21, 2, 4, 18, 20, 11, 3,
        6, 8, 12, 14, 16, 10, 22, 25, 24, 23), strict=True))  # fmt: skip
    total = 0
    for position, c in enumerate(text[:15]):
        total += odd[c] if position % 2 == 0 else int(c) if c.isdigit() else ord(c) - ord("A")
    return chr(ord("A") + total % 26) == text[15]


def is_aadhaar(digits: str) -> bool:
    """An Indian Aadhaar number: twelve digits, Verhoeff, first digit 2 to 9."""
    if digits[0] in "01":
        return False
    check = 0
    for position, digit in enumerate(reversed(digits)):
        check = _VERHOEFF_D[check][_verhoeff_p(position % 8, int(digit))]
    return check == 0


_VERHOEFF_D: Final = (
    (0, 1, 2, 3, 4, 5, 6, 7, 8, 9), (1, 2, 3, 4, 0, 6, 7, 8, 9, 5), (2, 3, 4, 0, 1, 7, 8, 9, 5, 6),
    (3, 4, 0, 1, 2, 8, 9, 5, 6, 7), (4, 0, 1, 2, 3, 9, 5, 6, 7, 8), (5, 9, 8, 7, 6, 0, 4, 3, 2, 1),
    (6, 5, 9, 8, 7, 1, 0, 4, 3, 2), (7, 6, 5, 9, 8, 2, 1, 0, 4, 3), (8, 7, 6, 5, 9, 3, 2, 1, 0, 4),
    (9, 8, 7, 6, 5, 4, 3, 2, 1, 0),
)  # fmt: skip
_VERHOEFF_STEP: Final = (1, 5, 7, 6, 2, 8, 3, 0, 9, 4)


def _verhoeff_p(times: int, digit: int) -> int:
    for _ in range(times):
        digit = _VERHOEFF_STEP[digit]
    return digit


def _is_date(year: int, month: str, day: str) -> bool:
    try:
        date(year, int(month), int(day))
    except ValueError:
        return False
    return 1850 <= year <= 2099


def turns(text: str) -> int:
    """How often a text changes between lower case, upper case and digits: random text does often.

    `hello-world` 0, `version2` 1, `MyClass` 2; 24 random characters of base64 about 15.
    """
    count, last = 0, ""
    for c in text:
        kind = "0" if c.isdigit() else "a" if c.islower() else "A" if c.isupper() else ""
        if kind:
            count += bool(last) and kind != last
            last = kind
    return count


def looks_random(text: str) -> bool:
    """Whether a text is more like a drawn secret than like a name, by `turns` and its variety."""
    text = text[:64]
    return turns(text) >= max(4, len(text) // 8) and len(set(text)) >= min(10, len(text) // 2)
