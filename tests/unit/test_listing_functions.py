"""Reading and removing many keys, as a worker sees it."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from engine_bench import SETTINGS, Client, EngineBench, running_engine

from iii_state.core.commands import Command, Outcome, Set, Transact
from iii_state.engine.engine import Engine, random_ids
from iii_state.engine.listing_functions import ENVELOPE_BYTES
from iii_state.errors import StoreReadOnly
from iii_state.stores.disk.store import DiskStore
from iii_state.stores.memory import MemoryStore
from iii_state.testing.clocks import FakeClock
from iii_state.testing.faulty_files import FaultyFiles

SCOPE = {"scope": "s"}


@pytest.fixture
async def bench() -> AsyncIterator[EngineBench]:
    async with running_engine() as bench:
        yield bench


@pytest.fixture
def client(bench: EngineBench) -> Client:
    return bench.client()


def fill(client: Client, *keys: str, value: Any = 1) -> None:
    for key in keys:
        client.ask("state::set", {**SCOPE, "key": key, "value": value})


def ask(client: Client, name: str, **members: Any) -> Any:
    return client.ask(f"state::{name}", {**SCOPE, **members})


def failure(client: Client, name: str, **members: Any) -> dict[str, Any]:
    call = client.call(f"state::{name}", {**SCOPE, **members})
    error: dict[str, Any] = client.answer_to(call)["error"]
    return error


async def remove(bench: EngineBench, client: Client, name: str, **members: Any) -> Any:
    call = client.call(f"state::{name}", {**SCOPE, **members})
    for _ in range(20):
        await bench.turn()
    return client.answer_to(call)


# -- keys -----------------------------------------------------------------------------------------


def test_keys_come_in_pages_behind_the_last_key(client: Client) -> None:
    fill(client, *"dbace")

    assert ask(client, "list_keys") == {"keys": [*"abcde"]}
    first = ask(client, "list_keys", limit=2)
    second = ask(client, "list_keys", limit=2, cursor=first["next_cursor"])
    last = ask(client, "list_keys", limit=2, cursor=second["next_cursor"])

    assert (first, second) == (
        {"keys": ["a", "b"], "next_cursor": "b"},
        {"keys": ["c", "d"], "next_cursor": "d"},
    )
    assert last == {"keys": ["e"]}
    assert ask(client, "list_keys", limit=5) == {"keys": [*"abcde"]}
    assert ask(client, "list_keys", cursor="c") == {"keys": ["d", "e"]}


def test_keys_are_those_with_the_prefix(client: Client) -> None:
    fill(client, "a:1", "b:1", "a:2")

    assert ask(client, "list_keys", prefix="a:") == {"keys": ["a:1", "a:2"]}
    page = {"keys": ["a:1"], "next_cursor": "a:1"}
    assert ask(client, "list_keys", prefix="a:", limit=1) == page


def test_a_page_of_keys_is_as_long_as_the_caller_can_take(client: Client) -> None:
    fill(client, *(f"{n}{'x' * 900}" for n in range(9)))
    client.worker.message_bytes_max = 4096

    assert failure(client, "list_keys")["code"] == "payload_too_large"
    keys: list[str] = []
    cursor: dict[str, str] = {}
    while True:
        page = ask(client, "list_keys", limit=9, **cursor)
        keys += page["keys"]
        if "next_cursor" not in page:
            break
        cursor = {"cursor": page["next_cursor"]}

    assert [key[0] for key in keys] == [*"012345678"]


@pytest.mark.parametrize("members", [{"limit": 0}, {"limit": -1}, {"prefix": 1}, {"cursor": 1}])
@pytest.mark.parametrize("name", ["list_keys", "list_entries"])
def test_a_page_that_makes_no_sense_is_refused(client: Client, name: str, members: Any) -> None:
    assert failure(client, name, **members)["code"] == "deserialization_error"


# -- entries --------------------------------------------------------------------------------------


def pages(client: Client, **members: Any) -> list[dict[str, Any]]:
    got = [ask(client, "list_entries", **members)]
    while not got[-1]["done"]:
        got.append(ask(client, "list_entries", **members, cursor=got[-1]["next_cursor"]))
    return got


def test_entries_come_oldest_key_first_and_in_pages(client: Client) -> None:
    fill(client, *"cab")
    fill(client, "c", value=None)

    first, last = pages(client, limit=2)

    assert first.pop("next_cursor")
    assert first == {"entries": [["c", None], ["a", 1]], "done": False, "offset": 0, "total": 3}
    assert last == {
        "entries": [["b", 1]],
        "next_cursor": None,
        "done": True,
        "offset": 2,
        "total": 3,
    }
    assert ask(client, "list_entries", scope="none")["entries"] == []


def test_entries_with_a_prefix_come_without_a_total(client: Client) -> None:
    fill(client, "a:1", "b:1", "a:2", "a:3")

    got = pages(client, prefix="a:", limit=2)

    assert [page["entries"] for page in got] == [[["a:1", 1], ["a:2", 1]], [["a:3", 1]]]
    assert not any("total" in page for page in got)


def test_a_page_of_entries_is_bounded_by_bytes_but_has_one(client: Client) -> None:
    fill(client, *"abcd", value="x" * 90)

    assert [len(page["entries"]) for page in pages(client, max_bytes=210)] == [2, 2]
    assert [len(page["entries"]) for page in pages(client, max_bytes=1)] == [1, 1, 1, 1, 0]


def test_an_entry_that_the_caller_cannot_take_is_named_and_can_be_passed_by(
    client: Client,
) -> None:
    fill(client, "a", "c")
    fill(client, "b", value="x" * 5000)
    fill(client, "d")
    client.worker.message_bytes_max = 4096

    first = ask(client, "list_entries")
    error = failure(client, "list_entries", cursor=first["next_cursor"])
    last = ask(client, "list_entries", cursor=error["details"]["next_cursor"])

    assert first["entries"] == [["a", 1], ["c", 1]]
    assert (error["code"], error["details"]["key"]) == ("payload_too_large", "b")
    assert error["details"]["bound"] == 4096 - 512 - ENVELOPE_BYTES
    assert (last["entries"], last["offset"], last["done"]) == ([["d", 1]], 3, True)


@pytest.mark.parametrize("cursor", ["", "?", "é", "AAAA", "A" * 34])
def test_a_cursor_that_was_never_given_is_refused(client: Client, cursor: str) -> None:
    assert failure(client, "list_entries", cursor=cursor)["code"] == "INVALID_CURSOR"


def test_a_cursor_is_of_one_list(client: Client) -> None:
    fill(client, "a", "b")
    cursor = ask(client, "list_entries", limit=1)["next_cursor"]

    assert ask(client, "list_entries", cursor=cursor, limit=9)["entries"] == [["b", 1]]
    for other in ({"scope": "t"}, {"prefix": "b"}):
        error = failure(client, "list_entries", cursor=cursor, **other)
        assert (error["code"], "another list" in error["message"]) == ("INVALID_CURSOR", True)


# -- several and how many -------------------------------------------------------------------------


def test_get_many_answers_in_order_with_revisions(client: Client) -> None:
    fill(client, "a", "b", value=None)

    keys = [{"scope": "s", "key": key} for key in "bxb"]
    assert client.ask("state::get_many", {"keys": keys}) == {
        "entries": [
            {"scope": "s", "key": "b", "value": None, "revision": 2},
            {"scope": "s", "key": "x", "revision": 0},
            {"scope": "s", "key": "b", "value": None, "revision": 2},
        ]
    }
    assert client.ask("state::get_many", {"keys": []}) == {"entries": []}


def test_get_many_takes_a_thousand_keys(client: Client) -> None:
    keys = [{"scope": "s", "key": f"{n}"} for n in range(1001)]

    assert len(client.ask("state::get_many", {"keys": keys[1:]})["entries"]) == 1000
    error = client.answer_to(client.call("state::get_many", {"keys": keys}))["error"]
    assert (error["code"], error["details"]["bound"]) == ("LIMIT_EXCEEDED", 1000)


def test_get_many_of_more_than_the_caller_can_take_is_refused(client: Client) -> None:
    fill(client, "a", value="x" * 3000)
    client.worker.message_bytes_max = 4096

    one = [{"scope": "s", "key": "a"}]
    assert len(client.ask("state::get_many", {"keys": one})["entries"]) == 1
    assert client.error("state::get_many", {"keys": one * 2}) == "payload_too_large"


def test_keys_are_counted(client: Client) -> None:
    fill(client, "a1", "a2", "b", value="xy")

    assert ask(client, "count") == {"count": 3, "bytes": 12}
    assert ask(client, "count", prefix="a") == {"count": 2, "bytes": 8}
    assert ask(client, "count", scope="none") == {"count": 0, "bytes": 0}


# -- removing -------------------------------------------------------------------------------------


async def test_clear_removes_a_scope_and_fires_for_each_key(
    bench: EngineBench, client: Client
) -> None:
    fill(client, *"abc")
    client.ask("state::set", {"scope": "t", "key": "a", "value": 1})
    client.send("registerfunction", id="f")
    client.bind()

    answer = await remove(bench, client, "clear")

    assert answer["result"] == {"deleted": 3, "last_revision": 7}
    events = [message["data"] for message in client.got("invokefunction")]
    assert [(e["event_type"], e["key"], e["old_value"]) for e in events] == [
        ("state:deleted", key, 1) for key in "abc"
    ]
    assert client.ask("state::list_groups", {}) == {"groups": ["t"]}


async def test_delete_prefix_removes_what_begins_with_it(
    bench: EngineBench, client: Client
) -> None:
    fill(client, "a:1", "b:1", "a:2", "a")

    answer = await remove(bench, client, "delete_prefix", prefix="a:")
    again = await remove(bench, client, "delete_prefix", prefix="a:")

    assert answer["result"] == {"deleted": 2, "last_revision": 6}
    assert again["result"] == {"deleted": 0, "last_revision": 0}
    assert ask(client, "list_keys")["keys"] == ["a", "b:1"]
    assert failure(client, "delete_prefix")["code"] == "deserialization_error"


class Noting(MemoryStore):
    """A store that notes how many writes each transaction has."""

    sizes: tuple[int, ...] = ()

    def execute(self, command: Command) -> Outcome:
        if isinstance(command, Transact):
            self.sizes += (len(command.writes),)
        return super().execute(command)


@pytest.mark.parametrize(
    ("value_bytes", "sizes"), [(1, (1000, 1000, 500)), (9000, (933, 67, 933, 67, 500))]
)
async def test_many_keys_are_removed_some_a_commit(
    value_bytes: int, sizes: tuple[int, ...]
) -> None:
    store = Noting(FakeClock())
    for n in range(2500):
        store.execute(Set("s", f"{n:04}", b"1" * value_bytes))
    async with running_engine(store=store) as bench:
        answer = await remove(bench, bench.client(), "clear")

    assert answer["result"] == {"deleted": 2500, "last_revision": 5000}
    assert store.sizes == sizes


class Refusing(Noting):
    """A store that takes one transaction and no more."""

    def execute(self, command: Command) -> Outcome:
        if isinstance(command, Transact) and self.sizes:
            raise StoreReadOnly("Writes are refused")
        return super().execute(command)


async def test_a_clear_that_is_refused_half_way_says_how_far_it_got() -> None:
    store = Refusing(FakeClock())
    for n in range(1500):
        store.execute(Set("s", f"{n}", b"1"))
    async with running_engine(store=store) as bench:
        error = (await remove(bench, bench.client(), "clear"))["error"]

    assert error["code"] == "STORE_READ_ONLY"
    assert error["details"] == {"deleted": 1000, "last_revision": 2500}


@pytest.mark.parametrize(("name", "more"), [("clear", {}), ("delete_prefix", {"prefix": "a"})])
async def test_a_removal_that_is_repeated_lets_be_what_was_made_since(
    bench: EngineBench, client: Client, name: str, more: dict[str, Any]
) -> None:
    fill(client, "a", "ab")

    first = await remove(bench, client, name, idempotency_key="x", **more)
    fill(client, "ab", "ac")
    again = await remove(bench, client, name, idempotency_key="x", **more)
    other = await remove(bench, client, name, idempotency_key="y", **more)

    deleted = [answer["result"]["deleted"] for answer in (first, again, other)]
    assert deleted == [2, 0, 2]


async def test_a_removal_with_an_idempotency_key_of_another_is_refused(
    bench: EngineBench, client: Client
) -> None:
    await remove(bench, client, "clear", idempotency_key="x", note=1)

    assert failure(client, "clear", idempotency_key="x")["code"] == "IDEMPOTENCY_MISMATCH"


async def test_a_removal_that_is_taken_up_too_late_removes_nothing(client: Client) -> None:
    fill(client, "a")

    error = failure(client, "clear", deadline_ms=1_000_000_000_000)

    assert error["code"] == "DEADLINE_EXCEEDED"
    assert ask(client, "count")["count"] == 1


async def test_keys_made_while_a_scope_is_cleared_stay(bench: EngineBench) -> None:
    client = bench.client()
    fill(client, "a", "b", "c")

    call = client.call("state::clear", SCOPE)
    fill(client, "b", value=2)
    fill(client, "d")
    client.ask("state::delete", {**SCOPE, "key": "c"})
    fill(client, "c", value=3)
    for _ in range(20):
        await bench.turn()

    assert client.answer_to(call)["result"]["deleted"] == 2
    assert ask(client, "list_entries")["entries"] == [["d", 1], ["c", 3]]


# -- on disk --------------------------------------------------------------------------------------


class DiskBench:
    """An engine over a store on disk, and a worker connected to it."""

    def __init__(self, store: DiskStore) -> None:
        self.store = store
        self.engine = Engine(store, SETTINGS, FakeClock(), random_ids())
        self.engine.start()
        self.client = Client(self)  # type: ignore[arg-type]

    async def answer(self, name: str, **members: Any) -> dict[str, Any]:
        """The answer to a call about the scope."""
        call = self.client.call(f"state::{name}", {**SCOPE, **members})
        await self.until_answered(call)
        return self.client.answer_to(call)

    async def until_answered(self, call: str) -> None:
        """Turn the event loop until a call is answered."""
        while not self.is_answered(call):
            await asyncio.sleep(0)

    def is_answered(self, call: str) -> bool:
        answers = self.client.got("invocationresult", keep=True)
        return call in [message["invocation_id"] for message in answers]

    async def close(self) -> None:
        await self.engine.stop()
        await self.store.close()


async def open_bench(place: Path, files: FaultyFiles | None = None) -> DiskBench:
    return DiskBench(await DiskStore.open(place, clock_ms=FakeClock(), files=files))


async def test_a_cursor_outlives_a_restart(tmp_path: Path) -> None:
    bench = await open_bench(tmp_path)
    for key in "abcd":
        await bench.answer("set", key=key, value=1)
    cursor = (await bench.answer("list_entries", limit=2))["result"]["next_cursor"]
    await bench.answer("set", key="a", value=2)
    await bench.close()

    bench = await open_bench(tmp_path)
    await bench.answer("delete", key="b")
    page = (await bench.answer("list_entries", cursor=cursor))["result"]

    assert page["entries"] == [["c", 1], ["d", 1]]
    await bench.close()


async def test_a_large_scope_is_cleared_beside_other_calls(tmp_path: Path) -> None:
    bench = await open_bench(tmp_path)
    for n in range(5000):
        bench.store.execute(Set("s", f"{n}", b"1"))
    await bench.store.commit()

    call = bench.client.call("state::clear", SCOPE)
    for n in range(20):
        await bench.answer("set", key=f"new {n}", value=n)
    await bench.until_answered(call)

    assert bench.client.answer_to(call)["result"]["deleted"] == 5000
    assert (await bench.answer("count"))["result"] == {"count": 20, "bytes": 30}
    await bench.close()


async def test_a_clear_that_the_disk_ends_says_how_far_it_got(tmp_path: Path) -> None:
    files = FaultyFiles()
    bench = await open_bench(Path("/store"), files)
    for n in range(2000):
        bench.store.execute(Set("s", f"{n}", b"1"))
    await bench.store.commit()
    files.failing_sync = files.syncs + 2

    error = (await bench.answer("clear"))["error"]

    assert error["code"] in ("OUTCOME_UNKNOWN", "STORE_READ_ONLY")
    assert error["details"]["deleted"] == 1000
    assert error["details"]["last_revision"] == 3000
    await bench.close()


async def test_a_long_list_that_waits_for_a_commit_that_fails_is_read_again(
    tmp_path: Path,
) -> None:
    files = FaultyFiles()
    bench = await open_bench(Path("/store"), files)
    for n in range(3000):
        bench.store.execute(Set("s", f"{n:04}", b"1"))
    await bench.store.commit()
    files.failing_sync = files.syncs + 1

    bench.client.call("state::set", {**SCOPE, "key": "new", "value": 2})
    values = bench.client.call("state::list", SCOPE)
    entries = bench.client.call("state::list_entries", {**SCOPE, "limit": 1000})
    await bench.until_answered(values)
    await bench.until_answered(entries)

    assert bench.client.answer_to(values)["result"] == [1] * 3000
    page = bench.client.answer_to(entries)["result"]["entries"]
    assert page == [[f"{n:04}", 1] for n in range(1000)]
    await bench.close()
