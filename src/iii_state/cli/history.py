"""`history`: the versions of a key that the change log still has."""

from __future__ import annotations

import asyncio
import sys
import time
from typing import Any

import click
import msgspec

from iii_state.cli.arguments import NAME, Target, connects, count_option
from iii_state.cli.asking import leave, worker_name
from iii_state.cli.exits import NOT_FOUND, tell
from iii_state.cli.output import Format, output_option, print_values
from iii_state.errors import StateError
from iii_state.terminal import is_terminal

LIMIT = 100


class _Page(msgspec.Struct):
    versions: list[msgspec.Raw]
    oldest_revision: int
    next_before: int | None = None


class _Version(msgspec.Struct):
    """A version as the server tells it."""

    revision: int
    event_type: str
    timestamp_ms: int
    value: msgspec.Raw = msgspec.Raw()
    worker: str = ""
    function: str = ""
    cause: str = ""
    values_omitted: bool = False


@click.command(short_help="Print the versions of a key, newest first.")
@click.argument("scope", type=NAME)
@click.argument("key", type=NAME)
@count_option(LIMIT)
@click.option(
    "--before",
    type=click.IntRange(min=1),
    metavar="REV",
    help="Only versions older than that revision.",
)
@output_option
@connects
def history(
    scope: str,
    key: str,
    count: int,
    before: int | None,
    output: Format | None,
    target: Target,
) -> None:
    """Print the versions of a key, newest first: what it held, since when, and who wrote it.

    As far back as the server keeps its change log; standard error says when there may be more than
    were asked for. A key without a version there is exit code 3.

    \b
    Examples:
      iii-state history users alice
      iii-state history users alice -n 1 --before 4711
      iii-state history users alice -o ndjson | jq -c '[.revision, .value]'
    """
    try:
        versions, page = asyncio.run(_read(target, scope, key, count, before))
    except StateError as error:
        leave(error, output)
    if not versions:
        tell(
            f"no version of key {key!r} in scope {scope!r} is kept; the change log reaches back to "
            f"just after revision {page.oldest_revision}",
            "NOT_FOUND",
            as_json=output in ("json", "ndjson"),
        )
        sys.exit(NOT_FOUND)
    if output == "table" or (output is None and is_terminal()):
        versions = [_row(version) for version in versions]
    print_values(versions, output)
    if page.next_before is not None:
        click.echo(f"there may be older ones: --before {page.next_before}", err=True)


def _row(text: bytes) -> bytes:
    """A version for people."""
    version = msgspec.json.decode(text, type=_Version)
    clock = time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(version.timestamp_ms / 1000))
    value = version.value if bytes(version.value) else msgspec.Raw(b'""')
    row: dict[str, Any] = {
        "revision": version.revision,
        "time": clock,
        "event": version.cause or version.event_type.removeprefix("state:"),
        "value": "(too large to show)" if version.values_omitted else value,
        "by": " ".join(name for name in (version.worker, version.function) if name),
    }
    return msgspec.json.encode(row)


async def _read(
    target: Target, scope: str, key: str, count: int, before: int | None
) -> tuple[list[bytes], _Page]:
    """So many versions, over as many calls as it takes, and the last answer."""
    from iii_state.client import connect

    client = await connect(
        target.url, token=target.token, name=worker_name(), timeout_s=target.timeout_s
    )
    versions: list[bytes] = []
    async with client:
        while True:
            request: dict[str, Any] = {"scope": scope, "key": key, "limit": count - len(versions)}
            if before is not None:
                request["before"] = before
            result = await client.call("state::history", request, timeout_s=target.timeout_s)
            page = msgspec.json.decode(result or b"", type=_Page)
            versions += [bytes(version) for version in page.versions]
            before = page.next_before
            if before is None or len(versions) >= count:
                return versions, page
