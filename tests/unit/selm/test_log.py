"""Logging: one pipeline, no secrets, no forged lines."""

import io
import json
import logging

import pytest
import structlog

from selm.log import REDACTED, configure_logging, redact
from selm.settings import SharedSettings


class Terminal(io.StringIO):
    """A stream that says it is a terminal."""

    def isatty(self) -> bool:
        return True


@pytest.fixture(autouse=True)
def _restore():
    root = logging.getLogger()
    handlers, level = root.handlers[:], root.level
    yield
    root.handlers[:], root.level = handlers, level
    logging.captureWarnings(False)
    structlog.reset_defaults()


def _configured(log_format: str = "auto", stream: io.StringIO | None = None) -> io.StringIO:
    stream = stream or io.StringIO()
    configure_logging("memory_svc", SharedSettings(log_format=log_format), stream)
    return stream


def test_json_is_written_unless_a_person_watches() -> None:
    """A file or a pipe gets one JSON object a line, with the fields every line has."""
    stream = _configured()
    structlog.get_logger().info("job_started", job="j1")
    line = json.loads(stream.getvalue())

    assert list(line)[:4] == ["timestamp", "level", "event", "service"]
    assert (line["event"], line["service"], line["job"]) == ("job_started", "memory_svc", "j1")
    assert line["timestamp"].endswith("Z")


def test_a_terminal_gets_plain_lines() -> None:
    """People read columns, not JSON."""
    stream = _configured(stream=Terminal())
    structlog.get_logger().info("job_started")

    assert "job_started" in stream.getvalue()
    assert not stream.getvalue().startswith("{")


def test_the_standard_library_joins_the_same_pipeline() -> None:
    """A library's line has the same shape, and its secrets are dropped as well."""
    stream = _configured()
    logging.getLogger("nats").warning("lost %s", "nats://selm:hunter2@host:4222")
    line = json.loads(stream.getvalue())

    assert (line["logger"], line["level"], line["service"]) == ("nats", "warning", "memory_svc")
    assert "hunter2" not in stream.getvalue()


@pytest.mark.parametrize(
    "key", ["password", "nats_password", "api_key", "Authorization", "accessToken", "page_token"]
)
def test_values_of_secret_keys_are_dropped(key: str) -> None:
    """Also inside nested values."""

    assert redact(None, "", {key: "hunter2"}) == {key: REDACTED}
    assert redact(None, "", {"a": [{key: "hunter2"}]}) == {"a": [{key: REDACTED}]}


@pytest.mark.parametrize("key", ["input_tokens", "tokens_per_second", "token_accuracy", "monkey"])
def test_measures_are_not_mistaken_for_secrets(key: str) -> None:
    """Tokens of a language model are no credentials."""

    assert redact(None, "", {key: 7}) == {key: 7}


def test_bearer_values_are_dropped_wherever_they_stand() -> None:
    """A credential inside a text is one too."""
    event = redact(None, "", {"event": "sent Bearer abcdef123456"})

    assert event == {"event": f"sent Bearer {REDACTED}"}


FORGED = 'x\n2030-01-01 [info] rpc code=OK\r\x1b[2K\u2028{"event":"forged"}\u202e'


@pytest.mark.parametrize("log_format", ["json", "console"])
def test_no_value_can_forge_a_line(log_format: str) -> None:
    """Keys, values and events with line breaks or terminal orders stay inside their line."""
    stream = _configured(log_format)
    logger = structlog.get_logger()
    logger.info(FORGED, value=FORGED, nested={"a": FORGED}, **{"k" + FORGED: 1})
    logging.getLogger("lib").info("%s", FORGED)

    assert len(stream.getvalue().splitlines()) == 2
    assert not set("\r\x1b\u2028\u202e") & set(stream.getvalue())


def test_a_traceback_cannot_forge_a_console_line() -> None:
    """Each line of a traceback is marked as one."""
    stream = _configured("console")
    try:
        raise ValueError(FORGED)
    except ValueError:
        structlog.get_logger().exception("failed")
    lines = stream.getvalue().splitlines()

    assert "failed" in lines[0]
    assert all(line.startswith("  | ") for line in lines[1:])


def test_an_unknown_object_does_not_break_a_line() -> None:
    """Whatever is bound, the line is written."""
    stream = _configured("json")
    structlog.get_logger().info("x", value=object())

    assert json.loads(stream.getvalue())["value"].startswith("<object")


class Broken(io.StringIO):
    """A pipe whose reader is gone, a disk that is full."""

    def write(self, text: str) -> int:
        raise BrokenPipeError


def test_a_log_that_cannot_be_written_fails_nobody() -> None:
    """The call that the line tells of goes on."""
    _configured("json", Broken())

    structlog.get_logger().info("rpc")
