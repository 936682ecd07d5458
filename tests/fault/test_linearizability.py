"""The search for an order of calls finds one when there is one, and only then."""

from __future__ import annotations

import random
from collections.abc import Iterable
from itertools import permutations
from typing import Any

import pytest
from linearizability import FOREVER, Interval, NotLinearizable, check
from registers import (
    ABSENT,
    NEVER_WRITTEN,
    Call,
    Called,
    CompareAndSet,
    Delete,
    Get,
    Held,
    Increment,
    Set,
    Value,
    check_revisions,
    steps,
)

History = list[Interval[Called]]


def got(value: Value, begun: int, ended: int) -> Interval[Called]:
    answer = {} if value is ABSENT else {"result": value}
    return Interval(Called(Get(), answer), begun, ended)


def did(call: Call, begun: int, ended: int, **result: Any) -> Interval[Called]:
    return Interval(Called(call, {"result": result}), begun, ended)


def wrote(value: Value, old: Value, begun: int, ended: int, **more: Any) -> Interval[Called]:
    return did(Set(value), begun, ended, old_value=old, new_value=value, **more)


def counted(old: Value, new: Value, begun: int, ended: int) -> Interval[Called]:
    return did(Increment(1), begun, ended, old_value=old, new_value=new)


def unknown(call: Call, begun: int, ended: float = FOREVER) -> Interval[Called]:
    return Interval(Called(call, None), begun, ended, is_certain=False)


def swap(begun: int, ended: int, swapped: bool, **result: Any) -> Interval[Called]:
    call = CompareAndSet(2, expected=1)
    return did(call, begun, ended, swapped=swapped, revision=7, **result)


LINEARIZABLE: dict[str, History] = {
    "nothing": [],
    "an absent key": [got(ABSENT, 1, 2)],
    "one after the other": [wrote(1, None, 1, 2), got(1, 3, 4), wrote(2, 1, 5, 6), got(2, 7, 8)],
    "a read beside a write sees it, or not": [
        wrote(1, None, 1, 6),
        got(ABSENT, 2, 3),
        got(1, 4, 5),
    ],
    "two writes in the order of their answers' values": [
        wrote(1, 2, 1, 4),
        wrote(2, None, 2, 3),
        got(1, 5, 6),
    ],
    "two increments at once": [counted(1, 2, 1, 3), counted(None, 1, 2, 4), got(2, 5, 6)],
    "an unknown write that was never carried out": [
        wrote(1, None, 1, 2),
        unknown(Set(2), 3),
        got(1, 4, 5),
    ],
    "an unknown write that was carried out": [
        wrote(1, None, 1, 2),
        unknown(Set(2), 3),
        got(2, 4, 5),
    ],
    "an unknown write that takes effect late": [
        wrote(1, None, 1, 2),
        unknown(Set(2), 3),
        got(1, 4, 5),
        got(1, 6, 7),
        got(2, 8, 9),
    ],
    "an unknown write before its end": [
        wrote(1, None, 1, 2),
        unknown(Set(2), 3, 8),
        got(1, 4, 5),
        got(2, 6, 7),
        got(2, 9, 10),
    ],
    "two unknown increments, of which one counts": [
        unknown(Increment(1), 1),
        unknown(Increment(1), 2),
        got(1, 3, 4),
        counted(1, 2, 5, 6),
    ],
    "an unknown delete of what others wrote": [
        unknown(Delete(), 1),
        wrote(1, None, 2, 3),
        got(ABSENT, 4, 5),
    ],
    "null is no absence": [wrote(None, None, 1, 2), got(None, 3, 4)],
    "no number is not counted": [
        wrote("text", None, 1, 2),
        did(Increment(1), 3, 4, old_value="text", new_value="text", errors=[{}]),
    ],
    "a swap": [wrote(1, None, 1, 2), swap(3, 4, True), got(2, 5, 6)],
    "no swap": [wrote(5, None, 1, 2), swap(3, 4, False, current=5), got(5, 5, 6)],
    "a swap that nobody heard of": [
        wrote(1, None, 1, 2),
        unknown(CompareAndSet(2, expected=1), 3),
        got(2, 4, 5),
    ],
    "a revision that is told later": [
        wrote(1, None, 1, 2),
        did(Get(with_revision=True), 3, 4, value=1, revision=9),
        did(CompareAndSet(2, if_revision=9), 5, 6, swapped=True, revision=10),
    ],
}

NOT_LINEARIZABLE: dict[str, History] = {
    "a stale read": [wrote(1, None, 1, 2), wrote(2, 1, 3, 4), got(1, 5, 6)],
    "a read from the future": [got(1, 1, 2), wrote(1, None, 3, 4)],
    "two reads that go back": [
        wrote(1, None, 1, 2),
        wrote(2, 1, 3, 8),
        got(2, 4, 5),
        got(1, 6, 7),
    ],
    "a lost write": [wrote(1, None, 1, 2), got(ABSENT, 3, 4)],
    "a lost update": [counted(None, 1, 1, 3), counted(None, 1, 2, 4), got(1, 5, 6)],
    "an increment that was applied twice": [counted(None, 1, 1, 2), got(2, 3, 4)],
    "an unknown increment that was applied twice": [unknown(Increment(1), 1), got(2, 2, 3)],
    "an unknown write that is taken back": [
        wrote(1, None, 1, 2),
        unknown(Set(2), 3),
        got(2, 4, 5),
        got(1, 6, 7),
    ],
    "an unknown write after its end": [
        wrote(1, None, 1, 2),
        unknown(Set(2), 3, 6),
        got(1, 7, 8),
        got(2, 9, 10),
    ],
    "an unknown write before its begin": [wrote(1, None, 1, 2), got(2, 3, 4), unknown(Set(2), 5)],
    "two swaps of one value": [
        wrote(1, None, 1, 2),
        swap(3, 6, True),
        swap(4, 5, True),
    ],
    "no swap, although it is there": [wrote(1, None, 1, 2), swap(3, 4, False, current=1)],
    "a swap, although it is not there": [wrote(5, None, 1, 2), swap(3, 4, True)],
    "a swap of an earlier revision": [
        wrote(1, None, 1, 2, revision=8),
        wrote(1, 1, 3, 4, revision=9),
        did(CompareAndSet(2, if_revision=8), 5, 6, swapped=True, revision=10),
    ],
    "an absence taken for null": [got(None, 1, 2)],
    "an old value that was not": [wrote(1, None, 1, 2), wrote(2, 3, 3, 4)],
    "a revision that goes back": [
        wrote(1, None, 1, 2, revision=9),
        wrote(2, 1, 3, 4, revision=8),
    ],
    "no room for the change in between": [
        wrote(1, None, 1, 2, revision=8),
        wrote(2, 1, 3, 4),
        wrote(3, 2, 5, 6, revision=9),
    ],
    "the revision of another change": [
        wrote(1, None, 1, 2, revision=9),
        did(Get(with_revision=True), 3, 4, value=1, revision=10),
    ],
}


@pytest.mark.parametrize("history", LINEARIZABLE.values(), ids=LINEARIZABLE)
def test_an_order_is_found(history: History) -> None:
    check(history, NEVER_WRITTEN, steps)


@pytest.mark.parametrize("history", NOT_LINEARIZABLE.values(), ids=NOT_LINEARIZABLE)
def test_that_there_is_no_order_is_found(history: History) -> None:
    with pytest.raises(NotLinearizable, match="no order of the calls explains"):
        check(history, NEVER_WRITTEN, steps)


def test_the_search_finds_what_trying_every_order_finds() -> None:
    rng = random.Random(4)
    verdicts = []
    for _ in range(3000):
        history = any_history(rng)
        expected = any(map(explains, orders(history)))
        try:
            check(history, NEVER_WRITTEN, steps)
            found = True
        except NotLinearizable:
            found = False
        assert found == expected, history
        verdicts.append(found)

    assert verdicts.count(True) > 300
    assert verdicts.count(False) > 300


def any_history(rng: random.Random) -> History:
    """A few calls with likely answers, at any moments."""
    moments = [*range(12)]
    rng.shuffle(moments)
    history: History = []
    for at in range(rng.randrange(1, 6)):
        begun, ended = sorted(moments[2 * at : 2 * at + 2])
        value, old, new = (rng.choice((None, 1, 2)) for _ in range(3))
        if rng.random() < 0.25:
            end = rng.choice((ended, FOREVER))
            history.append(unknown(rng.choice((Set(value), Increment(1), Delete())), begun, end))
        elif rng.random() < 0.5:
            history.append(got(rng.choice((ABSENT, 1, 2)), begun, ended))
        elif rng.random() < 0.5:
            history.append(wrote(value, old, begun, ended))
        else:
            history.append(counted(old, new, begun, ended))
    return history


def orders(history: History) -> Iterable[tuple[Interval[Called], ...]]:
    """Every order of the calls that is possible in time, with any of the unknown left out."""
    certain = [call for call in history if call.is_certain]
    doubtful = [call for call in history if not call.is_certain]
    for chosen in range(1 << len(doubtful)):
        taken = [call for at, call in enumerate(doubtful) if chosen >> at & 1]
        for order in permutations(certain + taken):
            if all(
                earlier.begun < later.ended
                for at, earlier in enumerate(order)
                for later in order[at + 1 :]
            ):
                yield order


def explains(order: Iterable[Interval[Called]]) -> bool:
    states: set[Held] = {NEVER_WRITTEN}
    for call in order:
        states = {then for state in states for then in steps(state, call.what)}
    return bool(states)


def test_many_calls_without_an_end_are_no_trouble() -> None:
    history: History = [unknown(Increment(1), begun) for begun in range(8)]
    for number in range(200):
        history.append(wrote(f"{number}", f"{number - 1}", 10 + 2 * number, 11 + 2 * number))
    history[8] = wrote("0", 5, 10, 11)

    check(history, NEVER_WRITTEN, steps)


def test_revisions_that_follow_time_over_keys_are_fine() -> None:
    check_revisions(
        [
            wrote(1, None, 1, 2, revision=1),
            wrote(1, None, 3, 6, revision=3),
            wrote(1, None, 4, 5, revision=2),
            did(Get(with_revision=True), 7, 8, value=1, revision=2),
            did(CompareAndSet(2, if_revision=1), 9, 10, swapped=False, current=1, revision=2),
        ]
    )


@pytest.mark.parametrize(
    "history",
    [
        [wrote(1, None, 1, 2, revision=2), wrote(1, None, 3, 4, revision=1)],
        [wrote(1, None, 1, 3, revision=1), wrote(1, None, 2, 4, revision=1)],
        [
            did(Get(with_revision=True), 1, 2, value=1, revision=5),
            wrote(1, None, 3, 4, revision=5),
        ],
    ],
    ids=["against time", "twice", "told of before"],
)
def test_revisions_that_do_not_are_not(history: History) -> None:
    with pytest.raises(AssertionError, match="revision"):
        check_revisions(history)
