"""The port: what every store does, in the words of the engine that uses it.

A store runs commands in the order in which they are given. `execute` never waits: it decides the
outcome against everything executed before it and marks it `settled` if it is final. `commit` makes
all that has been executed so far durable and settles it. So replies can be released by groups, with
one sync for many writes, while reads that depend on nothing pending are answered at once.

`iii_state.testing.store_contract` is the suite that every store passes.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Literal, Protocol

import msgspec

from iii_state.core.changes import Change
from iii_state.core.commands import Command, Outcome

Durability = Literal["commit", "interval", "none", "memory"]


class StoreInfo(msgspec.Struct, frozen=True):
    """Figures about a store, as `state::info` reports them.

    `bytes` counts the values of live keys; `disk_bytes` what the files take. `healthy` is false
    when writes are refused, `problem` then says why.
    """

    adapter: str
    durability: Durability
    revision: int
    oldest_revision: int
    scopes: int
    keys: int
    bytes: int
    disk_bytes: int = 0
    directory: str = ""
    healthy: bool = True
    problem: str = ""


class Store(Protocol):
    """Keys and their values, with a revision for every change.

    Used from one event loop only. Revisions grow by one with every change and are never reused.
    """

    def execute(self, command: Command) -> Outcome:
        """Run one command after all that were executed before it. Never waits.

        The changes of one commit carry the time at which the first of them was executed.

        Raises:
            LimitExceeded: a list larger than its `bytes_max`.
            DiskFull, StoreReadOnly: the write is refused; nothing changed.
        """

    def note(
        self, kind: int, name: str, payload: bytes | None, *, is_tied: bool = False
    ) -> Outcome:
        """Keep something beside the data under a kind and a name, instead of what was there.

        None forgets it. It takes no revision, and becomes durable with the next commit, together
        with the changes executed since the one before. When that commit fails, it is tried again
        with the next one; one that is tied to what was executed is forgotten, like that.
        """

    def notes(self, kind: int) -> Mapping[str, bytes]:
        """All that is kept under a kind, what is not durable yet included. Not to be changed."""

    def hold(self, after: Callable[[], int | None]) -> None:
        """Keep the changes after a revision, also longer than others, as far as the store can.

        `after` is asked when changes are about to go; None when nobody needs any.
        """

    async def commit(self) -> Sequence[Change]:
        """Make everything executed so far durable, then settle it.

        Returns the changes that became durable, in order of revision. Not re-entrant. When the
        disk fails, the outcomes are settled with `failure` instead of raising here.
        """

    def changes(self, after: int, limit: int, bytes_max: int) -> Sequence[Change]:
        """Durable changes with a revision above `after`, ascending.

        At most `limit`, and no more once their values, before and after, reach `bytes_max`; but at
        least one. None when `after` is the newest or beyond it.

        Raises:
            RevisionCompacted: `after` is below what is kept.
        """

    @property
    def revision(self) -> int:
        """The newest durable revision; 0 in a store that was never written."""

    @property
    def executed_revision(self) -> int:
        """That of the newest executed change, which may not be durable yet."""

    @property
    def oldest_revision(self) -> int:
        """The lowest `after` that `changes` takes."""

    def info(self) -> StoreInfo:
        """Figures as of now. Takes no locks and reads no files."""

    async def close(self) -> None:
        """Commit, sync and let go. Outcomes not settled by then are."""
