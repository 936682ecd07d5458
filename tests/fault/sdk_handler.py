"""The same as `raw_handler.py`, by the Python SDK."""

from __future__ import annotations

import threading
from typing import Any

import iii
from chores import Handling, Task
from iii.iii_constants import ReconnectionConfig

QUICKLY = ReconnectionConfig(initial_delay_ms=50, max_delay_ms=200)


def main() -> None:
    task = Task()
    handling = Handling(task.pen, task.rng)
    witness = {
        "connected": handling.connected,
        "disconnected": handling.lost,
        "reconnecting": handling.connecting,
    }

    async def handler(event: Any) -> None:
        if not await handling.handle(event):
            raise ValueError("as it does now and then")

    handling.connecting()
    options = iii.InitOptions(worker_name=task.name, reconnection_config=QUICKLY)
    worker = iii.register_worker(task.url, options)
    worker.add_connection_state_listener(lambda state: witness.get(state, lambda: None)())
    handler.__annotations__.clear()  # the SDK would make a schema of them
    worker.register_function(task.function_id, handler)
    worker.register_trigger(
        {"type": "state", "function_id": task.function_id, "config": task.config}
    )
    threading.Event().wait()


main()
