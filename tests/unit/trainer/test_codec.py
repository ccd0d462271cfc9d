"""Records on the bus: canonical, complete, and readable by the neighbouring releases."""

import json
from dataclasses import dataclass
from datetime import UTC, datetime

import pytest

from trainer_svc.core import Failure
from trainer_svc.jobs import (
    Attempt,
    Dataset,
    DatasetLesson,
    JobState,
    OutdatedAnswer,
    Progress,
    Start,
    TrainingJob,
)
from trainer_svc.registry.codec import decode, encode

NOON = datetime(2030, 1, 1, 12, 30, 15, 250, tzinfo=UTC)
JOB = TrainingJob(
    tenant="default",
    job_id="j1",
    adapter_id="default",
    request_id="q1",
    state=JobState.TRAINING,
    create_time=NOON,
    update_time=NOON,
    start=Start.BASE,
    progress=Progress(3, 10, 0.5, 1.25, measure_time=NOON),
    attempts=(
        Attempt(1, "one", 1, NOON, 5, Failure("LEASE_LOST", "gone", {"a": "b"}, True, NOON), NOON),
        Attempt(2, "two", 2, NOON),
    ),
)


def test_a_record_is_read_back_equal() -> None:
    """Nested records, tuples, enums, times and absent values all survive."""
    assert decode(TrainingJob, encode(JOB)) == JOB


def test_a_dataset_is_read_back_equal() -> None:
    """Texts of any language keep their characters."""
    lesson = DatasetLesson("l1", "f1", "Où est Ōmi?", "近江\n", ("a", "b"), is_trained=False)
    dataset = Dataset(
        "default",
        "d1",
        "default",
        "00",
        Start.SERVING,
        "why",
        "r1",
        "r1",
        (lesson,),
        (OutdatedAnswer("q", "a"),),
        None,
        NOON,
    )

    assert decode(Dataset, encode(dataset)) == dataset


def test_equal_values_have_equal_bytes() -> None:
    """Digests are taken of them, so keys are sorted and nothing is added."""
    assert encode({"b": 1, "a": (1, 2)}) == encode({"a": [1, 2], "b": 1}) == b'{"a":[1,2],"b":1}'


def test_a_record_of_the_next_release_is_readable() -> None:
    """Unknown fields are ignored, absent ones take their default."""
    stored = json.loads(encode(JOB))
    stored["invented_later"] = {"x": 1}
    del stored["max_attempts"]

    assert decode(TrainingJob, json.dumps(stored).encode()) == JOB


def test_a_value_without_a_place_is_refused() -> None:
    """Nothing is stored by its repr."""

    @dataclass(frozen=True)
    class Odd:
        value: object

    with pytest.raises(TypeError):
        encode(Odd(object()))
