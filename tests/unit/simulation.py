"""A world of writers, workers, crashes and time, made from one seed, and what must hold in it.

The real reactions, feed, deliveries and store run in it; only time, calls and the ledger are the
world's. A `Book` for each binding says what may be delivered next; whatever contradicts it raises
`AssertionError`. After a crash the book forgets what the ledger had not heard of.
"""

from __future__ import annotations

import random
from collections.abc import Callable
from typing import Any

import msgspec
from reaction_bench import BROKEN, MISSING, STOPPED, Event, HandTimers
from simulation_book import CONFIGS, LIMITS, MAX_CHAIN_DEPTH, Book, Call

from iii_state.core.bindings import Binding
from iii_state.core.changes import Change, Origin
from iii_state.core.checkpoints import Checkpoint
from iii_state.core.commands import Set
from iii_state.engine.alarms import milliseconds
from iii_state.engine.invocations import Failure, Reply
from iii_state.engine.ledgers import MemoryLedger
from iii_state.engine.reactions import Reactions
from iii_state.stores.memory import MemoryStore
from iii_state.testing.clocks import FakeClock

WINDOW_S = 3.0
KEYS = "abcd"


class BookedLedger(MemoryLedger):
    """A ledger whose every entry is held against the book."""

    def __init__(self, world: World) -> None:
        super().__init__()
        self._world = world

    def save(self, name: str, checkpoint: Checkpoint) -> None:
        self._world.look_at_letters()
        self._world.books[name].check_checkpoint(checkpoint)
        super().save(name, checkpoint)


class World:
    """Everything that happens, from one seed."""

    def __init__(self, seed: int) -> None:
        self.random = random.Random(seed)
        self.clock = FakeClock()
        self.store = MemoryStore(self.clock)
        self.changes: dict[int, Change] = {}
        self.books = {name: Book(name, self.changes) for name in CONFIGS}
        self.calls: list[Call] = []
        self.away: set[str] = set()
        self.unserved: set[str] = set()
        self.has_started = False
        self.ledger = BookedLedger(self)
        self.start()

    def start(self) -> None:
        """A process begins."""
        self.has_started = False
        self.timers = HandTimers()
        self.reactions = Reactions(
            self.store,
            self,
            self.timers,
            resume_window_s=WINDOW_S,
            limits=LIMITS,
            ledger=self.ledger,
            max_chain_depth=MAX_CHAIN_DEPTH,
            clock_ms=self.clock,
            jitter=self.random.random,
        )
        self.has_started = True
        for name in CONFIGS:
            if name not in self.away:
                self.bind(name)

    @property
    def now_ms(self) -> int:
        return milliseconds(self.timers)

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
        """See `Invoker.invoke`: the workers get a call."""
        event = msgspec.json.decode(data, type=Event)
        if function_id in self.unserved:
            reply(None, MISSING)
            return
        self.look_at_letters()
        book = self.books[function_id]
        call = Call(book, self.changes[event.revision], event.attempt, reply, self.now_ms)
        book.started(call, self.now_ms)
        self.calls.append(call)

    def look_at_letters(self) -> None:
        if self.has_started:
            for name, book in self.books.items():
                book.parked(self.reactions.dead_letters(name, limit=1_000_000)[0])

    def bind(self, name: str) -> None:
        """A worker comes, or comes back, and binds."""
        self.away.discard(name)
        book = self.books[name]
        known = {status.binding.id for status in self.reactions.snapshot()}
        if name not in known:
            book.running.clear()
            if not book.is_durable:
                book.start = self.store.revision
        config = CONFIGS[name]
        self.reactions.bind(
            name, Binding(name, name, "default", book.config, config, None, book.start)
        )

    def answer(self, call: Call, failure: Failure | None) -> None:
        self.calls.remove(call)
        call.book.ended(call, failure, self.now_ms)
        call.reply(None if failure else b"null", failure)

    def write(self) -> None:
        deep = MAX_CHAIN_DEPTH if self.random.random() < 0.05 else 0
        for _ in range(self.random.choice([1, 1, 2, 5, 12])):
            command = Set("s", self.random.choice(KEYS), b"1", origin=Origin(depth=deep))
            change = self.store.execute(command).change
            assert change is not None
            self.changes[change.revision] = change
        self.reactions.committed(run(self.store.commit()))

    def answer_one(self) -> None:
        if self.calls:
            failure = self.random.choices([None, BROKEN, STOPPED], [7, 3, 1])[0]
            self.answer(self.random.choice(self.calls), failure)

    def turn(self) -> None:
        self.timers.turn()

    def pass_time(self) -> None:
        milliseconds = self.random.choice([1, 10, 40, 100, 100, 500])
        self.clock.advance(milliseconds)
        self.timers.advance(milliseconds / 1000)

    def leave(self) -> None:
        """A worker's connection is lost."""
        name = self.random.choice(list(CONFIGS))
        if name not in self.away:
            self.away.add(name)
            for call in [call for call in self.calls if call.book.name == name]:
                self.answer(call, STOPPED)
            self.reactions.detach(name)

    def come_back(self) -> None:
        if self.away:
            self.bind(self.random.choice(sorted(self.away)))

    def be_away_for_long(self) -> None:
        self.leave()
        self.timers.advance(WINDOW_S)

    def pause(self) -> None:
        known = [status.binding.id for status in self.reactions.snapshot()]
        if known:
            self.reactions.pause(self.random.choice(known))

    def resume(self) -> None:
        for status in self.reactions.snapshot():
            if status.paused:
                self.reactions.resume(status.binding.id)

    def redrive(self) -> None:
        letters = [
            letter
            for letter in self.reactions.dead_letters(limit=1_000_000)[0]
            if self.random.random() < 0.5
        ]
        self.look_at_letters()
        known = {status.binding.id for status in self.reactions.snapshot()}
        for letter in letters:
            book = self.books[letter.trigger]
            if book.name in known:
                book.resend(letter.change.revision)
        self.reactions.redrive([letter.id for letter in letters])

    def register_or_not(self) -> None:
        """A worker takes its function away, or brings it back."""
        self.unserved ^= {self.random.choice(["durable", "gathered"])}

    def crash(self) -> None:
        """The process is killed, and started again."""
        self.calls.clear()
        self.has_started = False
        for book in self.books.values():
            book.crashed(list(self.ledger.dead_letters()))
        self.start()

    def restart(self) -> None:
        """The process ends as it should, and is started again."""
        self.reactions.stop()
        self.crash()

    ACTIONS: tuple[tuple[int, Callable[[World], None]], ...] = (
        (12, write),
        (30, answer_one),
        (20, turn),
        (20, pass_time),
        (2, leave),
        (4, come_back),
        (1, be_away_for_long),
        (1, pause),
        (2, resume),
        (2, redrive),
        (1, register_or_not),
        (1, crash),
        (1, restart),
    )

    def step(self) -> None:
        """Let something happen."""
        weights = [weight for weight, _ in self.ACTIONS]
        [(_, action)] = self.random.choices(self.ACTIONS, weights)
        action(self)
        self.check()

    def check(self) -> None:
        """What holds at all times."""
        self.look_at_letters()
        for status in self.reactions.snapshot():
            assert status.in_flight <= LIMITS.in_flight_max
            book = self.books[status.binding.id]
            book.check_status(status.cursor)

    def heal(self) -> None:
        """Everybody is there and does as told, until nothing is left to do."""
        self.unserved.clear()
        for name in sorted(self.away):
            self.bind(name)
        self.resume()
        for _ in range(1000):
            self.timers.run()
            while self.calls:
                self.answer(self.calls[0], None)
                self.timers.run()
            if all(status.lag == 0 for status in self.reactions.snapshot()):
                return
            self.timers.advance(0.1)
        raise AssertionError("it never comes to an end")

    def check_complete(self) -> None:
        """At the end, everything was delivered or given up."""
        self.check()
        for book in self.books.values():
            missing = [r for r in book.matching() if r not in book.settled]
            assert not missing, f"{book.name}: {missing} were never delivered"


def run(awaitable: Any) -> Any:
    """The result of something that never waits."""
    try:
        awaitable.send(None)
    except StopIteration as done:
        return done.value
    raise AssertionError("it waits")


def simulate(seed: int, steps: int = 250) -> World:
    """Let the world of a seed happen. Raises `AssertionError`, with the seed, if it is wrong."""
    try:
        world = World(seed)
        for _ in range(steps):
            world.step()
        world.heal()
        world.check_complete()
    except AssertionError as error:
        raise AssertionError(f"seed {seed}: {error}") from error
    return world
