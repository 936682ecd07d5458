"""From a committed change to the call of the bound function, and back."""

from __future__ import annotations

import pytest
from reaction_bench import BROKEN, MISSING, Bench, Event

from iii_state.engine.followers import LastError
from iii_state.engine.invocations import Failure


async def test_a_matching_change_calls_the_function_with_the_event_and_the_metadata() -> None:
    bench = Bench()
    bench.bind(b'{"scope":"s"}', metadata=b'{"tag":"x"}')
    await bench.set("other")
    revision = await bench.set("s", "k", b'{"n": 1}')
    [call] = bench.invoker.open
    assert (call.namespace, call.function_id, call.metadata) == ("default", "f", b'{"tag":"x"}')
    assert call.event == Event("s", "k", revision, 1, f"1700000000000-{revision}", None, {"n": 1})
    call.succeed()
    assert bench.status().counters.delivered == 1
    assert bench.status().lag == 0


async def test_events_of_one_key_are_handled_one_after_another_in_order() -> None:
    bench = Bench()
    bench.bind()
    for _ in range(5):
        await bench.set()
    for expected in range(1, 6):
        [call] = bench.invoker.open
        assert call.event.revision == expected
        bench.invoker.take().succeed()
        bench.timers.run()
    assert bench.status().counters.delivered == 5


async def test_an_unanswered_event_holds_up_only_its_own_key_and_binding() -> None:
    bench = Bench()
    bench.bind(id="slow", function="slow")
    bench.bind(id="quick", function="quick")
    bench.invoker.at_once["quick"] = b"null"
    await bench.set(key="stuck")
    await bench.set(key="stuck")
    await bench.set(key="free")
    bench.timers.run()
    assert [(c.function_id, c.event.key) for c in bench.invoker.open] == [
        ("slow", "stuck"),
        ("slow", "free"),
    ]
    assert bench.status("quick").counters.delivered == 3


async def test_each_binding_of_a_change_is_called_in_the_order_of_binding() -> None:
    bench = Bench()
    for id, config in (("1", b'{"key":"k"}'), ("2", b"{}"), ("3", b'{"scope":"s","key":"k"}')):
        bench.bind(config, id=id, function=id)
    await bench.set()
    assert [call.function_id for call in bench.invoker.open] == ["1", "2", "3"]


async def test_a_failure_is_counted_logged_and_the_next_event_goes_on(
    caplog: pytest.LogCaptureFixture,
) -> None:
    bench = Bench()
    bench.bind()
    await bench.set()
    await bench.set()
    bench.invoker.take().fail()
    bench.timers.run()
    assert [call.event.revision for call in bench.invoker.open] == [2]
    status = bench.status()
    assert status.counters.failed == 1
    assert status.last_error == LastError("invocation_failed", "no", 1)
    assert "binding b: f failed on revision 1: invocation_failed: no" in caplog.text


async def test_a_function_that_keeps_failing_is_logged_once_in_a_while(
    caplog: pytest.LogCaptureFixture,
) -> None:
    bench = Bench()
    bench.bind()
    bench.invoker.at_once["f"] = MISSING
    for _ in range(5):
        await bench.set()
        bench.timers.run()
    assert len(caplog.records) == 1
    bench.timers.advance(10)
    await bench.set()
    assert "(4 failures since the last such line)" in caplog.messages[1]
    bench.invoker.at_once["f"] = BROKEN
    bench.timers.run()
    await bench.set()
    assert len(caplog.records) == 3
    assert bench.status().counters.failed == 7


@pytest.mark.parametrize("result", [b"true", b"null", b"0", b'""', b"{}", b'"false"', None])
async def test_a_condition_that_does_not_return_false_lets_the_event_pass(
    result: bytes | None,
) -> None:
    bench = Bench()
    bench.bind(b'{"condition_function_id":"c"}', metadata=b"{}")
    await bench.set()
    condition = bench.invoker.take()
    assert (condition.function_id, condition.metadata) == ("c", None)
    condition.succeed(result)
    handler = bench.invoker.take()
    assert (handler.function_id, handler.metadata) == ("f", b"{}")
    assert handler.event == condition.event


async def test_a_condition_that_returns_false_skips_the_event() -> None:
    bench = Bench()
    bench.bind(b'{"condition_function_id":"c"}')
    bench.invoker.at_once["c"] = b"false"
    await bench.set()
    bench.timers.run()
    assert [call.function_id for call in bench.invoker.made] == ["c"]
    counters = bench.status().counters
    assert (counters.skipped, counters.delivered, counters.failed) == (1, 0, 0)


async def test_a_condition_that_fails_skips_the_event_and_counts_as_a_failure() -> None:
    bench = Bench()
    bench.bind(b'{"condition_function_id":"c"}')
    bench.invoker.at_once["c"] = MISSING
    await bench.set()
    await bench.set()
    bench.timers.run()
    assert [call.function_id for call in bench.invoker.made] == ["c", "c"]
    assert bench.status().counters.failed == 2


async def test_a_condition_without_a_result_is_warned_of_once(
    caplog: pytest.LogCaptureFixture,
) -> None:
    bench = Bench()
    bench.bind(b'{"condition_function_id":"c"}')
    bench.invoker.at_once |= {"c": None, "f": b"null"}
    for _ in range(3):
        await bench.set()
        bench.timers.run()
    assert [record.levelname for record in caplog.records] == ["WARNING"]
    assert "the condition c returns nothing" in caplog.text


async def test_an_event_too_large_for_the_client_is_sent_without_its_values() -> None:
    bench = Bench()
    bench.bind(b'{"condition_function_id":"c"}')
    bench.invoker.bytes_max |= {"c": 1000, "f": 1000}
    revision = await bench.set(value=b'"' + b"x" * 1000 + b'"')
    refused, condition = bench.invoker.made
    assert not refused.event.values_omitted
    assert (condition.event.values_omitted, condition.event.new_value) == (True, None)
    bench.invoker.take().succeed()
    handler = bench.invoker.take()
    assert (handler.event.values_omitted, handler.event.revision) == (True, revision)
    handler.succeed()
    assert bench.status().counters.delivered == 1


async def test_an_event_too_large_even_without_values_has_failed() -> None:
    bench = Bench()
    bench.bind()
    bench.invoker.bytes_max["f"] = 10
    await bench.set()
    assert len(bench.invoker.made) == 2
    assert bench.status().counters.failed == 1


async def test_a_handler_that_itself_fails_as_too_large_is_not_called_twice() -> None:
    bench = Bench()
    bench.bind()
    await bench.set()
    bench.invoker.take().fail(Failure("payload_too_large", "its own call was refused"))
    bench.timers.run()
    assert len(bench.invoker.made) == 1
    assert bench.status().counters.failed == 1


async def test_an_unbound_id_hears_nothing_more() -> None:
    bench = Bench()
    bench.bind(id="b")
    await bench.set()
    await bench.set()
    bench.reactions.unbind("b")
    bench.reactions.unbind("never bound")
    await bench.set()
    bench.answer_all()
    assert bench.invoker.revisions == [1]
    assert bench.reactions.snapshot() == []


async def test_members_that_mean_nothing_are_shown_and_logged(
    caplog: pytest.LogCaptureFixture,
) -> None:
    bench = Bench()
    bench.bind(b'{"scopes":"x"}')
    assert bench.status().binding.config.unknown == ("scopes",)
    assert "the config members 'scopes' (did you mean 'scope'?) mean nothing here" in caplog.text


async def test_after_a_stop_nothing_more_starts_but_what_runs_may_end() -> None:
    bench = Bench()
    bench.bind()
    await bench.set()
    await bench.set()
    bench.reactions.stop()
    bench.answer_all()
    await bench.set(key="other")
    bench.timers.run()
    assert bench.invoker.revisions == [1]
    assert bench.status().counters.delivered == 1
