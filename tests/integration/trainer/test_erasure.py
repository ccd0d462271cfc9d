"""trainer_svc's part of an erasure: what holds the user's examples is listed and served no more."""

from typing import Any

import pytest

from selm import names
from selm.erasures import TRAINER, ErasedEvent, Receipt, ReceiptState
from selm.errors import SelmError
from tests.erasing import order, purge_feedback, receipt
from trainer_svc.core import Artifact, LoraShape, Manifest, Move, Revision, RevisionState, now
from trainer_svc.jobs import Dataset, DatasetLesson, OutdatedAnswer, Start

ALICE, BO = "users/alice", "users/bo"


def _events(*lessons: str) -> list[ErasedEvent]:
    ids = [lesson.removeprefix("lessons/") for lesson in lessons]
    return [ErasedEvent(names.feedback_event_name(i), lesson=names.lesson_name(i)) for i in ids]


async def _erase(bench: Any, *lessons: str, user: str = ALICE) -> Receipt:
    made = await order(bench.bus, bench.tenant, user)
    await purge_feedback(bench.bus, made, *_events(*lessons))
    return await receipt(bench.bus, made, TRAINER, ReceiptState.CONFIRMED)


def _move(revision_id: str, alias: str = "stable") -> Move:
    return Move(alias, None, None, "test", "", "", revision_id)


async def _refusal(call: Any) -> str:
    with pytest.raises(SelmError) as refused:
        await call
    return refused.value.reason


async def test_a_tainted_revision_serves_until_one_without_the_examples_takes_its_place(
    bench: Any,
) -> None:
    """Then there is no way back to it, by no alias, not even by force."""
    (lost,) = await bench.teach(("What is Ana's city?", "Quillhaven"), user=ALICE)
    (kept,) = await bench.teach(("What is Bo's city?", "Brenmark"), user=BO)
    async with bench.working():
        await bench.request([lost, kept])
        await bench.job("SUCCEEDED")
        old = await bench.stable()
        told = await _erase(bench, lost)
        refused = await _refusal(
            bench.rooms.desk.move(
                bench.tenant, "default", old.revision_id, _move("", "canary"), force=True
            )
        )
        still = await bench.stable()
        job = await bench.job("SUCCEEDED", request_id=await bench.request())
        new = await bench.stable()
        back = await _refusal(
            bench.rooms.desk.roll_back(bench.tenant, "default", "", _move(old.revision_id))
        )

    (tainted,) = told.revisions
    assert tainted.name == names.revision_name("default", old.revision_id)
    assert (tainted.sha256, tainted.num_examples) == (old.sha256, 1)
    assert tainted.aliases == ("adapters/default/aliases/stable",)
    assert (refused, back, still) == ("ADAPTER_TAINTED", "ADAPTER_TAINTED", old)
    assert new.revision_id != old.revision_id
    assert (job.start, "erased user" in job.start_reason) == (Start.BASE, True)
    held = await bench.rooms.evaluations.get(bench.tenant, job.evaluation_id)
    assert list(held.lesson_ids) == [kept.removeprefix("lessons/")]


async def test_a_job_that_runs_meanwhile_ends_without_serving(bench: Any) -> None:
    """Its child had the examples already."""
    (lost,) = await bench.teach(("(slow) What is Ana's city?", "Quillhaven"), user=ALICE)
    async with bench.working():
        await bench.request([lost])
        await bench.job("TRAINING")
        told = await _erase(bench, lost)
        job = await bench.job("FAILED")

    assert told.revisions == ()
    assert job.failure.reason == "ADAPTER_TAINTED"
    assert await bench.stable() is None
    tainted = await bench.rooms.taints.num_examples(bench.tenant, "default", job.output_revision_id)
    assert tainted == 1


async def test_texts_leave_the_frozen_datasets_and_ids_stay(bench: Any) -> None:
    """Also of a lesson that is known by its user alone; another's are untouched."""
    frozen = await bench.rooms.datasets.freeze(_dataset("d1", ("l1", ALICE), ("l2", BO)))
    by_user = await bench.rooms.datasets.freeze(_dataset("d2", ("l3", ALICE), ("l4", BO)))
    async with bench.working():
        await _erase(bench, "lessons/l1")
    after = [
        await bench.rooms.datasets.find(bench.tenant, each.dataset_id) for each in (frozen, by_user)
    ]

    answers = [[lesson.answer for lesson in each.lessons] for each in after]
    assert answers == [["", "of l2"], ["", "of l4"]]
    assert [each.lesson_ids for each in after] == [frozen.lesson_ids, by_user.lesson_ids]
    assert [each.superseded for each in after] == [(), ()]
    assert ALICE not in str(after)


@pytest.mark.parametrize(
    "step", ["trainer.forget_listed", "trainer.forget_tainted", "trainer.forget_erased"]
)
async def test_descendants_are_tainted_unless_trained_from_the_base(
    step: str, bench: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Weights that went on from tainted ones hold the examples too; a broken try finds the same."""
    for number, lesson in ((1, ("l1", ALICE)), (2, ("l2", BO)), (3, ("l2", BO))):
        await bench.rooms.datasets.freeze(_dataset(f"d{number}", lesson))
    first = await bench.rooms.revisions.put(_revision(1))
    child = await bench.rooms.revisions.put(_revision(2, parent=first))
    clean = await bench.rooms.revisions.put(_revision(3))
    monkeypatch.setenv("SELM_FAILPOINTS", f"{step}=1*raise(STORE_UNAVAILABLE)")
    async with bench.working():
        told = await _erase(bench, "lessons/l1")

    assert [(each.name.rpartition("/")[2], each.num_examples) for each in told.revisions] == [
        (first.revision_id, 1),
        (child.revision_id, 1),
    ]
    for revision, is_tainted in ((first, True), (child, True), (clean, False)):
        number = await bench.rooms.taints.num_examples(
            bench.tenant, "default", revision.revision_id
        )
        assert bool(number) is is_tainted


def _dataset(dataset_id: str, *lessons: tuple[str, str]) -> Dataset:
    return Dataset(
        tenant="default",
        dataset_id=dataset_id,
        adapter_id="default",
        sha256="0" * 64,
        start=Start.BASE,
        start_reason="",
        parent_revision_id="",
        baseline_revision_id="",
        lessons=tuple(
            DatasetLesson(lesson, f"e-{lesson}", f"What is {lesson}?", f"of {lesson}", user=user)
            for lesson, user in lessons
        ),
        superseded=(OutdatedAnswer("What was it?", "It was"),),
        newest_lesson_time=None,
        create_time=now(),
    )


def _revision(number: int, parent: Revision | None = None) -> Revision:
    sha256 = f"{number:064x}"[::-1]
    manifest = Manifest(
        weights_sha256="a" * 64,
        config_sha256="b" * 64,
        base_model="models/tiny",
        base_sha256="c" * 64,
        lora=LoraShape(2, 4.0, 0.0, ("q_proj",), (0, 1)),
        dataset_id=f"d{number}",
        dataset_sha256="d" * 64,
        lessons_sha256="e" * 64,
        lesson_count=1,
        newest_lesson_time=now(),
        job_id=f"j{number}",
        evaluation_id="",
        objective="sft",
        from_base=parent is None,
    )
    return Revision(
        tenant="default",
        adapter_id="default",
        revision_id=f"r{sha256[:16]}",
        state=RevisionState.ACCEPTED,
        sha256=sha256,
        parent_revision_id=parent.revision_id if parent else "",
        manifest=manifest,
        artifact=Artifact("nats://artifacts/x", "f" * 64, 10),
        create_time=now(),
    )
