"""Names as messages show them: whatever they hold, and however long they are."""

from __future__ import annotations

from typing import Final

SHOWN_MAX: Final = 200
"""Characters of a name that are shown; it may have a million."""


def shortened(name: str) -> str:
    """A name, cut when it is long."""
    return name if len(name) <= SHOWN_MAX else name[:SHOWN_MAX] + "..."


def quoted(name: str) -> str:
    """The same in quotes, what cannot be printed escaped."""
    return repr(shortened(name))
