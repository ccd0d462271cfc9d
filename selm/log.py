"""Logging of every process: one structlog pipeline, which the standard library's loggers join.

JSON unless a person watches. Secrets are dropped by key, and no value can forge a second line.
"""

import json
import logging
import re
import sys
from collections.abc import Callable
from functools import lru_cache
from typing import Any, TextIO

import structlog
from structlog.typing import EventDict, Processor, WrappedLogger

from selm import __version__
from selm.settings import SharedSettings

get_logger = structlog.get_logger

REDACTED = "[redacted]"
_SECRET_WORDS = frozenset(
    {"password", "passwd", "secret", "secrets", "authorization", "cookie", "credential"}
    | {"credentials", "apikey"}
)
_WORDS = re.compile(r"[A-Z]+(?![a-z])|[A-Z]?[a-z]+|[0-9]+")
_URL_USER = re.compile(r"(?<=://)[^/@\s]+(?=@)")
_BEARER = re.compile(r"(?i)\b(bearer|basic)\s+[A-Za-z0-9._~+/=-]{8,}")
# Everything a terminal or a reader could take for a new line or an order, beside plain text.
_CONTROL = re.compile(r"[\x00-\x1f\x7f-\x9f\u2028\u2029\u202a-\u202e\u2066-\u2069]")


def configure_logging(service: str, settings: SharedSettings, stream: TextIO = sys.stdout) -> None:
    """Sets up logging of this process; the last call wins."""
    is_console = settings.log_format == "console" or (
        settings.log_format == "auto" and stream.isatty()
    )
    shared: list[Processor] = [
        structlog.contextvars.merge_contextvars,
        structlog.stdlib.add_log_level,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
        _service_fields(service),
        structlog.processors.StackInfoRenderer(),
        structlog.processors.format_exc_info,
        redact,
    ]
    renderers = _renderers(is_console, stream)
    handler = logging.StreamHandler(stream)
    lines = _Lines(handler)
    structlog.configure(
        # Not through logging: its records and formatters would cost more than the line itself.
        processors=[*shared, *renderers],
        wrapper_class=structlog.make_filtering_bound_logger(settings.log_level),
        logger_factory=lambda *_: lines,
        cache_logger_on_first_use=False,
    )
    handler.setFormatter(
        structlog.stdlib.ProcessorFormatter(
            foreign_pre_chain=[structlog.stdlib.add_logger_name, *shared],
            processors=[
                structlog.stdlib.ProcessorFormatter.remove_processors_meta,
                *renderers,
            ],
        )
    )
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(settings.log_level)
    logging.captureWarnings(True)


class _Lines:
    """Writes finished lines to the stream of a handler, under its lock.

    A log that cannot be written must not fail the call that it tells of.
    """

    def __init__(self, handler: "logging.StreamHandler[TextIO]") -> None:
        self._handler = handler

    def msg(self, line: str) -> None:
        self._handler.acquire()
        try:
            self._handler.stream.write(line + "\n")
            self._handler.stream.flush()
        except (OSError, ValueError):
            pass
        finally:
            self._handler.release()

    debug = info = warning = error = critical = exception = fatal = log = msg


def _renderers(is_console: bool, stream: TextIO) -> list[Processor]:
    if is_console:
        console = structlog.dev.ConsoleRenderer(
            colors=stream.isatty(), exception_formatter=structlog.dev.plain_traceback
        )
        return [escape_controls, console]
    # JSON needs no escaping of ours: its strings hold no raw control character.
    return [_leading_first, _as_json]


# Made once: json.dumps would make one for each line.
_JSON = json.JSONEncoder(default=str)


def _as_json(_: WrappedLogger, __: str, event: EventDict) -> str:
    return _JSON.encode(event)


def _leading_first(_: WrappedLogger, __: str, event: EventDict) -> EventDict:
    """Orders a line for the eye that scans it: when, how bad, what, then the rest."""
    leading = ("timestamp", "level", "event", "service")
    return {key: event[key] for key in leading if key in event} | dict(event)


def _service_fields(service: str) -> Processor:
    def add(_: WrappedLogger, __: str, event: EventDict) -> EventDict:
        event.setdefault("service", service)
        event.setdefault("version", __version__)
        return event

    return add


def redact(_: WrappedLogger, __: str, event: EventDict) -> EventDict:
    """Replaces what must never be stored: values of secret keys, passwords inside addresses."""
    return {key: _redacted(key, value) for key, value in event.items()}


def _redacted(key: object, value: Any) -> Any:
    if _is_secret(str(key)) and value is not None:
        return REDACTED
    if isinstance(value, dict):
        return {k: _redacted(k, v) for k, v in value.items()}
    if isinstance(value, (list, tuple)):
        return [_redacted("", item) for item in value]
    if isinstance(value, str):
        return _redacted_text(value)
    return value


def _redacted_text(text: str) -> str:
    # A search is cheaper than a substitution, and most lines have nothing to hide.
    if "@" in text:
        text = _URL_USER.sub(REDACTED, text)
    if _BEARER.search(text):
        text = _BEARER.sub(rf"\1 {REDACTED}", text)
    return text


@lru_cache(maxsize=1024)
def _is_secret(key: str) -> bool:
    words = [word.lower() for word in _WORDS.findall(key)]
    # `token` ends the name of a credential; input_tokens and token_accuracy are measures.
    return (
        not _SECRET_WORDS.isdisjoint(words)
        or words[-1:] == ["token"]
        or words[-2:] in (["api", "key"], ["private", "key"], ["page", "key"])
    )


def escape_controls(_: WrappedLogger, __: str, event: EventDict) -> EventDict:
    """Writes control characters as escapes; lines of a traceback stay lines, each marked."""
    escaped = {_escape(str(key)): _map_text(_escape, value) for key, value in event.items()}
    for key in ("exception", "stack"):
        if isinstance(event.get(key), str):
            lines = event[key].split("\n")
            escaped[key] = "\n".join(f"  | {_escape(line)}" for line in lines)
    return escaped


def _map_text(change: Callable[[str], str], value: Any) -> Any:
    if isinstance(value, (dict, list, tuple)):
        return change(str(value))
    return change(value) if isinstance(value, str) else value


def _escape(text: str) -> str:
    return _CONTROL.sub(lambda found: found.group().encode("unicode_escape").decode(), text)
