"""The file system as the store sees it: what is written in pieces, and what a limit cuts off."""

from __future__ import annotations

import errno
import os
import resource
from collections.abc import Iterator
from pathlib import Path

import pytest

from iii_state.stores.disk.files import Files

LIMIT = 1 << 30
"""No other file of the tests comes near it."""


@pytest.fixture
def files() -> Files:
    return Files()


@pytest.fixture
def fd(files: Files, tmp_path: Path) -> Iterator[int]:
    fd = files.open(tmp_path / "file", create=True)
    yield fd
    files.close(fd)


@pytest.fixture
def limit() -> Iterator[int]:
    """No file may grow beyond it: a write that would is cut short first, then refused."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (LIMIT, hard))
    yield LIMIT
    resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


@pytest.mark.parametrize("name", ["write_pieces", "write_synced"])
def test_pieces_stand_behind_one_another(files: Files, fd: int, name: str) -> None:
    getattr(files, name)(fd, (b"head", b"", b"body", b"tail"), 3)

    assert files.read(fd, 100, 0) == b"\0\0\0headbodytail"


@pytest.mark.parametrize("name", ["write_pieces", "write_synced"])
def test_what_was_cut_short_is_gone_on_with_until_it_is_refused(
    files: Files, fd: int, limit: int, name: str
) -> None:
    with pytest.raises(OSError, match=os.strerror(errno.EFBIG)):
        getattr(files, name)(fd, (b"1234", b"5678"), limit - 6)

    assert files.read(fd, 100, limit - 6) == b"123456"


def test_a_file_has_its_name_while_it_is_moved(files: Files, fd: int, tmp_path: Path) -> None:
    assert files.is_linked(fd)

    (tmp_path / "file").rename(tmp_path / "other")
    assert files.is_linked(fd)


def test_a_file_that_was_removed_or_replaced_has_its_name_no_more(
    files: Files, fd: int, tmp_path: Path
) -> None:
    (tmp_path / "new").touch()
    (tmp_path / "new").rename(tmp_path / "file")

    assert not files.is_linked(fd)


def test_without_proc_the_file_itself_is_asked_for_its_names(
    files: Files, fd: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def read_no_link(path: str) -> str:
        raise FileNotFoundError(errno.ENOENT, "No such file or directory", path)

    monkeypatch.setattr(os, "readlink", read_no_link)
    assert files.is_linked(fd)

    (tmp_path / "file").unlink()
    assert not files.is_linked(fd)
