"""The same as `raw_writer.py`, by the Python SDK."""

from __future__ import annotations

import asyncio
import sys
from typing import Any

import iii
from chores import Task, Writing
from iii.iii_constants import ReconnectionConfig

QUICKLY = ReconnectionConfig(initial_delay_ms=50, max_delay_ms=200)
DEPTH = 4

TIMEOUT_MS = 500
"""The SDK does not tell that a call was lost with its connection; so don't wait long for it."""


async def write(worker: Any, writing: Writing, many: int) -> None:
    async def write_on() -> None:
        nonlocal many
        while many:
            many -= 1
            function_id, data = writing.next()
            request = {"function_id": function_id, "payload": data, "timeout_ms": TIMEOUT_MS}
            try:
                writing.acknowledged(data, await worker.trigger_async(request))
            except iii.InvocationError as error:
                if error.code != "TIMEOUT":
                    raise

    await asyncio.gather(*[write_on() for _ in range(DEPTH)])


def main() -> None:
    task = Task()
    writing = Writing(task.pen, task.rng, task.name)
    options = iii.InitOptions(worker_name=task.name, reconnection_config=QUICKLY)
    worker = iii.register_worker(task.url, options)
    for many in sys.stdin:
        asyncio.run(write(worker, writing, int(many)))
        task.pen.write("spent")


main()
