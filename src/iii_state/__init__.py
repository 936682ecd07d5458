"""Durable, reactive key-value state for iii workers and Python programs.

`open` and `open_sync` embed it (`iii_state.embedded`); the command `iii-state serve` is the server.
Importing this package does nothing else: what it offers is loaded when it is first used.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from iii_state.embedded import (
        Event,
        OperationError,
        SetResult,
        State,
        SyncState,
        UpdateResult,
        open,
        open_sync,
    )
    from iii_state.errors import StateError

__version__ = "0.1.0"

__all__ = [
    "Event",
    "OperationError",
    "SetResult",
    "State",
    "StateError",
    "SyncState",
    "UpdateResult",
    "__version__",
    "open",
    "open_sync",
]


def __getattr__(name: str) -> Any:
    if name == "StateError":
        return import_module("iii_state.errors").StateError
    if name in __all__:
        return getattr(import_module("iii_state.embedded"), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
