"""State inside a Python program: the same functions, store and reactions, without a server.

    async with iii_state.open("./data") as state:
        @state.on("orders")
        async def changed(event: iii_state.Event) -> None: ...

        await state.set("orders", "o-1", {"total": 12})

`open_sync` is the twin for programs without an event loop. Values are plain Python values; what
`json` can express, state can hold. Every method is a typed face of a function of the engine.

This is the list of public names: `iii_state` offers the same ones.
"""

from __future__ import annotations

from iii_state.core.bindings import Retry
from iii_state.embedded.events import Event
from iii_state.embedded.opening import open, open_sync
from iii_state.embedded.pages import Pages
from iii_state.embedded.results import (
    CompareAndSetResult,
    CountResult,
    CreateResult,
    DeadLetter,
    DeletedResult,
    Entry,
    GetManyResult,
    OperationError,
    SetResult,
    TouchResult,
    TransactResult,
    TriggerStatus,
    UpdateResult,
    Version,
)
from iii_state.embedded.state import State
from iii_state.embedded.transaction import Transaction
from iii_state.embedded.twin import SyncState, SyncTransaction, SyncWatch
from iii_state.embedded.watch import Watch
from iii_state.errors import Conflict, StateError

__all__ = [
    "CompareAndSetResult",
    "Conflict",
    "CountResult",
    "CreateResult",
    "DeadLetter",
    "DeletedResult",
    "Entry",
    "Event",
    "GetManyResult",
    "OperationError",
    "Pages",
    "Retry",
    "SetResult",
    "State",
    "StateError",
    "SyncState",
    "SyncTransaction",
    "SyncWatch",
    "TouchResult",
    "TransactResult",
    "Transaction",
    "TriggerStatus",
    "UpdateResult",
    "Version",
    "Watch",
    "open",
    "open_sync",
]
