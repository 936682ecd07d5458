"""What is kept beside the data: as everybody sees it, and as it is on disk."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from iii_state.stores.disk.overlay import Batch

Place = tuple[int, str]
"""A note's kind and name."""


class Notes:
    """All notes of a store. `durable` are those on disk, `of` has what is pending as well."""

    def __init__(self, durable: dict[Place, bytes]) -> None:
        self.durable = durable
        self._shown: dict[int, dict[str, bytes]] = {}
        for place, payload in durable.items():
            self.show(place, payload)

    def of(self, kind: int) -> Mapping[str, bytes]:
        """Those of one kind, by name."""
        return self._shown.get(kind, {})

    def show(self, place: Place, payload: bytes | None) -> None:
        """Let everybody see one; None: that it is forgotten."""
        kind, name = place
        notes = self._shown.setdefault(kind, {})
        if payload is None:
            notes.pop(name, None)
        else:
            notes[name] = payload

    def settle(self, batch: Batch) -> None:
        """Those of a batch are on disk."""
        for place, payload in batch.notes.items():
            if payload is None:
                self.durable.pop(place, None)
            else:
                self.durable[place] = payload

    def fail(self, batches: Iterable[Batch]) -> dict[Place, bytes | None]:
        """Forget what is tied to batches that failed; returns what the next one has to take."""
        again: dict[Place, bytes | None] = {}
        for batch in batches:
            for place, payload in batch.notes.items():
                if place in batch.tied:
                    self.show(place, self.durable.get(place))
                else:
                    again[place] = payload
        return again
