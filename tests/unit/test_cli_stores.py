"""`check` and `dump`, on directories that a server has left."""

from __future__ import annotations

import json
from pathlib import Path

import msgspec
import pytest
from click.testing import CliRunner, Result
from programs import server

from iii_state.cli import cli
from iii_state.core.commands import Delete, Set
from iii_state.stores.disk.store import DiskStore
from iii_state.testing.clocks import FakeClock


def run(*args: str) -> Result:
    return CliRunner().invoke(cli, args)


@pytest.fixture
async def directory(tmp_path: Path) -> Path:
    directory = tmp_path / "data"
    store = await DiskStore.open(directory, clock_ms=FakeClock())
    store.execute(Set("users", "alice", b'{"age": 1.0e1}'))
    store.execute(Set("users", "bob", b"null"))
    store.execute(Set("users", "gone", b"1"))
    store.execute(Delete("users", "gone"))
    store.execute(Set("big", "k", msgspec.json.encode("x" * 10_000)))
    await store.commit()
    await store.close()
    return directory


def damage(directory: Path, needle: bytes) -> Path:
    for path in sorted(directory.glob("*.seg")):
        data = bytearray(path.read_bytes())
        if (at := data.find(needle)) >= 0:
            data[at] ^= 1
            path.write_bytes(data)
            return path
    raise AssertionError(f"{needle!r} is in no file")


async def test_an_intact_directory_checks(directory: Path) -> None:
    result = run("check", str(directory))

    assert result.exit_code == 0, result.output
    assert result.stdout.splitlines()[-1] == "intact, up to revision 5"
    assert result.stderr == ""


async def test_damage_is_told_with_file_and_offset(directory: Path) -> None:
    path = damage(directory, b"xxxx")

    result = run("check", str(directory))

    assert result.exit_code == 1
    assert path.name in result.stderr
    assert "offset" in result.stderr
    assert "code: STORE_DAMAGED" in result.stderr
    assert "iii-state dump" in result.stderr
    assert "damaged, up to revision" in result.stdout


async def test_a_report_can_be_had_as_json(directory: Path) -> None:
    damage(directory, b"xxxx")

    result = run("check", str(directory), "-o", "json")

    assert json.loads(result.stdout)["revision"] == 5
    assert json.loads(result.stderr)["error"]["code"] == "STORE_DAMAGED"


async def test_entries_are_dumped_as_lines_of_json(directory: Path) -> None:
    result = run("dump", str(directory))

    entries = [json.loads(line) for line in result.stdout.splitlines()]
    assert result.exit_code == 0, result.output
    assert {(entry["scope"], entry["key"]) for entry in entries} == {
        ("users", "alice"),
        ("users", "bob"),
        ("big", "k"),
    }
    assert '"value":{"age": 1.0e1},"revision":1,' in result.stdout
    assert result.stderr == "3 entries written\n"


async def test_a_damaged_directory_is_dumped_as_far_as_it_can_be_read(directory: Path) -> None:
    path = damage(directory, b"xxxx")

    result = run("dump", str(directory))

    assert result.exit_code == 7
    assert [json.loads(line)["key"] for line in result.stdout.splitlines()] == ["alice", "bob"]
    assert f"lost: {path.name}, offset " in result.stderr
    assert "code: STORE_DAMAGED" in result.stderr


@pytest.mark.parametrize("command", ["check", "dump"])
def test_a_directory_in_use_is_a_conflict(command: str, tmp_path: Path) -> None:
    with server("--data-dir", str(tmp_path / "data")):
        result = run(command, str(tmp_path / "data"))

    assert result.exit_code == 4
    assert "code: STORE_LOCKED" in result.stderr


@pytest.mark.parametrize("command", ["check", "dump"])
def test_a_directory_that_is_no_store_is_refused(command: str, tmp_path: Path) -> None:
    (tmp_path / "notes.txt").write_text("hello")

    foreign = run(command, str(tmp_path)).stderr
    assert "code: STORE_FOREIGN" in foreign
    assert "name the data directory of a server" in foreign
    assert "a new directory" not in foreign
    absent = run(command, str(tmp_path / "absent"))
    assert absent.exit_code == 1
    assert "absent holds no store; name the data directory of a server" in absent.stderr


@pytest.mark.parametrize("command", ["check", "dump"])
def test_a_directory_of_the_original_engine_is_refused(command: str, tmp_path: Path) -> None:
    (tmp_path / "scope.bin").write_bytes(b"")

    refused = run(command, str(tmp_path)).stderr

    assert "left untouched; name the data directory of a server of iii-state" in refused
    assert "iii-state migrate iii" in refused
