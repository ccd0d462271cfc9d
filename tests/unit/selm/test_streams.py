"""Subjects, streams and buckets."""

import pytest

from selm import streams


def test_every_subject_belongs_to_exactly_the_stream_that_stores_it() -> None:
    """A publish to a built subject is stored where its readers look."""
    built = {
        streams.generation_finished("t", "g1"): "GENERATIONS",
        streams.feedback_created("t", "users/ada"): "FEEDBACK",
        streams.lesson_advanced("remembered", "t", "l1"): "LESSONS",
        streams.training_requested("t"): "TRAINING",
        streams.adapter_aliased("t", "a", "stable"): "ADAPTERS",
        streams.adapter_acknowledged("t", "a", "r1"): "ROLLOUTS",
        streams.training_job_updated("t", "j1"): "JOBS",
        streams.dead_letter_created("t", "d1"): "DEAD_LETTERS",
    }

    for subject, stream in built.items():
        owner = streams.stream_of(subject)
        assert owner is not None
        assert owner.name == stream
        assert streams.tenant_of(subject) == "t"


def test_an_abort_is_stored_nowhere() -> None:
    """A signal is no fact."""
    assert streams.stream_of(streams.generation_abort("t", "g1")) is None


@pytest.mark.parametrize("token", ["", "a.b", "*", ">", "a b", "a\n", "a*"])
def test_no_id_can_widen_a_subject(token: str) -> None:
    """P-06: a tenant named `*` would read and write everybody's subjects."""
    with pytest.raises(ValueError, match="not a subject token"):
        streams.generation_finished("t", token)
    with pytest.raises(ValueError, match="not a subject token"):
        streams.training_requested(token)


def test_a_user_travels_as_a_hash() -> None:
    """Any user name fits a token, and the subject does not show it."""
    user = "users/ada.lovelace@example.org"

    assert streams.feedback_created("t", user).endswith(f".t.{streams.user_hash(user)}")
    assert len(streams.user_hash(user)) == 32


def test_streams_that_hold_what_users_said_never_discard() -> None:
    """P-01: a full stream refuses; only present-truth and aged streams replace."""
    keep = {"FEEDBACK", "LESSONS", "TRAINING", "DEAD_LETTERS", "REDELIVERIES"}
    for spec in streams.STREAMS:
        assert (spec.discard == "new") == (spec.name in keep)
        assert (spec.max_messages_per_subject == 0) == (spec.name in keep)


def test_only_generations_age() -> None:
    """Content is kept for 30 days; decisions are kept for ever."""
    ages = {spec.name: spec.max_age_s for spec in streams.STREAMS if spec.max_age_s}

    assert ages == {"GENERATIONS": 30 * 24 * 3600}


def test_specs_are_found_by_name() -> None:
    """Names of streams and buckets are those of the contract."""
    assert streams.stream_spec("TRAINING").retention == "work_queue"
    assert streams.bucket_spec("request_ids").name == "request_ids"
    with pytest.raises(KeyError):
        streams.stream_spec("NOBODY")
