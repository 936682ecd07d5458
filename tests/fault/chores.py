"""What the programs that are killed do: handle events, and write. Whatever SDK carries them.

Needs nothing but the standard library, since programs in other environments import it.
"""

from __future__ import annotations

import asyncio
import json
import random
import sys
from itertools import count
from typing import Any

from journal import Pen

SCOPES = ("orders", "users")
KEYS = 12
DELETES = 0.1

WORK_S_MEAN = 0.002
LONG_WORK_S_MAX = 0.4
LONG_WORK = 0.04
"""So many events take so long that the server writes down how far it got while they run."""

FAILS = 0.02

Json = dict[str, Any]


class Task:
    """What a program was told to do, as JSON in its first argument."""

    def __init__(self) -> None:
        told = json.loads(sys.argv[1])
        self.url: str = told["url"]
        self.name: str = told["name"]
        self.pen = Pen(told["journal"], self.name, told["group"])
        self.rng = random.Random(told["seed"])
        self.config: Json = told["config"]

    @property
    def function_id(self) -> str:
        """The function that handles the events of the durable trigger."""
        return f"kills::{self.config['durable']}"


class Handling:
    """Handles events: witnesses each, takes a while, and fails now and then.

    Connections are numbered from 1. A line says that one is tried for, before it is.
    """

    def __init__(self, pen: Pen, rng: random.Random) -> None:
        self._pen = pen
        self._rng = rng
        self._connection = 0
        self._is_connected = False

    def connecting(self) -> None:
        """Witness that a connection will be tried for."""
        self._pen.write("connecting", connection=self._connection + 1)

    def connected(self) -> None:
        """Witness that there is one. Said again, it means nothing."""
        if not self._is_connected:
            self._is_connected = True
            self._connection += 1
            self._pen.write("connected", connection=self._connection)

    def lost(self) -> None:
        """Witness that it is lost, if there was one."""
        if self._is_connected:
            self._is_connected = False
            self._pen.write("lost", connection=self._connection)

    async def handle(self, event: Json) -> bool:
        """Handle an event; whether that went well."""
        call = {
            "connection": self._connection,
            "revision": event["revision"],
            "attempt": event["attempt"],
        }
        self._pen.write("delivered", **call, event=event)
        is_done = self._rng.random() >= FAILS
        await asyncio.sleep(self._work_s())
        self._pen.write("answering", **call, is_done=is_done)
        return is_done

    def _work_s(self) -> float:
        if self._rng.random() < LONG_WORK:
            return self._rng.uniform(0, LONG_WORK_S_MAX)
        return self._rng.expovariate(1 / WORK_S_MEAN)


class Writing:
    """Thinks of writes, and witnesses those that were acknowledged. No value comes twice."""

    def __init__(self, pen: Pen, rng: random.Random, name: str) -> None:
        self._pen = pen
        self._rng = rng
        self._name = name
        self._serial = count()

    def next(self) -> tuple[str, Json]:
        """A function of the server, and its data."""
        serial = next(self._serial)
        scope = SCOPES[serial % len(SCOPES)]
        data = {"scope": scope, "key": f"{self._rng.randrange(KEYS)}", "with_revision": True}
        if self._rng.random() < DELETES:
            return "state::delete", data
        return "state::set", {**data, "value": f"{self._name}/{serial}"}

    def acknowledged(self, data: Json, result: Json) -> None:
        """Witness what came of a write, unless it was a delete of what was not there."""
        if "value" in data or "old_value" in result:
            write = {member: data.get(member) for member in ("scope", "key", "value")}
            self._pen.write("wrote", revision=result["revision"], **write)
