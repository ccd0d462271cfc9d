"""What the gate asks, and how answers are judged."""

from dataclasses import replace
from pathlib import Path

import pytest

from tests.unit.trainer.tiny_lessons import RECIPE, Workbench, disturb, lessons, workbench
from trainer_svc.training import lora
from trainer_svc.training.data import Lesson, Lessons
from trainer_svc.training.evaluate import Outdated, evaluate
from trainer_svc.training.gates import (
    BASE,
    BASELINE,
    CANDIDATE,
    EFFICACY,
    FLUENCY,
    NEIGHBOR,
    PARAPHRASE,
    RETENTION,
    SUPERSEDED,
    Measurement,
)
from trainer_svc.training.loop import train

NEW, OLD, _ = lessons()
OLD = replace(OLD, is_new=False)


def measure(
    bench: Workbench,
    asked: list[Lesson],
    outdated: tuple[Outdated, ...] = (),
    arms: tuple[str, ...] = (BASE, CANDIDATE),
) -> Measurement:
    """One evaluation; progress must rise to one."""
    told: list[float] = []
    result = evaluate(
        bench.body, bench.peft_model, bench.encoder, asked, outdated, arms, None, told.append
    )
    assert told == sorted(told)
    assert told[-1] == 1.0
    return result


@pytest.fixture(scope="module")
def learned(tiny_learner: Path) -> Workbench:
    """A tiny model that holds the lessons word for word."""
    bench = workbench(tiny_learner)
    rows = Lessons(lessons(), bench.encoder)
    parameters = lora.trainable(bench.peft_model)
    train(bench.body, parameters, rows, [], RECIPE, lambda step: None)
    return bench


def test_an_untrained_candidate_equals_the_base_everywhere(tiny_learner: Path) -> None:
    """The null comparison: all tokens kept, all neighbours identical, nothing learned."""
    measured = measure(workbench(tiny_learner), [NEW])

    assert measured.tokens_kept == {CANDIDATE: 1.0}
    assert all(example.passed[CANDIDATE] for example in measured.of(NEIGHBOR))
    assert not any(example.passed[CANDIDATE] for example in measured.of(EFFICACY))
    assert measured.num_leaked == 0


def test_new_and_earlier_lessons_are_asked_in_their_slices(learned: Workbench) -> None:
    """The round as taught and reworded, earlier lessons as taught, each right or wrong per arm."""
    measured = measure(learned, [NEW, OLD])

    assert [example.lesson for example in measured.of(EFFICACY)] == [NEW.lesson]
    assert [example.lesson for example in measured.of(RETENTION)] == [OLD.lesson]
    assert measured.of(EFFICACY)[0].passed == {BASE: False, CANDIDATE: True}
    assert measured.of(RETENTION)[0].passed == {BASE: False, CANDIDATE: True}
    assert len(measured.of(PARAPHRASE)) >= 3
    assert {example.lesson for example in measured.of(PARAPHRASE)} == {NEW.lesson}
    assert len(measured.of(FLUENCY)) == 20


def test_what_serves_is_asked_beside_the_candidate(
    learned: Workbench, tiny_learner: Path, tmp_path: Path
) -> None:
    """The baseline answers with its own matrices, on the same model."""
    lora.save(learned.peft_model, learned.shape, "models/tiny", [], tmp_path)
    bench = workbench(tiny_learner)
    lora.add(bench.peft_model, bench.shape, BASELINE)
    lora.load(bench.peft_model, tmp_path, BASELINE)
    measured = measure(bench, [OLD], arms=(BASE, BASELINE, CANDIDATE))

    assert measured.of(RETENTION)[0].passed == {BASELINE: True, CANDIDATE: False}
    assert measured.tokens_kept[CANDIDATE] == 1.0
    assert measured.tokens_kept[BASELINE] < 1.0


def test_an_outdated_answer_still_said_is_caught(learned: Workbench) -> None:
    """Unless it stands inside the right answer, where it cannot be told apart."""
    still_said = Outdated(OLD.question, OLD.answer)
    corrected = replace(OLD, answer="Somebody else")
    measured = measure(learned, [corrected], (still_said, Outdated("Never asked?", "Xyzzy")))

    assert [example.passed[CANDIDATE] for example in measured.of(SUPERSEDED)] == [False, True]
    inside = Outdated(NEW.question, "Paris")
    assert measure(learned, [replace(NEW, answer="Greater Paris")], (inside,)).of(SUPERSEDED) == []


def test_a_changed_model_keeps_fewer_tokens(tiny_learner: Path) -> None:
    """Locality is measured, not assumed."""
    bench = workbench(tiny_learner)
    disturb(bench)

    assert measure(bench, [NEW]).tokens_kept[CANDIDATE] < 0.9
