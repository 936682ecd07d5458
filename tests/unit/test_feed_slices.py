"""Long readings of the change log go on in slices, and hold up nobody."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from engine_bench import LoopTimers
from feed_work import Asked, SlowTimers, filled

from iii_state.core.commands import Set
from iii_state.engine import feed_calls
from iii_state.engine.feed_calls import FeedCalls
from iii_state.engine.feed_functions import FeedFunctions
from iii_state.engine.feed_scans import SLICE_CHANGES_MAX
from iii_state.engine.slices import SLICES_PER_TURN_MAX, TURN_S, Slices


async def test_a_long_scan_holds_no_turn_for_longer_than_a_slice() -> None:
    timers = SlowTimers()
    functions = FeedFunctions(store := await filled(1000), FeedCalls(store, timers))
    long = Asked(functions, "changes", after=0, scope="nothing")
    short = Asked(functions, "changes", after=990)
    turns = 0

    while not long.is_done:
        timers.turn()
        turns += 1
        assert short.is_done == (turns >= 4), "the other one had its turns, too"

    assert turns >= 1000 / SLICE_CHANGES_MAX
    assert (long.result["changes"], long.result["last_revision"]) == ([], 1000)


async def test_a_scan_that_takes_too_long_answers_with_how_far_it_has_got(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(feed_calls, "SCAN_S_MAX", 5 * TURN_S)
    timers = SlowTimers()
    functions = FeedFunctions(store := await filled(1000), FeedCalls(store, timers))
    changes = Asked(functions, "changes", after=0, scope="first", wait_ms=60_000)
    history = Asked(functions, "history", scope="first", key="none")
    timers.run()

    assert [event["revision"] for event in changes.result["changes"]] == [1]
    assert changes.result["last_revision"] < changes.result["revision"] == 1000
    assert history.result["versions"] == []
    assert 1 < history.result["next_before"] <= 1001


async def test_what_is_dropped_while_a_scan_is_under_way_is_not_skipped() -> None:
    timers = SlowTimers()
    store = await filled(2 * SLICE_CHANGES_MAX, history_bytes=1)
    functions = FeedFunctions(store, FeedCalls(store, timers))
    found = Asked(functions, "changes", after=0, scope="first")
    searched = Asked(functions, "changes", after=0, scope="none")
    timers.turn()
    timers.turn()

    store.execute(Set("other", "late", b"1"))
    await store.commit()
    timers.run()

    assert found.result["last_revision"] == SLICE_CHANGES_MAX
    assert searched.failure is not None
    assert searched.failure.code == "REVISION_COMPACTED"


def test_works_take_turns_and_one_that_fails_stops_no_other() -> None:
    timers, done = LoopTimers(), list[str]()
    slices = Slices(timers)

    def work(name: str, left: int) -> Callable[[], bool]:
        def one() -> bool:
            nonlocal left
            done.append(name)
            left -= 1
            if left < 0:
                raise ZeroDivisionError
            return left > 0

        return one

    for name, length in (("a", 2), ("fails", 0), ("b", 3), ("c", SLICES_PER_TURN_MAX)):
        slices.add(work(name, length))
    with pytest.raises(ZeroDivisionError):
        timers.run()
    timers.turn()

    assert done[:8] == ["a", "fails", "b", "c", "a", "b", "c", "b"]
    assert len(done) < SLICES_PER_TURN_MAX + 6, "a turn ends, even when no time passes"
    timers.run()
    assert done.count("c") == SLICES_PER_TURN_MAX
