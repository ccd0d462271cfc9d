"""What a frozen dataset holds, and why the rest was left out."""

from dataclasses import replace
from datetime import UTC, datetime

from feedback_svc import core
from feedback_svc.curating import HOLDOUT
from feedback_svc.datasets.freezing import FreezeSpec, Frozen, freeze
from feedback_svc.signals import Comment, Correction, Preference, Rating, Signal, Thumbs
from selm.lessons import Consent

_NOW = datetime(2026, 1, 1, tzinfo=UTC)
_EXCHANGE = core.Exchange(b"", "Who leads Aurum?", "Nobody.")
_SPEC = FreezeSpec(core.EventFilter(adapter="adapters/default"), max_author_share=1.0)


def _event(sequence: int, signal: Signal, author: str = "ann") -> core.FeedbackRecord:
    return core.FeedbackRecord(
        "acme", f"feedbackEvents/{sequence}", signal, "generations/g", "", "users/ann",
        "adapters/default", Consent.SHARED_ADAPTER, {}, author, "", "", _NOW, _NOW,
        sequence=sequence, reach=Consent.SHARED_ADAPTER,
    )  # fmt: skip


def _freeze(*records: core.FeedbackRecord, spec: FreezeSpec = _SPEC) -> Frozen:
    return freeze([(record, _EXCHANGE) for record in records], spec, lambda _: 0.5)


def _correction(text: str, subject: str = "Aurum") -> Correction:
    return Correction(text, f"Who leads {subject}?")


def test_the_latest_correction_of_a_subject_wins() -> None:
    frozen = _freeze(_event(1, _correction("Ida")), _event(2, _correction("Bo")))
    assert [example.completion for example in frozen.examples] == ["Bo"]
    assert frozen.exclusions == {"SUPERSEDED": 1}


def test_the_same_by_anyone_counts_once() -> None:
    frozen = _freeze(_event(1, _correction("Ida")), _event(2, _correction("ida"), "bob"))
    assert len(frozen.examples) == 1
    assert frozen.exclusions == {"FEEDBACK_DUPLICATE": 1}


def test_what_may_not_train_is_left_out_with_its_reason() -> None:
    event = _event(1, _correction("Ida"))
    frozen = _freeze(
        replace(event, state=core.EventState.QUARANTINED),
        replace(event, state=core.EventState.REJECTED),
        replace(event, state=core.EventState.ERASED),
        replace(event, reach=Consent.PRIVATE_ADAPTER),
    )
    assert frozen.examples == ()
    expected = {"CONSENT_MISSING": 1, "REVIEW_REJECTED": 1, "REVIEW_REQUIRED": 1}
    assert frozen.exclusions == expected


def test_judgements_carry_a_label_and_neutral_ones_and_comments_are_none() -> None:
    signals = [Thumbs.DOWN, Rating(5, 5), Rating(3, 5), Comment("hm"), Preference("Ida", "Bo")]
    frozen = _freeze(*(_event(n, signal, f"a{n}") for n, signal in enumerate(signals, 1)))
    found = [(e.completion, e.rejected, e.label) for e in frozen.examples]
    assert found == [("Nobody.", "", False), ("Nobody.", "", True), ("Ida", "Bo", None)]


def test_an_author_has_no_more_than_its_share() -> None:
    many = [_event(number, _correction("x", f"Town{number}")) for number in range(1, 9)]
    others = [_event(9, _correction("y", "Rome"), "bob")]
    frozen = _freeze(*many, *others, spec=replace(_SPEC, max_author_share=0.5))
    assert sorted(example.author for example in frozen.examples) == ["ann", "bob"]
    assert frozen.exclusions == {"AUTHOR_SHARE_EXCEEDED": 7}


def test_an_author_who_judges_an_answer_again_is_heard_once() -> None:
    frozen = _freeze(
        _event(1, Thumbs.UP), _event(2, Thumbs.UP, "bob"), _event(3, Thumbs.DOWN),
    )  # fmt: skip
    assert [(e.author, e.label) for e in frozen.examples] == [("bob", True), ("ann", False)]
    assert frozen.exclusions == {"SUPERSEDED": 1}


def test_a_preference_stays_beside_a_correction_of_the_same() -> None:
    preference = _event(1, Preference("Ida", "Bo"))
    frozen = _freeze(preference, _event(2, Correction("Ida", _EXCHANGE.question)))
    assert len(frozen.examples) == 2


def test_where_too_few_authors_could_fill_a_set_nobody_is_capped() -> None:
    many = [_event(number, _correction("x", f"Town{number}")) for number in range(1, 9)]
    others = [_event(9, _correction("y", "Rome"), "bob")]
    frozen = _freeze(*many, *others, spec=replace(_SPEC, max_author_share=0.3))
    assert (len(frozen.examples), frozen.exclusions) == (9, {})


def test_the_digest_of_an_example_covers_its_label_and_split() -> None:
    up, down = (_freeze(_event(1, thumbs)).sha256 for thumbs in (Thumbs.UP, Thumbs.DOWN))
    held = _freeze(_event(1, Thumbs.UP), spec=replace(_SPEC, holdout_share=1.0)).sha256
    assert len({up, down, held}) == 3


def test_a_fact_is_in_one_split_and_the_split_depends_on_the_seed_alone() -> None:
    spec = replace(_SPEC, holdout_share=0.5)
    events = [_event(n, _correction("x", f"Town{n}")) for n in range(1, 41)]
    events += [_event(100 + n, Preference("a", "b")) for n in range(3)]
    frozen = _freeze(*events, spec=spec)
    assert frozen == _freeze(*reversed(events), spec=spec)
    assert 8 < sum(example.split == HOLDOUT for example in frozen.examples) < 32
    splits: dict[str, set[int]] = {}
    for example in frozen.examples:
        splits.setdefault(example.prompt, set()).add(example.split)
    assert all(len(of_fact) == 1 for of_fact in splits.values())


def test_the_digest_is_the_same_in_every_process() -> None:
    frozen = _freeze(_event(1, _correction("Ida")))
    # Pinned: no hash randomisation, no clock and no order of a set takes part.
    assert frozen.sha256 == "25a5cdb9b76689c46d61be1be6394e37013fbce8bd6f0e8345adba7f2d3e4410"
