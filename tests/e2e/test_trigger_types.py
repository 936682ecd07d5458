"""A trigger type that one worker provides and another binds to."""

from __future__ import annotations

from typing import Any

from e2e.sdks import Sdk
from e2e.servers import Server
from e2e.workers import Starter, Worker


def told(provider: Worker, event: str, count: int) -> list[dict[str, Any]]:
    return provider.lines.wait_for(lambda line: line.get("event") == event, count, event)


def provide(worker: Worker, trigger_type: str) -> None:
    # In a handler, so on the SDK's own loop: Python's 0.25 sends a registration before it notes it,
    # and elsewhere a binding that comes back in between is lost without a word.
    worker.serve(f"provide::{trigger_type}", "provide")
    worker.call(f"provide::{trigger_type}", trigger_type)
    # Registrations are done in order, so this one ends when the type is there.
    worker.serve(f"settled::{trigger_type}")


def test_a_provider_hears_of_bindings_and_fires_them(
    sdk: Sdk, server: Server, other: Worker, start_worker: Starter, scope: str
) -> None:
    provider = start_worker(sdk, server.address)
    provide(provider, scope)
    other.serve(f"{scope}::on", "echo")

    binding = other.bind(f"{scope}::on", {"every": 5}, to=scope, metadata={"m": 1})

    [bound] = told(provider, "bound", 1)
    assert bound["binding"] == {
        "function_id": f"{scope}::on",
        "config": {"every": 5},
        "metadata": {"m": 1},
    }
    assert provider.call(f"{scope}::on", "fired") == {"got": "fired"}

    other.ask("unbind", binding=binding)
    if sdk.numbers >= ((0, 19) if sdk.runtime == "python" else (0, 22)):
        assert told(provider, "unbound", 1)[0]["id"] == bound["id"]


def test_bindings_made_before_the_type_exists_wait_for_it(
    sdk: Sdk, server: Server, other: Worker, start_worker: Starter, scope: str
) -> None:
    other.serve(f"{scope}::on", "echo")
    other.bind(f"{scope}::on", {"n": 1}, to=scope)
    other.bind(f"{scope}::on", {"n": 2}, to=scope)

    first = start_worker(sdk, server.address)
    provide(first, scope)
    assert sorted(b["binding"]["config"]["n"] for b in told(first, "bound", 2)) == [1, 2]

    first.kill()
    second = start_worker(sdk, server.address)
    provide(second, scope)
    assert sorted(b["binding"]["config"]["n"] for b in told(second, "bound", 2)) == [1, 2]


def test_the_provider_hears_when_the_binder_is_gone(
    sdk: Sdk, server: Server, other: Worker, start_worker: Starter, scope: str
) -> None:
    provide(other, scope)
    binder = start_worker(sdk, server.address)
    binder.bind(f"{scope}::on", {"binder": scope}, to=scope)
    [bound] = other.lines.wait_for(
        lambda line: line.get("binding", {}).get("config") == {"binder": scope}, what="bound"
    )

    binder.kill()

    other.lines.wait_for(
        lambda line: line.get("event") == "unbound" and line["id"] == bound["id"], what="unbound"
    )


def test_a_refused_binding_is_reported_to_the_binder(
    sdk: Sdk, server: Server, newest: dict[str, Worker], start_worker: Starter, scope: str
) -> None:
    provider = start_worker(sdk, server.address)
    provide(provider, scope)

    for runtime, binder in newest.items():
        binder.serve(f"{scope}::{runtime}")
        binder.bind(f"{scope}::{runtime}", {"refuse": True}, to=scope)
        binder.bind(f"{scope}::{runtime}", {"refuse": False}, to=scope)
    told(provider, "bound", 2)

    for binder in newest.values():
        # The refusal came before the second binding reached the provider.
        binder.call("state::get", {"scope": scope, "key": "k"})
        assert "refused as asked" in binder.log()


def test_a_worker_cannot_provide_the_type_state(worker: Worker, other: Worker, scope: str) -> None:
    provide(worker, "state")
    other.serve(f"{scope}::on")
    other.bind(f"{scope}::on", {"scope": scope})

    other.call("state::set", {"scope": scope, "key": "k", "value": 1})

    assert len(other.events_of(f"{scope}::on", 1)) == 1
    assert worker.lines.matching(lambda line: line.get("event") == "bound") == []
