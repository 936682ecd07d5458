"""Functions that fail, hang or are not there: retries, time-outs, dead letters, pauses, chains."""

from __future__ import annotations

import pytest
from reaction_bench import BROKEN, MISSING, SMALL, Bench

from iii_state.core.dead_letters import DeadLetters, Fault
from iii_state.engine.invocations import Failure
from iii_state.errors import NotFound

RETRY = b'{"retry":{"max_attempts":3,"initial_ms":100,"max_ms":1000}}'


def attempts(bench: Bench) -> list[tuple[int, int]]:
    return [(call.event.revision, call.event.attempt) for call in bench.invoker.made]


def last_code(bench: Bench) -> str:
    error = bench.status().last_error
    assert error is not None
    return error.code


async def test_a_failed_event_is_tried_again_later_with_the_next_attempt() -> None:
    bench = Bench()
    bench.bind(RETRY)
    await bench.set()
    await bench.set()
    for seconds in (0.1, 0.2):
        bench.invoker.take().fail()
        bench.timers.run()
        bench.timers.advance(seconds - 0.01)
        assert bench.invoker.open == []
        assert (bench.status().sleeping, bench.status().waiting) == (1, 2)
        bench.timers.advance(0.01)
    bench.answer_all()
    assert attempts(bench) == [(1, 1), (1, 2), (1, 3), (2, 1)]
    assert bench.status().counters.retried == 2
    assert (bench.status().lag, bench.status().dead_letters) == (0, 0)


async def test_a_key_that_is_retried_holds_up_no_other() -> None:
    bench = Bench()
    bench.bind(RETRY)
    await bench.set(key="a")
    bench.invoker.take().fail()
    await bench.set(key="a")
    await bench.set(key="b")
    bench.timers.run()
    assert attempts(bench) == [(1, 1), (3, 1)]
    assert bench.status().condition == "live"


async def test_what_fails_the_last_time_is_a_dead_letter_with_its_error_and_the_key_goes_on() -> (
    None
):
    bench = Bench()
    bench.bind(RETRY)
    revision = await bench.set(value=b'"x"')
    await bench.set()
    for _ in range(3):
        bench.invoker.take().fail(Failure("invocation_failed", "no", "at line 1"))
        bench.timers.run()
        bench.clock.advance(300)
        bench.timers.advance(0.3)
    [letter], after = bench.reactions.dead_letters("b")
    assert after is None
    assert (letter.id, letter.trigger, letter.attempts) == (f"b@{revision}", "b", 3)
    assert (letter.change.key, letter.change.after) == ("k", b'"x"')
    assert letter.fault == Fault("invocation_failed", "no", "at line 1")
    assert letter.parked_at_ms == 1_700_000_000_600
    assert [call.event.revision for call in bench.invoker.open] == [2]
    assert (bench.status().dead_letters, bench.status().cursor) == (1, 1)


async def test_a_plain_binding_without_retry_parks_at_the_first_failure() -> None:
    bench = Bench()
    bench.bind()
    bench.invoker.at_once["f"] = MISSING
    await bench.set()
    [letter], _ = bench.reactions.dead_letters()
    assert (letter.attempts, letter.fault.code) == (1, "function_not_found")


async def test_a_function_that_does_not_answer_in_time_has_failed_and_its_answer_is_ignored() -> (
    None
):
    bench = Bench()
    bench.bind(b'{"timeout_ms":500,"retry":{"max_attempts":2,"initial_ms":100,"max_ms":100}}')
    await bench.set()
    await bench.set(key="other")
    late = bench.invoker.take()
    bench.invoker.take().succeed()
    bench.timers.advance(0.5)
    assert last_code(bench) == "TIMEOUT"
    bench.timers.advance(0.1)
    assert attempts(bench)[2:] == [(1, 2)]
    late.fail()
    assert last_code(bench) == "TIMEOUT"
    late.succeed()
    assert bench.status().counters.delivered == 1
    bench.timers.advance(0.5)
    [letter], _ = bench.reactions.dead_letters()
    assert (letter.attempts, letter.fault.code) == (2, "TIMEOUT")
    assert "Raise timeout_ms" in letter.fault.message


async def test_a_handler_is_not_called_when_its_condition_answers_too_late() -> None:
    bench = Bench()
    bench.bind(b'{"timeout_ms":500,"condition_function_id":"c"}')
    await bench.set()
    condition = bench.invoker.take()
    bench.timers.advance(0.5)
    condition.succeed(b"true")
    assert [call.function_id for call in bench.invoker.made] == ["c"]
    assert bench.status().dead_letters == 1


async def test_what_runs_elsewhere_times_out_while_the_binder_is_away() -> None:
    bench = Bench()
    bench.bind(b'{"timeout_ms":500,"retry":{"max_attempts":2,"initial_ms":100,"max_ms":100}}')
    await bench.set()
    bench.reactions.detach("w")
    bench.timers.advance(0.5)
    bench.timers.advance(0.1)
    assert (bench.status().in_flight, bench.status().sleeping, bench.status().waiting) == (0, 0, 1)
    bench.bind(
        b'{"timeout_ms":500,"retry":{"max_attempts":2,"initial_ms":100,"max_ms":100}}', owner="w2"
    )
    assert attempts(bench) == [(1, 1), (1, 2)]


async def test_without_a_time_limit_nobody_sets_a_timer(monkeypatch: pytest.MonkeyPatch) -> None:
    bench = Bench()
    bench.bind()
    monkeypatch.setattr(bench.timers, "call_later", None)
    await bench.set()
    bench.invoker.take().fail()
    bench.timers.run()
    assert bench.status().counters.failed == 1


async def test_dead_letters_are_redriven_with_the_next_attempt() -> None:
    bench = Bench()
    bench.bind(RETRY)
    bench.bind(id="other", function="other")
    bench.invoker.at_once |= {"f": BROKEN, "other": BROKEN}
    await bench.set()
    await bench.set(key="k2")
    bench.timers.advance(0.1)
    bench.timers.advance(0.2)
    assert len(bench.reactions.dead_letters()[0]) == 4
    del bench.invoker.at_once["f"]
    assert bench.reactions.redrive(["b@1", "b@99"]) == 1
    assert bench.reactions.redrive(name="nobody") == 0
    bench.answer_all()
    assert attempts(bench)[-1] == (1, 4)
    assert bench.status().counters.delivered == 1
    assert bench.reactions.redrive(name="b") == 1
    bench.answer_all()
    assert bench.status().dead_letters == 0
    assert bench.status("other").dead_letters == 2
    assert bench.status().counters.redriven == 2


async def test_letters_of_a_binding_that_is_gone_stay_until_they_are_discarded() -> None:
    bench = Bench()
    bench.bind()
    for _ in range(3):
        await bench.set()
        bench.invoker.take().fail()
        bench.timers.run()
    bench.reactions.unbind("b")
    assert bench.reactions.redrive() == 0
    [first], after = bench.reactions.dead_letters(limit=1)
    assert after is not None
    rest, end = bench.reactions.dead_letters(after=after)
    assert ([first.id, *(each.id for each in rest)], end) == (["b@1", "b@2", "b@3"], None)
    assert bench.reactions.discard(["b@2"]) == 1
    assert bench.reactions.discard() == 2
    assert bench.reactions.dead_letters() == ([], None)


async def test_letters_make_room_for_newer_ones_and_the_log_says_so_now_and_then(
    caplog: pytest.LogCaptureFixture,
) -> None:
    bench = Bench(letters=DeadLetters(letters_max=2))
    bench.bind()
    bench.invoker.at_once["f"] = BROKEN
    for _ in range(5):
        await bench.set()
        bench.timers.run()
    assert [letter.id for letter in bench.reactions.dead_letters()[0]] == ["b@4", "b@5"]
    assert len([line for line in caplog.messages if "make room" in line]) == 1


async def test_a_paused_binding_starts_nothing_until_it_is_resumed() -> None:
    bench = Bench(limits=SMALL)
    bench.bind()
    await bench.set(key="a")
    bench.reactions.pause("b")
    bench.invoker.take().succeed()
    await bench.set_many(["a", "b"] * 10)
    bench.timers.run()
    status = bench.status()
    assert (status.condition, status.paused, status.in_flight) == ("paused", True, 0)
    assert status.waiting <= SMALL.read_ahead_max
    bench.reactions.detach("w")
    bench.bind(owner="w2")
    assert bench.invoker.revisions == [1]
    bench.reactions.resume("b")
    bench.answer_all()
    assert sorted(bench.invoker.revisions) == list(range(1, 22))
    assert bench.status().condition == "live"


async def test_only_a_binding_that_is_there_can_be_paused() -> None:
    with pytest.raises(NotFound, match="No state trigger with id or durable name 'x'"):
        Bench().reactions.pause("x")


async def test_newer_events_of_a_key_stand_for_older_ones_within_the_delay() -> None:
    bench = Bench()
    bench.bind(b'{"debounce_ms":100}')
    await bench.set(key="a", value=b"1")
    await bench.set(key="b", value=b"2")
    bench.timers.advance(0.05)
    await bench.set(key="a", value=b"3")
    bench.timers.advance(0.05)
    bench.timers.advance(0.05)
    bench.answer_all()
    events = [(call.event.key, call.event.new_value) for call in bench.invoker.made]
    assert events == [("b", 2), ("a", 3)]
    assert (bench.status().counters.coalesced, bench.status().lag) == (1, 0)


async def test_a_binding_may_bound_its_calls() -> None:
    bench = Bench()
    bench.bind(b'{"max_in_flight":2}')
    await bench.set_many(["a", "b", "c"])
    assert bench.status().in_flight == 2


async def test_a_chain_of_writes_is_cut_at_its_greatest_depth_unless_it_is_redriven() -> None:
    bench = Bench()
    bench.bind(RETRY)
    await bench.set(depth=15)
    await bench.set(depth=16)
    await bench.set()
    bench.answer_all()
    assert bench.invoker.revisions == [1, 3]
    [letter], _ = bench.reactions.dead_letters()
    assert (letter.id, letter.attempts, letter.fault.code) == ("b@2", 0, "CHAIN_TOO_DEEP")
    assert "f is not called" in letter.fault.message
    bench.reactions.redrive()
    bench.answer_all()
    assert attempts(bench)[-1] == (2, 1)


async def test_a_binding_that_was_dropped_wakes_no_more() -> None:
    bench = Bench()
    bench.bind(RETRY)
    await bench.set()
    bench.invoker.take().fail()
    bench.timers.run()
    bench.reactions.unbind("b")
    bench.timers.advance(10)
    assert attempts(bench) == [(1, 1)]
