"""The judge of deliveries amid kills finds what is wrong, and nothing in what is right."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from delivery_story import SERVER, Story
from journal import Entry

Json = dict[str, Any]


def change(revision: int, key: str = "k") -> Json:
    return {
        "scope": "s",
        "key": key,
        "revision": revision,
        "event_id": f"e-{revision}",
        "new_value": f"v{revision}",
        "attempt": 1,
    }


CHANGES = {revision: change(revision) for revision in range(1, 5)}


def connect(who: str, number: int) -> list[Entry]:
    return [entry(who, what, connection=number) for what in ("connecting", "connected")]


def entry(who: str, what: str, **more: Any) -> Entry:
    return {"who": who, "group": SERVER if who == SERVER else "g", "what": what, **more}


def deliver(who: str, connection: int, revision: int, attempt: int = 1) -> Entry:
    call = {"connection": connection, "revision": revision, "attempt": attempt}
    event = {**CHANGES[revision], "attempt": attempt}
    return entry(who, "delivered", **call, event=event)


def answer(
    who: str, connection: int, revision: int, attempt: int = 1, is_done: bool = True
) -> Entry:
    call = {"connection": connection, "revision": revision, "attempt": attempt}
    return entry(who, "answering", **call, is_done=is_done)


def kill(who: str) -> list[Entry]:
    return [entry(who, "killing"), entry(who, "killed")]


def sound() -> list[Entry]:
    """All that may happen, once: a retry, a kill of the server, and one of a handler."""
    writes = [entry("w.1", "wrote", revision=r, scope="s", key="k", value=f"v{r}") for r in CHANGES]
    return [
        *writes,
        *connect("h.1", 1),
        *(deliver("h.1", 1, 1), answer("h.1", 1, 1)),
        *(deliver("h.1", 1, 2), answer("h.1", 1, 2, is_done=False)),
        *(deliver("h.1", 1, 2, 2), answer("h.1", 1, 2, 2)),
        *kill(SERVER),
        entry("h.1", "lost", connection=1),
        *connect("h.1", 2),
        *(deliver("h.1", 2, 2), answer("h.1", 2, 2)),
        deliver("h.1", 2, 3),
        *kill("h.1"),
        *connect("h.2", 1),
        *(deliver("h.2", 1, 3, 2), answer("h.2", 1, 3, 2)),
        *(deliver("h.2", 1, 4), answer("h.2", 1, 4)),
    ]


def judge(entries: list[Entry], changes: dict[int, Json]) -> int:
    story = Story(entries)
    story.require_witnessed(changes)
    story.require_kept_connections()
    return story.require_reliable("g", changes)


def test_what_is_right_passes() -> None:
    assert judge(sound(), CHANGES) == 3


def without(*unwanted: Entry) -> list[Entry]:
    return [entry for entry in sound() if entry not in unwanted]


def instead(old: list[Entry], new: list[Entry]) -> list[Entry]:
    at = sound().index(old[0])
    assert sound()[at : at + len(old)] == old
    return [*sound()[:at], *new, *sound()[at + len(old) :]]


LAST = [deliver("h.2", 1, 4), answer("h.2", 1, 4)]
CRASH = kill(SERVER)

WRONG: dict[str, Callable[[], list[Entry]]] = {
    "never delivered": lambda: without(*LAST),
    "never acknowledged": lambda: without(LAST[1]),
    "not delivered again": lambda: [
        *without(LAST[1]),
        *CRASH,
        LAST[1],  # nobody was there to hear it
    ],
    "delivered twice without a reason": lambda: [*sound(), deliver("h.2", 1, 4, 2)],
    "twice without a reason": lambda: [
        *sound(),
        *connect("h.3", 1),
        *kill("h.3"),
        *connect("h.4", 1),
        deliver("h.4", 1, 4, 2),
    ],
    "not another attempt": lambda: [
        *sound(),
        *kill("h.2"),
        *connect("h.3", 1),
        deliver("h.3", 1, 4),
    ],
    "overtaken": lambda: instead(
        [deliver("h.2", 1, 3, 2), answer("h.2", 1, 3, 2), *LAST],
        [*LAST, deliver("h.2", 1, 3, 2), answer("h.2", 1, 3, 2)],
    ),
    "back in time": lambda: [
        *sound(),
        *CRASH,
        *connect("h.2", 2),
        deliver("h.2", 2, 4),
        deliver("h.2", 2, 3),
    ],
    "but the event was": lambda: instead(
        LAST, [{**LAST[0], "event": {**CHANGES[4], "event_id": "another"}}, LAST[1]]
    ),
    "not in the log": lambda: [
        *sound(),
        {**deliver("h.2", 1, 4), "revision": 9, "event": change(9)},
    ],
    "without a kill": lambda: [*sound(), entry("h.2", "lost", connection=1)],
    "an acknowledged write is gone": lambda: [
        *sound(),
        entry("w.1", "wrote", revision=5, scope="s", key="k", value="v5"),
    ],
}


@pytest.mark.parametrize("complaint", WRONG)
def test_what_is_wrong_is_found(complaint: str) -> None:
    with pytest.raises(AssertionError, match=complaint):
        judge(WRONG[complaint](), CHANGES)


@pytest.mark.parametrize(
    ("changes", "complaint"),
    [
        ({r: c for r, c in CHANGES.items() if r != 2}, "revisions are missing"),
        ({**CHANGES, 5: {**change(5), "new_value": "v4"}}, "carried out twice"),
        ({**CHANGES, 4: {**change(4), "key": "another"}}, "'v4'"),
    ],
)
def test_a_log_that_is_wrong_is_found(changes: dict[int, Json], complaint: str) -> None:
    with pytest.raises(AssertionError, match=complaint):
        judge(sound(), changes)
