"""A worker, without an SDK, that handles the events of a durable trigger until it is killed."""

from __future__ import annotations

import asyncio
from typing import Any

from chores import Handling, Task
from witnesses import CUT_OFF, Line, line

CONNECT_AGAIN_S = 0.02


class Handler:
    """Binds the trigger on one connection after the other."""

    def __init__(self, task: Task) -> None:
        self.task = task
        self.handling = Handling(task.pen, task.rng)

    async def run(self) -> None:
        """Handle events, without end."""
        while True:
            self.handling.connecting()
            try:
                async with line(self.task.url) as opened, asyncio.TaskGroup() as calls:
                    self.handling.connected()
                    await self.bind(opened)
                    while True:
                        message = await opened.receive()
                        if message["type"] == "invokefunction":
                            calls.create_task(self.answer(opened, message))
                        else:  # a replica is told that another one has the function
                            assert message["type"] == "registrationrejected", message
            except* CUT_OFF:
                self.handling.lost()
            await asyncio.sleep(CONNECT_AGAIN_S)

    async def bind(self, opened: Line) -> None:
        """Offer the function, and bind it."""
        await opened.introduce(self.task.name)
        await opened.tell("registerfunction", id=self.task.function_id)
        await opened.tell(
            "registertrigger",
            id=self.task.name,
            trigger_type="state",
            function_id=self.task.function_id,
            config=self.task.config,
        )

    async def answer(self, opened: Line, call: dict[str, Any]) -> None:
        """Handle one event, beside others, and say how that went."""
        if await self.handling.handle(call["data"]):
            outcome: dict[str, Any] = {"result": None}
        else:
            outcome = {"error": {"code": "failed", "message": "as it does now and then"}}
        await opened.tell(
            "invocationresult",
            invocation_id=call["invocation_id"],
            function_id=call["function_id"],
            **outcome,
        )


asyncio.run(Handler(Task()).run())
