"""Embedded: the twin for programs without an event loop."""

from __future__ import annotations

import inspect
import threading
from pathlib import Path

import pytest

import iii_state
from iii_state.errors import Conflict, Refused, Stopped

LONG_MS = 60_000


def test_the_twin_has_every_method_with_the_same_parameters() -> None:
    names = {name for name in dir(iii_state.State) if not name.startswith("_")}

    assert {name for name in dir(iii_state.SyncState) if not name.startswith("_")} == names
    for name in names:
        mine, its = getattr(iii_state.SyncState, name), getattr(iii_state.State, name)
        assert inspect.signature(mine).parameters == inspect.signature(its).parameters, name
        assert mine.__doc__


def test_it_writes_on_conditions(tmp_path: Path) -> None:
    with iii_state.open_sync(tmp_path / "data") as state:
        assert state.create("s", "k", 1, ttl_ms=LONG_MS).created
        assert state.compare_and_set("s", "k", 2, expected=1).revision == 2
        assert state.touch("s", "k", LONG_MS).expires_at_ms is not None
        with pytest.raises(Conflict):
            state.set("s", "k", 3, if_revision=1)
        entry = state.get_entry("s", "k")

        assert entry is not None
        assert (entry.value, entry.revision) == (2, 2)
        assert [version.value for version in state.history("s", "k")] == [2, 1]


def test_it_has_transactions() -> None:
    def transfer(state: iii_state.SyncState, revision: int) -> None:
        with state.transaction() as t:
            t.require("s", "guard", revision=revision)
            t.set("s", "k", t.get("s", "k", 0) + 1)

    def fail(t: iii_state.SyncTransaction) -> None:
        with t:
            t.set("s", "k", "never")
            raise KeyError

    with iii_state.open_sync(None) as state:
        transfer(state, 0)
        with pytest.raises(Conflict):
            transfer(state, 7)
        t = state.transaction()
        with pytest.raises(KeyError):
            fail(t)

        assert not t.committed
        assert state.get("s", "k") == 1


def test_it_watches_in_one_thread_what_another_one_writes() -> None:
    values: list[object] = []

    def follow(watch: iii_state.SyncWatch) -> None:
        values.extend(event.new_value for event in watch)

    with iii_state.open_sync(None) as state:
        watch = state.watch(scope="s")
        thread = threading.Thread(target=follow, args=(watch,))
        thread.start()
        for number in range(50):
            state.set("s", "k", number)
        while watch.revision < 50:
            state.get("s", "k")
        watch.close()
        thread.join()

    assert values == [*range(50)]


def test_closing_the_store_ends_what_other_threads_wait_for() -> None:
    ended = threading.Event()

    def follow(watch: iii_state.SyncWatch) -> None:
        for _ in watch:
            pass
        ended.set()

    with iii_state.open_sync(None) as state:
        thread = threading.Thread(target=follow, args=(state.watch(),))
        thread.start()
    thread.join()

    assert ended.is_set()
    with pytest.raises(Stopped):
        state.get("s", "k")


def test_a_reaction_that_would_wait_for_itself_is_refused() -> None:
    refused: list[str] = []
    with iii_state.open_sync(None) as state:

        @state.on("s", durable="d")
        def changed(event: iii_state.Event) -> None:
            try:
                state.get("s", "k")
            except Refused as error:
                refused.append(error.message)

        state.set("s", "k", 1)

    assert len(refused) == 1


def test_an_error_of_the_block_reaches_the_caller() -> None:
    with pytest.raises(KeyError), iii_state.open_sync(None):
        raise KeyError
