"""Writes on conditions, several at once, and keys that expire; as a worker sees them."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any

import pytest
from engine_bench import Client, EngineBench, running_engine

KEY = {"scope": "s", "key": "k"}
OP = {"type": "set", "path": "a", "value": 2}


@pytest.fixture
async def bench() -> AsyncIterator[EngineBench]:
    async with running_engine() as bench:
        yield bench


@pytest.fixture
def client(bench: EngineBench) -> Client:
    return bench.client()


def ask(client: Client, name: str, **members: Any) -> Any:
    return client.ask(f"state::{name}", {**KEY, **members})


def failure(client: Client, name: str, **members: Any) -> dict[str, Any]:
    error: dict[str, Any] = client.answer_to(client.call(f"state::{name}", {**KEY, **members}))[
        "error"
    ]
    return error


def events_of(client: Client) -> list[dict[str, Any]]:
    return [message["data"] for message in client.got("invokefunction")]


def test_the_six_answer_with_the_revision_only_when_asked(client: Client) -> None:
    assert ask(client, "set", value={"a": 1}) == {"old_value": None, "new_value": {"a": 1}}
    assert ask(client, "set", value={"a": 1}, with_revision=True)["revision"] == 2
    assert ask(client, "update", ops=[OP], with_revision=True)["revision"] == 3
    assert ask(client, "delete", with_revision=True) == {"old_value": {"a": 2}, "revision": 4}
    assert ask(client, "delete", with_revision=True) == {"revision": 5}


def test_a_get_with_revision_tells_all_about_the_entry(bench: EngineBench, client: Client) -> None:
    made_at = bench.clock.now_ms
    assert ask(client, "get", with_revision=True) == {"revision": 0}
    ask(client, "set", value=None)

    assert ask(client, "get", with_revision=True) == {
        "value": None,
        "revision": 1,
        "created_at_ms": made_at,
        "updated_at_ms": made_at,
    }


@pytest.mark.parametrize(
    ("name", "members"),
    [
        ("set", {"value": 1, "if_revision": -1}),
        ("delete", {"if_revision": -1}),
        ("update", {"ops": [OP], "if_revision": -1}),
        ("create", {"value": 1, "if_revision": -1}),
        ("compare-and-set", {"value": 1, "if_revision": -1}),
        (
            "transact",
            {"guards": [{**KEY, "revision": -1}], "writes": [{"op": "delete", **KEY}]},
        ),
    ],
)
def test_a_revision_below_zero_is_a_wrong_request(client: Client, name: str, members: Any) -> None:
    error = failure(client, name, **members)

    assert error["code"] == "deserialization_error"
    assert ">= 0" in error["message"]
    assert "revision" in error["message"]
    assert ask(client, "get", with_revision=True) == {"revision": 0}


@pytest.mark.parametrize("ttl_ms", [0, -1, (1 << 48) + 1, 10**20, 10**3000])
def test_a_time_to_live_out_of_bounds_is_told_with_the_bounds(client: Client, ttl_ms: int) -> None:
    error = failure(client, "set", value=1, ttl_ms=ttl_ms)

    assert error["code"] == "deserialization_error"
    assert "a positive number of milliseconds, at most 281474976710656" in error["message"]
    assert len(error["message"]) < 400


def test_the_longest_time_to_live_may_be_asked_for(client: Client) -> None:
    assert ask(client, "set", value=1, ttl_ms=1 << 48)["new_value"] == 1


def test_an_operation_that_is_none_is_told_with_those_there_are(client: Client) -> None:
    writes = [{"op": "delete", **KEY}, {"op": "put", **KEY}]

    error = failure(client, "transact", writes=writes)

    assert "`writes[1].op` is 'put', expected one of delete, set, update" in error["message"]


@pytest.mark.parametrize(
    ("name", "members"),
    [
        ("transact", {"writes": [{"op": "set", "scope": "s", "key": "k" * 1000}]}),
        ("transact", {"writes": [{"op": "update", "scope": "s", "key": "k" * 1000}]}),
        (
            "transact",
            {"writes": [{"op": "delete", **KEY}], "guards": [{"scope": "s", "key": "k" * 1000}]},
        ),
        (
            "update",
            {"key": "k" * 1000, "ops": [{"type": "merge", "value": 1}], "strict": True},
        ),
        ("no-such-function" * 1000, {}),
    ],
)
def test_names_in_errors_are_cut(client: Client, name: str, members: Any) -> None:
    error = failure(client, name, **members)

    assert "..." in error["message"]
    assert len(error["message"]) < 600


@pytest.mark.parametrize(
    ("name", "members"),
    [("set", {"value": 1}), ("delete", {}), ("update", {"ops": [OP]})],
)
def test_if_revision_guards_every_write(client: Client, name: str, members: Any) -> None:
    ask(client, "set", value={"a": 1})

    error = failure(client, name, if_revision=7, **members)
    ask(client, name, if_revision=1, **members)

    assert (error["code"], error["details"]) == ("CONFLICT", {"revision": 1})
    assert failure(client, name, if_revision=1, **members)["code"] == "CONFLICT"


def test_if_revision_zero_means_absent(client: Client) -> None:
    assert ask(client, "set", value=1, if_revision=0)["new_value"] == 1
    assert failure(client, "set", value=2, if_revision=0)["code"] == "CONFLICT"


def test_compare_and_set_compares_as_json_and_takes_null_for_absent(client: Client) -> None:
    assert ask(client, "compare-and-set", value={"a": 1}) == {"swapped": True, "revision": 1}
    assert ask(client, "compare-and-set", expected={"a": 1.0}, value=2)["swapped"]
    assert ask(client, "compare-and-set", expected=3, value=4) == {
        "swapped": False,
        "current": 2,
        "revision": 2,
    }
    assert ask(client, "compare-and-set", if_revision=2, value=None)["revision"] == 3
    assert ask(client, "compare-and-set", expected=None, value=5)["swapped"]
    assert failure(client, "compare-and-set", expected=1, if_revision=1, value=1)["code"]
    assert ask(client, "compare-and-set", if_revision=9, value=1)["swapped"] is False


def test_create_takes_only_an_absent_key(client: Client) -> None:
    assert ask(client, "create", value=1) == {"created": True, "revision": 1}
    assert ask(client, "create", value=2) == {"created": False, "current": 1, "revision": 1}
    assert failure(client, "create", value=2, if_revision=3)["code"] == "deserialization_error"


def test_a_transaction_is_all_or_nothing(client: Client) -> None:
    writes = [
        {"op": "set", "scope": "s", "key": "a", "value": 1},
        {"op": "update", "scope": "t", "key": "b", "ops": [OP]},
        {"op": "delete", "scope": "s", "key": "a"},
    ]
    guards = [{"scope": "s", "key": "k", "absent": True}]

    done = client.ask("state::transact", {"guards": guards, "writes": writes})
    ask(client, "set", value=1)
    failed = client.ask("state::transact", {"guards": guards, "writes": writes})

    assert done == {
        "committed": True,
        "first_revision": 1,
        "last_revision": 3,
        "results": [
            {"new_value": 1, "old_value": None},
            {"new_value": {"a": 2}, "old_value": None},
            {"new_value": None, "old_value": 1},
        ],
    }
    assert failed == {
        "committed": False,
        "failed": [{"guard_index": 0, "current": 1, "revision": 4}],
    }


@pytest.mark.parametrize(
    "request_",
    [
        {"writes": []},
        {"writes": [{"op": "set", "scope": "s", "key": "k"}]},
        {"writes": [{"op": "update", "scope": "s", "key": "k"}]},
        {"writes": [{"op": "move", "scope": "s", "key": "k"}]},
        {"writes": [{"op": "delete", "scope": "s", "key": "k"}], "if_revision": 1},
        {"writes": [{"op": "delete", **KEY}], "guards": [KEY]},
        {"writes": [{"op": "delete", **KEY}], "guards": [{**KEY, "absent": False}]},
        {"writes": [{"op": "delete", **KEY}], "guards": [{**KEY, "absent": True, "revision": 1}]},
    ],
)
def test_a_transaction_that_makes_no_sense_changes_nothing(client: Client, request_: Any) -> None:
    assert client.error("state::transact", request_) == "deserialization_error"
    assert client.ask("state::info", {})["revision"] == 0


def test_a_transaction_of_too_many_writes_is_refused(client: Client) -> None:
    writes = [{"op": "delete", **KEY}] * 1001

    assert client.error("state::transact", {"writes": writes}) == "LIMIT_EXCEEDED"


def test_a_strict_update_is_all_or_nothing(client: Client) -> None:
    ops = [
        OP,
        {"type": "append", "path": "a", "value": 1},
        {"type": "increment", "path": "a", "by": 1},
    ]
    ask(client, "set", value={"a": {}})

    error = failure(client, "update", ops=[ops[1]], strict=True)

    assert error["code"] == "UPDATE_REJECTED"
    assert error["details"]["errors"][0]["op_index"] == 0
    assert ask(client, "get") == {"a": {}}


async def test_a_repetition_with_the_same_key_is_answered_and_not_carried_out(
    bench: EngineBench, client: Client
) -> None:
    first = ask(client, "set", value=1, idempotency_key="x")
    ask(client, "set", value=2)

    again = ask(client, "set", value=1, idempotency_key="x")
    other = failure(client, "set", value=3, idempotency_key="x")
    elsewhere = ask(client, "delete", idempotency_key="x")
    await bench.turn()

    assert (again, first) == ({"old_value": None, "new_value": 1},) * 2
    assert other["code"] == "IDEMPOTENCY_MISMATCH"
    assert elsewhere == 2
    assert client.ask("state::info", {})["revision"] == 3


def test_a_repetition_answers_with_the_revision_and_the_errors_of_the_first(client: Client) -> None:
    ops = [{"type": "append", "path": "a", "value": 1}, {"type": "increment", "path": "a", "by": 1}]
    request = {"ops": ops, "idempotency_key": "x", "with_revision": True}
    ask(client, "set", value={"a": {}})

    assert ask(client, "update", **request) == ask(client, "update", **request)


async def test_an_idempotency_key_is_forgotten_after_ten_minutes(
    bench: EngineBench, client: Client
) -> None:
    ask(client, "set", value=1, idempotency_key="x")
    await bench.pass_time(601)

    ask(client, "set", value=2, idempotency_key="x")
    await bench.turn()

    assert client.ask("state::info", {})["revision"] == 2


def test_a_write_after_its_deadline_is_not_carried_out(bench: EngineBench, client: Client) -> None:
    now = bench.clock.now_ms

    error = failure(client, "set", value=1, deadline_ms=now - 5)
    ask(client, "set", value=2, deadline_ms=now)

    assert (error["code"], error["details"]) == ("DEADLINE_EXCEEDED", {"late_ms": 5})
    assert ask(client, "get") == 2
    assert failure(client, "set", value=1, deadline_ms=500)["code"] == "deserialization_error"


async def test_a_key_expires_with_an_event_of_its_own(bench: EngineBench, client: Client) -> None:
    client.send("registerfunction", id="f")
    client.bind(function_id="f")
    ask(client, "set", value=1, ttl_ms=1000)
    await bench.turn()
    client.got("invokefunction")

    entry = ask(client, "get", with_revision=True)
    await bench.pass_time(0.9)
    before = ask(client, "get")
    await bench.pass_time(0.1)
    after = client.call("state::get", KEY)
    await bench.turn()

    assert entry["expires_at_ms"] == entry["created_at_ms"] + 1000
    assert before == 1
    assert "result" not in client.answer_to(after)


async def test_an_expiry_fires_deleted_with_its_cause(bench: EngineBench, client: Client) -> None:
    client.send("registerfunction", id="f")
    ask(client, "set", value=1, ttl_ms=1000)
    await bench.turn()
    client.bind(function_id="f")

    await bench.pass_time(1)
    await bench.turn()

    [event] = events_of(client)
    assert (event["event_type"], event["cause"], event["old_value"], event["new_value"]) == (
        "state:deleted",
        "expired",
        1,
        None,
    )


async def test_a_set_clears_the_expiry_and_an_update_keeps_it(
    bench: EngineBench, client: Client
) -> None:
    ask(client, "set", value={}, ttl_ms=1000)
    ask(client, "update", ops=[OP])
    kept = ask(client, "get", with_revision=True)
    ask(client, "set", value=1)
    cleared = ask(client, "get", with_revision=True)
    await bench.pass_time(2)

    assert "expires_at_ms" in kept
    assert "expires_at_ms" not in cleared
    assert ask(client, "get") == 1


@pytest.mark.parametrize("name", ["compare-and-set", "create"])
async def test_a_key_that_is_written_on_a_condition_can_expire(
    bench: EngineBench, client: Client, name: str
) -> None:
    ask(client, name, value=1, ttl_ms=1000)
    entry = ask(client, "get", with_revision=True)

    await bench.pass_time(1)

    assert entry["expires_at_ms"] == entry["created_at_ms"] + 1000
    assert ask(client, "get", with_revision=True) == {"revision": 0}


async def test_a_compare_and_set_gives_a_new_end_or_none(
    bench: EngineBench, client: Client
) -> None:
    ask(client, "compare-and-set", value=1, ttl_ms=1000)
    ask(client, "compare-and-set", expected=1, value=2, ttl_ms=5000)
    await bench.pass_time(2)

    assert ask(client, "compare-and-set", expected=2, value=3)["swapped"]
    await bench.pass_time(10)

    assert ask(client, "get") == 3


async def test_a_touch_moves_the_end_without_a_change(bench: EngineBench, client: Client) -> None:
    ask(client, "set", value=1, ttl_ms=1000)
    now = bench.clock.now_ms

    touched = ask(client, "touch", ttl_ms=5000)
    await bench.pass_time(2)
    alive = ask(client, "get")
    for_ever = ask(client, "touch", ttl_ms=None)
    await bench.pass_time(10)

    assert touched == {"found": True, "expires_at_ms": now + 5000}
    assert (alive, for_ever, ask(client, "get")) == (1, {"found": True}, 1)
    assert client.ask("state::info", {})["revision"] == 1
    assert client.ask("state::touch", {"scope": "s", "key": "none", "ttl_ms": 1}) == {
        "found": False
    }


@pytest.mark.parametrize("ttl_ms", [0, -1, 1 << 60])
def test_a_ttl_that_makes_no_sense_is_refused(client: Client, ttl_ms: int) -> None:
    for name in ("set", "compare-and-set", "create"):
        assert failure(client, name, value=1, ttl_ms=ttl_ms)["code"] == "deserialization_error"


async def test_what_is_due_is_gone_before_anybody_sees_it(
    bench: EngineBench, client: Client
) -> None:
    ask(client, "set", value=1, ttl_ms=1000)
    await bench.turn()
    bench.timers.now += 1  # the loop was held up: no timer has run yet

    assert client.ask("state::list", {"scope": "s"}) == []
    assert client.ask("state::list_groups", {}) == {"groups": []}
    assert ask(client, "create", value=2)["created"]


async def test_a_touch_that_is_repeated_moves_nothing(bench: EngineBench, client: Client) -> None:
    ask(client, "set", value=1)

    first = ask(client, "touch", ttl_ms=5000, idempotency_key="x")
    ask(client, "touch", ttl_ms=9000)
    latest = ask(client, "get", with_revision=True)["expires_at_ms"]
    again = ask(client, "touch", ttl_ms=5000, idempotency_key="x")

    assert first["found"]
    assert first["expires_at_ms"] != latest
    assert again == {"found": True, "expires_at_ms": latest}


async def test_a_touch_that_is_taken_up_too_late_moves_nothing(client: Client) -> None:
    ask(client, "set", value=1)

    error = failure(client, "touch", ttl_ms=5000, deadline_ms=1_000_000_000_000)

    assert error["code"] == "DEADLINE_EXCEEDED"
    assert "expires_at_ms" not in ask(client, "get", with_revision=True)


async def test_many_touches_leave_no_rubbish(bench: EngineBench, client: Client) -> None:
    ask(client, "set", value=1, ttl_ms=1000)
    for _ in range(3000):
        ask(client, "touch", ttl_ms=60_000)
        client.peer.sent.clear()

    assert len(bench.engine.expiries._due) < 1100
