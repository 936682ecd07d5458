"""Durable, reactive key-value state for iii workers and Python programs.

`open` and `open_sync` embed it (`iii_state.embedded`, where the public names are listed); the
command `iii-state serve` is the server. Importing this package does nothing else: what it offers is
loaded when it is first used.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

__version__ = "0.1.0"

if TYPE_CHECKING:
    from iii_state.embedded import *  # noqa: F403 (the list is there)
else:

    def __getattr__(name: str) -> Any:
        if name == "__all__":
            return __dir__()
        if not name.startswith("_"):
            embedded = import_module("iii_state.embedded")
            if name in embedded.__all__:
                return getattr(embedded, name)
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")

    def __dir__() -> list[str]:
        return ["__version__", *import_module("iii_state.embedded").__all__]
