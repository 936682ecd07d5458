"""Transactions: all of some writes or none, if every guard holds. And what is kept beside them."""

from __future__ import annotations

import msgspec
import pytest

from iii_state.core.changes import Origin
from iii_state.core.commands import Delete, Get, Guard, Outcome, Set, Transact
from iii_state.errors import UpdateRejected
from iii_state.testing.store_contract.rig import Contract, Rig, update_of


async def transact(rig: Rig, command: Transact) -> Outcome:
    """Execute a transaction and commit it."""
    return (await rig.run(command))[0]


class TransactionContract(Contract):
    """All writes of a transaction take effect together, at revisions behind one another."""

    async def test_writes_take_effect_in_order_and_as_one_commit(self, rig: Rig) -> None:
        await rig.set("a", b"1")
        start = rig.store.revision
        writes = (
            Set(rig.scope, "a", b"2", Origin("w")),
            Set(f"{rig.scope}/other", "b", b"3"),
            update_of(rig.scope, "a", {"type": "set", "path": "", "value": 4}),
            Delete(rig.scope, "a"),
        )

        outcome = await transact(rig, Transact((), writes))

        changes = [change for change, _ in outcome.results]
        assert [c.revision for c in changes] == [start + 1, start + 2, start + 3, start + 4]
        assert [(c.before, c.after) for c in changes] == [
            (b"1", b"2"),
            (None, b"3"),
            (b"2", b"4"),
            (b"4", None),
        ]
        assert rig.feed(start) == changes
        assert await rig.get("a") is None
        assert await rig.value("b", f"{rig.scope}/other") == b"3"

    async def test_a_write_that_is_refused_leaves_nothing_of_the_others(self, rig: Rig) -> None:
        await rig.set("k", b'{"a":{}}')
        start = rig.store.revision
        update = update_of(rig.scope, "k", {"type": "append", "path": "a", "value": 1})
        strict = msgspec.structs.replace(update, is_strict=True)

        with pytest.raises(UpdateRejected):
            rig.store.execute(Transact((), (Set(rig.scope, "x", b"1"), strict)))

        await rig.store.commit()
        assert await rig.get("x") is None
        assert rig.store.revision == start

    async def test_guards_are_on_revision_value_and_absence(self, rig: Rig) -> None:
        made = await rig.set("k", b'{"a":1.0}')
        holding = (
            Guard(rig.scope, "k", revision=made.revision),
            Guard(rig.scope, "k", value=b'{ "a": 1 }'),
            Guard(rig.scope, "none", is_absent=True),
            Guard(rig.scope, "none", revision=0),
            Guard(rig.scope, "none", value=b"null", is_absent=True),
        )
        failing = (
            Guard(rig.scope, "k", revision=made.revision + 1),
            Guard(rig.scope, "k", value=b"1"),
            Guard(rig.scope, "k", is_absent=True),
            Guard(rig.scope, "none", value=b"1"),
            Guard(rig.scope, "none", revision=1),
        )

        held = await transact(rig, Transact(holding, (Set(rig.scope, "new", b"1"),)))
        failed = await transact(rig, Transact(failing, (Set(rig.scope, "newer", b"1"),)))

        assert (list(held.failed), len(held.results)) == ([], 1)
        assert [index for index, _ in failed.failed] == [0, 1, 2, 3, 4]
        assert [entry for _, entry in failed.failed] == [made.entry] * 3 + [None] * 2
        assert (failed.change, list(failed.results)) == (None, [])
        assert await rig.get("newer") is None

    async def test_a_guard_sees_what_was_executed_before(self, rig: Rig) -> None:
        first = Transact((Guard(rig.scope, "k", is_absent=True),), (Set(rig.scope, "k", b"1"),))

        won, lost = await rig.run(first, first)

        assert won.change is not None
        assert [(index, entry and entry.value) for index, entry in lost.failed] == [(0, b"1")]

    async def test_a_transaction_of_guards_alone_changes_nothing(self, rig: Rig) -> None:
        start = rig.store.revision

        outcome = await transact(rig, Transact((Guard(rig.scope, "k", is_absent=True),), ()))

        assert (list(outcome.failed), outcome.change) == ([], None)
        assert rig.store.revision == start

    async def test_what_a_transaction_wrote_is_read_like_anything(self, rig: Rig) -> None:
        writes = tuple(Set(rig.scope, f"{number:03}", b"%d" % number) for number in range(1000))

        await transact(rig, Transact((), writes))

        assert await rig.values() == [b"%d" % number for number in range(1000)]
        entry = (await rig.finish(rig.store.execute(Get(rig.scope, "999")))).entry
        assert entry is not None
        assert entry.revision == rig.store.revision

    async def test_an_expiry_is_kept_by_updates_and_cleared_by_sets(self, rig: Rig) -> None:
        await rig.write(Set(rig.scope, "k", b"1", expires_at_ms=99))
        first = await rig.get("k")
        await rig.update("k", {"type": "set", "path": "", "value": 2})
        second = await rig.get("k")
        await rig.set("k", b"3")
        third = await rig.get("k")

        assert [entry and entry.expires_at_ms for entry in (first, second, third)] == [99, 99, 0]

    async def test_a_delete_carries_its_cause(self, rig: Rig) -> None:
        await rig.set("k", b"1")

        change = (await rig.write(Delete(rig.scope, "k", cause="expired")))[0]

        assert change.cause == "expired"
        assert rig.feed(change.revision - 1) == [change]


class NotesContract(Contract):
    """What is kept beside the data: the latest of a kind and a name."""

    async def test_a_note_is_replaced_and_forgotten(self, rig: Rig) -> None:
        start = rig.store.revision
        rig.store.note(16, "a", b"1")
        rig.store.note(16, "b", b"2")
        rig.store.note(20, "a", b"3")
        rig.store.note(16, "a", b"4")
        rig.store.note(16, "b", None)
        rig.store.note(16, "c", None)

        assert dict(rig.store.notes(16)) == {"a": b"4"}
        await rig.store.commit()

        assert dict(rig.store.notes(16)) == {"a": b"4"}
        assert dict(rig.store.notes(20)) == {"a": b"3"}
        assert dict(rig.store.notes(99)) == {}
        assert rig.store.revision == start
