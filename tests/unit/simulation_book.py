"""What one binding was told so far, and so what it may be told next."""

from __future__ import annotations

from bisect import bisect
from collections.abc import Callable, Iterable

import msgspec
from reaction_bench import MISSING
from simulation_store import HELD

from iii_state.core.bindings import BindingConfig
from iii_state.core.changes import Change, Entry
from iii_state.core.checkpoints import Checkpoint
from iii_state.core.dead_letters import DeadLetter
from iii_state.core.deliveries import Limits
from iii_state.core.events import INITIAL
from iii_state.core.policies import Policy
from iii_state.engine.followers import BindingStatus
from iii_state.engine.invocations import Failure, Reply

LIMITS = Limits(in_flight_max=3, read_ahead_max=8, interruptions_max=2)
MAX_CHAIN_DEPTH = 3
PATIENT = b'"timeout_ms":500,"retry":{"max_attempts":3,"initial_ms":50,"max_ms":400}'
CONFIGS = {
    "durable": b'{"durable":"durable",%b}' % PATIENT,
    "gathered": b'{"durable":"gathered","debounce_ms":40,"timeout_ms":300,'
    b'"retry":{"max_attempts":2,"initial_ms":100,"max_ms":100}}',
    "retried": b'{"key":"a","retry":{"max_attempts":3,"initial_ms":50,"max_ms":50}}',
    "plain": b"{}",
    "grouped": b'{"durable":"grouped",%b}' % PATIENT,
    "told": b'{"durable":"told","from":"initial","max_in_flight":2,%b}' % PATIENT,
    "told at rest": b'{"durable":"told at rest","from":"initial","debounce_ms":40,%b}' % PATIENT,
    "shown": b'{"from":"initial","retry":{"max_attempts":2,"initial_ms":50,"max_ms":50}}',
    "since": b'{"durable":"since","from":START,%b}' % PATIENT,
    "after": b'{"from":START}',
}
"""By the id of the function, which is the name of the binding too. START becomes a revision."""

Place = tuple[str, str]
"""A scope and a key."""


class Event(msgspec.Struct):
    """What a worker sees of an event."""

    scope: str
    key: str
    revision: int
    attempt: int
    initial: bool = False


class Call:
    """A call that a binding's worker has."""

    def __init__(self, book: Book, place: Place, token: int, attempt: int, reply: Reply) -> None:
        self.book = book
        self.place = place
        self.token = token
        self.attempt = attempt
        self.reply = reply
        self.started_ms = book.now_ms()


class Told(msgspec.Struct):
    """What became of what a binding is to be told, as far as it is known.

    `settled` ones are acknowledged, given up, or stood for by a newer one that is. `tried` ones
    were delivered before. `redriven` ones may come out of order. `lost` ones were no longer kept.
    It is to be told of `entries`, and of all that matches above `start`.
    """

    start: int
    entries: dict[int, tuple[Place, int]]
    config: bytes
    settled: set[int]
    tried: set[int]
    redriven: set[int]
    lost: set[int]
    paused: bool = False

    def copy(self) -> Told:
        copies = {
            name: set(getattr(self, name)) for name in ("settled", "tried", "redriven", "lost")
        }
        return msgspec.structs.replace(self, **copies)


class Book:
    """What one binding was told, and so may be told next.

    A token names an event: the revision of a change or, at or below `start`, the one that made the
    entry. `changes` are all there are.
    """

    def __init__(self, name: str, changes: dict[int, Change], now_ms: Callable[[], int]) -> None:
        self.name = name
        self.changes = changes
        self.now_ms = now_ms
        self.config = BindingConfig.parse(CONFIGS[name].replace(b"START", b"0"))
        self.policy = Policy.of(self.config)
        self.told = Told(0, {}, CONFIGS[name], set(), set(), set(), set())
        self.has_begun = False
        self.running: dict[Place, Call] = {}
        self.letters: dict[str, DeadLetter] = {}
        self.resent: set[int] = set()
        self._sent_again: dict[int, Change] = {}
        self._met: set[int] = set()
        self._lost_counted = 0
        self._owed: dict[int, int] = {}
        self._noted: Told | None = None
        self._named: set[int] = set()
        self._listed: dict[int, tuple[Place, int]] | None = None
        self._listed_up_to = 0
        self._places: dict[Place | None, list[int]] = {}
        self._looked_up_to = 0
        self._kept: Told | None = None

    @property
    def is_durable(self) -> bool:
        return self.config.durable is not None

    @property
    def entries_up_to(self) -> int:
        """The highest token that may be that of an entry."""
        return self.told.start if self.config.is_initial else 0

    def begin(self, start: int, entries: dict[Place, Entry], config: bytes) -> None:
        """It is bound where nothing was bound before."""
        told = self.told
        tokens = {e.created_revision: (place, e.revision) for place, e in entries.items()}

        def earlier(them: Iterable[int]) -> set[int]:
            return {each for each in them if each <= start and each not in tokens}

        letters = {letter.change.revision for letter in self.letters.values()}
        settled = earlier(told.settled | told.redriven | letters)
        self.told = Told(start, tokens, config, settled, earlier(told.tried), set(), set())
        self.has_begun = True
        self.running.clear()
        self._met.clear()
        self._owed.clear()
        self._lost_counted = self._looked_up_to = 0

    def place_of(self, token: int) -> Place:
        if token in self.told.entries:
            return self.told.entries[token][0]
        change = self.changes[token]
        return change.scope, change.key

    def matching(self, place: Place | None = None) -> list[int]:
        """What it is to be told of, of one key or of all, in order."""
        if self._listed is not self.told.entries:
            self._listed, self._listed_up_to = self.told.entries, self.told.start
            self._places = {None: sorted(self._listed)}
            for token, (at, _) in self._listed.items():
                self._places[at] = [token]
        while self._listed_up_to < len(self.changes):
            self._listed_up_to += 1
            change = self.changes[self._listed_up_to]
            if self.config.key in (None, change.key):
                self._places[None].append(change.revision)
                self._places.setdefault((change.scope, change.key), []).append(change.revision)
        return self._places.get(place, [])

    def is_excused(self, token: int) -> bool:
        """Whether it need not be told of: an entry that was written since, or what was lost."""
        if token in self.told.lost:
            return True
        if token not in self.told.entries or token in self._met | self.told.redriven:
            return False
        place = self.told.entries[token][0]
        return self.matching(place)[-1] > self.told.start

    def token_of(self, event: Event) -> int:
        """What an event is about, which has to be marked if it is an entry."""
        place = event.scope, event.key
        if not event.initial:
            token = event.revision
            letter = self._sent_again.get(token)
            is_entry = token in self.told.entries if letter is None else letter.cause == INITIAL
            assert not is_entry, f"{self.name}: the entry {token} is not marked as one"
            return token
        for token, entry in self.told.entries.items():
            if entry == (place, event.revision):
                return token
        for token, change in self._sent_again.items():
            entry_then = change.entry
            if change.cause == INITIAL and entry_then and entry_then.revision == event.revision:
                return token
        raise AssertionError(f"{self.name}: {event} is marked, but was no entry at the start")

    def is_over(self, call: Call) -> bool:
        """Whether a call took too long, so that its answer counts for nothing."""
        timeout_ms = self.policy.timeout_ms
        return timeout_ms is not None and self.now_ms() - call.started_ms >= timeout_ms

    def started(self, call: Call) -> None:
        token, place, told = call.token, call.place, self.told
        assert not told.paused, f"{self.name}: {token} starts though it is paused"
        matches = token in self.matching(place) or token in told.redriven
        assert matches, f"{self.name}: {token} does not match"
        running = self.running.get(place)
        assert running is None or self.is_over(running), (
            f"{self.name}: {token} starts while {running and running.token} runs"
        )
        if token in self.resent and token in told.settled:
            self.resend(self._sent_again[token])
        assert token not in told.settled, f"{self.name}: {token} is delivered twice"
        is_first = call.attempt == 1
        assert not is_first or token not in told.tried, (
            f"{self.name}: {token} comes again as the first"
        )
        if token not in told.redriven:
            before = [t for t in self.matching(place) if t < token and self._must_come_first(t)]
            assert not before, f"{self.name}: {token} overtakes {before}"
        self.running[place] = call
        told.tried.add(token)
        self._met.add(token)

    def _must_come_first(self, token: int) -> bool:
        if token in self.told.settled or token in self.told.redriven or self.is_excused(token):
            return False
        return self.policy.debounce_ms is None or token in self.told.tried

    def ended(self, call: Call, failure: Failure | None) -> None:
        if self.running.get(call.place) is not call:
            return
        del self.running[call.place]
        if failure is MISSING:
            if call.attempt == 1:
                self.told.tried.discard(call.token)
        elif failure is None and not self.is_over(call):
            self.settle(call.token, call.place)

    def settle(self, token: int, place: Place) -> None:
        """Something is done with, and so is what it stands for."""
        told = self.told
        is_alone = token in told.redriven or self.policy.debounce_ms is None
        told.settled.add(token)
        told.redriven.discard(token)
        if not is_alone:
            told.settled.update(
                earlier
                for earlier in self.matching(place)
                if earlier < token and earlier not in told.tried | told.redriven
                if not self.is_excused(earlier)
            )

    def resend(self, change: Change) -> None:
        """A letter is sent again. After a crash, its event may be on its way by itself, too."""
        token = change.revision
        self._sent_again[token] = change
        is_entry = change.cause == INITIAL
        if token in self.told.settled or (is_entry and self.is_excused(token)):
            self.told.settled.discard(token)
            self.told.redriven.add(token)
            self._looked_up_to = 0
        else:
            self.resent.add(token)
        if is_entry or token not in self.told.entries:
            self._met.add(token)
        else:  # the change that made the entry: another event, of the same number
            self.told.tried.discard(token)

    def kept_back(self, change: Change) -> None:
        """A letter that was to be sent again is still a letter."""
        token = change.revision
        self.resent.discard(token)
        self._met.discard(token)
        if token in self.told.redriven:
            self.told.redriven.discard(token)
            if token not in self.told.entries:
                self.told.settled.add(token)

    def parked(self, letter: DeadLetter) -> None:
        """Look at a letter, which may be new."""
        if self.letters.get(letter.id) is letter:
            return
        change = letter.change
        attempts = min(self.policy.attempts_max, LIMITS.interruptions_max + 1)
        assert letter.attempts >= attempts or change.origin.depth >= MAX_CHAIN_DEPTH, (
            f"{self.name}: {change.revision} is given up too early"
        )
        self.letters[letter.id] = letter
        self.settle(change.revision, (change.scope, change.key))

    def look(self, status: BindingStatus, head: int, oldest: int) -> int:
        """Look how far it has got, and what it lost, which has to be said. How many it lost."""
        told = self.told
        newly = status.counters.lost - self._lost_counted
        if newly:
            self._lost_counted = status.counters.lost
            assert status.lost is not None
            first, last = status.lost
            assert newly == last - first + 1, f"{self.name}: lost {newly}, but not {status.lost}"
            assert last <= oldest, f"{self.name}: {status.lost} are lost, but still there"
            if self.is_durable:
                assert last <= head - HELD, f"{self.name}: {status.lost} were not held"
            for token in self.matching():
                if first <= token <= last and token not in told.settled | told.redriven:
                    self._lose(token, self._owed.get(token, token))
        tokens = self.matching()
        new = range(bisect(tokens, self._looked_up_to), bisect(tokens, status.cursor))
        missing = [
            token
            for token in map(tokens.__getitem__, new)
            if token not in told.settled and not self.is_excused(token)
        ]
        assert not missing, (
            f"{self.name}: {missing} are not done, though {status.cursor} is said to be"
        )
        self._looked_up_to = status.cursor
        return newly

    def check_checkpoint(self, checkpoint: Checkpoint) -> None:
        """Everything at or below the cursor is settled or recorded; nothing above it is settled."""
        told = self.told
        pending = {each.revision for each in checkpoint.pending}
        for token in self.matching():
            recorded = token in pending
            if self.policy.debounce_ms is not None and token not in told.tried:
                of_key = self.matching(self.place_of(token))
                recorded |= any(t > token and t in pending for t in of_key)
            done = token in told.settled
            assert token > checkpoint.cursor or recorded or done or self.is_excused(token), (
                f"{self.name}: {token} is neither done nor recorded below {checkpoint}"
            )
            assert token <= checkpoint.cursor or not done, (
                f"{self.name}: {token} is done but above {checkpoint}"
            )
        assert checkpoint.paused == told.paused, f"{self.name}: {checkpoint} is paused or not"
        self._noted = told.copy()
        self._named = pending.union(t for t in self.matching() if t > checkpoint.cursor)

    def committed(self, letters: set[str]) -> None:
        """What the ledger was told is durable; the ids of the letters there are, too."""
        for token in self.told.redriven if self.is_durable and self.has_begun else ():
            assert token in self._named or f"{self.name}@{token}" in letters, (
                f"{self.name}: {token} is sent again, and written down nowhere"
            )
        self._kept = self._noted

    def forgotten(self) -> None:
        """It is deleted. Its letters stay."""
        self.has_begun = False
        self._noted = None
        self.running.clear()

    def crashed(self) -> None:
        """Know no more than the ledger does."""
        self.running.clear()
        self._met.clear()
        self._looked_up_to = 0
        self._noted = self._kept
        self.has_begun = self._kept is not None
        if self._kept is not None:
            self.told = self._kept.copy()
        else:
            self.told.paused = False

    def took_over(self, checkpoint: Checkpoint, status: BindingStatus, oldest: int) -> None:
        """A new process goes on from a checkpoint; what is not kept any more is lost."""
        unfinished = [p for p in checkpoint.pending if p.revision > self.entries_up_to]
        gone = [p for p in unfinished if p.revision <= oldest and not p.redriven]
        assert status.counters.lost == len(gone), f"{self.name}: {gone} are gone and not lost"
        self._lost_counted = len(gone)
        self._owed = {p.revision: p.first for p in unfinished if p.revision > oldest}
        for pending in gone:
            self._lose(pending.revision, pending.first)

    def _lose(self, token: int, first: int) -> None:
        """Something is lost, and what it stands for, down to the token `first`."""
        told = self.told
        told.lost.add(token)
        told.redriven.discard(token)
        if first < token:
            earlier = self.matching(self.place_of(token))
            told.lost.update({t for t in earlier if first <= t < token} - told.settled)

    def missing(self) -> list[int]:
        """What it was not told of, and should have been."""
        return [
            token
            for token in self.matching()
            if token not in self.told.settled and not self.is_excused(token)
        ]
