"""What becomes of a dead letter that is sent again, when the log or the process ends before."""

from __future__ import annotations

from collections.abc import Callable

from durable_bench import Handler
from engine_bench import EngineBench

from iii_state.core.store import Store as AnyStore
from iii_state.engine.store_ledger import DEAD_LETTER
from iii_state.stores.memory import MemoryStore
from iii_state.testing.clocks import FakeClock

CONFIG = {"scope": "s", "durable": "d", "retry": {"max_attempts": 1}}


class SmallStore(MemoryStore):
    """A store that keeps one change, whoever needs more, and remembers what is needed."""

    def __init__(self) -> None:
        super().__init__(FakeClock(), history_bytes=0)

    def hold(self, after: Callable[[], int | None]) -> None:
        self.needed_after = after


async def begun(store: AnyStore | None = None) -> tuple[EngineBench, Handler]:
    """A process, the first one or one that finds a store, and a handler that binds."""
    bench = EngineBench(store or SmallStore())
    bench.engine.start()
    handler = Handler(bench.client("handler"))
    handler.client.bind(config=CONFIG)
    await bench.turn()
    return bench, handler


async def write(bench: EngineBench, *keys: str) -> None:
    for key in keys:
        bench.client().ask("state::set", {"scope": "s", "key": key, "value": 1})
        await bench.turn()


async def with_letter() -> tuple[EngineBench, Handler]:
    """A process with a letter whose change is no longer kept."""
    bench, handler = await begun()
    await write(bench, "a")
    assert handler.take() == [("a", 1)]
    handler.fail_all()
    await write(bench, "other")
    handler.take()
    handler.answer_all()
    await bench.pass_time(0.2)
    assert bench.store.oldest_revision >= 1
    return bench, handler


async def act(bench: EngineBench, **request: object) -> object:
    answer = bench.client().ask("state::dead_letters", request)
    await bench.turn()
    return answer


def listed(bench: EngineBench) -> list[tuple[str, int]]:
    letters, _ = bench.engine.reactions.dead_letters("d")
    return [(letter.id, letter.attempts) for letter in letters]


def kept(bench: EngineBench) -> list[str]:
    return list(bench.store.notes(DEAD_LETTER))


async def test_it_comes_again_after_a_crash_though_the_log_no_longer_has_it() -> None:
    bench, handler = await with_letter()
    assert await act(bench, action="redrive", all=True) == {"redriven": 1}
    assert (handler.take(), listed(bench), kept(bench)) == ([("a", 2)], [], ["d@1"])
    bench, handler = await begun(bench.store)
    assert (handler.take(), listed(bench), kept(bench)) == ([("a", 2)], [], ["d@1"])
    [status] = bench.engine.reactions.snapshot()
    await bench.engine.stop()
    assert (status.lost, status.counters.lost) == (None, 0)


async def test_it_is_forgotten_when_it_is_done_and_that_is_written_down() -> None:
    bench, handler = await with_letter()
    await act(bench, action="redrive", all=True)
    handler.take()
    handler.answer_all()
    await bench.turn()
    assert kept(bench) == ["d@1"]
    await bench.pass_time(0.2)
    assert kept(bench) == []
    bench, handler = await begun(bench.store)
    assert (handler.take(), listed(bench)) == ([], [])
    await bench.engine.stop()


async def test_it_is_a_letter_as_before_when_it_fails_again() -> None:
    bench, handler = await with_letter()
    await act(bench, action="redrive", all=True)
    handler.fail_all()
    await bench.pass_time(0.2)
    assert (listed(bench), kept(bench)) == ([("d@1", 2)], ["d@1"])
    bench, handler = await begun(bench.store)
    assert (handler.take(), listed(bench)) == ([], [("d@1", 2)])
    assert await act(bench, action="discard", all=True) == {"discarded": 1}
    assert kept(bench) == []
    await bench.engine.stop()


async def test_it_is_a_letter_as_before_when_its_trigger_is_deleted() -> None:
    bench, handler = await with_letter()
    await act(bench, action="redrive", all=True)
    assert handler.take() == [("a", 2)]
    handler.client.ask("state::triggers", {"action": "delete", "name": "d"})
    assert (listed(bench), kept(bench)) == ([("d@1", 2)], ["d@1"])
    handler.client.bind(config=CONFIG)
    assert await act(bench, action="redrive", all=True) == {"redriven": 1}
    assert handler.take() == [("a", 3)]
    await bench.engine.stop()


async def test_the_log_is_not_held_for_it() -> None:
    bench, _ = await with_letter()
    await act(bench, action="redrive", all=True)
    await bench.engine.stop()
    assert isinstance(bench.store, SmallStore)
    assert bench.store.needed_after() == 2


async def test_what_is_discarded_at_once_when_it_has_failed_again_does_not_come_back() -> None:
    bench, handler = await with_letter()
    await act(bench, action="redrive", all=True)
    handler.fail_all()
    assert await act(bench, action="discard", all=True) == {"discarded": 1}
    bench, handler = await begun(bench.store)
    assert (handler.take(), listed(bench)) == ([], [])
    [status] = bench.engine.reactions.snapshot()
    await bench.engine.stop()
    assert status.counters.lost == 0
