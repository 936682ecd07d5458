"""Whatever happens: complete, in order of each key, at least once, and twice only for a reason.

A seed that fails is in the name of the test and in its message; `simulate(seed)` shows it again.
"""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Iterable, Iterator

import pytest
from simulation import simulate
from simulation_bugs import PLANTED

SEEDS = 200
TORTURE_SEEDS = 10_000
SEEDS_TO_CATCH_A_BUG = 30
WANTED = (
    "a crash among the entries",
    "a letter sent again",
    "a replica died with a call",
    "a start that is no longer kept",
    "lost by a durable one",
    "lost by a plain one",
)
"""What happens in a few of the first worlds, or they prove little."""


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


def _name_of(place: object, name: str, bug: object) -> str:
    return getattr(bug, "__name__", name).strip("_")


def test_the_worlds_are_as_bad_as_they_should_be() -> None:
    seen: Counter[str] = Counter()
    for seed in range(SEEDS_TO_CATCH_A_BUG):
        seen += simulate(seed).seen
    assert min(seen[what] for what in WANTED) >= 3, seen


@pytest.mark.parametrize(
    ("place", "name", "bug"),
    [pytest.param(*planted, id=_name_of(*planted)) for planted in PLANTED],
)
def test_a_planted_bug_is_caught(
    place: object, name: str, bug: object, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(place, name, bug)
    with pytest.raises(AssertionError, match=r"seed \d+: "):
        simulate_all(range(SEEDS_TO_CATCH_A_BUG))
