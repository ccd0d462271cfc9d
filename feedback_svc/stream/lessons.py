"""The live fold of lessons and those who watch it; fed by the Journal, does no input or output.

A watcher's buffer is bounded: one that does not read is let go, and never slows the fold.
"""

import asyncio
from collections.abc import AsyncGenerator, Iterable
from dataclasses import dataclass, field

from feedback_svc.stream.metrics import TO_SERVING_SECONDS, WATCHERS
from selm.errors import SelmError, not_found, unavailable
from selm.lesson_fold import LessonFold
from selm.lessons import LessonRecord, LessonState, LessonStep

MAX_BUFFERED_FRAMES = 64
_OPEN = frozenset({LessonState.RECEIVED, LessonState.REMEMBERED, LessonState.QUEUED})


@dataclass(eq=False)
class _Watcher:
    """One open watch; `is_too_slow` once its buffer overflowed."""

    # None once the lesson is lost.
    frames: asyncio.Queue[LessonRecord | None] = field(
        default_factory=lambda: asyncio.Queue(MAX_BUFFERED_FRAMES)
    )
    is_too_slow: bool = False

    def lose(self) -> None:
        while not self.frames.empty():
            self.frames.get_nowait()
        self.frames.put_nowait(None)


class LessonBook:
    """All lessons as they are now."""

    def __init__(self) -> None:
        self._fold = LessonFold()
        # Lessons that training has still to reach, by tenant and adapter: what the policy looks at.
        self._open: dict[tuple[str, str], dict[str, LessonRecord]] = {}
        self._open_at: dict[tuple[str, str], tuple[str, str]] = {}
        self._watchers: dict[tuple[str, str], set[_Watcher]] = {}
        # Steps replayed from history are no news to measure.
        self.is_live = False

    def receive(self, lesson: LessonRecord) -> None:
        self._changed(self._fold.receive(lesson))

    def erase(self, lesson: LessonRecord) -> None:
        """Forget what a lesson said; `lesson` stands in for one that is not known."""
        self._changed(self._fold.erase(lesson, lesson.update_time))

    def clear(self) -> None:
        """Forget everything, and end every watch: what was watched is not stored any more."""
        self._fold = LessonFold()
        self._open.clear()
        self._open_at.clear()
        for watchers in self._watchers.values():
            for watcher in watchers:
                watcher.lose()

    def step(self, tenant: str, lesson: str, step: LessonStep) -> None:
        after = self._fold.step(tenant, lesson, step)
        if after is None:
            return
        if self.is_live and step.state is LessonState.VERIFIED and after.transitions[-1] is step:
            TO_SERVING_SECONDS.observe((step.time - after.create_time).total_seconds())
        self._changed(after)

    def find(self, tenant: str, name: str) -> LessonRecord | None:
        return self._fold.get(tenant, name)

    def all_of(self, tenant: str) -> list[LessonRecord]:
        return self._fold.records(tenant)

    def open_groups(self) -> list[tuple[str, str]]:
        """Tenants and adapters with lessons that are not trained yet."""
        return list(self._open)

    def open_lessons(self, tenant: str, adapter: str) -> Iterable[LessonRecord]:
        return tuple(self._open.get((tenant, adapter), {}).values())

    async def watch(self, tenant: str, name: str) -> AsyncGenerator[LessonRecord, None]:
        """The lesson now, then after each step, until nothing more can come."""
        lesson = self._fold.get(tenant, name)
        if lesson is None:
            raise not_found(name)
        watcher = _Watcher()
        # NOTE: no await between reading the lesson and joining, or a step could fall between.
        self._watchers.setdefault((tenant, name), set()).add(watcher)
        WATCHERS.inc()
        try:
            yield lesson
            while not lesson.is_settled:
                lesson = await self._next(watcher)
                yield lesson
        finally:
            WATCHERS.dec()
            self._leave(tenant, name, watcher)

    async def _next(self, watcher: _Watcher) -> LessonRecord:
        if watcher.is_too_slow and watcher.frames.empty():
            raise SelmError(
                "CLIENT_TOO_SLOW",
                "the caller read too slowly; watch again for the present",
                metadata={"buffered_frames": str(MAX_BUFFERED_FRAMES)},
            )
        frame = await watcher.frames.get()
        if frame is None:
            raise unavailable("BUS_UNAVAILABLE", "NATS lost what it had stored", stream="FEEDBACK")
        return frame

    def _leave(self, tenant: str, name: str, watcher: _Watcher) -> None:
        watchers = self._watchers.get((tenant, name), set())
        watchers.discard(watcher)
        if not watchers:
            self._watchers.pop((tenant, name), None)

    def _changed(self, lesson: LessonRecord | None) -> None:
        if lesson is None:
            return
        self._index(lesson)
        for watcher in self._watchers.get((lesson.tenant, lesson.name), ()):
            if watcher.is_too_slow or watcher.frames.full():
                watcher.is_too_slow = True
            else:
                watcher.frames.put_nowait(lesson)

    def _index(self, lesson: LessonRecord) -> None:
        place = (lesson.tenant, lesson.name)
        # Where it was: a decision may have taken its adapter away.
        before = self._open_at.pop(place, None)
        if before is not None:
            self._open[before].pop(lesson.name, None)
            if not self._open[before]:
                del self._open[before]
        if lesson.may_train and lesson.state in _OPEN:
            key = (lesson.tenant, lesson.adapter)
            self._open.setdefault(key, {})[lesson.name] = lesson
            self._open_at[place] = key
