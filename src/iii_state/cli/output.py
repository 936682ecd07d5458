"""How results are printed.

Formats: `json` (one document), `ndjson` (one value a line), `raw` (one value a line, strings
without their quotes), `table`. Without `-o`, and without III_STATE_OUTPUT, a terminal gets what
reads well and a pipe what parses well. JSON text is never decoded and encoded on the way: numbers
and the order of members stay as they were stored.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence
from typing import Any, Literal, TypeVar

import click
import msgspec

from iii_state.terminal import is_terminal, safe, safe_name

Format = Literal["json", "ndjson", "table", "raw"]
FORMATS: tuple[Format, ...] = ("json", "ndjson", "table", "raw")

COLUMNS_MAX = 12
"""A table of objects gets a column for each member name, up to that many."""

F = TypeVar("F", bound=Callable[..., Any])


def output_option(command: F) -> F:
    """Add `-o/--output`, handed over as `output` (None: not said)."""
    return click.option(
        "-o",
        "--output",
        type=click.Choice(FORMATS),
        envvar="III_STATE_OUTPUT",
        help="How to print: json, ndjson (a value a line), table, raw (strings without quotes). "
        "Default: what suits a terminal or a pipe.",
    )(command)


def print_value(text: bytes, output: Format | None) -> None:
    """Print one JSON text."""
    if output == "raw":
        _write(_unquoted(text))
    elif output == "table":
        _print_rows(["member", "value"], [[k, _cell(v)] for k, v in _members(text).items()])
    elif output == "ndjson" or (output is None and not is_terminal()):
        _write(text)
    else:
        _write(msgspec.json.format(text, indent=2))


def print_values(texts: Sequence[bytes], output: Format | None) -> None:
    """Print many JSON texts."""
    if output == "json":
        _write(msgspec.json.format(b"[" + b",".join(texts) + b"]", indent=2))
    elif output == "table" or (output is None and is_terminal()):
        _print_table(texts)
    else:
        for text in texts:
            _write(_unquoted(text) if output == "raw" else text)


def print_names(title: str, names: Sequence[str], output: Format | None) -> None:
    """Print names; into a pipe one a line, as they are."""
    if output == "json":
        _write(msgspec.json.format(msgspec.json.encode(names), indent=2))
    elif output == "table":
        _print_rows([title], [[name] for name in names])
    else:
        for name in names:
            if output == "ndjson":
                _write(msgspec.json.encode(name))
            else:
                _write((safe_name(name) if is_terminal() else name).encode())


def _write(text: bytes) -> None:
    if is_terminal():
        click.echo(safe(text.decode("utf-8", "replace")))
    else:
        sys.stdout.buffer.write(text + b"\n")


def _unquoted(text: bytes) -> bytes:
    if not text.startswith(b'"'):
        return text
    # A lone surrogate has no bytes; what cannot be written without quotes keeps them.
    try:
        return msgspec.json.decode(text, type=str).encode()
    except (msgspec.DecodeError, UnicodeEncodeError):
        return text


def _print_table(texts: Sequence[bytes]) -> None:
    rows = [_members(text) for text in texts]
    names = list(dict.fromkeys(name for row in rows for name in row))
    if len(names) > COLUMNS_MAX:
        names, rows = ["value"], [{"value": text} for text in texts]
    _print_rows(names, [[_cell(row.get(name, b"")) for name in names] for row in rows])


def _cell(text: bytes) -> str:
    return _unquoted(text).decode("utf-8", "replace")


def _members(text: bytes) -> dict[str, bytes]:
    if not text.startswith(b"{"):
        return {"value": text}
    members = msgspec.json.decode(text, type=dict[str, msgspec.Raw])
    return {name: bytes(value) for name, value in members.items()}


def _print_rows(titles: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
    from rich import box
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    table = Table(box=box.SIMPLE_HEAD, pad_edge=False)
    for title in titles:
        table.add_column(Text(safe_name(title)), overflow="ellipsis" if is_terminal() else "fold")
    for row in rows:
        table.add_row(*(Text(safe_name(cell)) for cell in row))
    # Into a pipe nothing is cut off: as wide as the widest row needs.
    width = (
        None if is_terminal() else max(table.__rich_measure__(_wide(), _wide().options).maximum, 1)
    )
    Console(width=width, no_color=not is_terminal()).print(table)


def _wide() -> Any:
    from rich.console import Console

    return Console(width=1_000_000)
