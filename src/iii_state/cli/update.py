"""`update`: operations on a value, written short or as JSON."""

from __future__ import annotations

import re
import sys
from typing import Any

import click
import msgspec

from iii_state.cli.arguments import NAME, Target, connects, json_or_none, read_json
from iii_state.cli.asking import ask
from iii_state.cli.exits import PARTIAL, tell
from iii_state.cli.output import Format, output_option, print_value

Operation = dict[str, Any]

_MARK = "\0"
"""Cannot be in an argument: a program gets its arguments as C strings."""

_SHORT = re.compile(r"(?P<sign>[+-]?)(?P<path>[^=]*?)(?P<append>\+?)(?:=(?P<value>.*))?", re.DOTALL)


class _Failed(msgspec.Struct):
    op_index: int
    code: str
    message: str


class _Result(msgspec.Struct):
    new_value: msgspec.Raw
    errors: list[_Failed] = []


class Change(click.ParamType[str]):
    """A short operation; undoes the mark of `TakesMinus`."""

    name = "change"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> str:
        """The argument as it was typed."""
        return str(value).removeprefix(_MARK)


class TakesMinus(click.Command):
    """Lets `-name` be an argument, where click would see options.

    Only `-o` and `-h`, standing alone, and what begins with `--` are options.
    """

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        """Mark the arguments that begin with a single minus, so that they stay in their place."""
        end = args.index("--") if "--" in args else len(args)
        marked = [
            _MARK + arg if re.match(r"-[^-]", arg) and arg not in ("-o", "-h") else arg
            for arg in args[:end]
        ]
        return super().parse_args(ctx, marked + args[end:])


@click.command(cls=TakesMinus, short_help="Change parts of a value in one atomic step.")
@click.argument("scope", type=NAME)
@click.argument("key", type=NAME)
@click.argument("changes", nargs=-1, metavar="[CHANGE]...", type=Change())
@click.option("--ops", metavar="JSON|@FILE|-", help="A list of operations, run first.")
@click.option("--merge", metavar="JSON|@FILE|-", help="An object to merge in, last.")
@output_option
@connects
def update(
    scope: str,
    key: str,
    changes: tuple[str, ...],
    ops: str | None,
    merge: str | None,
    output: Format | None,
    target: Target,
) -> None:
    """Change parts of a value in one atomic step, and print the new value.

    \b
    A CHANGE is one of, with values in JSON:
      name=VALUE     set a member
      +name[=N]      add N to a number, 1 if not said
      -name=N        take N off a number
      -name          remove a member
      name+=VALUE    append to a list or a string

    An absent key starts as {}. A change that fails is told and skipped, the others are kept;
    then the exit code is 7.

    \b
    Examples:
      iii-state update counters visits +n
      iii-state update orders o-1 +items=2 status='"paid"' -draft log+='"paid today"'
      iii-state update users alice --merge '{"address": {"city": "Rome"}}'
      iii-state update users alice --ops '[{"type": "append", "path": "log", "value": 1}]'
    """
    operations = _from_json(ops) + [short_operation(change) for change in changes]
    if merge is not None:
        operations.append({"type": "merge", "value": read_json(merge, "--merge")})
    if not operations:
        raise click.UsageError("say what to change: a CHANGE such as +n=1, --ops or --merge")
    answer = ask(target, "state::update", {"scope": scope, "key": key, "ops": operations}, output)
    result = msgspec.json.decode(answer or b"null", type=_Result)
    print_value(bytes(result.new_value), output)
    for failed in result.errors:
        as_json = output in ("json", "ndjson")
        message = f"operation {failed.op_index}: {failed.message}"
        tell(message, failed.code, as_json=as_json)
    if result.errors:
        sys.exit(PARTIAL)


def short_operation(change: str) -> Operation:
    """The operation that a CHANGE of the command line stands for.

    Raises:
        click.UsageError: it has no name, or a value that is not what the operation takes.
    """
    match = _SHORT.fullmatch(change)
    assert match is not None, "the pattern takes any text"
    sign, path, append, value = match.group("sign", "path", "append", "value")
    if not path or (append and sign):
        raise click.UsageError(f"{change!r} is no change; see the list in --help")
    if sign == "-" and value is None:
        return {"type": "remove", "path": path}
    if sign:
        kind = "increment" if sign == "+" else "decrement"
        return {"type": kind, "path": path, "by": _whole_number(change, value or "1")}
    if value is None:
        raise click.UsageError(
            f"{change!r} is no change; {path}=VALUE sets, +{path} counts, -{path} removes"
        )
    raw = json_or_none(value)
    if raw is None:
        raise click.UsageError(
            f"{change!r}: the value is not JSON. A text needs its own quotes, as in "
            f"{path}='\"hello\"'"
        )
    return {"type": "append" if append else "set", "path": path, "value": raw}


def _whole_number(change: str, text: str) -> int:
    if not re.fullmatch(r"[+-]?\d+", text, re.ASCII):
        raise click.UsageError(f"{change!r}: {text!r} is not a whole number")
    return int(text)


def _from_json(ops: str | None) -> list[Any]:
    if ops is None:
        return []
    try:
        return msgspec.json.decode(bytes(read_json(ops, "--ops")), type=list[msgspec.Raw])
    except msgspec.DecodeError as error:
        raise click.UsageError("--ops must be a JSON array of operations") from error
