"""Rules that find secrets: keys, tokens, passwords, private keys, credentials in addresses. Pure.

Known prefixes find a key wherever it stands; any other secret is found only beside a word that says
what it is, because a hash or an id without such a word is no secret.
"""

import math
import re
from collections import Counter

from feedback_svc.safety.rules import MARK, Rule, group

# Kinds of what these rules find.
PRIVATE_KEY, API_KEY, JWT = "PRIVATE_KEY", "API_KEY", "JWT"
CREDENTIALS, PASSWORD, SECRET = "CREDENTIALS", "PASSWORD", "SECRET"

# Bits per character. English prose without spaces has about 4 over a long text, but repeats and
# padding, such as "xxxxxxxxxxxxxxxx", have less than this.
_MIN_ENTROPY = 3.0

_GAP = r"(?:\s|\\[nr])*+"
_PRIVATE_KEY = re.compile(
    r"-----BEGIN [A-Z0-9 ]{0,30}PRIVATE KEY(?: BLOCK)?-----"
    + _GAP
    + r"(?:[A-Za-z-]{1,30}: [^\n]{0,200}\n\s*+){0,5}"
    + rf"(?:[A-Za-z0-9+/=]{{16,}}+{_GAP})++"
    + rf"(?:=?[A-Za-z0-9+/=]{{1,15}}{_GAP}(?=-----END))?"
    + r"(?:-----END [A-Z0-9 ]{0,40}-----)?"
)
# As their vendors publish them, for secret scanners to find.
_API_KEYS = (
    r"(?:AKIA|ASIA|ABIA|ACCA)[A-Z0-9]{16}",  # AWS
    r"AIza[\w-]{35}|GOCSPX-[\w-]{28}|ya29\.[\w-]{20,}+",  # Google
    r"[\w~.-]{3}8Q~[\w~.-]{31,34}",  # Azure
    r"gh[pousr]_[A-Za-z0-9]{36,255}|github_pat_\w{22,255}",
    r"gl(?:pat|dt|rt|cbt|ptt|ft|soat)-[\w-]{20,64}",  # GitLab
    r"xox[abeprs]-[A-Za-z0-9-]{10,255}|xapp-\d-[A-Za-z0-9-]{10,255}",  # Slack
    r"[rs]k_(?:live|test)_[A-Za-z0-9]{16,255}|whsec_[A-Za-z0-9+/=]{24,128}",  # Stripe
    r"sk-(?=[A-Za-z_-]*+\d)(?:proj-|svcacct-|admin-|ant-)?[\w-]{24,255}",  # OpenAI, Anthropic
    r"hf_[A-Za-z0-9]{30,64}|gsk_[A-Za-z0-9]{40,64}",  # Hugging Face, Groq
    r"npm_[A-Za-z0-9]{36}|pypi-AgE[\w-]{50,255}",
    r"SG\.[\w-]{22}\.[\w-]{43}",  # SendGrid
    r"dop_v1_[a-f0-9]{64}|dapi[a-f0-9]{32}",  # DigitalOcean, Databricks
    r"\d{8,10}:AA[\w-]{33}",  # Telegram
    r"AGE-SECRET-KEY-1[A-Z0-9]{58}|S[UANOC][A-Z2-7]{56}",  # age, NATS seeds
)
_API_KEY = re.compile(rf"(?<![\w~.-])(?:{'|'.join(_API_KEYS)})(?![A-Za-z0-9])", re.ASCII)
_SLACK_HOOK = re.compile(r"(?<=hooks\.slack\.com/services/)(?P<value>[\w/]{20,80})", re.ASCII)
_AZURE_SAS = re.compile(r"AccountKey=(?P<value>[A-Za-z0-9+/]{86}==)|[?&;]sig=(?P<sas>[\w%]{43,90})")
_JWT = re.compile(r"(?<![\w-])eyJ[\w-]{8,}+\.eyJ[\w-]{8,}+\.[\w-]*+", re.ASCII)
_IN_ADDRESS = re.compile(
    r"(?<=://)(?P<value>[^\s/@:\"'<>]{0,100}:(?P<password>[^\s/\"'<>]{1,200}))@(?=[\w\[])"
)

_PASSES = (
    r"(?:pass(?:word|wort|wd|phrase|code)|pwd|(?<![^\W_])pw|kennwort|mot\sde\spasse|contraseña|senha|пароль"
    r"|密码|密碼|パスワード|비밀번호)"
)
# One of these is in everything that the words above match.
_PASS_WORDS = (
    *("pass", "pw", "kennwort", "contraseña", "senha", "пароль"),
    *("密码", "密碼", "パスワード", "비밀번호"),
)
_SETS = r"[\"'`]?\s{0,4}(?::=|=>|==?|[:：=])\s{0,4}"
_SAYS = r"\s(?:is|was|lautet|ist|war|est|es|era|è|é|:)\s{1,2}|(?:是|は|为)\s?"
_PASSWORD_QUOTED = re.compile(
    rf"(?i:{_PASSES})(?:{_SETS}|(?i:{_SAYS}))(?P<quote>[\"'`])(?P<value>[^\"'`\n]{{4,200}})(?P=quote)"
)
_PASSWORD_SET = re.compile(
    rf"(?i:{_PASSES}){_SETS}(?P<value>[^\s\"'`<>]{{4,200}})"
    rf"|--?(?i:{_PASSES})[ =](?P<flag>[^\s\"'`<>]{{4,200}})"
)
_PASSWORD_SAID = re.compile(rf"(?i:{_PASSES}(?:{_SAYS}))(?P<value>[^\s\"'`<>]{{5,200}})")
_PIN = re.compile(r"\bPIN(?:\s?[:=]\s?|\s(?:is|ist|lautet|est|es)\s)(?P<value>\d{4})(?!\w)")
_KEYS = (
    r"(?:(?:api|access|secret|private|auth|client|encryption|signing|account|shared|bot|refresh"
    r"|session|master|deploy|webhook)[ _.-]?(?:access[ _.-]?)?(?:key|token|secret)"
    r"|(?<!publickey)(?<!public key )token|secret|authorization|credential)"
)
_KEY_WORDS = ("key", "token", "secret", "authorization", "credential")
_SECRET_SET = re.compile(
    rf"(?i:{_KEYS})(?:{_SETS}|\sis\s)[\"'`]?(?:Bearer\s|Basic\s)?(?P<value>[A-Za-z0-9+/=_~.-]{{16,512}})"
)
_BEARER = re.compile(r"\b(?:Bearer|Basic)\s(?P<value>[A-Za-z0-9+/=_~.-]{16,512})")
_PASSWORD_HASH = re.compile(r"(?<!\w)\$(?:2[abxy]?|5|6|y|argon2[id]{1,2})\$[\w./$=,+-]{20,}+")

# What stands in the place of a secret in documentation and code.
_PLACEHOLDER_WORDS = """
    required optional none null nil true false empty blank hidden unknown string str text bytes
    varchar char password passwort passwd pass pwd secret changeme change-me example placeholder
    redacted yourpassword your_password your-password mypassword my_password encrypted hashed
    erforderlich notwendig leer geheim requis obligatoire requerido input prompt username default
    user undefined field type value here there that this what which when with from must should
    incorrect correct wrong invalid valid expired protected reset login
"""
_PLACEHOLDERS = frozenset(_PLACEHOLDER_WORDS.split())
_CODE = re.compile(
    r"\$\{?[A-Za-z_]\w*\}?|\$\(.*|\{.*|%.{1,30}%?|[*•.xX]+|[A-Za-z_][\w.]*[(\[].*|[A-Za-z_]+(?:\.[A-Za-z_]+)+"
)
_ALGORITHM = re.compile(
    r"(?i)(?:sha|md|base|aes|pbkdf|utf|ascii|rot|rc|latin|p@\W)-?\d+(?:[-_]?[a-z]*)"
)


_PUNCTUATION = ".,;:!?)]}"
# A value is bounded while it is judged, so that it is not read again from every word before it; one
# that is a secret goes as a whole.
_REST_OF_PASSWORD = re.compile(r"[^\s\"'`<>]*+")
_REST_OF_SECRET = re.compile(r"[A-Za-z0-9+/=_~.-]*+")


def _password(found: re.Match[str]) -> tuple[int, int] | None:
    """A value that is neither a placeholder nor an expression, and is no word of a sentence."""
    name = "value" if found["value"] else "flag"
    value = found[name].rstrip(_PUNCTUATION)
    if len(value) < 4 or MARK.search(found[name]) or _is_placeholder(value):
        return None
    rest_of_line = found.string[found.end(name) : found.end(name) + 40].split("\n", 1)[0]
    is_last = not rest_of_line.strip(" .,;:!?)]}\"'`")
    return _trimmed(found, name, _REST_OF_PASSWORD) if is_last or _is_mixed(value) else None


def _said_password(found: re.Match[str]) -> tuple[int, int] | None:
    """After "the password is" stands a value only if no sentence would go on like that."""
    value = found["value"].rstrip(_PUNCTUATION)
    if not _has_both(value) or _is_placeholder(value) or MARK.search(found["value"]):
        return None
    return _trimmed(found, "value", _REST_OF_PASSWORD)


def _quoted_password(found: re.Match[str]) -> tuple[int, int] | None:
    value = found["value"]
    return None if MARK.fullmatch(value) or _is_placeholder(value) else found.span("value")


def _secret(found: re.Match[str]) -> tuple[int, int] | None:
    """A value with letters and digits that looks drawn by lot."""
    value = found["value"].rstrip(".")
    if not _has_both(value) or _entropy(value) < _MIN_ENTROPY or _CODE.fullmatch(value):
        return None
    return _trimmed(found, "value", _REST_OF_SECRET)


def _in_address(found: re.Match[str]) -> tuple[int, int] | None:
    return None if _is_placeholder(found["password"]) else found.span("value")


def _azure(found: re.Match[str]) -> tuple[int, int] | None:
    return found.span("value" if found["value"] else "sas")


def _trimmed(found: re.Match[str], name: str, rest: re.Pattern[str]) -> tuple[int, int]:
    """Where a group and the rest of its run stand, without the punctuation that ends it."""
    start = found.start(name)
    run = rest.match(found.string, found.end(name))
    end = run.end() if run else found.end(name)
    return start, start + len(found.string[start:end].rstrip(_PUNCTUATION))


def _has_both(value: str) -> bool:
    return any(sign.isdigit() for sign in value) and any(sign.isalpha() for sign in value)


def _is_placeholder(value: str) -> bool:
    plain = value.casefold()
    return (
        plain in _PLACEHOLDERS
        or bool(_CODE.fullmatch(value) or _ALGORITHM.fullmatch(value))
        or (plain.replace("_", "").isalpha() and "pass" in plain)
    )


def _is_mixed(value: str) -> bool:
    """Whether letters stand beside digits, or signs that no word has."""
    num_letters = sum(sign.isalpha() for sign in value)
    has_digits = any(sign.isdigit() for sign in value)
    return (has_digits and num_letters > 0) or any(sign in "!@#$%^&*+=~|\\" for sign in value)


def _entropy(value: str) -> float:
    """Shannon's, in bits per character."""
    shares = [count / len(value) for count in Counter(value).values()]
    return -sum(share * math.log2(share) for share in shares)


# Order matters: what is known by its form goes first, so that its mark names it.
RULES = (
    Rule(PRIVATE_KEY, _PRIVATE_KEY, needs=("-----begin",)),
    Rule(CREDENTIALS, _IN_ADDRESS, _in_address, needs=("://",)),
    Rule(JWT, _JWT, needs=("eyj",)),
    Rule(API_KEY, _API_KEY),
    Rule(API_KEY, _SLACK_HOOK, group("value"), needs=("hooks.slack.com",)),
    Rule(API_KEY, _AZURE_SAS, _azure, needs=("accountkey=", "sig=")),
    Rule(SECRET, _SECRET_SET, _secret, needs=_KEY_WORDS),
    Rule(SECRET, _BEARER, _secret, needs=("bearer", "basic")),
    Rule(SECRET, _PASSWORD_HASH, needs=("$",)),
    Rule(PASSWORD, _PASSWORD_QUOTED, _quoted_password, needs=_PASS_WORDS),
    Rule(PASSWORD, _PASSWORD_SET, _password, needs=_PASS_WORDS),
    Rule(PASSWORD, _PASSWORD_SAID, _said_password, needs=_PASS_WORDS),
    Rule(PASSWORD, _PIN, group("value"), needs=("pin",)),
)
