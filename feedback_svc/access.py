"""Which scopes the RPCs of this service need; how they are asked for is in `selm.access`."""

from dataclasses import replace

from feedback_svc import core
from selm import access
from selm.access import Rule
from selm.auth import Principal
from selm.errors import not_found

READ = "feedback.read"
WRITE = "feedback.write"
# For other users' feedback than the caller's own.
WRITE_ALL = "feedback.write_all"
EXPORT = "feedback.export"
REVIEW = "feedback.review"
TRAINING_READ = "training.read"
TRAINING_WRITE = "training.write"
OPS_READ = "ops.read"
OPS_WRITE = "ops.write"
ERASURE_READ = "erasure.read"
ERASURE_WRITE = "erasure.write"

_READ_OWN = Rule(READ, own=WRITE)

RULES: access.Rules = {
    # Whose it is may only be known once the generation is found: see `bounded`.
    "CreateFeedbackEvent": Rule(WRITE),
    "BatchCreateFeedbackEvents": Rule(WRITE),
    "GetFeedbackEvent": _READ_OWN,
    "ListFeedbackEvents": Rule(READ),
    "WatchFeedbackEvents": Rule(READ),
    "ExportFeedbackEvents": Rule(EXPORT),
    "GetLesson": _READ_OWN,
    "ListLessons": Rule(READ),
    "WatchLesson": _READ_OWN,
    "GetTrainingPolicy": Rule(TRAINING_READ),
    "UpdateTrainingPolicy": Rule(TRAINING_WRITE),
    "CreateTrainingRequest": Rule(TRAINING_WRITE),
    "GetTrainingRequest": Rule(TRAINING_READ),
    "ListTrainingRequests": Rule(TRAINING_READ),
    "UpdateTrainingRequest": Rule(TRAINING_WRITE),
    "CancelTrainingRequest": Rule(TRAINING_WRITE),
    "GetQueueStats": Rule(TRAINING_READ),
    "ListDeadLetters": Rule(OPS_READ),
    "ReplayDeadLetters": Rule(OPS_WRITE),
    "DiscardDeadLetters": Rule(OPS_WRITE),
    "ReplayFeedbackEvents": Rule(OPS_WRITE),
    # Deciding on one's own needs more: see `review.items`.
    "GetReviewItem": Rule(REVIEW),
    "ListReviewItems": Rule(REVIEW),
    "ApproveReviewItem": Rule(REVIEW),
    "RejectReviewItem": Rule(REVIEW),
    "AmendReviewItem": Rule(REVIEW),
    "GetConflict": Rule(REVIEW),
    "ListConflicts": Rule(REVIEW),
    "ResolveConflict": Rule(REVIEW),
    "GetAuthor": Rule(REVIEW),
    "ListAuthors": Rule(REVIEW),
    "UpdateAuthor": Rule(REVIEW),
    "CreateDataset": Rule(TRAINING_WRITE),
    "GetDataset": Rule(TRAINING_READ),
    "ListDatasets": Rule(TRAINING_READ),
    "ListDatasetExamples": Rule(EXPORT),
    "ExportDataset": Rule(EXPORT),
    "ForgetUser": Rule(ERASURE_WRITE),
    "GetErasure": Rule(ERASURE_READ),
    "ListErasures": Rule(ERASURE_READ),
    "WatchErasure": Rule(ERASURE_READ),
}

guarded = access.guarded_by(RULES)


def bounded(draft: core.Draft, caller: Principal) -> core.Draft:
    """The draft, for the caller's own user alone unless it may write for all."""
    return draft if caller.has_scope(WRITE_ALL) else replace(draft, only_for=caller.user)


def require_read(caller: Principal, name: str, author: str, user: str) -> None:
    """What is neither by the caller nor the caller's does not exist for whoever may only write."""
    if caller.subject != author and caller.user != user and not caller.has_scope(READ):
        raise not_found(name)
