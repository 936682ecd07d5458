"""`dlq`: the dead letters, events that triggers gave up."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

import click
import msgspec

from iii_state.cli.arguments import NAME, Target, connects, count_option
from iii_state.cli.asking import ask
from iii_state.cli.exits import NOT_FOUND, OK, tell
from iii_state.cli.output import Format, output_option, print_value, print_values
from iii_state.terminal import is_terminal

FUNCTION = "state::dead_letters"
LIMIT = 100
PAGE_MAX = 1000
ERROR_COLUMNS = 60
"""Longer messages are cut off in a table."""


class _Page(msgspec.Struct):
    dead_letters: list[msgspec.Raw]
    next_cursor: str | None = None


class _Error(msgspec.Struct):
    code: str
    message: str


class _Event(msgspec.Struct):
    scope: str
    key: str


class _Letter(msgspec.Struct):
    """What a table tells of a letter."""

    id: str
    event: _Event
    attempts: int
    error: _Error
    parked_at_ms: int


ids_option = click.argument("ids", nargs=-1, type=NAME, metavar="[ID]...")
trigger_option = click.option(
    "--trigger", type=NAME, metavar="NAME", help="Those of a trigger, by its durable name or id."
)
all_option = click.option("--all", "is_all", is_flag=True, help="Those of all triggers.")


def chooses(command: Callable[..., Any]) -> Callable[..., Any]:
    """Adds what says which letters are meant, and what every command has."""
    for option in (connects, output_option, all_option, trigger_option, ids_option):
        command = option(command)
    return command


@click.group(short_help="Show, redrive or discard dead letters.")
def dlq() -> None:
    """Show, redrive or discard dead letters: events that triggers gave up.

    \b
    Examples:
      iii-state dlq ls
      iii-state dlq redrive billing@17
      iii-state dlq discard --all
    """


@dlq.command(short_help="List dead letters.")
@click.argument("trigger", type=NAME, required=False)
@count_option(LIMIT)
@output_option
@connects
def ls(trigger: str | None, count: int, output: Format | None, target: Target) -> None:
    """List dead letters, of all triggers or of one.

    They come in the order in which they were given up. A durable trigger is called by its name,
    another by its id.

    \b
    Examples:
      iii-state dlq ls
      iii-state dlq ls billing -o ndjson | jq -r '[.id, .error.message] | @tsv'
    """
    texts: list[bytes] = []
    cursor: str | None = None
    while True:
        limit = min(count - len(texts), PAGE_MAX)
        request: dict[str, Any] = {"name": trigger, "cursor": cursor, "limit": limit}
        page = msgspec.json.decode(ask(target, FUNCTION, request, output) or b"{}", type=_Page)
        texts += [bytes(letter) for letter in page.dead_letters]
        cursor = page.next_cursor
        if cursor is None or len(texts) >= count:
            break
    if cursor is not None:
        click.echo(f"there are more; see -n (now {count})", err=True)
    if output == "table" or (output is None and is_terminal()):
        texts = [_line(text) for text in texts]
    print_values(texts, output)


@dlq.command(short_help="Deliver dead letters again.")
@chooses
def redrive(
    ids: tuple[str, ...],
    trigger: str | None,
    is_all: bool,
    output: Format | None,
    target: Target,
) -> int:
    """Deliver dead letters again: those with these ids, those of a trigger, or all.

    They come out of order, with all attempts anew. Those whose trigger is not there stay. When none
    is delivered again, that is exit code 3.

    \b
    Examples:
      iii-state dlq redrive billing@17 billing@19
      iii-state dlq redrive --trigger billing
    """
    return _act("redrive", "redriven", ids, trigger, is_all, output, target)


@dlq.command(short_help="Forget dead letters.")
@chooses
def discard(
    ids: tuple[str, ...],
    trigger: str | None,
    is_all: bool,
    output: Format | None,
    target: Target,
) -> int:
    """Forget dead letters: those with these ids, those of a trigger, or all.

    When there is none of them, that is exit code 3.

    \b
    Examples:
      iii-state dlq discard billing@17
      iii-state dlq discard --all
    """
    return _act("discard", "discarded", ids, trigger, is_all, output, target)


def _act(
    action: str,
    member: str,
    ids: tuple[str, ...],
    trigger: str | None,
    is_all: bool,
    output: Format | None,
    target: Target,
) -> int:
    if bool(ids) + (trigger is not None) + is_all != 1:
        raise click.UsageError("say which: ids, --trigger NAME, or --all")
    requests: list[dict[str, Any]] = [{"id": letter_id} for letter_id in ids]
    if trigger is not None:
        requests = [{"name": trigger}]
    elif is_all:
        requests = [{"all": True}]
    done = 0
    for request in requests:
        result = ask(target, FUNCTION, {"action": action, **request}, output)
        done += msgspec.json.decode(result or b"{}", type=dict[str, int]).get(member, 0)
    print_value(msgspec.json.encode({member: done}), output)
    if done:
        return OK
    tell(
        f"no dead letter was {member}",
        "NOT_FOUND",
        "`iii-state dlq ls` tells which there are; those of a deleted trigger can only be discarded"
        if action == "redrive"
        else "`iii-state dlq ls` tells which there are",
        as_json=output in ("json", "ndjson"),
    )
    return NOT_FOUND


def _line(text: bytes) -> bytes:
    letter = msgspec.json.decode(text, type=_Letter)
    seconds = letter.parked_at_ms / 1000
    shown = f"{letter.error.code}: {letter.error.message}"
    return msgspec.json.encode(
        {
            "id": letter.id,
            "key": f"{letter.event.scope}/{letter.event.key}",
            "attempts": letter.attempts,
            "parked": time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(seconds)),
            "error": shown if len(shown) <= ERROR_COLUMNS else f"{shown[:ERROR_COLUMNS]}…",
        }
    )
