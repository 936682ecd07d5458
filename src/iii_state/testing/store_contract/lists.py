"""Many keys at a time: what a scope lists, in which order, and which scopes there are."""

from __future__ import annotations

import json
from collections.abc import Sequence
from random import Random

import pytest

from iii_state.core.changes import Entry
from iii_state.core.commands import (
    Count,
    Delete,
    GetMany,
    ListEntries,
    ListKeys,
    ListScopes,
    ListValues,
    Set,
)
from iii_state.errors import LimitExceeded
from iii_state.testing.store_contract.rig import UNBOUNDED, Contract, Rig, json_text

MANY_KEYS = 10_000


class ListContract(Contract):
    """A list answers in order of creation; a scope is there while it holds a key."""

    async def test_a_list_is_in_order_of_creation(self, rig: Rig) -> None:
        await rig.set("b", b"1")
        await rig.write(Set(rig.scope, "c", b"2"), Set(rig.scope, "a", b"3"))

        assert await rig.values() == [b"1", b"2", b"3"]

    async def test_an_overwritten_key_keeps_its_place(self, rig: Rig) -> None:
        await rig.fill("bca")

        await rig.set("b", b"1")
        await rig.update("c")

        assert await rig.values() == [b"1", b'"c"', b'"a"']

    async def test_a_key_made_again_goes_to_the_end(self, rig: Rig) -> None:
        await rig.fill("abc")

        await rig.delete("a")
        await rig.write(Delete(rig.scope, "b"), Set(rig.scope, "b", b"1"))
        await rig.set("a", b"2")

        assert await rig.values() == [b'"c"', b"1", b"2"]

    async def test_deleting_an_absent_key_gives_it_no_place(self, rig: Rig) -> None:
        await rig.delete("b")
        await rig.fill("ab")

        assert await rig.values() == [b'"a"', b'"b"']

    async def test_nulls_are_listed(self, rig: Rig) -> None:
        await rig.write(Set(rig.scope, "a", b"null"), Set(rig.scope, "b", b"1"))

        assert await rig.values() == [b"null", b"1"]

    async def test_an_absent_scope_lists_nothing(self, rig: Rig) -> None:
        await rig.set("k", b"1")

        assert await rig.values(f"not {rig.scope}") == []

    async def test_a_list_sees_what_was_executed_before_it_and_nothing_later(
        self, rig: Rig
    ) -> None:
        await rig.fill("abc")
        read = ListValues(rig.scope, UNBOUNDED)

        first, *_, second, _, third = await rig.run(
            read,
            Set(rig.scope, "d", b"1"),
            Delete(rig.scope, "a"),
            Set(rig.scope, "b", b"2"),
            read,
            Set(rig.scope, "a", b"3"),
            read,
        )

        assert [*first.values] == [b'"a"', b'"b"', b'"c"']
        assert [*second.values] == [b"2", b'"c"', b"1"]
        assert [*third.values] == [b"2", b'"c"', b"1", b"3"]

    async def test_a_list_as_large_as_its_bound_is_answered(self, rig: Rig) -> None:
        await rig.fill(["aa", "bb"])

        bound = len(b'"aa""bb"')
        values, keys = await rig.run(ListValues(rig.scope, bound), ListKeys(rig.scope, bound))

        assert [*values.values] == [*keys.values] == [b'"aa"', b'"bb"']

    async def test_a_scope_of_many_keys_is_listed_whole_and_in_order(self, rig: Rig) -> None:
        keys = [f"{number * 7919 % MANY_KEYS}" for number in range(MANY_KEYS)]
        await rig.fill(keys)

        await rig.write(*(Delete(rig.scope, key) for key in keys[::2]))
        await rig.fill(keys[::4])

        expected = keys[1::2] + keys[::4]
        assert await rig.values() == [json_text(key) for key in expected]
        assert await rig.value(keys[4]) == json_text(keys[4])
        assert await rig.value(keys[2]) is None

    async def test_a_long_list_is_as_it_was_when_it_was_executed(self, rig: Rig) -> None:
        """It may be read in the background, while what it lists is replaced and removed."""
        keys = [f"{number}" for number in range(MANY_KEYS // 2)]
        old, new = b"1" * 200, b"2" * 200
        await rig.write(*(Set(rig.scope, key, old) for key in keys))

        read = rig.store.execute(ListValues(rig.scope, UNBOUNDED))
        await rig.write(*(Set(rig.scope, key, new) for key in keys))
        await rig.write(*(Delete(rig.scope, key) for key in keys[::2]))

        assert [*(await rig.finish(read)).values] == [old] * len(keys)
        assert await rig.values() == [new] * (len(keys) // 2)

    async def test_keys_are_sorted_by_code_point(self, rig: Rig) -> None:
        keys = ["b", "\uffff", "B", "", "\U00010000", "é", "\0", "ab", "a"]
        await rig.fill(keys)
        await rig.fill("b")

        assert await rig.keys() == sorted(keys)
        assert await rig.keys(f"not {rig.scope}") == []

    async def test_keys_are_those_executed_before_and_nothing_later(self, rig: Rig) -> None:
        await rig.fill("bc")
        read = ListKeys(rig.scope, UNBOUNDED)

        first, *_, second, _, third = await rig.run(
            read,
            Set(rig.scope, "a", b"1"),
            Delete(rig.scope, "b"),
            read,
            Delete(rig.scope, "c"),
            read,
        )

        assert [*first.values] == [b'"b"', b'"c"']
        assert [*second.values] == [b'"a"', b'"c"']
        assert [*third.values] == [b'"a"']

    async def test_scopes_are_sorted_by_code_point(self, rig: Rig) -> None:
        mine = [rig.scope + end for end in ("", "B", "a", "é", "\uffff", "\U00010000", "\0")]
        await rig.write(*(Set(scope, "k", b"1") for scope in mine))

        names = await rig.scopes()

        assert names == sorted(names)
        assert set(mine) <= set(names)

    async def test_a_drained_scope_is_gone_at_once(self, rig: Rig) -> None:
        await rig.fill("ab")
        await rig.delete("a")
        assert rig.scope in await rig.scopes()

        _, read = await rig.run(Delete(rig.scope, "b"), ListScopes())

        assert json_text(rig.scope) not in read.values
        assert rig.scope not in await rig.scopes()

    async def test_a_drained_scope_comes_back_with_its_first_key(self, rig: Rig) -> None:
        await rig.fill("a")
        await rig.delete("a")

        _, read = await rig.run(Set(rig.scope, "b", b"1"), ListScopes())

        assert json_text(rig.scope) in read.values
        assert await rig.values() == [b"1"]

    async def test_deleting_an_absent_key_makes_no_scope(self, rig: Rig) -> None:
        await rig.delete("k")

        assert rig.scope not in await rig.scopes()


class PageContract(Contract):
    """Parts of a scope: each key once, in order, however much is written between two pages."""

    async def test_entries_are_in_order_of_creation(self, rig: Rig) -> None:
        await rig.fill("cab")
        await rig.set("c", b"1")
        await rig.write(Delete(rig.scope, "a"), Set(rig.scope, "a", b"2"))

        entries = await _entries(rig)

        assert [(key, entry.value) for key, entry in entries] == [
            ("c", b"1"),
            ("b", b'"b"'),
            ("a", b"2"),
        ]
        assert [(e.created_revision, e.revision) for _, e in entries] == [(1, 4), (3, 3), (6, 6)]

    async def test_a_page_begins_behind_a_revision_and_has_so_many_entries(self, rig: Rig) -> None:
        await rig.fill("abcde")

        assert [key for key, _ in await _entries(rig, after=1, limit=2)] == ["b", "c"]
        assert [key for key, _ in await _entries(rig, after=4, limit=2)] == ["e"]
        assert await _entries(rig, after=5) == []
        assert await _entries(rig, scope=f"not {rig.scope}") == []

    async def test_a_page_ends_with_the_entry_that_is_too_much(self, rig: Rig) -> None:
        await rig.fill("abcde")
        row = len(b'"a""a"')

        for room, keys in ((0, "a"), (row - 1, "a"), (row, "ab"), (3 * row, "abcd")):
            page = await _entries(rig, bytes_max=room)
            assert [key for key, _ in page] == list(keys)

    async def test_entries_are_those_executed_before_and_nothing_later(self, rig: Rig) -> None:
        await rig.fill("abc")
        read = ListEntries(rig.scope, 0, 9, UNBOUNDED)

        first, *_, second, _, third = await rig.run(
            read,
            Set(rig.scope, "d", b"1"),
            Delete(rig.scope, "a"),
            Set(rig.scope, "b", b"2"),
            read,
            Set(rig.scope, "a", b"3"),
            read,
        )

        assert _values(first.values) == {"a": b'"a"', "b": b'"b"', "c": b'"c"'}
        assert _values(second.values) == {"b": b"2", "c": b'"c"', "d": b"1"}
        assert _values(third.values) == {"b": b"2", "c": b'"c"', "d": b"1", "a": b"3"}

    async def test_pages_meet_every_key_once_whatever_is_written_between(self, rig: Rig) -> None:
        random = Random(1)
        steady = [f"steady {n}" for n in range(MANY_KEYS // 2)]
        fickle = [f"fickle {n}" for n in range(MANY_KEYS // 2)]
        everybody = [*steady, *fickle]
        random.shuffle(everybody)
        await rig.fill(everybody)
        created = {key: entry.created_revision for key, entry in await _entries(rig)}

        met: list[str] = []
        after = 0
        while page := await _entries(rig, after=after, limit=random.randint(1, 500)):
            met += [key for key, _ in page]
            assert len(met) < 2 * MANY_KEYS, "pages come to an end"
            after = page[-1][1].created_revision
            await rig.write(
                *(Set(rig.scope, key, b"1") for key in random.choices(steady, k=50)),
                *(Delete(rig.scope, key) for key in random.choices(fickle, k=50)),
                *(Set(rig.scope, key, b"2") for key in random.choices(fickle, k=5)),
            )

        expected = sorted(steady, key=created.__getitem__)
        assert [key for key in met if key.startswith("steady")] == expected

    async def test_pages_of_keys_meet_every_key_once_whatever_is_written_between(
        self, rig: Rig
    ) -> None:
        random = Random(2)
        steady = [f"{n} steady" for n in range(MANY_KEYS // 2)]
        fickle = [f"{n} fickle" for n in range(MANY_KEYS // 2)]
        await rig.fill([*steady, *fickle])

        met: list[str] = []
        after = None
        while page := await _keys(rig, after=after, limit=random.randint(1, 500)):
            met += page
            assert len(met) < 2 * MANY_KEYS, "pages come to an end"
            after = page[-1]
            await rig.write(
                *(Delete(rig.scope, key) for key in random.choices(fickle, k=50)),
                *(Set(rig.scope, f"{key} anew", b"1") for key in random.choices(fickle, k=50)),
                *(Set(rig.scope, key, b"2") for key in random.choices(fickle, k=5)),
            )

        assert len(met) == len(set(met))
        assert [key for key in met if key.endswith("steady")] == sorted(steady)

    async def test_a_prefix_selects_keys(self, rig: Rig) -> None:
        await rig.fill(["b:2", "b", "b:1", "a:1", "c:1", "b:", "b\uffff", "b:\U00010000"])
        await rig.delete("b:1")
        mine = ["b:2", "b:", "b:\U00010000"]

        assert [key for key, _ in await _entries(rig, prefix="b:")] == mine
        assert [key for key, _ in await _entries(rig, prefix="b:", limit=2)] == mine[:2]
        assert await _keys(rig, prefix="b:", limit=9) == sorted(mine)
        assert await _keys(rig, prefix="b:") == sorted(mine)
        assert await _keys(rig, prefix="b:", after="b:2") == ["b:\U00010000"]
        assert await _keys(rig, prefix="b:", after="a", limit=1) == ["b:"]
        assert await _keys(rig, prefix="d", limit=1) == []
        assert await _entries(rig, prefix="d") == []

    async def test_a_page_of_keys_ends_with_the_key_that_is_too_much(self, rig: Rig) -> None:
        await rig.fill("abcde")

        assert await _keys(rig, limit=2, after="b") == ["c", "d"]
        assert await _keys(rig, limit=9, bytes_max=6) == ["a", "b", "c"]
        assert await _keys(rig, limit=9, bytes_max=0) == ["a"]

    async def test_pages_of_keys_show_what_is_pending(self, rig: Rig) -> None:
        await rig.fill("bc")

        *_, keys, count = await rig.run(
            Set(rig.scope, "a", b"12"),
            Delete(rig.scope, "b"),
            ListKeys(rig.scope, UNBOUNDED, limit=9),
            Count(rig.scope, "a"),
        )

        assert [*keys.values] == [b'"a"', b'"c"']
        assert [*count.values] == [1, 2]

    async def test_keys_and_the_bytes_of_their_values_are_counted(self, rig: Rig) -> None:
        await rig.write(*(Set(rig.scope, key, b"123") for key in ("a1", "a2", "b1")))

        before, _, _, after, of_prefix, nothing = await rig.run(
            Count(rig.scope),
            Set(rig.scope, "a1", b"1"),
            Delete(rig.scope, "a2"),
            Count(rig.scope),
            Count(rig.scope, "a"),
            Count(f"not {rig.scope}"),
        )
        [later] = await rig.run(Count(rig.scope, "a"))

        assert [*before.values] == [3, 9]
        assert [*after.values] == [2, 4]
        assert [*of_prefix.values] == [*later.values] == [1, 1]
        assert [*nothing.values] == [0, 0]

    async def test_several_keys_are_read_as_of_one_moment(self, rig: Rig) -> None:
        await rig.fill("ab")
        await rig.write(Set("other", "a", b"1"))
        places = ((rig.scope, "b"), ("other", "a"), (rig.scope, "c"), (rig.scope, "b"))

        first, *_, second = await rig.run(
            GetMany(places, UNBOUNDED),
            Set(rig.scope, "b", b"2"),
            Set(rig.scope, "c", b"3"),
            GetMany(places, UNBOUNDED),
        )

        values = [entry and entry.value for entry in first.values]
        assert values == [b'"b"', b"1", None, b'"b"']
        values = [entry and entry.value for entry in second.values]
        assert values == [b"2", b"1", b"3", b"2"]

    async def test_several_values_over_their_bound_are_refused(self, rig: Rig) -> None:
        await rig.fill("ab")
        places = ((rig.scope, "a"), (rig.scope, "b"), (rig.scope, "b"))

        with pytest.raises(LimitExceeded):
            await rig.run(GetMany(places, 8))
        [read] = await rig.run(GetMany(places, 9))

        assert len(read.values) == 3


async def _entries(
    rig: Rig,
    *,
    after: int = 0,
    limit: int = 1 << 20,
    bytes_max: int = UNBOUNDED,
    prefix: str = "",
    scope: str | None = None,
) -> list[tuple[str, Entry]]:
    scope = rig.scope if scope is None else scope
    [outcome] = await rig.run(ListEntries(scope, after, limit, bytes_max, prefix))
    return list(outcome.values)


def _values(entries: Sequence[tuple[str, Entry]]) -> dict[str, bytes]:
    return {key: entry.value for key, entry in entries}


async def _keys(
    rig: Rig,
    *,
    after: str | None = None,
    limit: int | None = None,
    bytes_max: int = UNBOUNDED,
    prefix: str = "",
) -> list[str]:
    [outcome] = await rig.run(ListKeys(rig.scope, bytes_max, prefix, after, limit))
    return [json.loads(text) for text in outcome.values]
