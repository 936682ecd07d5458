"""What writes note beside the data outlives the process."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
from engine_bench import SETTINGS, Client

from iii_state.engine.engine import Engine, random_ids
from iii_state.stores.disk.store import DiskStore
from iii_state.testing.clocks import FakeClock
from iii_state.testing.executors import InlineExecutor
from iii_state.testing.faulty_files import FaultyFiles

KEY = {"scope": "s", "key": "k"}
NEW = "n" * 900
RESULT = "invocationresult"


class DiskBench:
    """A running engine over a store on disk, and a worker connected to it."""

    def __init__(self, engine: Engine) -> None:
        self.engine = engine
        self.client = Client(self)  # type: ignore[arg-type]

    async def ask(self, name: str, **members: Any) -> Any:
        """Call a function and wait for its answer."""
        call = self.client.call(f"state::{name}", {**KEY, **members})
        await self.engine.commits.settled()
        while call not in [m["invocation_id"] for m in self.client.got(RESULT, keep=True)]:
            await asyncio.sleep(0)
        answer = self.client.answer_to(call)
        return answer.get("result", answer.get("error"))


@asynccontextmanager
async def running(place: Path, clock: FakeClock) -> AsyncIterator[DiskBench]:
    store = await DiskStore.open(place, clock_ms=clock)
    engine = Engine(store, SETTINGS, clock, random_ids())
    engine.start()
    yield DiskBench(engine)
    await engine.stop()
    await store.close()


async def test_what_expired_while_the_server_was_down_is_gone_at_its_start(tmp_path: Path) -> None:
    clock = FakeClock()
    async with running(tmp_path, clock) as bench:
        await bench.ask("set", value=1, ttl_ms=60_000)
        await bench.ask("touch", ttl_ms=120_000)
    clock.advance(119_000)
    async with running(tmp_path, clock) as bench:
        alive = await bench.ask("get")
    clock.advance(2_000)
    async with running(tmp_path, clock) as bench:
        await asyncio.sleep(0.05)
        revision = (await bench.ask("info"))["revision"]
        gone = await bench.ask("get", with_revision=True)

    assert (alive, revision, gone) == (1, 2, {"revision": 0})


async def test_a_touch_is_answered_once_it_is_on_disk(tmp_path: Path) -> None:
    clock = FakeClock()
    async with running(tmp_path, clock) as bench:
        await bench.ask("set", value=1)
        call = bench.client.call("state::touch", {**KEY, "ttl_ms": 1000})
        early = bench.client.got("invocationresult", keep=True)
        await bench.engine.commits.settled()
        late = bench.client.answer_to(call)

    assert call not in [m["invocation_id"] for m in early]
    assert late["result"]["found"]


async def test_an_idempotency_key_is_known_after_a_restart(tmp_path: Path) -> None:
    clock = FakeClock()
    request = {"value": 1, "idempotency_key": "x", "with_revision": True}
    async with running(tmp_path, clock) as bench:
        first = await bench.ask("set", **request)
        await bench.ask("set", value=2)
    async with running(tmp_path, clock) as bench:
        again = await bench.ask("set", **request)
        now = await bench.ask("get")

    assert (first, again, now) == ({"old_value": None, "new_value": 1, "revision": 1}, first, 2)


async def test_a_removal_that_is_repeated_after_a_restart_lets_be_what_was_made_since(
    tmp_path: Path,
) -> None:
    clock = FakeClock()
    async with running(tmp_path, clock) as bench:
        await bench.ask("clear", idempotency_key="x")  # there is nothing: only the note is kept
    async with running(tmp_path, clock) as bench:
        await bench.ask("set", value=1)
        again = await bench.ask("clear", idempotency_key="x")
        now = await bench.ask("get")

    assert (again, now) == ({"deleted": 0, "last_revision": 0}, 1)


async def test_a_repetition_of_what_is_still_pending_waits_for_it(tmp_path: Path) -> None:
    request = {**KEY, "value": 1, "idempotency_key": "x"}
    async with running(tmp_path, FakeClock()) as bench:
        calls = [bench.client.call("state::set", request) for _ in range(3)]
        await bench.engine.commits.settled()
        answers = [bench.client.answer_to(call)["result"] for call in calls]
        revision = (await bench.ask("info"))["revision"]

    assert answers == [{"old_value": None, "new_value": 1}] * 3
    assert revision == 1


@asynccontextmanager
async def on_a_small_disk(
    clock: FakeClock, cache_bytes: int = 1 << 20
) -> AsyncIterator[tuple[DiskBench, FaultyFiles]]:
    files = FaultyFiles()
    store = await DiskStore.open(
        Path("/data"),
        clock_ms=clock,
        files=files,
        executor=InlineExecutor,
        segment_bytes=4096,
        cache_bytes=cache_bytes,
    )
    engine = Engine(store, SETTINGS, clock, random_ids())
    engine.start()
    yield DiskBench(engine), files
    await engine.stop()
    await store.close()


async def fill(bench: DiskBench, files: FaultyFiles) -> None:
    """Use up the room on the disk, so that no write is taken."""
    files.room_bytes = sum(len(files.contents(path)) for path in files.paths())
    for number in range(100):
        answer = await bench.ask("set", key=f"{number}", value="x" * 900)
        if answer.get("code") == "DISK_FULL":
            return
    raise AssertionError("the disk never filled up")


@pytest.mark.parametrize("is_hindered", [False, True])
async def test_what_a_failed_write_would_have_noted_is_forgotten(is_hindered: bool) -> None:
    """The failure comes from the commit, or at once."""
    async with on_a_small_disk(FakeClock()) as (bench, files):
        await bench.ask("set", value="old", idempotency_key="before")
        await fill(bench, files)
        if not is_hindered:
            bench.engine.store._log.is_hindered = False  # type: ignore[attr-defined]
        request = {"value": NEW, "ttl_ms": 60_000, "idempotency_key": "x"}
        refused = [await bench.ask("set", **request) for _ in range(2)]
        touched = await bench.ask("touch", ttl_ms=60_000)
        kept = await bench.ask("get", with_revision=True)
        files.room_bytes = None
        taken = await bench.ask("set", **request)
        now = await bench.ask("get", with_revision=True)

    assert [answer["code"] for answer in refused] == ["DISK_FULL"] * 2
    assert (kept["value"], "expires_at_ms" in kept) == ("old", touched.get("found", False))
    assert taken == {"old_value": "old", "new_value": NEW}
    assert "expires_at_ms" in now


@pytest.mark.parametrize(
    ("name", "members", "answer"),
    [
        ("set", {"value": 1}, {"old_value": None, "new_value": 1}),
        ("set", {"value": 1, "idempotency_key": "x"}, {"old_value": None, "new_value": 1}),
        ("delete", {}, None),
        ("clear", {}, {"deleted": 2, "last_revision": 4}),
        ("delete_prefix", {"prefix": "k"}, {"deleted": 1, "last_revision": 3}),
    ],
)
async def test_a_key_whose_value_is_damaged_can_be_written_and_removed(
    name: str, members: dict[str, Any], answer: Any
) -> None:
    async with on_a_small_disk(FakeClock(), cache_bytes=0) as (bench, files):
        await bench.ask("set", value=NEW)
        await bench.ask("set", key="other", value=2)
        rot(files, NEW)
        before = await bench.ask("get")
        refused = await bench.ask("update", ops=[])

        answered = await bench.ask(name, **members)

        after = await bench.ask("get")

    assert before["code"] == refused["code"] == "STORE_DAMAGED"
    assert answered == answer
    assert after == members.get("value")


async def test_a_key_whose_value_is_damaged_expires() -> None:
    clock = FakeClock()
    async with on_a_small_disk(clock, cache_bytes=0) as (bench, files):
        await bench.ask("set", value=NEW, ttl_ms=1)
        rot(files, NEW)
        for _ in range(1000):
            await asyncio.sleep(0.001)
            listed = await bench.ask("list_keys")
            if listed == {"keys": []}:
                break
        revision = (await bench.ask("info"))["revision"]

    assert listed == {"keys": []}
    assert revision == 2


def rot(files: FaultyFiles, value: str) -> None:
    """Flip a bit of a value on the disk."""
    [path] = [path for path in files.paths() if path.suffix == ".seg"]
    files.rot(path, files.contents(path).index(value.encode()))
