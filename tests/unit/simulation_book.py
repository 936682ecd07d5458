"""What one binding was told so far, and so what it may be told next."""

from __future__ import annotations

from reaction_bench import MISSING

from iii_state.core.bindings import BindingConfig
from iii_state.core.changes import Change
from iii_state.core.checkpoints import Checkpoint
from iii_state.core.dead_letters import DeadLetter
from iii_state.core.deliveries import Limits
from iii_state.core.policies import Policy
from iii_state.engine.invocations import Failure, Reply

LIMITS = Limits(in_flight_max=3, read_ahead_max=8, interruptions_max=2)
MAX_CHAIN_DEPTH = 3
CONFIGS = {
    "durable": b'{"durable":"durable","timeout_ms":500,'
    b'"retry":{"max_attempts":3,"initial_ms":50,"max_ms":400}}',
    "gathered": b'{"durable":"gathered","debounce_ms":40,"timeout_ms":300,'
    b'"retry":{"max_attempts":2,"initial_ms":100,"max_ms":100}}',
    "retried": b'{"key":"a","retry":{"max_attempts":3,"initial_ms":50,"max_ms":50}}',
    "plain": b"{}",
}


class Call:
    """A call that a binding's worker has."""

    def __init__(self, book: Book, change: Change, attempt: int, reply: Reply, now_ms: int) -> None:
        self.book = book
        self.change = change
        self.attempt = attempt
        self.reply = reply
        self.started_ms = now_ms


class Book:
    """What one binding was told, and so may be told next.

    `settled` revisions are acknowledged, given up, or stood for by a newer one that is. `tried`
    ones were delivered before. `redriven` ones may come out of order. All above `start` match.
    """

    def __init__(self, name: str, changes: dict[int, Change]) -> None:
        self.name = name
        self.config = BindingConfig.parse(CONFIGS[name])
        self.policy = Policy.of(self.config)
        self.changes = changes
        self.start = 0
        self.settled: set[int] = set()
        self.tried: set[int] = set()
        self.redriven: set[int] = set()
        self.resent: set[int] = set()
        self.running: dict[str, Call] = {}
        self.saved: tuple[set[int], ...] = (set(), set(), set())
        self.letters: dict[str, DeadLetter] = {}

    @property
    def is_durable(self) -> bool:
        return self.config.durable is not None

    def matching(self, key: str | None = None) -> list[int]:
        """The revisions that it is to be told of, of one key or of all."""
        wanted = key if self.config.key is None else self.config.key
        if None not in (key, wanted) and key != wanted:
            return []
        return [
            revision
            for revision, change in self.changes.items()
            if revision > self.start and wanted in (None, change.key)
        ]

    def is_over(self, call: Call, now_ms: int) -> bool:
        """Whether a call took too long, so that its answer counts for nothing."""
        timeout_ms = self.policy.timeout_ms
        return timeout_ms is not None and now_ms - call.started_ms >= timeout_ms

    def started(self, call: Call, now_ms: int) -> None:
        revision, key = call.change.revision, call.change.key
        matches = revision in self.matching(key) or revision in self.redriven
        assert matches, f"{self.name}: {revision} does not match"
        running = self.running.get(key)
        assert running is None or self.is_over(running, now_ms), (
            f"{self.name}: {revision} starts while {running and running.change.revision} runs"
        )
        if revision in self.resent and revision in self.settled:
            self.resend(revision)
        assert revision not in self.settled, f"{self.name}: {revision} is delivered twice"
        is_first = call.attempt == 1
        assert not is_first or revision not in self.tried, (
            f"{self.name}: {revision} comes again as the first"
        )
        if revision not in self.redriven:
            before = [r for r in self.matching(key) if r < revision and self._must_come_first(r)]
            assert not before, f"{self.name}: {revision} overtakes {before}"
        self.running[key] = call
        self.tried.add(revision)

    def _must_come_first(self, revision: int) -> bool:
        if revision in self.settled or revision in self.redriven:
            return False
        return self.policy.debounce_ms is None or revision in self.tried

    def ended(self, call: Call, failure: Failure | None, now_ms: int) -> None:
        if self.running.get(call.change.key) is not call:
            return
        del self.running[call.change.key]
        if failure is MISSING:
            if call.attempt == 1:
                self.tried.discard(call.change.revision)
        elif failure is None and not self.is_over(call, now_ms):
            self.settle(call.change)

    def settle(self, change: Change) -> None:
        """A change is done with, and so are those that it stands for."""
        self.settled.add(change.revision)
        self.redriven.discard(change.revision)
        if self.policy.debounce_ms is not None:
            self.settled.update(
                revision
                for revision in self.matching(change.key)
                if revision < change.revision and not self._must_come_first(revision)
                if revision not in self.redriven
            )

    def resend(self, revision: int) -> None:
        """A letter is sent again. After a crash, its event may be on its way by itself, too."""
        if revision in self.settled:
            self.settled.discard(revision)
            self.redriven.add(revision)
        else:
            self.resent.add(revision)

    def parked(self, letters: list[DeadLetter]) -> None:
        """Look which letters are new."""
        for letter in letters:
            if self.letters.get(letter.id) is letter:
                continue
            attempts = min(self.policy.attempts_max, LIMITS.interruptions_max + 1)
            assert letter.attempts >= attempts or letter.change.origin.depth >= MAX_CHAIN_DEPTH, (
                f"{self.name}: {letter.change.revision} is given up too early"
            )
            self.letters[letter.id] = letter
            self.settle(letter.change)

    def check_checkpoint(self, checkpoint: Checkpoint) -> None:
        """Everything at or below the cursor is settled or recorded; nothing above it is settled."""
        pending = {each.revision for each in checkpoint.pending}
        for revision in self.matching():
            recorded = revision in pending
            if self.policy.debounce_ms is not None and revision not in self.tried:
                of_key = self.matching(self.changes[revision].key)
                recorded |= any(r > revision and r in pending for r in of_key)
            assert revision > checkpoint.cursor or recorded or revision in self.settled, (
                f"{self.name}: {revision} is neither done nor recorded below {checkpoint}"
            )
            assert revision <= checkpoint.cursor or revision not in self.settled, (
                f"{self.name}: {revision} is done but above {checkpoint}"
            )
        self.saved = set(self.settled), set(self.tried), set(self.redriven)

    def check_status(self, cursor: int) -> None:
        """Everything up to the cursor of the status is done."""
        missing = [r for r in self.matching() if r <= cursor and r not in self.settled]
        assert not missing, f"{self.name}: {missing} are not done, though {cursor} is said to be"

    def crashed(self, letters: list[DeadLetter]) -> None:
        """Know no more than the ledger does."""
        self.running.clear()
        self.letters = {letter.id: letter for letter in letters if letter.trigger == self.name}
        if self.is_durable:
            self.settled, self.tried, self.redriven = map(set, self.saved)
