"""Durable bindings: whatever is restarted, they go on where they stopped."""

from __future__ import annotations

import pytest
from reaction_bench import BROKEN, MISSING, Bench, Invocation

from iii_state.core.checkpoints import Checkpoint, Pending
from iii_state.engine import durables as durables_module

CONFIG = b'{"durable":"d","retry":{"max_attempts":2,"initial_ms":100,"max_ms":100}}'


def calls(bench: Bench) -> list[tuple[int, int]]:
    return [(call.event.revision, call.event.attempt) for call in bench.invoker.made]


def open_call(bench: Bench, revision: int) -> Invocation:
    [call] = [call for call in bench.invoker.open if call.event.revision == revision]
    bench.invoker.open.remove(call)
    return call


async def test_it_goes_on_after_a_crash_with_what_was_not_acknowledged() -> None:
    bench = Bench()
    bench.bind(CONFIG)
    await bench.set_many(["a", "b", "c", "a"])
    open_call(bench, 2).succeed()
    open_call(bench, 3).fail()
    bench.timers.run()
    bench.timers.advance(0.1)
    bench.start()
    await bench.set_many(["d"])
    bench.bind(CONFIG)
    bench.answer_all()
    assert sorted(calls(bench)) == [(1, 2), (3, 2), (4, 1), (5, 1)]


async def test_an_acknowledgement_is_written_down_soon_and_all_of_them_by_a_stop() -> None:
    bench = Bench()
    bench.bind(CONFIG)
    assert bench.ledger.checkpoint("d") == Checkpoint(0)
    await bench.set_many(["a", "b", "c"])
    open_call(bench, 3).succeed()
    bench.timers.advance(0.099)
    assert bench.ledger.checkpoint("d") == Checkpoint(0)
    bench.timers.advance(0.001)
    assert bench.ledger.checkpoint("d") == Checkpoint(3, (Pending(1, 2, 0, 1), Pending(2, 2, 0, 1)))
    open_call(bench, 1).succeed()
    bench.reactions.stop()
    assert bench.ledger.checkpoint("d") == Checkpoint(3, (Pending(2, 2, 0, 1),))


async def test_its_dead_letters_and_its_pause_survive_a_crash() -> None:
    bench = Bench()
    bench.bind(CONFIG)
    bench.invoker.at_once["f"] = BROKEN
    await bench.set()
    bench.timers.advance(0.1)
    bench.reactions.pause("d")
    bench.timers.advance(0.1)
    bench.start()
    bench.bind(CONFIG)
    assert bench.status().paused
    bench.reactions.resume("d")
    [letter], _ = bench.reactions.dead_letters("d")
    assert (letter.id, letter.is_durable, letter.attempts) == ("d@1", True, 2)
    assert bench.reactions.redrive(["d@1"]) == 1
    bench.start()
    bench.bind(CONFIG)
    bench.answer_all()
    assert calls(bench) == [(1, 3)]
    assert bench.reactions.dead_letters() == ([], None)


async def test_it_goes_on_when_it_is_bound_again_long_after_its_worker_left() -> None:
    bench = Bench()
    bench.bind(CONFIG)
    await bench.set(key="a")
    bench.invoker.stop_all()
    bench.reactions.detach("w")
    bench.timers.advance(100)
    assert (bench.status().condition, bench.status().lag) == ("detached", 1)
    await bench.set(key="b")
    bench.bind(CONFIG, id="new", owner="w2")
    bench.answer_all()
    assert calls(bench) == [(1, 1), (1, 2), (2, 1)]


async def test_it_goes_on_after_it_was_unbound() -> None:
    bench = Bench()
    bench.bind(CONFIG)
    bench.reactions.unbind("b")
    await bench.set()
    bench.bind(CONFIG)
    assert bench.invoker.revisions == [1]


async def test_another_config_of_the_same_name_goes_on_from_the_same_cursor() -> None:
    bench = Bench()
    bench.bind(CONFIG)
    await bench.set(key="a")
    late = bench.invoker.take()
    bench.reactions.detach("w")
    bench.bind(b'{"durable":"d","key":"b"}', owner="w2", id="x")
    await bench.set(key="c")
    await bench.set(key="b")
    late.succeed()
    bench.answer_all()
    assert sorted(calls(bench)) == [(1, 1), (1, 2), (3, 1)]
    assert [status.binding.id for status in bench.reactions.snapshot()] == ["x"]


async def test_an_id_moves_from_a_plain_binding_to_a_durable_one_that_others_bind_too() -> None:
    bench = Bench()
    bench.bind(CONFIG, id="1", owner="w1")
    bench.bind(id="2", owner="w2", function="plain")
    await bench.set()
    bench.bind(CONFIG, id="2", owner="w2")
    assert [status.binding.id for status in bench.reactions.snapshot()] == ["2"]
    bench.reactions.detach("w1")
    bench.reactions.unbind("1")
    bench.invoker.open.pop(0).succeed()
    await bench.set()
    bench.answer_all()
    assert [c.event.revision for c in bench.invoker.made if c.function_id == "f"] == [1, 2]


async def test_a_function_that_nobody_runs_is_waited_for() -> None:
    bench = Bench()
    bench.bind(CONFIG)
    bench.invoker.at_once["f"] = MISSING
    await bench.set()
    for _ in range(20):
        bench.timers.advance(1)
    del bench.invoker.at_once["f"]
    bench.timers.advance(1)
    bench.invoker.take().fail(MISSING)
    bench.timers.advance(0.1)
    assert bench.invoker.made[-1].event.attempt == 2
    assert bench.status().counters.retried == 1


async def test_it_goes_on_as_soon_as_a_function_is_there_that_it_calls() -> None:
    bench = Bench()
    bench.bind(b'{"durable":"d","condition_function_id":"c"}')
    bench.invoker.at_once = {"c": MISSING}
    await bench.set()
    bench.reactions.registered("default", "f")
    bench.timers.run()
    assert len(bench.invoker.made) == 2
    bench.invoker.at_once = {"c": b"true", "f": MISSING}
    for place in (("elsewhere", "c"), ("default", "another")):
        bench.reactions.registered(*place)
    bench.timers.run()
    assert len(bench.invoker.made) == 2
    bench.reactions.registered("default", "c")
    bench.timers.run()
    assert [call.function_id for call in bench.invoker.made] == ["c", "c", "c", "f"]
    bench.timers.advance(1)
    assert len(bench.invoker.made) == 6
    bench.reactions.delete("d")
    bench.reactions.registered("default", "f")
    bench.timers.run()
    assert len(bench.invoker.made) == 6


async def test_changes_that_do_not_match_are_written_down_now_and_then(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(durables_module, "REVISIONS_BEHIND_MAX", 10)
    bench = Bench()
    bench.bind(b'{"durable":"d","key":"mine"}')
    cursors = set()
    for _ in range(25):
        await bench.set(key="other")
        bench.timers.advance(0.1)
        checkpoint = bench.ledger.checkpoint("d")
        assert checkpoint is not None
        cursors.add(checkpoint.cursor)
    assert cursors == {1, 11, 21}


async def test_pending_changes_that_are_no_longer_kept_are_lost_and_said_to_be(
    caplog: pytest.LogCaptureFixture,
) -> None:
    bench = Bench(history_bytes=2_000)
    bench.bind(CONFIG)
    await bench.set_many(["a", "b"])
    open_call(bench, 2).succeed()
    bench.reactions.stop()
    await bench.set_many(["c"] * 50)
    bench.ledger.save("d", Checkpoint(52, (Pending(1), Pending(99))))
    bench.start()
    bench.bind(CONFIG)
    assert bench.status().counters.lost == 2
    assert "binding d: 2 changes that it had not handled yet are no longer kept" in caplog.text
    bench.bind(b'{"durable":"new"}', id="new")
    assert bench.status("new").cursor == 52


async def test_letters_of_a_durable_binding_that_make_room_leave_the_ledger_too() -> None:
    bench = Bench()
    bench.bind(CONFIG)
    bench.invoker.at_once["f"] = BROKEN
    await bench.set(key="a")
    await bench.set(key="b")
    bench.timers.advance(0.1)
    bench.reactions.discard(["d@1"])
    assert [letter.id for letter in bench.ledger.dead_letters()] == ["d@2"]
