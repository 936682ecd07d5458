"""A store that keeps few changes, and forgets in a crash what was noted and not committed."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from iii_state.core.changes import Change
from iii_state.core.commands import Outcome
from iii_state.errors import RevisionCompacted
from iii_state.stores.memory import MemoryStore

KEPT = 15
"""How many changes are kept for everybody."""
HELD = 100
"""How many are kept at most for those that hold them."""


class SmallStore(MemoryStore):
    """Trims its changes as the store on disk does: at each commit, up to what is still needed."""

    def __init__(self, clock_ms: Callable[[], int]) -> None:
        super().__init__(clock_ms)
        self._oldest = 0
        self._needed_after: Callable[[], int | None] = lambda: None
        self._undo: list[tuple[int, str, bytes | None]] = []

    @property
    def oldest_revision(self) -> int:
        return self._oldest

    def hold(self, after: Callable[[], int | None]) -> None:
        self._needed_after = after

    def note(
        self, kind: int, name: str, payload: bytes | None, *, is_tied: bool = False
    ) -> Outcome:
        self._undo.append((kind, name, self.notes(kind).get(name)))
        return super().note(kind, name, payload, is_tied=is_tied)

    async def commit(self) -> Sequence[Change]:
        changes = await super().commit()
        self._undo.clear()
        after = self.revision - KEPT
        needed = self._needed_after()
        if needed is not None:
            after = min(after, max(needed, self.revision - HELD))
        self._oldest = max(self._oldest, after)
        return changes

    def changes(self, after: int, limit: int, bytes_max: int) -> Sequence[Change]:
        if after < self._oldest:
            raise RevisionCompacted("no longer kept", oldest_revision=self._oldest)
        return super().changes(after, limit, bytes_max)

    def crash(self) -> None:
        """Forget what was noted since the last commit."""
        undo, self._undo = self._undo, []
        for kind, name, payload in reversed(undo):
            super().note(kind, name, payload)
