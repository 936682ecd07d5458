"""Workers in namespaces: SDKs from 0.23 on."""

from __future__ import annotations

import pytest

from e2e.choices import parameters
from e2e.sdks import SDKS, Sdk
from e2e.servers import Server
from e2e.workers import CallError, Starter, Worker

NAMESPACED = parameters(sdk for sdk in SDKS if sdk.numbers >= (0, 23))


@pytest.fixture(params=NAMESPACED)
def pair(
    request: pytest.FixtureRequest, server: Server, start_worker: Starter, scope: str
) -> tuple[Worker, Worker]:
    """A worker in a namespace (named like the scope) and one outside of it, of one SDK."""
    sdk: Sdk = request.param
    inside = start_worker(sdk, server.address, worker_name="inside", namespace=scope)
    return inside, start_worker(sdk, server.address, worker_name="outside")


def test_a_function_is_found_in_its_namespace_only(pair: tuple[Worker, Worker], scope: str) -> None:
    inside, outside = pair
    inside.serve(f"{scope}::echo", "echo")

    assert inside.call(f"{scope}::echo", 1) == {"got": 1}
    assert outside.call(f"{scope}::echo", 2, namespace=scope) == {"got": 2}
    with pytest.raises(CallError, match=scope) as failed:
        outside.call(f"{scope}::echo", 3)
    assert failed.value.code == "function_not_found"


def test_one_function_id_is_served_in_two_namespaces(
    pair: tuple[Worker, Worker], scope: str
) -> None:
    for worker in pair:
        worker.serve(f"{scope}::both", "echo")

    for n, worker in enumerate(pair):
        worker.call(f"{scope}::both", n)
        assert worker.events_of(f"{scope}::both", 1) == [n]


def test_state_is_one_for_all_namespaces(pair: tuple[Worker, Worker], scope: str) -> None:
    inside, outside = pair

    inside.call("state::set", {"scope": scope, "key": "k", "value": 5})

    assert outside.call("state::get", {"scope": scope, "key": "k"}) == 5
    assert inside.call("engine::functions::list", {"prefix": "state::set"})["functions"]


def test_a_binding_of_a_namespaced_worker_calls_its_own_function(
    pair: tuple[Worker, Worker], scope: str
) -> None:
    inside, outside = pair
    for worker in pair:
        worker.serve(f"{scope}::on")
    inside.bind(f"{scope}::on", {"scope": scope})
    inside.call("state::get", {"scope": scope, "key": "k"})

    outside.call("state::set", {"scope": scope, "key": "k", "value": 1})

    assert inside.events_of(f"{scope}::on", 1)[0]["new_value"] == 1
    assert outside.lines.matching(lambda line: line.get("event") == "called") == []


def test_the_second_owner_of_a_function_is_told_of_the_conflict(
    pair: tuple[Worker, Worker], server: Server, start_worker: Starter, scope: str
) -> None:
    inside, _ = pair
    inside.serve(f"{scope}::mine", "echo")
    rival = start_worker(inside.sdk, server.address, worker_name="rival", namespace=scope)

    # Registrations wait for the worker's announcement; after this one it has been made.
    rival.serve(f"{scope}::own")
    rival.offer(f"{scope}::mine", "fail")

    assert rival.call(f"{scope}::mine", 1) == {"got": 1}
    assert "FUNCTION_NAMESPACE_CONFLICT" in rival.log()
