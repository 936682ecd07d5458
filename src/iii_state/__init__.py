"""Durable, reactive key-value state for iii workers and Python programs.

`open` and `open_sync` embed it (`iii_state.embedded`); the command `iii-state serve` is the server.
Importing this package does nothing else: what it offers is loaded when it is first used.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from iii_state.embedded import (
        CompareAndSetResult,
        CountResult,
        CreateResult,
        DeadLetter,
        DeletedResult,
        Entry,
        Event,
        GetManyResult,
        OperationError,
        Pages,
        Retry,
        SetResult,
        State,
        SyncState,
        SyncTransaction,
        SyncWatch,
        TouchResult,
        Transaction,
        TransactResult,
        TriggerStatus,
        UpdateResult,
        Version,
        Watch,
        open,
        open_sync,
    )
    from iii_state.errors import Conflict, StateError

__version__ = "0.1.0"

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
    "__version__",
    "open",
    "open_sync",
]

_ERRORS = frozenset(("Conflict", "StateError"))


def __getattr__(name: str) -> Any:
    if name in __all__:
        room = "errors" if name in _ERRORS else "embedded"
        return getattr(import_module(f"iii_state.{room}"), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
