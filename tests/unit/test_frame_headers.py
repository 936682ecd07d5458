"""Headers of the WebSocket frames that are sent."""

from __future__ import annotations

import pytest

from iii_state.wire.framing import BINARY, TEXT, frame_header


@pytest.mark.parametrize(
    ("opcode", "length", "expected"),
    [
        (TEXT, 0, "81 00"),
        (TEXT, 125, "81 7d"),
        (TEXT, 126, "81 7e 00 7e"),
        (BINARY, 65_535, "82 7e ff ff"),
        (TEXT, 65_536, "81 7f 00 00 00 00 00 01 00 00"),
    ],
)
def test_the_length_takes_as_few_bytes_as_the_protocol_allows(
    opcode: int, length: int, expected: str
) -> None:
    assert frame_header(opcode, length) == bytes.fromhex(expected)
