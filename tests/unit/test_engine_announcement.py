"""What a worker tells of itself, and what follows from it."""

from __future__ import annotations

import pytest
from engine_bench import running_engine

from iii_state.engine.announcement import Announcement, message_bytes_max

REGISTER = "engine::workers::register"


async def test_an_announcement_that_wants_an_answer_gets_one() -> None:
    async with running_engine() as bench:
        client = bench.client(announce=False)
        assert client.ask(REGISTER, {"name": "w", "unknown": 1}) == {"success": True}
        assert client.ask(REGISTER, {}) == {"success": True}
        client.announce("w")
        assert len(client.got("invocationresult")) == 2


@pytest.mark.parametrize("data", [None, [], "x", {"name": 5}, {"pid": "1"}, {"features": [1]}])
async def test_one_that_does_not_decode_changes_nothing(data: object) -> None:
    async with running_engine() as bench:
        client = bench.client(announce=False)
        client.send("registerfunction", id="f")
        assert client.error(REGISTER, data) == "deserialization_error"
        assert client.worker.namespace is None
        assert client.error("f") == "function_not_found"


async def test_a_blank_namespace_stores_nothing_and_falls_into_the_default() -> None:
    async with running_engine() as bench:
        client = bench.client(announce=False)
        client.send("registerfunction", id="f")
        assert client.error(REGISTER, {"name": "w", "namespace": "  "}) == "INVALID_NAMESPACE"
        assert client.worker.name is None
        await bench.pass_time(5)
        client.call("f")
        assert len(client.got("invokefunction")) == 1


async def test_registrations_wait_for_the_namespace_and_calls_do_not() -> None:
    async with running_engine() as bench:
        client = bench.client(announce=False)
        client.send("registerfunction", id="f")
        assert client.error("f") == "function_not_found"
        assert client.ask("state::get", {"scope": "s", "key": "k"}) is None
        client.announce("w", namespace="orders")
        assert client.error("f") == "function_not_found"
        client.call("f", namespace="orders")
        assert len(client.got("invokefunction")) == 1


async def test_registrations_are_applied_in_order_when_the_time_is_over() -> None:
    async with running_engine() as bench:
        client = bench.client(announce=False)
        client.send("registerfunction", id="f")
        client.send("unregisterfunction", id="f")
        client.send("registerfunction", id="g")
        await bench.pass_time(4.9)
        assert client.error("g") == "function_not_found"
        await bench.pass_time(0.1)
        assert client.error("f") == "function_not_found"
        client.call("g")
        assert [m["function_id"] for m in client.got("invokefunction")] == ["g"]


async def test_a_later_one_updates_all_but_the_namespace() -> None:
    async with running_engine() as bench:
        client = bench.client("old", pid=1)
        client.announce("new", namespace="orders", description="d", pid=2)
        worker = client.ask("engine::workers::info", {"name": "new"})["worker"]
        assert (worker["namespace"], worker["description"], worker["pid"]) == ("default", "d", 2)


async def test_two_workers_may_have_one_name() -> None:
    async with running_engine() as bench:
        first, second = bench.client("w"), bench.client("w")
        assert first.got("registrationrejected") == []
        assert second.got("registrationrejected") == []
        assert second.peer.closed is None


async def test_names_lose_what_confuses_a_terminal_and_are_cut() -> None:
    async with running_engine() as bench:
        client = bench.client("a\x1b[2J\u202eb\n" + "x" * 300, description="\u2066d")
        assert client.worker.name == "a[2Jb" + "x" * 275
        assert client.worker.description == "d"


async def test_the_writer_of_a_change_is_called_by_its_name_or_its_id() -> None:
    async with running_engine() as bench:
        client = bench.client(announce=False)
        assert client.worker.origin.worker == client.worker.id
        client.announce("w")
        assert client.worker.origin.worker == "w"
        client.announce(None)
        assert client.worker.origin.worker == client.worker.id


@pytest.mark.parametrize(
    ("runtime", "version", "features", "expected_mib"),
    [
        ("python", "0.11.6", [], 1),
        ("python", "0.23.0", None, 1),
        ("python", "0.24.6", None, 64),
        ("python", "0.25.0rc1", ["observe.v1"], 64),
        ("python", "1.0", None, 64),
        ("python", "nonsense", None, 1),
        ("python", "", ["large-messages.v1"], 64),
        ("node", "0.11.6", None, 100),
        ("browser", None, None, 64),
        ("rust", "0.25.0", None, 1),
        (None, None, None, 1),
    ],
)
def test_the_largest_message_follows_from_the_client(
    runtime: str | None, version: str | None, features: list[str] | None, expected_mib: int
) -> None:
    announcement = Announcement(runtime=runtime, version=version, features=features)
    assert message_bytes_max(announcement) == expected_mib << 20


async def test_the_engine_itself_cannot_announce_itself() -> None:
    async with running_engine() as bench:
        client = bench.client("w")
        client.bind("t", REGISTER)
        client.ask("state::set", {"scope": "s", "key": "k", "value": 1})
        await bench.turn()
        [status] = bench.engine.reactions.snapshot()
        assert status.last_error is not None
        assert status.last_error.code == "deserialization_error"
