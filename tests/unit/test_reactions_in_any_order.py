"""Writes, answers, turns and absences in any order: complete, in order per key, bounded."""

from __future__ import annotations

from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st
from reaction_bench import SMALL, STOPPED, Bench

CONFIGS = {"all": b"{}", "key": b'{"key":"a"}', "scope": b'{"scope":"s"}'}
KEYS = ("a", "b", "c")


class World:
    """Three workers with a binding each, named as their function and its config."""

    def __init__(self) -> None:
        self.bench = Bench(limits=SMALL)
        self.absent: set[str] = set()
        for owner, config in CONFIGS.items():
            self.bench.bind(config, id=owner, owner=owner, function=owner)

    async def write(self, number: int) -> None:
        keys = [KEYS[(number + offset * number) % 3] for offset in range(1 + number % 20)]
        await self.bench.set_many(keys)

    async def answer(self, number: int) -> None:
        calls = self.bench.invoker.open
        if calls:
            calls.pop(number % len(calls)).succeed()

    async def turn(self, number: int) -> None:
        self.bench.timers.turn()

    async def leave(self, number: int) -> None:
        owner = [*CONFIGS][number % 3]
        if owner in self.absent:
            return
        self.absent.add(owner)
        invoker = self.bench.invoker
        stopped = [call for call in invoker.open if call.function_id == owner]
        invoker.open = [call for call in invoker.open if call.function_id != owner]
        for call in stopped:
            call.fail(STOPPED)
        self.bench.reactions.detach(owner)

    async def come_back(self, number: int) -> None:
        owner = [*CONFIGS][number % 3]
        if owner in self.absent:
            self.absent.remove(owner)
            self.bench.bind(CONFIGS[owner], id=owner, owner=owner, function=owner, turn=False)

    def check_bounds(self) -> None:
        for status in self.bench.reactions.snapshot():
            assert status.in_flight <= SMALL.in_flight_max
            assert status.waiting <= SMALL.read_ahead_max + SMALL.in_flight_max

    def check_complete_and_ordered(self) -> None:
        changes = self.bench.store.changes(0, 1_000_000, 1 << 40)
        for owner in CONFIGS:
            counters = self.bench.status(owner).counters
            heard_of = 0
            for key in KEYS if owner != "key" else KEYS[:1]:
                written = [change.revision for change in changes if change.key == key]
                heard = self._heard(owner, key)
                assert heard == sorted(heard)
                assert sorted(set(heard)) == written
                heard_of += len(written)
            assert (counters.matched, counters.delivered) == (heard_of, heard_of)
            assert self.bench.status(owner).lag == 0

    def _heard(self, owner: str, key: str) -> list[int]:
        made = [call for call in self.bench.invoker.made if call.function_id == owner]
        return [call.event.revision for call in made if call.event.key == key]


ACTIONS: list[Any] = [World.write, World.answer, World.turn, World.leave, World.come_back]
steps = st.lists(st.tuples(st.sampled_from(ACTIONS), st.integers(0, 1000)), max_size=100)


@settings(deadline=None)
@given(steps)
async def test_each_binding_hears_of_every_change_in_order_of_its_key(
    script: list[tuple[Any, int]],
) -> None:
    world = World()
    for action, number in script:
        await action(world, number)
        world.check_bounds()
    for number in range(3):
        await world.come_back(number)
    world.bench.answer_all()
    world.check_complete_and_ordered()
