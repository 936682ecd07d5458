"""Many keys at a time: what a scope lists, in which order, and which scopes there are."""

from __future__ import annotations

from iii_state.core.commands import Delete, ListKeys, ListScopes, ListValues, Set
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
