"""A disk that fails, is full, or is gone, as clients see it: codes, and what still works."""

from __future__ import annotations

import asyncio
import shutil
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
from server_bench import PATIENCE_S, TEXT, Bench, Client, call, frame, serving

from iii_state.clock import wall_clock_ms
from iii_state.errors import StoreNotWritable
from iii_state.stores.disk.store import DiskStore
from iii_state.testing.clocks import FakeClock
from iii_state.testing.executors import InlineExecutor
from iii_state.testing.faulty_files import FaultyFiles

REFUSED = ("OUTCOME_UNKNOWN", "STORE_READ_ONLY", "writes are refused from now on")
"""Errors that the server logs when it can write no more."""

PLACE = {"scope": "s", "key": "k"}


class Rig:
    """A server over a disk whose faults the test sets, and a client with one acknowledged write."""

    def __init__(self, bench: Bench, client: Client, files: FaultyFiles, clock: FakeClock) -> None:
        self.bench = bench
        self.client = client
        self.files = files
        self.clock = clock

    async def set(self, key: str, value: Any) -> dict[str, Any]:
        """Write; the answer."""
        return await self.client.ask("state::set", {"scope": "s", "key": key, "value": value})

    async def reads_go_on(self) -> None:
        """What was acknowledged can be read, by everybody."""
        for client in (self.client, await self.bench.worker()):
            assert await client.result("state::get", PLACE) == "kept"
            assert await client.result("state::list", {"scope": "s"}) == ["kept"]
            assert await client.result("state::list_groups", {}) == {"groups": ["s"]}
            assert await client.result("state::list_keys", {"scope": "s"}) == {"keys": ["k"]}


@asynccontextmanager
async def rig(*, errors: tuple[str, ...] = (), **settings: Any) -> AsyncIterator[Rig]:
    files, clock = FaultyFiles(), FakeClock()
    store = await DiskStore.open(
        Path("/store"), clock_ms=clock, files=files, executor=InlineExecutor, segment_bytes=1 << 16
    )
    async with serving(store, errors=errors, **settings) as bench:
        client = await bench.worker()
        await client.result("state::set", {**PLACE, "value": "kept"})
        yield Rig(bench, client, files, clock)
    await store.close()


async def test_a_failed_sync_leaves_the_outcome_open_then_writes_are_refused_and_reads_go_on() -> (
    None
):
    async with rig(errors=REFUSED) as it:
        it.files.failing_sync = it.files.syncs + 1
        unknown = (await it.set("k", "doubtful"))["error"]
        assert unknown["code"] == "OUTCOME_UNKNOWN"
        assert "is not known" in unknown["message"]

        writes: dict[str, dict[str, Any]] = {
            "state::set": {"value": 1},
            "state::delete": {},
            "state::update": {"ops": [{"type": "set", "path": "a", "value": 1}]},
        }
        for function_id, more in writes.items():
            refused = await it.client.error(function_id, {**PLACE, **more})
            assert refused["code"] == "STORE_READ_ONLY"
            assert "restart" in refused["message"].lower()
        await it.reads_go_on()
        info = await it.client.result("state::info", {})
        assert (info["healthy"], info["revision"]) == (False, 1)
        assert info["problem"]


async def test_all_that_is_in_flight_at_a_failed_sync_is_answered() -> None:
    async with rig(errors=REFUSED) as it:
        it.files.failing_sync = it.files.syncs + 1
        data = {"scope": "s", "value": "x" * 3000}
        it.client.write(
            *[
                frame(TEXT, call("state::set", {**data, "key": f"{n}"}, f"set-{n}"))
                for n in range(300)
            ]
        )
        codes = []
        for _ in range(300):
            codes.append((await it.client.got("invocationresult"))["error"]["code"])
        assert set(codes) == {"OUTCOME_UNKNOWN", "STORE_READ_ONLY"}
        await it.reads_go_on()


async def test_nobody_hears_of_a_change_whose_sync_failed() -> None:
    async with rig(errors=REFUSED) as it:
        it.client.send("registerfunction", id="f")
        it.client.send("registertrigger", id="t", trigger_type="state", function_id="f", config={})
        await it.client.settled()
        it.files.failing_sync = it.files.syncs + 1
        await it.set("k", "doubtful")
        await it.client.settled()
        assert [m for m in it.client.messages if m["type"] == "invokefunction"] == []


async def test_the_log_tells_once_that_writes_are_refused() -> None:
    async with rig(errors=REFUSED) as it:
        it.files.failing_sync = it.files.syncs + 1
        for n in range(10):
            await it.set("k", n)
        assert len(it.bench.warnings("STORE_READ_ONLY")) == 1


async def test_a_full_disk_refuses_writes_until_there_is_room_again() -> None:
    async with rig(errors=("DISK_FULL",)) as it:
        it.files.room_bytes = sum(len(it.files.contents(path)) for path in it.files.paths())
        big = "x" * (1 << 16)
        full = (await it.set("big", big))["error"]
        assert full["code"] == "DISK_FULL"
        again = (await it.set("big", big))["error"]
        assert again["code"] == "DISK_FULL"
        await it.reads_go_on()
        assert (await it.client.result("state::info", {}))["healthy"] is False

        it.files.room_bytes = None
        assert (await it.set("big", big))["result"]["old_value"] is None
        assert (await it.set("k", "more"))["result"]["old_value"] == "kept"
        assert (await it.client.result("state::info", {}))["healthy"] is True
        assert it.bench.server.engine.store.revision == 3


async def test_a_void_write_that_fails_is_told_to_the_log() -> None:
    async with rig(errors=REFUSED) as it:
        it.files.failing_sync = it.files.syncs + 1
        void = call("state::set", {**PLACE, "value": 1}, None, action={"type": "void"})
        it.client.write(frame(TEXT, void))
        await it.reads_go_on()
        assert (await it.set("k", 1))["error"]["code"] == "STORE_READ_ONLY"
        assert it.bench.warnings("void call of state::set failed")


async def test_a_store_that_fails_as_it_should_not_leaves_nobody_waiting(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """There is no such failure that we know of; so one is made."""
    async with rig(errors=("should not", *REFUSED)) as it:

        async def fail() -> None:
            raise ZeroDivisionError

        with monkeypatch.context() as patch:
            patch.setattr(it.bench.server.engine.store, "commit", fail)
            assert (await it.set("new", 1))["error"]["code"] == "OUTCOME_UNKNOWN"
            for key in ("new", "newer"):
                assert (await it.set(key, 2))["error"]["code"] == "STORE_READ_ONLY"
            assert await it.client.result("state::get", PLACE) == "kept"
            async with asyncio.timeout(PATIENCE_S):
                await it.bench.server.stop()


async def test_a_clock_that_jumps_back_disturbs_nothing() -> None:
    async with rig() as it:
        it.client.send("registerfunction", id="f")
        it.client.send("registertrigger", id="t", trigger_type="state", function_id="f", config={})
        await it.client.settled()
        events = []
        steps = (5_000, -86_400_000, 1, -1_699_000_000_000, 3_000_000_000_000)
        for step in steps:
            it.clock.advance(step)
            assert "result" in await it.set("k", step)
            call_ = await it.client.got("invokefunction")
            it.client.send("invocationresult", invocation_id=call_["invocation_id"])
            events.append(call_["data"])
        assert [event["revision"] for event in events] == [2, 3, 4, 5, 6]
        assert len({event["event_id"] for event in events}) == 5
        assert [event["new_value"] for event in events] == list(steps)


async def test_a_directory_that_vanishes_is_told_and_reads_go_on(tmp_path: Path) -> None:
    directory = tmp_path / "data"
    store = await DiskStore.open(directory, clock_ms=wall_clock_ms, segment_bytes=1 << 16)
    async with serving(store, errors=REFUSED) as bench:
        client = await bench.worker()
        await client.result("state::set", {**PLACE, "value": "kept"})
        shutil.rmtree(directory)
        codes = set()
        for n in range(60):
            data = {"scope": "s", "key": f"{n}", "value": "x" * 5000}
            answer = await client.ask("state::set", data)
            if "error" in answer:
                codes.add(answer["error"]["code"])
        assert codes
        assert codes <= {"OUTCOME_UNKNOWN", "STORE_READ_ONLY"}
        assert await client.result("state::get", PLACE) == "kept"
    await store.close()


@pytest.mark.parametrize("kind", ["a file", "below a file"])
async def test_a_directory_that_cannot_be_one_opens_no_store(tmp_path: Path, kind: str) -> None:
    (tmp_path / "file").write_text("mine")
    directory = tmp_path / "file" / ("x" if kind == "below a file" else "")
    with pytest.raises(StoreNotWritable) as refused:
        await DiskStore.open(directory, clock_ms=wall_clock_ms)
    assert refused.value.details["directory"]
    assert (tmp_path / "file").read_text() == "mine"
