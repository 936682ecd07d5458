"""WebSocket framing of what we send: unmasked, unfragmented.

Source: RFC 6455 section 5.2.
"""

from __future__ import annotations

TEXT = 0x81
BINARY = 0x82


def frame_header(opcode: int, length: int) -> bytes:
    """The header of a final frame with `length` bytes of payload."""
    if length < 126:
        return bytes((opcode, length))
    if length < 65536:
        return bytes((opcode, 126, length >> 8, length & 0xFF))
    return bytes((opcode, 127)) + length.to_bytes(8, "big")
