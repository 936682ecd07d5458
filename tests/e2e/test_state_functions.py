"""`state::*` as programs see it through their SDK. Source: docs/protocol.md, state functions."""

from __future__ import annotations

from typing import Any

import pytest

from e2e.choices import only_sdks
from e2e.sdks import Sdk
from e2e.workers import ABSENT, CallError, Worker


@pytest.fixture
def nothing(sdk: Sdk) -> Any:
    """What the SDK makes of an answer without a result."""
    return ABSENT if sdk.runtime == "node" else None


def test_set_answers_old_and_new_value(worker: Worker, scope: str) -> None:
    address = {"scope": scope, "key": "k"}

    first = worker.call("state::set", {**address, "value": {"n": 1, "nul": None}})
    second = worker.call("state::set", {**address, "value": [2.5, "ü"]})

    assert first == {"old_value": None, "new_value": {"n": 1, "nul": None}}
    assert second == {"old_value": {"n": 1, "nul": None}, "new_value": [2.5, "ü"]}


def test_get_answers_the_bare_value(worker: Worker, scope: str) -> None:
    worker.call("state::set", {"scope": scope, "key": "k", "value": {"name": "A", "n": 1}})

    assert worker.call("state::get", {"scope": scope, "key": "k"}) == {"name": "A", "n": 1}


def test_null_is_a_value_and_absent_is_none(worker: Worker, scope: str, nothing: Any) -> None:
    worker.call("state::set", {"scope": scope, "key": "null", "value": None})

    assert worker.call("state::get", {"scope": scope, "key": "null"}) is None
    assert worker.call("state::get", {"scope": scope, "key": "absent"}) == nothing
    assert worker.call("state::delete", {"scope": scope, "key": "null"}) is None
    assert worker.call("state::delete", {"scope": scope, "key": "null"}) == nothing


def test_delete_answers_the_value_and_removes_the_key(
    worker: Worker, scope: str, nothing: Any
) -> None:
    worker.call("state::set", {"scope": scope, "key": "k", "value": {"a": 1}})

    assert worker.call("state::delete", {"scope": scope, "key": "k"}) == {"a": 1}
    assert worker.call("state::get", {"scope": scope, "key": "k"}) == nothing


def test_list_answers_values_in_the_order_in_which_keys_came(worker: Worker, scope: str) -> None:
    for key, value in (("z", 1), ("a", 2), ("m", 3), ("z", 4)):
        worker.call("state::set", {"scope": scope, "key": key, "value": value})

    assert worker.call("state::list", {"scope": scope}) == [4, 2, 3]
    assert worker.call("state::list", {"scope": f"{scope}-unknown"}) == []


def test_list_groups_names_scopes_sorted(worker: Worker, scope: str) -> None:
    for name in (f"{scope}-b", f"{scope}-a"):
        worker.call("state::set", {"scope": name, "key": "k", "value": 1})

    groups = worker.call("state::list_groups", {})["groups"]

    assert [name for name in groups if name.startswith(scope)] == [f"{scope}-a", f"{scope}-b"]


def test_update_applies_all_six_operations(worker: Worker, scope: str) -> None:
    address = {"scope": scope, "key": "k"}
    worker.call(
        "state::set", {**address, "value": {"n": 10, "gone": 1, "tags": [], "text": "ab", "m": {}}}
    )

    answer = worker.call(
        "state::update",
        {
            **address,
            "ops": [
                {"type": "set", "path": "name", "value": "Alice"},
                {"type": "increment", "path": "n", "by": 5},
                {"type": "decrement", "path": "n", "by": 2},
                {"type": "append", "path": "tags", "value": "x"},
                {"type": "append", "path": "text", "value": "c"},
                {"type": "merge", "path": "m", "value": {"deep": True}},
                {"type": "remove", "path": "gone"},
            ],
        },
    )

    expected = {"name": "Alice", "n": 13, "tags": ["x"], "text": "abc", "m": {"deep": True}}
    assert answer["old_value"]["n"] == 10
    assert answer["new_value"] == expected
    assert "errors" not in answer
    assert worker.call("state::get", address) == expected


def test_update_reports_operations_that_failed(worker: Worker, scope: str) -> None:
    address = {"scope": scope, "key": "k"}
    worker.call("state::set", {**address, "value": {"name": "x", "n": 1}})

    answer = worker.call(
        "state::update",
        {
            **address,
            "ops": [
                {"type": "increment", "path": "name", "by": 1},
                {"type": "increment", "path": "n", "by": 1},
            ],
        },
    )

    assert answer["new_value"] == {"name": "x", "n": 2}
    [error] = answer["errors"]
    assert (error["op_index"], error["code"]) == (0, "increment.not_number")


def test_append_to_an_absent_key_and_to_text(worker: Worker, scope: str) -> None:
    worker.call("state::set", {"scope": scope, "key": "list", "value": []})
    worker.call("state::set", {"scope": scope, "key": "text", "value": "ab"})
    append = {"type": "append", "value": "c"}

    to_list = worker.call("state::update", {"scope": scope, "key": "list", "ops": [append]})
    to_text = worker.call("state::update", {"scope": scope, "key": "text", "ops": [append]})

    assert to_list["new_value"] == ["c"]
    assert to_text["new_value"] == "abc"


@pytest.mark.parametrize(
    ("function_id", "payload"),
    [
        ("state::get", {"key": "k"}),
        ("state::get", {"scope": "s", "key": 1}),
        ("state::set", {"scope": "s", "key": "k"}),
        ("state::update", {"scope": "s", "key": "k", "ops": [{"type": "turn"}]}),
        ("state::list_groups", "text"),
    ],
    ids=["member missing", "wrong type", "value missing", "unknown operation", "not an object"],
)
def test_a_request_that_does_not_decode_is_refused(
    worker: Worker, function_id: str, payload: Any
) -> None:
    with pytest.raises(CallError, match=function_id) as refused:
        worker.call(function_id, payload)

    assert refused.value.code == "deserialization_error"


def test_values_come_back_as_they_were(worker: Worker, scope: str) -> None:
    value = {"big": 2**53 - 1, "float": 0.1, "text": 'a\u0000\U0001f600"\\', "": [[], {}, False]}

    worker.call("state::set", {"scope": scope, "key": "../x\u0000", "value": value})

    assert worker.call("state::get", {"scope": scope, "key": "../x\u0000"}) == value


def test_a_value_of_900_kb_travels_both_ways(worker: Worker, scope: str) -> None:
    value = "x" * 900_000

    worker.call(
        "state::set",
        {"scope": scope, "key": "k", "value": value},
        action={"type": "void"},
    )

    assert worker.call("state::get", {"scope": scope, "key": "k"}) == value


@only_sdks(lambda sdk: sdk.runtime == "python" and sdk.numbers < (0, 24))
def test_an_sdk_that_would_break_at_a_big_result_gets_an_error(worker: Worker, scope: str) -> None:
    for key in ("a", "b"):
        worker.call("state::set", {"scope": scope, "key": key, "value": "x" * 400_000})
    many = {"type": "append", "value": "x" * 400_000}
    worker.call(
        "state::update", {"scope": scope, "key": "b", "ops": [many]}, action={"type": "void"}
    )

    with pytest.raises(CallError) as failed:
        worker.call("state::list", {"scope": scope})

    assert failed.value.code == "payload_too_large"
    assert worker.call("state::get", {"scope": scope, "key": "a"}) == "x" * 400_000


@only_sdks(lambda sdk: sdk.runtime == "node" or sdk.numbers >= (0, 24))
def test_an_sdk_that_takes_big_results_gets_them(worker: Worker, scope: str) -> None:
    worker.call("state::set", {"scope": scope, "key": "k", "value": "x" * 3_000_000})

    assert worker.call("state::list", {"scope": scope}) == ["x" * 3_000_000]


def test_calls_of_one_connection_are_carried_out_in_their_order(worker: Worker, scope: str) -> None:
    address = {"scope": scope, "key": "k"}
    writes = [{"function_id": "state::set", "payload": {**address, "value": n}} for n in range(300)]

    worker.ask("call_all", requests=writes)

    assert worker.call("state::get", address) == 299
