"""The rules of moving an alias, without any store."""

from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest

from selm.errors import SelmError
from trainer_svc.core import (
    Adapter,
    Artifact,
    LoraShape,
    Manifest,
    Move,
    Revision,
    RevisionState,
    ScopeMode,
)
from trainer_svc.registry import aliases

NOON = datetime(2030, 1, 1, 12, tzinfo=UTC)
EMPTY = Adapter("default", "support", "models/tiny", NOON, NOON)
MANIFEST = Manifest(
    "a", "b", "models/tiny", "c", LoraShape(), "d", "e", "f", 1, NOON, "j", "v", "sft", True
)


def revision(revision_id: str, state: RevisionState = RevisionState.ACCEPTED) -> Revision:
    artifact = Artifact("nats://artifacts/x", "x", 1)
    return Revision(
        "default", "support", revision_id, state, revision_id * 4, "", MANIFEST, artifact, NOON
    )


R1, R2 = revision(f"r{'1' * 16}"), revision(f"r{'2' * 16}")


def move(**more: object) -> Move:
    return replace(Move("stable", None, None, "operator", "", "", ""), **more)


def test_the_first_move_creates_the_alias_scoped_at_epoch_one() -> None:
    """Nothing served before, so there is nothing to roll back to."""
    alias = aliases.moved(EMPTY, move(), R1, NOON).alias("stable")

    assert (alias.revision_id, alias.previous_revision_id, alias.epoch) == (R1.revision_id, "", 1)
    assert alias.scope_mode is ScopeMode.SCOPED


def test_each_move_remembers_where_the_alias_was() -> None:
    """The previous revision swaps, so rolling back twice goes forward."""
    first = aliases.moved(EMPTY, move(), R1, NOON)
    second = aliases.moved(first, move(), R2, NOON)
    back = aliases.moved(second, move(), R1, NOON)

    assert aliases.rollback_target(second, "stable") == R1.revision_id
    assert aliases.rollback_target(back, "stable") == R2.revision_id
    assert [a.alias("stable").epoch for a in (first, second, back)] == [1, 2, 3]


def test_moving_to_the_same_revision_counts_but_forgets_nothing() -> None:
    """Replicas acknowledge anew; the way back stays."""
    second = aliases.moved(aliases.moved(EMPTY, move(), R1, NOON), move(), R2, NOON)
    alias = aliases.moved(second, move(), R2, NOON).alias("stable")

    assert (alias.previous_revision_id, alias.epoch) == (R1.revision_id, 3)


def test_a_mode_stays_until_another_is_asked_for() -> None:
    """Unset keeps the alias's mode."""
    always = aliases.moved(EMPTY, move(scope_mode=ScopeMode.ALWAYS), R1, NOON)
    kept = aliases.moved(always, move(), R2, NOON)
    scoped = aliases.moved(kept, move(scope_mode=ScopeMode.SCOPED), R2, NOON)

    modes = [a.alias("stable").scope_mode for a in (always, kept, scoped)]
    assert modes == ["ALWAYS", "ALWAYS", "SCOPED"]


@pytest.mark.parametrize("expected", [R2.revision_id, ""])
def test_a_move_that_expects_another_position_is_stale(expected) -> None:
    """Both positions are named; "" expects that there is no alias."""
    adapter = aliases.moved(EMPTY, move(), R1, NOON)
    with pytest.raises(SelmError) as error:
        aliases.check_expected(adapter, move(expected_revision_id=expected))

    assert error.value.reason == "STALE_REVISION"
    assert error.value.metadata["actual"] == f"adapters/support/revisions/{R1.revision_id}"


def test_a_request_is_remembered_for_a_day() -> None:
    """Its first result is given again; after that it is as new."""
    wish = move(request_id="q", content="x")
    adapter = aliases.moved(EMPTY, wish, R1, NOON)
    later = aliases.moved(adapter, move(), R2, NOON + timedelta(hours=23))
    next_day = aliases.moved(later, move(), R1, NOON + timedelta(hours=25))

    assert aliases.applied(later, wish) == adapter.alias("stable")
    assert aliases.applied(next_day, wish) is None
    with pytest.raises(SelmError) as error:
        aliases.applied(later, move(request_id="q", content="y"))
    assert error.value.reason == "REQUEST_ID_REUSED"


@pytest.mark.parametrize("state", [RevisionState.REJECTED, RevisionState.CANDIDATE])
def test_only_force_passes_a_revision_without_a_promotion(state) -> None:
    """The error names the evaluation to read."""
    with pytest.raises(SelmError) as error:
        aliases.check_accepted(revision("r3", state), force=False)

    assert error.value.reason == "GATE_FAILED"
    assert error.value.metadata == {"verdict": str(state), "evaluation": "evaluations/v"}
    aliases.check_accepted(revision("r3", state), force=True)
