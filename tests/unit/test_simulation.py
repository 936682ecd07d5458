"""Whatever happens: complete, in order of each key, at least once, and twice only for a reason.

A seed that fails is in the name of the test and in its message; `simulate(seed)` shows it again.
"""

from __future__ import annotations

import logging
from collections.abc import Iterable, Iterator

import pytest
from simulation import simulate

from iii_state.core.checkpoints import Checkpoint
from iii_state.core.deliveries import Deliveries
from iii_state.core.delivery import Delivery, GivenUp, Result
from iii_state.engine import beginnings

SEEDS = 200
TORTURE_SEEDS = 10_000
SEEDS_TO_CATCH_A_BUG = 30


@pytest.fixture(autouse=True)
def _quiet() -> Iterator[None]:
    logging.disable(logging.WARNING)
    yield
    logging.disable(logging.NOTSET)


def simulate_all(seeds: Iterable[int]) -> None:
    for seed in seeds:
        simulate(seed)


@pytest.mark.parametrize("seed", range(SEEDS))
def test_every_world_keeps_the_promises(seed: int) -> None:
    simulate(seed)


@pytest.mark.torture
@pytest.mark.timeout(3600)
def test_very_many_worlds_keep_the_promises() -> None:
    simulate_all(range(SEEDS, TORTURE_SEEDS))


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
        return Checkpoint(self.cursor(read_up_to))


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


@pytest.mark.parametrize(
    "bug",
    [
        SkipsOnRetry,
        ReordersOnReconnect,
        AcknowledgesBeforeDone,
        ForgetsAcknowledgements,
        TakesLateAnswers,
        NeverTimesOut,
        GivesUpEarly,
    ],
)
def test_a_planted_bug_is_caught(bug: type[Deliveries], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(beginnings, "Deliveries", bug)
    with pytest.raises(AssertionError, match=r"seed \d+: "):
        simulate_all(range(SEEDS_TO_CATCH_A_BUG))
