"""Filters: iii's filter language, version 1, asked of the event of a change."""

from __future__ import annotations

from typing import Final

import msgspec

from iii_state.core.values import JsonText, kind_of
from iii_state.errors import InvalidRequest

INVALID_FILTER: Final = "INVALID_FILTER"


class Filter:
    """A parsed filter. Two are equal when their texts are, but for the space between tokens."""

    __slots__ = ("text",)

    def __init__(self, text: bytes) -> None:
        self.text = text

    @classmethod
    def parse(cls, raw: JsonText) -> Filter:
        """Read a filter from its JSON text.

        Raises:
            InvalidRequest: it breaks a rule of the language; its code is `INVALID_FILTER`.
        """
        if kind_of(raw) != "object":
            raise InvalidRequest("a filter is an object of clauses", code=INVALID_FILTER)
        return cls(msgspec.json.format(bytes(raw), indent=-1))

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Filter) and self.text == other.text

    def __hash__(self) -> int:
        return hash(self.text)

    def __repr__(self) -> str:
        return f"Filter({self.text!r})"
