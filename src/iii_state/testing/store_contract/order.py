"""Revisions and commits: one order for everything, and when a caller is told."""

from __future__ import annotations

import asyncio
import json
from itertools import chain, pairwise

from iii_state.core.commands import Delete, Get, ListValues, Outcome, Set, Update
from iii_state.testing.store_contract.rig import UNBOUNDED, Contract, Rig, update_of

CALLERS = 100


class OrderContract(Contract):
    """Every change has the next revision; a commit settles what was executed before it."""

    async def test_revisions_grow_by_one_over_all_keys_and_scopes(self, rig: Rig) -> None:
        start = rig.store.revision
        other = f"{rig.scope} too"

        made = [
            *await rig.write(Set(rig.scope, "a", b"1"), Set(other, "b", b"1")),
            *await rig.write(Delete(other, "absent"), Set(rig.scope, "a", b"1")),
            *await rig.write(Update(other, "b", ()), Delete(rig.scope, "a")),
        ]

        assert [change.revision for change in made] == list(range(start + 1, start + 7))
        assert rig.store.revision == start + 6

    async def test_the_revision_moves_with_the_commit(self, rig: Rig) -> None:
        start = rig.store.revision

        rig.store.execute(Set(rig.scope, "k", b"1"))
        before = rig.store.revision
        await rig.store.commit()

        assert (before, rig.store.revision) == (start, start + 1)

    async def test_a_commit_hands_over_its_changes_once_and_in_order(self, rig: Rig) -> None:
        start = rig.store.revision
        for key in "cab":
            rig.store.execute(Set(rig.scope, key, b"1"))
            rig.store.execute(Get(rig.scope, key))

        changes = await rig.store.commit()

        assert [(change.key, change.revision) for change in changes] == [
            ("c", start + 1),
            ("a", start + 2),
            ("b", start + 3),
        ]
        assert list(await rig.store.commit()) == []

    async def test_a_settled_outcome_never_changes(self, rig: Rig) -> None:
        write, read, listed = await rig.run(
            Set(rig.scope, "k", b"1"), Get(rig.scope, "k"), ListValues(rig.scope, UNBOUNDED)
        )
        seen = (write.change, read.entry, list(listed.values))

        await rig.set("k", b"2")
        await rig.delete("k")

        assert (write.change, read.entry, list(listed.values)) == seen

    async def test_a_commit_settles_all_of_many_interleaved_commands(self, rig: Rig) -> None:
        keys = [f"{number % 13}" for number in range(300)]
        outcomes: list[Outcome] = []
        for number, key in enumerate(keys):
            outcomes.append(rig.store.execute(Set(rig.scope, key, b"%d" % number)))
            outcomes.append(rig.store.execute(Get(rig.scope, key)))

        await rig.store.commit()

        assert all(outcome.settled for outcome in outcomes)
        assert not any(outcome.failure for outcome in outcomes)
        changes = [outcome.change for outcome in outcomes if outcome.change]
        assert [change.after for change in changes] == [b"%d" % number for number in range(300)]
        assert [outcome.entry for outcome in outcomes[1::2]] == [change.entry for change in changes]

    async def test_what_is_executed_during_a_commit_is_settled_by_the_next(self, rig: Rig) -> None:
        start = rig.store.revision
        early = [rig.store.execute(Set(rig.scope, "k", b"%d" % number)) for number in range(50)]
        first = asyncio.create_task(_commit(rig))
        late: list[Outcome] = []
        while not first.done():
            late.append(rig.store.execute(Set(rig.scope, "k", b"true")))
            await asyncio.sleep(0)
        second = await _commit(rig)

        made = await first + second
        assert made == list(range(start + 1, start + 1 + len(early) + len(late)))
        assert all(outcome.settled for outcome in chain(early, late))
        assert [outcome.change.before for outcome in late if outcome.change] == (
            [b"49"] + [b"true"] * (len(late) - 1)
        )

    async def test_concurrent_increments_lose_nothing(self, rig: Rig) -> None:
        """Each of many callers sees a value before that no other saw."""
        add = update_of(rig.scope, "counter", {"type": "increment", "path": "n", "by": 1})
        await rig.set("counter", b'{"n":0}')
        committing = asyncio.Lock()

        async def caller() -> int:
            outcome = rig.store.execute(add)
            async with committing:
                await rig.finish(outcome)
            assert outcome.change is not None
            number: int = json.loads(outcome.change.before or b"")["n"]
            return number

        seen = await asyncio.gather(*(caller() for _ in range(CALLERS)))

        assert sorted(seen) == list(range(CALLERS))
        assert json.loads(await rig.value("counter") or b"") == {"n": CALLERS}

    async def test_times_are_the_clocks_even_when_it_goes_back(self, rig: Rig) -> None:
        start, now = rig.store.revision, rig.clock.now_ms
        for step in (0, 1000, -5000, 0, 1):
            rig.clock.advance(step)
            await rig.set(f"{step}", b"1")
            await rig.set("k", b"1")

        changes = rig.feed(start)
        times = [change.timestamp_ms - now for change in changes]
        assert times == [0, 0, 1000, 1000, -4000, -4000, -4000, -4000, -3999, -3999]
        assert all(a.revision + 1 == b.revision for a, b in pairwise(changes))
        entry = await rig.get("k")
        assert entry is not None
        assert (entry.created_at_ms, entry.updated_at_ms) == (now, now - 3999)


async def _commit(rig: Rig) -> list[int]:
    return [change.revision for change in await rig.store.commit()]
