"""Promises of the demo: it judges what it saw, survives outages, and never passes unearned."""

import io
import json
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from rich.console import Console
from typer.testing import CliRunner

from selm.api.inference.v1 import generation_pb2
from selm.cli import app
from selm.client import SelmClient
from selm.demo import run_demo
from selm.demo_facts import NUM_FACTS, Fact, invent_facts
from selm.demo_report import Report, Row
from selm.questions import answer_contains, entity_words, missing_words
from tests.scripted_selm import RunningSelm, ScriptedSelm


@pytest.fixture
def script() -> ScriptedSelm:
    return ScriptedSelm()


@pytest.fixture
def running(script: ScriptedSelm) -> Iterator[RunningSelm]:
    with RunningSelm(script) as selm:
        yield selm


async def demo(running: RunningSelm, seed: int = 1) -> Report:
    async with SelmClient(**running.addresses) as selm:
        return await run_demo(selm, seed, Console(file=io.StringIO()))


async def test_a_stack_that_learns_passes(running: RunningSelm) -> None:
    """Every fact is wrong before, right at once, and right by the weights alone."""
    report = await demo(running)
    summary = report.summary()

    assert report.passed
    assert summary["num_known_before"] == 0
    assert summary["num_taught"] == summary["num_lessons_kept"] == NUM_FACTS
    assert summary["num_right_after_in_time"] == NUM_FACTS
    assert summary["num_right_memory_off"] == NUM_FACTS
    assert summary["num_paraphrases_right"] == summary["num_paraphrases"] == 2 * NUM_FACTS
    assert summary["num_neighbours_unchanged"] == NUM_FACTS
    assert summary["sha256"] == ["ab" * 32]
    assert {row.state for row in report.rows} == {"RETIRED"}
    assert all(seconds for seconds in report.state_seconds().values())


async def test_the_corrected_answer_is_asked_with_the_consistency_token(
    running: RunningSelm, script: ScriptedSelm
) -> None:
    """Each question is asked again with the token that its own correction returned."""
    await demo(running)

    tokens = [r.options.memory_options.consistency_token for r in script.seen("GenerateStream")]
    assert [token for token in tokens if token] == [f"t{n}" for n in range(NUM_FACTS)]


async def test_paraphrases_are_never_taught(running: RunningSelm, script: ScriptedSelm) -> None:
    """What shows understanding must not have been in the correction."""
    await demo(running)

    sent = script.seen("CreateFeedbackEvent")
    assert all(not request.feedback_event.correction.paraphrases for request in sent)


async def test_a_second_run_says_that_the_facts_are_known(running: RunningSelm) -> None:
    """Nothing is corrected twice, the run passes, and it says why there was nothing to teach."""
    await demo(running)
    report = await demo(running)

    assert report.passed
    assert report.summary()["num_known_before"] == NUM_FACTS
    assert report.summary()["num_taught"] == 0
    assert any("--seed" in note for note in report.notes)


async def test_another_seed_teaches_new_facts(running: RunningSelm) -> None:
    """A fresh run on the same stack has something to learn."""
    await demo(running)
    report = await demo(running, seed=2)

    assert report.summary()["num_taught"] == NUM_FACTS


async def test_a_refused_training_does_not_pass(running: RunningSelm, script: ScriptedSelm) -> None:
    """Memory alone is not learning: the run fails and names what stayed behind."""
    script.trains = False
    report = await demo(running)

    assert not report.passed
    assert report.summary()["num_right_after"] == NUM_FACTS
    assert report.summary()["num_right_memory_off"] == 0
    assert any("the gate said REJECT" in note for note in report.notes)
    assert any("12 of 12 lessons stayed REMEMBERED" in note for note in report.notes)


async def test_outages_in_every_phase_are_survived(
    running: RunningSelm, script: ScriptedSelm
) -> None:
    """Services that answer UNAVAILABLE meanwhile cost time, not facts."""
    script.failures.update(
        {
            "GenerateStream": 3,
            "CreateFeedbackEvent": 6,
            "CreateTrainingRequest": 2,
            "WatchTrainingJob": 1,
            "WatchTrainingJob.frame": 1,
            "GetLesson": 2,
        }
    )
    report = await demo(running)

    assert report.passed
    assert report.num_repeats > 0
    assert report.summary()["num_taught"] == NUM_FACTS
    assert len({r.request_id for r in script.seen("CreateFeedbackEvent")}) == NUM_FACTS


async def test_an_answer_without_memory_is_asked_again(
    running: RunningSelm, script: ScriptedSelm
) -> None:
    """While memory is being restarted, its absence is not taken for an answer."""
    script.memory_states = [generation_pb2.MEMORY_STATE_DEGRADED] * 2
    report = await demo(running)

    assert report.passed
    assert report.num_repeats == 2


async def test_a_stream_broken_in_the_middle_is_asked_again(
    running: RunningSelm, script: ScriptedSelm
) -> None:
    """kill -9 of inference during an answer loses that answer only."""
    script.break_after_delta = 1
    report = await demo(running)

    assert report.passed


async def test_a_generation_lost_in_a_crash_is_asked_for_again(
    running: RunningSelm, script: ScriptedSelm
) -> None:
    """Inference may die before it wrote a generation down; its question is simply asked again."""
    async with SelmClient(**running.addresses) as selm:
        await selm.chat("warm up")
        script.asked = {}  # what was asked is forgotten, as by a crash
        report = await run_demo(selm, 1, Console(file=io.StringIO()))

    assert report.passed


def test_the_verdict_needs_eleven_of_twelve_each_time() -> None:
    """Eleven right at once and eleven by the weights pass; ten of either do not."""
    fact = Fact("Q?", "Zorvane", (), "N?")
    good = Row(fact, corrected="Zorvane.", first_token_s=0.2, memory_off="It is zorvane!")
    late = replace(good, first_token_s=1.2)
    wrong = replace(good, memory_off="Paris")

    assert Report(1, [good] * 11 + [late]).passed
    assert not Report(1, [good] * 10 + [late] * 2).passed
    assert Report(1, [good] * 11 + [wrong]).passed
    assert not Report(1, [good] * 10 + [wrong] * 2).passed


def test_only_an_outage_excuses_a_late_answer() -> None:
    """A slow answer counts as late unless a service was away meanwhile."""
    row = Row(Fact("Q?", "Zorvane", (), "N?"), corrected="Zorvane", first_token_s=9.0)

    assert row.recalled
    assert not row.recalled_in_time
    assert replace(row, num_repeats=1).recalled_in_time


def test_the_command_writes_its_numbers_and_fails_if_nothing_was_learned(
    running: RunningSelm, script: ScriptedSelm, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """`selm demo --json` leaves every number in the file and exits 1 unless it learned."""
    for name, value in running.environment.items():
        monkeypatch.setenv(name, value)
    script.trains = False
    path = tmp_path / "report.json"
    result = CliRunner().invoke(app, ["demo", "--json", str(path)])

    written = json.loads(path.read_text())
    assert result.exit_code == 1
    assert "It did not learn" in result.stdout
    assert written["passed"] is False
    assert written["num_right_memory_off"] == 0
    assert len(written["rows"]) == NUM_FACTS
    assert written["rows"][0]["right_after_ok"] is True


@pytest.mark.parametrize("seed", range(20))
def test_facts_are_fair(seed: int) -> None:
    """Paraphrases name the same subject, neighbours another, and no text gives an answer away."""
    facts = invent_facts(seed)
    texts = [text for f in facts for text in (f.question, *f.paraphrases, f.neighbour)]

    assert len(facts) == NUM_FACTS
    assert facts == invent_facts(seed)
    assert len({fact.question for fact in facts}) == NUM_FACTS
    assert len({fact.answer for fact in facts}) == NUM_FACTS
    for fact in facts:
        entities = entity_words(fact.question)
        assert all(not missing_words(entities, text) for text in fact.paraphrases)
        assert missing_words(entities, fact.neighbour)
        assert not any(answer_contains(fact.answer, text) for text in texts)


def test_seeds_invent_different_facts() -> None:
    """Another seed has hardly a question in common."""
    first, second = invent_facts(1), invent_facts(2)

    assert not {fact.question for fact in first} & {fact.question for fact in second}
