"""The bytes of blocks, records and segment headers."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from iii_state.core.changes import Change, Entry, Origin
from iii_state.stores.disk.format import (
    BLOCK_HEADER_BYTES,
    DELETE,
    FORMAT_VERSION,
    MERGED,
    RECORD_PREFIX_BYTES,
    RECORDS,
    SEGMENT_HEADER_BYTES,
    SET,
    BlockHeader,
    Columns,
    SegmentHeader,
    decode_block_header,
    decode_columns,
    decode_record,
    decode_segment_header,
    encode_changes,
    encode_columns,
)

SEGMENT = SegmentHeader(FORMAT_VERSION, MERGED, 7, 3, 9, 1000, 55, 1_700_000_000_000, b"s" * 16)
BLOCK = BlockHeader(FORMAT_VERSION, RECORDS, 0, 3, 55, 54, 1001, 1003, 99, 3, 40, 200, 1, 2)


def change(revision: int, key: str, after: bytes | None, **members: object) -> Change:
    entry = None if after is None else Entry(after, revision, revision, 5, 6)
    return Change(revision, "scope", key, None, entry, 6, **members)  # type: ignore[arg-type]


def test_a_segment_header_is_read_back() -> None:
    data = SEGMENT.encode()

    assert len(data) == SEGMENT_HEADER_BYTES
    assert decode_segment_header(data) == SEGMENT
    assert SEGMENT.is_merged


def test_a_block_header_is_read_back() -> None:
    data = BLOCK.encode()

    assert len(data) == BLOCK_HEADER_BYTES
    assert decode_block_header(b"xx" + data, 2) == BLOCK


@pytest.mark.parametrize("offset", range(SEGMENT_HEADER_BYTES))
def test_no_flipped_bit_of_a_header_goes_unnoticed(offset: int) -> None:
    for bit in range(8):
        segment, block = bytearray(SEGMENT.encode()), bytearray(BLOCK.encode())
        segment[offset] ^= 1 << bit
        block[offset] ^= 1 << bit
        assert decode_segment_header(bytes(segment)) is None
        assert decode_block_header(bytes(block)) is None


def test_a_header_that_is_cut_off_is_none() -> None:
    assert decode_segment_header(SEGMENT.encode()[:-1]) is None
    assert decode_block_header(BLOCK.encode()[:-1]) is None


def test_a_record_carries_its_entry() -> None:
    made = Change(9, "s", "k", None, Entry(b'"value"', 9, 3, 100, 200, 300), 200)
    payload, lengths = encode_changes([made])

    assert lengths == [7]
    assert decode_record(payload.body) == made.entry
    assert len(payload.body) == RECORD_PREFIX_BYTES + 7


@given(st.binary(max_size=40), st.data())
def test_no_flipped_bit_of_a_record_goes_unnoticed(value: bytes, data: st.DataObject) -> None:
    payload, _ = encode_changes([change(1, "k", value)])
    body = bytearray(payload.body)
    body[data.draw(st.integers(0, len(body) - 1))] ^= 1 << data.draw(st.integers(0, 7))

    assert decode_record(bytes(body)) is None


def test_records_stand_end_to_end() -> None:
    payload, lengths = encode_changes([change(1, "a", b"1"), change(2, "b", b"22")])
    columns = decode_columns(payload.meta)
    assert columns is not None

    entries = [decode_record(payload.body, offset) for offset in columns.offsets()[:-1]]

    assert [entry and entry.value for entry in entries] == [b"1", b"22"]
    assert columns.offsets()[-1] == len(payload.body)
    assert lengths == columns.lengths


def test_columns_that_say_nothing_are_left_out() -> None:
    payload, _ = encode_changes([change(1, "a", b"1"), change(2, "b", b"2")])
    columns = decode_columns(payload.meta)

    assert columns == Columns(["a", "b"], ["scope"], [1, 1], [0, 0])
    assert list(columns.revision_list(1)) == [1, 2]
    assert columns.spread(columns.scopes, "") == ["scope", "scope"]
    assert columns.spread(columns.workers, "nobody") == ["nobody", "nobody"]


def test_deletes_writers_and_causes_have_columns() -> None:
    changes = [
        change(1, "a", None, origin=Origin("w", "f", 2), cause="expired"),
        change(2, "b", b""),
    ]
    columns = decode_columns(encode_changes(changes)[0].meta)

    assert columns is not None
    assert columns.kinds == bytes([DELETE, SET])
    assert columns.workers == ["w", ""]
    assert columns.functions == ["f", ""]
    assert columns.depths == [2, 0]
    assert columns.causes == ["expired", ""]


def test_columns_of_unequal_length_are_refused() -> None:
    assert decode_columns(encode_columns(Columns(["a"], ["s"], [1, 2], [0]))) is None
    assert decode_columns(b"\xc1") is None
