"""What a watcher was told is held to the history: each kind of fault is noticed."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from chronicle import Chronicle, Fact, Sighting

FACTS = [
    Fact.of_write("s", "a", None, 1),
    Fact.of_write("s", "b", None, 1),
    Fact.of_write("s", "a", 1, 2),
    Fact.of_write("t", "a", None, 1),
    Fact.of_write("s", "b", 1, None),
    Fact.of_write("s", "a", 2, 3),
]


@pytest.fixture
def chronicle() -> Chronicle:
    made = Chronicle()
    made.acknowledge(1, FACTS)
    made.check()
    return made


def told(*revisions: int, **more: Any) -> Sighting:
    """Told of these, after the first revision and up to the last, unless it says otherwise."""
    seen = [(revision, FACTS[revision - 1]) for revision in revisions]
    return Sighting(**{"after": 1, "selection": {}, "seen": seen, "up_to": 6, **more})


@pytest.mark.parametrize(
    "sighting",
    [
        told(2, 3, 4, 5, 6),
        told(2, 3, up_to=3),
        told(up_to=1),
        told(3, 4, 6, selection={"key": "a"}),
        told(3, 6, selection={"scope": "s", "key_prefix": "a"}),
        told(5, selection={"events": ["deleted"]}),
        told(3, 2, 4, 6, 5, by_key=True),
        told(2, 5, 3, up_to=2, by_key=True),
        told(5, 6, lost=3, last_lost=(2, 4)),
        told(3, 5, 6, lost=2, last_lost=(4, 4)),
    ],
)
def test_what_is_right_is_taken(chronicle: Chronicle, sighting: Sighting) -> None:
    chronicle.check_sighting(sighting)


WRONG = {
    "skipped": (told(2, 3, 5, 6), "never told"),
    "nothing": (told(), "never told"),
    "cut short": (told(2, 3, 4, 5), "never told"),
    "twice": (told(2, 3, 3, 4, 5, 6), "twice, or out of order"),
    "out of order": (told(2, 4, 3, 5, 6), "twice, or out of order"),
    "out of order within a key": (told(2, 6, 3, 4, 5, by_key=True), "twice, or out of order"),
    "skipped within a key": (told(2, 6, up_to=1, by_key=True), "never told"),
    "not asked for": (told(3, 5, selection={"key": "a"}), "told otherwise"),
    "before the revision": (told(1, 2, 3, 4, 5, 6), "told otherwise"),
    "other values": (told(seen=[(2, FACTS[0])], up_to=2), "told otherwise"),
    "beside what was lost": (told(6, lost=3, last_lost=(2, 4)), "never told"),
    "more than was lost": (told(6, lost=3, last_lost=(4, 5)), "never told"),
    "told, and lost": (told(2, 3, 4, 5, 6, lost=3, last_lost=(2, 4)), "said to be lost"),
}


@pytest.mark.parametrize(("sighting", "complaint"), WRONG.values(), ids=WRONG)
def test_what_is_wrong_is_noticed(chronicle: Chronicle, sighting: Sighting, complaint: str) -> None:
    with pytest.raises(AssertionError, match=complaint):
        chronicle.check_sighting(sighting)


def test_a_history_that_contradicts_itself_is_noticed() -> None:
    made = Chronicle()
    made.acknowledge(1, [FACTS[0]])
    with pytest.raises(AssertionError, match="told of two changes"):
        made.acknowledge(1, [FACTS[1]])
    made.acknowledge(2, [FACTS[5]])
    with pytest.raises(AssertionError, match="revision 2 found"):
        made.check()


async def test_it_is_waited_for_what_is_to_come() -> None:
    made = Chronicle()
    made.acknowledge(1, FACTS[:2])
    waiting = asyncio.create_task(made.grown(2))
    await asyncio.sleep(0)
    assert not waiting.done()
    made.acknowledge(3, FACTS[2:])

    assert made.newest == 6
    await waiting
