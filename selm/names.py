"""Resource names: how they are spelled, parsed and which ids they allow; owns no lookups."""

import re
import uuid
from functools import cache

GENERATION = "generations/{generation}"
ADAPTER = "adapters/{adapter}"
REVISION = "adapters/{adapter}/revisions/{revision}"
# A revision, or an alias read in its place.
REVISION_OR_ALIAS = "adapters/{adapter}/revisions/{revision_or_alias}"
ALIAS = "adapters/{adapter}/aliases/{alias}"
TRAINING_POLICY = "adapters/{adapter}/trainingPolicy"
LESSON = "lessons/{lesson}"
USER = "users/{user}"
CONVERSATION = "conversations/{conversation}"
MEMORY = "users/{user}/memories/{memory}"
FEEDBACK_EVENT = "feedbackEvents/{feedback_event}"
TRAINING_REQUEST = "trainingRequests/{training_request}"
TRAINING_JOB = "trainingJobs/{training_job}"
EVALUATION = "evaluations/{evaluation}"
DATASET = "datasets/{dataset}"
ERASURE = "erasures/{erasure}"
REEMBED_JOB = "reembedJobs/{reembed_job}"
MODEL = "models/{model}"
REPLICA = "replicas/{replica}"
DEAD_LETTER = "deadLetters/{dead_letter}"
REVIEW_ITEM = "reviewItems/{review_item}"
CONFLICT = "conflicts/{conflict}"
AUTHOR = "authors/{author}"

ANONYMOUS_USER = "users/anonymous"
# Of a request that is about all users of the tenant; it owns nothing.
EVERY_USER = "users/-"
DEFAULT_ADAPTER = "adapters/default"

_REVISION_ID = r"r[0-9a-f]{16}"
# An alias must never be taken for a revision.
_ALIAS_ID = rf"(?!{_REVISION_ID}(?![a-z0-9-]))[a-z][a-z0-9-]{{1,30}}"
_SERVER_ID = r"[A-Za-z0-9_-]{1,64}"
_ID_RULES = {
    "adapter": r"[a-z][a-z0-9-]{2,62}",
    "alias": _ALIAS_ID,
    "revision": _REVISION_ID,
    "revision_or_alias": rf"(?:{_REVISION_ID}|{_ALIAS_ID})",
    "user": r"[A-Za-z0-9._@-]{1,128}",
    "conversation": r"[A-Za-z0-9._@-]{1,128}",
    "author": r"[A-Za-z0-9._@-]{1,128}",
    "model": r"[a-z0-9][a-z0-9._-]{0,127}",
    "replica": r"[A-Za-z0-9._-]{1,128}",
}


def new_id() -> str:
    """A server-chosen id: 32 hex digits."""
    return uuid.uuid4().hex


def parse(pattern: str, name: str) -> tuple[str, ...] | None:
    """The ids of a name, in the order of the pattern's braces; None if the name does not fit."""
    match = _expression(pattern).fullmatch(name)
    return match.groups() if match else None


def is_id(kind: str, value: str) -> bool:
    """True if value is allowed as an id of this kind, e.g. "adapter"."""
    return re.fullmatch(id_rule(kind), value) is not None


def id_rule(kind: str) -> str:
    """The regular expression that ids of this kind match."""
    return _ID_RULES.get(kind, _SERVER_ID)


def format_name(pattern: str, *ids: str) -> str:
    """The name made of these ids, in the order of the pattern's braces."""
    parts = iter(ids)
    return re.sub(r"\{\w+\}", lambda _: next(parts), pattern)


@cache
def _expression(pattern: str) -> re.Pattern[str]:
    pieces = re.split(r"\{(\w+)\}", pattern)
    # Odd places hold the kinds.
    return re.compile(
        "".join(
            f"({id_rule(piece)})" if index % 2 else re.escape(piece)
            for index, piece in enumerate(pieces)
        )
    )


def generation_name(generation: str) -> str:
    return format_name(GENERATION, generation)


def adapter_name(adapter: str) -> str:
    return format_name(ADAPTER, adapter)


def revision_name(adapter: str, revision: str) -> str:
    return format_name(REVISION, adapter, revision)


def alias_name(adapter: str, alias: str) -> str:
    return format_name(ALIAS, adapter, alias)


def lesson_name(lesson: str) -> str:
    return format_name(LESSON, lesson)


def user_name(user: str) -> str:
    return format_name(USER, user)


def memory_name(user: str, memory: str) -> str:
    return format_name(MEMORY, user, memory)


def feedback_event_name(feedback_event: str) -> str:
    return format_name(FEEDBACK_EVENT, feedback_event)


def training_request_name(training_request: str) -> str:
    return format_name(TRAINING_REQUEST, training_request)


def training_job_name(training_job: str) -> str:
    return format_name(TRAINING_JOB, training_job)


def evaluation_name(evaluation: str) -> str:
    return format_name(EVALUATION, evaluation)


def dataset_name(dataset: str) -> str:
    return format_name(DATASET, dataset)


def erasure_name(erasure: str) -> str:
    return format_name(ERASURE, erasure)


def model_name(model: str) -> str:
    return format_name(MODEL, model)


def replica_name(replica: str) -> str:
    return format_name(REPLICA, replica)


def review_item_name(feedback_event: str) -> str:
    """An item has the id of the event that it is about."""
    return format_name(REVIEW_ITEM, feedback_event)


def conflict_name(conflict: str) -> str:
    return format_name(CONFLICT, conflict)


def author_name(author: str) -> str:
    return format_name(AUTHOR, author)


def training_policy_name(adapter: str) -> str:
    """The policy of `adapters/{adapter}`, which has one."""
    return f"{adapter}/trainingPolicy"
