"""Workers come back by themselves, and nothing that was promised is lost."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from e2e.choices import only_sdks
from e2e.proxies import CuttingProxy
from e2e.sdks import Sdk
from e2e.servers import Server
from e2e.workers import CallError, Starter, Worker


@pytest.fixture(params=[Server.stop, Server.kill], ids=["sigterm", "sigkill"])
def end(request: pytest.FixtureRequest) -> Callable[[Server], None]:
    """How the server ends."""
    how: Callable[[Server], None] = request.param
    return how


def test_after_a_restart_of_the_server_all_is_as_before(
    sdk: Sdk,
    own_server: Server,
    start_worker: Starter,
    end: Callable[[Server], None],
    scope: str,
) -> None:
    worker = start_worker(sdk, own_server.address)
    worker.serve(f"{scope}::on")
    worker.serve(f"{scope}::echo", "echo")
    worker.bind(f"{scope}::on", {"scope": scope})
    for n in range(20):
        worker.call("state::set", {"scope": scope, "key": f"k{n}", "value": n})
    worker.events_of(f"{scope}::on", 20)

    end(own_server)
    own_server.start()

    assert worker.call("state::list", {"scope": scope}) == list(range(20))
    worker.call("state::set", {"scope": scope, "key": "k0", "value": "new"})
    event = worker.events_of(f"{scope}::on", 21)[-1]
    assert (event["old_value"], event["new_value"]) == (0, "new")
    assert worker.call(f"{scope}::echo", "again") == {"got": "again"}


def test_revisions_go_on_after_a_kill(
    sdk: Sdk, own_server: Server, start_worker: Starter, scope: str
) -> None:
    worker = start_worker(sdk, own_server.address)
    worker.serve(f"{scope}::on")
    worker.bind(f"{scope}::on", {"scope": scope})
    worker.call("state::set", {"scope": scope, "key": "k", "value": 1})
    [before] = worker.events_of(f"{scope}::on", 1)

    own_server.kill()
    own_server.start()
    worker.call("state::set", {"scope": scope, "key": "k", "value": 2})

    [_, after] = worker.events_of(f"{scope}::on", 2)
    assert after["revision"] > before["revision"]


def test_changes_made_while_a_worker_was_cut_off_arrive_when_it_is_back(
    sdk: Sdk, cutting_proxy: CuttingProxy, other: Worker, start_worker: Starter, scope: str
) -> None:
    worker = start_worker(sdk, cutting_proxy.address)
    worker.serve(f"{scope}::on")
    worker.bind(f"{scope}::on", {"scope": scope})
    worker.call("state::set", {"scope": scope, "key": "k", "value": 0})
    worker.events_of(f"{scope}::on", 1)

    cutting_proxy.cut()
    for n in range(1, 6):
        other.call("state::set", {"scope": scope, "key": "k", "value": n})

    worker.lines.wait_for(lambda line: line.get("data", {}).get("new_value") == 5, what="the last")
    values = [event["new_value"] for event in worker.events_of(f"{scope}::on", 6)]
    # At least once: what was under way when the connection was cut may come twice.
    assert sorted(set(values)) == list(range(6))
    assert values == sorted(values)


def test_a_call_made_while_the_server_is_away_is_carried_out_when_it_is_back(
    sdk: Sdk, own_server: Server, start_worker: Starter, scope: str
) -> None:
    worker = start_worker(sdk, own_server.address)
    worker.call("state::set", {"scope": scope, "key": "k", "value": 1})
    own_server.stop()

    waiting = worker.send(
        "call",
        request={"function_id": "state::get", "payload": {"scope": scope, "key": "k"}},
    )
    own_server.start()

    assert worker.answer(waiting)["result"] == 1


def test_a_server_that_stops_waits_for_calls_that_workers_carry_out(
    sdk: Sdk, own_server: Server, start_worker: Starter, scope: str
) -> None:
    worker = start_worker(sdk, own_server.address)
    worker.serve(f"{scope}::wait", "wait")
    waiting = worker.send("call", request={"function_id": f"{scope}::wait", "payload": {}})
    worker.calls_of(f"{scope}::wait", 1)

    own_server.begin_stop()
    worker.ask("release")

    assert worker.answer(waiting).get("result") is None
    own_server.finish_stop()
    # Old SDKs do not end themselves while there is no server.
    worker.kill()


@only_sdks(lambda sdk: sdk.numbers >= (0, 22))
def test_a_worker_that_returns_replaces_its_half_dead_connection(
    sdk: Sdk, cutting_proxy: CuttingProxy, other: Worker, start_worker: Starter, scope: str
) -> None:
    """The server still believes in the old connection; SDKs from 0.22 on say whom they replace."""
    worker = start_worker(sdk, cutting_proxy.address, worker_name=scope)
    worker.serve(f"{scope}::hang", "hang")
    worker.serve(f"{scope}::on")
    worker.bind(f"{scope}::on", {"scope": scope})
    waiting = other.send("call", request={"function_id": f"{scope}::hang", "payload": {}})
    worker.calls_of(f"{scope}::hang", 1)

    cutting_proxy.vanish()

    with pytest.raises(CallError) as failed:
        other.answer(waiting)
    assert failed.value.code == "invocation_stopped"
    other.call("state::set", {"scope": scope, "key": "k", "value": 1})
    assert worker.events_of(f"{scope}::on", 1)[0]["new_value"] == 1
    workers = other.call("engine::workers::list", {"search": scope})["workers"]
    assert [listed["name"] for listed in workers] == [scope]
