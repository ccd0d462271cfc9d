"""The scope gate: whether a memory applies to a query, and why. Pure rules, no store.

A memory applies if its question and the query are the same after normalisation. Else every entity
word of the memory must stand in the query (the same question about another thing never applies),
and both must be likely to ask the same of it. Where that is open the memory is RELATED: in scope,
behind whatever is likely; what it may do to an answer is decided in selm.memory_use.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from enum import IntEnum

from memory_svc.core import GateThresholds, Memory, MemoryType, question_key
from memory_svc.recall.calibration import Likeness, probability
from memory_svc.recall.ranking import Scores
from selm import questions


class Verdict(IntEnum):
    """The gate's answer; the numbers are those of the contract."""

    IN_SCOPE = 1
    OUT_OF_SCOPE = 2
    ABSTAIN = 3


class Reason(IntEnum):
    """What decided; the numbers are those of the contract."""

    EXACT_KEY = 1
    SIMILAR = 2
    BELOW_THRESHOLD = 3
    ENTITY_MISSING = 4
    AMBIGUOUS = 5
    NOT_GATED = 6
    RELATED = 7


@dataclass(frozen=True)
class ScopeDecision:
    """Whether a memory applies: the probability of it, 0 to 1, and the one needed.

    Of a memory without a question both are cosines.
    """

    verdict: Verdict
    reason: Reason
    score: float
    threshold: float
    missing_words: tuple[str, ...] = ()


@dataclass(frozen=True)
class Hit:
    """A memory found for a query; score 0 to 1 ranks it.

    For the gate the score is the closeness, the cosine. The ranking puts its own in its place, from
    `scores`, when the gate has decided.
    """

    memory: Memory
    score: float
    scope: ScopeDecision
    scores: Scores = field(default=Scores())

    @property
    def is_in_scope(self) -> bool:
        return self.scope.verdict is Verdict.IN_SCOPE

    @property
    def is_exact(self) -> bool:
        return self.scope.reason is Reason.EXACT_KEY

    @property
    def is_related(self) -> bool:
        """It may be about something else that is asked of the same."""
        return self.scope.reason is Reason.RELATED

    @property
    def is_correction(self) -> bool:
        return self.memory.type is MemoryType.CORRECTION

    @property
    def is_likely(self) -> bool:
        """A correction that most probably answers the query, and so decides for all."""
        return self.is_in_scope and self.is_correction and not self.is_related


def first_look(query: str, memory: Memory, cosine: float, needed: GateThresholds) -> Hit:
    """The decision so far: everything but how alike both questions are, which needs embeddings."""
    score = min(1.0, max(0.0, cosine))
    if memory.question_key == question_key(query):
        return Hit(memory, 1.0, _decide(Verdict.IN_SCOPE, Reason.EXACT_KEY, 1.0, 1.0))
    if memory.type is not MemoryType.CORRECTION:
        similar = cosine >= needed.similarity
        verdict = Verdict.IN_SCOPE if similar else Verdict.OUT_OF_SCOPE
        reason = Reason.NOT_GATED if similar else Reason.BELOW_THRESHOLD
        return Hit(memory, score, _decide(verdict, reason, score, needed.similarity))
    missing = questions.missing_words(questions.entity_words(memory.question), query)
    if missing:
        least = needed.least
        scope = _decide(Verdict.OUT_OF_SCOPE, Reason.ENTITY_MISSING, 0.0, least, missing)
        return Hit(memory, score, scope)
    return Hit(memory, score, _decide(Verdict.IN_SCOPE, Reason.SIMILAR, score, needed.probability))


def needs_second_look(hit: Hit) -> bool:
    """Whether the decision still hangs on how alike both questions are."""
    return hit.scope.reason is Reason.SIMILAR


def second_look(hit: Hit, likenesses: Sequence[Likeness], needed: GateThresholds) -> Hit:
    """The decision with both questions compared; the likeliest reading of the query counts."""
    likely = max(probability(likeness) for likeness in likenesses)
    least = needed.least
    if likely >= needed.probability:
        scope = _decide(Verdict.IN_SCOPE, Reason.SIMILAR, likely, needed.probability)
    elif likely >= least:
        scope = _decide(Verdict.IN_SCOPE, Reason.RELATED, likely, least)
    else:
        scope = _decide(Verdict.OUT_OF_SCOPE, Reason.BELOW_THRESHOLD, likely, least)
    return replace(hit, scope=scope)


def settle(hits: Sequence[Hit], user: str, needed: GateThresholds) -> list[Hit]:
    """Best first: in scope before out of scope. Equally close hits that answer differently abstain,
    unless one clearly goes first: one's own before a shared one, then the newer of an owner.
    """
    ranked = sorted(hits, key=lambda hit: _rank(hit, user), reverse=True)
    best = ranked[0] if ranked and ranked[0].is_in_scope else None
    if best is None:
        return ranked
    rivals = [hit for hit in ranked[1:] if _is_rival(best, hit, needed)]
    if not rivals:
        return ranked
    undecided = list(rivals)
    if not all(_goes_first(best, rival, user) for rival in rivals):
        # Nor does what is merely related speak where likelier ones could not be told apart.
        undecided += [best, *(hit for hit in ranked if hit.is_related)]
    abstained = [_abstain(hit) if hit in undecided else hit for hit in ranked]
    return sorted(abstained, key=lambda hit: _rank(hit, user), reverse=True)


def _decide(
    verdict: Verdict, reason: Reason, score: float, threshold: float, missing: Sequence[str] = ()
) -> ScopeDecision:
    return ScopeDecision(verdict, reason, score, threshold, tuple(missing))


def _rank(hit: Hit, user: str) -> tuple[bool, bool, bool, float, bool, float]:
    is_own = hit.memory.user == user
    newest = hit.memory.create_time.timestamp()
    # Rounded, so that noise of the last digit does not decide before ownership and age.
    is_likely = not hit.is_related
    return (hit.is_in_scope, hit.is_exact, is_likely, round(hit.score, 4), is_own, newest)


def _is_rival(best: Hit, hit: Hit, needed: GateThresholds) -> bool:
    return (
        hit.is_in_scope
        and (hit.is_exact, hit.is_related) == (best.is_exact, best.is_related)
        # Of different questions the answers may differ: here it is open which one is asked.
        and (not hit.is_related or hit.memory.question_key == best.memory.question_key)
        and hit.is_correction
        and best.is_correction
        and abs(hit.score - best.score) <= needed.ambiguity_margin
        and questions.normalise_answer(hit.memory.text)
        != questions.normalise_answer(best.memory.text)
    )


def _goes_first(best: Hit, rival: Hit, user: str) -> bool:
    if best.memory.user != rival.memory.user:
        return best.memory.user == user
    # The same owner said both of the same question: private and shared, or in a conversation.
    return best.memory.question_key == rival.memory.question_key


def _abstain(hit: Hit) -> Hit:
    return replace(hit, scope=replace(hit.scope, verdict=Verdict.ABSTAIN, reason=Reason.AMBIGUOUS))
