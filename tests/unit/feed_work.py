"""Feed functions without an engine, and timers with which every slice takes a turn."""

from __future__ import annotations

import msgspec
from engine_bench import LoopTimers
from feed_bench import (
    Json,
)

from iii_state.core.commands import Set
from iii_state.engine.calls import EngineCall
from iii_state.engine.feed_functions import FeedFunctions
from iii_state.engine.invocations import Failure
from iii_state.engine.slices import TURN_S
from iii_state.stores.memory import MemoryStore
from iii_state.testing.clocks import FakeClock


class SlowTimers(LoopTimers):
    """Time passes while something is done: one slice is a turn."""

    def time(self) -> float:
        self.now += TURN_S
        return self.now


class Asked:
    """A call of the engine's own to a feed function, and what became of it."""

    def __init__(self, functions: FeedFunctions, name: str, **data: Json) -> None:
        self.result: Json = None
        self.failure: Failure | None = None
        [function] = [each for each in functions.functions() if each.id == f"state::{name}"]
        function.run(EngineCall(function.member, msgspec.json.encode(data), reply=self._reply))

    def _reply(self, result: bytes | None, failure: Failure | None) -> None:
        assert not self.is_done, "answered twice"
        self.failure = failure
        self.result = msgspec.json.decode(result) if result is not None else None

    @property
    def is_done(self) -> bool:
        return self.result is not None or self.failure is not None


async def filled(count: int, *, history_bytes: int = 64 << 20) -> MemoryStore:
    store = MemoryStore(FakeClock(), history_bytes=history_bytes)
    for number in range(count):
        store.execute(Set("first" if number == 0 else "other", f"k{number}", b"1"))
    await store.commit()
    return store
