"""`watch`: changes as they happen.

They come through a `state` trigger of the command's own connection; with `--from` out of the change
log, which is read on from where the last connection ended.
"""

from __future__ import annotations

import asyncio
import signal
import time
import uuid
from collections import deque
from collections.abc import Awaitable, Callable
from functools import partial
from typing import TYPE_CHECKING, Any

import click
import msgspec

from iii_state.cli.arguments import NAME, Target, connects
from iii_state.cli.asking import leave, worker_name
from iii_state.cli.exits import OK, TERMINATED
from iii_state.cli.output import Format, output_option
from iii_state.errors import CallFailed, ConnectionFailed, RevisionCompacted, StateError, TimedOut
from iii_state.terminal import is_terminal, paint, safe_name

if TYPE_CHECKING:
    from iii_state.client import Client

RECONNECT_S_MIN = 0.5
RECONNECT_S_MAX = 10.0
REMEMBERED_EVENTS = 1_024
"""Events may come twice around a reconnect; as many of the last ones are recognised."""

VALUE_COLUMNS = 60
"""Longer values are cut off on a terminal."""

PAGE_CHANGES = 1_000
WAIT_S = 30.0
"""How long the server is asked to wait for a change before it answers that there is none."""

COLOURS = {"created": "green", "updated": "yellow", "deleted": "red"}


class Event(msgspec.Struct):
    """A change as the trigger delivers it. The original's hosts send the first five only."""

    event_type: str
    scope: str
    key: str
    old_value: msgspec.Raw
    new_value: msgspec.Raw
    event_id: str = ""
    revision: int | None = None
    timestamp_ms: int | None = None
    values_omitted: bool = False


class _Info(msgspec.Struct):
    revision: int
    oldest_revision: int


class _Changes(msgspec.Struct):
    changes: list[msgspec.Raw]
    last_revision: int


class Start(click.ParamType[str | int]):
    """Where to begin: a revision, `now` or `oldest`."""

    name = "revision"

    def convert(
        self, value: Any, param: click.Parameter | None, ctx: click.Context | None
    ) -> str | int:
        """Take one of these."""
        if value in ("now", "oldest"):
            return str(value)
        if not (value.isascii() and value.isdigit()):
            self.fail(f"{value!r} is neither a revision nor now nor oldest", param, ctx)
        return int(value)


@click.command(short_help="Print changes as they happen.")
@click.argument("scope", type=NAME, required=False)
@click.argument("key", type=NAME, required=False)
@click.option(
    "-n", "--count", type=click.IntRange(min=1), metavar="N", help="Stop after N changes."
)
@click.option(
    "--from",
    "start",
    type=Start(),
    metavar="REV|now|oldest",
    help="Read the change log: what came after revision REV, what comes from now on, or all that "
    "is kept. Nothing is lost or repeated when the connection is.",
)
@output_option
@connects
def watch(
    scope: str | None,
    key: str | None,
    count: int | None,
    start: str | int | None,
    output: Format | None,
    target: Target,
) -> int:
    """Print changes as they happen, of everything, of a scope or of one key.

    Reads until Ctrl-C or SIGTERM. On a terminal (or with -o raw) each change is a line for people;
    into a pipe, a line of JSON. When the server goes away, the command says so on standard error
    and connects again. To go on with --from later, take the revision of the last change printed.
    When the server no longer keeps what comes next, the command ends with REVISION_COMPACTED.

    \b
    Examples:
      iii-state watch
      iii-state watch orders
      iii-state watch orders o-1 --count 1       # wait for one change
      iii-state watch orders | jq .new_value.status
      iii-state watch orders --from oldest       # what is kept, then what comes
      iii-state watch orders --from 4711 >> orders.ndjson
    """
    pretty = output in ("raw", "table") or (output is None and is_terminal())
    printer = _Printer(count, pretty)
    config = _config(scope, key)
    follow: Callable[[str], Awaitable[None]]
    if start is not None:
        follow = _Reader(target, config, printer, start).follow
    else:
        # They stay the same: a host that remembers the trigger's place goes on there.
        ids = (f"iii-state-cli::watch::{uuid.uuid4()}", str(uuid.uuid4()))
        follow = partial(_follow, target, config, printer, ids)
    try:
        return asyncio.run(_watch(printer, follow))
    except asyncio.CancelledError:
        return TERMINATED
    except StateError as error:
        leave(error, output)


class _Printer:
    """Prints events, each once, and knows when there have been enough."""

    def __init__(self, count: int | None, pretty: bool) -> None:
        self._left = count
        self._pretty = pretty
        self._seen: deque[str] = deque(maxlen=REMEMBERED_EVENTS)
        self.enough = asyncio.Event()
        self.failure: Exception | None = None

    def __call__(self, data: bytes) -> None:
        event = msgspec.json.decode(data, type=Event)
        if self.enough.is_set() or event.event_id in self._seen:
            return
        if event.event_id:
            self._seen.append(event.event_id)
        try:
            click.echo(line(event) if self._pretty else data)
        except OSError as error:
            self.failure = error
            self.enough.set()
        if self._left is not None:
            self._left -= 1
            if self._left == 0:
                self.enough.set()


def line(event: Event) -> str:
    """A change on one line, for people."""
    seconds = (event.timestamp_ms or time.time_ns() // 1_000_000) / 1000
    clock = time.strftime("%H:%M:%S", time.localtime(seconds)) + f".{int(seconds * 1000) % 1000:03}"
    kind = event.event_type.removeprefix("state:")
    revision = f"r{event.revision}  " if event.revision is not None else ""
    place = f"{safe_name(event.scope)}/{safe_name(event.key)}"
    return f"{clock}  {revision}{paint(f'{kind:<7}', COLOURS.get(kind))}  {place}  {_what(event)}"


def _what(event: Event) -> str:
    if event.values_omitted:
        return "(values too large to show)"
    before, after = bytes(event.old_value), bytes(event.new_value)
    if event.event_type == "state:created":
        return _short(after)
    if event.event_type == "state:deleted":
        return _short(before)
    if before.startswith(b"{") and after.startswith(b"{"):
        return _differences(before, after)
    return "no change" if before == after else f"{_short(before)} → {_short(after)}"


def _differences(before: bytes, after: bytes) -> str:
    old, new = (msgspec.json.decode(text, type=dict[str, msgspec.Raw]) for text in (before, after))
    parts = []
    for name in old | new:
        was, now = bytes(old.get(name, b"")), bytes(new.get(name, b""))
        if was == now:
            continue
        label = safe_name(name)
        if not now:
            parts.append(f"-{label}")
        elif not was:
            parts.append(f"+{label}: {_short(now)}")
        else:
            parts.append(f"{label}: {_short(was)} → {_short(now)}")
    return ", ".join(parts) or "no change"


def _short(text: bytes) -> str:
    shown = safe_name(text.decode("utf-8", "replace"))
    return shown if len(shown) <= VALUE_COLUMNS else shown[: VALUE_COLUMNS - 1] + "…"


def _config(scope: str | None, key: str | None) -> dict[str, str]:
    config = {"scope": scope, "key": key}
    return {name: value for name, value in config.items() if value is not None}


async def _watch(printer: _Printer, follow: Callable[[str], Awaitable[None]]) -> int:
    """Connect, print, and connect again for as long as wanted. SIGTERM cancels it."""
    task = asyncio.current_task()
    assert task is not None
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, task.cancel)
    await follow("watching; Ctrl-C ends")
    delay_s = RECONNECT_S_MIN
    while not printer.enough.is_set():
        click.echo(f"trying again in {delay_s:g} s", err=True)
        await asyncio.sleep(delay_s)
        try:
            await follow("connected again")
            delay_s = RECONNECT_S_MIN
        except (ConnectionFailed, TimedOut) as error:
            click.echo(error.message, err=True)
            delay_s = min(delay_s * 2, RECONNECT_S_MAX)
    if printer.failure is not None:
        raise printer.failure
    return OK


async def _follow(
    target: Target, config: dict[str, str], printer: _Printer, ids: tuple[str, str], notice: str
) -> None:
    """Print until there have been enough, or until the connection ends.

    Raises:
        StateError: it cannot connect, or the host refuses.
    """
    from iii_state.client import connect

    client = await connect(
        target.url, token=target.token, name=worker_name(), timeout_s=target.timeout_s
    )
    async with client:
        function_id, trigger_id = ids
        client.register_function(function_id, printer, "Prints changes on a terminal.")
        client.register_trigger(trigger_id, "state", function_id, config)
        try:
            await client.ping(timeout_s=target.timeout_s)
            click.echo(notice, err=True)
            await _until_over(client, printer)
        finally:
            # Else the host would keep its place, for us to come back.
            client.unregister_trigger(trigger_id, "state")
        if printer.enough.is_set():
            return
        reason = client.ended.result()
        if not isinstance(reason, ConnectionFailed):
            raise reason
        click.echo(reason.message, err=True)


async def _until_over(client: Client, printer: _Printer) -> None:
    """Wait until there have been enough, or the connection has ended."""
    enough = asyncio.create_task(printer.enough.wait())
    waiting: set[asyncio.Future[Any]] = {enough, client.ended}
    try:
        await asyncio.wait(waiting, return_when=asyncio.FIRST_COMPLETED)
    finally:
        enough.cancel()


class _Reader:
    """Reads the change log from a revision on, over as many connections as it takes."""

    def __init__(
        self, target: Target, config: dict[str, str], printer: _Printer, start: str | int
    ) -> None:
        self._target = target
        self._config = config
        self._printer = printer
        self._after = start

    async def follow(self, notice: str) -> None:
        """See `_follow`.

        Raises:
            StateError: it cannot connect, the host refuses, or no longer has what comes next.
        """
        from iii_state.client import connect

        target = self._target
        client = await connect(
            target.url, token=target.token, name=worker_name(), timeout_s=target.timeout_s
        )
        async with client:
            after = await self._begin(client)
            click.echo(notice, err=True)
            try:
                while not self._printer.enough.is_set():
                    after = self._after = await self._read(client, after)
            except (ConnectionFailed, TimedOut) as error:
                click.echo(error.message, err=True)

    async def _begin(self, client: Client) -> int:
        if isinstance(self._after, str):
            result = await client.call("state::info", {}, timeout_s=self._target.timeout_s)
            info = msgspec.json.decode(result or b"", type=_Info)
            self._after = info.revision if self._after == "now" else info.oldest_revision
        return self._after

    async def _read(self, client: Client, after: int) -> int:
        """Print what comes next, if anything does in time; where to go on."""
        request = {
            **self._config,
            "after": after,
            "limit": PAGE_CHANGES,
            "wait_ms": round(WAIT_S * 1000),
        }
        try:
            timeout_s = self._target.timeout_s + WAIT_S
            result = await client.call("state::changes", request, timeout_s=timeout_s)
        except CallFailed as error:
            raise _told(error, after) from error
        page = msgspec.json.decode(result or b"", type=_Changes)
        for change in page.changes:
            self._printer(bytes(change))
        return page.last_revision


def _told(error: CallFailed, after: int) -> StateError:
    """The failure of `state::changes` in the words of this command."""
    if error.wire_code == "invocation_stopped":  # the server stops; another one will go on
        return ConnectionFailed(error.message)
    if error.wire_code == RevisionCompacted.code:
        return RevisionCompacted(
            f"the changes after revision {after} are lost for this command: {error.message}",
            revision=after,
            hint="`--from oldest` prints those that are kept; the server's history_bytes says "
            "how many that are",
        )
    if error.wire_code == "function_not_found":
        error.details["hint"] = "this host has no change log; watch without --from"
    return error
