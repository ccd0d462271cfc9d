"""Taking datasets out: every shape, goes on after a break, and nothing damaged is served."""

from typing import Any

import grpc

from selm.streams import ARTIFACTS_BUCKET
from selm.testing import eventually
from tests.integration.feedback.datasets_client import (
    Datasets,
    Format,
    chunks_with,
    datasets,
    mix,
)
from tests.integration.feedback.review_client import Person, refused, rita

__all__ = ["datasets", "rita"]


async def test_every_shape_is_exported_and_goes_on_where_it_broke(
    rita: Person, peers: Any, datasets: Datasets
) -> None:
    """A stream cut behind any frame, in the middle of a preference too, ends up the same."""
    await mix(rita, peers)
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


async def test_a_damaged_artifact_is_refused_not_served(
    rita: Person, peers: Any, datasets: Datasets
) -> None:
    await rita.named("anna").correct(await peers.generate("Who leads Aurum?"), "Ida, undamaged")
    dataset = await datasets.freeze()
    (message,) = await chunks_with(peers.bus, b"Ida, undamaged")
    jetstream = peers.bus.connection.jetstream()
    await jetstream.delete_msg(f"OBJ_{ARTIFACTS_BUCKET}", message.seq)
    await jetstream.publish(message.subject, message.data.replace(b"undamaged", b"it is bad"))

    async def refusal() -> Any:
        found = await refused(datasets.frames(dataset.name))
        return found if found.reason == "DIGEST_MISMATCH" else None

    found = await eventually(refusal, timeout_s=10)
    assert found.code is grpc.StatusCode.DATA_LOSS
