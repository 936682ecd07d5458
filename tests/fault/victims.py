"""Server processes that are made to be killed."""

from __future__ import annotations

import asyncio
import os
import re
import signal
import sys
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager, suppress
from pathlib import Path

PROGRAM = Path(sys.executable).parent / "iii-state"
ADDRESS = re.compile(rb"ws://127\.0\.0\.1:\d+")
START_TIMEOUT_S = 30

SMALL_FILES = {"III_STATE_SEGMENT_BYTES": "65536", "III_STATE_HISTORY_BYTES": "262144"}
"""Segments are sealed, trimmed and merged all the time, so that kills hit these moments too."""

NO_HISTORY = {"III_STATE_SEGMENT_BYTES": "1048576", "III_STATE_HISTORY_BYTES": "0"}
"""Merges are large enough for a process of their own, which outlives the server for a moment."""


class NotStarted(Exception):
    """The server ended before it was ready. The message is what it said."""


class Victim:
    """One process of the server. It gets a process group of its own, for the final clean-up."""

    def __init__(self, process: asyncio.subprocess.Process) -> None:
        self.process = process
        self.said = bytearray()
        self._address: asyncio.Future[str] = asyncio.get_running_loop().create_future()
        self._listening = asyncio.create_task(self._listen())

    async def address(self) -> str:
        """Where it serves, as soon as it does.

        Raises:
            NotStarted: it ended before.
        """
        # Not `wait_for`: before Python 3.12 it loses a cancellation that comes with the result.
        async with asyncio.timeout(START_TIMEOUT_S):
            return await asyncio.shield(self._address)

    async def kill(self) -> None:
        """End it as a crash does: at once, and without asking."""
        with suppress(ProcessLookupError):
            self.process.kill()
        await self.gone()

    async def stop(self) -> int:
        """Ask it to stop, and give its exit status."""
        self.process.send_signal(signal.SIGTERM)
        await self.gone()
        return await self.process.wait()

    async def gone(self) -> None:
        """Wait until it is no more, and nothing that it started writes to its log."""
        await self.process.wait()
        await self._listening
        if self._address.done() and not self._address.cancelled():
            self._address.exception()

    async def _listen(self) -> None:
        assert self.process.stderr is not None
        while line := await self.process.stderr.readline():
            self.said += line
            found = ADDRESS.search(line)
            if found and not self._address.done():
                self._address.set_result(found[0].decode())
        if not self._address.done():
            self._address.set_exception(NotStarted(self.said.decode(errors="replace")))


@asynccontextmanager
async def victim(
    directory: Path, *flags: str, settings: Mapping[str, str] = SMALL_FILES
) -> AsyncIterator[Victim]:
    """A server on `directory`, killed at the end of the block if it is still there."""
    process = await asyncio.create_subprocess_exec(
        PROGRAM,
        *("serve", "--port", "0", "--data-dir", str(directory), *flags),
        env={**os.environ, **settings},
        stdin=asyncio.subprocess.DEVNULL,
        stdout=asyncio.subprocess.DEVNULL,
        stderr=asyncio.subprocess.PIPE,
        start_new_session=True,
    )
    running = Victim(process)
    try:
        yield running
    finally:
        await running.kill()
        with suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)


async def found_whole(directory: Path) -> bool:
    """Whether the offline check finds nothing wrong with a store."""
    process = await asyncio.create_subprocess_exec(PROGRAM, "check", str(directory))
    return await process.wait() == 0
