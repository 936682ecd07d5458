"""The dead letters of all bindings: parked, listed, sent again, discarded."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable

import msgspec

from iii_state.core.checkpoints import Checkpoint
from iii_state.core.dead_letters import DeadLetter, DeadLetters, Fault, letter_id_of
from iii_state.core.delivery import GivenUp
from iii_state.engine.followers import Follower
from iii_state.engine.invocations import Failure
from iii_state.engine.ledgers import Ledger

log = logging.getLogger("iii_state.reactions")

TEXT_CHARACTERS_MAX = 8192
"""What is kept of a message, and of a stack."""

DROPS_PER_LINE = 1000
"""How many letters make room until the log says so again."""


class DeadLetterBox:
    """Keeps letters in memory, and those of durable bindings in the ledger too.

    Those that an earlier process parked there are taken over. What is sent again is no letter any
    more, but stays in the ledger until it is done: the log may not reach back to it.
    """

    def __init__(self, letters: DeadLetters, ledger: Ledger, clock_ms: Callable[[], int]) -> None:
        self._letters = letters
        self._sent = letters.another()
        self._ledger = ledger
        self._clock_ms = clock_ms
        for letter in ledger.dead_letters():
            for dropped in letters.park(letter):
                ledger.remove(dropped)

    def count(self, follower: Follower) -> int:
        """How many letters a binding has."""
        return self._letters.count(follower.name)

    def page(
        self, trigger: str | None, after: int, limit: int
    ) -> tuple[list[DeadLetter], int | None]:
        """See `DeadLetters.page`."""
        return self._letters.page(trigger, after, limit)

    def park(self, follower: Follower, given_up: GivenUp, failure: Failure) -> None:
        """Keep what a binding gave up. The oldest letters may have to make room."""
        letter = DeadLetter(
            follower.name,
            given_up.change,
            given_up.attempts,
            _fault(failure),
            self._clock_ms(),
            follower.is_durable,
        )
        self._keep(letter)

    def chosen(self, ids: Iterable[str] | None, trigger: str | None) -> list[DeadLetter]:
        """The letters with these ids, or all; of one trigger, or of any. They stay."""
        return self._letters.chosen(ids, trigger)

    def send(self, letters: Iterable[DeadLetter]) -> None:
        """Take out letters whose events are on their way again."""
        for letter in letters:
            self._letters.remove(letter.id)
            if letter.is_durable:
                for dropped in self._sent.park(letter):
                    self._forget(dropped)

    def sent(self, name: str, revision: int) -> DeadLetter | None:
        """The letter of a durable binding that was sent again, also by an earlier process."""
        letter_id = letter_id_of(name, revision)
        letter = self._letters.remove(letter_id) or self._sent.remove(letter_id)
        if letter is not None:
            self.send([letter])
        return letter

    def saved(self, name: str, checkpoint: Checkpoint) -> None:
        """Forget what was sent again and is done, as a checkpoint says that was written down."""
        if self._sent.count(name):
            on_their_way = {each.revision for each in checkpoint.pending if each.redriven}
            for letter in self._sent.chosen(None, name):
                if letter.change.revision not in on_their_way:
                    self._sent.remove(letter.id)
                    self._forget(letter)

    def take_back(self, name: str, checkpoint: Checkpoint) -> None:
        """Let what was sent again to a binding that is deleted be a letter as before."""
        for pending in checkpoint.pending:
            letter = self._sent.remove(letter_id_of(name, pending.revision))
            if letter is not None:
                self._keep(msgspec.structs.replace(letter, attempts=pending.attempt - 1))

    def remove(self, letters: Iterable[DeadLetter]) -> None:
        """Forget letters."""
        for letter in letters:
            self._letters.remove(letter.id)
            self._forget(letter)

    def _keep(self, letter: DeadLetter) -> None:
        if letter.is_durable:
            self._sent.remove(letter.id)
            self._ledger.park(letter)
        dropped_before = self._letters.dropped
        for dropped in self._letters.park(letter):
            self._forget(dropped)
        if self._letters.dropped > dropped_before and dropped_before % DROPS_PER_LINE == 0:
            log.warning(
                "%d dead letters are kept, which is all there is room for; the oldest make room "
                "for new ones, %d so far. Redrive or discard some",
                len(self._letters),
                self._letters.dropped,
            )

    def _forget(self, letter: DeadLetter) -> None:
        if letter.is_durable:
            self._ledger.remove(letter)


def _fault(failure: Failure) -> Fault:
    """The failure, cut to what is kept. Of a stack that is its end, where it broke."""
    stacktrace = failure.stacktrace
    return Fault(
        failure.code[:TEXT_CHARACTERS_MAX],
        failure.message[:TEXT_CHARACTERS_MAX],
        stacktrace[-TEXT_CHARACTERS_MAX:] if stacktrace is not None else None,
    )
