"""Freezing feedback into datasets, and listing them, on a real nats-server."""

import asyncio
import uuid
from typing import Any

import grpc

from selm.api.feedback.v1 import dataset_pb2, feedback_event_pb2
from tests.integration.feedback.datasets_client import (
    DOWN,
    UP,
    Datasets,
    Filter,
    Format,
    datasets,
    elsewhere,
    left_out,
    mix,
    say,
    teach,
)
from tests.integration.feedback.review_client import OVERRIDE, Person, item_of, refused, rita

__all__ = ["datasets", "elsewhere", "rita"]


async def test_what_may_not_train_is_left_out_and_counted(
    rita: Person, peers: Any, datasets: Datasets
) -> None:
    """Each reason once, beside two examples; the provenance of an example names its event."""
    anna, bob = rita.named("anna"), rita.named("bob")
    question = "Who leads Aurum?"
    await anna.correct(await peers.generate(question), "Mara")
    kept = await anna.correct(await peers.generate(question), "Ida")
    await anna.correct(await peers.generate("Who leads Bolm?"), OVERRIDE)
    refused_one = await anna.correct(await peers.generate("Who leads Carn?"), OVERRIDE)
    await rita.reject(item_of(refused_one), "an attack")
    consent = feedback_event_pb2.CONSENT_MEMORY_ONLY
    await anna.correct(await peers.generate("Who leads Dorn?"), "Dora", consent=consent)
    generation = await peers.generate("Who leads Elm?", "Emil.")
    for thumbs in (UP, DOWN):
        await say(bob, generation, thumbs=thumbs)
    await say(rita.named("carl"), generation, thumbs=DOWN)
    await say(bob, generation, comment=feedback_event_pb2.Comment(text="hm"))
    dataset = await datasets.freeze()

    assert left_out(dataset) == {
        "CONSENT_MISSING": 1,
        "FEEDBACK_DUPLICATE": 1,
        "REVIEW_REJECTED": 1,
        "REVIEW_REQUIRED": 1,
        "SUPERSEDED": 2,
    }
    examples = await datasets.examples(dataset.name)
    assert [e.completion for e in examples] == ["Ida", "Emil."]
    first = examples[0]
    assert (first.feedback_event, first.lesson, first.author, first.index) == (
        kept.name, kept.lesson, "anna", 0,
    )  # fmt: skip
    assert (examples[1].label, examples[1].HasField("label")) == (False, True)
    assert not first.HasField("label")
    assert dataset.example_count == sum(count.example_count for count in dataset.counts) == 2


async def test_an_author_fills_no_more_than_the_share(
    rita: Person, peers: Any, datasets: Datasets
) -> None:
    await teach(rita, peers, 4, "anna")
    await teach(rita, peers, 1, "bob")
    dataset = await datasets.freeze(max_author_share=0.5)
    assert (dataset.example_count, left_out(dataset)) == (2, {"AUTHOR_SHARE_EXCEEDED": 3})


async def test_the_same_is_frozen_alike_by_another_process_and_never_changes(
    rita: Person, peers: Any, datasets: Datasets, elsewhere: Any
) -> None:
    """Same spec, feedback and seed: same digests; later feedback changes no frozen dataset."""
    await teach(rita, peers, 6)
    await mix(rita, peers)
    first = await datasets.freeze(holdout_share=0.4, seed=7)
    before = await datasets.frames(first.name, format=Format.FORMAT_FULL)
    bounds = Filter(last_sequence=first.last_sequence)
    await teach(rita, peers, 2, "bob")
    await rita.named("anna").correct(await peers.generate("Who leads Aurum?"), "Someone else")

    async with elsewhere() as (theirs, _):
        again = await theirs.freeze(holdout_share=0.4, seed=7, filter=bounds)
        assert (again.sha256, again.example_count) == (first.sha256, first.example_count)
        assert again.name != first.name
        assert await theirs.get(first.name) == first
        same = await theirs.frames(first.name, format=Format.FORMAT_FULL)
    seeded = await datasets.freeze(holdout_share=0.4, seed=8, filter=bounds)

    assert [frame.json for frame in same] == [frame.json for frame in before]
    assert seeded.sha256 != first.sha256
    assert (await datasets.freeze()).example_count > first.example_count


async def test_examples_come_in_pages_and_splits(
    rita: Person, peers: Any, datasets: Datasets
) -> None:
    await teach(rita, peers, 7)
    dataset = await datasets.freeze(holdout_share=0.5, seed=1)
    every = await datasets.examples(dataset.name)
    held = await datasets.examples(dataset.name, split=dataset_pb2.SPLIT_HOLDOUT)
    found: list[int] = []
    token = ""
    while True:
        page = await datasets.call(
            "ListDatasetExamples", parent=dataset.name, page_size=3, page_token=token
        )
        found += [example.index for example in page.examples]
        if not (token := page.next_page_token):
            break

    assert found == [example.index for example in every] == list(range(7))
    assert held == [e for e in every if e.split == dataset_pb2.SPLIT_HOLDOUT]
    counts = {count.split: count.example_count for count in dataset.counts}
    assert counts.get(dataset_pb2.SPLIT_HOLDOUT, 0) == len(held)


async def test_datasets_are_listed_newest_first_by_adapter(
    rita: Person, peers: Any, datasets: Datasets
) -> None:
    await peers.bus.kv("adapters").put(f"{rita.tenant}.towns", b"{}")
    generation = await peers.generate("Who leads Aurum?")
    await rita.named("anna").correct(generation, "Ida", adapter="adapters/towns")
    await teach(rita, peers, 1)
    names = [(await datasets.freeze(f"set-{number}")).name for number in range(3)]
    towns = await datasets.freeze(adapter="adapters/towns", labels={"team": "a"})
    page = await datasets.call("ListDatasets", page_size=2)
    rest = await datasets.call("ListDatasets", page_token=page.next_page_token)
    listed = [*page.datasets, *rest.datasets]
    only = await datasets.call("ListDatasets", adapter="adapters/towns")

    assert [one.name for one in listed] == [towns.name, *reversed(names)]
    assert [(one.name, dict(one.labels)) for one in only.datasets] == [(towns.name, {"team": "a"})]


async def test_a_repeat_makes_no_second_dataset(
    rita: Person, peers: Any, datasets: Datasets
) -> None:
    await teach(rita, peers, 1)
    request_id = str(uuid.uuid4())
    attempts = [datasets.freeze(request_id=request_id) for _ in range(3)]
    first, *others = await asyncio.gather(*attempts)
    await teach(rita, peers, 1, "bob")
    later = await datasets.freeze(request_id=request_id)
    reused = await refused(datasets.freeze("other-one", request_id=request_id))
    named = await datasets.freeze("town-mayors", request_id=str(uuid.uuid4()))
    taken = await refused(datasets.freeze("town-mayors", request_id=str(uuid.uuid4())))

    assert [*others, later] == [first] * 3
    assert reused.reason == "REQUEST_ID_REUSED"
    assert named.name == "datasets/town-mayors"
    assert (taken.code, taken.reason) == (grpc.StatusCode.ALREADY_EXISTS, "RESOURCE_EXISTS")
    assert len((await datasets.call("ListDatasets")).datasets) == 2
