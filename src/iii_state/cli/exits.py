"""Exit codes, and how a failure is told on standard error.

A failure is three lines, `error:` a sentence, `code:` a stable word, `hint:` what to do (if there
is something), or one JSON object when the output is JSON. Standard output carries data only.
"""

from __future__ import annotations

from typing import Any

import click
import msgspec

from iii_state.errors import (
    ConfigurationError,
    ConnectionFailed,
    InvalidRequest,
    Refused,
    StateError,
    StoreLocked,
    TimedOut,
)
from iii_state.terminal import safe

OK = 0
FAILED = 1
USAGE = 2
NOT_FOUND = 3
CONFLICT = 4
NOT_CONNECTED = 5
FORBIDDEN = 6
PARTIAL = 7
TIMEOUT = 124
INTERRUPTED = 130
TERMINATED = 143

# Not there before click 8.2, which prints the help by itself.
_NO_COMMAND: Any = getattr(click.exceptions, "NoArgsIsHelpError", ())

_BY_ERROR: tuple[tuple[type[StateError], int], ...] = (
    (ConfigurationError, USAGE),
    (InvalidRequest, USAGE),
    (StoreLocked, CONFLICT),
    (ConnectionFailed, NOT_CONNECTED),
    (Refused, FORBIDDEN),
    (TimedOut, TIMEOUT),
)
_BY_WIRE_CODE = {
    "deserialization_error": USAGE,
    "INVALID_CURSOR": USAGE,
    "INVALID_NAMESPACE": USAGE,
    "VALUE_TOO_LARGE": USAGE,
    "LIMIT_EXCEEDED": USAGE,
    "FORBIDDEN": FORBIDDEN,
    "UNAUTHORIZED": FORBIDDEN,
    "ALREADY_DONE": CONFLICT,
    "CONFLICT": CONFLICT,
    "IDEMPOTENCY_MISMATCH": CONFLICT,
    "NOT_FOUND": NOT_FOUND,
    "UNAVAILABLE": NOT_CONNECTED,
    "TIMEOUT": TIMEOUT,
}


def exit_code(error: StateError) -> int:
    """The exit code for an error, ours or one that the server answered."""
    for kind, code in _BY_ERROR:
        if isinstance(error, kind):
            return code
    return _BY_WIRE_CODE.get(error.wire_code, FAILED)


def report(error: StateError, *, as_json: bool = False) -> int:
    """Tell a failure on standard error and give its exit code."""
    details = dict(error.details)
    hint = str(details.pop("hint", ""))
    tell(error.message, error.wire_code, hint, details, as_json=as_json)
    return exit_code(error)


def report_usage(error: click.ClickException) -> int:
    """Tell what is wrong with a command line; of one without a command, how to use it."""
    if isinstance(error, _NO_COMMAND):
        click.echo(error.format_message(), err=True)
        return USAGE
    context = getattr(error, "ctx", None)
    hint = f"see `{context.command_path} --help`" if context is not None else ""
    tell(error.format_message(), "USAGE", hint)
    return USAGE


def tell(
    message: str,
    code: str,
    hint: str = "",
    details: dict[str, Any] | None = None,
    *,
    as_json: bool = False,
) -> None:
    """Write a failure to standard error, as lines or as one JSON object."""
    if as_json:
        body: dict[str, Any] = {"code": code, "message": message}
        body |= {"hint": hint} if hint else {}
        body |= {"details": details} if details else {}
        text = msgspec.json.encode({"error": body}, enc_hook=str).decode()
        click.echo(text, err=True)
        return
    click.echo(f"error: {safe(message)}\ncode: {safe(code)}", err=True)
    if hint:
        click.echo(f"hint: {safe(hint)}", err=True)
