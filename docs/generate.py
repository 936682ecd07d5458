"""Writes the generated parts of the documentation: settings, commands, the functions' schemas.

A part stands between `<!-- generated: NAME -->` and `<!-- end -->`. Run `make docs` after changing
a setting, a command or a schema; a test fails when it was forgotten.
"""

from __future__ import annotations

import asyncio
import re
from pathlib import Path
from typing import Any

import click

from iii_state.cli import COMMANDS, cli
from iii_state.engine import state_schemas
from iii_state.engine.engine import Engine
from iii_state.engine.functions import Builtin
from iii_state.engine.state_function import OWNER
from iii_state.engine.state_schemas import Schema
from iii_state.settings import LISTENER, SETTINGS, STATE, Section, Setting, Settings
from iii_state.stores.memory import MemoryStore

PAGES = ("configuration.md", "cli.md", "functions.md", "triggers.md")
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
    if name == "state functions":
        functions = "".join(map(_function, state_functions()))
        return f"```text{functions}```\n"
    if name == "trigger config":
        return f"```text\n{_members(state_schemas.TRIGGER_CONFIG)}```\n"
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
    return f"### `{name}`\n\n```text\n{command.get_help(context)}\n```\n\n" + _helps(context)


def _helps(parent: click.Context) -> str:
    """The help of what stands below a command."""
    below = parent.command.commands if isinstance(parent.command, click.Group) else {}
    texts = []
    for name, command in below.items():
        context = click.Context(
            command,
            info_name=name,
            parent=parent,
            terminal_width=HELP_COLUMNS,
            help_option_names=["-h", "--help"],
        )
        texts.append(f"```text\n{command.get_help(context)}\n```\n\n")
    return "".join(texts)


def state_functions() -> list[Builtin[Any]]:
    """The functions `state::*` of an engine, in the order in which it has them."""
    loop = asyncio.new_event_loop()
    store = MemoryStore(lambda: 0)
    engine = Engine(store, Settings(), lambda: 0, lambda: "", loop)
    loop.close()
    return [f for f in engine.functions.builtins.values() if f.owner == OWNER]


def _function(function: Builtin[Any]) -> str:
    assert function.request_schema is not None
    result = _members(function.response_schema) if function.response_schema is not None else ""
    return f"\n{function.id}: {function.description}\n{_members(function.request_schema)}{result}"


def _members(schema: Schema, title: str | None = None) -> str:
    """The members of an object, a line each, and of what it is made of."""
    lines = [f"  {title or schema['title']}\n"]
    for name, about in schema.get("properties", {}).items():
        shown = name if name in schema.get("required", ()) else f"{name}?"
        lines += _in_columns(shown, _type(about), _meaning(about))
    for name, definition in schema.get("definitions", {}).items():
        for choice in definition.get("oneOf", [definition]):
            if "properties" in choice:
                lines.append(_members(choice, name))
    return "".join(lines)


def _in_columns(name: str, kind: str, meaning: str) -> list[str]:
    """A member's line; a kind that is too long for its column has the meaning below it."""
    if len(kind) < 24 or not meaning:
        return [f"    {name:<24}{kind:<24}{meaning}".rstrip() + "\n"]
    return [f"    {name:<24}{kind}\n", f"{'':<52}{meaning}\n"]


def _type(schema: Schema | bool) -> str:
    if isinstance(schema, bool) or not schema.keys() - {"description"}:
        return "any"
    if "$ref" in schema:
        return str(schema["$ref"].rsplit("/", 1)[1])
    for many in ("anyOf", "allOf"):
        if many in schema:
            return " or ".join(map(_type, schema[many]))
    if "enum" in schema:
        return " or ".join(f'"{value}"' for value in schema["enum"])
    if schema["type"] == "array":
        return f"array of {_type(schema['items'])}" if "items" in schema else "array"
    return " or ".join([schema["type"]] if isinstance(schema["type"], str) else schema["type"])


def _meaning(schema: Schema | bool) -> str:
    return "" if isinstance(schema, bool) else str(schema.get("description", ""))


def main() -> None:
    """Rewrite the pages."""
    for name in PAGES:
        path = Path(__file__).parent / name
        path.write_text(generated(path.read_text("utf-8")), "utf-8")


if __name__ == "__main__":
    main()
