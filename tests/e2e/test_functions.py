"""Functions of one worker, called by another that runs another SDK."""

from __future__ import annotations

from typing import Any

import pytest

from e2e.sdks import NEWEST_NODE, NEWEST_PYTHON, Sdk
from e2e.servers import Server
from e2e.workers import ABSENT, CallError, Starter, Worker


def test_a_function_is_called_from_the_other_runtime(
    worker: Worker, other: Worker, scope: str
) -> None:
    worker.serve(f"{scope}::echo", "echo")

    answer = other.call(f"{scope}::echo", {"n": 1, "nul": None, "deep": [{"a": "ü"}]})

    got = answer["got"]
    assert got.pop("_caller_worker_id")
    assert got == {"n": 1, "nul": None, "deep": [{"a": "ü"}]}


def test_functions_of_the_other_runtime_are_called(
    worker: Worker, other: Worker, scope: str
) -> None:
    other.serve(f"{scope}::echo", "echo")

    assert worker.call(f"{scope}::echo", [1, "two", None]) == {"got": [1, "two", None]}


def test_a_worker_calls_its_own_function_and_calls_on_from_a_handler(
    worker: Worker, other: Worker, scope: str
) -> None:
    worker.serve(f"{scope}::relay", "relay")
    other.serve(f"{scope}::echo", "echo")
    request = {"function_id": f"{scope}::echo", "payload": ["x"]}

    assert worker.call(f"{scope}::relay", {"request": request}) == {"got": ["x"]}


def test_a_handler_that_returns_nothing_answers_nothing(
    worker: Worker, other: Worker, scope: str
) -> None:
    worker.serve(f"{scope}::quiet")

    answer = other.call(f"{scope}::quiet", {})

    assert answer == (ABSENT if other.sdk.runtime == "node" else None)


def test_a_call_without_payload_reaches_the_handler_as_null(
    worker: Worker, other: Worker, scope: str
) -> None:
    worker.serve(f"{scope}::quiet")

    other.ask("call", request={"function_id": f"{scope}::quiet"})

    assert worker.events_of(f"{scope}::quiet", 1) == [None]


def test_the_error_of_a_handler_reaches_the_caller(
    worker: Worker, other: Worker, scope: str
) -> None:
    worker.serve(f"{scope}::fail", "fail")

    with pytest.raises(CallError) as failed:
        other.call(f"{scope}::fail", {})

    assert (failed.value.code, failed.value.message) == ("invocation_failed", "kaboom")


def test_a_function_that_is_not_there_is_not_found_at_once(worker: Worker, scope: str) -> None:
    with pytest.raises(CallError, match=scope) as failed:
        worker.call(f"{scope}::nobody", {})

    assert failed.value.code == "function_not_found"


def test_a_withdrawn_function_is_not_found(worker: Worker, other: Worker, scope: str) -> None:
    worker.serve(f"{scope}::echo", "echo")
    worker.call(f"{scope}::echo", {})
    worker.ask("withdraw", function_id=f"{scope}::echo")

    with pytest.raises(CallError) as failed:
        worker.call(f"{scope}::echo", {})

    assert failed.value.code == "function_not_found"


def test_a_void_call_is_carried_out_and_answers_nothing(
    worker: Worker, other: Worker, scope: str
) -> None:
    worker.serve(f"{scope}::echo", "echo")

    answer = other.call(f"{scope}::echo", {"n": 1}, action={"type": "void"})

    assert answer in (None, ABSENT)
    assert worker.events_of(f"{scope}::echo", 1)[0]["n"] == 1


def test_an_enqueued_call_is_refused_as_there_are_no_queues(worker: Worker, scope: str) -> None:
    with pytest.raises(CallError) as failed:
        worker.call(f"{scope}::echo", {}, action={"type": "enqueue", "queue": "jobs"})

    assert failed.value.code == "enqueue_error"


def test_a_caller_gives_up_on_a_silent_handler_and_others_do_not_notice(
    worker: Worker, other: Worker, scope: str
) -> None:
    worker.serve(f"{scope}::hang", "hang")
    worker.serve(f"{scope}::echo", "echo")

    waiting = other.send(
        "call", request={"function_id": f"{scope}::hang", "payload": {}, "timeout_ms": 400}
    )
    worker.calls_of(f"{scope}::hang", 1)
    assert other.call(f"{scope}::echo", "meanwhile") == {"got": "meanwhile"}

    with pytest.raises(CallError) as failed:
        other.answer(waiting)
    assert failed.value.code == "TIMEOUT"


def test_the_caller_hears_when_the_executing_worker_is_killed(
    sdk: Sdk, server: Server, other: Worker, start_worker: Starter, scope: str
) -> None:
    victim = start_worker(sdk, server.address)
    victim.serve(f"{scope}::hang", "hang")
    waiting = other.send("call", request={"function_id": f"{scope}::hang", "payload": {}})
    victim.calls_of(f"{scope}::hang", 1)

    victim.kill()

    with pytest.raises(CallError) as failed:
        other.answer(waiting)
    assert failed.value.code == "invocation_stopped"
    with pytest.raises(CallError) as failed:
        other.call(f"{scope}::hang", {})
    assert failed.value.code == "function_not_found"


@pytest.mark.parametrize("caller", [NEWEST_PYTHON, NEWEST_NODE], ids=str)
def test_metadata_of_a_call_reaches_the_handler_beside_the_data(
    caller: Sdk, newest: dict[str, Worker], scope: str
) -> None:
    for runtime, worker in newest.items():
        worker.serve(f"{scope}::{runtime}")

        newest[caller.runtime].call(f"{scope}::{runtime}", "data", metadata={"tag": "x"})

        [call] = worker.calls_of(f"{scope}::{runtime}", 1)
        assert (call["data"], call["metadata"]) == ("data", {"tag": "x"})


def test_two_workers_of_one_name_both_serve(
    sdk: Sdk, server: Server, start_worker: Starter, worker: Worker, scope: str
) -> None:
    for n in (1, 2):
        twin = start_worker(sdk, server.address, worker_name="twins")
        twin.serve(f"{scope}::{n}", "echo")

    assert [worker.call(f"{scope}::{n}", n) for n in (1, 2)] == [{"got": 1}, {"got": 2}]


def test_the_first_worker_keeps_a_function_that_a_second_registers(
    worker: Worker, other: Worker, scope: str
) -> None:
    other.serve(f"{scope}::mine", "echo")

    worker.offer(f"{scope}::mine", "fail")

    assert worker.call(f"{scope}::mine", 1) == {"got": 1}


@pytest.mark.parametrize("function_id", ["state::get", "state::extra", "engine::workers::list"])
def test_a_worker_cannot_take_a_function_of_the_server(
    worker: Worker, function_id: str, scope: str
) -> None:
    worker.offer(function_id, "fail")

    worker.call("state::set", {"scope": scope, "key": "k", "value": 7})
    assert worker.call("state::get", {"scope": scope, "key": "k"}) == 7
    assert worker.call("engine::workers::list", {})["workers"]
    worker.ask("withdraw", function_id=function_id)
    assert worker.call("state::get", {"scope": scope, "key": "k"}) == 7


def test_a_hundred_calls_at_once_are_all_answered(
    worker: Worker, other: Worker, scope: str
) -> None:
    worker.serve(f"{scope}::echo", "echo")

    numbers = [
        other.send("call", request={"function_id": f"{scope}::echo", "payload": n})
        for n in range(100)
    ]

    answers: list[Any] = [other.answer(number)["result"] for number in numbers]
    assert answers == [{"got": n} for n in range(100)]
