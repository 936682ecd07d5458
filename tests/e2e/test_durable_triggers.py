"""Durable triggers of unmodified SDK programs: server and worker are killed, nothing is skipped."""

from __future__ import annotations

from typing import Any

from e2e.choices import only_sdks
from e2e.sdks import NEWEST_NODE, NEWEST_PYTHON, Sdk
from e2e.servers import Server
from e2e.workers import Starter, Worker

BATCH = 100


def write(worker: Worker, scope: str, batch: int) -> None:
    """Write many keys; when it returns, they are on disk, and deliveries are under way."""
    requests = [
        {
            "function_id": "state::set",
            "payload": {"scope": scope, "key": f"{batch}-{n}", "value": n},
        }
        for n in range(BATCH)
    ]
    worker.ask("call_all", requests=requests)
    worker.call("state::set", {"scope": scope, "key": f"{batch}-last", "value": batch})


def wait_for_all(worker: Worker, function_id: str, keys: set[str], told: list[Any]) -> None:
    """Wait until a function was told of all keys, by this worker or as `told` before."""
    events = worker.events_of(function_id, 1)
    while not keys <= {event["key"] for event in told + events}:
        events = worker.events_of(function_id, len(events) + 1)


def keys_of(worker: Worker, scope: str) -> set[str]:
    return set(worker.call("state::list_keys", {"scope": scope})["keys"])


@only_sdks(lambda sdk: sdk in (NEWEST_PYTHON, NEWEST_NODE))
def test_nothing_is_skipped_when_the_server_is_killed_during_deliveries(
    sdk: Sdk, own_server: Server, start_worker: Starter, scope: str
) -> None:
    worker = start_worker(sdk, own_server.address)
    handler = f"{scope}::on"
    worker.serve(handler)
    worker.bind(handler, {"scope": scope, "durable": scope})
    for batch in range(3):
        write(worker, scope, batch)
        own_server.kill()
        own_server.start()
        worker.call("state::info", {})
    write(worker, scope, 3)
    keys = keys_of(worker, scope)
    wait_for_all(worker, handler, keys, [])
    events = worker.events_of(handler, 1)

    assert len(keys) == 4 * (BATCH + 1)
    assert len({event["event_id"] for event in events}) == len(keys)


@only_sdks(lambda sdk: sdk == NEWEST_PYTHON)
def test_another_worker_goes_on_where_one_was_killed(
    sdk: Sdk, own_server: Server, start_worker: Starter, scope: str
) -> None:
    writer = start_worker(NEWEST_NODE, own_server.address)
    first = start_worker(sdk, own_server.address)
    handler = f"{scope}::on"
    first.serve(handler)
    first.bind(handler, {"scope": scope, "durable": scope})
    # Another connection writes: the binding is live once a later call of its own is answered.
    first.call("state::info", {})
    write(writer, scope, 0)
    first.events_of(handler, 10)
    first.kill()
    told = first.events_of(handler, 1)
    write(writer, scope, 1)
    own_server.kill()
    own_server.start()
    second = start_worker(sdk, own_server.address)
    second.serve(handler)
    second.bind(handler, {"scope": scope, "durable": scope})
    wait_for_all(second, handler, keys_of(writer, scope), told)
    told_twice = {e["event_id"] for e in told} & {
        e["event_id"] for e in second.events_of(handler, 1)
    }

    assert len(told_twice) <= len(told)
    assert all(event["attempt"] == 1 for event in told)
