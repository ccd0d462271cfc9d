"""Checksums that tell a number of a bank, a card or a person from any other number. Pure.

Each function takes the bare characters, without spaces or hyphens, and says whether they are valid.
"""

import functools
import re

# Length by country: SWIFT, IBAN registry (ISO 13616), release 99.
_IBAN_LENGTHS = {
    15: "NO",
    16: "BE",
    18: "DK FI FK FO GL NL SD",
    19: "MK SI",
    20: "AT BA EE KZ LT LU MN XK",
    21: "CH HR LI LV",
    22: "BG BH CR DE GB GE IE ME RS VA",
    23: "AE GI IL IQ OM SO TL",
    24: "AD CZ ES MD PK RO SA SE SK TN VG",
    25: "LY PT ST",
    26: "IS TR",
    27: "BI DJ FR GR IT MC MR SM",
    28: "AL AZ BY CY DO GT HN HU LB NI PL SV",
    29: "BR EG PS QA UA",
    30: "JO KW MU YE",
    31: "MT SC",
    32: "LC",
    33: "RU",
}
# Prefix and lengths of the large card networks (ISO/IEC 7812). A timestamp or an ISBN has none.
_CARDS = re.compile(
    r"4(?:\d{12}|\d{15}|\d{18})"  # Visa
    r"|5[1-5]\d{14}|2(?:22[1-9]|2[3-9]\d|[3-6]\d\d|7[01]\d|720)\d{12}"  # Mastercard
    r"|3[47]\d{13}"  # American Express
    r"|(?:6011|64[4-9]\d|65\d\d)\d{12}"  # Discover
    r"|3(?:0[0-5]|[689]\d)\d{11}"  # Diners Club
    r"|35(?:2[89]|[3-8]\d)\d{12}"  # JCB
    r"|62\d{14,17}"  # UnionPay
    r"|(?:50|5[6-8]|63|67)\d{14}"  # Maestro
)
_FISCAL_CODE = re.compile(
    r"[A-Z]{6}[0-9LMNPQRSTUV]{2}[ABCDEHLMPRST][0-9LMNPQRSTUV]{2}[A-Z][0-9LMNPQRSTUV]{3}[A-Z]"
)
# Value of a character at an odd position of an Italian fiscal code; digits count as A to J.
_FISCAL_ODD = (
    *(1, 0, 5, 7, 9, 13, 15, 17, 19, 21, 2, 4, 18, 20, 11, 3, 6, 8),
    *(12, 14, 16, 10, 22, 25, 24, 23),
)
_DNI_LETTERS = "TRWAGMYFPDXBNJZSQVHLCKE"


def is_luhn(digits: str) -> bool:
    """ISO/IEC 7812-1, annex B."""
    total = 0
    for position, digit in enumerate(reversed(digits)):
        value = int(digit) * (1 + position % 2)
        total += value - 9 if value > 9 else value
    return total % 10 == 0


def is_card(digits: str) -> bool:
    """A payment card of a known network."""
    return bool(_CARDS.fullmatch(digits)) and is_luhn(digits)


@functools.cache
def iban_lengths() -> dict[str, int]:
    """Length of an IBAN by country."""
    return {land: length for length, lands in _IBAN_LENGTHS.items() for land in lands.split()}


def is_iban(text: str) -> bool:
    """Country, length and ISO 7064 mod 97-10; upper case."""
    if not (text.isascii() and text.isalnum() and text[2:4].isdigit()):
        return False
    if iban_lengths().get(text[:2]) != len(text):
        return False
    return int("".join(str(int(sign, 36)) for sign in text[4:] + text[:4])) % 97 == 1


def is_german_tax_id(digits: str) -> bool:
    """Steuer-Identifikationsnummer: one digit occurs twice or thrice; ISO 7064 mod 11,10."""
    if len(digits) != 11 or digits[0] == "0":
        return False
    counts = sorted(digits[:10].count(digit) for digit in set(digits[:10]))
    if counts not in ([1] * 8 + [2], [1] * 7 + [3]):
        return False
    product = 10
    for digit in digits[:10]:
        product = 2 * ((int(digit) + product) % 10 or 10) % 11
    return (11 - product) % 10 == int(digits[10])


def is_french_nir(text: str) -> bool:
    """Social security number of France, 15 signs: sex, year, month, place, order, key mod 97."""
    if not re.fullmatch(r"[12]\d\d(?:0[1-9]|1[0-2]|[2-4]\d)(?:\d\d|2[AB])\d{6}\d\d", text):
        return False
    # Corsica counts as 19 and 18.
    number = text[:13].replace("2A", "19").replace("2B", "18")
    return 97 - int(number) % 97 == int(text[13:])


def is_fiscal_code(text: str) -> bool:
    """Codice fiscale of Italy, 16 signs, upper case."""
    if not _FISCAL_CODE.fullmatch(text):
        return False
    values = [int(sign) if sign.isdigit() else ord(sign) - ord("A") for sign in text[:15]]
    total = sum(_FISCAL_ODD[value] for value in values[::2]) + sum(values[1::2])
    return chr(ord("A") + total % 26) == text[15]


def is_spanish_dni(text: str) -> bool:
    """DNI or NIE of Spain: eight digits, or X, Y, Z and seven, and a letter; upper case."""
    if not re.fullmatch(r"(?:\d|[XYZ])\d{7}[A-Z]", text):
        return False
    number = int(text[:-1].translate(str.maketrans("XYZ", "012")))
    return _DNI_LETTERS[number % 23] == text[-1]


def is_brazilian_cpf(digits: str) -> bool:
    """CPF of Brazil: eleven digits, the last two check the others."""
    if len(digits) != 11 or len(set(digits)) == 1:
        return False
    for length in (9, 10):
        weighted = sum(int(digit) * (length + 1 - at) for at, digit in enumerate(digits[:length]))
        if weighted * 10 % 11 % 10 != int(digits[length]):
            return False
    return True


def is_social_security_number(digits: str) -> bool:
    """US SSN: has no checksum, but ranges never given out, and two that advertisements used up."""
    area, group, serial = digits[:3], digits[3:5], digits[5:]
    if area in ("000", "666") or area[0] == "9" or group == "00" or serial == "0000":
        return False
    return digits not in ("078051120", "219099999")
