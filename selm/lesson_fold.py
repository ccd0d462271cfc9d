"""How a lesson moves: which step may follow which, and the pure fold of steps into LessonRecords.

Knows no protobuf and no broker (see lesson_events).
"""

from dataclasses import dataclass, field, replace
from datetime import datetime
from typing import Any

from selm.lessons import FINAL, LessonRecord, LessonState, LessonStep

MAX_TRANSITIONS = 64

_S = LessonState
_IN_WEIGHTS = frozenset({_S.TRAINED, _S.VERIFIED, _S.RETIRED})
_ANYTIME = frozenset({_S.SUPERSEDED, _S.FAILED})

# Steps by state. RECEIVED and REMEMBERED may skip QUEUED: a job learns every live lesson, also one
# that came after its request. REMEMBERED out of QUEUED or the weights is a step back. What is
# withheld waits for a decision, which comes with the event itself: see `decided`.
_ALLOWED: dict[LessonState, frozenset[LessonState]] = {
    _S.RECEIVED: frozenset({_S.REMEMBERED, _S.QUEUED, _S.TRAINED}) | _ANYTIME,
    _S.REMEMBERED: frozenset({_S.QUEUED, _S.TRAINED}) | _ANYTIME,
    _S.QUEUED: frozenset({_S.QUEUED, _S.TRAINED, _S.REMEMBERED}) | _ANYTIME,
    _S.TRAINED: frozenset({_S.TRAINED, _S.VERIFIED, _S.QUEUED, _S.REMEMBERED}) | _ANYTIME,
    _S.VERIFIED: frozenset({_S.RETIRED, _S.REMEMBERED}) | _ANYTIME,
    _S.RETIRED: frozenset({_S.REMEMBERED}) | _ANYTIME,
    _S.QUARANTINED: _ANYTIME,
    **{state: frozenset() for state in FINAL},
}


def received(record: LessonRecord) -> LessonRecord:
    """The record with its first step written down, and that it is withheld if it is."""
    event = record.feedback_event
    steps: tuple[LessonStep, ...] = (
        LessonStep(_S.RECEIVED, "feedback_svc", event, "", record.create_time),
    )
    if record.state is not _S.RECEIVED:
        steps += (_own_step(record),)
    return replace(record, transitions=steps)


def decided(known: LessonRecord, news: LessonRecord) -> LessonRecord:
    """The record after a decision on its event: let in, turned down, amended, or shared."""
    if known.is_final:
        return replace(known, num_decisions=news.num_decisions)
    after = replace(
        known,
        adapter=news.adapter,
        consent=news.consent,
        question=news.question,
        answer=news.answer,
        paraphrases=news.paraphrases,
        subject_key=news.subject_key,
        num_decisions=news.num_decisions,
        update_time=news.update_time,
    )
    if known.state is not _S.QUARANTINED or news.state is _S.QUARANTINED:
        return after
    return replace(
        after,
        state=news.state,
        failure=news.failure if news.state is _S.REJECTED else "",
        transitions=_append(known.transitions, _own_step(news)),
    )


def erased(record: LessonRecord, time: datetime) -> LessonRecord:
    """The record with everything of its user gone, and never to change again."""
    step = LessonStep(_S.ERASED, "feedback_svc", record.feedback_event, "", time)
    return replace(
        record,
        state=_S.ERASED,
        user="",
        question="",
        answer="",
        paraphrases=(),
        subject_key="",
        memory="",
        update_time=time,
        transitions=_append(record.transitions, step),
    )


def _own_step(record: LessonRecord) -> LessonStep:
    return LessonStep(
        record.state, "feedback_svc", record.feedback_event, record.failure, record.update_time
    )


def advance(record: LessonRecord, step: LessonStep) -> LessonRecord:
    """The record after a step; the same object if the step does not apply."""
    if step.state is _S.REMEMBERED and step.service == "memory_svc" and record.memory:
        return record  # delivered again: memory remembers a lesson once
    if _is_late_memory(record, step):
        return replace(record, memory=step.resource, update_time=step.time)
    if _renews(record, step):
        return replace(record, **_named(step), update_time=step.time)
    if step.state not in _ALLOWED[record.state] or _is_repeated_queueing(record, step):
        return record
    return replace(
        record,
        state=step.state,
        update_time=step.time,
        transitions=_append(record.transitions, step),
        **(_step_back(step) if _goes_back(record, step) else _named(step)),
    )


@dataclass
class LessonFold:
    """Records of all tenants, built step by step.

    Lessons and steps travel in two streams, so a step may be read before its lesson; it waits here.
    """

    _records: dict[tuple[str, str], LessonRecord] = field(default_factory=dict)
    _early: dict[tuple[str, str], list[LessonStep]] = field(default_factory=dict)

    def receive(self, record: LessonRecord) -> LessonRecord | None:
        """Adds a lesson, or a decision on it; None if that is known: it counts once."""
        key = (record.tenant, record.name)
        known = self._records.get(key)
        if known is None:
            lesson = received(record)
        elif record.num_decisions > known.num_decisions:
            lesson = decided(known, record)
        else:
            return None
        if lesson.state is not _S.QUARANTINED:
            for step in self._early.pop(key, []):
                lesson = advance(lesson, step)
        self._records[key] = lesson
        return lesson

    def erase(self, record: LessonRecord, time: datetime) -> LessonRecord:
        """Forgets what a lesson said; `record` stands in for one that is not known any more."""
        key = (record.tenant, record.name)
        self._early.pop(key, None)
        lesson = self._records[key] = erased(self._records.get(key, record), time)
        return lesson

    def step(self, tenant: str, lesson: str, step: LessonStep) -> LessonRecord | None:
        """Takes a step; the changed record, or None if nothing changed (yet)."""
        key = (tenant, lesson)
        before = self._records.get(key)
        is_ahead = before is not None and (
            before.state is _S.QUARANTINED and step.state not in _ALLOWED[before.state]
        )
        if before is None or is_ahead:
            self._early.setdefault(key, []).append(step)
            return None
        after = advance(before, step)
        if after is before:
            return None
        self._records[key] = after
        return after

    def get(self, tenant: str, lesson: str) -> LessonRecord | None:
        return self._records.get((tenant, lesson))

    def records(self, tenant: str | None = None) -> list[LessonRecord]:
        """All lessons, or those of one tenant."""
        return [r for r in self._records.values() if tenant in (None, r.tenant)]


def _is_late_memory(record: LessonRecord, step: LessonStep) -> bool:
    """Memory wrote the lesson down after training had begun: worth noting, but no step back."""
    return (
        step.state is _S.REMEMBERED
        and step.service == "memory_svc"
        and record.state not in FINAL | {_S.RECEIVED}
    )


def _renews(record: LessonRecord, step: LessonStep) -> bool:
    """A later revision proves a lesson that was proven before."""
    return step.state is _S.VERIFIED and record.state in {_S.VERIFIED, _S.RETIRED}


def _is_repeated_queueing(record: LessonRecord, step: LessonStep) -> bool:
    """A request covers a lesson once; a copy read after the job ended must not queue it again."""
    return step.state is _S.QUEUED and any(
        t.state is _S.QUEUED and t.resource == step.resource for t in record.transitions
    )


def _goes_back(record: LessonRecord, step: LessonStep) -> bool:
    if step.state is _S.REMEMBERED:
        return record.state in _IN_WEIGHTS | {_S.QUEUED}
    return step.state is _S.QUEUED and record.state is _S.TRAINED


def _step_back(step: LessonStep) -> dict[str, Any]:
    fields = {**_named(step), "adapter_revision": "", "failure": step.reason}
    fields.pop("memory", None)
    return fields


def _named(step: LessonStep) -> dict[str, Any]:
    """The field that the step's resource belongs in, told by its name."""
    fields = {"failure": step.reason if step.state is _S.FAILED else ""}
    collection = step.resource.split("/", 1)[0]
    target = {
        "users": "memory",
        "trainingRequests": "training_request",
        "trainingJobs": "training_job",
        "datasets": "dataset",
        "evaluations": "evaluation",
        "adapters": "adapter_revision",
        "lessons": "superseded_by",
    }.get(collection)
    if target:
        fields[target] = step.resource
    return fields


def _append(transitions: tuple[LessonStep, ...], step: LessonStep) -> tuple[LessonStep, ...]:
    kept = (*transitions, step)
    if len(kept) <= MAX_TRANSITIONS:
        return kept
    return (kept[0], *kept[-(MAX_TRANSITIONS - 1) :])
