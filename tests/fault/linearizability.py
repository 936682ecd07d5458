"""Whether calls that overlapped had the answers that calls one after the other could have had.

A history is linearizable when each call can be given one moment between its begin and its end, so
that calls carried out at these moments, one after the other, give just the answers that were given.
A call without an answer took effect at such a moment, or never.

The search goes through the history in order of time and keeps every situation that explains what
was answered so far. A call is given its moment when it ends, and those that are open then may have
theirs before it, in any order (the just-in-time search of G. Lowe, Testing for Linearizability). So
time and memory are linear in the length of the history, exponential in the calls open at a time.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterable, Sequence
from dataclasses import dataclass
from math import inf
from typing import Generic, TypeVar

What = TypeVar("What")
State = TypeVar("State", bound=Hashable)

FOREVER = inf
"""The end of a call that may still take effect when the history is over."""

_SHOWN_MAX = 12


@dataclass(frozen=True, eq=False)
class Interval(Generic[What]):
    """A call: what was asked and answered, between two moments of one clock.

    An uncertain one has no answer, and may have had no effect. Calls may end at the same moment,
    but none begins at it.
    """

    what: What
    begun: int
    ended: float
    is_certain: bool = True


class NotLinearizable(AssertionError):
    """No order explains the answers. The message has the first call that none explains."""


def check(
    history: Sequence[Interval[What]],
    start: State,
    steps: Callable[[State, What], Iterable[State]],
) -> None:
    """Look for an order of the calls of one object that begins in the state `start`.

    `steps` gives the states in which a call may leave the object when it finds it in one state;
    none when its answer is another than that call would have had.

    Raises:
        NotLinearizable: there is none.
    """
    search = _Search(history, {start}, steps)
    begins = [(each.begun, at, True) for at, each in enumerate(history)]
    ends = [(each.ended, at, False) for at, each in enumerate(history) if each.ended != FOREVER]
    # Of those that end together, what has an answer comes first: it rules out more.
    for _, at, begins_here in sorted(
        begins + ends, key=lambda event: (event[0], not history[event[1]].is_certain)
    ):
        if begins_here:
            search.open.add(at)
        else:
            search.end(at)


class _Search(Generic[What, State]):
    """All situations in which the object can be at one moment.

    A situation is its state, and which of the open calls have had their effect.
    """

    def __init__(
        self,
        history: Sequence[Interval[What]],
        states: Iterable[State],
        steps: Callable[[State, What], Iterable[State]],
    ) -> None:
        self.open: set[int] = set()
        self._history = history
        self._steps = steps
        self._situations = {(state, frozenset[int]()) for state in states}

    def end(self, at: int) -> None:
        """Keep the situations in which a call has had its effect, or never will."""
        is_certain = self._history[at].is_certain
        kept = {(state, done - {at}) for state, done in self._situations if at in done}
        waiting = [situation for situation in self._situations if at not in situation[1]]
        if not is_certain:
            kept.update(waiting)
        seen = set(waiting)
        while waiting:
            state, done = waiting.pop()
            for other in self.open - done:
                for then in self._steps(state, self._history[other].what):
                    if other == at:
                        kept.add((then, done))
                    elif (situation := (then, done | {other})) not in seen:
                        seen.add(situation)
                        waiting.append(situation)
        if not kept:
            raise NotLinearizable(self._complaint(at))
        self.open.remove(at)
        self._situations = kept

    def _complaint(self, at: int) -> str:
        call = self._history[at]
        others = [f"  {self._history[other].what}" for other in sorted(self.open - {at})]
        states = [f"  {state}" for state in {state for state, _ in self._situations}]
        return "\n".join(
            [
                f"no order of the calls explains the answer of {call.what}, from {call.begun} to "
                f"{call.ended}; the object can have been, before the open calls,",
                *states[:_SHOWN_MAX],
                "and open beside it were",
                *others[:_SHOWN_MAX],
            ]
        )
