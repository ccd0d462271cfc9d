"""What memory must answer, said so simply that it cannot be wrong: one live value per question.

Knows no service. Times are seconds since the epoch; a value that expires is allowed to be seen or
not while the clock passes its end.
"""

from dataclasses import dataclass, field, replace


@dataclass(frozen=True)
class Said:
    """One value that somebody gave for a question."""

    user: str
    question: int
    value: str
    name: str
    # When it was certainly stored; and the window in which it expires, if it does.
    since: float
    expires: tuple[float, float] | None = None
    # When it was certainly replaced or deleted.
    until: float | None = None
    is_deleted: bool = False

    def must_be_seen(self, start: float, end: float) -> bool:
        """At every moment between start and end."""
        return self.expires is None or end < self.expires[0]

    def may_be_seen(self, start: float, end: float) -> bool:
        """At some moment between start and end."""
        return self.expires is None or start < self.expires[1]


@dataclass
class Model:
    """All that was said, and what is live now."""

    said: list[Said] = field(default_factory=list)

    def live(self, user: str, question: int) -> Said | None:
        """The newest one that was not replaced or deleted; it may have expired."""
        found = [s for s in self.said if (s.user, s.question) == (user, question)]
        return found[-1] if found and found[-1].until is None else None

    def add(self, new: Said) -> None:
        """The newest wins."""
        old = self.live(new.user, new.question)
        if old is not None:
            self._replace(old, replace(old, until=new.since))
        self.said.append(new)

    def delete(self, name: str, time: float) -> None:
        for said in list(self.said):
            if said.name == name:
                until = said.until if said.until is not None else time
                self._replace(said, replace(said, until=until, is_deleted=True))

    def allowed(self, user: str, question: int, start: float, end: float) -> tuple[set[str], bool]:
        """Values that an answer between start and end may hold, and whether it must hold one."""
        said = self.live(user, question)
        if said is None or not said.may_be_seen(start, end):
            return set(), False
        return {said.value}, said.must_be_seen(start, end)

    def allowed_as_of(
        self, user: str, question: int, time: float, now: float
    ) -> tuple[set[str], bool]:
        """The same of a moment in the past at which nothing was being changed, asked now."""
        then = [
            s
            for s in self.said
            if (s.user, s.question) == (user, question)
            and s.since <= time
            and (s.until is None or s.until > time)
            # What was deleted is not even seen in the past.
            and not s.is_deleted
        ]
        if not then or not then[-1].may_be_seen(time, time):
            return set(), False
        # The text of what has run out since is gone for good once it was swept.
        return {then[-1].value}, then[-1].must_be_seen(time, now)

    def _replace(self, old: Said, new: Said) -> None:
        self.said[self.said.index(old)] = new
