"""A wall clock that was never set: everything works, only times are of no use."""

from __future__ import annotations

import time
from pathlib import Path

import pytest

import iii_state
from iii_state.clock import wall_clock_ms

BEFORE_1970_NS = -86_400 * 10**9
LONG_MS = 60_000


@pytest.fixture(autouse=True)
def _unset_clock(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(time, "time_ns", lambda: BEFORE_1970_NS)


def test_before_the_epoch_it_is_the_epoch() -> None:
    assert wall_clock_ms() == 0


async def test_a_store_is_made_written_and_opened_again(tmp_path: Path) -> None:
    async with iii_state.open(tmp_path) as state:
        await state.set("s", "k", 1)
        await state.set("s", "expires", 2, ttl_ms=LONG_MS)
        await state.delete("s", "absent")
    async with iii_state.open(tmp_path) as state:
        kept = await state.get_entry("s", "k")
        expiring = await state.get_entry("s", "expires")

    assert kept is not None
    assert expiring is not None
    assert (kept.value, kept.revision, kept.updated_at_ms) == (1, 1, 0)
    assert expiring.expires_at_ms is not None
    assert 0 < expiring.expires_at_ms <= 2 * LONG_MS
