"""The files in which the original iii engine keeps its state: read, never written.

A directory holds one file for each scope, `<scope, percent-encoded>.bin`: one JSON object, key to
value, in order in which the keys were made, as an archive of one string. An archive of up to 8
bytes of text is the text, filled up with 0xFF; a longer one is

    text | zeros up to a multiple of 4 | length, mangled, u32 | minus the start of the length, i32

in little endian. What differs from what that engine writes in any byte is taken for damage: a text
that was cut off must not pass for a shorter one.
"""

from __future__ import annotations

import os
import re
import struct
from pathlib import Path
from typing import Final
from urllib.parse import unquote_to_bytes

import msgspec

from iii_state.core.values import decode_members
from iii_state.errors import StoreDamaged

SUFFIX: Final = ".bin"
TEMPORARY_SUFFIX: Final = ".bin.tmp"

_INLINE_BYTES: Final = 8
_FILLER: Final = b"\xff"
_ROOT: Final = struct.Struct("<Ii")
_BROKEN_ESCAPE: Final = re.compile("%(?![0-9A-Fa-f]{2})")


class ScopeFile(msgspec.Struct, frozen=True):
    """A file that holds a scope, and what tells whether it is still the same.

    `name` is for people: bytes of the file's name that are no text are escaped in it.
    """

    name: str
    scope: str
    path: Path
    bytes: int
    modified_ns: int
    inode: int

    @property
    def is_forgotten(self) -> bool:
        """Whether the original engine writes this file, but never reads it: the empty scope's."""
        return self.name == SUFFIX


class OtherFile(msgspec.Struct, frozen=True):
    """A file that is not taken, and why: its name ends where the reason goes on."""

    file: str
    reason: str


class Listing(msgspec.Struct, frozen=True):
    """What is in a directory, in order of names. Equal as long as no scope's file was written.

    `misnamed` are files that must be scopes but cannot be told which, `others` all else.
    """

    files: tuple[ScopeFile, ...]
    misnamed: tuple[OtherFile, ...]
    others: tuple[OtherFile, ...]


def list_directory(directory: Path) -> Listing:
    """Tell the scopes' files from all else. Opens no file.

    Raises:
        OSError: the directory cannot be read.
    """
    files: dict[str, ScopeFile] = {}
    misnamed: list[OtherFile] = []
    others: list[OtherFile] = []
    with os.scandir(directory) as entries:
        for entry in sorted(entries, key=lambda entry: os.fsencode(entry.name)):
            name = os.fsencode(entry.name).decode("utf-8", "backslashreplace")
            if not entry.is_file():
                others.append(OtherFile(name, "is no file"))
            elif not entry.name.endswith(SUFFIX):
                others.append(OtherFile(name, _why_no_scope(entry.name)))
            elif (scope := scope_name(entry.name)) is None:
                misnamed.append(OtherFile(name, "has a name that encodes no text"))
            elif scope in files:
                misnamed.append(OtherFile(name, f"has the same scope as {files[scope].name}"))
            else:
                about = entry.stat()
                files[scope] = ScopeFile(
                    name,
                    scope,
                    Path(entry.path),
                    about.st_size,
                    about.st_mtime_ns,
                    about.st_ino,
                )
    return Listing(tuple(files.values()), tuple(misnamed), tuple(others))


def _why_no_scope(filename: str) -> str:
    if filename.endswith(TEMPORARY_SUFFIX):
        return "is a write that was never finished"
    return f"has another name than those of scopes, which end with {SUFFIX}"


def scope_name(filename: str) -> str | None:
    """The scope whose file has that name; None when it is not a scope's.

    The name of the empty scope's file is the suffix alone.
    """
    encoded = filename.removesuffix(SUFFIX)
    if encoded == filename or _BROKEN_ESCAPE.search(encoded):
        return None
    try:
        return unquote_to_bytes(encoded).decode()
    except UnicodeError:
        return None


def read_scope(file: ScopeFile) -> dict[str, msgspec.Raw]:
    """The entries of a scope, in order in which the keys were made; values are checked JSON text.

    Raises:
        StoreDamaged: it cannot be read, or is not what that engine writes. The detail `reason`
            goes on where the file's name ends.
    """
    try:
        data = file.path.read_bytes()
    except OSError as error:
        raise _damaged(file.name, f"cannot be read: {error.strerror}") from error
    try:
        return decode_members(decode_scope_file(data, file.name))
    except RecursionError:
        raise _damaged(file.name, "nests deeper than that engine allows") from None
    except msgspec.MsgspecError as error:
        raise _damaged(file.name, f"holds no JSON object: {error}") from error


def decode_scope_file(data: bytes, name: str = "the file") -> bytes:
    """The text that a file holds: UTF-8, not yet known to be JSON.

    Raises:
        StoreDamaged: the file is not what the original engine writes.
    """
    if len(data) < _INLINE_BYTES:
        raise _damaged(name, f"has {len(data)} bytes, and no file has fewer than {_INLINE_BYTES}")
    root = len(data) - _INLINE_BYTES
    text = _inline(data, name) if data[root] & 0xC0 != 0x80 else _out_of_line(data, root, name)
    try:
        text.decode()
    except UnicodeDecodeError as error:
        raise _damaged(name, "holds bytes that are no UTF-8", error.start) from error
    return text


def _inline(data: bytes, name: str) -> bytes:
    text, _, filler = data.partition(_FILLER)
    if len(data) != _INLINE_BYTES or filler.strip(_FILLER):
        raise _damaged(name, "does not end as a file does; it may have been cut off")
    return text


def _out_of_line(data: bytes, root: int, name: str) -> bytes:
    mangled, offset = _ROOT.unpack_from(data, root)
    length = mangled & 0x3F | (mangled & ~0xFF) >> 2
    if length <= _INLINE_BYTES or -(-length // 4) * 4 != root or offset != -root:
        raise _damaged(
            name, f"has {len(data)} bytes, which are not those of the {length} that its end tells"
        )
    if any(data[length:root]):
        raise _damaged(name, "has other bytes than zeros behind its text", length)
    return data[:length]


def _damaged(name: str, what: str, offset: int = 0) -> StoreDamaged:
    return StoreDamaged(f"{name} {what}", file=name, offset=offset, reason=what)
