"""Deliveries whose changes, ends and time are those that a test says, told by revision."""

from __future__ import annotations

from iii_state.core.changes import Change, Entry
from iii_state.core.checkpoints import Checkpoint
from iii_state.core.deliveries import Deliveries, Limits
from iii_state.core.delivery import Delivery, GivenUp, Result
from iii_state.core.policies import ONCE, Policy

BIG = Limits()
TINY = Limits(in_flight_max=2, read_ahead_max=4, read_ahead_bytes_max=100, interruptions_max=2)


def change_of(revision: int, key: str = "k", value: bytes = b"1") -> Change:
    return Change(revision, "s", key, None, Entry(value, revision, revision, 0, 0), 0)


class Course:
    """Deliveries that were offered a change of each key, at revisions 1, 2, ..."""

    def __init__(
        self,
        *keys: str,
        limits: Limits = BIG,
        policy: Policy = ONCE,
        after: Checkpoint | None = None,
    ) -> None:
        self.now_ms = 0
        self.changes: dict[int, Change] = {}
        self.flying: dict[int, Delivery] = {}
        self.deliveries = Deliveries(after.cursor if after else 0, limits, policy)
        for key in keys:
            assert self.offer(key)

    def offer(self, key: str) -> bool:
        """Offer the next change."""
        change = change_of(len(self.changes) + 1, key)
        self.changes[change.revision] = change
        return self.deliveries.offer(change, self.now_ms)

    def start(self) -> list[int]:
        """Start what is ready, after waking what is due; the revisions that started."""
        self.deliveries.wake(self.now_ms)
        ready = self.deliveries.next_ready(self.now_ms)
        self.flying |= {delivery.change.revision: delivery for delivery in ready}
        return [delivery.change.revision for delivery in ready]

    def end(self, revision: int, result: Result = Result.DELIVERED) -> GivenUp | None:
        """End what is in flight of a revision."""
        return self.deliveries.finished(self.flying.pop(revision), result, self.now_ms)

    def at(self, now_ms: int) -> list[int]:
        """Let it be that time; what starts then."""
        self.now_ms = now_ms
        return self.start()

    @property
    def attempts(self) -> dict[int, int]:
        """The attempt of each revision in flight."""
        return {revision: delivery.attempt for revision, delivery in self.flying.items()}

    @property
    def cursor(self) -> int:
        """Everything up to here is done, all that was offered having been read."""
        return self.deliveries.cursor(len(self.changes))

    def checkpoint(self) -> Checkpoint:
        return self.deliveries.checkpoint(len(self.changes))
