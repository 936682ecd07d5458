"""`list`, `keys` and `scopes`: what there is."""

from __future__ import annotations

import click
import msgspec

from iii_state.cli.arguments import NAME, Target, connects
from iii_state.cli.asking import ask
from iii_state.cli.output import Format, output_option, print_names, print_values


class _Keys(msgspec.Struct):
    keys: list[str]


class _Groups(msgspec.Struct):
    groups: list[str]


@click.command("list", short_help="Print all values of a scope, oldest key first.")
@click.argument("scope", type=NAME)
@output_option
@connects
def list_(scope: str, output: Format | None, target: Target) -> None:
    """Print all values of a scope, oldest key first.

    A scope that holds nothing prints nothing. For the names of the keys, see `iii-state keys`.

    \b
    Examples:
      iii-state list users
      iii-state list users | jq -r .name        # a value a line
      iii-state list users -o json > users.json # one array
    """
    result = ask(target, "state::list", {"scope": scope}, output)
    values = msgspec.json.decode(result or b"[]", type=list[msgspec.Raw])
    print_values([bytes(value) for value in values], output)


@click.command(short_help="Print the names of all keys of a scope, in alphabetical order.")
@click.argument("scope", type=NAME)
@output_option
@connects
def keys(scope: str, output: Format | None, target: Target) -> None:
    """Print the names of all keys of a scope, in alphabetical order.

    \b
    Examples:
      iii-state keys users
      iii-state keys users -o ndjson            # safe for names with line feeds in them
    """
    result = ask(target, "state::list_keys", {"scope": scope}, output)
    print_names("key", msgspec.json.decode(result or b"{}", type=_Keys).keys, output)


@click.command(short_help="Print the names of all scopes that hold a key, in alphabetical order.")
@output_option
@connects
def scopes(output: Format | None, target: Target) -> None:
    """Print the names of all scopes that hold a key, in alphabetical order.

    \b
    Examples:
      iii-state scopes
      for scope in $(iii-state scopes); do iii-state list "$scope"; done
    """
    result = ask(target, "state::list_groups", {}, output)
    print_names("scope", msgspec.json.decode(result or b"{}", type=_Groups).groups, output)
