"""The quarantine screen: what in a question and its answer a person should look at first. Pure.

Made to be right when it speaks: over the ordinary corrections of the tests it finds nothing. What
it finds is told without quoting the text. What to do about a finding is the caller's to decide.
"""

from collections.abc import Iterator, Mapping, Sequence

from feedback_svc.core import Finding
from feedback_svc.safety.findings import FindingKind, finding
from feedback_svc.safety.overrides import overrides
from feedback_svc.safety.redaction import PERSONAL, SECRETS, redact
from feedback_svc.safety.unusual import unusual, unusual_length

# Redactions by kind, by the field they were made in.
Redactions = Mapping[str, Mapping[str, int]]

QUESTION_FIELD, ANSWER_FIELD = "correction.question", "correction.text"


def screen(
    question: str,
    answer: str,
    paraphrases: Sequence[str] = (),
    redactions: Redactions | None = None,
    answer_field: str = ANSWER_FIELD,
) -> tuple[Finding, ...]:
    """What is found in a correction, or in the better answer of a preference.

    `redactions` says what was taken out of the texts before; without it they are taken as sent.
    """
    texts = {QUESTION_FIELD: question, answer_field: answer}
    for index, paraphrase in enumerate(paraphrases):
        texts[f"correction.paraphrases[{index}]"] = paraphrase
    if redactions is None:
        redactions = {field: redact(text).counts for field, text in texts.items()}
    findings = [
        found
        for field, text in texts.items()
        for found in (*_taken_out(field, redactions), *_written(field, text, question, answer))
    ]
    findings += _unusual(answer_field, unusual_length(question, answer) if question else ())
    return tuple(findings)


def _taken_out(field: str, redactions: Redactions) -> Iterator[Finding]:
    counts = redactions.get(field, {})
    for kind, kinds, what in (
        (FindingKind.CREDENTIAL, SECRETS, "what looks like a secret"),
        (FindingKind.PERSONAL_DATA, PERSONAL, "what looks like data about a person"),
    ):
        named = [f"{counts[name]} {name}" for name in sorted(kinds & counts.keys())]
        if named:
            yield finding(kind, field, f"held {what}: {', '.join(named)}")


def _written(field: str, text: str, question: str, answer: str) -> Iterator[Finding]:
    for what in overrides(text, f"{question}\n{answer}"):
        yield finding(FindingKind.INSTRUCTION_OVERRIDE, field, what)
    yield from _unusual(field, unusual(text))


def _unusual(field: str, found: Iterator[str] | tuple[()]) -> Iterator[Finding]:
    return (finding(FindingKind.UNUSUAL_TEXT, field, what) for what in found)
