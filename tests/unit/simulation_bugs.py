"""Bugs that are planted into the product, to see that a simulation finds them."""

from __future__ import annotations

from typing import Any

from iii_state.core.checkpoints import Checkpoint, Pending
from iii_state.core.deliveries import Deliveries
from iii_state.core.delivery import Delivery, GivenUp, Result
from iii_state.engine import beginnings, functions, initial
from iii_state.engine.durables import Durables
from iii_state.engine.followers import Follower
from iii_state.engine.functions import Builtin, FunctionTable, WorkerFunction
from iii_state.engine.initial import InitialEntries
from iii_state.engine.store_ledger import StoreLedger
from iii_state.engine.workers import Worker


class SkipsOnRetry(Deliveries):
    """What failed and would be tried again is passed over instead."""

    def finished(
        self, delivery: Delivery, result: Result, now_ms: int = 0, jitter: float = 0.0
    ) -> GivenUp | None:
        if result is Result.FAILED:
            result = Result.SKIPPED
        return super().finished(delivery, result, now_ms, jitter)


class ReordersOnReconnect(Deliveries):
    """What was interrupted comes again behind the later ones of its key."""

    def finished(
        self, delivery: Delivery, result: Result, now_ms: int = 0, jitter: float = 0.0
    ) -> GivenUp | None:
        given_up = super().finished(delivery, result, now_ms, jitter)
        queue = self._lanes.get((delivery.change.scope, delivery.change.key))
        if result is Result.INTERRUPTED and given_up is None and queue:
            queue.append(self._ready.popleft())
            self._ready.append(queue.popleft())
        return given_up


class AcknowledgesBeforeDone(Deliveries):
    """What is written down has the deliveries that run behind it."""

    def checkpoint(self, read_up_to: int) -> Checkpoint:
        honest = super().checkpoint(read_up_to)
        pending = tuple(p for p in honest.pending if p.revision not in self._in_flight)
        return Checkpoint(honest.cursor, pending, honest.paused)


class ForgetsAcknowledgements(Deliveries):
    """What is written down is only how far all is done."""

    def checkpoint(self, read_up_to: int) -> Checkpoint:
        return Checkpoint(self.cursor(read_up_to), (), self.paused)


class TakesLateAnswers(Deliveries):
    """The answer to a delivery that took too long ends the next attempt."""

    def finished(
        self, delivery: Delivery, result: Result, now_ms: int = 0, jitter: float = 0.0
    ) -> GivenUp | None:
        current = self._in_flight.get(delivery.change.revision, delivery)
        return super().finished(current, result, now_ms, jitter)


class NeverTimesOut(Deliveries):
    """A delivery that takes too long is waited for."""

    def overdue(self, now_ms: int) -> list[Delivery]:
        return []


class GivesUpEarly(Deliveries):
    """The last attempt is not made."""

    def _goes_on(self, delivery: Delivery, result: Result, now_ms: int, jitter: float) -> bool:
        if delivery.failures == self._policy.attempts_max - 2:
            return False
        return super()._goes_on(delivery, result, now_ms, jitter)


class LosesWhatTheDeadRan(Deliveries):
    """What a worker ran that went away counts as done."""

    def finished(
        self, delivery: Delivery, result: Result, now_ms: int = 0, jitter: float = 0.0
    ) -> GivenUp | None:
        if result is Result.INTERRUPTED:
            result = Result.SKIPPED
        return super().finished(delivery, result, now_ms, jitter)


class LosesInSilence(Deliveries):
    """What is no longer kept is passed over as if it had never been."""

    def lose(self, up_to: int) -> None:
        self.pass_over(up_to)


class TakesUpInSilence(Deliveries):
    """What was pending and is no longer kept is forgotten."""

    def take_up(self, pending: Pending, change: Any, now_ms: int = 0) -> None:
        if change is not None:
            super().take_up(pending, change, now_ms)


class ForgetsPauses(Deliveries):
    """What is written down is not paused."""

    def checkpoint(self, read_up_to: int) -> Checkpoint:
        honest = super().checkpoint(read_up_to)
        return Checkpoint(honest.cursor, honest.pending)


class IgnoresPauses(Deliveries):
    """What is paused goes on."""

    def _set_room(self) -> None:
        self._room = 0 if self.is_held else self._limits.in_flight_max


class ForgetsRedriven(Deliveries):
    """Letters that are sent again are not written down."""

    def checkpoint(self, read_up_to: int) -> Checkpoint:
        honest = super().checkpoint(read_up_to)
        pending = tuple(p for p in honest.pending if not p.redriven)
        return Checkpoint(honest.cursor, pending, honest.paused)


class ForgetsEntries(InitialEntries):
    """Entries that were offered count as done after a restart."""

    def __init__(self, *args: Any) -> None:
        super().__init__(*args)
        self._pending.clear()


class RepeatsEntries(InitialEntries):
    """After a restart, the walk begins anew."""

    def __init__(self, *args: Any) -> None:
        super().__init__(*args)
        self._cursor = 0
        self._deliveries.position = 0


class SkipsBehindEntries(InitialEntries):
    """The feed goes on with the newest change, not with the first behind the entries."""

    def read_on(self, now_ms: int) -> bool:
        is_over = super().read_on(now_ms)
        if is_over:
            self._deliveries.pass_over(self._store.revision)
        return is_over


class MovesOnWithTheStore(InitialEntries):
    """The entries that are there now are told, not those that were there at the beginning."""

    def read_on(self, now_ms: int) -> bool:
        self.up_to = self._store.revision
        return super().read_on(now_ms)


class NotesOnlyWhatItTook(Follower):
    """What is written down leaves out what was pending and is not taken up yet."""

    def checkpoint(self, read_up_to: int) -> Checkpoint:
        return self.deliveries.checkpoint(read_up_to)


class StopsWithOneReplica(Follower):
    """When one replica leaves, the others get nothing any more."""

    def part(self, binding_id: str) -> None:
        super().part(binding_id)
        self.owner = None


class CallsTheDead(FunctionTable):
    """A worker that went away is called on."""

    def find_any(self, namespace: str, function_id: str) -> Builtin[Any] | WorkerFunction | None:
        found = super().find_any(namespace, function_id)
        return self.__dict__.setdefault(function_id, found) if found is not None else None


class NobodyTakesOver(FunctionTable):
    """When the owner of a function goes, the standbys are forgotten."""

    def unregister(self, worker: Worker, function_id: str) -> None:
        if function_id in worker.functions:
            for standby in self._standbys.pop(("default", function_id), {}):
                standby.standing_by.clear()
        super().unregister(worker, function_id)


def _holds_nothing(ledger: StoreLedger) -> int | None:
    """The log is not held for anybody."""
    return None


def _saves_nothing(durables: Durables) -> None:
    """How far a binding has got is written down at the end only."""


def _parks_nothing(ledger: StoreLedger, letter: object) -> None:
    """Dead letters are only in memory."""


PLANTED: tuple[tuple[object, str, object], ...] = (
    *(
        (beginnings, "Deliveries", bug)
        for bug in (
            SkipsOnRetry,
            ReordersOnReconnect,
            AcknowledgesBeforeDone,
            ForgetsAcknowledgements,
            TakesLateAnswers,
            NeverTimesOut,
            GivesUpEarly,
            LosesWhatTheDeadRan,
            LosesInSilence,
            TakesUpInSilence,
            ForgetsPauses,
            IgnoresPauses,
            ForgetsRedriven,
        )
    ),
    *(
        (beginnings, "InitialEntries", bug)
        for bug in (ForgetsEntries, RepeatsEntries, SkipsBehindEntries, MovesOnWithTheStore)
    ),
    (initial, "INITIAL", "unmarked"),
    *((beginnings, "Follower", bug) for bug in (NotesOnlyWhatItTook, StopsWithOneReplica)),
    *((functions, "FunctionTable", bug) for bug in (CallsTheDead, NobodyTakesOver)),
    (StoreLedger, "_needed_after", _holds_nothing),
    (StoreLedger, "park", _parks_nothing),
    (Durables, "save", _saves_nothing),
)
"""Where each is planted: a module or a class, the name there, and what takes its place."""
