"""Programs and servers that are killed and started again, and say so in a journal."""

from __future__ import annotations

import asyncio
import json
import os
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any

from delivery_story import SERVER
from journal import Journal, Pen
from victims import Victim, victim

HERE = Path(__file__).parent

Json = dict[str, Any]


class KilledServer:
    """Servers on one store, one after the other, on the same port."""

    def __init__(self, directory: Path, journal: Journal) -> None:
        self._directory = directory
        self._pen = Pen(journal.descriptor, SERVER, SERVER)
        self._port = "0"
        self._life = AsyncExitStack()
        self._running: Victim | None = None

    async def start(self) -> None:
        """Start one. Don't wait for it."""
        place = victim(self._directory, "--port", self._port)
        self._running = await self._life.enter_async_context(place)

    async def address(self) -> str:
        """Where it serves, as soon as it does."""
        assert self._running is not None
        address = await self._running.address()
        self._port = address.rpartition(":")[2]
        return address

    async def kill(self) -> None:
        """Kill it."""
        self._pen.write("killing")
        await self._life.aclose()
        self._pen.write("killed")

    async def stop(self) -> None:
        """Stop it, in order."""
        assert self._running is not None
        assert await self._running.stop() == 0, self._running.said.decode()
        await self._life.aclose()


class KilledProgram:
    """Processes of one program, one after the other; each has the name of its role and a number.

    `script` is run by `python`; it is told where the server is, and what there is in `told`.
    """

    def __init__(
        self, role: str, group: str, command: tuple[Path, str], journal: Journal, **told: Any
    ) -> None:
        self.role = role
        self.group = group
        self._command = command
        self._journal = journal
        self._told = told
        self._number = 0
        self._process: asyncio.subprocess.Process | None = None

    @property
    def name(self) -> str:
        """That of the process that runs."""
        return f"{self.role}.{self._number}"

    async def start(self, url: str, seed: int, directory: Path) -> None:
        """Start one; its errors go to a file in the directory. Don't wait for it."""
        self._number += 1
        told = {
            "url": url,
            "name": self.name,
            "group": self.group,
            "journal": self._journal.descriptor,
            "seed": f"{seed} {self.name}",
            **self._told,
        }
        inherited = {k: v for k, v in os.environ.items() if not k.startswith(("III_", "PYTHON"))}
        self._log = directory / f"{self.name}.log"
        python, script = self._command
        with self._log.open("w") as log:
            self._process = await asyncio.create_subprocess_exec(
                *(python, HERE / script, json.dumps(told)),
                env=inherited | {"HOME": str(directory)},
                stdin=asyncio.subprocess.PIPE,
                stdout=log,
                stderr=log,
                pass_fds=[self._journal.descriptor],
            )

    def say(self, line: str) -> None:
        """Give it a line of input."""
        assert self._process is not None
        assert self._process.stdin is not None
        self._process.stdin.write(f"{line}\n".encode())

    async def kill(self) -> None:
        """Kill it. It must not have ended before."""
        assert self._process is not None
        assert self._process.returncode is None, self.said()
        pen = Pen(self._journal.descriptor, self.name, self.group)
        pen.write("killing")
        await self.end()
        pen.write("killed")

    def said(self) -> str:
        """Why it ended, if it did so by itself."""
        if self._process is None or self._process.returncode is None:
            return ""
        return f"{self.name} ended with {self._process.returncode}: {self._log.read_text()}"

    async def end(self) -> None:
        """End it, if it is there."""
        if self._process is not None:
            if self._process.returncode is None:
                self._process.kill()
            await self._process.wait()
            self._process = None
