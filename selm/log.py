"""Logging of every process: one structlog pipeline, which the standard library's loggers join.

JSON unless a person watches. Secrets are dropped by key, and no value can forge a second line.
"""

import logging
import re
import sys
from collections.abc import Callable
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
    structlog.configure(
        processors=[*shared, structlog.stdlib.ProcessorFormatter.wrap_for_formatter],
        wrapper_class=structlog.make_filtering_bound_logger(settings.log_level),
        logger_factory=structlog.stdlib.LoggerFactory(),
        cache_logger_on_first_use=False,
    )
    handler = logging.StreamHandler(stream)
    handler.setFormatter(
        structlog.stdlib.ProcessorFormatter(
            foreign_pre_chain=[structlog.stdlib.add_logger_name, *shared],
            processors=[
                structlog.stdlib.ProcessorFormatter.remove_processors_meta,
                *_renderers(is_console, stream),
            ],
        )
    )
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(settings.log_level)
    logging.captureWarnings(True)


def _renderers(is_console: bool, stream: TextIO) -> list[Processor]:
    if is_console:
        console = structlog.dev.ConsoleRenderer(
            colors=stream.isatty(), exception_formatter=structlog.dev.plain_traceback
        )
        return [escape_controls, console]
    # JSON needs no escaping of ours: its strings hold no raw control character.
    return [_leading_first, structlog.processors.JSONRenderer(default=str)]


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
        return _BEARER.sub(rf"\1 {REDACTED}", _URL_USER.sub(REDACTED, value))
    return value


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
