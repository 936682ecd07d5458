"""The world that is simulated, as far as nothing happens in it by itself.

The real reactions, feed, deliveries, ledger, table of functions and store run in it; only time,
connections and how much the store keeps are the world's. A `Book` for each binding says what may be
delivered next; whatever contradicts it raises `AssertionError`. After a crash the book forgets what
had not been committed.
"""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Hashable
from typing import Any

import msgspec
import pytest
from reaction_bench import MISSING, STOPPED, HandTimers
from simulation_book import CONFIGS, LIMITS, MAX_CHAIN_DEPTH, Book, Call, Event, Place
from simulation_store import SmallStore
from simulation_workers import REPLICAS, Answer, Groups, Replica

from iii_state.core.bindings import Binding, BindingConfig
from iii_state.core.changes import Change, Entry, Origin
from iii_state.core.checkpoints import Checkpoint
from iii_state.core.commands import Delete, Set
from iii_state.engine.alarms import milliseconds
from iii_state.engine.invocations import Failure, Forget, Reply
from iii_state.engine.reactions import Reactions
from iii_state.engine.store_ledger import StoreLedger
from iii_state.errors import RevisionCompacted
from iii_state.testing.clocks import FakeClock

WINDOW_S = 3.0
PLACES = [("s", key) for key in "aaabbccdefg"] + [("t", key) for key in "abc"]
SINGLE = [name for name in CONFIGS if name not in REPLICAS]
"""The functions that one worker runs, which is in no table: what it answers late still comes."""
ALL = 1_000_000


class BookedLedger(StoreLedger):
    """A ledger whose every checkpoint is held against the book."""

    def __init__(self, world: World) -> None:
        super().__init__(world.store, world.commit_soon)
        self._world = world

    def save(self, name: str, checkpoint: Checkpoint) -> None:
        if self._world.has_started:
            self._world.look()
            self._world.books[name].check_checkpoint(checkpoint)
        super().save(name, checkpoint)


class World:
    """Everything that happens, from one seed. `seen` counts what the tests want to happen."""

    def __init__(self, seed: int) -> None:
        self.random = random.Random(seed)
        self.seen: Counter[str] = Counter()
        self.clock = FakeClock()
        self.store = SmallStore(self.clock)
        self.changes: dict[int, Change] = {}
        self.entries: dict[Place, Entry] = {}
        self.books = {name: Book(name, self.changes, lambda: self.now_ms) for name in CONFIGS}
        self.calls: list[Call] = []
        self.away = {name for name in SINGLE if self.random.random() < 0.3}
        self.unserved: set[str] = set()
        self.letters_kept: set[str] = set()
        self.execute(self.random.randrange(25))
        run(self.store.commit())
        self.start()

    def start(self) -> None:
        """A process begins."""
        self.has_started = False
        self.is_commit_planned = False
        self.timers = HandTimers()
        self.groups = Groups(self.called)
        self.ledger = BookedLedger(self)
        saved = {name: self.ledger.checkpoint(name) for name in CONFIGS}
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
        letters = self.reactions.dead_letters(limit=ALL)[0]
        sent = {
            f"{name}@{p.revision}"
            for name, c in saved.items()
            if c
            for p in c.pending
            if p.redriven
        }
        ids = {letter.id for letter in letters}
        assert ids == self.letters_kept - sent, f"of {self.letters_kept} there are {ids}"
        for letter in letters:
            self.books[letter.trigger].letters[letter.id] = letter
        for status in self.reactions.snapshot():
            book = self.books[status.binding.function_id]
            checkpoint = saved[book.name]
            assert checkpoint is not None
            self.seen["a crash among the entries"] += checkpoint.cursor < book.entries_up_to
            book.took_over(checkpoint, status, self.store.oldest_revision)
            now = self.ledger.checkpoint(book.name)
            assert now is not None
            book.check_checkpoint(now)
        self.has_started = True
        for name in SINGLE:
            if name not in self.away:
                self.bind(name)
        for replica in self.groups.replicas:
            if self.random.random() < 0.5:
                self.join(replica)

    @property
    def now_ms(self) -> int:
        return milliseconds(self.timers)

    def commit(self) -> None:
        """What was executed and noted is durable."""
        changes = run(self.store.commit())
        letters = self.reactions.dead_letters(limit=ALL)[0]
        self.letters_kept = {letter.id for letter in letters if letter.is_durable}
        for book in self.books.values():
            book.committed(self.letters_kept)
        self.reactions.committed(changes)

    def commit_soon(self) -> None:
        """Commit in the next turn."""
        if not self.is_commit_planned:
            self.is_commit_planned = True
            self.timers.call_soon(self._commit_planned)

    def _commit_planned(self) -> None:
        self.is_commit_planned = False
        self.commit()

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
    ) -> Forget | None:
        """See `Invoker.invoke`: the workers get a call."""
        if function_id in REPLICAS:
            return self.groups.invoke(function_id, data, reply, is_shared=is_shared)
        if function_id in self.unserved:
            reply(None, MISSING)
        else:
            self._take_call(function_id, data, reply)
        return None

    def called(self, replica: Replica, data: bytes, answer: Answer) -> None:
        """A replica gets a call."""
        self._take_call(replica.function_id, data, answer)

    def _take_call(self, function_id: str, data: bytes, reply: Reply) -> None:
        event = msgspec.json.decode(data, type=Event)
        self.look()
        book = self.books[function_id]
        place, token = (event.scope, event.key), book.token_of(event)
        call = Call(book, place, token, event.attempt, reply)
        book.started(call)
        self.calls.append(call)

    def look(self) -> None:
        """Look what was given up, what was lost, and what is said to be done."""
        for letter in self.reactions.dead_letters(limit=ALL)[0]:
            self.books[letter.trigger].parked(letter)
        for status in self.reactions.snapshot():
            assert status.in_flight <= LIMITS.in_flight_max
            book = self.books[status.binding.function_id]
            lost = book.look(status, self.store.revision, self.store.oldest_revision)
            self.seen[f"lost by {'a durable' if book.is_durable else 'a plain'} one"] += lost > 0

    def bind(self, name: str) -> None:
        """A worker comes, or comes back, and binds."""
        self.away.discard(name)
        self._bind(self.books[name], name, name)

    def _bind(self, book: Book, owner: Hashable, binding_id: str) -> None:
        if not self._is_known(book):
            start = self.store.executed_revision
            config = CONFIGS[book.name]
            if b"START" in config:
                self._refuse_start(book, owner)
                start = self.random.randint(self.store.oldest_revision, start)
                config = config.replace(b"START", b"%d" % start)
            book.begin(start, self.entries if book.config.is_initial else {}, config)
        self.reactions.bind(owner, self._binding(book, book.told.config, binding_id))

    def _refuse_start(self, book: Book, owner: Hashable) -> None:
        """What is no longer kept cannot be asked for."""
        oldest = self.store.oldest_revision
        if oldest:
            config = CONFIGS[book.name].replace(b"START", b"%d" % (oldest - 1))
            with pytest.raises(RevisionCompacted) as refusal:
                self.reactions.bind(owner, self._binding(book, config, book.name))
            assert refusal.value.details["oldest_revision"] == oldest
            self.seen["a start that is no longer kept"] += 1

    def _binding(self, book: Book, config: bytes, binding_id: str) -> Binding:
        parsed, revision = BindingConfig.parse(config), self.store.executed_revision
        return Binding(binding_id, book.name, "default", parsed, config, None, revision)

    def _is_known(self, book: Book) -> bool:
        if book.is_durable:
            is_known = self.ledger.checkpoint(book.name) is not None
            assert is_known == book.has_begun, f"{book.name}: begun or not?"
            return is_known
        return book.name in self.known()

    def known(self) -> list[str]:
        """The names of the bindings that are there, also of those whose workers are away."""
        return [status.binding.function_id for status in self.reactions.snapshot()]

    def join(self, replica: Replica) -> None:
        """A replica connects, registers and binds, in any order."""
        worker = self.groups.connect(replica)
        acts = [self.register_replica, self.bind_replica]
        self.random.shuffle(acts)
        for act in acts:
            act(replica)
            if self.random.random() < 0.5:
                self.turn()
        assert replica.worker is worker

    def register_replica(self, replica: Replica) -> None:
        self.groups.register(replica)
        self.reactions.registered("default", replica.function_id)

    def bind_replica(self, replica: Replica) -> None:
        replica.binds = True
        self._bind(self.books[replica.function_id], replica.worker, replica.binding_id)

    def end(self, replica: Replica) -> None:
        """A replica's connection is lost."""
        for call in [call for call in self.calls if is_of(call, replica)]:
            self.calls.remove(call)
            call.book.ended(call, STOPPED)
            self.seen["a replica died with a call"] += 1
        self.reactions.detach(self.groups.disconnect(replica))

    def answer(self, call: Call, failure: Failure | None) -> None:
        self.calls.remove(call)
        call.book.ended(call, failure)
        call.reply(None if failure else b"null", failure)

    def execute(self, writes: int) -> None:
        origin = Origin(depth=MAX_CHAIN_DEPTH if self.random.random() < 0.05 else 0)
        for _ in range(writes):
            scope, key = place = self.random.choice(PLACES)
            is_delete = self.random.random() < 0.15
            change = self.store.execute(
                Delete(scope, key, origin) if is_delete else Set(scope, key, b"1", origin=origin)
            ).change
            assert change is not None
            self.changes[change.revision] = change
            if change.entry is None:
                self.entries.pop(place, None)
            else:
                self.entries[place] = change.entry

    def turn(self) -> None:
        self.timers.turn()

    def resume(self) -> None:
        for name in self.known():
            book = self.books[name]
            if book.told.paused:
                book.told.paused = False
                self.reactions.resume(name)

    def heal(self) -> None:
        """Everybody is there and does as told, until nothing is left to do."""
        self.unserved.clear()
        for name in sorted(self.away):
            self.bind(name)
        self._heal_replicas()
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

    def _heal_replicas(self) -> None:
        """At least one replica of each group is there, and runs its function and binds it."""
        for replica in self.groups.present:
            if replica.is_deaf:
                self.end(replica)
                continue
            if not replica.runs:
                self.register_replica(replica)
            if not replica.binds:
                self.bind_replica(replica)
        for name in REPLICAS:
            if all(replica.function_id != name for replica in self.groups.present):
                self.join(next(r for r in self.groups.away if r.function_id == name))

    def check_complete(self) -> None:
        """At the end, everything was delivered or given up, or is known to be lost."""
        self.look()
        for book in self.books.values():
            missing = book.missing()
            assert not missing, f"{book.name}: {missing} were never delivered"


def is_of(call: Call, replica: Replica) -> bool:
    """Whether a replica has a call."""
    return isinstance(call.reply, Answer) and call.reply.replica is replica


def is_unheard(call: Call) -> bool:
    """Whether whoever has a call answers nothing."""
    return isinstance(call.reply, Answer) and call.reply.replica.is_deaf


def run(awaitable: Any) -> Any:
    """The result of something that never waits."""
    try:
        awaitable.send(None)
    except StopIteration as done:
        return done.value
    raise AssertionError("it waits")
