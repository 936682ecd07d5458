"""The other process that a store has for compaction: out of the way, and gone when idle."""

from __future__ import annotations

import asyncio
import logging
import os
import signal
from contextlib import suppress
from pathlib import Path

import pytest
from compaction_processes import (
    await_end,
    await_reader,
    hold_up,
    let_pass,
    niceness,
    process,
    processes,
)

from iii_state.core.commands import Get, Set
from iii_state.stores.disk.directory import TEMPORARY_SUFFIX
from iii_state.stores.disk.maintenance import IDLE_S, NICE, NICE_BEHIND
from iii_state.stores.disk.store import DiskStore
from iii_state.testing.clocks import FakeClock


async def open_store(
    directory: Path, *, segment_bytes: int = 1 << 20, history_bytes: int = 0
) -> DiskStore:
    return await DiskStore.open(
        directory,
        clock_ms=FakeClock(),
        segment_bytes=segment_bytes,
        history_bytes=history_bytes,
        cache_bytes=0,
    )


async def write(store: DiskStore, changes: int) -> None:
    for n in range(changes):
        store.execute(Set("s", "k", b'"%050000d"' % n))
        await store.commit()


def unfinished(directory: Path) -> list[Path]:
    return list(directory.glob(f"*{TEMPORARY_SUFFIX}"))


async def test_compaction_runs_in_another_process(tmp_path: Path) -> None:
    store = await open_store(tmp_path, segment_bytes=2 << 20)
    used = set()
    for n in range(30):
        for m in range(20):
            store.execute(Set("s", f"{m}", b'"%010000d"' % n))
        await store.commit()
        await store.compact()
        used |= processes()
    await store.close()
    assert len(used) == 1, "one serves all jobs"
    assert processes() == set()

    store = await open_store(tmp_path, segment_bytes=2 << 20)

    assert store.info().disk_bytes < 3 << 20
    entries = [store.execute(Get("s", f"{m}")).entry for m in range(20)]
    assert [entry and entry.value for entry in entries] == [b'"%010000d"' % 29] * 20
    await store.close()


@pytest.mark.parametrize(("changes", "expected"), [(80, NICE), (160, NICE_BEHIND)])
async def test_compaction_stands_back_behind_the_server_unless_much_waits_for_it(
    tmp_path: Path, changes: int, expected: int
) -> None:
    store = await open_store(tmp_path, history_bytes=1 << 30)
    await write(store, changes)
    await store.close()

    store = await open_store(tmp_path)
    seen: set[int] = set()
    work = asyncio.create_task(store.compact())
    while not work.done():
        with suppress(ProcessLookupError):  # it ends meanwhile
            seen |= {niceness(pid) for pid in processes()}
        await asyncio.sleep(0.001)
    await store.close()

    assert expected in seen
    assert seen <= {niceness(0), expected}  # it begins as the server is


async def store_held_up(directory: Path) -> tuple[DiskStore, list[Path]]:
    """A store whose first merge does not come to an end, and its hints."""
    store = await open_store(directory, history_bytes=1 << 30)
    await write(store, 80)
    await store.close()
    store = await open_store(directory)
    return store, hold_up(directory)


async def test_closing_ends_a_merge_that_is_going_on(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    store, pipes = await store_held_up(tmp_path)
    work = asyncio.create_task(store.compact())
    await asyncio.to_thread(await_reader, pipes[0])
    assert len(processes()) == 1

    await store.close()

    await work
    assert processes() == set()
    assert not unfinished(tmp_path)
    assert not caplog.records


async def test_a_merge_whose_process_is_killed_is_tried_again(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.WARNING)
    store, pipes = await store_held_up(tmp_path)
    work = asyncio.create_task(store.compact())
    await asyncio.to_thread(await_reader, pipes[0])
    os.kill(process(), signal.SIGKILL)
    await work
    assert "A merge was given up, and is tried again later" in caplog.text
    assert "status -9" in caplog.text
    assert not unfinished(tmp_path)
    before = store.info().disk_bytes
    let_pass(pipes)

    await store.compact()

    assert store.info().disk_bytes < before / 2
    await store.close()


class Hastened(asyncio.SelectorEventLoop):
    """A loop whose time can be moved on."""

    ahead_s = 0.0

    def time(self) -> float:
        return super().time() + self.ahead_s


def test_it_ends_when_nothing_was_due_for_a_while(tmp_path: Path) -> None:
    async def story(loop: Hastened) -> None:
        store = await open_store(tmp_path, segment_bytes=2 << 20)
        await write(store, 80)
        await store.compact()
        first = process()
        loop.ahead_s += IDLE_S / 2
        await write(store, 80)
        await store.compact()
        loop.ahead_s += IDLE_S / 2
        await asyncio.sleep(0.001)
        await write(store, 80)
        await store.compact()
        assert process() == first, "something was due meanwhile"

        pidfd = os.pidfd_open(first)
        loop.ahead_s += IDLE_S
        await asyncio.to_thread(await_end, pidfd)

        await write(store, 80)
        await store.compact()
        assert process() != first
        await store.close()

    with asyncio.Runner(loop_factory=Hastened) as runner:
        loop = runner.get_loop()
        assert isinstance(loop, Hastened)
        runner.run(story(loop))
    assert processes() == set()
