"""What review has to know of all events: who said what, what was decided; fed by the Journal.

A fold like EventBook, which it listens to: no input or output, and nothing in it is stored.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import NamedTuple

from feedback_svc import core
from feedback_svc.signals import Correction
from selm.lessons import Consent
from selm.questions import subject_key


class Subject(NamedTuple):
    """What authors may disagree on: one question, for one adapter."""

    tenant: str
    adapter: str
    key: str


@dataclass
class Tally:
    """What became of an author's events."""

    num_accepted: int = 0
    num_rejected: int = 0
    # Of those accepted, how many a reviewer let in as they were sent.
    num_approved: int = 0
    update_time: datetime | None = None

    @property
    def judged(self) -> tuple[int, int]:
        """What moves the author's trust."""
        return self.num_approved, self.num_rejected

    def count(self, record: core.FeedbackRecord, by: int) -> None:
        is_accepted = record.state is core.EventState.ACCEPTED
        self.num_accepted += by * is_accepted
        self.num_rejected += by * (record.state is core.EventState.REJECTED)
        is_approved = is_accepted and record.was_withheld and record.original is None
        self.num_approved += by * is_approved


@dataclass
class ReviewBook:
    """Events by author and by subject, each as after its newest decision."""

    _known: dict[tuple[str, str], core.FeedbackRecord] = field(default_factory=dict)
    _tallies: dict[str, dict[str, Tally]] = field(default_factory=dict)
    _subjects: dict[Subject, dict[str, core.FeedbackRecord]] = field(default_factory=dict)
    # The reviewer's decision by tenant and event: a later one, of the quorum, hides it otherwise.
    _decisions: dict[tuple[str, str], core.Decision] = field(default_factory=dict)
    # What each author speaks about: all of it weighs otherwise when his trust moves.
    _spoken: dict[tuple[str, str], set[Subject]] = field(default_factory=dict)
    # Tenants and adapters of all subjects there ever were.
    adapters: set[tuple[str, str]] = field(default_factory=set)
    _news: set[Subject] = field(default_factory=set)
    # Tenants and adapters to look at again; "" is all adapters.
    _again: set[tuple[str, str]] = field(default_factory=set)
    _position: int = 0

    @property
    def news(self) -> set[Subject]:
        """Subjects with news since they were taken out of here to be looked at."""
        if self._again:
            self._news.update(
                subject
                for subject in self._subjects
                if self._again & {(subject.tenant, ""), (subject.tenant, subject.adapter)}
            )
            self._again.clear()
        return self._news

    def hear(self, record: core.FeedbackRecord, position: int) -> None:
        """Fulfils event_book.Listener."""
        if position < self._position:
            self._forget()
        self._position = position
        key = (record.tenant, record.name)
        before = self._known.get(key)
        tally = self._tallies.setdefault(record.tenant, {}).setdefault(record.author, Tally())
        judged_before = tally.judged
        if before is not None:
            tally.count(before, -1)
            self._leave(before)
        tally.count(record, 1)
        decision = record.decision
        tally.update_time = decision.time if decision else record.create_time
        if record.was_withheld and not record.state.is_withheld and decision is not None:
            self._decisions.setdefault(key, decision)
        self._known[key] = record
        self._join(record)
        if tally.judged != judged_before:
            self._news.update(self._spoken.get((record.tenant, record.author), ()))

    def decision_on(self, record: core.FeedbackRecord) -> core.Decision | None:
        """The reviewer's, of an event that was withheld."""
        return self._decisions.get((record.tenant, record.name))

    def tallies(self, tenant: str) -> Mapping[str, Tally]:
        return self._tallies.get(tenant, {})

    def statements(self, subject: Subject) -> list[core.FeedbackRecord]:
        """The corrections that count about a subject and may be shared, oldest first."""
        records = self._subjects.get(subject, {}).values()
        return sorted(records, key=lambda record: record.sequence)

    def look_again(self, tenant: str, adapter: str = "") -> None:
        """What was set about a tenant's authors or conflicts changed, or an adapter's policy."""
        self._again.add((tenant, adapter))

    def _join(self, record: core.FeedbackRecord) -> None:
        subject = subject_of(record)
        if subject is not None and record.state is core.EventState.ACCEPTED:
            self._subjects.setdefault(subject, {})[record.name] = record
            self._spoken.setdefault((record.tenant, record.author), set()).add(subject)
            self.adapters.add((subject.tenant, subject.adapter))
            self._news.add(subject)

    def _leave(self, record: core.FeedbackRecord) -> None:
        subject = subject_of(record)
        group = self._subjects.get(subject, {}) if subject else {}
        if subject is not None and group.pop(record.name, None) is not None:
            self._news.add(subject)
            if all(other.author != record.author for other in group.values()):
                self._spoken[record.tenant, record.author].discard(subject)
            if not group:
                del self._subjects[subject]

    def _forget(self) -> None:
        """The broker lost what it had stored, and is read anew."""
        for fold in (self._known, self._tallies, self._subjects, self._decisions, self._spoken):
            fold.clear()
        self._news.clear()


def subject_of(record: core.FeedbackRecord) -> Subject | None:
    """What the event is a statement about; None if it stays with its user in any case."""
    if not isinstance(record.signal, Correction) or record.consent < Consent.SHARED_ADAPTER:
        return None
    return Subject(record.tenant, record.adapter, subject_key(record.signal.question))
