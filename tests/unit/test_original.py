"""The files of the original engine are read as they are, and damage in them is found."""

from __future__ import annotations

import os
from pathlib import Path

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st
from original_files import archive, file_name, write_scope

from iii_state.core.values import decode_members
from iii_state.errors import StoreDamaged
from iii_state.stores.original import (
    ScopeFile,
    decode_scope_file,
    list_directory,
    read_scope,
    scope_name,
)

WRITTEN = [
    ("7b7d ffffffffffff", b"{}"),
    ("7b2261223a317d ff", b'{"a":1}'),
    ("7b226b223a31327d", b'{"k":12}'),
    ("7b226b223a3132337d 000000 89000000 f4ffffff", b'{"k":123}'),
    ("7b226b223a7b226e223a317d7d 000000 8d000000 f0ffffff", b'{"k":{"n":1}}'),
]
"""Files that the original engine wrote."""


@pytest.mark.parametrize(("file", "text"), WRITTEN, ids=[text.decode() for _, text in WRITTEN])
def test_files_of_the_original_are_read(file: str, text: bytes) -> None:
    assert decode_scope_file(bytes.fromhex(file)) == text


@pytest.mark.parametrize(
    "length", [0, 8, 9, 12, 13, 63, 64, 65, 127, 128, 255, 256, 16383, 1 << 20]
)
def test_texts_of_every_length_are_read(length: int) -> None:
    text = b"x" * length

    assert decode_scope_file(archive(text)) == text


@given(st.text(max_size=200))
def test_any_text_is_read(text: str) -> None:
    assert decode_scope_file(archive(text.encode())) == text.encode()


@given(st.dictionaries(st.text(), st.integers() | st.text(), min_size=1), st.data())
def test_a_file_that_was_cut_off_is_never_read_as_another(
    entries: dict[str, int | str], data: st.DataObject
) -> None:
    file = archive(msgspec.json.encode(entries))
    kept = data.draw(st.integers(0, len(file) - 1))

    with pytest.raises((StoreDamaged, msgspec.MsgspecError)):
        decode_members(decode_scope_file(file[:kept]))


def test_a_piece_that_looks_like_a_small_file_is_not_taken_for_one() -> None:
    with pytest.raises(StoreDamaged, match="may have been cut off"):
        decode_scope_file(archive(b'{"aaaaaa":1,"b":{"n":12}}')[:24])


@pytest.mark.parametrize(
    ("file", "what"),
    [
        ("", "has 0 bytes"),
        ("7b7dffffffffff", "has 7 bytes"),
        ("7b7dff00ffffffff", "cut off"),
        ("7b226b223a3132337d 000000 88000000 f4ffffff", "not those of the 8"),
        ("7b226b223a3132337d 000000 8d000000 f4ffffff", "not those of the 13"),
        ("7b226b223a3132337d 000000 89000000 f0ffffff", "not those of the 9"),
        ("7b226b223a3132337d 000000 89ffffff f4ffffff", "not those of the 1073741769"),
        ("7b226b223a3132337d 000100 89000000 f4ffffff", "other bytes than zeros"),
        ("7b226b223a31ff337d 000000 89000000 f4ffffff", "no UTF-8"),
        ("7b2280223a317d ff", "no UTF-8"),
    ],
)
def test_damage_is_told(file: str, what: str) -> None:
    with pytest.raises(StoreDamaged, match=what) as raised:
        decode_scope_file(bytes.fromhex(file), "orders.bin")

    assert raised.value.message == f"orders.bin {raised.value.details['reason']}"
    assert raised.value.details["file"] == "orders.bin"


@given(st.text())
def test_every_scope_has_its_name_again(scope: str) -> None:
    assert scope_name(file_name(scope)) == scope


@pytest.mark.parametrize(
    ("name", "scope"),
    [
        ("stream%3Atodo%3atodos.bin", "stream:todo:todos"),
        (".bin", ""),
        ("..bin", "."),
        ("a.bin.bin", "a.bin"),
        ("%2E%2E%2Fetc.bin", "../etc"),
        ("a b.bin", "a b"),
        ("%C3%A4.bin", "ä"),
        ("%C3.bin", None),
        ("%zz.bin", None),
        ("50%.bin", None),
        ("a.BIN", None),
        ("a.bin.tmp", None),
        ("bin", None),
    ],
)
def test_names_of_files_are_told_apart(name: str, scope: str | None) -> None:
    assert scope_name(name) == scope


def one_file(directory: Path, content: bytes) -> ScopeFile:
    (directory / "s.bin").write_bytes(content)
    [file] = list_directory(directory).files
    return file


def test_entries_keep_their_order_and_text(tmp_path: Path) -> None:
    text = b'{"z":1.50,"":null,"a":{"b":[1e400,"\\u00e4"]},"\\n":12345678901234567890}'

    entries = read_scope(one_file(tmp_path, archive(text)))

    assert [(key, bytes(value)) for key, value in entries.items()] == [
        ("z", b"1.50"),
        ("", b"null"),
        ("a", b'{"b":[1e400,"\\u00e4"]}'),
        ("\n", b"12345678901234567890"),
    ]


@pytest.mark.parametrize(
    ("text", "what"),
    [
        (b"", "no JSON object"),
        (b"[1,2]", "no JSON object"),
        (b'{"a":1}}', "no JSON object"),
        (b'{"a":"\\ud800"}', "no JSON object"),
        (b'{"a":' + b"[" * 100_000 + b"]" * 100_000 + b"}", "nests deeper"),
    ],
)
def test_what_is_no_json_object_is_damaged(text: bytes, what: str, tmp_path: Path) -> None:
    file = one_file(tmp_path, archive(text))

    with pytest.raises(StoreDamaged, match=what):
        read_scope(file)


def test_a_file_that_is_gone_cannot_be_read(tmp_path: Path) -> None:
    file = one_file(tmp_path, archive(b"{}"))
    file.path.unlink()

    with pytest.raises(StoreDamaged, match=r"s\.bin cannot be read: No such file"):
        read_scope(file)


def test_a_directory_is_told_apart(tmp_path: Path) -> None:
    for scope in ("b", "", "a:b"):
        write_scope(tmp_path, scope, '{"k":1}')
    (tmp_path / "dir.bin").mkdir()
    (tmp_path / "a.bin.tmp").write_bytes(b"{")
    (tmp_path / "notes.txt").write_text("hello")
    (tmp_path / "a%3ab.bin").write_bytes(archive(b"{}"))
    (tmp_path / "%FF.bin").write_bytes(archive(b"{}"))
    Path(os.fsdecode(os.fsencode(tmp_path) + b"/\xfe.bin")).write_bytes(archive(b"{}"))

    listing = list_directory(tmp_path)

    assert [(file.name, file.scope, file.bytes) for file in listing.files] == [
        (".bin", "", 8),
        ("a%3Ab.bin", "a:b", 8),
        ("b.bin", "b", 8),
    ]
    assert [file.is_forgotten for file in listing.files] == [True, False, False]
    assert [(file.file, file.reason) for file in listing.misnamed] == [
        ("%FF.bin", "has a name that encodes no text"),
        ("a%3ab.bin", "has the same scope as a%3Ab.bin"),
        ("\\xfe.bin", "has a name that encodes no text"),
    ]
    assert [(file.file, file.reason.split()[-1]) for file in listing.others] == [
        ("a.bin.tmp", "finished"),
        ("dir.bin", "file"),
        ("notes.txt", ".bin"),
    ]


def test_a_file_that_was_written_again_makes_another_listing(tmp_path: Path) -> None:
    path = write_scope(tmp_path, "s", '{"k":1}')
    before = list_directory(tmp_path)
    path.read_bytes()
    assert list_directory(tmp_path) == before

    write_scope(tmp_path, "t", '{"k":2}').replace(path)

    assert list_directory(tmp_path) != before
