"""A lock that is given up by itself, and whose late holder can do no harm.

`python examples/lock.py`, with `iii-state` installed: three tasks count to thirty, together.

Taking the lock is a compare-and-set: it is written only if nobody holds it. It expires, so one that
hangs does not hold it for ever; but that one may wake up and believe that it still does. So nothing
depends on what a holder believes: what it writes goes into a transaction that requires the lock to
be at the revision that the holder knows. That revision is a fencing token for other systems, too,
since it grows with every holder: let them refuse a smaller one than they have seen.
"""

from __future__ import annotations

import asyncio
import sys
from contextlib import suppress

import iii_state

SCOPE = "locks"


class Lock:
    """A lock for whoever opens the same store; `owner` is for people who look at it.

    `revision` is the fencing token while it is held, else 0.
    """

    def __init__(self, state: iii_state.State, name: str, owner: str, ttl_ms: int) -> None:
        self.revision = 0
        self._state = state
        self._name = name
        self._owner = owner
        self._ttl_ms = ttl_ms

    async def try_acquire(self) -> bool:
        """Take it, if nobody holds it; whether that is so."""
        taken = await self._state.create(SCOPE, self._name, self._owner, ttl_ms=self._ttl_ms)
        self.revision = taken.revision if taken.created else 0
        return taken.created

    async def acquire(self) -> None:
        """Take it, as soon as nobody else holds it."""
        # The watch begins before the attempt, so that no release in between is missed.
        releases = self._state.watch(scope=SCOPE, key=self._name, events=["deleted", "expired"])
        while not await self.try_acquire():
            await anext(releases)

    async def renew(self) -> None:
        """Hold it for another while, with a new revision.

        Raises:
            Conflict: it has expired; somebody else may hold it.
        """
        renewed = await self._state.set(
            SCOPE, self._name, self._owner, ttl_ms=self._ttl_ms, if_revision=self.revision
        )
        self.revision = renewed.revision

    async def release(self) -> None:
        """Give it up. It is fine if it has expired; another's is left alone."""
        with suppress(iii_state.Conflict):
            await self._state.delete(SCOPE, self._name, if_revision=self.revision)
        self.revision = 0

    def fence(self, transaction: iii_state.Transaction) -> None:
        """Let a transaction raise `Conflict` and change nothing if this is not held any more."""
        transaction.require(SCOPE, self._name, revision=self.revision)


async def count(state: iii_state.State, owner: str, times: int) -> None:
    """Add one to what all share, so many times."""
    lock = Lock(state, "counter", owner, ttl_ms=10_000)
    for _ in range(times):
        await lock.acquire()
        value = await state.get("shared", "counter", 0)
        async with state.transaction() as transaction:
            lock.fence(transaction)
            transaction.set("shared", "counter", value + 1)
        await lock.release()


async def main() -> int:
    """Count in three tasks; 0 when none got into another's way."""
    async with iii_state.open(None) as state:
        await asyncio.gather(*(count(state, owner, 10) for owner in ("a", "b", "c")))
        counted = await state.get("shared", "counter")
    print(f"counted to {counted}")
    return 0 if counted == 30 else 1


if __name__ == "__main__":
    sys.exit(asyncio.run(main()))
