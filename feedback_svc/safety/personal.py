"""Rules that find data of a person: addresses, numbers of phones, banks, cards and citizens. Pure.

A number counts only if a checksum, its form or a word beside it says what it is. Names and postal
addresses are not found: no form tells them from the names of what a question is about.
"""

import ipaddress
import re

from feedback_svc.safety import checksums
from feedback_svc.safety.rules import Rule

# A number does not start inside a word, a decimal fraction or another hyphenated number.
_START = r"(?<![\w+])(?<![0-9][.,-])"
_END = r"(?!\w)(?![.,-][0-9])"

_EMAIL = re.compile(
    r"(?<![\w.+%'-])(?P<local>[\w.+%'-]++)@(?:[\w-]{1,63}\.){1,8}[^\W\d_][\w-]{1,23}(?![\w@])"
)
_IBAN = re.compile(r"(?<![A-Za-z0-9])(?:[A-Z]{2}|[a-z]{2})[0-9]{2}(?=[ -]?[A-Za-z0-9])")
_CARD = re.compile(
    _START + r"(?:\d{13,19}|\d{4}([ -])\d{4}\1\d{4}\1\d{1,7}|\d{4}([ -])\d{6}\2\d{4,5})" + _END
)
_SSN = re.compile(_START + r"(?<![0-9-])(\d{3})-(\d{2})-(\d{4})" + _END)
_GERMAN_TAX_ID = re.compile(_START + r"\d{2}( ?)\d{3}\1\d{3}\1\d{3}" + _END)
_NIR = re.compile(
    _START + r"[12]( ?)\d\d\1\d\d\1(?:\d\d|2[AB])\1\d{3}\1\d{3}[ ]?\d\d" + _END, re.ASCII
)
_FISCAL_CODE = re.compile(r"(?<!\w)[A-Za-z]{6}[A-Za-z0-9]{10}(?!\w)", re.ASCII)
_DNI = re.compile(r"(?<![\w-])(?:\d{8}|[XYZ]-?\d{7})-?[A-Z](?![\w-])", re.ASCII)
_CPF = re.compile(_START + r"\d{3}\.\d{3}\.\d{3}-\d{2}" + _END)
_MAC = re.compile(
    r"(?<![\w:-])[0-9A-Fa-f]{2}(?:(?::[0-9A-Fa-f]{2}){5}|(?:-[0-9A-Fa-f]{2}){5})(?![\w:-])"
)
_IPV4 = re.compile(r"(?<![\w.])(?:[0-9]{1,3}\.){3}[0-9]{1,3}(?![\w]|\.[0-9])")
_IPV6 = re.compile(r"(?<![\w:.])[0-9A-Fa-f]{1,4}:[0-9A-Fa-f:]{3,35}(?![\w:])")
_NUMBERING = re.compile(
    r"(?i)(?:\bv|version|release|build|firmware|section|chapter|clause|kapitel|abschnitt|§)\s?$"
)

_PLUS = re.compile(r"(?<![\w+])(?:\+|00)(?P<number>[1-9](?:[ ./()-]{0,2}[0-9]){7,14})(?![0-9])")
_AMERICAN = re.compile(
    _START
    + r"(?:1[ .-])?(?:\([2-9]\d\d\) ?\d{3}[ .-]\d{4}|[2-9]\d\d(?P<gap>[.-])\d{3}(?P=gap)\d{4})"
    + _END
)
_TRUNK = re.compile(
    _START
    + r"(?<![0-9][ /])(?:0[1-9](?:[. -][0-9]{2}){4}|0[1-9][0-9]{0,3}(?:[ /-][0-9]{2,8}){1,4})"
    + r"(?![ .,/-]?[0-9])(?!\w)"
)
_CUED = re.compile(
    r"(?i)(?<![^\W_])(?:tel(?:efon|ephone|éfono|efono)?|phone|mobile|fax|whatsapp|handy"
    r"|mobil|rufnummer|durchwahl|hotline|téléphone|móvil|тел(?:ефон)?|电话|電話|手机"
    r"|(?:call|ring|text)(?:\s(?:us|me|him|her|them))?(?=\sat\s|\son\s|:))"
    r"(?:nummer|\snumber|\sno)?(?:\s(?:at|on))?\.?\s?[:：#]?\s?(?:is\s|ist\s|est\s)?"
    r"(?P<number>\(?[0-9](?:[ ./()-]{0,2}[0-9]){6,14})(?![0-9])"
)
# Calling codes of ITU-T E.164 but for "1" and "7", which are zones of their own.
_CALLING_CODE = re.compile(
    r"2[07]|2[1-69]\d|3[0-469]|3[578]\d|4[013-9]|42\d|5[1-8]|5[09]\d|6[0-6]|6[7-9]\d"
    r"|8[1246]|8[0578]\d|9[0-58]|9[679]\d"
)
# Dates, ranges of years, and what is written like an SSN but is none.
_OTHER = re.compile(
    r"(?:0[1-9]|[12]\d|3[01])[-. /](?:0[1-9]|1[0-2])[-. /](?:19|20)\d\d.*"
    r"|(?:1\d|20)\d\d ?[-/. ] ?(?:(?:1\d|20)\d\d|[01]\d[-/. ][0-3]\d).*"
    r"|\d{3}-\d{2}-\d{4}$"
)
_MIN_DIGITS, _MAX_DIGITS = 9, 15

Span = tuple[int, int] | None


def _email(found: re.Match[str]) -> Span:
    # git@github.com names a protocol's user, no person.
    local = found["local"].strip(".'")
    return None if local == "git" or not local else found.span()


def _iban(found: re.Match[str]) -> Span:
    """Reads as many signs as the country's IBAN has, blocks apart by one space or hyphen or not."""
    text, start = found.string, found.start()
    code = text[start : start + 2]
    length = checksums.iban_lengths().get(code.upper(), 0)
    signs, position = "", start
    while len(signs) < length and position < len(text):
        sign = text[position]
        if sign.isascii() and sign.isalnum():
            if sign.isalpha() and sign.isupper() != code.isupper():
                return None
            signs += sign
        elif sign not in " -" or text[position - 1] in " -" or code.islower():
            return None
        position += 1
    follows_more = position < len(text) and text[position].isascii() and text[position].isalnum()
    is_whole = not follows_more and length and checksums.is_iban(signs.upper())
    return (start, position) if is_whole else None


def _card(found: re.Match[str]) -> Span:
    return found.span() if checksums.is_card(_digits(found[0])) else None


def _ssn(found: re.Match[str]) -> Span:
    return found.span() if checksums.is_social_security_number(_digits(found[0])) else None


def _german_tax_id(found: re.Match[str]) -> Span:
    return found.span() if checksums.is_german_tax_id(_digits(found[0])) else None


def _cpf(found: re.Match[str]) -> Span:
    return found.span() if checksums.is_brazilian_cpf(_digits(found[0])) else None


def _nir(found: re.Match[str]) -> Span:
    return found.span() if checksums.is_french_nir(found[0].replace(" ", "")) else None


def _fiscal_code(found: re.Match[str]) -> Span:
    return found.span() if checksums.is_fiscal_code(found[0].upper()) else None


def _dni(found: re.Match[str]) -> Span:
    return found.span() if checksums.is_spanish_dni(found[0].replace("-", "")) else None


def _mac(found: re.Match[str]) -> Span:
    signs = set(found[0].lower()) - set(":-")
    is_hyphenated_number = "-" in found[0] and not signs & set("abcdef")
    # All zeros and all ones are addresses of nobody.
    return None if len(signs) == 1 or is_hyphenated_number else found.span()


def _ipv4(found: re.Match[str]) -> Span:
    """A public address. One of under six digits is more likely a version, as 1.7.12.4 is."""
    if len(_digits(found[0])) < 6 or not _is_public(found[0]):
        return None
    before = found.string[max(0, found.start() - 12) : found.start()]
    return None if _NUMBERING.search(before) else found.span()


def _ipv6(found: re.Match[str]) -> Span:
    # Global unicast only; it also keeps times, ratios and hexadecimal dumps apart.
    text = found[0].rstrip(":") if not found[0].endswith("::") else found[0]
    is_global = text[0] in "23" and len(text.split(":", 1)[0]) == 4 and _is_public(text)
    return (found.start(), found.start() + len(text)) if is_global else None


def _is_public(address: str) -> bool:
    try:
        parsed = ipaddress.ip_address(address)
    except ValueError:
        return False
    return parsed.is_global and not parsed.is_multicast


def _international(found: re.Match[str]) -> Span:
    number = found["number"]
    digits = _digits(number)
    if number.isdigit() and not found[0].startswith("+"):
        return None  # a serial number with leading zeros
    if digits[0] in "17":
        is_valid = len(digits) == 11 and digits[1] not in "01"
    else:
        match = _CALLING_CODE.match(digits)
        code = match[0] if match else ""
        national = digits[len(code) :]
        # Only Italy dials the zero from abroad; written as (0) it is left out.
        starts_well = not national.startswith("0") or code == "39" or "(0)" in number
        is_valid = bool(code) and starts_well and len(digits) >= _MIN_DIGITS + 1
    return found.span() if is_valid else None


def _national(found: re.Match[str]) -> Span:
    is_phone = _MIN_DIGITS <= len(_digits(found[0])) <= 12 and not _OTHER.match(found[0])
    return found.span() if is_phone else None


def _cued(found: re.Match[str]) -> Span:
    number = found["number"]
    return None if _OTHER.match(number) or number.count(".") > 4 else found.span("number")


def _digits(text: str) -> str:
    """The decimal digits of a text, in ASCII."""
    return "".join(str(int(sign)) for sign in text if sign.isdecimal())


# Those with a checksum first: what they claim, no looser rule sees again.
RULES = (
    Rule("EMAIL", _EMAIL, _email, needs=("@",)),
    Rule("IBAN", _IBAN, _iban, min_digits=2),
    Rule("CREDIT_CARD", _CARD, _card, min_digits=13),
    Rule("NATIONAL_ID", _NIR, _nir, min_digits=12),
    Rule("NATIONAL_ID", _GERMAN_TAX_ID, _german_tax_id, min_digits=11),
    Rule("NATIONAL_ID", _FISCAL_CODE, _fiscal_code),
    Rule("NATIONAL_ID", _DNI, _dni, min_digits=7),
    Rule("NATIONAL_ID", _CPF, _cpf, min_digits=11),
    Rule("NATIONAL_ID", _SSN, _ssn, min_digits=9),
    Rule("MAC_ADDRESS", _MAC, _mac, needs=(":", "-")),
    Rule("IP_ADDRESS", _IPV4, _ipv4, needs=(".",), min_digits=4),
    Rule("IP_ADDRESS", _IPV6, _ipv6, needs=(":",)),
    Rule("PHONE", _PLUS, _international, min_digits=8),
    Rule("PHONE", _AMERICAN, min_digits=10),
    Rule("PHONE", _TRUNK, _national, min_digits=4),
    Rule("PHONE", _CUED, _cued, min_digits=7),
)
