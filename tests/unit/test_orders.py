"""The orders that are kept between pages: what they know, and how many of them there are."""

from __future__ import annotations

from array import array

from iii_state.stores import orders
from iii_state.stores.orders import SLACK_KEYS, CreationOrder, NameOrder, Orders, in_order


def creations(*pairs: tuple[int, str]) -> CreationOrder:
    order = CreationOrder()
    order.add(array("Q", [created for created, _ in pairs]), [key for _, key in pairs], 100)
    return order


def names_of(order: NameOrder, after: str | None = None, prefix: str = "") -> list[str]:
    return list(order.behind(after, prefix, []))


def test_keys_made_after_a_revision_begin_behind_it() -> None:
    order = creations((2, "b"), (5, "a"), (9, "c"))

    assert [order.behind(revision) for revision in (0, 2, 4, 5, 9, 10)] == [0, 1, 1, 2, 3, 3]


def test_names_that_come_one_by_one_or_together_are_in_order_and_once() -> None:
    order = NameOrder()
    order.names = ["b", "d", "f"]
    order.add(["e", "a", "d"], 1)
    many = [f"m{n:02}" for n in range(20)]
    order.add([*many[::-1], "e"], 2)

    assert names_of(order) == ["a", "b", "d", "e", "f", *many]
    assert names_of(order, after="e") == ["f", *many]
    assert names_of(order, prefix="m1") == many[10:]
    assert names_of(order, after="m12", prefix="m1") == many[13:]
    assert names_of(order, after="z", prefix="m") == []
    assert list(order.behind(None, "c", ["ca", "cb", "e"])) == ["ca", "cb"]


def test_an_order_of_which_most_is_gone_is_begun_anew() -> None:
    kept: Orders[CreationOrder] = Orders(CreationOrder)
    owner = object()
    order = kept.of("s", owner, 0)
    keys = [f"{n}" for n in range(SLACK_KEYS + 3)]
    order.add(array("Q", range(len(keys))), keys, 1)

    assert kept.of("s", owner, 2) is order
    assert kept.of("s", owner, 1) is not order


def test_names_that_wait_to_be_sorted_in_do_not_become_many() -> None:
    order = NameOrder()
    order.add([f"{n}" for n in range(SLACK_KEYS + 1)], 1)

    assert order.is_worn(10_000)


def test_an_order_is_of_what_holds_the_keys() -> None:
    kept: Orders[NameOrder] = Orders(NameOrder)
    first, second = object(), object()
    order = kept.of("s", first, 0)

    assert kept.of("s", first, 0) is order
    assert kept.of("s", second, 0) is not order
    assert kept.of("t", first, 0) is not order


def test_the_orders_that_were_used_last_are_kept_as_far_as_there_is_room() -> None:
    kept: Orders[CreationOrder] = Orders(CreationOrder, keys_max=5)
    owner = object()
    made = {}
    for scope in "abc":
        made[scope] = kept.of(scope, owner, 10)
        made[scope].add(array("Q", [1, 2]), ["x", "y"], 1)

    again = {scope: kept.of(scope, owner, 10) for scope in "cba"}

    assert again["c"] is made["c"]
    assert again["b"] is made["b"]
    assert again["a"] is not made["a"]


def test_no_more_than_some_scopes_have_an_order() -> None:
    kept: Orders[NameOrder] = Orders(NameOrder)
    owner = object()
    first = kept.of("first", owner, 0)
    for n in range(orders.ORDERS_MAX):
        kept.of(f"{n}", owner, 0)

    assert kept.of("first", owner, 0) is not first


def test_one_order_is_kept_however_large() -> None:
    kept: Orders[CreationOrder] = Orders(CreationOrder, keys_max=1)
    owner = object()
    kept.of("s", owner, 3).add(array("Q", [1, 2, 3]), ["a", "b", "c"], 3)

    assert len(kept.of("s", owner, 3)) == 3


def test_runs_are_merged_by_revision() -> None:
    created, keys = in_order(
        [(array("Q", [1, 7]), ["a", "b"]), (array("Q"), []), (array("Q", [3]), ["c"])]
    )

    assert (list(created), keys) == ([1, 3, 7], ["a", "c", "b"])
