"""From opening to closing: what is there first, what remains, and what is refused."""

from __future__ import annotations

import msgspec
import pytest

from iii_state.core.changes import Origin
from iii_state.core.commands import Delete, Get, ListKeys, ListScopes, ListValues, Set, Update
from iii_state.core.operations import AppendOperation
from iii_state.errors import LimitExceeded
from iii_state.testing.store_contract.feed import write_until_trimmed
from iii_state.testing.store_contract.rig import Contract, Rig, json_text


class LifecycleContract(Contract):
    """A store starts empty, tells its figures, and leaves nobody waiting when it closes."""

    async def test_a_new_store_was_never_written(self, rig: Rig) -> None:
        assert (rig.store.revision, rig.store.oldest_revision) == (0, 0)
        assert rig.feed(0) == []
        assert await rig.scopes() == []
        assert list(await rig.store.commit()) == []

    async def test_the_figures_are_those_of_the_live_keys(self, rig: Rig) -> None:
        await rig.write(Set(rig.scope, "a", b"12345"), Set(rig.scope, "b", b"12"))
        await rig.write(Set(rig.scope, "a", b"123"), Set(f"{rig.scope} too", "c", b"1"))
        await rig.write(Delete(rig.scope, "b"), Delete(rig.scope, "absent"))

        info = rig.store.info()

        assert (info.scopes, info.keys, info.bytes) == (2, 2, len(b"123") + len(b"1"))
        assert (info.revision, info.oldest_revision) == (6, rig.store.oldest_revision)
        assert info.healthy
        assert info.problem == ""

    async def test_closing_settles_what_is_pending(self, rig: Rig) -> None:
        write = rig.store.execute(Set(rig.scope, "k", b"1"))
        read = rig.store.execute(Get(rig.scope, "k"))

        await rig.close()

        assert write.settled
        assert write.failure is None
        assert write.change is not None
        assert read.settled
        assert read.entry == write.change.entry


class ErrorContract(Contract):
    """What is refused is refused by name, and changes nothing."""

    async def test_a_list_over_its_bound_is_refused(self, rig: Rig) -> None:
        await rig.fill(["aa", "bb"])

        with pytest.raises(LimitExceeded) as refusal:
            await rig.run(ListValues(rig.scope, 7))

        details = refusal.value.details
        assert (details["limit"], details["actual"], details["bound"]) == ("bytes_max", 8, 7)

    async def test_a_list_of_keys_over_its_bound_is_refused(self, rig: Rig) -> None:
        await rig.fill(["aa", "bb"])

        with pytest.raises(LimitExceeded):
            await rig.run(ListKeys(rig.scope, 3))

    async def test_an_update_over_its_bound_is_refused_and_takes_no_revision(
        self, rig: Rig
    ) -> None:
        await rig.set("k", b'["1234"]')
        revision = rig.store.revision
        grow = Update(rig.scope, "k", (AppendOperation(msgspec.Raw(b'"5678"')),), bytes_max=12)

        with pytest.raises(LimitExceeded):
            await rig.run(grow)
        after = await rig.set("other", b"1")

        assert after.revision == revision + 1
        assert await rig.value("k") == b'["1234"]'

    async def test_what_was_executed_around_a_refusal_is_not_touched(self, rig: Rig) -> None:
        first = rig.store.execute(Set(rig.scope, "a", b'"1234"'))
        with pytest.raises(LimitExceeded):
            await rig.run(Update(rig.scope, "a", (), bytes_max=1))
        second = rig.store.execute(Set(rig.scope, "b", b"2"))
        await rig.store.commit()

        made = [(await rig.finish(outcome)).change for outcome in (first, second)]

        assert made == rig.feed(0)
        assert await rig.values() == [b'"1234"', b"2"]

    async def test_a_refusal_leaves_the_store_as_it_was(self, rig: Rig) -> None:
        await rig.fill("ab")
        revision = rig.store.revision

        with pytest.raises(LimitExceeded):
            await rig.run(ListValues(rig.scope, 1))

        assert rig.store.revision == revision
        assert (await rig.set("c", b"1")).revision == revision + 1
        assert await rig.values() == [b'"a"', b'"b"', b"1"]

    async def test_values_that_are_still_pending_count_against_the_bound(self, rig: Rig) -> None:
        await rig.fill("a")

        with pytest.raises(LimitExceeded):
            await rig.run(Set(rig.scope, "b", b"12345"), ListValues(rig.scope, 7))
        await rig.store.commit()

        assert await rig.value("b") == b"12345"


class VolatilityContract(Contract):
    """A store that keeps nothing says so."""

    async def test_it_calls_itself_memory_and_starts_empty(self, rig: Rig) -> None:
        await rig.set("k", b"1")

        assert rig.store.info().durability == "memory"
        await rig.open()

        assert rig.store.revision == 0
        assert await rig.scopes() == []


class DurabilityContract(Contract):
    """What a commit has settled is there after reopening; until then nobody is told of it."""

    async def test_it_does_not_call_itself_memory(self, rig: Rig) -> None:
        assert rig.store.info().durability != "memory"

    async def test_no_write_is_settled_before_its_commit(self, rig: Rig) -> None:
        writes = (
            Set(rig.scope, "k", b"1"),
            Update(rig.scope, "k", ()),
            Delete(rig.scope, "k"),
            Delete(rig.scope, "absent"),
        )

        outcomes = [rig.store.execute(write) for write in writes]
        before = [outcome.settled for outcome in outcomes]
        await rig.store.commit()

        assert before == [False] * 4
        assert [outcome.settled for outcome in outcomes] == [True] * 4

    async def test_no_read_of_a_pending_write_is_settled_before_its_commit(self, rig: Rig) -> None:
        await rig.set("k", b"1")
        rig.store.execute(Set(rig.scope, "k", b"2"))
        reads = [
            rig.store.execute(Get(rig.scope, "k")),
            rig.store.execute(ListValues(rig.scope, 100)),
        ]

        before = [read.settled for read in reads]
        await rig.store.commit()

        assert before == [False, False]
        assert (await rig.finish(reads[0])).entry == await rig.get("k")
        assert [*(await rig.finish(reads[1])).values] == [b"2"]

    async def test_no_read_of_a_pending_delete_is_settled_before_its_commit(self, rig: Rig) -> None:
        await rig.set("k", b"1")
        rig.store.execute(Delete(rig.scope, "k"))
        reads = [
            rig.store.execute(Get(rig.scope, "k")),
            rig.store.execute(ListValues(rig.scope, 100)),
            rig.store.execute(ListScopes()),
        ]

        before = [read.settled for read in reads]
        await rig.store.commit()

        assert before == [False, False, False]

    async def test_a_long_list_may_be_read_before_it_is_settled(self, rig: Rig) -> None:
        value = b"1" * 200
        await rig.write(*(Set(rig.scope, f"{number}", value) for number in range(5_000)))
        rig.store.execute(Set(rig.scope, "0", b"2"))
        read = rig.store.execute(ListValues(rig.scope, 1 << 30))

        if read.reading is not None:
            await read.reading
        await rig.store.commit()

        assert read.settled
        assert [*read.values] == [b"2"] + [value] * 4_999

    async def test_entries_survive_reopening(self, rig: Rig) -> None:
        await rig.set("a", b"1")
        rig.clock.advance(10)
        await rig.set("a", b"null")
        await rig.set("b", b'{"b":1, "a":2.50}')
        entries = [await rig.get(key) for key in "ab"]

        await rig.open()

        assert None not in entries
        assert [await rig.get(key) for key in "ab"] == entries

    async def test_deletes_survive_reopening(self, rig: Rig) -> None:
        await rig.fill("ab")
        await rig.write(Set("drained", "k", b"1"), Delete("drained", "k"))
        await rig.delete("a")

        await rig.open()

        assert await rig.get("a") is None
        assert await rig.values() == [b'"b"']
        assert await rig.scopes() == [rig.scope]

    async def test_revisions_go_on_after_reopening(self, rig: Rig) -> None:
        await rig.set("k", b"1")
        last = await rig.delete("absent")

        await rig.open()

        assert rig.store.revision == last.revision
        assert (await rig.set("k", b"2")).revision == last.revision + 1

    async def test_what_a_key_was_before_is_known_after_reopening(self, rig: Rig) -> None:
        made = await rig.set("k", b"1")

        await rig.open()
        change = await rig.set("k", b"2")

        assert change.replaced == made.entry
        assert change.event_type == "state:updated"

    async def test_list_order_survives_reopening(self, rig: Rig) -> None:
        await rig.fill("cdab")
        await rig.delete("d")
        await rig.set("c", b"1")
        await rig.open()
        await rig.fill("de")
        await rig.open()

        assert await rig.values() == [b"1", b'"a"', b'"b"', b'"d"', b'"e"']

    async def test_the_feed_survives_reopening(self, rig: Rig) -> None:
        origin = Origin("worker-7", "orders::place", 3)
        made = await rig.write(
            Set(rig.scope, "a", b"1", origin),
            Set(rig.scope, "a", b"2"),
            Delete(rig.scope, "a"),
            Delete(rig.scope, "absent", origin),
        )

        await rig.open()
        made += await rig.write(Set(rig.scope, "a", b"3"))

        assert rig.feed(0) == made

    async def test_a_trimmed_store_is_whole_after_reopening(self, rig: Rig) -> None:
        keys = await write_until_trimmed(rig)
        entries = [await rig.get(key) for key in keys]
        latest = rig.feed(rig.store.oldest_revision)[-10:]

        await rig.open(short_history=True)

        assert [await rig.get(key) for key in keys] == entries
        assert (await rig.values())[0] == b'"first"'
        assert rig.feed(rig.store.oldest_revision)[-len(latest) :] == latest

    async def test_what_closing_settled_is_there_after_reopening(self, rig: Rig) -> None:
        rig.store.execute(Set(rig.scope, "k", b"1"))

        await rig.open()

        assert await rig.value("k") == b"1"

    async def test_large_values_and_names_survive_reopening(self, rig: Rig) -> None:
        large, name = json_text("é" * (1 << 20)), "k" * (1 << 20)
        await rig.set(name, large)
        await rig.set("\0", b"1")

        await rig.open()

        assert await rig.value(name) == large
        assert await rig.value("\0") == b"1"

    async def test_notes_survive_reopening_alone_and_beside_changes(self, rig: Rig) -> None:
        rig.store.note(16, "a", b"1")
        rig.store.note(16, "gone", b"1")
        await rig.store.commit()
        made = await rig.set("k", b"1")
        rig.store.note(16, "gone", None)
        rig.store.note(20, "b", b"2")
        await rig.open()

        assert dict(rig.store.notes(16)) == {"a": b"1"}
        assert dict(rig.store.notes(20)) == {"b": b"2"}
        assert rig.store.revision == made.revision

    async def test_notes_outlive_the_changes_that_were_made_with_them(self, rig: Rig) -> None:
        await rig.open(short_history=True)
        rig.store.note(16, "a", b"1")
        await write_until_trimmed(rig)
        await rig.open(short_history=True)

        assert dict(rig.store.notes(16)) == {"a": b"1"}

    async def test_the_figures_survive_reopening(self, rig: Rig) -> None:
        await rig.write(Set(rig.scope, "a", b"12345"), Set("other", "b", b"12"))
        await rig.write(Set(rig.scope, "a", b"1"), Delete("other", "b"))
        before = rig.store.info()

        await rig.open()

        after = rig.store.info()
        assert (after.scopes, after.keys, after.bytes) == (1, 1, 1)
        assert (after.revision, after.oldest_revision) == (before.revision, before.oldest_revision)

    async def test_reopening_changes_nothing(self, rig: Rig) -> None:
        await rig.fill("ab")
        entries, feed = [await rig.get(key) for key in "ab"], rig.feed(0)

        for _ in range(5):
            await rig.open()

        assert [await rig.get(key) for key in "ab"] == entries
        assert rig.feed(0) == feed
