"""Requests are checked whole, and records survive the way to protobuf and back."""

import uuid
from datetime import UTC, datetime

import pytest

from selm import pages
from selm.api.adapter.v1 import adapter_service_pb2 as adapters
from selm.api.trainer.v1 import evaluation_pb2, training_job_pb2
from selm.api.trainer.v1 import trainer_service_pb2 as trainer
from selm.errors import InvalidFields, SelmError
from trainer_svc import render, render_jobs, wire
from trainer_svc.core import (
    ArmResult,
    Artifact,
    Evaluation,
    Failure,
    LoraShape,
    Manifest,
    Revision,
    RevisionState,
    SliceResult,
    Verdict,
)
from trainer_svc.jobs import Attempt, JobState, Progress, Start, TrainingJob

NOON = datetime(2030, 1, 1, 12, tzinfo=UTC)
ID = f"r{'0123456789abcdef'}"
NAME = f"adapters/default/revisions/{ID}"


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        (NAME, wire.RevisionRef("default", revision_id=ID)),
        ("adapters/default/revisions/stable", wire.RevisionRef("default", alias_id="stable")),
        (
            f"adapters/default/revisions/sha256:{'a' * 64}",
            wire.RevisionRef("default", sha256="a" * 64),
        ),
    ],
)
def test_a_revision_is_named_by_id_alias_or_digest(name, expected) -> None:
    """Each form is told apart by its spelling."""
    assert wire.parse_revision_name(name) == expected


@pytest.mark.parametrize("name", ["", "adapters/default", f"{NAME}/x", "adapters/D/revisions/r1"])
def test_a_malformed_revision_name_is_an_invalid_field(name) -> None:
    """The field is named."""
    with pytest.raises(InvalidFields) as error:
        wire.parse_revision_name(name)

    assert [violation.field for violation in error.value.violations] == ["name"]


def test_a_move_is_read_with_its_condition() -> None:
    """Unset fields set no condition and keep the mode."""
    request = adapters.AliasAdapterRevisionRequest(name=NAME, alias_id="candidate")
    wish = wire.parse_alias(request, "alice")
    conditional = adapters.AliasAdapterRevisionRequest(
        name=NAME, alias_id="stable", expected_revision=NAME, force=True, reason="urgent"
    )
    forced = wire.parse_alias(conditional, "alice")

    assert (wish.move.expected_revision_id, wish.move.scope_mode) == (None, None)
    assert (wish.move.updater, wish.force) == ("alice", False)
    assert forced.move.expected_revision_id == ID
    assert forced.move.reason == "forced: urgent"


def test_the_content_of_a_request_does_not_hold_its_id() -> None:
    """So that a repeat is recognised, and another wish under the same id is too."""

    def content(**more: str) -> str:
        request = adapters.RollbackAdapterRequest(name="adapters/default", **more)
        return wire.parse_rollback(request, "alice").move.content

    first, second = str(uuid.uuid4()), str(uuid.uuid4())
    assert content(request_id=first) == content(request_id=second)
    assert content(request_id=first) != content(request_id=first, reason="else")


def test_a_rollback_lists_every_violated_field() -> None:
    """Revisions of another adapter are refused too."""
    request = adapters.RollbackAdapterRequest(
        name="adapters/default",
        alias_id="X",
        target_revision=f"adapters/other/revisions/{ID}",
        expected_revision="stable",
        reason="x" * 501,
        request_id="1",
    )
    with pytest.raises(InvalidFields) as error:
        wire.parse_rollback(request, "alice")

    assert [violation.field for violation in error.value.violations] == [
        "alias_id",
        "target_revision",
        "expected_revision",
        "reason",
        "request_id",
    ]


def test_list_filters_are_checked_together() -> None:
    """A negative page, a bad adapter and an unknown state are all named."""
    request = trainer.ListTrainingJobsRequest(page_size=-1, adapter="x", states=[4])
    with pytest.raises(InvalidFields) as error:
        wire.parse_list_jobs(request, "default")

    fields = [violation.field for violation in error.value.violations]
    assert fields == ["adapter", "states", "page_size"]


def test_pages_of_a_list_join_and_a_token_fits_its_query_alone() -> None:
    """Large pages are cut to 500; a token of another tenant's list is refused."""
    items = [f"id-{number}" for number in range(5)]
    first = wire.parse_list_adapters(adapters.ListAdaptersRequest(page_size=2), "default")
    found, cursor = wire.cut(items, first, str)
    token = pages.encode(first.query, cursor)
    request = adapters.ListAdaptersRequest(page_size=9999, page_token=token)
    second = wire.parse_list_adapters(request, "default")

    assert (found, cursor) == (items[:2], "id-1")
    assert wire.cut(items, second, str) == (items[2:], "")
    assert second.size == 500
    with pytest.raises(SelmError) as error:
        wire.parse_list_adapters(request, "other")
    assert error.value.reason == "CURSOR_INVALID"


def test_a_revision_survives_the_registrys_encoding() -> None:
    """Inference reads those bytes, so the contract's message is the only truth."""
    manifest = Manifest(
        weights_sha256="a",
        config_sha256="b",
        base_model="models/tiny",
        base_sha256="c",
        lora=LoraShape(16, 32.0, 0.0, ("k_proj", "q_proj"), (1, 2)),
        dataset_id="d1",
        dataset_sha256="e",
        lessons_sha256="f",
        lesson_count=3,
        newest_lesson_time=NOON,
        job_id="j1",
        evaluation_id="e1",
        objective="sft",
        from_base=False,
    )
    revision = Revision(
        tenant="default",
        adapter_id="default",
        revision_id=ID,
        state=RevisionState.REJECTED,
        sha256="0" * 64,
        parent_revision_id=f"r{'f' * 16}",
        manifest=manifest,
        artifact=Artifact("nats://artifacts/x", "x", 10),
        create_time=NOON,
        failure=Failure("GATE_FAILED", "no", {"slice": "EFFICACY"}, False, NOON),
    )

    assert render.decode_revision("default", render.encode_revision(revision)) == revision


def test_a_job_is_rendered_with_names_in_place_of_ids() -> None:
    """States, attempts and progress included; what is unset stays unset."""
    job = TrainingJob(
        tenant="default",
        job_id="j1",
        adapter_id="default",
        request_id="q1",
        state=JobState.EVALUATING,
        create_time=NOON,
        update_time=NOON,
        start=Start.SERVING,
        parent_revision_id=ID,
        dataset_id="j1",
        progress=Progress(step=3, remaining_s=1.5, measure_time=NOON),
        attempts=(Attempt(1, "one", 7, NOON),),
        start_time=NOON,
    )
    message = render_jobs.training_job(job)

    assert message.name == "trainingJobs/j1"
    assert message.training_request == "trainingRequests/q1"
    assert message.parent_revision == NAME
    assert message.state == training_job_pb2.TrainingJob.STATE_EVALUATING
    assert message.start == training_job_pb2.TrainingJob.START_SERVING
    assert message.attempts[0].lease_epoch == 7
    assert message.progress.remaining_duration.ToMilliseconds() == 1500
    assert message.max_duration.ToSeconds() == 3600
    assert (message.output_revision, message.evaluation) == ("", "")
    assert not message.HasField("end_time")


def test_a_slice_this_release_does_not_know_is_shown_without_its_name() -> None:
    """A report of a newer child is still readable."""
    slices = (
        SliceResult("EFFICACY", Verdict.PROMOTE, 0.9, (ArmResult("CANDIDATE", 1.0),), 4, "ok"),
        SliceResult("INVENTED", Verdict.REJECT),
    )
    evaluation = Evaluation(
        "default", "e1", "default", ID, "", "j1", Verdict.REJECT, ("why",), slices, "00", NOON, NOON
    )
    message = render.evaluation(evaluation)

    assert message.slices[0].slice == evaluation_pb2.SLICE_EFFICACY
    assert message.slices[0].arms[0].arm == evaluation_pb2.ARM_CANDIDATE
    assert message.slices[1].slice == evaluation_pb2.SLICE_UNSPECIFIED
    assert message.baseline_revision == ""


def test_a_job_id_follows_the_contract() -> None:
    """CancelTrainingJob takes a job's name and a UUID4 alone."""
    request = trainer.CancelTrainingJobRequest(name="trainingJobs/j1", request_id=str(uuid.uuid4()))
    assert wire.parse_cancel(request) == "j1"
    with pytest.raises(InvalidFields) as error:
        wire.parse_cancel(trainer.CancelTrainingJobRequest(name="j1", request_id="x"))
    assert [v.field for v in error.value.violations] == ["name", "request_id"]
