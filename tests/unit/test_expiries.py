"""Many keys that expire at once hold up nobody, and none of them is seen after its time."""

from __future__ import annotations

from heapq import heappop

from engine_bench import LoopTimers

from iii_state.core.commands import Count, Delete, Get, GetMany, Guard, ListValues, Set, Transact
from iii_state.engine.expiries import EXPIRED_PER_TURN_MAX, Expiries
from iii_state.stores.memory import MemoryStore
from iii_state.testing.clocks import FakeClock


class SteppedTimers(LoopTimers):
    """Timers that ring one by one."""

    def turn_later(self) -> bool:
        """Let the next one that is due ring; false if none is."""
        if not self._later or self._later[0][0] > self.now:
            return False
        heappop(self._later)[2].callback()
        return True


KEYS = 3 * EXPIRED_PER_TURN_MAX


class Bench:
    """Keys of scope `many` that all expire after a second, and one of scope `other`."""

    def __init__(self) -> None:
        self.timers = SteppedTimers()
        clock = FakeClock()
        self.store = MemoryStore(clock_ms=clock)
        self.expiries = Expiries(self.store, self.timers, clock)
        for number in range(KEYS):
            self.set("many", str(number), self.expiries.after(1000))
        self.set("other", "k", 0)

    def set(self, scope: str, key: str, expires_at_ms: int) -> None:
        command = Set(scope, key, b"1", expires_at_ms=expires_at_ms)
        self.expiries.follow(command, self.store.execute(command))

    def left(self) -> int:
        return int(self.store.execute(Count("many")).values[0])


def expired() -> Bench:
    """A bench after that second; nothing has expired by itself yet."""
    bench = Bench()
    bench.timers.advance(1.001)
    assert bench.left() == KEYS
    return bench


def test_a_command_expires_the_keys_that_it_is_about() -> None:
    bench = expired()
    for command, gone in (
        (Get("other", "k"), 0),
        (Get("many", "0"), 1),
        (Get("many", "0"), 1),
        (Set("many", "1", b"2"), 2),
        (Delete("many", "2"), 3),
        (GetMany((("many", "3"), ("other", "k"), ("many", "4")), 100), 5),
        (Transact((Guard("many", "5", is_absent=True),), (Set("many", "6", b"2"),)), 7),
    ):
        bench.expiries.expire_before(command)
        assert bench.left() == KEYS - gone


def test_a_list_expires_all() -> None:
    bench = expired()
    bench.expiries.expire_before(ListValues("many", 1 << 20))
    assert bench.left() == 0


def test_the_others_expire_by_themselves_a_part_in_each_turn() -> None:
    bench = expired()
    bench.expiries.expire_before(Get("many", "0"))
    left = []
    bench.expiries.commit = lambda: left.append(bench.left())
    bench.expiries.start()
    turns = []
    while bench.timers.turn_later():
        turns.append(len(left))
        left.clear()
    assert turns == [EXPIRED_PER_TURN_MAX, EXPIRED_PER_TURN_MAX, EXPIRED_PER_TURN_MAX - 1]
    assert bench.left() == 0
