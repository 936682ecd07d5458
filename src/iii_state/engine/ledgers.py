"""The ledger: what is written down of reactions, to go on after a restart.

Reactions say here what has to outlive them: how far each durable binding has got, and its dead
letters. The order of the calls matters. A letter is parked before a checkpoint is saved that has
its event behind it, and one that is sent again is removed after the checkpoint is saved that has it
as pending; so whenever the process ends, each event is in at least one of them. Whoever keeps them
keeps that order.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Protocol

from iii_state.core.checkpoints import Checkpoint
from iii_state.core.dead_letters import DeadLetter


class Ledger(Protocol):
    """Keeps checkpoints and dead letters. None of these wait."""

    def checkpoint(self, name: str) -> Checkpoint | None:
        """The latest checkpoint of a durable binding; None if there is none."""

    def save(self, name: str, checkpoint: Checkpoint) -> None:
        """Keep a checkpoint, instead of the one before."""

    def dead_letters(self) -> Iterable[DeadLetter]:
        """The letters of durable bindings, as parked; asked for once, at the start."""

    def park(self, letter: DeadLetter) -> None:
        """Keep a letter, instead of one with the same id."""

    def remove(self, letter: DeadLetter) -> None:
        """Forget a letter."""


class MemoryLedger:
    """Keeps them as long as the process lives."""

    def __init__(self) -> None:
        self._checkpoints: dict[str, Checkpoint] = {}
        self._letters: dict[str, DeadLetter] = {}

    def checkpoint(self, name: str) -> Checkpoint | None:
        """See `Ledger.checkpoint`."""
        return self._checkpoints.get(name)

    def save(self, name: str, checkpoint: Checkpoint) -> None:
        """See `Ledger.save`."""
        self._checkpoints[name] = checkpoint

    def dead_letters(self) -> Iterable[DeadLetter]:
        """See `Ledger.dead_letters`."""
        return list(self._letters.values())

    def park(self, letter: DeadLetter) -> None:
        """See `Ledger.park`."""
        self._letters.pop(letter.id, None)
        self._letters[letter.id] = letter

    def remove(self, letter: DeadLetter) -> None:
        """See `Ledger.remove`."""
        self._letters.pop(letter.id, None)
