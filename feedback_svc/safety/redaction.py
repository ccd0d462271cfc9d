"""Takes secrets and personal data out of a text before anything is stored. Pure.

Regular expressions and checksums, no language model: this runs on every event before its receipt,
so it must be quick, the same on every replica and after every upgrade, and explicable to the one
whose text it changed. The libraries of the field (presidio, scrubadub) add names and places by a
spaCy pipeline: hundreds of megabytes, tens of milliseconds a text, and they would take out the very
names that a correction is about.

What it finds becomes a typed mark, `[EMAIL]`. Rules run in a fixed order, each over what the ones
before it left: secrets before personal data, a known form before a word beside a value, a checksum
before a mere form. So where two overlap, the earlier one names it. Runs again until nothing is
found, so that redacting what is redacted changes nothing. Time grows with the length of the text:
quantifiers are bounded or possessive, and nothing is read again from each of its characters.

Public IP addresses are found, private and documentation ones are not: they name no person. Not
found: names, postal addresses, dates of birth, secrets without a known form or a word beside them.
"""

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field

from feedback_svc.safety import credentials, personal
from feedback_svc.safety.rules import Glance

_RULES = credentials.RULES + personal.RULES
SECRETS = frozenset(rule.kind for rule in credentials.RULES)
PERSONAL = frozenset(rule.kind for rule in personal.RULES)


@dataclass(frozen=True)
class Redacted:
    """A text without secrets, and how many of each kind were taken out."""

    text: str
    counts: Mapping[str, int] = field(default_factory=dict)

    @property
    def num_redactions(self) -> int:
        return sum(self.counts.values())


def redact(text: str, *, only_secrets: bool = False) -> Redacted:
    """The text with each secret and each piece of personal data replaced by its mark."""
    rules = credentials.RULES if only_secrets else _RULES
    counts: Counter[str] = Counter()
    while True:
        before, glance = text, Glance(text)
        for rule in rules:
            if not rule.may_hold(glance):
                continue
            text, num_found = rule.replace(text)
            if num_found:
                counts[rule.kind] += num_found
        if text == before:
            return Redacted(text, dict(counts))
