"""`version`: what runs here."""

from __future__ import annotations

import platform

import click
import msgspec

from iii_state import __version__
from iii_state.cli.output import Format, output_option, print_value


@click.command(short_help="Print the version.")
@output_option
def version(output: Format | None) -> None:
    """Print the version of iii-state, of Python and of the system.

    \b
    Examples:
      iii-state version
      iii-state version -o json
    """
    facts = {
        "version": __version__,
        "python": platform.python_version(),
        "system": f"{platform.system()} {platform.release()} {platform.machine()}",
    }
    if output is None:
        click.echo("iii-state {version} (Python {python}, {system})".format(**facts))
    else:
        print_value(msgspec.json.encode(facts), output)
