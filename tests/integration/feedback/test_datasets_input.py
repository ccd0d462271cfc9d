"""Who is refused a dataset, and why: bad input, a foreign tenant, a missing scope."""

from typing import Any

import grpc

from tests.integration.feedback.datasets_client import Datasets, Filter, datasets, teach
from tests.integration.feedback.review_client import Person, refused, rita

__all__ = ["datasets", "rita"]


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


async def test_another_tenant_finds_nothing(rita: Person, peers: Any, datasets: Datasets) -> None:
    """A foreign dataset is answered like one that never was."""
    await teach(rita, peers, 1)
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


async def test_who_lacks_the_scope_is_told_which(rita: Person) -> None:
    reader = rita.named("rolf", "training.read")
    limited = Datasets(reader.channel, reader.metadata)
    assert (await refused(limited.freeze())).reason == "SCOPE_MISSING"
    assert (await refused(limited.frames("datasets/abc"))).reason == "SCOPE_MISSING"
    assert not (await limited.call("ListDatasets")).datasets
