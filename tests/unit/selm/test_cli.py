"""Promises of the command line: plain results, one-line errors with reasons, honest exit codes."""

import json
from collections.abc import Iterator

import grpc
import pytest
from click.testing import Result
from typer.testing import CliRunner

from selm import __version__
from selm.cli import app
from tests.scripted_selm import RunningSelm, ScriptedSelm


@pytest.fixture
def running(monkeypatch: pytest.MonkeyPatch) -> Iterator[RunningSelm]:
    with RunningSelm(ScriptedSelm()) as selm:
        for name, value in selm.environment.items():
            monkeypatch.setenv(name, value)
        monkeypatch.setenv("NO_COLOR", "1")
        yield selm


def selm(*arguments: str, text: str | None = None) -> Result:
    return CliRunner().invoke(app, list(arguments), input=text)


def code(status: grpc.StatusCode) -> int:
    return 64 + int(status.value[0])


def test_version_is_printed() -> None:
    """`selm --version` names the release."""
    result = selm("--version")

    assert result.exit_code == 0
    assert result.stdout.strip() == f"selm {__version__}"


def test_chat_writes_the_answer_alone_to_stdout(running: RunningSelm) -> None:
    """A pipe gets the model's words; where they came from goes to stderr."""
    result = selm("chat", "What is the capital of Velmora?")

    assert result.exit_code == 0
    assert result.stdout.strip() == "I do not know that."
    assert "generations/g0" in result.stderr
    assert "base model" in result.stderr


def test_chat_as_json_is_the_contracts_generation(running: RunningSelm) -> None:
    """-o json prints canonical ProtoJSON on one line."""
    result = selm("chat", "What is the capital of Velmora?", "-o", "json")

    generation = json.loads(result.stdout)
    assert generation["name"] == "generations/g0"
    assert generation["candidates"][0]["text"].strip() == "I do not know that."


def test_a_conversation_sends_its_earlier_turns(running: RunningSelm) -> None:
    """Without a question, chat reads line by line and remembers what was said."""
    result = selm("chat", text="Hello?\nAnd now?\n\n")

    last = running.script.seen("GenerateStream")[-1].input.chat.messages
    assert result.exit_code == 0
    assert [message.text for message in last] == ["Hello?", "I do not know that. ", "And now?"]


def test_memory_can_be_switched_off(running: RunningSelm) -> None:
    """--no-memory limits the use of memory to none."""
    selm("chat", "Hello?", "--no-memory")

    options = running.script.seen("GenerateStream")[0].options
    assert options.memory_options.max_use == 1


def test_an_error_is_one_line_with_its_reason(running: RunningSelm) -> None:
    """What does not exist is named, and the exit code is grpcurl's."""
    result = selm("correct", "generations/none", "Zorvane")

    assert result.exit_code == code(grpc.StatusCode.NOT_FOUND)
    assert result.stderr.strip() == ("error: RESOURCE_NOT_FOUND: generations/none does not exist")
    assert result.stdout == ""


def test_every_field_violation_is_printed(running: RunningSelm) -> None:
    """A bad request shows all that is wrong with it at once."""
    result = selm("chat", "", "--temperature", "-1")

    assert result.exit_code == code(grpc.StatusCode.INVALID_ARGUMENT)
    assert "error: INVALID_FIELD" in result.stderr
    assert "input.chat.messages[0].text: must not be empty" in result.stderr
    assert "options.sampling_params.temperature: must be 0 to 2" in result.stderr


def test_an_absent_server_is_one_clear_line(
    free_port: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """No traceback, the address that did not answer, and UNAVAILABLE's exit code."""
    monkeypatch.setenv("SELM_TRAINER_TARGET", f"127.0.0.1:{free_port}")

    result = selm("jobs", "ls")

    assert result.exit_code == code(grpc.StatusCode.UNAVAILABLE)
    assert "PEER_UNAVAILABLE" in result.stderr
    assert str(free_port) in result.stderr
    assert "Traceback" not in result.output


def test_a_misspelled_setting_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    """A typo in the environment must not be ignored in silence."""
    monkeypatch.setenv("SELM_LOG_LEVLE", "DEBUG")

    result = selm("info")

    assert result.exit_code == 2
    assert "SELM_LOG_LEVLE" in result.stderr
    assert "Traceback" not in result.output


def test_a_correction_prints_its_lesson(running: RunningSelm) -> None:
    """The receipt names the lesson to watch and the token to be sure of it."""
    selm("chat", "What is the capital of Velmora?")
    result = selm("correct", "generations/g0", "Zorvane", "--paraphrase", "Velmora's capital?")

    sent = running.script.seen("CreateFeedbackEvent")[0].feedback_event.correction
    assert result.exit_code == 0
    assert "lessons/l0" in result.stdout
    assert "t0" in result.stdout
    assert list(sent.paraphrases) == ["Velmora's capital?"]


def test_each_signal_is_a_command_of_its_own(running: RunningSelm) -> None:
    """On a generation or a whole conversation; a word that is none is refused here."""
    selm("chat", "Hello?")

    assert selm("feedback", "thumbs", "generations/g0", "sideways").exit_code == 2
    assert selm("feedback", "action", "generations/g0", "burnt").exit_code == 2
    for words in (
        ("thumbs", "generations/g0", "down"),
        ("rate", "generations/g0", "4", "--max", "10"),
        ("prefer", "generations/g0", "Hi!", "--over", "Ho!"),
        ("comment", "generations/g0", "Too short."),
        ("action", "generations/g0", "edited", "--text", "Hi."),
        ("correct", "generations/g0", "Zorvane"),
    ):
        assert selm("feedback", *words).exit_code == 0, words
    sent = [request.feedback_event for request in running.script.seen("CreateFeedbackEvent")]
    kinds = ["thumbs", "rating", "preference", "comment", "implicit", "correction"]
    assert [event.WhichOneof("signal") for event in sent] == kinds
    assert sent[1].rating.max_value == 10
    assert sent[2].preference.rejected_text == "Ho!"
    assert sent[4].implicit.edited_text == "Hi."


def test_watching_a_job_ends_with_its_verdict(running: RunningSelm) -> None:
    """Exit code 0 only if the job succeeded."""
    result = selm("jobs", "watch", "trainingJobs/j1")

    assert result.exit_code == 0
    assert "SUCCEEDED" in result.stdout


def test_watching_a_refused_job_exits_with_1(running: RunningSelm) -> None:
    """A script can tell that nothing was learned, and why."""
    running.script.trains = False
    result = selm("jobs", "watch", "trainingJobs/j1")

    assert result.exit_code == 1
    assert "the gate said REJECT" in result.stdout


def test_json_of_a_watch_is_one_line_per_frame(running: RunningSelm) -> None:
    """Frames can be read as they come."""
    result = selm("jobs", "watch", "trainingJobs/j1", "-o", "json")

    states = [json.loads(line)["state"] for line in result.stdout.splitlines()]
    assert states == ["STATE_TRAINING", "STATE_TRAINING", "STATE_SUCCEEDED"]


def test_memories_are_added_searched_and_removed(running: RunningSelm) -> None:
    """The memory commands reach memory_svc with what was typed."""
    added = selm("memory", "add", "Zorvane", "--question", "What is the capital of Velmora?")
    found = selm("memory", "search", "capital", "-o", "json")
    removed = selm("memory", "rm", "users/anonymous/memories/m1")

    assert "users/anonymous/memories/m1" in added.stdout
    assert json.loads(found.stdout)["memory"]["text"] == "Zorvane"
    assert removed.exit_code == 0


def test_info_shows_all_four_servers_and_the_model(running: RunningSelm) -> None:
    """One look tells what runs and whether its dependencies pass."""
    result = selm("info")

    assert result.exit_code == 0
    assert result.stdout.count("1 passed") == 4
    assert "models/scripted" in result.stdout


def test_a_rollback_with_nothing_before_fails_with_its_reason(running: RunningSelm) -> None:
    """FAILED_PRECONDITION, in words."""
    result = selm("adapters", "rollback")

    assert result.exit_code == code(grpc.StatusCode.FAILED_PRECONDITION)
    assert "NO_PREVIOUS_REVISION" in result.stderr


def test_the_tenant_goes_with_the_call(running: RunningSelm) -> None:
    """--tenant acts for that tenant."""
    selm("--tenant", "acme", "jobs", "ls")

    assert running.script.calls[0][2]["x-selm-tenant"] == "acme"
