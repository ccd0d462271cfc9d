"""Secrets and personal data are taken out, everything else stays as it is, in time by length."""

import time

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from feedback_svc.safety import checksums
from feedback_svc.safety.redaction import PERSONAL, SECRETS, redact
from tests.unit.feedback.safety import made_secrets
from tests.unit.feedback.safety.corpora import ordinary

PERSONAL_TEXTS = {
    "tessa.holloran@quillmark.example": "EMAIL",
    "o'neill+news@mail.quillmark.co.uk": "EMAIL",
    "jürgen@müller.example": "EMAIL",
    "+49 30 901820 12": "PHONE",
    "+49 (0)30/901820-12": "PHONE",
    "+1 (555) 123-4567": "PHONE",
    "0044 20 7946 0958": "PHONE",
    "(555) 123-4567": "PHONE",
    "555-123-4567": "PHONE",
    "1-800-555-0199": "PHONE",
    "06 12 34 56 78": "PHONE",
    "030/90182012": "PHONE",
    "0171 2345678": "PHONE",
    "4111 1111 1111 1111": "CREDIT_CARD",
    "4111-1111-1111-1111": "CREDIT_CARD",
    "5555555555554444": "CREDIT_CARD",
    "3782 822463 10005": "CREDIT_CARD",
    "DE89 3704 0044 0532 0130 00": "IBAN",
    "GB82WEST12345698765432": "IBAN",
    "gb82west12345698765432": "IBAN",
    "NO93 8601 1117 947": "IBAN",
    "536-90-4399": "NATIONAL_ID",
    "86095742719": "NATIONAL_ID",
    "86 095 742 719": "NATIONAL_ID",
    "2 55 08 14 168 025 38": "NATIONAL_ID",
    "RSSMRA85T10A562S": "NATIONAL_ID",
    "12345678Z": "NATIONAL_ID",
    "X1234567L": "NATIONAL_ID",
    "529.982.247-25": "NATIONAL_ID",
    "93.184.216.34": "IP_ADDRESS",
    "2001:4860:4860::8888": "IP_ADDRESS",
    "00:1A:2B:3C:4D:5E": "MAC_ADDRESS",
    "00-1a-2b-3c-4d-5e": "MAC_ADDRESS",
}
UNTOUCHED = (
    "4111 1111 1111 1112",  # card, wrong sum
    "DE88 3704 0044 0532 0130 00",  # IBAN, wrong sum
    "000-12-3456 and 666-12-3456 and 987-65-4321",  # never given out
    "078-05-1120",  # the number of a wallet's advertisement
    "12345678A 86095742718 529.982.247-26 RSSMRA85T10A562T",
    "192.168.0.17, 172.16.254.1, 169.254.10.20, 203.0.113.195, 255.255.255.0, 999.184.216.34",
    "fe80::1ff:fe23:4567:890a, 2001:db8::ff00:42:8329, ::1, dead::beef",
    "Version 11.22.33.44, section 12.10.3.14, Git 1.7.12.4",
    "2024-01-02 12:30:45.123456789, 01-02-2024, 31.12.1999, 20240102123045",
    "+250 000 000 people, +15 %, 5+12345678 = 12345683, x=+3.5",
    "1,234,567,890.12 and 1.234.567.890,12 and 12 345 678 901 234",
    "3.14159265358979323846264338327950288419716939937510",
    "ISBN 978-0-306-40615-7, ISSN 2049-3630, EAN 4006381333931, DOI 10.1000/182",
    "PMID 31452104, RFC 2119, ISO 8601:2004, arXiv:2401.12345v2",
    "a@b, @handle, user@localhost, npm i react@18.2.0, git@github.com:a/b.git",
    "Password: required",
    "password = None, password=getpass(), password: str, PASSWORD=${PASSWORD}, password: ****",
    "The password is wrong. Is the password correct? The password was reset.",
    "The password is SHA256-hashed.",
    "api_key: your-api-key-goes-here, token = get_token(), secret: Secret",
    "task-9f8e7d6c5b4a3f2e1d0c9b8a7f6e5d4c, sk-learn, disk-usage-report-of-the-whole-machine",
    "commit 3b18e512dba79e4c8300dd08aeb37f8e728b8dad",
    "-----BEGIN PUBLIC KEY-----\nMFwwDQYJKoZIhvcNAQEBBQADSwAwSAJBAK\n-----END PUBLIC KEY-----",
    "-----BEGIN PRIVATE KEY-----",
    "https://quillmark.example:8443/a/b?c=d, postgresql://user:password@localhost/db",
    "[EMAIL] and [API_KEY] and password: [PASSWORD]",
)
# Each makes one rule or another begin again and again.
ADVERSARIAL = (
    *("a", "1", "1 ", "01 ", "a@", "a.", "@a.", "1.", "+1 ", "(", "[", "=", "::", "2001:", " \t"),
    *(
        "DE89 ",
        "DE",
        "password: ",
        "password",
        "password:x",
        "password='x ",
        "://a:",
        "a:@",
        "tel ",
    ),
    *(
        "token=A1",
        "secretkey=",
        "-eyJ",
        "eyJaaaaaaaaa.",
        "sk-",
        "abc8Q~",
        "$6$aaaa",
        "\\n",
        "Bearer ",
    ),
    *("-----BEGIN PRIVATE KEY-----", "-----BEGIN PRIVATE KEY----- AAAAAAAAAAAAAAAAA ", "00:"),
    *("4111 ", "192.168.", "a b@c.de ", "\u0661", "é@"),
)


@pytest.mark.parametrize("name", made_secrets.SECRETS)
def test_a_key_is_found_by_its_form_wherever_it_stands(name: str) -> None:
    """In a sentence, in quotes, at the end of a line: no word beside it is needed."""
    secret = made_secrets.SECRETS[name]
    for text in (f"Use {secret} for it.", f"key: '{secret}'", f"{secret}\n\nThanks!", secret):
        redacted = redact(text)

        assert redacted.counts.keys() & SECRETS
        assert secret[-20:] not in redacted.text
        assert secret[12:32] not in redacted.text


@pytest.mark.parametrize("text", made_secrets.SAID)
def test_a_secret_is_found_by_the_word_beside_it(text: str) -> None:
    """The secret is gone, and only it."""
    secret = made_secrets.SAID[text]

    redacted = redact(text)

    assert secret not in redacted.text
    assert redacted.num_redactions == 1
    assert redacted.text.split(" [")[0].split("[")[0] in text


def test_a_long_secret_goes_as_a_whole() -> None:
    """No rest of it is left behind the mark."""
    secret = "a1B2c3D4e5F6" * 100

    assert redact(f"token={secret} ok").text == "token=[SECRET] ok"
    assert redact(f"password: {secret}! ok").text == "password: [PASSWORD]! ok"


@pytest.mark.parametrize("found", PERSONAL_TEXTS)
def test_personal_data_is_replaced_by_its_mark(found: str) -> None:
    """Within a sentence; what stands around it is kept to the byte."""
    redacted = redact(f"It is {found}, as you know.")

    assert redacted.text == f"It is [{PERSONAL_TEXTS[found]}], as you know."
    assert redacted.counts == {PERSONAL_TEXTS[found]: 1}
    assert redacted.counts.keys() <= PERSONAL


@pytest.mark.parametrize("text", UNTOUCHED)
def test_ordinary_numbers_and_words_stay_untouched(text: str) -> None:
    """Years, prices, versions, ISBNs, hashes, placeholders: equal to the byte."""
    redacted = redact(text)

    assert redacted.text == text
    assert redacted.counts == {}


def test_ordinary_corrections_stay_untouched() -> None:
    """The whole corpus, equal to the byte."""
    for case in ordinary():
        for text in (case.question, case.answer):
            assert redact(text).text == text


def test_several_findings_are_counted_by_kind() -> None:
    """Each is replaced, each is counted."""
    redacted = redact("a@b.example, c@d.example or 555-123-4567; password: hunter2")

    assert redacted.text == "[EMAIL], [EMAIL] or [PHONE]; password: [PASSWORD]"
    assert redacted.counts == {"EMAIL": 2, "PHONE": 1, "PASSWORD": 1}
    assert redacted.num_redactions == 4


def test_where_two_overlap_the_secret_names_it() -> None:
    """A password that looks like an e-mail address is a password."""
    assert redact("password: ada@quillmark.example").text == "password: [PASSWORD]"


def _with_luhn(body: str) -> str:
    return next(body + digit for digit in "0123456789" if checksums.is_luhn(body + digit))


@settings(max_examples=60)
@given(
    st.sampled_from(["4", "51", "55", "2221", "34", "6011", "36", "3528", "62"]),
    st.text("0123456789", min_size=18, max_size=18),
    st.sampled_from(["", " ", "-"]),
)
def test_every_valid_card_is_found_in_usual_spacing(prefix: str, body: str, gap: str) -> None:
    """Plain, or in the blocks that are printed on it."""
    length = {"34": 15, "36": 14}.get(prefix, 16)
    digits = _with_luhn((prefix + body)[: length - 1])
    blocks = [4, 4, 4, 4] if length == 16 else [4, 6, length - 10]
    parts = [digits[sum(blocks[:at]) :][:size] for at, size in enumerate(blocks)]

    assert redact(f"card {gap.join(parts)}.").text == "card [CREDIT_CARD]."


@settings(max_examples=60)
@given(
    st.sampled_from(sorted(checksums.iban_lengths())),
    st.text("0123456789", min_size=30, max_size=30),
    st.sampled_from(["", " "]),
)
def test_every_valid_iban_is_found_in_usual_spacing(land: str, body: str, gap: str) -> None:
    """Plain, or in blocks of four."""
    rest = body[: checksums.iban_lengths()[land] - 4]
    number = int("".join(str(int(sign, 36)) for sign in f"{rest}{land}00"))
    iban = f"{land}{98 - number % 97:02d}{rest}"
    spaced = gap.join(iban[at : at + 4] for at in range(0, len(iban), 4))

    assert redact(f"to {spaced} please").text == "to [IBAN] please"


@settings(max_examples=100)
@given(st.text("0123456789", min_size=16, max_size=16))
def test_digits_that_fail_the_checksum_stay(digits: str) -> None:
    """A mere run of sixteen digits is a card only if its sum says so."""
    is_card = checksums.is_card(digits)

    assert (redact(f"no {digits} x").text == f"no {digits} x") is not is_card


_PIECES = st.sampled_from(
    [
        *PERSONAL_TEXTS,
        *made_secrets.SAID,
        *(secret for name, secret in made_secrets.SECRETS.items() if len(secret) < 120),
        *(
            "[EMAIL]",
            "[PASSWORD]",
            "password",
            ": ",
            " ",
            "=",
            "@",
            ".",
            "-",
            "1",
            "a",
            "\n",
            "://",
        ),
        *("$6$", "token=", "[", "]", "'", '"', "é", "\u200b"),
    ]
)


@settings(max_examples=300, deadline=None)
@given(st.lists(_PIECES | st.text(max_size=6), max_size=8).map("".join))
@example("$6$" + "a" * 300 + "$6$" + "b" * 300)
def test_redacting_again_changes_nothing(text: str) -> None:
    """Marks are no findings, and none brings about another one."""
    once = redact(text)
    twice = redact(once.text)

    assert twice.text == once.text
    assert twice.counts == {}


@settings(max_examples=200, deadline=None)
@given(st.text(max_size=200))
def test_a_text_without_findings_is_equal_and_one_with_them_is_not(text: str) -> None:
    """Counts tell the truth, also of text that is no valid Unicode."""
    redacted = redact(text)

    assert (redacted.text == text) is (not redacted.counts)


@pytest.mark.parametrize("unit", ADVERSARIAL)
def test_time_grows_with_length_only(unit: str) -> None:
    """Four times the text takes about four times as long: sixteen would be a square."""
    short, long = (_seconds((unit * size)[:size]) for size in (4096, 16384))

    assert long < 10 * max(short, 0.002)


def _seconds(text: str) -> float:
    """CPU time, the better of two."""
    taken = []
    for _ in range(2):
        start = time.process_time()
        redact(text)
        taken.append(time.process_time() - start)
    return min(taken)
