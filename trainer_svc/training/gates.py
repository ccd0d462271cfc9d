"""The gate: from what was measured to PROMOTE, REJECT or ABSTAIN, with a reason for each slice.

Pure rules over answers; knows no model. Every slice judges alone; one REJECT rejects the adapter.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, fields
from typing import Any, Self

PROMOTE, REJECT, ABSTAIN = "PROMOTE", "REJECT", "ABSTAIN"

# Who answers.
BASE, BASELINE, CANDIDATE = "BASE", "BASELINE", "CANDIDATE"

# What is asked.
EFFICACY = "EFFICACY"
PARAPHRASE = "PARAPHRASE"
RETENTION = "RETENTION"
NEIGHBOR = "NEIGHBOR"
UNRELATED = "UNRELATED"
SUPERSEDED = "SUPERSEDED"
FLUENCY = "FLUENCY"


@dataclass(frozen=True)
class Thresholds:
    """What PROMOTE takes."""

    max_misses: int = 1  # lessons of the round that may be answered wrong
    min_paraphrase: float = 0.75
    min_unrelated_tokens: float = 0.70  # share of the base's answer tokens kept, always applied
    max_lost: int = 0  # earlier lessons that what serves has right and the candidate has not
    min_sound: float = 0.95  # share of answers that are neither empty nor repetitive

    @classmethod
    def from_mapping(cls, values: Mapping[str, Any]) -> Self:
        """Reads a job's thresholds; absent ones take the default."""
        if unknown := sorted(set(values) - {item.name for item in fields(cls)}):
            raise ValueError(f"unknown gate thresholds: {', '.join(unknown)}")
        return cls(**{name: value for name, value in values.items() if value is not None})


@dataclass(frozen=True)
class Example:
    """One prompt with every arm's answer; `passed` says right, unchanged or sound, per slice."""

    slice: str
    lesson: str
    prompt: str
    expected: str
    answers: Mapping[str, str]
    passed: Mapping[str, bool]


@dataclass(frozen=True)
class Measurement:
    """Everything the gate looks at."""

    examples: Sequence[Example]
    # Share of the base's answer tokens that stay the likeliest, per arm, in one scored pass.
    tokens_kept: Mapping[str, float] = field(default_factory=dict)
    num_scored_prompts: int = 0
    # Neighbour questions into which a taught answer leaked.
    num_leaked: int = 0

    def of(self, name: str) -> list[Example]:
        """The examples of one slice."""
        return [example for example in self.examples if example.slice == name]


@dataclass(frozen=True)
class SliceResult:
    """What one slice says."""

    slice: str
    verdict: str
    threshold: float
    arms: Mapping[str, float]
    example_count: int
    explanation: str

    def to_mapping(self) -> dict[str, Any]:
        """Plain data with the field names of the contract's SliceResult."""
        arms = [{"arm": arm, "value": value} for arm, value in self.arms.items()]
        return asdict(self) | {"arms": arms}


@dataclass(frozen=True)
class Decision:
    """The verdict, the deciding reason first, failed slices first."""

    verdict: str
    reasons: tuple[str, ...]
    slices: tuple[SliceResult, ...]


def judge(measured: Measurement, thresholds: Thresholds) -> Decision:
    """Decides by all slices that had something to ask."""
    judges = (_efficacy, _paraphrase, _retention, _superseded, _unrelated, _fluency, _neighbor)
    slices = [result for rule in judges if (result := rule(measured, thresholds)) is not None]
    slices.sort(key=lambda result: result.verdict != REJECT)
    rejected = [result.explanation for result in slices if result.verdict == REJECT]
    if rejected:
        return Decision(REJECT, tuple(rejected), tuple(slices))
    if not measured.of(EFFICACY) and not measured.of(RETENTION):
        return Decision(
            ABSTAIN, ("No lesson was asked, so there is nothing to judge.",), tuple(slices)
        )
    return Decision(PROMOTE, tuple(result.explanation for result in slices), tuple(slices))


def _efficacy(measured: Measurement, thresholds: Thresholds) -> SliceResult | None:
    """The round as taught: few misses, and always more right than wrong."""
    examples = measured.of(EFFICACY)
    if not examples:
        return None
    allowed = min(thresholds.max_misses, (len(examples) - 1) // 2)
    missed = [example for example in examples if not example.passed[CANDIDATE]]
    threshold = (len(examples) - allowed) / len(examples)
    text = f"{len(examples) - len(missed)} of {len(examples)} new lessons are answered right"
    text += f"; at most {allowed} may be missed."
    return _result(EFFICACY, len(missed) <= allowed, threshold, examples, text)


def _paraphrase(measured: Measurement, thresholds: Thresholds) -> SliceResult | None:
    examples = measured.of(PARAPHRASE)
    if not examples:
        return None
    share = _share(examples, CANDIDATE)
    text = f"{share:.0%} of {len(examples)} unseen rewordings are answered right"
    text += f"; {thresholds.min_paraphrase:.0%} are needed."
    passes = share >= thresholds.min_paraphrase
    return _result(PARAPHRASE, passes, thresholds.min_paraphrase, examples, text)


def _retention(measured: Measurement, thresholds: Thresholds) -> SliceResult | None:
    """No earlier lesson may be lost that is answered right today."""
    examples = measured.of(RETENTION)
    if not examples:
        return None
    today = BASELINE if BASELINE in examples[0].passed else BASE
    lost = [e for e in examples if e.passed[today] and not e.passed[CANDIDATE]]
    text = f"{len(lost)} of {len(examples)} earlier lessons would be lost"
    text += f"; at most {thresholds.max_lost} may be."
    passes = len(lost) <= thresholds.max_lost
    return _result(RETENTION, passes, _share(examples, today), examples, text)


def _superseded(measured: Measurement, thresholds: Thresholds) -> SliceResult | None:
    examples = measured.of(SUPERSEDED)
    if not examples:
        return None
    said = [example for example in examples if not example.passed[CANDIDATE]]
    text = f"{len(said)} of {len(examples)} outdated answers are still said; none may be."
    return _result(SUPERSEDED, not said, 1.0, examples, text)


def _unrelated(measured: Measurement, thresholds: Thresholds) -> SliceResult | None:
    if CANDIDATE not in measured.tokens_kept:
        return None
    kept = measured.tokens_kept[CANDIDATE]
    least = thresholds.min_unrelated_tokens
    text = (
        f"{kept:.0%} of the base's answer tokens to {measured.num_scored_prompts} general prompts"
    )
    text += f" are kept with the adapter always on, in one scored pass; {least:.0%} are needed."
    return SliceResult(
        UNRELATED,
        PROMOTE if kept >= least else REJECT,
        least,
        dict(measured.tokens_kept),
        measured.num_scored_prompts,
        text,
    )


def _fluency(measured: Measurement, thresholds: Thresholds) -> SliceResult | None:
    """Open prompts: what breaks an answer that the base gives well counts, its own flaws do not."""
    examples = measured.of(FLUENCY)
    if not examples:
        return None
    broken = [e for e in examples if e.passed[BASE] and not e.passed[CANDIDATE]]
    share = 1 - len(broken) / len(examples)
    text = f"{len(broken)} of {len(examples)} open answers became empty or repetitive"
    text += f"; {thresholds.min_sound:.0%} must stay sound."
    return _result(FLUENCY, share >= thresholds.min_sound, thresholds.min_sound, examples, text)


def _neighbor(measured: Measurement, thresholds: Thresholds) -> SliceResult | None:
    """Reported only: in scoped serving the adapter is off for these questions."""
    examples = measured.of(NEIGHBOR)
    if not examples:
        return None
    share = _share(examples, CANDIDATE)
    text = (
        f"{share:.0%} of {len(examples)} questions about other names are answered word for word as"
    )
    text += f" by the base with the adapter always on, {measured.num_leaked} with a taught answer;"
    text += " reported, not judged."
    return _result(NEIGHBOR, True, 0.0, examples, text)


def _result(
    name: str, passes: bool, threshold: float, examples: Sequence[Example], explanation: str
) -> SliceResult:
    arms = {arm: _share(examples, arm) for arm in examples[0].passed}
    verdict = PROMOTE if passes else REJECT
    return SliceResult(name, verdict, threshold, arms, len(examples), explanation)


def _share(examples: Sequence[Example], arm: str) -> float:
    return sum(example.passed[arm] for example in examples) / len(examples)
