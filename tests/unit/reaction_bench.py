"""Reactions over a real store in memory, with functions that answer when the test says so."""

from __future__ import annotations

import heapq
from collections import deque
from collections.abc import Callable, Sequence
from itertools import count

import msgspec

from iii_state.core.bindings import Binding, BindingConfig
from iii_state.core.changes import Origin
from iii_state.core.commands import Set
from iii_state.core.dead_letters import DeadLetters
from iii_state.core.deliveries import Limits
from iii_state.engine.followers import BindingStatus
from iii_state.engine.invocations import Failure, Reply
from iii_state.engine.ledgers import MemoryLedger
from iii_state.engine.reactions import Reactions
from iii_state.stores.memory import MemoryStore
from iii_state.testing.clocks import FakeClock

MISSING = Failure("function_not_found", "Function 'f' not found in namespace 'default'")
STOPPED = Failure("invocation_stopped", "the worker went away")
BROKEN = Failure("invocation_failed", "no")
SMALL = Limits(in_flight_max=2, read_ahead_max=6, interruptions_max=1000)


RESOLUTION_S = 1e-9
"""As in a real loop, what is due within the clock's resolution is due."""


class HandTimer:
    """Something that happens later, or does not."""

    def __init__(self, callback: Callable[[], object]) -> None:
        self.callback = callback

    def cancel(self) -> None:
        self.callback = lambda: None


class HandTimers:
    """An event loop whose time and turns are moved by the test."""

    def __init__(self) -> None:
        self.now = 0.0
        self._soon: deque[Callable[[], object]] = deque()
        self._later: list[tuple[float, int, HandTimer]] = []
        self._ids = count()

    def time(self) -> float:
        return self.now

    def call_soon(self, callback: Callable[[], object], /) -> None:
        self._soon.append(callback)

    def call_later(self, delay: float, callback: Callable[[], object], /) -> HandTimer:
        timer = HandTimer(callback)
        heapq.heappush(self._later, (self.now + delay, next(self._ids), timer))
        return timer

    def turn(self) -> bool:
        """One turn of the loop; false if there was nothing to do."""
        ready, self._soon = self._soon, deque()
        for callback in ready:
            callback()
        return bool(ready)

    def run(self) -> None:
        """Turn until there is nothing to do."""
        for _ in range(100_000):
            if not self.turn():
                return
        raise AssertionError("the loop never comes to rest")

    def advance(self, seconds: float) -> None:
        self.now += seconds
        while self._later and self._later[0][0] <= self.now + RESOLUTION_S:
            heapq.heappop(self._later)[2].callback()
        self.run()


class Event(msgspec.Struct):
    """A handler's view of an event."""

    scope: str
    key: str
    revision: int
    attempt: int
    event_id: str
    old_value: object
    new_value: object
    values_omitted: bool = False


class Invocation(msgspec.Struct):
    """A call that was made and waits for its answer."""

    namespace: str
    function_id: str
    event: Event
    metadata: bytes | None
    reply: Reply

    def succeed(self, result: bytes | None = b"null") -> None:
        self.reply(result, None)

    def fail(self, failure: Failure = BROKEN) -> None:
        self.reply(None, failure)


class ScriptedInvoker:
    """Makes calls by writing them down. `at_once` answers some functions on the spot."""

    def __init__(self) -> None:
        self.open: list[Invocation] = []
        self.made: list[Invocation] = []
        self.at_once: dict[str, Failure | bytes | None] = {}
        self.bytes_max: dict[str, int] = {}

    def invoke(
        self,
        namespace: str,
        function_id: str,
        data: bytes,
        reply: Reply,
        *,
        metadata: bytes | None = None,
        depth: int = 0,
        is_shared: bool = False,
    ) -> None:
        event = msgspec.json.decode(data, type=Event)
        invocation = Invocation(namespace, function_id, event, metadata, reply)
        self.made.append(invocation)
        if len(data) > self.bytes_max.get(function_id, 1 << 30):
            invocation.fail(Failure("payload_too_large", "too large for this client"))
        elif function_id in self.at_once:
            answer = self.at_once[function_id]
            if isinstance(answer, Failure):
                invocation.fail(answer)
            else:
                invocation.succeed(answer)
        else:
            self.open.append(invocation)

    def take(self) -> Invocation:
        """The oldest open call."""
        return self.open.pop(0)

    def stop_all(self) -> None:
        """The worker that runs everything goes away."""
        stopped, self.open = self.open, []
        for invocation in stopped:
            invocation.fail(STOPPED)

    @property
    def revisions(self) -> list[int]:
        return [invocation.event.revision for invocation in self.made]


class Bench:
    """Reactions over a memory store, written to by `set`."""

    def __init__(
        self,
        *,
        history_bytes: int = 64 << 20,
        limits: Limits | None = None,
        window_s: float = 60.0,
        letters: DeadLetters | None = None,
    ) -> None:
        self.clock = FakeClock()
        self.store = MemoryStore(self.clock, history_bytes=history_bytes)
        self.ledger = MemoryLedger()
        self._limits = limits
        self._window_s = window_s
        self._letters = letters
        self.start()

    def start(self) -> None:
        """Begin, or begin anew as after a crash: with the store and the ledger as they are."""
        self.invoker = ScriptedInvoker()
        self.timers = HandTimers()
        self.reactions = Reactions(
            self.store,
            self.invoker,
            self.timers,
            resume_window_s=self._window_s,
            limits=self._limits,
            ledger=self.ledger,
            letters=self._letters,
            clock_ms=self.clock,
            jitter=lambda: 0.0,
        )

    async def set(
        self, scope: str = "s", key: str = "k", value: bytes = b"1", depth: int = 0
    ) -> int:
        """Write and commit one change; its revision."""
        origin = Origin(depth=depth)
        change = self.store.execute(Set(scope, key, value, origin=origin)).change
        assert change is not None
        self.reactions.committed(await self.store.commit())
        return change.revision

    async def set_many(self, keys: Sequence[str], scope: str = "s") -> None:
        """Write one value to each of the keys, in one commit."""
        for key in keys:
            self.store.execute(Set(scope, key, b"1"))
        self.reactions.committed(await self.store.commit())

    def bind(
        self,
        config: bytes | None = None,
        *,
        id: str = "b",
        owner: str = "w",
        function: str = "f",
        metadata: bytes | None = None,
        from_revision: int | None = None,
        turn: bool = True,
    ) -> None:
        """Bind, and let the loop turn until it rests, unless told not to."""
        start = self.store.revision if from_revision is None else from_revision
        parsed = BindingConfig.parse(config)
        self.reactions.bind(
            owner, Binding(id, function, "default", parsed, config, metadata, start)
        )
        if turn:
            self.timers.run()

    def status(self, id: str = "b") -> BindingStatus:
        [found] = [s for s in self.reactions.snapshot() if s.binding.id == id]
        return found

    def answer_all(self) -> None:
        """Answer calls, oldest first, until none is open any more."""
        self.timers.run()
        while self.invoker.open:
            self.invoker.take().succeed()
            self.timers.run()
