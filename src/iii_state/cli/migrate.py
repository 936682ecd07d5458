"""`migrate`: what another program kept, into a new data directory."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Sequence
from pathlib import Path

import click
import msgspec

from iii_state.cli.exits import FAILED, OK, report, tell
from iii_state.cli.output import Format, output_option, print_value, print_values
from iii_state.cli.progress import progress
from iii_state.clock import wall_clock_ms
from iii_state.errors import StateError, StoreDamaged, StoreUnusable
from iii_state.settings import BY_NAME, Settings
from iii_state.stores.migration import ScopeContents, compare_all, read_all, write_all
from iii_state.stores.opening import open_store
from iii_state.stores.original import (
    SUFFIX,
    Listing,
    OtherFile,
    ScopeFile,
    list_directory,
)
from iii_state.terminal import safe_name

NOT_DATA = {"lost+found"}
"""What a directory that counts as empty may hold."""


class Report(msgspec.Struct):
    """What was found, and what became of it.

    `moved`: it is in the new directory. `compared`: and was found there again, byte for byte.
    """

    source: str
    target: str
    moved: bool
    compared: bool
    keys: int
    bytes: int
    scopes: list[ScopeContents]
    damaged: list[OtherFile]
    ignored: list[OtherFile]
    notes: list[str]
    differences: list[str]


@click.command(short_help="Move the data of the original iii engine into a new data directory.")
@click.argument("program", type=click.Choice(["iii"]), metavar="iii")
@click.argument(
    "old_dir", type=click.Path(exists=True, file_okay=False, path_type=Path), metavar="OLD_DIR"
)
@click.option(
    "--data-dir",
    type=click.Path(path_type=Path),
    metavar="DIR",
    envvar=BY_NAME["data_dir"].variable,
    default=BY_NAME["data_dir"].default,
    show_default=True,
    show_envvar=True,
    help="The new data directory: one that is empty, or not there yet.",
)
@click.option("--dry-run", is_flag=True, help="Read everything, tell what is there, write nothing.")
@click.option("--skip-damaged", is_flag=True, help="Move the rest when some files are damaged.")
@output_option
def migrate(
    program: str,
    old_dir: Path,
    data_dir: Path,
    dry_run: bool,
    skip_damaged: bool,
    output: Format | None,
) -> int:
    """Move the data of the original iii engine into a new data directory.

    OLD_DIR is the file_path of its state worker, the directory with the .bin files. It is only
    read: stop that engine first, so that the last writes are in it. Values are kept as they are
    written there, keys in their order. At the end the new directory is opened again, and every
    scope, key and value in it is compared with the files.

    A file that is damaged is told with the reason. Then nothing is written and the exit code is 1,
    unless --skip-damaged says to move the rest.

    \b
    Examples:
      iii-state migrate iii ./kv_store_data.db --dry-run
      iii-state migrate iii ./kv_store_data.db --data-dir ./data
      iii-state migrate iii ./kv_store_data.db --data-dir ./data -o json | jq .keys
    """
    if data_dir.resolve().is_relative_to(old_dir.resolve()):
        raise click.UsageError(
            f"{data_dir} is in {old_dir}, which is not to be touched; name another directory for "
            f"the new store with --data-dir"
        )
    as_json = output in ("json", "ndjson")
    try:
        _require_empty(data_dir)
        listing = _list(old_dir)
        result, files = _survey(old_dir, data_dir, listing)
        if not dry_run and (skip_damaged or not result.damaged):
            _move(result, files, listing, old_dir, data_dir)
    except StateError as error:
        return report(error, as_json=as_json)
    except KeyboardInterrupt:
        if hint := _what_to_remove(data_dir):
            click.echo(f"hint: {hint}", err=True)
        raise
    _print(result, output)
    return _tell_faults(result, skip_damaged=skip_damaged, as_json=as_json)


def _require_empty(data_dir: Path) -> None:
    names = _names_in(data_dir)
    if names:
        raise StoreUnusable(
            f"{data_dir} is not empty (it holds {names[0]}), and was left untouched; name a new "
            f"directory with --data-dir, or remove it if an earlier migrate was broken off",
            code="STORE_NOT_EMPTY",
            directory=str(data_dir),
            found=names[0],
        )


def _list(old_dir: Path) -> Listing:
    try:
        listing = list_directory(old_dir)
    except OSError as error:
        raise StoreUnusable(
            f"{old_dir} cannot be read: {error.strerror}; run this as a user who may read it",
            directory=str(old_dir),
        ) from error
    if not listing.files and not listing.misnamed:
        raise StoreUnusable(
            f"{old_dir} holds no data of the original iii engine (*{SUFFIX}); name the directory "
            f"that its state worker has as file_path, with store_method: file_based",
            directory=str(old_dir),
        )
    return listing


def _survey(old_dir: Path, data_dir: Path, listing: Listing) -> tuple[Report, list[ScopeFile]]:
    """Read all files. Returns what is known before anything is written, and the files to move."""
    with progress("reading", sum(file.bytes for file in listing.files)) as count:
        readable, damaged = read_all(listing.files, count)
    files = [file for file, _ in readable]
    scopes = [contents for _, contents in readable]
    result = Report(
        source=str(old_dir),
        target=str(data_dir),
        moved=False,
        compared=False,
        keys=sum(contents.keys for contents in scopes),
        bytes=sum(contents.bytes for contents in scopes),
        scopes=scopes,
        damaged=[*listing.misnamed, *damaged],
        ignored=list(listing.others),
        notes=[
            f"{file.name} is the scope with the empty name, which the original engine writes but "
            f"never reads again"
            for file in files
            if file.is_forgotten
        ],
        differences=[],
    )
    return result, files


def _move(
    result: Report, files: Sequence[ScopeFile], listing: Listing, old_dir: Path, data_dir: Path
) -> None:
    """Write the files' entries, open the new store again, and compare.

    Raises:
        StateError: the new directory is incomplete then, which the hint says.
    """
    failure: StateError | None = None
    try:
        asyncio.run(_write(files, data_dir, result.bytes))
        result.moved = True
        result.differences = asyncio.run(_compare(files, data_dir, result.bytes))
        result.compared = not result.differences
    except StateError as error:
        failure = error
    if _is_changed(listing, old_dir):
        failure = StateError(
            f"{old_dir} was written while it was read; stop the iii engine, then start again",
            code="SOURCE_CHANGED",
            directory=str(old_dir),
        )
    if failure is not None:
        failure.details.setdefault("hint", _what_to_remove(data_dir))
        raise failure


async def _write(files: Sequence[ScopeFile], data_dir: Path, total: int) -> None:
    store = await open_store(Settings(data_dir=data_dir), wall_clock_ms)
    try:
        with progress("writing", total) as count:
            await write_all(store, files, count)
    finally:
        await store.close()


async def _compare(files: Sequence[ScopeFile], data_dir: Path, total: int) -> list[str]:
    store = await open_store(Settings(data_dir=data_dir), wall_clock_ms)
    try:
        with progress("comparing", total) as count:
            return await compare_all(store, files, count)
    finally:
        await store.close()


def _is_changed(listing: Listing, old_dir: Path) -> bool:
    try:
        now = list_directory(old_dir)
    except OSError:
        return True
    return (now.files, now.misnamed) != (listing.files, listing.misnamed)


def _names_in(data_dir: Path) -> list[str]:
    try:
        return sorted(set(os.listdir(data_dir)) - NOT_DATA)
    except OSError:
        # Not there yet; whatever else is wrong with it is told by who opens it.
        return []


def _what_to_remove(data_dir: Path) -> str:
    if not _names_in(data_dir):
        return ""
    return f"{data_dir} is incomplete: remove it before you start again"


def _print(result: Report, output: Format | None) -> None:
    if output in ("json", "ndjson"):
        print_value(msgspec.json.encode(result), output)
        return
    if result.scopes:
        print_values([msgspec.json.encode(contents) for contents in result.scopes], "table")
    for word, files in (("damaged", result.damaged), ("ignored", result.ignored)):
        for file in files:
            click.echo(f"{word}: {safe_name(f'{file.file} {file.reason}')}")
    for note in result.notes:
        click.echo(f"note: {note}")
    for difference in result.differences:
        click.echo(f"different: {safe_name(difference)}")
    click.echo(_summary(result))


def _summary(result: Report) -> str:
    what = f"{len(result.scopes)} scopes, {result.keys} keys, {result.bytes} bytes of values"
    if not result.moved:
        return f"{what} can be moved; nothing was written"
    if result.compared:
        return f"{what} moved to {result.target}, and compared: they are the same, byte for byte"
    return f"{what} written to {result.target}, where not all are found again"


def _tell_faults(result: Report, *, skip_damaged: bool, as_json: bool) -> int:
    if result.differences:
        tell(
            f"{result.target} is not the same as {result.source}: {result.differences[0]}",
            "MIGRATION_DIFFERS",
            f"{result.source} is as it was; do not use {result.target}, and report this",
            as_json=as_json,
        )
        return FAILED
    if not result.damaged or skip_damaged:
        return OK
    first = result.damaged[0]
    count = len(result.damaged)
    files = "one file" if count == 1 else f"{count} files"
    tell(
        f"{files} of {result.source} cannot be read, and nothing was written: "
        f"{first.file} {first.reason}",
        StoreDamaged.code,
        "put back what is damaged from a backup, or move the rest with --skip-damaged",
        as_json=as_json,
    )
    return FAILED
