"""Dead letters: events that were given up, kept to be looked at, and sent again or discarded.

What is kept is bounded by number and bytes; past that the oldest make room, and are counted.
"""

from __future__ import annotations

from collections.abc import Iterable

import msgspec

from iii_state.core.changes import Change

LETTERS_MAX = 10_000
LETTER_BYTES_MAX = 64 << 20
LETTER_OVERHEAD_BYTES = 1024
"""What a letter costs beyond its values and its error, roughly."""


class Fault(msgspec.Struct, frozen=True, gc=False):
    """Why a delivery failed, in the words of whoever ran it."""

    code: str
    message: str
    stacktrace: str | None = None


class DeadLetter(msgspec.Struct, frozen=True, gc=False):
    """An event that was given up.

    `trigger` names the binding: the name of a durable one, else its id; the letter's own `id` is
    that and the revision. `attempts` is how often it was delivered, 0 if it never was.
    """

    trigger: str
    change: Change
    attempts: int
    fault: Fault
    parked_at_ms: int
    is_durable: bool = False

    @property
    def id(self) -> str:
        """What it is called by."""
        return letter_id_of(self.trigger, self.change.revision)

    @property
    def size(self) -> int:
        """The bytes that it counts for."""
        fault = self.fault
        return (
            LETTER_OVERHEAD_BYTES
            + self.change.value_bytes
            + len(fault.message)
            + len(fault.stacktrace or "")
        )


def letter_id_of(trigger: str, revision: int) -> str:
    """What the letter of a trigger about a revision is called by."""
    return f"{trigger}@{revision}"


class DeadLetters:
    """The letters of all bindings, in the order in which they were parked.

    `dropped` counts those that made room for newer ones.
    """

    def __init__(self, letters_max: int = LETTERS_MAX, bytes_max: int = LETTER_BYTES_MAX) -> None:
        self.dropped = 0
        self._letters_max = letters_max
        self._bytes_max = bytes_max
        self._letters: dict[str, tuple[int, DeadLetter]] = {}
        self._per_trigger: dict[str, int] = {}
        self._bytes = 0
        self._parked = 0

    def another(self) -> DeadLetters:
        """An empty one that has the same bounds."""
        return DeadLetters(self._letters_max, self._bytes_max)

    def __len__(self) -> int:
        return len(self._letters)

    def count(self, trigger: str) -> int:
        """How many letters a trigger has."""
        return self._per_trigger.get(trigger, 0)

    def park(self, letter: DeadLetter) -> list[DeadLetter]:
        """Keep a letter, instead of one with the same id; those that made room for it."""
        self.remove(letter.id)
        self._parked += 1
        self._letters[letter.id] = self._parked, letter
        self._per_trigger[letter.trigger] = self.count(letter.trigger) + 1
        self._bytes += letter.size
        dropped = []
        while len(self._letters) > 1 and (
            len(self._letters) > self._letters_max or self._bytes > self._bytes_max
        ):
            _, oldest = next(iter(self._letters.values()))
            self.remove(oldest.id)
            dropped.append(oldest)
        self.dropped += len(dropped)
        return dropped

    def remove(self, letter_id: str) -> DeadLetter | None:
        """Forget a letter; it, unless there is no such one."""
        found = self._letters.pop(letter_id, None)
        if found is None:
            return None
        letter = found[1]
        self._bytes -= letter.size
        left = self._per_trigger[letter.trigger] - 1
        if left:
            self._per_trigger[letter.trigger] = left
        else:
            del self._per_trigger[letter.trigger]
        return letter

    def page(
        self, trigger: str | None, after: int = 0, limit: int = 100
    ) -> tuple[list[DeadLetter], int | None]:
        """Letters in the order of parking, of one trigger or of all, and where to go on.

        That is the `after` of the next page, None behind the last. Letters that are parked or
        removed meanwhile shift no page.
        """
        taken: list[DeadLetter] = []
        last = after
        for place, letter in self._letters.values():
            if place <= after or (trigger is not None and letter.trigger != trigger):
                continue
            if len(taken) == limit:
                return taken, last
            taken.append(letter)
            last = place
        return taken, None

    def chosen(self, ids: Iterable[str] | None, trigger: str | None) -> list[DeadLetter]:
        """The letters with these ids, or all, in the order of parking; of one trigger, or any."""
        wanted = None if ids is None else set(ids)
        return [
            letter
            for letter_id, (_, letter) in self._letters.items()
            if (wanted is None or letter_id in wanted)
            and (trigger is None or letter.trigger == trigger)
        ]
