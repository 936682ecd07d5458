"""The event of a change as something to look into: a path in, the raw JSON of a value out.

Only what a path leads to is read, from the values as they were written, and only once, however many
paths begin alike. Nothing is decoded further than to find where members and elements are.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Final

import msgspec

from iii_state.core.changes import Change
from iii_state.core.events import event_payload
from iii_state.core.values import JsonText, decode_elements, decode_members, encode_text, kind_of

ABSENT_ROOTS: Final = frozenset({"output", "error", "caller", "metadata"})
"""What other events than those of state may have beside `input`."""

_INDEX: Final = re.compile(r"0|[1-9][0-9]{0,14}")

Path = tuple[str, ...]
"""A root, then names of members and indexes of elements."""
Members = dict[str, msgspec.Raw]
Elements = list[msgspec.Raw]


class Tree:
    """A value and what is in it, read as far as it was asked for."""

    __slots__ = ("_found", "_opened")

    def __init__(self, found: dict[Path, JsonText | None]) -> None:
        self._found = found
        self._opened: dict[Path, Members | Elements] = {}

    def at(self, path: Path) -> JsonText | None:
        """The value that a path leads to; None if that is absent."""
        if path in self._found:
            return self._found[path]
        found = self._found[path] = self._look_up(path[:-1], path[-1])
        return found

    def _look_up(self, parent: Path, segment: str) -> JsonText | None:
        inside = self._opened.get(parent)
        if inside is None:
            inside = self._opened[parent] = self._open(parent)
        if isinstance(inside, dict):
            return inside.get(segment)
        if _INDEX.fullmatch(segment) and int(segment) < len(inside):
            return inside[int(segment)]
        return None

    def _open(self, path: Path) -> Members | Elements:
        raw = self.at(path)
        if raw is not None:
            kind = kind_of(raw)
            if kind == "object":
                return decode_members(raw)
            if kind == "array":
                return decode_elements(raw)
        return {}


class EventView(Tree):
    """The event of a change, for filters; share it among all that are asked of the same change.

    `attempt` is 1, since a change is selected before it is delivered.
    """

    __slots__ = ("_change",)

    def __init__(self, change: Change) -> None:
        super().__init__(dict.fromkeys((root,) for root in ABSENT_ROOTS))
        self._change = change

    def _look_up(self, parent: Path, segment: str) -> JsonText | None:
        if not parent:
            return event_payload(self._change, 1)
        if parent == ("input",) and segment in _QUICK:
            return _QUICK[segment](self._change)
        return super()._look_up(parent, segment)


_QUICK: Final[dict[str, Callable[[Change], bytes]]] = {
    "event_type": lambda change: b'"%b"' % change.event_type.encode(),
    "scope": lambda change: encode_text(change.scope),
    "key": lambda change: encode_text(change.key),
    "old_value": lambda change: b"null" if (value := change.before) is None else value,
    "new_value": lambda change: b"null" if (value := change.after) is None else value,
}
"""Members of the event that need not be searched for in its text."""
