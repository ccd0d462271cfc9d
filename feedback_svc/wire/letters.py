"""Requests about dead letters and redeliveries, in the words of core."""

from collections.abc import Sequence
from datetime import datetime

from feedback_svc import core
from feedback_svc.dead_letters import LetterFilter, LetterState, Redelivery
from feedback_svc.paging import BY_CREATE_TIME, Page
from feedback_svc.wire.checks import check_name, parse_reason, published, request_key
from feedback_svc.wire.page import parse_page
from selm import names, streams
from selm.api.feedback.v1.learning_pb2 import DeadLetter
from selm.api.feedback.v1.learning_service_pb2 import (
    DiscardDeadLettersRequest,
    ListDeadLettersRequest,
    ReplayDeadLettersRequest,
    ReplayFeedbackEventsRequest,
)
from selm.errors import Violations

EVERY_LETTER = "deadLetters/-"
MAX_LETTERS = 500
# trainer_svc reads all feedback anew for every training: it has nothing to be replayed.
CONSUMERS = ("memory_svc",)


def parse_list_letters(
    request: ListDeadLettersRequest, tenant: str
) -> Page[LetterFilter, datetime]:
    found = Violations()
    states = published(found, "states", request.states, DeadLetter.State)
    is_known = any(request.stream == spec.name for spec in streams.STREAMS)
    found.check(not request.stream or is_known, "stream", "must be the name of a stream")
    wanted = frozenset(
        LetterState(DeadLetter.State.Name(state).removeprefix("STATE_")) for state in states
    )
    filter_ = LetterFilter(wanted or frozenset({LetterState.OPEN}), request.stream)
    return parse_page(found, request, tenant, filter_, BY_CREATE_TIME)


def parse_replay_letters(
    request: ReplayDeadLettersRequest,
) -> tuple[tuple[str, ...], core.RequestKey | None]:
    """Ids of the letters; none for all open ones."""
    found, chosen = Violations(), list(request.names)
    if chosen != [EVERY_LETTER]:
        _check_names(found, chosen)
    content = "\n".join(chosen).encode()
    key = request_key("ReplayDeadLetters", request.request_id, content, found)
    found.raise_if_any()
    return _ids(chosen), key


def parse_discard_letters(
    request: DiscardDeadLettersRequest,
) -> tuple[tuple[str, ...], str, core.RequestKey | None]:
    found, chosen = Violations(), list(request.names)
    _check_names(found, chosen)
    reason = parse_reason(found, "reason", request.reason, required=True)
    content = "\n".join([*chosen, request.reason]).encode()
    key = request_key("DiscardDeadLetters", request.request_id, content, found)
    found.raise_if_any()
    return _ids(chosen), reason, key


def parse_replay_events(
    request: ReplayFeedbackEventsRequest,
) -> tuple[Redelivery, core.RequestKey | None]:
    found, first, last = Violations(), request.first_sequence, request.last_sequence
    found.check(first > 0, "first_sequence", "required: at least 1")
    is_fit = last == 0 or last >= first
    found.check(is_fit, "last_sequence", "0, or not below first_sequence")
    is_known = request.consumer in CONSUMERS
    found.check(is_known, "consumer", f"must be one of {', '.join(CONSUMERS)}")
    content = f"{first}\n{last}\n{request.consumer}".encode()
    key = request_key("ReplayFeedbackEvents", request.request_id, content, found)
    found.raise_if_any()
    return Redelivery(first, last, request.consumer), key


def _check_names(found: Violations, chosen: Sequence[str]) -> None:
    found.check(0 < len(chosen) <= MAX_LETTERS, "names", f"1 to {MAX_LETTERS}")
    for index, name in enumerate(chosen):
        check_name(found, names.DEAD_LETTER, name, f"names[{index}]", required=True)
        found.check(name != EVERY_LETTER, f"names[{index}]", f"{EVERY_LETTER} stands alone")


def _ids(chosen: Sequence[str]) -> tuple[str, ...]:
    """Each once, in the order given."""
    named = (name for name in dict.fromkeys(chosen) if name != EVERY_LETTER)
    return tuple((names.parse(names.DEAD_LETTER, name) or ("",))[0] for name in named)
