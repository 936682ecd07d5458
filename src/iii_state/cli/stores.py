"""`check` and `dump`: a data directory while no server runs on it."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path

import click
import msgspec

from iii_state.cli.exits import FAILED, OK, PARTIAL, tell
from iii_state.cli.output import Format, output_option, print_value
from iii_state.cli.progress import progress
from iii_state.stores.disk.files import Files
from iii_state.stores.disk.inspection import (
    DumpedEntry,
    FileReport,
    StoreReport,
    check_store,
    dump_store,
)
from iii_state.stores.disk.salvage import Damage
from iii_state.terminal import safe_name

DIRECTORY = click.argument("directory", type=click.Path(path_type=Path), metavar="DIR")


class CountingFiles(Files):
    """Says how far a long read has come."""

    def __init__(self, count: Callable[[int], None]) -> None:
        super().__init__()
        self._count = count

    def read(self, fd: int, size: int, offset: int) -> bytes:
        """See `Files.read`."""
        data = super().read(fd, size, offset)
        self._count(len(data))
        return data


@click.command(short_help="Verify a data directory while no server runs on it.")
@DIRECTORY
@output_option
def check(directory: Path, output: Format | None) -> int:
    """Verify a data directory while no server runs on it.

    Reads every file, checks every checksum, and writes nothing. Exit code 0: intact; 1: something
    is damaged, told with file and offset; 4: a server is using the directory.

    \b
    Examples:
      iii-state check ./data
      iii-state check /backup/data -o json
    """
    with progress("checking", _size_of(directory)) as count:
        report = check_store(directory, CountingFiles(count))
    if output in ("json", "ndjson"):
        print_value(msgspec.json.encode(report), output)
    else:
        _print_report(report)
    lost = [damage for damage in report.damage if not damage.is_harmless]
    if not lost:
        return OK
    tell(
        f"{directory} is damaged at {_places(len(lost))}: {_where(lost[0])}",
        "STORE_DAMAGED",
        f"restore a backup, or save what can be read: iii-state dump {directory} > saved.ndjson",
        as_json=output in ("json", "ndjson"),
    )
    return FAILED


@click.command(short_help="Write all entries of a data directory as lines of JSON.")
@DIRECTORY
def dump(directory: Path) -> int:
    """Write all entries of a data directory as lines of JSON.

    Works on a damaged directory as far as it is readable: what is lost is told on standard error,
    and the exit code is then 7. Of a key whose newest value is lost, an older one may be written;
    its revision tells. Nothing in the directory is changed.

    \b
    Examples:
      iii-state dump ./data > backup.ndjson
      iii-state dump ./data | jq -r 'select(.scope == "users") | .key'
      iii-state dump ./damaged > saved.ndjson 2> lost.txt
    """
    entries = lost = 0
    with progress("dumping", _size_of(directory)) as count:
        for item in dump_store(directory, CountingFiles(count)):
            if isinstance(item, DumpedEntry):
                sys.stdout.buffer.write(msgspec.json.encode(item) + b"\n")
                entries += 1
            elif not item.is_harmless:
                lost += 1
                click.echo(f"lost: {_where(item)}", err=True)
    click.echo(f"{entries} entries written", err=True)
    if not lost:
        return OK
    tell(
        f"{directory} is damaged at {_places(lost)}; what was readable is written", "STORE_DAMAGED"
    )
    return PARTIAL


def _print_report(report: StoreReport) -> None:
    for file in report.files:
        click.echo(f"{safe_name(file.name)}  {file.bytes} bytes{_contents(file)}")
        for damage in file.damage:
            word = "harmless" if damage.is_harmless else "damaged"
            click.echo(f"  {word}: {_where(damage)}")
        for note in file.notes:
            click.echo(f"  note: {safe_name(note)}")
    state = "intact" if report.is_intact else "damaged"
    click.echo(f"{state}, up to revision {report.revision}")


def _contents(file: FileReport) -> str:
    return f", {file.blocks} blocks, {file.records} records" if file.blocks else ""


def _where(damage: Damage) -> str:
    return safe_name(f"{damage.file}, offset {damage.offset}, {damage.length} bytes: {damage.what}")


def _places(count: int) -> str:
    return "one place" if count == 1 else f"{count} places"


def _size_of(directory: Path) -> int:
    try:
        return sum(path.stat().st_size for path in directory.iterdir())
    except OSError:
        # Whatever is wrong with it is told by who opens it.
        return 0
