"""Reads of feedback and lessons to core: filters, pages, and where a stream goes on."""

from dataclasses import dataclass
from datetime import datetime

from feedback_svc import core, learning
from feedback_svc.paging import BY_UPDATE_TIME, Order, Page
from feedback_svc.signals import Kind
from feedback_svc.wire.checks import check_labels, check_name, published
from feedback_svc.wire.page import parse_page, query_digest, resumed
from selm import names, pages
from selm.api.feedback.v1 import feedback_event_pb2 as pb
from selm.api.feedback.v1 import feedback_service_pb2, lesson_service_pb2
from selm.api.feedback.v1.lesson_pb2 import Lesson
from selm.errors import Violations
from selm.lessons import Consent, LessonState

MAX_AUTHOR_BYTES = 256
_BY_SEQUENCE = Order(lambda event: (event.sequence, event.name), int)


@dataclass(frozen=True)
class EventWatch:
    """What is watched, and the position behind which it goes on."""

    wanted: core.EventFilter
    after: int | None
    digest: str

    def token_after(self, position: int) -> str:
        return pages.encode(self.digest, str(position))


@dataclass(frozen=True)
class EventExport:
    """What is exported; `until` is None at the first call, which then settles it."""

    wanted: core.EventFilter
    after: int
    until: int | None
    digest: str

    def token_after(self, sequence: int, until: int) -> str:
        return pages.encode(self.digest, f"{sequence}/{until}")


def parse_list_events(
    request: feedback_service_pb2.ListFeedbackEventsRequest, tenant: str
) -> Page[core.EventFilter, int]:
    found = Violations()
    wanted = parse_event_filter(found, request.filter)
    return parse_page(found, request, tenant, wanted, _BY_SEQUENCE)


def parse_watch_events(
    request: feedback_service_pb2.WatchFeedbackEventsRequest, tenant: str
) -> EventWatch:
    found = Violations()
    wanted = parse_event_filter(found, request.filter)
    found.raise_if_any()
    digest = query_digest(request, tenant)
    cursor = resumed(request.resume_token, digest)
    return EventWatch(wanted, int(cursor) if cursor else None, digest)


def parse_export_events(
    request: feedback_service_pb2.ExportFeedbackEventsRequest, tenant: str
) -> EventExport:
    found = Violations()
    wanted = parse_event_filter(found, request.filter)
    found.raise_if_any()
    digest = query_digest(request, tenant)
    cursor = resumed(request.resume_token, digest)
    if not cursor:
        return EventExport(wanted, 0, None, digest)
    after, _, until = cursor.partition("/")
    return EventExport(wanted, int(after), int(until), digest)


def parse_list_lessons(
    request: lesson_service_pb2.ListLessonsRequest, tenant: str
) -> Page[learning.LessonFilter, datetime]:
    found, asked = Violations(), request.filter
    states = published(found, "filter.states", asked.states, Lesson.State)
    check_name(found, names.ADAPTER, asked.adapter, "filter.adapter")
    check_name(found, names.REVISION, asked.adapter_revision, "filter.adapter_revision")
    check_name(found, names.USER, asked.user, "filter.user")
    check_name(found, names.TRAINING_JOB, asked.training_job, "filter.training_job")
    wanted = learning.LessonFilter(
        states=frozenset(
            LessonState(Lesson.State.Name(state).removeprefix("STATE_")) for state in states
        ),
        adapter=asked.adapter,
        adapter_revision=asked.adapter_revision,
        user=asked.user,
        training_job=asked.training_job,
    )
    return parse_page(found, request, tenant, wanted, BY_UPDATE_TIME)


def parse_event_filter(
    found: Violations, asked: pb.FeedbackFilter, field: str = "filter"
) -> core.EventFilter:
    """Conditions in the words of core; what is wrong with them is noted under `field`."""
    kinds = published(found, f"{field}.kinds", asked.kinds, pb.FeedbackKind)
    states = published(found, f"{field}.states", asked.states, pb.FeedbackEvent.State)
    check_name(found, names.GENERATION, asked.generation, f"{field}.generation")
    check_name(found, names.CONVERSATION, asked.conversation, f"{field}.conversation")
    check_name(found, names.ADAPTER, asked.adapter, f"{field}.adapter")
    check_name(found, names.REVISION, asked.adapter_revision, f"{field}.adapter_revision")
    check_name(found, names.USER, asked.user, f"{field}.user")
    is_short = len(asked.author.encode()) <= MAX_AUTHOR_BYTES
    found.check(is_short, f"{field}.author", f"at most {MAX_AUTHOR_BYTES} bytes")
    is_known = asked.min_consent in pb.Consent.values()
    found.check(is_known, f"{field}.min_consent", "must be one of the published values")
    check_labels(found, f"{field}.labels", asked.labels)
    for name in ("first_sequence", "last_sequence"):
        is_fit = getattr(asked, name) >= 0
        found.check(is_fit, f"{field}.{name}", "must not be negative")
    return core.EventFilter(
        kinds=frozenset(map(Kind, kinds)),
        states=frozenset(map(core.EventState, states)),
        generation=asked.generation,
        conversation=asked.conversation,
        adapter=asked.adapter,
        adapter_revision=asked.adapter_revision,
        user=asked.user,
        author=asked.author,
        min_consent=Consent(asked.min_consent) if is_known and asked.min_consent else None,
        labels=dict(asked.labels),
        first_sequence=asked.first_sequence,
        last_sequence=asked.last_sequence,
    )
