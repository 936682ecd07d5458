"""The ledger of a server: notes beside the data, in the same commits.

A letter is kept with its whole event. The log would have that too, but only as long as it reaches
back to it; and a letter is there to be looked at later, and sent again.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Iterator
from typing import TypeVar

import msgspec

from iii_state.core.checkpoints import Checkpoint
from iii_state.core.commands import Outcome
from iii_state.core.dead_letters import DeadLetter
from iii_state.core.names import quoted
from iii_state.core.store import Store
from iii_state.engine.ledgers import Definition
from iii_state.errors import StoreTooNew

log = logging.getLogger("iii_state.reactions")

CHECKPOINT = 16
"""The kind of note that has how far a durable binding has got; named like it."""
DEFINITION = 18
"""The kind that has what it binds; named like it."""
DEAD_LETTER = 20
"""The kind that has a dead letter; named by its id."""

Kept = TypeVar("Kept", Checkpoint, Definition, DeadLetter)


class StoreLedger:
    """Keeps what reactions write down in a store.

    It becomes durable with the next commit, which `commit_soon` asks for. `latest` is what came of
    the latest note: once it is settled, all that was written down before is durable.
    """

    def __init__(self, store: Store, commit_soon: Callable[[], None]) -> None:
        self.latest = Outcome(settled=True)
        self._store = store
        store.hold(self._needed_after)
        self._commit_soon = commit_soon

    def definitions(self) -> Iterable[Definition]:
        """See `Ledger.definitions`."""
        return list(self._all(DEFINITION, Definition))

    def define(self, definition: Definition) -> None:
        """See `Ledger.define`."""
        self._note(DEFINITION, definition.name, definition)

    def checkpoint(self, name: str) -> Checkpoint | None:
        """See `Ledger.checkpoint`."""
        payload = self._store.notes(CHECKPOINT).get(name)
        if payload is None:
            return None
        try:
            return msgspec.msgpack.decode(payload, type=Checkpoint)
        except msgspec.MsgspecError as error:
            raise StoreTooNew(
                f"Where the durable trigger {quoted(name)} stopped is written in a form that this "
                f"version does not read ({error}); use the version that wrote it, or delete the "
                f"trigger and bind it anew"
            ) from error

    def save(self, name: str, checkpoint: Checkpoint) -> None:
        """See `Ledger.save`."""
        self._note(CHECKPOINT, name, checkpoint)

    def forget(self, name: str) -> None:
        """See `Ledger.forget`."""
        self._note(DEFINITION, name, None)
        self._note(CHECKPOINT, name, None)

    def _needed_after(self) -> int | None:
        """The revision after which some durable binding still has to read the changes.

        Those that are sent again are in their letters.
        """
        lowest = [
            min([checkpoint.cursor, *(p.first - 1 for p in checkpoint.pending if not p.redriven)])
            for checkpoint in self._all(CHECKPOINT, Checkpoint)
        ]
        return min(lowest, default=None)

    def dead_letters(self) -> Iterable[DeadLetter]:
        """See `Ledger.dead_letters`. In the order in which they were parked."""
        letters = self._all(DEAD_LETTER, DeadLetter)
        return sorted(letters, key=lambda letter: letter.parked_at_ms)

    def park(self, letter: DeadLetter) -> None:
        """See `Ledger.park`."""
        self._note(DEAD_LETTER, letter.id, letter)

    def remove(self, letter: DeadLetter) -> None:
        """See `Ledger.remove`."""
        self._note(DEAD_LETTER, letter.id, None)

    def _note(
        self, kind: int, name: str, kept: Checkpoint | Definition | DeadLetter | None
    ) -> None:
        payload = msgspec.msgpack.encode(kept) if kept is not None else None
        self.latest = self._store.note(kind, name, payload)
        self._commit_soon()

    def _all(self, kind: int, type: type[Kept]) -> Iterator[Kept]:
        """What is kept under a kind. What another version wrote in another form stays there."""
        for name, payload in self._store.notes(kind).items():
            try:
                yield msgspec.msgpack.decode(payload, type=type)
            except msgspec.MsgspecError as error:
                log.error("the %s %r cannot be read: %s", type.__name__, name, error)
