"""`get`, `set` and `delete`: one key at a time."""

from __future__ import annotations

import sys

import click

from iii_state.cli.arguments import NAME, Target, connects, read_json, read_text
from iii_state.cli.asking import ask
from iii_state.cli.exits import NOT_FOUND, tell
from iii_state.cli.output import Format, output_option, print_value


@click.command(short_help="Print the value of a key.")
@click.argument("scope", type=NAME)
@click.argument("key", type=NAME)
@click.option("--default", metavar="JSON", help="Print this, and succeed, when the key is absent.")
@output_option
@connects
def get(scope: str, key: str, default: str | None, output: Format | None, target: Target) -> None:
    """Print the value of a key.

    A key that is absent is exit code 3 and prints nothing; a key that holds null prints null.

    \b
    Examples:
      iii-state get users alice
      iii-state get users alice -o raw          # a string without its quotes
      iii-state get counters visits --default 0
      iii-state get users alice | jq .name
    """
    fallback = None if default is None else bytes(read_json(default, "--default"))
    value = ask(target, "state::get", {"scope": scope, "key": key}, output)
    if value is None:
        value = fallback
    if value is None:
        tell(
            f"there is no key {key!r} in scope {scope!r}",
            "NOT_FOUND",
            as_json=output in ("json", "ndjson"),
        )
        sys.exit(NOT_FOUND)
    print_value(value, output)


@click.command("set", short_help="Write the value of a key.")
@click.argument("scope", type=NAME)
@click.argument("key", type=NAME)
@click.argument("value", metavar="VALUE|@FILE|-")
@click.option("-s", "--string", is_flag=True, help="Take VALUE as a string instead of as JSON.")
@output_option
@connects
def set_(
    scope: str, key: str, value: str, string: bool, output: Format | None, target: Target
) -> None:
    """Write the value of a key: JSON, the content of @FILE, or standard input for -.

    Says nothing when all went well. With -o it prints the old and the new value.

    \b
    Examples:
      iii-state set users alice '{"name": "Alice", "age": 30}'
      iii-state set config greeting -s "hello there"
      iii-state set config rules @rules.json
      curl -s https://example.org/rates.json | iii-state set rates today -
    """
    new = read_text(value) if string else read_json(value, "VALUE")
    result = ask(target, "state::set", {"scope": scope, "key": key, "value": new}, output)
    if output is not None and result is not None:
        print_value(result, output)


@click.command(short_help="Remove a key and print the value it had.")
@click.argument("scope", type=NAME)
@click.argument("key", type=NAME)
@output_option
@connects
def delete(scope: str, key: str, output: Format | None, target: Target) -> None:
    """Remove a key and print the value it had.

    Removing a key that is absent succeeds and prints nothing.

    \b
    Examples:
      iii-state delete users alice
      iii-state delete jobs j-17 > j-17.json    # keep what was removed
    """
    value = ask(target, "state::delete", {"scope": scope, "key": key}, output)
    if value is not None:
        print_value(value, output)
