"""Workers go away, come back, and take over from one another."""

from __future__ import annotations

import pytest
from reaction_bench import MISSING, Bench

from iii_state.engine import reactions as reactions_module


async def test_a_worker_that_comes_back_within_the_window_misses_nothing() -> None:
    bench = Bench()
    bench.bind(b'{"scope":"s"}')
    await bench.set(key="a")
    bench.reactions.detach("w")
    bench.invoker.stop_all()
    bench.timers.run()
    for key in ("a", "b", "a"):
        await bench.set(key=key)
    bench.timers.advance(59.9)
    assert len(bench.invoker.made) == 1
    bench.bind(b'{"scope": "s"}', owner="w2")
    bench.answer_all()
    calls = [(c.event.key, c.event.revision, c.event.attempt) for c in bench.invoker.made[1:]]
    assert sorted(calls) == [("a", 1, 2), ("a", 2, 1), ("a", 4, 1), ("b", 3, 1)]
    assert [r for key, r, _ in calls if key == "a"] == [1, 2, 4]
    assert bench.status().counters.delivered == 4


async def test_a_worker_that_comes_back_after_the_window_starts_anew() -> None:
    bench = Bench()
    bench.bind()
    bench.reactions.detach("w")
    await bench.set()
    bench.timers.advance(60)
    assert bench.reactions.snapshot() == []
    bench.bind(owner="w2")
    await bench.set()
    assert bench.invoker.revisions == [2]


async def test_a_binding_can_be_unbound_while_its_worker_is_away() -> None:
    bench = Bench()
    bench.bind()
    bench.reactions.detach("w")
    bench.reactions.unbind("b")
    await bench.set()
    bench.bind()
    bench.answer_all()
    assert bench.invoker.revisions == []


async def test_an_equal_binding_from_another_worker_takes_over_without_loss() -> None:
    bench = Bench()
    bench.bind(owner="old")
    await bench.set()
    await bench.set()
    bench.bind(owner="new", metadata=b"1")
    bench.reactions.detach("old")
    bench.answer_all()
    assert bench.invoker.revisions == [1, 2]
    assert bench.invoker.made[1].metadata == b"1"
    assert bench.status().owner == "new"


async def test_a_binding_with_another_config_starts_anew() -> None:
    bench = Bench()
    bench.bind(b'{"scope":"s"}')
    await bench.set()
    await bench.set()
    bench.bind(b'{"scope":"t"}')
    await bench.set("t", "x")
    bench.answer_all()
    assert bench.invoker.revisions == [1, 3]
    assert bench.status().counters.matched == 1


async def test_calls_stopped_just_before_their_worker_is_detached_are_made_again() -> None:
    bench = Bench()
    bench.bind()
    await bench.set(key="a")
    await bench.set(key="a")
    bench.invoker.at_once["f"] = MISSING
    bench.invoker.stop_all()
    bench.reactions.detach("w")
    bench.timers.run()
    del bench.invoker.at_once["f"]
    bench.bind(owner="w2")
    bench.answer_all()
    assert [(c.event.revision, c.event.attempt) for c in bench.invoker.made] == [
        (1, 1),
        (1, 2),
        (2, 1),
    ]
    assert bench.status().counters.failed == 0


async def test_a_handler_elsewhere_that_goes_away_does_not_stop_the_binding() -> None:
    bench = Bench()
    bench.bind()
    await bench.set()
    await bench.set()
    bench.invoker.at_once["f"] = MISSING
    bench.invoker.stop_all()
    bench.timers.run()
    assert bench.status().counters.failed == 2
    assert bench.status().lag == 0


async def test_an_event_whose_worker_always_goes_away_is_given_up() -> None:
    bench = Bench()
    bench.bind()
    await bench.set()
    for owner in ("w", "w2", "w3", "w4"):
        bench.invoker.stop_all()
        bench.reactions.detach(owner)
        bench.bind(owner={"w": "w2", "w2": "w3", "w3": "w4", "w4": "w5"}[owner])
    assert [call.event.attempt for call in bench.invoker.made] == [1, 2, 3, 4]
    assert bench.status().counters.failed == 1


async def test_the_window_starts_again_with_every_absence() -> None:
    bench = Bench()
    bench.bind(owner="w")
    bench.reactions.detach("w")
    bench.timers.advance(50)
    bench.bind(owner="w2")
    bench.reactions.detach("w2")
    await bench.set()
    bench.timers.advance(50)
    assert bench.status().condition == "detached"
    bench.bind(owner="w3")
    bench.answer_all()
    assert bench.invoker.revisions == [1]


async def test_the_timer_of_a_forgotten_absence_leaves_a_new_one_alone() -> None:
    bench = Bench()
    bench.bind()
    bench.reactions.detach("w")
    bench.reactions.unbind("b")
    bench.timers.advance(30)
    bench.bind()
    bench.reactions.detach("w")
    bench.timers.advance(30)
    assert bench.status().condition == "detached"
    bench.timers.advance(30)
    assert bench.reactions.snapshot() == []


async def test_without_a_window_nothing_is_kept() -> None:
    bench = Bench(window_s=0)
    bench.bind()
    bench.reactions.detach("w")
    bench.reactions.detach("a worker that bound nothing")
    assert bench.reactions.snapshot() == []


async def test_the_places_kept_for_absent_workers_are_bounded(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(reactions_module, "DETACHED_MAX", 2)
    bench = Bench()
    for id in "abc":
        bench.bind(id=id, owner=id)
        bench.reactions.detach(id)
    assert [status.binding.id for status in bench.reactions.snapshot()] == ["b", "c"]
