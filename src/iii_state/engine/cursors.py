"""Where a page of entries ended: an opaque text that holds as long as the store does."""

from __future__ import annotations

import struct
from base64 import urlsafe_b64decode, urlsafe_b64encode
from hashlib import blake2b

import msgspec

from iii_state.errors import InvalidRequest

FORMAT = 1
_LAYOUT = struct.Struct(">B8sQQ")


class Cursor(msgspec.Struct, frozen=True):
    """Behind which key of a scope a list goes on: that made by the revision `after`.

    `digest` tells the list that it belongs to from others; `offset` counts the entries before it.
    """

    digest: bytes
    after: int
    offset: int

    @staticmethod
    def begin(scope: str, prefix: str) -> Cursor:
        """Before the first key."""
        text = msgspec.json.encode((scope, prefix))
        return Cursor(blake2b(text, digest_size=8).digest(), 0, 0)

    @staticmethod
    def decode(text: str, scope: str, prefix: str) -> Cursor:
        """Read what a caller gave back.

        Raises:
            InvalidRequest: it is none, or not of this list.
        """
        try:
            version, *members = _LAYOUT.unpack(urlsafe_b64decode(text.encode() + b"=="))
        except (ValueError, struct.error):
            version, members = 0, []
        if version != FORMAT:
            raise InvalidRequest(
                "`cursor` is none that state::list_entries gave; leave it out to begin anew",
                code="INVALID_CURSOR",
            )
        cursor = Cursor(*members)
        if cursor.digest != Cursor.begin(scope, prefix).digest:
            raise InvalidRequest(
                "`cursor` is that of another list; go on with the same scope and prefix",
                code="INVALID_CURSOR",
            )
        return cursor

    def behind(self, after: int, entries: int) -> Cursor:
        """The place behind so many more entries, the last of which a revision made."""
        return Cursor(self.digest, after, self.offset + entries)

    def encode(self) -> bytes:
        """The cursor as JSON text."""
        packed = _LAYOUT.pack(FORMAT, self.digest, self.after, self.offset)
        return b'"%b"' % urlsafe_b64encode(packed).rstrip(b"=")
