"""`triggers`: how triggers of type `state` fare, and what to do about one."""

from __future__ import annotations

import click
import msgspec

from iii_state.cli.arguments import NAME, Target, connects
from iii_state.cli.asking import ask
from iii_state.cli.output import Format, output_option, print_value, print_values
from iii_state.terminal import is_terminal

FUNCTION = "state::triggers"
ERROR_COLUMNS = 40
"""Longer messages are cut off in a table; `show` has them whole."""


class _Error(msgspec.Struct):
    code: str
    message: str


class _Row(msgspec.Struct):
    """What a table tells of a trigger."""

    id: str
    function_id: str
    status: str
    lag: int
    in_flight: int
    dead_letters: int
    name: str | None = None
    unknown_members: str | None = None
    last_error: _Error | None = None


class _Triggers(msgspec.Struct):
    triggers: list[msgspec.Raw]


class _One(msgspec.Struct):
    trigger: msgspec.Raw


named = click.argument("name", type=NAME)
by_id = click.option("--id", "is_id", is_flag=True, help="NAME is the id of a trigger.")


@click.group(short_help="Show, pause, resume or delete triggers.")
def triggers() -> None:
    """Show, pause, resume or delete triggers of type state.

    A durable trigger is called by its name, any by its id with --id.

    \b
    Examples:
      iii-state triggers ls
      iii-state triggers pause billing
      iii-state triggers show 7c9e6679 --id
    """


@triggers.command()
@output_option
@connects
def ls(output: Format | None, target: Target) -> None:
    """List all triggers; durable ones whose workers are away, too.

    When the config of one has members that mean nothing, a column of the table names them.

    \b
    Examples:
      iii-state triggers ls
      iii-state triggers ls -o ndjson | jq -r 'select(.lag > 1000) | .id'
    """
    result = ask(target, FUNCTION, {}, output)
    rows = msgspec.json.decode(result or b"{}", type=_Triggers).triggers
    texts = [bytes(row) for row in rows]
    if output == "table" or (output is None and is_terminal()):
        texts = [_line(text) for text in texts]
    print_values(texts, output)


@triggers.command()
@named
@by_id
@output_option
@connects
def show(name: str, is_id: bool, output: Format | None, target: Target) -> None:
    """Print everything about one trigger.

    \b
    Examples:
      iii-state triggers show billing
      iii-state triggers show billing -o json | jq .last_error
    """
    print_value(_act("show", name, is_id, output, target), output)


@triggers.command()
@named
@by_id
@output_option
@connects
def pause(name: str, is_id: bool, output: Format | None, target: Target) -> None:
    """Start nothing more for a trigger, until it is resumed.

    A durable one stays paused over restarts. What it misses meanwhile is delivered afterwards.

    \b
    Examples:
      iii-state triggers pause billing
    """
    print_value(_act("pause", name, is_id, output, target), output)


@triggers.command()
@named
@by_id
@output_option
@connects
def resume(name: str, is_id: bool, output: Format | None, target: Target) -> None:
    """Go on with a paused trigger.

    \b
    Examples:
      iii-state triggers resume billing
    """
    print_value(_act("resume", name, is_id, output, target), output)


@triggers.command()
@named
@by_id
@output_option
@connects
def rm(name: str, is_id: bool, output: Format | None, target: Target) -> None:
    """Delete a durable trigger and its place in the change log.

    Its dead letters stay. A worker that binds the name again starts anew.

    \b
    Examples:
      iii-state triggers rm billing
    """
    _do("delete", name, is_id, output, target)
    click.echo(f"deleted {name}", err=True)


def _do(action: str, name: str, is_id: bool, output: Format | None, target: Target) -> bytes | None:
    hint = "" if is_id else "`iii-state triggers ls` lists them; an id needs --id"
    request = {"action": action, "id" if is_id else "name": name}
    return ask(target, FUNCTION, request, output, missing=hint)


def _act(action: str, name: str, is_id: bool, output: Format | None, target: Target) -> bytes:
    result = _do(action, name, is_id, output, target)
    return bytes(msgspec.json.decode(result or b"{}", type=_One).trigger)


def _line(text: bytes) -> bytes:
    row = msgspec.json.decode(text, type=_Row)
    error = row.last_error
    shown = f"{error.code}: {error.message}" if error is not None else ""
    cells: dict[str, object] = {
        "trigger": row.name if row.name is not None else row.id,
        "status": row.status,
        "lag": row.lag,
        "in flight": row.in_flight,
        "dead letters": row.dead_letters,
        "function": row.function_id,
        "last error": shown if len(shown) <= ERROR_COLUMNS else f"{shown[:ERROR_COLUMNS]}…",
    }
    if row.unknown_members is not None:
        cells["unknown members"] = row.unknown_members
    return msgspec.json.encode(cells)
