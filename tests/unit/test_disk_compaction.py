"""A merge comes to the same whether it finds hints or not, and never goes over damage."""

from __future__ import annotations

import gc
import os
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from iii_state.core.commands import Delete, Set
from iii_state.errors import StoreDamaged
from iii_state.stores.disk.compaction import Job, perform
from iii_state.stores.disk.files import Files
from iii_state.stores.disk.hints import HINT_SUFFIX
from iii_state.stores.disk.store import DiskStore
from iii_state.testing.clocks import FakeClock
from iii_state.testing.executors import InlineExecutor

RUN, LATER = ["0000000002-0000000002.seg", "0000000003-0000000003.seg"], "0000000004-0000000004.seg"


async def fill(directory: Path) -> None:
    """Segments of two scopes: most keys are overwritten, some deleted, some left alone."""
    store = await DiskStore.open(
        directory,
        clock_ms=FakeClock(),
        segment_bytes=16 << 10,
        history_bytes=1 << 30,
        executor=InlineExecutor,
    )
    for number in range(300):
        scope = ("even", "odd")[number % 2]
        key = f"once{number}" if number % 5 == 0 else f"often{number * number % 50}"
        is_delete = number % 7 == 3
        store.execute(Delete(scope, key) if is_delete else Set(scope, key, b'"%0250d"' % number))
        if number % 10 == 9:
            await store.commit()
    await store.compact()
    await store.close()


def merged(directory: Path) -> tuple[bytes, bytes]:
    """The two files that merging the run makes."""
    job = Job(str(directory), RUN, [LATER], 1 << 40, 0, 7, "merged", "hint")
    perform(job, Files())
    return (directory / "merged").read_bytes(), (directory / "hint").read_bytes()


def remove(hint: Path) -> None:
    hint.unlink()


def flip(hint: Path) -> None:
    data = bytearray(hint.read_bytes())
    data[len(data) // 2] ^= 1
    hint.write_bytes(data)


def exchange(hint: Path) -> None:
    shutil.copy(hint.with_name("0000000001-0000000001.hint"), hint)


@pytest.mark.parametrize("spoil", [remove, flip, exchange])
async def test_without_a_valid_hint_the_segments_are_read(
    tmp_path: Path, spoil: Callable[[Path], None]
) -> None:
    await fill(tmp_path)
    hints = [(tmp_path / name).with_suffix(HINT_SUFFIX) for name in (*RUN, LATER)]
    assert all(hint.exists() for hint in hints)
    expected = merged(tmp_path)
    size = sum((tmp_path / name).stat().st_size for name in RUN)
    assert size // 10 < len(expected[0]) < size // 2, "some survive, some do not"
    for hint in hints:
        spoil(hint)
    assert merged(tmp_path) == expected


@pytest.mark.parametrize("has_hint", [True, False])
async def test_a_damaged_segment_is_not_merged(tmp_path: Path, has_hint: bool) -> None:
    await fill(tmp_path)
    path = tmp_path / RUN[1]
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(data)
    if not has_hint:
        remove(path.with_suffix(HINT_SUFFIX))
    with pytest.raises(StoreDamaged, match=RUN[1]):
        merged(tmp_path)


async def test_a_segment_that_is_refused_does_not_stay_open(tmp_path: Path) -> None:
    """The process performs other jobs after it."""
    await fill(tmp_path)
    (tmp_path / RUN[1]).unlink()
    (tmp_path / RUN[1]).mkdir()
    before = os.listdir("/dev/fd")
    with pytest.raises(IsADirectoryError):
        merged(tmp_path)
    assert len(os.listdir("/dev/fd")) == len(before)


async def test_a_job_leaves_nothing_to_the_garbage_collector(tmp_path: Path) -> None:
    """What it has in memory goes with it, however seldom the collector runs."""
    await fill(tmp_path)
    merged(tmp_path)
    gc.collect()
    merged(tmp_path)
    assert gc.collect() == 0
