"""All events as they are now: by name, in order, by content; fed by the Journal, does no io."""

from collections.abc import Callable
from dataclasses import replace
from datetime import datetime

from feedback_svc import core
from feedback_svc.signals import Comment
from selm.lessons import Consent

_NOTHING = Comment("")
_EPOCH = datetime.fromtimestamp(0).astimezone()

# Hears the event as it is now, and the place in the stream of what was read about it.
Listener = Callable[[core.FeedbackRecord, int], None]


class EventBook:
    """The fold of stream FEEDBACK, and who wants to hear of each change."""

    def __init__(self) -> None:
        # Of each tenant by name, in the order in which they were recorded.
        self._events: dict[str, dict[str, core.FeedbackRecord]] = {}
        # Who says what about what: the same again under another request id is a duplicate.
        self._names: dict[tuple[str, str, str, str], str] = {}
        self._listeners: list[Listener] = []

    def __len__(self) -> int:
        return sum(map(len, self._events.values()))

    def find(self, tenant: str, name: str) -> core.FeedbackRecord | None:
        return self._events.get(tenant, {}).get(name)

    def of_tenant(self, tenant: str) -> list[core.FeedbackRecord]:
        """Events by sequence; erased ones stand where they were recorded, if that is known."""
        return list(self._events.get(tenant, {}).values())

    def tenants(self) -> list[str]:
        return list(self._events)

    def same_content(
        self, tenant: str, author: str, target: str, digest: str
    ) -> core.FeedbackRecord | None:
        """What this author already said with the same words about the same answer."""
        name = self._names.get((tenant, author, target, digest))
        return self.find(tenant, name) if name else None

    def add(self, record: core.FeedbackRecord) -> bool:
        """Take an event or a decision on it; False if it was known: it counts once."""
        known = self.find(record.tenant, record.name)
        if known is not None:
            if record.num_decisions <= known.num_decisions or known.state is core.EventState.ERASED:
                return False
            record = _after_decision(known, record)
        self._events.setdefault(record.tenant, {})[record.name] = record
        if record.digest:
            content = (record.tenant, record.author, record.target, record.digest)
            self._names.setdefault(content, record.name)
        return True

    def erase(self, tenant: str, erased: core.Erased) -> core.FeedbackRecord:
        """Keep of an event what tells a repeat of it, and nothing that was said."""
        known = self.find(tenant, erased.name)
        record = _without_content(known) if known else _stand_in(tenant, erased)
        self._events.setdefault(tenant, {})[record.name] = record
        content = (tenant, record.author, record.target, record.digest)
        self._names.setdefault(content, record.name)
        return record

    def clear(self) -> None:
        self._events.clear()
        self._names.clear()

    def listen(self, listener: Listener) -> Callable[[], None]:
        """Hear of every event and decision, in the order of the stream; returns how to stop."""
        self._listeners.append(listener)
        return lambda: self._listeners.remove(listener)

    def tell(self, tenant: str, name: str, sequence: int) -> None:
        """The stream has been read past an event, a decision on it or its erasure."""
        record = self.find(tenant, name)
        if record is not None:
            for listener in tuple(self._listeners):
                listener(record, sequence)


def _after_decision(known: core.FeedbackRecord, news: core.FeedbackRecord) -> core.FeedbackRecord:
    is_amended = news.signal != known.signal
    return replace(
        news,
        sequence=known.sequence,
        was_withheld=known.was_withheld or news.was_withheld,
        original=known.original or (known.signal if is_amended else None),
    )


def _without_content(record: core.FeedbackRecord) -> core.FeedbackRecord:
    return replace(
        record,
        signal=_NOTHING,
        user="",
        labels={},
        state=core.EventState.ERASED,
        findings=(),
        failure=None,
        decision=None,
        original=None,
        was_withheld=False,
    )


def _stand_in(tenant: str, erased: core.Erased) -> core.FeedbackRecord:
    """An event that was purged before this process started."""
    is_conversation = erased.target.startswith("conversations/")
    return core.FeedbackRecord(
        tenant=tenant,
        name=erased.name,
        signal=_NOTHING,
        generation="" if is_conversation else erased.target,
        conversation=erased.target if is_conversation else "",
        user="",
        adapter="",
        consent=Consent.MEMORY_ONLY,
        labels={},
        author=erased.author,
        adapter_revision="",
        lesson=erased.lesson,
        event_time=_EPOCH,
        create_time=_EPOCH,
        state=core.EventState.ERASED,
        digest=erased.digest,
    )
