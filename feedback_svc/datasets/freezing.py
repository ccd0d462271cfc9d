"""Which feedback becomes an example, in which split, and why the rest does not. Pure.

The same events, spec and trust give the same examples and digests in every process.
"""

import hashlib
import json
import math
from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass

from feedback_svc import core
from feedback_svc.curating import HOLDOUT, TRAIN, Example
from feedback_svc.filters import matches
from feedback_svc.signals import Correction, Kind, Preference, is_good, kind_of
from selm.author_shares import cap_author_share
from selm.lessons import Consent
from selm.questions import normalise, subject_key

# Reasons of exclusion.
AUTHOR_SHARE_EXCEEDED = "AUTHOR_SHARE_EXCEEDED"
SUPERSEDED = "SUPERSEDED"


@dataclass(frozen=True)
class FreezeSpec:
    """What goes in. `wanted` names the adapter."""

    wanted: core.EventFilter
    max_author_share: float
    holdout_share: float = 0.0
    seed: int = 0


@dataclass(frozen=True)
class Frozen:
    """The examples by sequence of their events, and how many events each reason left out."""

    examples: tuple[Example, ...]
    exclusions: Mapping[str, int]
    sha256: str


def freeze(
    events: Iterable[tuple[core.FeedbackRecord, core.Exchange | None]],
    spec: FreezeSpec,
    trust_of: Callable[[str], float],
) -> Frozen:
    """Selects, settles who is heard on a subject, caps authors and splits by fact."""
    left_out: Counter[str] = Counter()
    found: list[Example] = []
    for record, exchange in sorted(events, key=lambda event: event[0].sequence):
        if not matches(record, spec.wanted) or record.state is core.EventState.ERASED:
            continue
        if not _teaches(record):
            continue
        reason = _refusal(record, exchange)
        if reason:
            left_out[reason] += 1
            continue
        found.append(_example(record, exchange, spec, trust_of(record.author)))
    settled = _settled(found, left_out)
    kept = _capped(settled, spec.max_author_share, left_out)
    total = _digest([example.sha256 for example in kept])
    return Frozen(tuple(kept), dict(sorted(left_out.items())), total)


def _teaches(record: core.FeedbackRecord) -> bool:
    if isinstance(record.signal, Correction | Preference):
        return True
    # Feedback on a whole conversation has no answer that it judges.
    return bool(record.generation) and is_good(record.signal) is not None


def _refusal(record: core.FeedbackRecord, exchange: core.Exchange | None) -> str:
    if record.state.is_withheld:
        return "REVIEW_REQUIRED"
    if record.state is core.EventState.REJECTED:
        return "REVIEW_REJECTED"
    if min(record.consent, record.reach) < Consent.SHARED_ADAPTER:
        return "CONSENT_MISSING"
    if not isinstance(record.signal, Correction) and (exchange is None or not exchange.question):
        return "GENERATION_NOT_STORED"
    return ""


def _example(
    record: core.FeedbackRecord, exchange: core.Exchange | None, spec: FreezeSpec, weight: float
) -> Example:
    signal = record.signal
    prompt, answer = (exchange.question, exchange.answer) if exchange else ("", "")
    completion, rejected, label = answer, "", is_good(signal)
    paraphrases: tuple[str, ...] = ()
    if isinstance(signal, Correction):
        prompt, completion, paraphrases = signal.question, signal.text, signal.paraphrases
    elif isinstance(signal, Preference):
        completion, rejected = signal.chosen, signal.rejected
    split = _split_of(prompt, spec)
    return Example(
        split=split,
        kind=kind_of(signal),
        prompt=prompt,
        completion=completion,
        rejected=rejected,
        label=label,
        paraphrases=paraphrases,
        lesson=record.lesson,
        feedback_event=record.name,
        generation=record.generation,
        author=record.author,
        adapter_revision=record.adapter_revision,
        weight=weight,
        sha256=_digest([prompt, completion, rejected, label, split]),
    )


def _split_of(prompt: str, spec: FreezeSpec) -> int:
    """By fact: all that is said on one subject is in one split."""
    drawn = int(_digest([str(spec.seed), subject_key(prompt)])[:16], 16) / 2**64
    return HOLDOUT if drawn < spec.holdout_share else TRAIN


def _settled(found: list[Example], left_out: Counter[str]) -> list[Example]:
    """The latest correction of a subject, an author's latest judgement of an answer, and of equal
    examples the latest."""
    kept: list[Example] = []
    # What was corrected, and who judged which answer how.
    heard: dict[tuple[str, ...], bool | None] = {}
    seen: set[tuple[object, ...]] = set()
    for example in reversed(found):
        texts = tuple(map(normalise, (example.prompt, example.completion, example.rejected)))
        matter, same = _matter(example), (example.kind is Kind.CORRECTION, example.label, *texts)
        if example.label is not None and heard.get(matter, example.label) != example.label:
            left_out[SUPERSEDED] += 1
        elif same in seen:
            left_out["FEEDBACK_DUPLICATE"] += 1
        elif example.kind is Kind.CORRECTION and matter in heard:
            left_out[SUPERSEDED] += 1
        else:
            kept.append(example)
        seen.add(same)
        heard.setdefault(matter, example.label)
    return kept[::-1]


def _matter(example: Example) -> tuple[str, ...]:
    """On what only the latest word counts: a corrected subject, or what one author judged."""
    if example.label is not None:
        return (example.author, normalise(example.prompt), normalise(example.completion))
    if example.kind is Kind.CORRECTION:
        return (subject_key(example.prompt),)
    return (example.feedback_event, "")


def _capped(examples: list[Example], share: float, left_out: Counter[str]) -> list[Example]:
    """No author above the share, where there are enough authors to fill a set at all."""
    authors = {example.author for example in examples}
    if not share or len(authors) < math.ceil(1 / share - 1e-9):
        return examples
    kept, dropped = cap_author_share(examples, lambda example: example.author, share)
    if dropped:
        left_out[AUTHOR_SHARE_EXCEEDED] += len(dropped)
    return kept


def _digest(values: list[object]) -> str:
    return hashlib.sha256(json.dumps(values, ensure_ascii=False).encode()).hexdigest()
