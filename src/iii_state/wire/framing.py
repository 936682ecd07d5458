"""WebSocket framing of what we send: unmasked, unfragmented.

Source: RFC 6455 section 5.2.
"""

from __future__ import annotations

from struct import Struct

TEXT = 0x81
BINARY = 0x82

_short = Struct(">BB").pack
_medium = Struct(">BBH").pack
_long = Struct(">BBQ").pack


def frame_header(opcode: int, length: int) -> bytes:
    """The header of a final frame with `length` bytes of payload."""
    if length < 126:
        return _short(opcode, length)
    if length < 65536:
        return _medium(opcode, 126, length)
    return _long(opcode, 127, length)


TEXT_HEADERS = tuple(frame_header(TEXT, length) for length in range(4096))
"""Those of short text frames by their length, since nearly all are."""
