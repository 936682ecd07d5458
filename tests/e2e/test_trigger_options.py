"""Each option of a binding, asked for by unmodified SDK programs; docs/triggers.md has them all."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from typing import Any, Protocol

import pytest

from e2e.lines import PATIENCE_S
from e2e.sdks import Sdk
from e2e.workers import Worker

EVERY_WRITE = [
    ("eu/1", "created", {"total": 7}),
    ("eu/1", "updated", {"total": 7}),
    ("us/1", "created", {"total": 200}),
    ("eu/1", "updated", {"total": 120}),
    ("us/1", "deleted", None),
    ("eu/2", "created", None),
    ("eu/2", "expired", None),
]
"""What `write_all` does, as key, kind of change and new value."""


def at(*places: int) -> list[tuple[str, str, Any]]:
    return [EVERY_WRITE[place] for place in places]


SELECTIONS: dict[str, tuple[dict[str, Any], list[tuple[str, str, Any]]]] = {
    "scope": ({}, EVERY_WRITE),
    "key": ({"key": "us/1"}, at(2, 4)),
    "key_prefix": ({"key_prefix": "eu/"}, at(0, 1, 3, 5, 6)),
    "keys": ({"keys": ["eu/2", "us/1", "us/2"]}, at(2, 4, 5, 6)),
    "events created": ({"events": ["created"]}, at(0, 2, 5)),
    "events updated": ({"events": ["updated"]}, at(1, 3)),
    "events deleted": ({"events": ["deleted"]}, at(4)),
    "events expired": ({"events": ["expired"]}, at(6)),
    "changed_only": ({"changed_only": True}, at(0, 2, 3, 4, 5, 6)),
    "filters": ({"filters": {"input.new_value.total": {"$gte": 100}}}, at(2, 3)),
    "from now": ({"from": "now"}, EVERY_WRITE),
    "all of them": (
        {
            "key_prefix": "e",
            "keys": ["eu/1", "us/1"],
            "events": ["created", "updated"],
            "changed_only": True,
            "filters": {"$not": {"input.old_value.total": {"$exists": True}}},
        },
        at(0),
    ),
}

REFUSED: list[dict[str, Any]] = [
    {"key": 5},
    {"key_prefix": 5},
    {"keys": []},
    {"keys": "k"},
    {"events": ["renamed"]},
    {"changed_only": "yes"},
    {"filters": {"new_value": {"$eq": 1}}},
    {"from": "yesterday"},
    {"from": -1},
    {"durable": ""},
    {"retry": {"max_attempts": 0}},
    {"timeout_ms": 0},
    {"max_in_flight": 0},
    {"debounce_ms": -1},
    {"condition_function_id": 5},
]


class Bound:
    """A function of a worker, bound to the changes of a scope with a config."""

    def __init__(self, worker: Worker, scope: str, behaviour: str, config: dict[str, Any]) -> None:
        self._worker = worker
        self._scope = scope
        self._function_id = f"{scope}::on"
        worker.serve(self._function_id, behaviour)
        worker.bind(self._function_id, {"scope": scope, **config})

    def put(self, key: str, value: Any, **options: Any) -> int:
        """Write; the revision."""
        payload = {"scope": self._scope, "key": key, "value": value, "with_revision": True}
        return int(self._worker.call("state::set", {**payload, **options})["revision"])

    def status(self) -> dict[str, Any]:
        """What the server tells of the binding."""
        triggers = self._worker.call("state::triggers", {})["triggers"]
        [status] = [one for one in triggers if one["function_id"] == self._function_id]
        return dict(status)

    def wait_until(self, is_reached: Callable[[dict[str, Any]], bool]) -> dict[str, Any]:
        """Ask for the status until it is as wanted."""
        until = time.monotonic() + PATIENCE_S
        while not is_reached(status := self.status()):
            assert time.monotonic() < until, status
        return status

    def events(self, count: int) -> list[Any]:
        """The events so far, as soon as there are so many."""
        return self._worker.events_of(self._function_id, count)

    def all_events(self) -> list[Any]:
        """The events of all that was written before, once they are done with."""
        # A write of any scope: bindings get past what they do not select.
        payload = {"scope": "marks", "key": "mark", "value": 1, "with_revision": True}
        mark = self._worker.call("state::set", payload)["revision"]
        self.wait_until(lambda status: status["cursor"] >= mark)
        # The worker told of its calls before it told the status.
        told = self._worker.lines.matching(lambda line: line.get("function") == self._function_id)
        return [line["data"] for line in told]

    def letters(self) -> list[Any]:
        """Its dead letters, as soon as there is one."""
        status = self.wait_until(lambda status: status["dead_letters"] > 0)
        request = {"name": status.get("name", status["id"])}
        return list(self._worker.call("state::dead_letters", request)["dead_letters"])

    def end(self) -> None:
        """Leave nothing behind: no dead letters, no durable trigger."""
        status = self.status()
        name = status.get("name", status["id"])
        self._worker.call("state::dead_letters", {"action": "discard", "name": name})
        if status["durable"]:
            self._worker.call("state::triggers", {"action": "delete", "name": name})


class Binder(Protocol):
    def __call__(self, behaviour: str = "nothing", **config: Any) -> Bound: ...


@pytest.fixture
def bind(worker: Worker, scope: str) -> Iterator[Binder]:
    """Binds the one function of a test: `bind(behaviour, **config)`."""
    with ExitStack() as stack:

        def make(behaviour: str = "nothing", **config: Any) -> Bound:
            made = Bound(worker, scope, behaviour, config)
            stack.callback(made.end)
            return made

        yield make


def summary(event: dict[str, Any]) -> tuple[str, str, Any]:
    """Key, kind of change and new value."""
    kind = event.get("cause") or event["event_type"].removeprefix("state:")
    return event["key"], kind, event["new_value"]


def write_all(binding: Bound, worker: Worker, scope: str) -> None:
    """What `EVERY_WRITE` says, until the last key has expired."""
    binding.put("eu/1", {"total": 7})
    binding.put("eu/1", {"total": 7})
    binding.put("us/1", {"total": 200})
    binding.put("eu/1", {"total": 120})
    worker.call("state::delete", {"scope": scope, "key": "us/1"})
    written = binding.put("eu/2", None, ttl_ms=1)
    request = {"scope": scope, "after": written, "wait_ms": 20_000}
    assert worker.call("state::changes", request)["changes"][0]["cause"] == "expired"


@pytest.mark.parametrize("option", SELECTIONS)
def test_a_selection_lets_through_what_it_names(
    worker: Worker, scope: str, bind: Binder, option: str
) -> None:
    config, expected = SELECTIONS[option]
    # One call at a time has the events of different keys come in order.
    binding = bind(max_in_flight=1, **config)

    write_all(binding, worker, scope)

    assert [summary(event) for event in binding.all_events()] == expected


@pytest.mark.parametrize("start", ["initial", "revision"])
def test_a_binding_begins_where_it_says(
    worker: Worker, scope: str, bind: Binder, start: str
) -> None:
    for value in (1, 2):
        payload = {"scope": scope, "key": "k", "value": value, "with_revision": True}
        revision = worker.call("state::set", payload)["revision"]
    config: dict[str, Any] = {"from": "initial" if start == "initial" else revision - 2}
    binding = bind(**config)
    binding.events(1)  # an entry that is overwritten before it is told of is told of by that change
    binding.put("k", 3)

    told = [(e["new_value"], e.get("initial", False)) for e in binding.all_events()]

    before = [(2, True)] if start == "initial" else [(1, False), (2, False)]
    assert told == [*before, (3, False)]


def test_debounce_delivers_the_latest_of_quick_changes(
    worker: Worker, scope: str, bind: Binder
) -> None:
    binding = bind(debounce_ms=500)
    requests = [
        {"function_id": "state::set", "payload": {"scope": scope, "key": "k", "value": n}}
        for n in range(10)
    ]

    worker.ask("call_all", requests=requests)

    assert binding.events(1)[-1]["new_value"] == 9
    assert binding.status()["counters"]["coalesced"] == 9


def test_retry_calls_again_and_later_events_of_the_key_wait(bind: Binder) -> None:
    binding = bind("stumble", retry={"max_attempts": 3, "initial_ms": 1, "max_ms": 5})

    binding.put("k", 1)
    binding.put("k", 2)

    events = [(event["new_value"], event["attempt"]) for event in binding.all_events()]
    assert events == [(1, 1), (1, 2), (2, 1), (2, 2)]


@pytest.mark.parametrize("durable", [False, True], ids=["plain", "durable"])
def test_what_fails_for_good_is_a_dead_letter(scope: str, bind: Binder, durable: bool) -> None:
    retry = {"max_attempts": 2, "initial_ms": 1, "max_ms": 5}
    binding = bind("fail", retry=retry, **({"durable": scope} if durable else {}))

    binding.put("k", 1)

    [letter] = binding.letters()
    assert [event["attempt"] for event in binding.events(2)] == [1, 2]
    assert letter["attempts"] == 2
    assert letter["error"]["code"] == "invocation_failed"
    assert "kaboom" in letter["error"]["message"]


def test_a_dead_letter_is_delivered_again_when_asked(
    worker: Worker, scope: str, bind: Binder
) -> None:
    binding = bind("stumble", durable=scope, retry={"max_attempts": 1})
    binding.put("k", 1)
    binding.letters()

    answer = worker.call("state::dead_letters", {"action": "redrive", "name": scope})

    assert answer == {"redriven": 1}
    assert [event["attempt"] for event in binding.events(2)] == [1, 2]
    binding.wait_until(lambda status: status["dead_letters"] == 0)


def test_timeout_gives_up_a_silent_handler_and_the_key_goes_on(bind: Binder) -> None:
    binding = bind("hang", timeout_ms=50)

    binding.put("k", 1)
    binding.put("k", 2)

    assert [event["new_value"] for event in binding.events(2)] == [1, 2]
    assert binding.letters()[0]["error"]["code"] == "TIMEOUT"


def test_max_in_flight_bounds_the_calls_at_once(bind: Binder) -> None:
    binding = bind("hang", max_in_flight=2, timeout_ms=1000)

    for key in "abc":
        binding.put(key, 1)

    status = binding.wait_until(lambda status: status["counters"]["matched"] == 3)
    assert (status["in_flight"], status["waiting"]) == (2, 1)
    assert len(binding.events(3)) == 3


def test_a_durable_binding_is_shown_by_its_name_and_with_its_config(
    worker: Worker, scope: str, bind: Binder
) -> None:
    config: dict[str, Any] = {
        "durable": scope,
        "from": 0,
        "retry": {"max_attempts": 7},
        "timeout_ms": 900,
    }
    bind(**config)

    shown = worker.call("state::triggers", {"action": "show", "name": scope})["trigger"]

    assert shown["name"] == scope
    assert shown["config"] == {"scope": scope, **config}


@pytest.mark.parametrize("behaviour", ["again", "again, plainly"])
def test_a_handler_that_writes_what_it_is_bound_to_is_stopped(
    sdk: Sdk, bind: Binder, behaviour: str
) -> None:
    """Where the SDK carries traces on; the others end their loop themselves, at 20."""
    if sdk.runtime == "node":
        behaviour = "again"
    binding = bind(behaviour)

    binding.put("k", 0)

    carries_on = sdk.runtime == "node" or behaviour == "again" or sdk.numbers >= (0, 25)
    depths = list(range(16)) if carries_on else [0] * 21
    assert [event["depth"] for event in binding.events(len(depths))] == depths
    if carries_on:
        assert binding.letters()[0]["error"]["code"] == "CHAIN_TOO_DEEP"


@pytest.mark.parametrize("config", REFUSED, ids=str)
def test_an_option_of_a_wrong_type_or_out_of_range_binds_nothing(
    worker: Worker, scope: str, config: dict[str, Any]
) -> None:
    function_id = f"{scope}::on"
    worker.serve(function_id)

    worker.bind(function_id, {"scope": scope, **config})

    triggers = worker.call("state::triggers", {})["triggers"]
    assert [one for one in triggers if one["function_id"] == function_id] == []
