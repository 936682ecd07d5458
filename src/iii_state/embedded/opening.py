"""Opening a store in this process, and closing it."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator, Mapping
from contextlib import AsyncExitStack, asynccontextmanager, contextmanager
from pathlib import Path
from typing import Any

from iii_state.clock import wall_clock_ms
from iii_state.embedded.functions import Functions
from iii_state.embedded.loop_thread import LoopThread
from iii_state.embedded.reactions import LocalReactions
from iii_state.embedded.state import State
from iii_state.embedded.twin import SyncState
from iii_state.engine.engine import Engine, random_ids
from iii_state.errors import ConfigurationError
from iii_state.settings import SETTINGS, Settings
from iii_state.stores.opening import open_store


@asynccontextmanager
async def open(directory: str | Path | None, **settings: Any) -> AsyncIterator[State]:
    """Open a store; it is closed when the context is left, after the reactions have ended.

    `directory` is made when it is missing; None keeps everything in memory only. `settings` are
    those of `docs/configuration.md` that belong to the store: `durability`, `cache_bytes`, ...

    Raises:
        StoreUnusable: see its subclasses; nothing was touched.
    """
    chosen = _settings(directory, settings)
    async with AsyncExitStack() as stack:
        store = await open_store(chosen, wall_clock_ms)
        stack.push_async_callback(store.close)
        new_id = random_ids()
        engine = Engine(store, chosen, wall_clock_ms, new_id)
        engine.start()
        stack.push_async_callback(engine.stop)
        functions = Functions(engine)
        stack.callback(functions.close)
        reactions = LocalReactions(engine, new_id)
        is_left_in_order = False
        try:
            yield State(engine, functions, reactions)
            is_left_in_order = True
        finally:
            functions.leave()
            await reactions.finish(in_flight_only=not is_left_in_order)


@contextmanager
def open_sync(directory: str | Path | None, **settings: Any) -> Iterator[SyncState]:
    """The twin of `open` for programs without an event loop."""
    there = LoopThread()
    context = open(directory, **settings)
    try:
        state = there.wait(context.__aenter__())
        try:
            yield SyncState(state, there)
        except BaseException as error:
            there.wait(context.__aexit__(type(error), error, error.__traceback__))
            raise
        else:
            there.wait(context.__aexit__(None, None, None))
    finally:
        there.close()


def _settings(directory: str | Path | None, given: Mapping[str, object]) -> Settings:
    rows = {row.name: row for row in SETTINGS}
    chosen = {}
    for name, value in given.items():
        if name not in rows:
            raise ConfigurationError(f"open() has no setting {name!r}; see docs/configuration.md")
        chosen[name] = rows[name].parse(value, "open()")
    if directory is None:
        return Settings(in_memory=True, **chosen)
    return Settings(data_dir=Path(directory), **chosen)
