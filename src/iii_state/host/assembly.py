"""Putting the frames of one message together, within its bound.

Source: RFC 6455 section 5.4.
"""

from __future__ import annotations

from picows import WSFrame, WSMsgType

PROTOCOL_ERROR = 1002
INVALID_TEXT = 1007
MESSAGE_TOO_BIG = 1009
"""Close codes. Source: RFC 6455 section 7.4."""


class Violation(Exception):
    """A frame that may not be; the connection has to be closed with `code`."""

    def __init__(self, code: int, reason: str) -> None:
        super().__init__(reason)
        self.code = code
        self.reason = reason


class Assembly:
    """The message whose frames are arriving.

    `is_open` tells whether the rest of one is still to come; `is_text` is the kind of that one, or
    of the one before. It takes the memory of its bytes, into however many frames they are cut.
    """

    def __init__(self, message_bytes_max: int) -> None:
        self.is_open = False
        self.is_text = False
        self._message_bytes_max = message_bytes_max
        self._collected = bytearray()

    def add(self, frame: WSFrame) -> bytes | None:
        """Take a text, binary or continuation frame; returns the message that it completes.

        Raises:
            Violation: the frame is out of order, or the message too large.
        """
        kind = frame.msg_type
        if (kind is WSMsgType.CONTINUATION) != self.is_open:
            raise Violation(PROTOCOL_ERROR, "fragments of a message out of order")
        if len(self._collected) + frame.payload_size > self._message_bytes_max:
            self._collected = bytearray()
            raise Violation(
                MESSAGE_TOO_BIG,
                f"the message is larger than message_bytes_max = {self._message_bytes_max}",
            )
        if not self.is_open:
            self.is_text = kind is WSMsgType.TEXT
            if frame.fin:
                return frame.get_payload_as_bytes()
        self._collected += frame.get_payload_as_memoryview()
        self.is_open = not frame.fin
        if self.is_open:
            return None
        payload = bytes(self._collected)
        self._collected = bytearray()
        return payload
