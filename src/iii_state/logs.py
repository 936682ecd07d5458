"""How the log looks when the server runs as a program.

The library logs through the standard library, so that an embedding program decides. Only `serve`
calls `configure`, which renders every record through structlog to standard error: lines that people
read, coloured on a terminal (unless NO_COLOR), or one JSON object a line.

Facts go into `extra=`, so that both forms show them: `log.info("listening", extra={"port": 1})`.
"""

from __future__ import annotations

import logging
import sys
import time
from collections.abc import Callable, MutableMapping
from typing import IO, Any

import structlog
from structlog.typing import EventDict, Processor

from iii_state.line_limit import LineLimit
from iii_state.settings import LogFormat, LogLevel
from iii_state.terminal import has_colours, safe_name

_ORDER = ("timestamp", "level", "logger", "message")

_OWN = ("exc_info", "stack_info")
"""Not text yet, and of the program."""

CHARACTERS_MAX = 8192
"""What a message, or a fact beside it, is cut to: workers may log a message as long as any."""


def configure(
    log_format: LogFormat,
    log_level: LogLevel,
    stream: IO[str] | None = None,
    *,
    lines_max: int = 100,
    clock: Callable[[], float] = time.monotonic,
) -> None:
    """Send all records to `stream` (standard error), rendered. Replaces earlier handlers.

    Of each kind `lines_max` are sent in a minute; see `LineLimit`.
    """
    target = stream or sys.stderr
    handler = logging.StreamHandler(target)
    handler.setFormatter(_formatter(log_format, colours=has_colours(target)))
    handler.addFilter(LineLimit(lines_max, handler.handle, clock))
    logging.basicConfig(handlers=[handler], level=log_level.upper(), force=True)


def _formatter(log_format: LogFormat, *, colours: bool) -> logging.Formatter:
    before: list[Processor] = [
        structlog.stdlib.add_log_level,
        structlog.stdlib.add_logger_name,
        structlog.stdlib.ExtraAdder(),
        structlog.processors.TimeStamper(fmt="iso", utc=True),
        _shortened,
    ]
    after: list[Processor] = [structlog.stdlib.ProcessorFormatter.remove_processors_meta]
    if log_format == "json":
        after += [
            structlog.processors.format_exc_info,
            structlog.processors.EventRenamer("message"),
            _in_order,
            structlog.processors.JSONRenderer(ensure_ascii=False, default=str),
        ]
    else:
        after += [
            _printable,
            structlog.dev.ConsoleRenderer(
                colors=colours,
                pad_event_to=0,
                exception_formatter=structlog.dev.plain_traceback,
            ),
        ]
    return structlog.stdlib.ProcessorFormatter(foreign_pre_chain=before, processors=after)


def _shortened(logger: Any, name: str, event: MutableMapping[str, Any]) -> EventDict:
    return {
        key: value if key in _OWN or key.startswith("_") else _short(value)
        for key, value in event.items()
    }


def _short(value: Any) -> Any:
    text = value if isinstance(value, str) else repr(value)
    if len(text) <= CHARACTERS_MAX:
        return value
    return f"{text[:CHARACTERS_MAX]} ... ({len(text):,} characters)"


def _printable(logger: Any, name: str, event: MutableMapping[str, Any]) -> EventDict:
    """Names and messages come from anybody: none may forge a line or move the cursor."""
    return {
        key: safe_name(value) if isinstance(value, str) else value for key, value in event.items()
    }


def _in_order(logger: Any, name: str, event: MutableMapping[str, Any]) -> EventDict:
    first = {key: event[key] for key in _ORDER if key in event}
    return first | {key: value for key, value in event.items() if key not in first}
