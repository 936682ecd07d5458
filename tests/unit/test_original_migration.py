"""What is moved is compared, and every kind of difference is found."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from original_files import write_scope

from iii_state.core.commands import Delete, Get, ListValues, Set, Write
from iii_state.core.store import Store
from iii_state.errors import OutcomeUnknown, StoreDamaged
from iii_state.stores import migration
from iii_state.stores.disk.store import DiskStore
from iii_state.stores.memory import MemoryStore
from iii_state.stores.original import ScopeFile, list_directory
from iii_state.testing.clocks import FakeClock
from iii_state.testing.faulty_files import FaultyFiles


def uncounted(count: int) -> None:
    """Nobody watches."""


@pytest.fixture
def files(tmp_path: Path) -> tuple[ScopeFile, ...]:
    old = tmp_path / "old"
    write_scope(old, "users", '{"zoe":{"age":1.0e1},"adam":null,"mia":[]}')
    write_scope(old, "", '{"k":1}')
    write_scope(old, "nobody", "{}")
    return list_directory(old).files


async def moved(files: tuple[ScopeFile, ...]) -> MemoryStore:
    store = MemoryStore(FakeClock())
    await migration.write_all(store, files, uncounted)
    return store


def values(store: Store, scope: str) -> list[bytes]:
    return list(store.execute(ListValues(scope, 1 << 20)).values)


async def test_values_are_moved_as_they_are_and_in_order(files: tuple[ScopeFile, ...]) -> None:
    store = await moved(files)

    assert values(store, "users") == [b'{"age":1.0e1}', b"null", b"[]"]
    assert values(store, "") == [b"1"]
    assert (store.info().keys, store.info().scopes, store.revision) == (4, 2, 4)
    assert [change.origin.worker for change in store.changes(0, 10, 1000)] == ["migrate"] * 4
    assert await migration.compare_all(store, files, uncounted) == []


@pytest.mark.parametrize(
    ("writes", "difference"),
    [
        ([Delete("users", "mia")], "key 'mia' of users.bin is missing"),
        ([Set("users", "mia", b"[ ]")], "key 'mia' of users.bin has another value"),
        ([Set("users", "more", b"1")], "scope 'users' has 4 keys, users.bin has 3"),
        ([Set("more", "k", b"1")], "scope 'more' is in no file"),
        ([Set("nobody", "k", b"1")], "scope 'nobody' has 1 keys, nobody.bin has 0"),
        (
            [Delete("users", "zoe"), Set("users", "zoe", b'{"age":1.0e1}')],
            "key 'adam' of users.bin has another place in the order",
        ),
    ],
)
async def test_every_difference_is_found(
    files: tuple[ScopeFile, ...], writes: list[Write], difference: str
) -> None:
    store = await moved(files)
    for write in writes:
        store.execute(write)
    await store.commit()

    assert difference in await migration.compare_all(store, files, uncounted)


async def test_many_differences_are_told_in_part(tmp_path: Path) -> None:
    write_scope(tmp_path, "s", json.dumps({str(n): n for n in range(100)}))
    files = list_directory(tmp_path).files

    differences = await migration.compare_all(MemoryStore(FakeClock()), files, uncounted)

    assert len(differences) == 1 + migration.DIFFERENCES_MAX


@pytest.mark.parametrize(
    ("text", "scopes", "commits"),
    [
        (json.dumps({str(n): n for n in range(1000)}), 10, 3),
        (json.dumps({str(n): "x" * (1 << 20) for n in range(10)}), 1, 3),
    ],
    ids=["small values", "large values"],
)
async def test_many_keys_go_into_one_commit_whatever_their_scopes(
    text: str, scopes: int, commits: int, tmp_path: Path
) -> None:
    class CountingStore(MemoryStore):
        commits = 0

        async def commit(self):  # type: ignore[no-untyped-def]
            self.commits += 1
            return await super().commit()

    for n in range(scopes):
        write_scope(tmp_path, f"s{n}", text)
    files = list_directory(tmp_path).files
    store = CountingStore(FakeClock())

    await migration.write_all(store, files, uncounted)

    assert store.commits == commits
    assert await migration.compare_all(store, files, uncounted) == []


async def test_progress_adds_up_to_all_bytes(tmp_path: Path) -> None:
    write_scope(tmp_path, "s", json.dumps({str(n): "x" * (1 << 19) for n in range(10)}))
    write_scope(tmp_path, "t", '{"k":"v"}')
    files = list_directory(tmp_path).files
    read: list[int] = []
    written: list[int] = []
    compared: list[int] = []
    store = MemoryStore(FakeClock())

    contents, _ = migration.read_all(files, read.append)
    await migration.write_all(store, files, written.append)
    await migration.compare_all(store, files, compared.append)

    assert sum(read) == sum(file.bytes for file in files)
    assert sum(written) == sum(compared) == sum(each.bytes for _, each in contents)
    assert len(compared) > 3


async def test_a_disk_that_fails_during_a_commit_is_an_error(
    files: tuple[ScopeFile, ...],
) -> None:
    disk = FaultyFiles()
    store = await DiskStore.open(Path("/data"), clock_ms=FakeClock(), files=disk)
    disk.failing_sync = disk.syncs + 1

    with pytest.raises(OutcomeUnknown):
        await migration.write_all(store, files, uncounted)

    await store.close()


def test_damaged_files_are_told_beside_the_others(tmp_path: Path) -> None:
    write_scope(tmp_path, "good", '{"k":[1]}')
    write_scope(tmp_path, "bad", "{").write_bytes(b"{")

    readable, damaged = migration.read_all(list_directory(tmp_path).files, uncounted)

    assert [contents for _, contents in readable] == [
        migration.ScopeContents("good", "good.bin", 1, 3)
    ]
    assert [(file.file, file.reason.split(",")[0]) for file in damaged] == [
        ("bad.bin", "has 1 bytes")
    ]


async def test_a_file_that_goes_away_meanwhile_is_an_error(files: tuple[ScopeFile, ...]) -> None:
    store = await moved(files)
    files[-1].path.unlink()

    with pytest.raises(StoreDamaged, match=r"users\.bin cannot be read"):
        await migration.compare_all(store, files, uncounted)
    assert store.execute(Get("users", "mia")).entry is not None
