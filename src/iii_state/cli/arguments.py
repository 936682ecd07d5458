"""Arguments that several commands take: names, JSON values, and where the server is."""

from __future__ import annotations

import functools
import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import click
import msgspec

DEFAULT_URL = "ws://127.0.0.1:49134"
DEFAULT_TIMEOUT_S = 30.0


class Target(msgspec.Struct, frozen=True):
    """The server to talk to, and how long to wait for it."""

    url: str
    token: str | None
    timeout_s: float


class Name(click.ParamType[str]):
    """A scope or key: any text that can be written as UTF-8."""

    name = "text"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> str:
        """Refuse what the shell handed over as broken UTF-8."""
        try:
            str(value).encode()
        except UnicodeEncodeError:
            self.fail("it is not UTF-8", param, ctx)
        return str(value)


NAME = Name()


def connects(command: Callable[..., Any]) -> Callable[..., Any]:
    """Add `--url`, `--token-file` and `--timeout`, handed over as `target`."""

    @click.option(
        "--url",
        envvar="III_URL",
        default=DEFAULT_URL,
        show_default=True,
        show_envvar=True,
        help="Where the server is.",
    )
    @click.option(
        "--token-file",
        type=click.Path(path_type=Path),
        metavar="FILE",
        help="File with the server's token. Else III_STATE_TOKEN or III_TOKEN is used.",
    )
    @click.option(
        "--timeout",
        "timeout_s",
        type=click.FloatRange(0, min_open=True),
        metavar="SECONDS",
        default=DEFAULT_TIMEOUT_S,
        show_default=True,
        help="How long to wait for an answer.",
    )
    @functools.wraps(command)
    def wrapped(
        *args: Any, url: str, token_file: Path | None, timeout_s: float, **options: Any
    ) -> Any:
        target = Target(url, _token(token_file), timeout_s)
        return command(*args, target=target, **options)

    return wrapped


def count_option(default: int) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    """Adds `-n`, the bound of a listing."""
    return click.option(
        "-n",
        "--count",
        type=click.IntRange(min=1),
        metavar="N",
        default=default,
        show_default=True,
        help="How many at most.",
    )


def read_text(argument: str) -> str:
    """What an argument says: itself, the content of `@FILE`, or standard input for `-`.

    Raises:
        click.UsageError: the file cannot be read, or is not UTF-8.
    """
    try:
        if argument == "-":
            return sys.stdin.buffer.read().decode()
        if argument.startswith("@"):
            return Path(argument[1:]).read_text("utf-8")
        argument.encode()
    except OSError as error:
        raise click.UsageError(f"cannot read {argument[1:]}: {error.strerror}") from error
    except UnicodeError as error:
        raise click.UsageError(f"{argument[:40]!r} is not UTF-8 text") from error
    return argument


def read_json(argument: str, what: str) -> msgspec.Raw:
    """The JSON text of an argument, `@FILE` or `-`. The text itself is kept, not its meaning.

    Raises:
        click.UsageError: it is no JSON text.
    """
    text = read_text(argument).strip()
    if (raw := json_or_none(text)) is None:
        shown = text if len(text) <= 60 else text[:60] + "…"
        raise click.UsageError(
            f"{what} is not JSON: {shown or '(empty)'}\n"
            "A text needs its own quotes, as in '\"hello\"'."
        )
    return raw


def json_or_none(text: str) -> msgspec.Raw | None:
    """The text as raw JSON, or None when it is not JSON."""
    try:
        return msgspec.json.decode(text, type=msgspec.Raw)
    except (msgspec.DecodeError, RecursionError):
        return None


def _token(token_file: Path | None) -> str | None:
    if token_file is not None:
        from iii_state.resolution import read_token

        return read_token(token_file, "--token-file")
    return os.environ.get("III_STATE_TOKEN") or os.environ.get("III_TOKEN")
