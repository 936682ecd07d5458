"""Writes the generated parts of the documentation: the table of settings, the help of commands.

A part stands between `<!-- generated: NAME -->` and `<!-- end -->`. Run `python docs/generate.py`
after changing a setting or a command; a test fails when it was forgotten.
"""

from __future__ import annotations

import re
from pathlib import Path

import click

from iii_state.cli import COMMANDS, cli
from iii_state.settings import LISTENER, SETTINGS, STATE, Section, Setting

PAGES = ("configuration.md", "cli.md")
HELP_COLUMNS = 96

_PART = re.compile(r"(<!-- generated: (.+?) -->\n).*?(<!-- end -->)", re.DOTALL)


def generated(page: str) -> str:
    """The text of a page with its generated parts made anew."""
    return _PART.sub(lambda match: f"{match[1]}{_part(match[2])}{match[3]}", page)


def _part(name: str) -> str:
    if name == "settings of the listener":
        return settings_table(LISTENER)
    if name == "settings of the state":
        return settings_table(STATE)
    if name == "commands":
        return "".join(_help(command) for command in COMMANDS)
    raise ValueError(f"there is no generated part called {name!r}")


def settings_table(section: Section) -> str:
    """The settings of one block of the configuration file, as a Markdown table."""
    rows = [_row(row) for row in SETTINGS if row.about.section == section]
    head = "| setting | default | allowed | environment, flag | meaning |\n|---|---|---|---|---|\n"
    return head + "".join(rows)


def _row(row: Setting) -> str:
    ways = f"`{row.variable}`" + (f", `{row.flag}`" if row.flag else "")
    shown = row.show(row.default)
    return f"| `{row.name}` | {shown} | {row.allowed} | {ways} | {row.about.help} |\n"


def _help(name: str) -> str:
    parent = click.Context(cli, info_name="iii-state")
    command = cli.get_command(parent, name)
    assert command is not None
    context = click.Context(
        command,
        info_name=name,
        parent=parent,
        terminal_width=HELP_COLUMNS,
        help_option_names=["-h", "--help"],
    )
    return f"### `{name}`\n\n```text\n{command.get_help(context)}\n```\n\n"


def main() -> None:
    """Rewrite the pages."""
    for name in PAGES:
        path = Path(__file__).parent / name
        path.write_text(generated(path.read_text("utf-8")), "utf-8")


if __name__ == "__main__":
    main()
