"""The rules of safety as this deployment wants them: what is redacted, what counts as a flood."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Literal

from feedback_svc import core
from feedback_svc.safety import screen as screening
from feedback_svc.safety.findings import repeated_by_many
from feedback_svc.safety.near_duplicates import FloodWindow
from feedback_svc.safety.redaction import Redacted, redact
from feedback_svc.safety.screen import Redactions
from feedback_svc.signals import Correction, Preference

Redaction = Literal["ALL", "SECRETS", "OFF"]
_PREFERRED_FIELD = "preference.chosen_text"


@dataclass(frozen=True)
class SafetyRules:
    """Fulfils intake.Rules."""

    redaction: Redaction
    # More authors than this teaching nearly the same within the window are a flood; 0 is off.
    max_authors_alike: int
    window_s: float
    _window: FloodWindow = field(init=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "_window", FloodWindow(self.window_s))

    def clean(self, text: str) -> Redacted:
        if self.redaction == "OFF":
            return Redacted(text)
        return redact(text, only_secrets=self.redaction == "SECRETS")

    def screen(
        self, signal: Correction | Preference, question: str, redactions: Redactions
    ) -> Sequence[core.Finding]:
        if isinstance(signal, Correction):
            return screening.screen(signal.question, signal.text, signal.paraphrases, redactions)
        return screening.screen(
            question, signal.chosen, redactions=redactions, answer_field=_PREFERRED_FIELD
        )

    def flood(
        self, tenant: str, author: str, signal: Correction, now: datetime
    ) -> Sequence[core.Finding]:
        if not self.max_authors_alike:
            return ()
        num_authors = self._window.note(tenant, author, signal.question, signal.text, now)
        if num_authors <= self.max_authors_alike:
            return ()
        return (repeated_by_many(num_authors, self.max_authors_alike),)
