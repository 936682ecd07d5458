"""`call`: any function, of the server or of a worker."""

from __future__ import annotations

import click
import msgspec

from iii_state.cli.arguments import Target, connects, json_or_none, read_json
from iii_state.cli.asking import ask
from iii_state.cli.output import Format, output_option, print_value


@click.command(short_help="Call a function of the server or of a worker.")
@click.argument("function")
@click.argument("members", nargs=-1, metavar="[NAME=VALUE]...")
@click.option(
    "--json", "data", metavar="JSON|@FILE|-", help="The data to call it with. Without: {}."
)
@output_option
@connects
def call(
    function: str,
    members: tuple[str, ...],
    data: str | None,
    output: Format | None,
    target: Target,
) -> None:
    """Call a function of the server or of a worker, and print its result.

    NAME=VALUE pairs become members of the data; a VALUE that is not JSON is a string. They win
    over members of --json. A function that answers nothing prints nothing.

    \b
    Examples:
      iii-state call state::info
      iii-state call state::set scope=users key=alice value='{"age": 30}'
      iii-state call orders::ship id=o-1 express=true
      iii-state call report::make --json @request.json --timeout 120
    """
    result = ask(
        target,
        function,
        payload(members, data),
        output,
        missing="`iii-state call engine::functions::list` lists those there are",
        missing_code="function_not_found",
    )
    if result is not None:
        print_value(result, output)


def payload(members: tuple[str, ...], data: str | None) -> object:
    """What a function is called with.

    Raises:
        click.UsageError: a pair without `=`, or pairs beside data that is no object.
    """
    base = msgspec.Raw(b"{}") if data is None else read_json(data, "--json")
    if not members:
        return base
    try:
        merged = msgspec.json.decode(bytes(base), type=dict[str, msgspec.Raw])
    except msgspec.DecodeError as error:
        raise click.UsageError("NAME=VALUE needs --json to be an object") from error
    for member in members:
        name, equals, value = member.partition("=")
        if not equals or not name:
            raise click.UsageError(f"{member!r} is not NAME=VALUE")
        merged[name] = json_or_none(value) or msgspec.Raw(msgspec.json.encode(value))
    return merged
