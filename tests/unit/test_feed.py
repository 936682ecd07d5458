"""Bindings that are behind, full, lost, switched off, or very many."""

from __future__ import annotations

from collections.abc import Sequence

import pytest
from reaction_bench import SMALL, Bench, ScriptedInvoker

from iii_state.core.changes import Change
from iii_state.core.commands import Set
from iii_state.engine import feed as feed_module
from iii_state.engine.invocations import Reply
from iii_state.engine.reactions import Reactions
from iii_state.errors import StorageError


async def test_a_binding_that_cannot_keep_up_reads_on_from_the_store() -> None:
    bench = Bench(limits=SMALL)
    bench.bind()
    keys = [f"k{number % 3}" for number in range(500)]
    for start in range(0, 500, 50):
        await bench.set_many(keys[start : start + 50])
        status = bench.status()
        assert status.waiting <= SMALL.read_ahead_max
        assert status.in_flight <= SMALL.in_flight_max
    assert status.condition == "full"
    assert status.lag == 500
    bench.answer_all()
    assert sorted(bench.invoker.revisions) == list(range(1, 501))
    for key in set(keys):
        handled = [c.event.revision for c in bench.invoker.made if c.event.key == key]
        assert handled == sorted(handled)
    assert (bench.status().condition, bench.status().lag) == ("live", 0)


async def test_a_binding_may_start_at_an_earlier_revision() -> None:
    bench = Bench()
    await bench.set_many(["a", "b", "c", "d"])
    bench.bind(from_revision=2)
    await bench.set(key="e")
    bench.answer_all()
    assert bench.invoker.revisions == [3, 4, 5]


async def test_a_binding_does_not_hear_of_writes_from_before_its_frame() -> None:
    bench = Bench()
    outcome = bench.store.execute(Set("s", "a", b"1"))
    assert outcome.change is not None
    bench.bind(from_revision=outcome.change.revision)
    bench.store.execute(Set("s", "b", b"1"))
    bench.reactions.committed(await bench.store.commit())
    assert bench.invoker.revisions == [2]


async def test_bindings_that_are_behind_each_read_from_their_own_place() -> None:
    bench = Bench()
    await bench.set_many(["k"] * 700)
    bench.bind(id="early", function="early", from_revision=10, turn=False)
    bench.bind(id="twin", function="twin", from_revision=10, turn=False)
    bench.bind(id="gone", function="gone", from_revision=20, turn=False)
    bench.reactions.unbind("gone")
    bench.bind(id="late", function="late", from_revision=690)
    bench.answer_all()
    for function, first in (("early", 11), ("twin", 11), ("late", 691)):
        handled = [c.event.revision for c in bench.invoker.made if c.function_id == function]
        assert handled == list(range(first, 701))
    assert {status.condition for status in bench.reactions.snapshot()} == {"live"}
    assert "gone" not in {call.function_id for call in bench.invoker.made}


async def test_changes_no_longer_kept_are_reported_as_lost_and_the_binding_moves_on(
    caplog: pytest.LogCaptureFixture,
) -> None:
    bench = Bench(history_bytes=3_500)
    for id in "abcdef":
        bench.bind(id=id)
    bench.reactions.detach("w")
    for _ in range(50):
        await bench.set()
    oldest = bench.store.oldest_revision
    assert oldest > 0
    for id in "abcdef":
        bench.bind(id=id, owner="w2", turn=False)
    bench.answer_all()
    status = bench.status("a")
    assert (status.lost, status.counters.lost) == ((1, oldest), oldest)
    assert status.counters.delivered == 50 - oldest
    assert (status.condition, status.lag) == ("live", 0)
    [message] = caplog.messages
    assert message.startswith(
        f"6 bindings lost the changes 1 to {oldest}, which are no longer kept"
    )
    assert "a, b, c, d, e, ..." in message


async def test_changes_made_while_triggers_are_off_are_never_delivered() -> None:
    bench = Bench()
    bench.bind()
    await bench.set()
    bench.reactions.enabled = False
    await bench.set()
    bench.bind(id="late", function="late")
    assert bench.status().lag == 2
    bench.reactions.enabled = True
    assert bench.reactions.enabled
    await bench.set()
    bench.answer_all()
    calls = [(call.function_id, call.event.revision) for call in bench.invoker.made]
    assert calls == [("f", 1), ("late", 3), ("f", 3)]
    assert bench.status().lag == 0


async def test_what_was_not_read_when_triggers_are_turned_off_is_dropped() -> None:
    bench = Bench(limits=SMALL)
    bench.bind(id="full", function="full")
    bench.bind(id="away", function="away", owner="a")
    bench.reactions.detach("a")
    await bench.set_many(["k"] * 100)
    bench.reactions.enabled = False
    bench.reactions.enabled = True
    assert bench.status("away").cursor == 100
    bench.bind(id="away", function="away", owner="a")
    bench.answer_all()
    await bench.set()
    bench.answer_all()
    handled = [c.event.revision for c in bench.invoker.made if c.function_id == "full"]
    assert handled == [1, *range(2, 2 + SMALL.read_ahead_max), 101]
    assert [c.event.revision for c in bench.invoker.made if c.function_id == "away"] == [101]


async def test_a_binding_behind_when_triggers_are_turned_off_goes_on_with_what_is_new() -> None:
    bench = Bench()
    await bench.set_many(["k"] * 300)
    bench.bind(from_revision=0, turn=False)
    bench.timers.turn()
    assert bench.status().condition == "behind"
    bench.reactions.enabled = False
    bench.answer_all()
    assert bench.invoker.revisions == list(range(1, 257))
    assert (bench.status().condition, bench.status().lag) == ("live", 0)


async def test_a_store_that_cannot_be_read_is_read_again_later(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def unreadable(*_: object) -> list[Change]:
        raise StorageError("the disk does not answer")

    bench = Bench()
    await bench.set()
    with monkeypatch.context() as broken:
        broken.setattr(bench.store, "changes", unreadable)
        bench.bind(from_revision=0)
        bench.bind(id="live", function="live")
        await bench.set()
        bench.timers.run()
        assert [call.function_id for call in bench.invoker.made] == ["live"]
    bench.timers.advance(1)
    bench.answer_all()
    assert [c.event.revision for c in bench.invoker.made if c.function_id == "f"] == [1, 2]
    assert caplog.messages == [
        "changes cannot be read for the bindings that are behind: the disk does not answer"
    ]


async def test_a_place_that_cannot_be_read_holds_up_no_other_place(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    bench = Bench()
    await bench.set_many(["k"] * 300)
    readable = bench.store.changes

    def damaged(after: int, limit: int, bytes_max: int) -> Sequence[Change]:
        if after < 100:
            raise StorageError("these cannot be read")
        return readable(after, limit, bytes_max)

    monkeypatch.setattr(bench.store, "changes", damaged)
    bench.bind(id="early", function="early", from_revision=0)
    bench.bind(id="late", function="late", from_revision=298)
    bench.timers.advance(1)
    bench.timers.advance(1)
    bench.answer_all()
    assert [call.event.revision for call in bench.invoker.made] == [299, 300]
    assert (bench.status("early").condition, bench.status("late").condition) == ("behind", "live")


async def test_very_many_matches_are_spread_over_turns(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(feed_module, "MATCHES_PER_TURN_MAX", 10)
    bench = Bench()
    for number in range(10):
        bench.bind(id=f"{number}")
    await bench.set_many(["a", "b", "c"])
    assert len(bench.invoker.made) == 10
    await bench.set(key="d")
    for turn in (2, 3, 4):
        bench.timers.turn()
        assert len(bench.invoker.made) == 10 * turn
    bench.answer_all()
    assert bench.invoker.revisions == [r for r in (1, 2, 3, 4) for _ in range(10)]
    assert {status.condition for status in bench.reactions.snapshot()} == {"live"}


async def test_a_commit_without_changes_is_nothing() -> None:
    bench = Bench()
    bench.bind()
    bench.reactions.committed([])
    assert bench.status().lag == 0


class UnbindingInvoker(ScriptedInvoker):
    """Unbinds `second` whenever it makes a call."""

    reactions: Reactions

    def invoke(
        self,
        namespace: str,
        function_id: str,
        data: bytes,
        reply: Reply,
        *,
        metadata: bytes | None = None,
        depth: int = 0,
        is_shared: bool = False,
    ) -> None:
        super().invoke(namespace, function_id, data, reply, metadata=metadata)
        self.reactions.unbind("second")


async def test_a_binding_that_is_dropped_while_its_change_is_told_hears_no_more() -> None:
    bench = Bench()
    invoker = UnbindingInvoker()
    bench.reactions = invoker.reactions = Reactions(bench.store, invoker, bench.timers)
    bench.bind(id="first", function="first")
    bench.bind(id="second", function="second")
    await bench.set()
    assert [call.function_id for call in invoker.made] == ["first"]


async def test_a_binding_that_was_live_has_lost_nothing_of_what_was_trimmed_before() -> None:
    bench = Bench(history_bytes=2_000)
    bench.bind(b'{"key":"mine"}')
    await bench.set_many(["other"] * 50)
    bench.reactions.detach("w")
    await bench.set(key="mine")
    assert bench.store.oldest_revision > 0
    bench.bind(b'{"key":"mine"}', owner="w2")
    bench.answer_all()
    assert bench.invoker.revisions == [51]
    assert bench.status().lost is None


async def test_a_change_is_not_delivered_before_its_commit_is_announced() -> None:
    bench = Bench()
    await bench.set_many(["a", "b"])
    bench.store.execute(Set("s", "c", b"1"))
    unannounced = await bench.store.commit()
    bench.bind(from_revision=0)
    assert bench.invoker.revisions == [1, 2]
    bench.reactions.committed(unannounced)
    assert bench.invoker.revisions == [1, 2, 3]
