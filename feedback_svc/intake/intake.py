"""How an event starts: cleaned of secrets, looked at, and counted, withheld or held back.

Everything a person wrote is redacted before anything is stored. What would be learned from is
screened. Knows the rules by their ports; stores nothing.
"""

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from functools import cache
from typing import Protocol

from feedback_svc import core, learning
from feedback_svc.safety.findings import blocked_author
from feedback_svc.safety.redaction import Redacted
from feedback_svc.safety.screen import Redactions
from feedback_svc.signals import Correction, Kind, Preference, Signal, kind_of, texts_of, with_texts
from feedback_svc.stream.metrics import REDACTIONS, WITHHELD
from selm.lessons import Consent

# A phone number in an answer is replaced and the rest is as good as before: no reason to withhold.
_HARMLESS = frozenset({"PERSONAL_DATA"})
_LEARNED = frozenset({Kind.CORRECTION, Kind.PREFERENCE})


class Rules(Protocol):
    """The rules of safety; see intake.rules."""

    def clean(self, text: str) -> Redacted: ...

    def screen(
        self, signal: Correction | Preference, question: str, redactions: Redactions
    ) -> Sequence[core.Finding]: ...

    def flood(
        self, tenant: str, author: str, signal: Correction, now: datetime
    ) -> Sequence[core.Finding]: ...


class Authors(Protocol):
    """What is known of who gives feedback; answers at once."""

    def is_blocked(self, tenant: str, author: str) -> bool: ...


@dataclass(frozen=True)
class Intake:
    """Fulfils recorder.Judge."""

    rules: Rules
    policies: learning.Policies
    authors: Authors
    redacted: Callable[[core.Exchange, Callable[[str], str]], core.Exchange]

    def judge(
        self, record: core.FeedbackRecord, exchange: core.Exchange | None
    ) -> tuple[core.FeedbackRecord, core.Exchange | None]:
        """The event as it shall be stored, and its exchange, both clean."""
        # Most questions come twice, in the signal and in the exchange: read once, counted twice.
        clean = cache(self.rules.clean)
        texts, by_field = _clean_texts(record, clean)
        totals: Counter[str] = sum(map(Counter, by_field.values()), Counter())
        labels = {key: _counted(value, totals, clean) for key, value in record.labels.items()}
        if exchange is not None:
            exchange = self.redacted(exchange, lambda text: _counted(text, totals, clean))
        for kind, count in totals.items():
            REDACTIONS.labels(kind=kind).inc(count)
        signal = with_texts(record.signal, texts)
        record = replace(
            record,
            signal=signal,
            labels=labels,
            num_redactions=totals.total(),
            findings=tuple(self._findings(record, signal, exchange, by_field)),
        )
        return self._settled(record), exchange

    def _findings(
        self,
        record: core.FeedbackRecord,
        signal: Signal,
        exchange: core.Exchange | None,
        by_field: Mapping[str, Mapping[str, int]],
    ) -> list[core.Finding]:
        findings: list[core.Finding] = []
        if self.authors.is_blocked(record.tenant, record.author):
            findings.append(blocked_author())
        if isinstance(signal, Correction | Preference):
            question = exchange.question if exchange else ""
            findings.extend(self.rules.screen(signal, question, by_field))
        if isinstance(signal, Correction):
            findings.extend(
                self.rules.flood(record.tenant, record.author, signal, record.create_time)
            )
        return findings

    def _settled(self, record: core.FeedbackRecord) -> core.FeedbackRecord:
        policy = self.policies.policy_of(record.tenant, record.adapter)
        if policy.quorum_authors > 1 and record.consent >= Consent.SHARED_ADAPTER:
            record = replace(record, reach=Consent.PRIVATE_ADAPTER)
        kinds = sorted({one.kind for one in record.findings} - _HARMLESS)
        if kinds:
            for kind in kinds:
                WITHHELD.labels(kind=kind).inc()
            return _withheld(record, core.EventState.QUARANTINED, "QUARANTINED", kinds)
        if policy.review_required and kind_of(record.signal) in _LEARNED:
            return _withheld(record, core.EventState.IN_REVIEW, "REVIEW_REQUIRED", [])
        return record


def _clean_texts(
    record: core.FeedbackRecord, clean: Callable[[str], Redacted]
) -> tuple[dict[str, str], dict[str, Mapping[str, int]]]:
    cleaned = {field: clean(text) for field, text in texts_of(record.signal).items()}
    return (
        {field: one.text for field, one in cleaned.items()},
        {field: one.counts for field, one in cleaned.items() if one.counts},
    )


def _counted(text: str, totals: Counter[str], clean: Callable[[str], Redacted]) -> str:
    """The text, clean; what was taken out is added to the totals."""
    cleaned = clean(text)
    totals.update(cleaned.counts)
    return cleaned.text


def _withheld(
    record: core.FeedbackRecord, state: core.EventState, reason: str, kinds: Sequence[str]
) -> core.FeedbackRecord:
    metadata = {"finding": ",".join(kinds)} if kinds else {}
    message = "; ".join(
        dict.fromkeys(
            f"{one.field}: {one.detail}" if one.field else one.detail
            for one in record.findings
            if one.kind in kinds
        )
    )
    failure = core.Failure(
        reason=reason,
        message=message or f"{record.adapter} learns nothing before a reviewer approved it",
        metadata=metadata,
        time=record.create_time,
    )
    return replace(record, state=state, failure=failure, was_withheld=True)
