"""The ledger: what is written down of reactions, to go on after a restart.

Reactions say here what has to outlive them: which durable bindings there are, how far each has got,
and their dead letters. The order of the calls matters. A letter is parked before a checkpoint is
saved that has its event behind it, and one that is sent again is removed after the checkpoint is
saved that has its event behind it; so whenever the process ends, each event is in one of them, and
one that is sent again is in both: a checkpoint names it, and the letter has it.
Whoever keeps them keeps that order.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Protocol

import msgspec

from iii_state.core.bindings import Binding, BindingConfig
from iii_state.core.checkpoints import Checkpoint
from iii_state.core.dead_letters import DeadLetter


class Definition(msgspec.Struct, frozen=True, array_like=True):
    """A durable binding as it was bound last. `config` and `metadata` are JSON texts.

    `initial_up_to` is set if it began with the entries that were there: it is the revision at which
    that was. At or below it, the revisions in its checkpoint are those of entries.
    """

    name: str
    binding_id: str
    function_id: str
    namespace: str
    config: bytes | None
    metadata: bytes | None
    initial_up_to: int | None = None

    @classmethod
    def of(cls, binding: Binding, initial_up_to: int | None = None) -> Definition:
        """That of a durable binding."""
        return cls(
            binding.config.durable or "",
            binding.id,
            binding.function_id,
            binding.namespace,
            binding.raw_config,
            binding.metadata,
            initial_up_to,
        )

    @property
    def size(self) -> int:
        """The bytes that it takes, roughly."""
        names = self.name + self.binding_id + self.function_id + self.namespace
        return len(names) + len(self.config or b"") + len(self.metadata or b"")

    def binding(self) -> Binding:
        """The binding.

        Raises:
            InvalidRequest: this version does not take its config any more.
        """
        return Binding(
            self.binding_id,
            self.function_id,
            self.namespace,
            BindingConfig.parse(self.config),
            self.config,
            self.metadata,
            self.initial_up_to or 0,
        )


class Ledger(Protocol):
    """Keeps definitions, checkpoints and dead letters. None of these wait."""

    def definitions(self) -> Iterable[Definition]:
        """The durable bindings; asked for once, at the start."""

    def define(self, definition: Definition) -> None:
        """Keep a definition, instead of the one of the same name."""

    def checkpoint(self, name: str) -> Checkpoint | None:
        """The latest checkpoint of a durable binding; None if there is none.

        Raises:
            StateError: there is one that cannot be read.
        """

    def save(self, name: str, checkpoint: Checkpoint) -> None:
        """Keep a checkpoint, instead of the one before."""

    def forget(self, name: str) -> None:
        """Forget a durable binding and its checkpoint. Its letters stay."""

    def dead_letters(self) -> Iterable[DeadLetter]:
        """The letters of durable bindings, as parked; asked for once, at the start."""

    def park(self, letter: DeadLetter) -> None:
        """Keep a letter, instead of one with the same id."""

    def remove(self, letter: DeadLetter) -> None:
        """Forget a letter."""


class MemoryLedger:
    """Keeps them as long as the process lives."""

    def __init__(self) -> None:
        self._definitions: dict[str, Definition] = {}
        self._checkpoints: dict[str, Checkpoint] = {}
        self._letters: dict[str, DeadLetter] = {}

    def definitions(self) -> Iterable[Definition]:
        """See `Ledger.definitions`."""
        return list(self._definitions.values())

    def define(self, definition: Definition) -> None:
        """See `Ledger.define`."""
        self._definitions[definition.name] = definition

    def checkpoint(self, name: str) -> Checkpoint | None:
        """See `Ledger.checkpoint`."""
        return self._checkpoints.get(name)

    def save(self, name: str, checkpoint: Checkpoint) -> None:
        """See `Ledger.save`."""
        self._checkpoints[name] = checkpoint

    def forget(self, name: str) -> None:
        """See `Ledger.forget`."""
        self._definitions.pop(name, None)
        self._checkpoints.pop(name, None)

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
