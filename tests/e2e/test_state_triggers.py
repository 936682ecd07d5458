"""Functions of workers called when state changes."""

from __future__ import annotations

from typing import Any

import pytest

from e2e.choices import only_sdks
from e2e.sdks import Sdk
from e2e.workers import Worker

MEMBERS = ("type", "event_type", "scope", "key", "old_value", "new_value")


def known(event: dict[str, Any]) -> dict[str, Any]:
    """The six members that the original has; ours come in addition."""
    return {name: event[name] for name in MEMBERS}


def change(event_type: str, scope: str, key: str, old: Any, new: Any) -> dict[str, Any]:
    kind = f"state:{event_type}"
    return dict(zip(MEMBERS, ("state", kind, scope, key, old, new), strict=True))


@pytest.fixture
def handler(worker: Worker, scope: str) -> str:
    """A function of the worker that only tells of its calls."""
    worker.serve(f"{scope}::on")
    return f"{scope}::on"


def put(worker: Worker, scope: str, key: str, value: Any) -> None:
    worker.call("state::set", {"scope": scope, "key": key, "value": value})


def test_every_kind_of_change_of_a_scope_arrives(
    worker: Worker, other: Worker, scope: str, handler: str
) -> None:
    worker.bind(handler, {"scope": scope})
    put(worker, scope, "k", 1)
    put(other, f"{scope}-other", "k", 1)
    put(other, scope, "k", {"n": 2})
    other.call(
        "state::update",
        {"scope": scope, "key": "k", "ops": [{"type": "increment", "path": "n", "by": 1}]},
    )
    other.call("state::delete", {"scope": scope, "key": "k"})
    other.call("state::delete", {"scope": scope, "key": "k"})

    events = worker.events_of(handler, 5)

    assert [known(event) for event in events] == [
        change("created", scope, "k", None, 1),
        change("updated", scope, "k", 1, {"n": 2}),
        change("updated", scope, "k", {"n": 2}, {"n": 3}),
        change("deleted", scope, "k", {"n": 3}, None),
        change("deleted", scope, "k", None, None),
    ]


def test_an_event_carries_revision_and_identity_too(
    worker: Worker, scope: str, handler: str
) -> None:
    worker.bind(handler, {"scope": scope})
    put(worker, scope, "a", 1)
    put(worker, scope, "a", 2)

    first, second = worker.events_of(handler, 2)

    assert second["revision"] > first["revision"]
    assert first["event_id"] != second["event_id"]
    assert first["attempt"] == 1
    assert first["timestamp_ms"] > 1_700_000_000_000


def test_a_binding_with_a_key_hears_of_that_key_only(
    worker: Worker, other: Worker, scope: str, handler: str
) -> None:
    worker.bind(handler, {"scope": scope, "key": "mine"})
    put(worker, scope, "theirs", 1)
    operation = {"type": "set", "path": "name", "value": "Alice"}
    other.call("state::update", {"scope": scope, "key": "mine", "ops": [operation]})

    [event] = worker.events_of(handler, 1)

    assert known(event) == change("created", scope, "mine", None, {"name": "Alice"})


def test_a_condition_of_another_worker_decides(
    worker: Worker, other: Worker, scope: str, handler: str
) -> None:
    other.serve(f"{scope}::never", "refuse")
    other.serve(f"{scope}::always", "echo")
    worker.serve(f"{scope}::skipped")
    worker.bind(f"{scope}::skipped", {"scope": scope, "condition_function_id": f"{scope}::never"})
    worker.bind(handler, {"scope": scope, "condition_function_id": f"{scope}::always"})

    put(worker, scope, "k", 1)

    assert worker.events_of(handler, 1)[0]["key"] == "k"
    assert other.events_of(f"{scope}::never", 1)[0]["key"] == "k"
    put(worker, scope, "k", 2)
    assert len(other.events_of(f"{scope}::never", 2)) == 2
    assert worker.lines.matching(lambda line: line.get("function") == f"{scope}::skipped") == []


def test_metadata_of_a_binding_arrives_where_the_sdk_knows_it(
    worker: Worker, sdk: Sdk, scope: str, handler: str
) -> None:
    worker.bind(handler, {"scope": scope}, metadata={"tag": "x"})
    put(worker, scope, "k", 1)

    [call] = worker.calls_of(handler, 1)

    knows_metadata = sdk.numbers >= (0, 22)
    assert call["metadata"] == ({"tag": "x"} if knows_metadata else None)


def test_unknown_members_of_the_config_are_tolerated(
    worker: Worker, scope: str, handler: str
) -> None:
    """Motia binds like this: no scope, its own metadata inside, and ids with spaces."""
    condition = f"steps::{scope}::trigger::state::conditions::0"
    worker.serve(condition, "echo")
    step = {"name": scope, "triggers": [{"type": "state"}]}
    config = {"metadata": step, "condition_function_id": condition}
    worker.bind(handler, config)
    put(worker, scope, "k", 1)

    assert any(event["scope"] == scope for event in worker.events_of(handler, 1))


def test_200_quick_writes_arrive_all_and_in_order(
    worker: Worker, other: Worker, scope: str, handler: str
) -> None:
    worker.bind(handler, {"scope": scope})
    # The binding is live as soon as a later call of the same connection is answered.
    put(worker, scope, "settled", 0)
    writes = [
        {
            "function_id": "state::set",
            "payload": {"scope": scope, "key": f"k{n % 4}", "value": n},
        }
        for n in range(200)
    ]

    other.ask("call_all", requests=writes)

    events = worker.events_of(handler, 201)
    for key in ("k0", "k1", "k2", "k3"):
        values = [event["new_value"] for event in events if event["key"] == key]
        assert values == list(range(int(key[1]), 200, 4))


def test_a_silent_and_a_failing_handler_hold_up_nobody(
    worker: Worker, scope: str, handler: str
) -> None:
    worker.serve(f"{scope}::hang", "hang")
    worker.serve(f"{scope}::fail", "fail")
    for function_id in (f"{scope}::hang", f"{scope}::fail", f"{scope}::nobody", handler):
        worker.bind(function_id, {"scope": scope})

    for n in range(5):
        put(worker, scope, "k", n)

    assert [event["new_value"] for event in worker.events_of(handler, 5)] == list(range(5))
    assert len(worker.events_of(f"{scope}::fail", 5)) == 5


def test_an_unbound_trigger_fires_no_more(worker: Worker, scope: str, handler: str) -> None:
    worker.serve(f"{scope}::stays")
    binding = worker.bind(handler, {"scope": scope})
    worker.bind(f"{scope}::stays", {"scope": scope})
    put(worker, scope, "k", 1)
    worker.events_of(handler, 1)

    worker.ask("unbind", binding=binding)
    put(worker, scope, "k", 2)

    worker.events_of(f"{scope}::stays", 2)
    assert len(worker.events_of(handler, 1)) == 1


def test_a_handler_writes_state_itself(worker: Worker, scope: str) -> None:
    worker.serve(f"{scope}::relay", "relay")
    worker.serve(f"{scope}::on")
    worker.bind(f"{scope}::on", {"scope": f"{scope}-out"})
    request = {
        "function_id": "state::set",
        "payload": {"scope": f"{scope}-out", "key": "k", "value": "from a handler"},
    }

    worker.call(f"{scope}::relay", {"request": request})

    assert worker.events_of(f"{scope}::on", 1)[0]["new_value"] == "from a handler"


@only_sdks(lambda sdk: sdk.runtime == "python" and sdk.numbers >= (0, 25))
def test_bindings_work_though_the_sdk_calls_them_deprecated(
    worker: Worker, scope: str, handler: str
) -> None:
    worker.bind(handler, {"scope": scope})

    put(worker, scope, "k", 1)

    assert len(worker.events_of(handler, 1)) == 1
    assert "DeprecationWarning: register_trigger is deprecated" in worker.log()


def test_a_config_of_a_wrong_type_is_reported_and_binds_nothing(
    worker: Worker, sdk: Sdk, scope: str, handler: str
) -> None:
    worker.bind(handler, {"scope": 5})
    worker.bind(f"{scope}::on", {"scope": scope})

    put(worker, scope, "k", 1)

    assert len(worker.events_of(handler, 1)) == 1
    if sdk.numbers >= (0, 16):
        assert "Failed to parse trigger config" in worker.log()
