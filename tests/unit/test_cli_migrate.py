"""`migrate`, on directories as the original engine leaves them."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result
from original_files import write_scope
from programs import COMMAND, Program, environment

from iii_state.cli import cli
from iii_state.stores.original import ScopeFile, read_scope

USERS = '{"zoe":{"age":1.0e1},"adam":null,"mia":[]}'


@pytest.fixture
def old(tmp_path: Path) -> Path:
    old = tmp_path / "old"
    write_scope(old, "users", USERS)
    write_scope(old, "stream:todo:todos", '{"k":1}')
    return old


@pytest.fixture
def new(tmp_path: Path) -> Path:
    return tmp_path / "new"


def migrate(old: Path, new: Path, *args: str) -> Result:
    env = {"III_STATE_OUTPUT": None, "III_STATE_DATA_DIR": None}
    command = ("migrate", "iii", str(old), "--data-dir", str(new), *args)
    return CliRunner().invoke(cli, command, env=env)


def dumped(directory: Path) -> list[str]:
    """Scope, key and value of each entry, as they stand in a dump."""
    lines = CliRunner().invoke(cli, ("dump", str(directory))).stdout.splitlines()
    return [line.partition(',"revision"')[0] for line in lines]


def everything_in(directory: Path) -> dict[str, tuple[int, int, int, int, bytes]]:
    """Names, kinds, rights, times and bytes of all that is in a directory, and its own."""
    found = {}
    for path in (directory, *directory.rglob("*")):
        about = path.lstat()
        facts = (about.st_mode, about.st_ino, about.st_mtime_ns, about.st_ctime_ns)
        found[str(path)] = (*facts, path.read_bytes() if path.is_file() else b"")
    return found


def test_data_is_moved_compared_and_told(old: Path, new: Path) -> None:
    result = migrate(old, new)

    assert result.exit_code == 0, result.output
    assert result.stderr == ""
    rows = [line.split() for line in result.stdout.splitlines()]
    assert ["users", "users.bin", "3", "19"] in rows
    assert ["stream:todo:todos", "stream%3Atodo%3Atodos.bin", "1", "1"] in rows
    assert result.stdout.splitlines()[-1] == (
        f"2 scopes, 4 keys, 20 bytes of values moved to {new}, and compared: "
        f"they are the same, byte for byte"
    )
    assert dumped(new) == [
        '{"scope":"stream:todo:todos","key":"k","value":1',
        '{"scope":"users","key":"zoe","value":{"age":1.0e1}',
        '{"scope":"users","key":"adam","value":null',
        '{"scope":"users","key":"mia","value":[]',
    ]


def test_what_is_moved_is_a_sound_store(old: Path, new: Path) -> None:
    migrate(old, new)

    result = CliRunner().invoke(cli, ("check", str(new)))

    assert result.stdout.splitlines()[-1] == "intact, up to revision 4"


def test_scripts_get_json(old: Path, new: Path) -> None:
    (old / "notes.txt").write_text("hello")

    result = migrate(old, new, "-o", "json")

    assert json.loads(result.stdout) == {
        "source": str(old),
        "target": str(new),
        "moved": True,
        "compared": True,
        "keys": 4,
        "bytes": 20,
        "scopes": [
            {
                "scope": "stream:todo:todos",
                "file": "stream%3Atodo%3Atodos.bin",
                "keys": 1,
                "bytes": 1,
            },
            {"scope": "users", "file": "users.bin", "keys": 3, "bytes": 19},
        ],
        "damaged": [],
        "ignored": [
            {
                "file": "notes.txt",
                "reason": "has another name than those of scopes, which end with .bin",
            }
        ],
        "notes": [],
        "differences": [],
    }


@pytest.mark.parametrize(
    "args",
    [(), ("--dry-run",), ("--skip-damaged",), ("-o", "json")],
    ids=["moved", "dry", "skip", "json"],
)
def test_nothing_in_the_old_directory_is_touched(
    old: Path, new: Path, args: tuple[str, ...]
) -> None:
    write_scope(old, "", '{"lost":true}')
    write_scope(old, "bad", "{}").write_bytes(b"bad")
    (old / "a.bin.tmp").write_bytes(b"{")
    (old / "deeper.bin").mkdir()
    (old / "link.bin").symlink_to(old / "users.bin")
    before = everything_in(old)

    result = migrate(old, new, *args)

    assert "link" in result.output
    assert everything_in(old) == before


def test_a_dry_run_writes_nothing(old: Path, new: Path) -> None:
    result = migrate(old, new, "--dry-run")

    assert result.exit_code == 0
    assert result.stdout.splitlines()[-1] == (
        "2 scopes, 4 keys, 20 bytes of values can be moved; nothing was written"
    )
    assert not new.exists()


def test_the_empty_scope_is_moved_and_told(old: Path, new: Path) -> None:
    write_scope(old, "", '{"k":"found"}')

    result = migrate(old, new)

    assert "note: .bin is the scope with the empty name" in result.stdout
    assert '{"scope":"","key":"k","value":"found"' in dumped(new)


def test_other_files_are_ignored_and_listed(old: Path, new: Path) -> None:
    (old / "users.bin.tmp").write_bytes(b"{")
    (old / "cron").mkdir()

    result = migrate(old, new)

    assert result.exit_code == 0
    assert "ignored: users.bin.tmp is a write that was never finished" in result.stdout
    assert "ignored: cron is no file" in result.stdout


def test_a_damaged_file_is_named_and_nothing_is_written(old: Path, new: Path) -> None:
    path = write_scope(old, "bad", '{"key":"value"}')
    path.write_bytes(path.read_bytes()[:-3])

    result = migrate(old, new)

    assert result.exit_code == 1
    assert "damaged: bad.bin does not end as a file does; it may have been cut off" in result.stdout
    assert "code: STORE_DAMAGED" in result.stderr
    assert "bad.bin" in result.stderr
    assert "--skip-damaged" in result.stderr
    assert not new.exists()
    assert migrate(old, new, "--dry-run").exit_code == 1
    error = json.loads(migrate(old, new, "-o", "json").stderr)["error"]
    assert error["code"] == "STORE_DAMAGED"


def test_damaged_files_are_left_out_when_asked_for(old: Path, new: Path) -> None:
    write_scope(old, "bad", "[]")
    write_scope(old, "twice", "{}").rename(old / "%zz.bin")

    result = migrate(old, new, "--skip-damaged", "-o", "json")

    assert result.exit_code == 0
    moved = json.loads(result.stdout)
    assert [each["file"] for each in moved["damaged"]] == ["%zz.bin", "bad.bin"]
    assert (moved["keys"], moved["compared"]) == (4, True)
    assert len(dumped(new)) == 4


def test_a_directory_without_anything_readable_has_no_table(tmp_path: Path, new: Path) -> None:
    write_scope(tmp_path / "old", "bad", "[]")

    result = migrate(tmp_path / "old", new)

    assert result.exit_code == 1
    assert result.stdout.startswith("damaged: bad.bin holds no JSON object")


@pytest.mark.parametrize("name", ["STORE", "notes.txt", "users.bin"])
def test_a_target_that_is_not_empty_is_refused(name: str, old: Path, new: Path) -> None:
    new.mkdir()
    (new / name).write_text("mine")

    for args in ((), ("--dry-run",)):
        result = migrate(old, new, *args)

        assert result.exit_code == 1
        assert "code: STORE_NOT_EMPTY" in result.stderr
        assert f"it holds {name}" in result.stderr
    assert [path.name for path in new.iterdir()] == [name]
    assert (new / name).read_text() == "mine"


def test_an_empty_target_is_taken(old: Path, new: Path) -> None:
    (new / "lost+found").mkdir(parents=True)

    assert migrate(old, new).exit_code == 0
    assert migrate(old, new).exit_code == 1


@pytest.mark.parametrize("inside", [".", "new", "a/../new"])
def test_a_target_in_the_old_directory_is_refused(inside: str, old: Path) -> None:
    before = everything_in(old)

    result = migrate(old, old / inside)

    assert result.exit_code == 2
    assert "not to be touched" in result.stderr
    assert everything_in(old) == before


def test_a_directory_without_files_of_the_original_is_refused(tmp_path: Path, new: Path) -> None:
    (tmp_path / "notes.txt").write_text("hello")

    result = migrate(tmp_path, tmp_path.parent / "new-of-it")

    assert result.exit_code == 1
    assert "code: STORE_UNUSABLE" in result.stderr
    assert "holds no data of the original iii engine" in result.stderr
    absent = migrate(tmp_path / "absent", new)
    assert (absent.exit_code, new.exists()) == (2, False)


def test_a_directory_that_cannot_be_read_is_told(old: Path, new: Path) -> None:
    (old / "loop.bin").symlink_to(old / "loop.bin")

    result = migrate(old, new)

    assert result.exit_code == 1
    assert "cannot be read: Too many levels of symbolic links" in result.stderr


def test_a_target_that_cannot_be_made_is_told(old: Path, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")

    result = migrate(old, tmp_path / "file" / "new", "-o", "json")

    assert result.exit_code == 1
    error = json.loads(result.stderr)["error"]
    assert error["code"] == "STORE_NOT_WRITABLE"
    assert "hint" not in error


@pytest.mark.parametrize("change", ["again", "more", "gone", "all gone"])
def test_an_engine_that_still_writes_is_noticed(
    change: str, old: Path, new: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    reads = 0

    def read_while_the_engine_runs(file: ScopeFile) -> Any:
        nonlocal reads
        entries = read_scope(file)
        reads += 1
        if reads == 3:
            if change == "all gone":
                shutil.rmtree(old)
            elif change == "gone":
                (old / "users.bin").unlink()
            else:
                write_scope(old, "users" if change == "again" else "more", '{"k":1}')
        return entries

    monkeypatch.setattr("iii_state.stores.migration.read_scope", read_while_the_engine_runs)

    result = migrate(old, new)

    assert result.exit_code == 1
    assert "code: SOURCE_CHANGED" in result.stderr
    assert f"hint: {new} is incomplete: remove it" in result.stderr


def test_a_difference_is_an_error(old: Path, new: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    reads = 0

    def read_something_else_when_writing(file: ScopeFile) -> Any:
        nonlocal reads
        entries = read_scope(file)
        reads += 1
        if reads == 4:
            del entries["mia"]
        return entries

    monkeypatch.setattr("iii_state.stores.migration.read_scope", read_something_else_when_writing)

    result = migrate(old, new)

    assert result.exit_code == 1
    assert "different: key 'mia' of users.bin is missing" in result.stdout
    assert result.stdout.splitlines()[-1].endswith("where not all are found again")
    assert "code: MIGRATION_DIFFERS" in result.stderr


def test_somebody_who_watches_sees_progress(old: Path, new: Path) -> None:
    write_scope(old, "many", json.dumps({str(n): "x" * 100 for n in range(30_000)}))
    watched, seen = os.openpty()
    program = subprocess.Popen(
        [COMMAND, "migrate", "iii", str(old), "--data-dir", str(new)],
        env=environment(TERM="xterm"),
        stdout=subprocess.DEVNULL,
        stderr=seen,
    )
    os.close(seen)
    said = b""
    try:
        while more := os.read(watched, 65536):
            said += more
    except OSError:
        # The other end is closed.
        pass
    os.close(watched)

    assert program.wait(timeout=20) == 0
    for what in (b"reading", b"writing", b"comparing"):
        assert what in said


def test_ctrl_c_says_what_to_remove(old: Path, new: Path) -> None:
    write_scope(old, "many", json.dumps({str(n): n for n in range(300_000)}))
    program = Program("migrate", "iii", str(old), "--data-dir", str(new))
    while not (new / "STORE").exists():
        assert program.process.poll() is None
    program.process.send_signal(signal.SIGINT)
    _, errors = program.process.communicate(timeout=20)

    assert program.process.returncode == 130
    assert f"{new} is incomplete: remove it" in errors
