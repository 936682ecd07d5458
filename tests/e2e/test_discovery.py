"""`engine::*` functions that tell what is connected."""

from __future__ import annotations

import pytest

from e2e.sdks import Sdk
from e2e.servers import Server
from e2e.workers import CallError, Starter, Worker


def test_a_function_is_described_as_it_was_registered(
    worker: Worker, other: Worker, scope: str
) -> None:
    worker.serve(
        f"{scope}::typed",
        description="adds one",
        metadata={"k": 1},
        request_format={"type": "object"},
        response_format={"type": "integer"},
    )

    [listed] = other.call("engine::functions::list", {"prefix": scope})["functions"]
    detail = other.call("engine::functions::info", {"function_id": f"{scope}::typed"})

    assert listed == {
        "function_id": f"{scope}::typed",
        "namespace": "default",
        "worker_name": f"worker-{worker.sdk}",
        "description": "adds one",
        "metadata": {"k": 1},
    }
    assert detail == listed | {
        "request_schema": {"type": "object"},
        "response_schema": {"type": "integer"},
        "registered_triggers": [],
    }


def test_a_worker_is_described_as_it_announced_itself(
    worker: Worker, sdk: Sdk, other: Worker
) -> None:
    name = f"worker-{sdk}"

    listed = other.call("engine::workers::list", {"search": name})["workers"]
    detail = other.call("engine::workers::info", {"name": name})["worker"]

    [entry] = [each for each in listed if each["name"] == name]
    assert (entry["runtime"], entry["version"]) == (sdk.runtime, sdk.version)
    assert (entry["namespace"], entry["status"]) == ("default", "connected")
    assert entry["ip_address"] == "127.0.0.1"
    assert detail["pid"] > 0
    assert detail["id"] == entry["id"]


def test_a_binding_is_listed_with_its_config(worker: Worker, other: Worker, scope: str) -> None:
    worker.serve(f"{scope}::on")
    worker.bind(f"{scope}::on", {"scope": scope})
    worker.call("state::get", {"scope": scope, "key": "k"})

    [listed] = other.call("engine::registered-triggers::list", {"function_id": f"{scope}::on"})[
        "registered_triggers"
    ]
    detail = other.call("engine::registered-triggers::info", {"id": listed["id"]})

    assert listed["trigger_type"] == "state"
    assert listed["config"] == {"scope": scope}
    assert detail["function"]["function_id"] == f"{scope}::on"


def test_the_state_functions_tell_their_schemas(worker: Worker) -> None:
    info = worker.call("engine::functions::info", {"function_id": "state::set"})

    assert info["request_schema"]["required"] == ["key", "scope", "value"]
    assert info["request_schema"]["title"] == "StateSetInput"
    assert "new_value" in info["response_schema"]["required"]


def test_the_trigger_type_state_is_listed(worker: Worker) -> None:
    types = worker.call("engine::triggers::list", {})["triggers"]
    info = worker.call("engine::triggers::info", {"id": "state"})

    assert "state" in [each["id"] for each in types]
    assert set(info["configuration_schema"]["properties"]) >= {
        "scope",
        "key",
        "condition_function_id",
    }


@pytest.mark.parametrize(
    ("function_id", "payload"),
    [
        ("engine::functions::info", {"function_id": "nobody::has-this"}),
        ("engine::workers::info", {"name": "nobody-is-called-this"}),
        ("engine::registered-triggers::info", {"id": "nothing"}),
    ],
)
def test_what_is_not_there_is_not_found(
    worker: Worker, function_id: str, payload: dict[str, str]
) -> None:
    with pytest.raises(CallError) as failed:
        worker.call(function_id, payload)

    assert failed.value.code == "NOT_FOUND"


def test_a_worker_hears_of_workers_that_come_and_go(
    sdk: Sdk, server: Server, worker: Worker, start_worker: Starter, scope: str
) -> None:
    worker.serve(f"{scope}::on")
    worker.bind(f"{scope}::on", {}, to="engine::workers-available")
    worker.call("state::get", {"scope": scope, "key": "k"})

    guest = start_worker(sdk, server.address, worker_name=scope)
    guest.serve(f"{scope}::guest")
    guest_id = worker.call("engine::workers::info", {"name": scope})["worker"]["id"]
    guest.shut_down()

    events = worker.lines.wait_for(
        lambda line: (
            line.get("event") == "called"
            and line["function"] == f"{scope}::on"
            and line["data"]["worker_id"] == guest_id
        ),
        count=3,
    )
    assert [event["data"]["event"] for event in events] == [
        "worker_connected",
        "worker_metadata_updated",
        "worker_disconnected",
    ]


def test_a_withdrawn_function_is_listed_no_more(worker: Worker, scope: str) -> None:
    worker.serve(f"{scope}::gone")
    worker.ask("withdraw", function_id=f"{scope}::gone")

    assert worker.call("engine::functions::list", {"prefix": scope}) == {"functions": []}
