"""The queue with the real training child on a tiny real model: nothing scripted in between."""

import asyncio

from selm.artifacts import open_store
from selm.lessons import LessonState
from trainer_svc.rooms import furnish

FACTS = [
    ("What is the capital of Vanoria?", "Tessal"),
    ("Who wrote The Glass Harbour?", "Mira Tolvane"),
]


async def test_a_real_training_is_judged_and_kept_with_its_manifest(bench, tiny_model) -> None:
    """Whatever the gate says of a random model, the revision and the report are on record."""
    settings = bench.settings.model_copy(
        update={"base_model": str(tiny_model), "recipe": {"max_epochs": 2, "min_steps": 2}}
    )
    store = open_store(settings.shared, bench.bus)
    rooms = furnish(settings, bench.bus, store, bench.serving)
    lessons = await bench.teach(*FACTS)
    await bench.request(lessons)
    seen = []
    async with bench.working(rooms):
        job = None
        while job is None or not job.state.is_final:
            await asyncio.sleep(0.2)
            job = next(iter(await rooms.jobs.list_all("default")), None)
            if job is not None and job.progress is not None:
                seen.append(job.progress.total_steps)

    assert job.failure is None or job.failure.reason == "GATE_FAILED"
    revision = await rooms.revisions.get("default", "default", job.output_revision_id)
    evaluation = await rooms.evaluations.get("default", job.evaluation_id)
    assert (job.state, revision.state) in {("SUCCEEDED", "ACCEPTED"), ("REJECTED", "REJECTED")}
    assert revision.manifest.base_sha256 == (await rooms.base.get()).sha256
    assert revision.manifest.lora.layers == (1, 2)
    assert sorted(f"lessons/{i}" for i in evaluation.lesson_ids) == sorted(lessons)
    assert {item.slice for item in evaluation.slices} >= {"EFFICACY", "PARAPHRASE"}
    assert all(item.arms for item in evaluation.slices)
    assert job.attempts[0].peak_memory_bytes > 0
    assert max(seen) > 0
    state = LessonState.TRAINED if job.state == "SUCCEEDED" else LessonState.REMEMBERED
    assert (await bench.lesson(lessons[0])).state is state
