"""What holds for all tests: how failures explain themselves, and which event loop is under them."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from pathlib import Path

import pytest
import uvloop

pytest.register_assert_rewrite("iii_state.testing.store_contract")

HOST = Path(__file__).parent / "host"


def pytest_asyncio_loop_factories(
    item: pytest.Item,
) -> dict[str, Callable[[], asyncio.AbstractEventLoop]]:
    """Servers run on the loop that `iii-state serve` runs on, all else on that of the library."""
    if item.path.is_relative_to(HOST):
        return {"uvloop": uvloop.new_event_loop}
    return {"asyncio": asyncio.new_event_loop}
