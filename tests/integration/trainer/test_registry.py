"""Adapters, aliases and jobs under many writers, on a real JetStream KV."""

import asyncio
from dataclasses import replace

import pytest

from selm.errors import SelmError
from trainer_svc.core import (
    Artifact,
    Failure,
    LoraShape,
    Manifest,
    Move,
    Revision,
    RevisionState,
    now,
)
from trainer_svc.jobs import JobState, Order
from trainer_svc.registry.jobs import JobCancelled, JobDefaults
from trainer_svc.training.attempts import budget_s


def revision(number: int, state: RevisionState = RevisionState.ACCEPTED) -> Revision:
    """A stored revision of content `number`."""
    sha256 = f"{number:064x}"[::-1]
    manifest = Manifest(
        weights_sha256="a" * 64,
        config_sha256="b" * 64,
        base_model="models/tiny",
        base_sha256="c" * 64,
        lora=LoraShape(2, 4.0, 0.0, ("q_proj",), (0, 1)),
        dataset_id="d1",
        dataset_sha256="d" * 64,
        lessons_sha256="e" * 64,
        lesson_count=2,
        newest_lesson_time=now(),
        job_id="j1",
        evaluation_id="",
        objective="sft",
        from_base=True,
    )
    artifact = Artifact("nats://artifacts/x", "f" * 64, 10)
    return Revision(
        "default", "default", f"r{sha256[:16]}", state, sha256, "", manifest, artifact, now()
    )


def move(expected: str | None = None, request_id: str = "", content: str = "") -> Move:
    return Move("stable", expected, None, "test", "", request_id, content)


@pytest.fixture
async def revisions(bench):
    """Four accepted revisions, stored."""
    return [await bench.rooms.revisions.put(revision(number)) for number in range(1, 5)]


async def test_a_stored_revision_is_read_back_unchanged(bench) -> None:
    """By id and by digest; storing it again changes nothing."""
    stored = await bench.rooms.revisions.put(revision(7))
    again = await bench.rooms.revisions.put(replace(revision(7), create_time=now()))

    found = await bench.rooms.revisions.get("default", "default", stored.revision_id)
    assert found == stored == again
    by_digest = await bench.rooms.revisions.id_of_digest("default", "default", stored.sha256)
    assert by_digest == stored.revision_id


async def test_an_accepted_revision_is_never_taken_back_by_a_later_rejection(bench) -> None:
    """The same content judged twice: acceptance replaces rejection, not the reverse."""
    rejected = revision(8, RevisionState.REJECTED)
    assert (await bench.rooms.revisions.put(rejected)).state == "REJECTED"
    assert (await bench.rooms.revisions.put(revision(8))).state == "ACCEPTED"
    assert (await bench.rooms.revisions.put(rejected)).state == "ACCEPTED"


async def test_of_many_moves_with_one_expectation_exactly_one_wins(bench, revisions) -> None:
    """Compare-and-set: the others are told where the alias points now."""
    ids = [r.revision_id for r in revisions]
    await bench.rooms.adapters.move("default", "default", ids[0], move())
    outcomes = await asyncio.gather(
        *(
            bench.rooms.adapters.move("default", "default", target, move(expected=ids[0]))
            for target in ids[1:]
        ),
        return_exceptions=True,
    )

    lost = [outcome for outcome in outcomes if isinstance(outcome, SelmError)]
    alias = await bench.stable()
    assert [error.reason for error in lost] == ["STALE_REVISION"] * 2
    assert {error.metadata["actual"] for error in lost} == {
        f"adapters/default/revisions/{alias.revision_id}"
    }
    assert alias.epoch == 2


async def test_a_check_may_refuse_a_move_but_not_undo_one(bench, revisions) -> None:
    """A job that is repeated after a crash has moved the alias, whatever was taken back since."""
    target = revisions[0].revision_id

    async def refuse() -> None:
        raise SelmError("STATE_CONFLICT", "not any more")

    once = replace(move(), request_id="job:1")
    with pytest.raises(SelmError):
        await bench.rooms.adapters.move("default", "default", target, once, check=refuse)
    assert await bench.stable() is None
    moved = await bench.rooms.adapters.move("default", "default", target, once)
    again = await bench.rooms.adapters.move("default", "default", target, once, check=refuse)

    assert again.alias == moved.alias


async def test_unconditional_moves_all_count_and_none_is_lost(bench, revisions) -> None:
    """Ten writers, ten epochs."""
    await asyncio.gather(
        *(
            bench.rooms.adapters.move("default", "default", revisions[n % 4].revision_id, move())
            for n in range(10)
        )
    )

    assert (await bench.stable()).epoch == 10


async def test_a_repeated_request_moves_once_and_answers_the_same(bench, revisions) -> None:
    """Even after others moved on; with other content the id is refused."""
    first, second, third, _ = (r.revision_id for r in revisions)
    adapters = bench.rooms.adapters
    await adapters.move("default", "default", first, move())
    moved = await adapters.move("default", "default", second, move(request_id="q", content="x"))
    await adapters.move("default", "default", third, move())
    again = await adapters.move("default", "default", second, move(request_id="q", content="x"))

    assert again.alias == moved.alias
    assert (await bench.stable()).revision_id == third
    with pytest.raises(SelmError) as error:
        await adapters.move("default", "default", second, move(request_id="q", content="y"))
    assert error.value.reason == "REQUEST_ID_REUSED"


async def test_a_rejected_revision_is_aliased_only_by_force(bench) -> None:
    """GATE_FAILED otherwise, and the alias is not created."""
    rejected = await bench.rooms.revisions.put(revision(9, RevisionState.REJECTED))
    with pytest.raises(SelmError) as error:
        await bench.rooms.adapters.move("default", "default", rejected.revision_id, move())
    assert error.value.reason == "GATE_FAILED"
    assert await bench.stable() is None

    await bench.rooms.adapters.move("default", "default", rejected.revision_id, move(), force=True)
    assert (await bench.stable()).revision_id == rejected.revision_id


async def test_rolling_back_needs_somewhere_to_go(bench, revisions) -> None:
    """NO_PREVIOUS_REVISION for an alias that is absent, and for one that never moved."""
    for _ in range(2):
        with pytest.raises(SelmError) as error:
            await bench.rooms.adapters.roll_back("default", "default", "", move())
        assert error.value.reason == "NO_PREVIOUS_REVISION"
        await bench.rooms.adapters.move("default", "default", revisions[0].revision_id, move())


async def test_of_two_workers_that_claim_a_job_only_the_last_may_write(bench) -> None:
    """The first learns LEASE_LOST at its next write, with both fencing tokens."""
    jobs = bench.rooms.jobs
    job = await jobs.open(Order("default", "q1", "default"), JobDefaults())
    first = await jobs.claim("default", job.job_id, "one")
    second = await jobs.claim("default", job.job_id, "two")
    await second.save(state=JobState.PREPARING)
    with pytest.raises(SelmError) as error:
        await first.save(state=JobState.TRAINING)

    assert error.value.reason == "LEASE_LOST"
    assert error.value.metadata == {"lease_epoch": "1", "current_epoch": "2"}
    stored = await jobs.get("default", job.job_id)
    assert stored.state is JobState.PREPARING
    assert stored.attempts[0].failure.reason == "LEASE_LOST"


async def test_many_workers_claiming_at_once_get_rising_tokens(bench) -> None:
    """No two leases share a fencing token."""
    jobs = bench.rooms.jobs
    job = await jobs.open(Order("default", "q2", "default"), JobDefaults())
    leases = await asyncio.gather(
        *(jobs.claim("default", job.job_id, f"worker-{n}") for n in range(6))
    )

    assert sorted(lease.epoch for lease in leases) == [1, 2, 3, 4, 5, 6]


async def test_a_cancelled_job_stops_its_holder_at_the_next_write(bench) -> None:
    """Only the final state may still be written."""
    jobs = bench.rooms.jobs
    job = await jobs.open(Order("default", "q3", "default"), JobDefaults())
    lease = await jobs.claim("default", job.job_id, "one")
    await bench.rooms.desk.cancel("default", job.job_id)
    for _ in range(2):
        with pytest.raises(JobCancelled):
            await lease.save(state=JobState.PUBLISHING)

    await lease.end_attempt(JobState.CANCELLED, None)
    assert (await jobs.get("default", job.job_id)).state is JobState.CANCELLED
    assert await jobs.claim("default", job.job_id, "two") is None


async def test_a_request_delivered_twice_opens_one_job(bench) -> None:
    """The job's id follows from the request."""
    order = Order("default", "q4", "default", from_base=True)
    first = await bench.rooms.jobs.open(order, JobDefaults())
    second = await bench.rooms.jobs.open(order, JobDefaults())

    assert first == second
    assert first.from_base


async def test_a_failed_attempt_cannot_overwrite_an_acknowledged_cancellation(bench) -> None:
    """The job would be trained again although its caller was told that it stops."""
    jobs = bench.rooms.jobs
    job = await jobs.open(Order("default", "q5", "default"), JobDefaults())
    lease = await jobs.claim("default", job.job_id, "one")
    await bench.rooms.desk.cancel("default", job.job_id)
    with pytest.raises(JobCancelled):
        await lease.end_attempt(JobState.QUEUED, Failure("INTERNAL", "the child died"))

    assert (await jobs.get("default", job.job_id)).state is JobState.CANCELLING


async def test_time_in_which_nobody_worked_is_not_working_time(bench) -> None:
    """A dead worker's attempt ends with its last sign of life, not with the next claim."""
    jobs = bench.rooms.jobs
    job = await jobs.open(Order("default", "q6", "default"), JobDefaults())
    lease = await jobs.claim("default", job.job_id, "one")
    await asyncio.sleep(0.2)
    alive = await lease.save(state=JobState.TRAINING)
    await asyncio.sleep(0.5)
    again = (await jobs.claim("default", job.job_id, "two")).job

    assert again.attempts[0].end_time == alive.update_time
    assert again.max_duration_s - budget_s(again) < 0.5
