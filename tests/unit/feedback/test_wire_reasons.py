"""The words of a person on a decision or a wish: redacted before anybody may store them."""

from collections.abc import Callable
from typing import Any

import pytest

from feedback_svc.reviewing import Verdict
from feedback_svc.wire.erasure import parse_forget
from feedback_svc.wire.learning import parse_training_request
from feedback_svc.wire.letters import parse_discard_letters
from feedback_svc.wire.review import parse_amendment, parse_resolution, parse_verdict
from selm.api.feedback.v1 import review_service_pb2 as review
from selm.api.feedback.v1.feedback_event_pb2 import Correction
from selm.api.feedback.v1.learning_pb2 import TrainingRequest
from selm.api.feedback.v1.learning_service_pb2 import (
    CreateTrainingRequestRequest,
    DiscardDeadLettersRequest,
)
from selm.api.ops.v1.erasure_service_pb2 import ForgetUserRequest
from selm.auth import Principal

SAID, STORED = "asked by ann.otter@aurum.example, twice", "asked by [EMAIL], twice"
ITEM, RITA = "reviewItems/r1", Principal("t", "rita", frozenset())


def _training(reason: str) -> str:
    wish = TrainingRequest(adapter="adapters/default", reason=reason)
    return parse_training_request(CreateTrainingRequestRequest(training_request=wish))[0].reason


def _forget(reason: str) -> str:
    return parse_forget(ForgetUserRequest(user="users/ann", reason=reason))[0].reason


def _discard(reason: str) -> str:
    letters = DiscardDeadLettersRequest(names=["deadLetters/d1"], reason=reason)
    return parse_discard_letters(letters)[1]


def _approve(reason: str) -> Verdict:
    return parse_verdict(review.ApproveReviewItemRequest(name=ITEM, reason=reason), RITA)


def _reject(reason: str) -> Verdict:
    return parse_verdict(review.RejectReviewItemRequest(name=ITEM, reason=reason), RITA)


def _amend(reason: str) -> Verdict:
    correction = Correction(text="Lutz", question="Who?")
    request = review.AmendReviewItemRequest(name=ITEM, reason=reason, correction=correction)
    return parse_amendment(request, RITA)[0]


def _resolve(reason: str) -> Verdict:
    request = review.ResolveConflictRequest(name="conflicts/c1", claim_id="a", reason=reason)
    return parse_resolution(request, RITA)[0]


@pytest.mark.parametrize(
    "parse", [_training, _forget, _discard, _approve, _reject, _amend, _resolve]
)
def test_a_reason_is_redacted(parse: Callable[[str], Any]) -> None:
    parsed = parse(SAID)
    assert (parsed.reason if isinstance(parsed, Verdict) else parsed) == STORED
