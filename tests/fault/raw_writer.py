"""A worker, without an SDK, that writes: so often, for each line of its input, until it is killed.

The line `spent` of the journal says that this is done. A write that was sent on a connection which
was lost counts: what came of it is not known.
"""

from __future__ import annotations

import asyncio
import sys
from functools import partial
from typing import Any

from chores import Task, Writing
from witnesses import CUT_OFF, Line, line

DEPTHS = (1, 4, 32)
CONNECT_AGAIN_S = 0.02


class Writer:
    """Writes, several calls in flight."""

    def __init__(self, task: Task) -> None:
        self.url = task.url
        self.depth = task.rng.choice(DEPTHS)
        self.writing = Writing(task.pen, task.rng, task.name)
        self.left = 0
        self.open = 0

    async def write(self, many: int) -> None:
        """Write so often."""
        self.left = many
        while self.left:
            self.open = 0
            try:
                async with line(self.url) as opened:
                    while self.left or self.open:
                        await self.write_or_wait(opened)
            except CUT_OFF:
                await asyncio.sleep(CONNECT_AGAIN_S)

    async def write_or_wait(self, opened: Line) -> None:
        """Send the next write if it may be in flight; else take the next answer."""
        if self.open == self.depth or not self.left:
            await opened.receive()
            return
        self.left -= 1
        self.open += 1
        function_id, data = self.writing.next()
        await opened.send(function_id, data, partial(self.answered, data))

    def answered(self, data: dict[str, Any], answer: dict[str, Any]) -> None:
        """Take what came of a write."""
        assert "error" not in answer, answer
        self.open -= 1
        self.writing.acknowledged(data, answer["result"])


def main() -> None:
    task = Task()
    writer = Writer(task)
    for many in sys.stdin:
        asyncio.run(writer.write(int(many)))
        task.pen.write("spent")


main()
