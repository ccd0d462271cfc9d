"""Freezing feedback into datasets, and taking it out, on a real nats-server."""

import asyncio
import uuid
from collections.abc import Callable
from typing import Any

import grpc
import pytest
from nats.js.errors import NotFoundError

from selm.api.error.v1.error_reason_pb2 import ErrorReason
from selm.api.feedback.v1 import dataset_pb2, feedback_event_pb2
from selm.streams import ARTIFACTS_BUCKET
from selm.testing import eventually
from tests.integration.feedback.datasets_client import Datasets, Format, say
from tests.integration.feedback.erasure_client import Erasures, confirm_as_others, receipts
from tests.integration.feedback.review_client import (
    OVERRIDE,
    Person,
    client,
    item_of,
    refused,
    rita,
)

__all__ = ["client", "rita"]

Filter = feedback_event_pb2.FeedbackFilter
UP, DOWN = feedback_event_pb2.THUMBS_UP, feedback_event_pb2.THUMBS_DOWN
ERASED = dataset_pb2.Dataset.STATE_ERASED


@pytest.fixture
def datasets(rita: Person) -> Datasets:
    return Datasets(rita.channel, rita.metadata)


async def _teach(rita: Person, peers: Any, number: int, author: str = "anna") -> list[Any]:
    """So many corrections of different answers."""
    events = []
    for index in range(number):
        generation = await peers.generate(f"Who leads the town {author}{index}?")
        events.append(await rita.named(author).correct(generation, f"Mayor {index}"))
    return events


async def _mix(rita: Person, peers: Any) -> None:
    """One example of each kind that trains."""
    anna = rita.named("anna")
    await anna.correct(await peers.generate("Who leads Aurum?"), "Ida")
    better = feedback_event_pb2.Preference(chosen_text="Bo leads it.", rejected_text="Nobody.")
    await say(anna, await peers.generate("Who leads Bolm?", "Nobody."), preference=better)
    await say(anna, await peers.generate("Who leads Carn?", "Cleo."), thumbs=DOWN)


def _left_out(dataset: Any) -> dict[str, int]:
    return {
        ErrorReason.Name(e.reason).removeprefix("ERROR_REASON_"): e.feedback_count
        for e in dataset.exclusions
    }


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

    assert _left_out(dataset) == {
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
    await _teach(rita, peers, 4, "anna")
    await _teach(rita, peers, 1, "bob")
    dataset = await datasets.freeze(max_author_share=0.5)
    assert (dataset.example_count, _left_out(dataset)) == (2, {"AUTHOR_SHARE_EXCEEDED": 3})


async def test_the_same_is_frozen_alike_by_another_process_and_never_changes(
    rita: Person,
    peers: Any,
    datasets: Datasets,
    nats_url: str,
    child: Callable[[str], Any],
    client_of: Any,
) -> None:
    """Same spec, feedback and seed: same digests; later feedback changes no frozen dataset."""
    await _teach(rita, peers, 6)
    await _mix(rita, peers)
    first = await datasets.freeze(holdout_share=0.4, seed=7)
    before = await datasets.frames(first.name, format=Format.FORMAT_FULL)
    bounds = Filter(last_sequence=first.last_sequence)
    await _teach(rita, peers, 2, "bob")
    await rita.named("anna").correct(await peers.generate("Who leads Aurum?"), "Someone else")

    other = child(nats_url)
    await other.start(training_paused="true")
    async with client_of(other.address, rita.tenant) as there:
        await there.wait_ready()
        theirs = Datasets(there.channel, there.metadata)
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
    await _teach(rita, peers, 7)
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
    await _teach(rita, peers, 1)
    names = [(await datasets.freeze(f"set-{number}")).name for number in range(3)]
    towns = await datasets.freeze(adapter="adapters/towns", labels={"team": "a"})
    page = await datasets.call("ListDatasets", page_size=2)
    rest = await datasets.call("ListDatasets", page_token=page.next_page_token)
    listed = [*page.datasets, *rest.datasets]
    only = await datasets.call("ListDatasets", adapter="adapters/towns")

    assert [one.name for one in listed] == [towns.name, *reversed(names)]
    assert [(one.name, dict(one.labels)) for one in only.datasets] == [(towns.name, {"team": "a"})]


async def test_every_shape_is_exported_and_goes_on_where_it_broke(
    rita: Person, peers: Any, datasets: Datasets
) -> None:
    """A stream cut behind any frame, in the middle of a preference too, ends up the same."""
    await _mix(rita, peers)
    dataset = await datasets.freeze()
    sft = await datasets.lines(dataset.name)
    dpo = await datasets.lines(dataset.name, format=Format.FORMAT_DPO)
    kto = await datasets.lines(dataset.name, format=Format.FORMAT_KTO)
    full = await datasets.lines(dataset.name, format=Format.FORMAT_FULL)

    said = [line["completion"][0]["content"] for line in sft]
    assert said == ["Ida", "Bo leads it."]
    assert [line["rejected"][0]["content"] for line in dpo] == ["Nobody."]
    assert [line["label"] for line in kto] == [True, False, False]
    assert [line["label"] for line in full] == [None, None, False]
    assert all(set(line) == set(full[0]) for line in full)
    for line in (*sft, *dpo, *kto, *full):
        assert set(line["provenance"]) == {"lesson", "feedback_event"}
    for shape in (Format.FORMAT_SFT, Format.FORMAT_DPO, Format.FORMAT_KTO, Format.FORMAT_FULL):
        whole = await datasets.frames(dataset.name, format=shape)
        for cut, frame in enumerate(whole, 1):
            rest = await datasets.frames(
                dataset.name, format=shape, resume_token=frame.resume_token
            )
            assert rest == whole[cut:]
    wrong = await refused(datasets.frames(dataset.name, resume_token=whole[0].resume_token))
    assert wrong.reason == "CURSOR_INVALID"


async def test_a_repeat_makes_no_second_dataset(
    rita: Person, peers: Any, datasets: Datasets
) -> None:
    await _teach(rita, peers, 1)
    request_id = str(uuid.uuid4())
    attempts = [datasets.freeze(request_id=request_id) for _ in range(3)]
    first, *others = await asyncio.gather(*attempts)
    await _teach(rita, peers, 1, "bob")
    later = await datasets.freeze(request_id=request_id)
    reused = await refused(datasets.freeze("other-one", request_id=request_id))
    named = await datasets.freeze("town-mayors", request_id=str(uuid.uuid4()))
    taken = await refused(datasets.freeze("town-mayors", request_id=str(uuid.uuid4())))

    assert [*others, later] == [first] * 3
    assert reused.reason == "REQUEST_ID_REUSED"
    assert named.name == "datasets/town-mayors"
    assert (taken.code, taken.reason) == (grpc.StatusCode.ALREADY_EXISTS, "RESOURCE_EXISTS")
    assert len((await datasets.call("ListDatasets")).datasets) == 2


async def test_another_tenant_finds_nothing(rita: Person, peers: Any, datasets: Datasets) -> None:
    """A foreign dataset is answered like one that never was."""
    await _teach(rita, peers, 1)
    dataset = await datasets.freeze("mine-alone")
    other = Datasets(datasets.channel, (("x-selm-tenant", f"{rita.tenant}x"),))

    absent = await refused(datasets.get("datasets/never-was"))
    for call in (
        other.get(dataset.name),
        other.examples(dataset.name),
        other.frames(dataset.name),
    ):
        refusal = await refused(call)
        assert (refusal.code, refusal.reason) == (absent.code, "RESOURCE_NOT_FOUND")
    assert not (await other.call("ListDatasets")).datasets
    assert (await refused(other.freeze())).reason == "DATASET_EMPTY"


async def test_erasing_a_user_empties_the_datasets_that_held_him(
    rita: Person, peers: Any, datasets: Datasets
) -> None:
    """Digests stay, texts go from the broker too; a dataset without him still reads the same."""
    alice, bob = "users/alice", "users/bob"
    of_alice = await peers.generate("Who leads Aurum?", user=alice)
    await rita.named("anna").correct(of_alice, "Ida of Aurum")
    await rita.named("anna").correct(await peers.generate("Who leads Bolm?", user=bob), "Bo")
    both = await datasets.freeze()
    bobs = await datasets.freeze(filter=Filter(user=bob))
    before = await datasets.lines(bobs.name)

    erasures = Erasures(rita.channel, rita.tenant)
    erasure = await erasures.forget(alice)
    await confirm_as_others(peers.bus, rita.tenant, erasure.name)
    done = await erasures.completed(erasure.name)
    found = await datasets.get(both.name)
    refusal = await refused(datasets.frames(both.name))
    listing = await refused(datasets.examples(both.name))

    assert receipts(done)["feedback_svc"].dataset_count == 1
    assert (found.state, found.sha256) == (ERASED, both.sha256)
    assert (refusal.code, refusal.reason) == (
        grpc.StatusCode.FAILED_PRECONDITION, "STATE_CONFLICT",
    )  # fmt: skip
    assert listing.reason == "STATE_CONFLICT"
    assert await datasets.lines(bobs.name) == before
    assert not await _chunks_with(peers.bus, b"Ida of Aurum")


async def test_a_damaged_artifact_is_refused_not_served(
    rita: Person, peers: Any, datasets: Datasets
) -> None:
    await rita.named("anna").correct(await peers.generate("Who leads Aurum?"), "Ida, undamaged")
    dataset = await datasets.freeze()
    (message,) = await _chunks_with(peers.bus, b"Ida, undamaged")
    jetstream = peers.bus.connection.jetstream()
    await jetstream.delete_msg(f"OBJ_{ARTIFACTS_BUCKET}", message.seq)
    await jetstream.publish(message.subject, message.data.replace(b"undamaged", b"it is bad"))

    async def refusal() -> Any:
        found = await refused(datasets.frames(dataset.name))
        return found if found.reason == "DIGEST_MISMATCH" else None

    found = await eventually(refusal, timeout_s=10)
    assert found.code is grpc.StatusCode.DATA_LOSS


async def test_a_crash_before_the_record_is_repeated_to_one_dataset(
    rita: Person,
    peers: Any,
    datasets: Datasets,
    nats_url: str,
    child: Callable[[str], Any],
    client_of: Any,
) -> None:
    """Killed with the artifact stored and no record: nothing is listed, and a repeat makes it."""
    await _teach(rita, peers, 2)
    request_id, doomed = str(uuid.uuid4()), child(nats_url)
    await doomed.start(failpoints="feedback.dataset_kept=exit(137)", training_paused="true")
    async with client_of(doomed.address, rita.tenant) as there:
        await there.wait_ready()
        theirs = Datasets(there.channel, there.metadata)
        lost = await refused(theirs.freeze("mayors", request_id=request_id))
    assert lost.code is grpc.StatusCode.UNAVAILABLE
    assert await doomed.died() == 137
    assert not (await datasets.call("ListDatasets")).datasets
    dataset = await datasets.freeze("mayors", request_id=request_id)
    assert (dataset.name, len(await datasets.lines(dataset.name))) == ("datasets/mayors", 2)


async def test_what_is_erased_while_it_is_frozen_is_not_kept(
    rita: Person,
    peers: Any,
    datasets: Datasets,
    nats_url: str,
    child: Callable[[str], Any],
    client_of: Any,
) -> None:
    """An erasure between the reading and the record leaves no text behind."""
    generation = await peers.generate("Who leads Aurum?", user="users/alice")
    await rita.named("anna").correct(generation, "Ida, in between")
    slow = child(nats_url)
    await slow.start(failpoints="feedback.dataset_kept=sleep(2)", training_paused="true")
    async with client_of(slow.address, rita.tenant) as there:
        await there.wait_ready()
        freezing = asyncio.create_task(Datasets(there.channel, there.metadata).freeze("between"))

        async def is_kept() -> Any:
            return await _chunks_with(peers.bus, b"Ida, in between")

        await eventually(is_kept, timeout_s=10)
        erasure = await Erasures(rita.channel, rita.tenant).forget("users/alice")
        await confirm_as_others(peers.bus, rita.tenant, erasure.name)
        assert (await freezing).state == ERASED
    assert (await datasets.get("datasets/between")).state == ERASED
    assert not await _chunks_with(peers.bus, b"Ida, in between")


async def test_bad_input_is_refused_all_at_once(datasets: Datasets) -> None:
    refusal = await refused(
        datasets.freeze(
            "No",
            request_id="no-uuid",
            adapter="adapters/No",
            labels={"Bad Key": "x"},
            filter=Filter(adapter="adapters/other", first_sequence=-1),
            holdout_share=0.6,
            max_author_share=float("nan"),
        )
    )
    assert refusal.reason == "INVALID_FIELD"
    assert set(refusal.fields) == {
        "dataset_id",
        "request_id",
        "dataset.adapter",
        "dataset.labels[Bad Key]",
        "dataset.spec.filter.adapter",
        "dataset.spec.filter.first_sequence",
        "dataset.spec.holdout_share",
        "dataset.spec.max_author_share",
    }
    name = await refused(datasets.get("sets/x"))
    listing = await refused(datasets.examples("x", page_size=-1, split=9))
    export = await refused(datasets.frames("x", format=9, split=9))
    token = await refused(datasets.examples("datasets/x", page_token="no"))
    empty = await refused(datasets.freeze())
    assert (name.fields, set(listing.fields)) == (["name"], {"parent", "page_size", "split"})
    assert set(export.fields) == {"name", "format", "split"}
    assert (token.reason, empty.reason) == ("CURSOR_INVALID", "DATASET_EMPTY")
    assert empty.code is grpc.StatusCode.FAILED_PRECONDITION


async def test_who_lacks_the_scope_is_told_which(rita: Person) -> None:
    reader = rita.named("rolf", "training.read")
    limited = Datasets(reader.channel, reader.metadata)
    assert (await refused(limited.freeze())).reason == "SCOPE_MISSING"
    assert (await refused(limited.frames("datasets/abc"))).reason == "SCOPE_MISSING"
    assert not (await limited.call("ListDatasets")).datasets


async def _chunks_with(bus: Any, text: bytes) -> list[Any]:
    """Messages of the object store that hold these bytes."""
    jetstream, stream = bus.connection.jetstream(), f"OBJ_{ARTIFACTS_BUCKET}"
    found = []
    state = (await jetstream.stream_info(stream)).state
    for sequence in range(state.first_seq, state.last_seq + 1):
        try:
            message = await jetstream.get_msg(stream, sequence)
        except NotFoundError:
            continue
        if text in (message.data or b""):
            found.append(message)
    return found
