"""How a connection to a host fails or ends, as the errors that the user meets."""

from __future__ import annotations

import os
import socket

from iii_state.errors import ConnectionFailed, LimitExceeded, StateError, Unauthorized

MESSAGE_TOO_BIG = 1009
"""A close code. Source: RFC 6455 section 7.4."""
UNAUTHORIZED = 4401
"""A close code. Source: docs/protocol.md, closing."""
NO_CODE = 1005

HTTP_UNAUTHORIZED = (401, 403)

_SPLIT = (
    "write less at a time, or raise frame_bytes_max of the server (and message_bytes_max, and for "
    "one value value_bytes_max)"
)


def no_address(url: str) -> StateError:
    """`url` cannot be the address of a host."""
    return ConnectionFailed(
        f"{url} is no WebSocket address", url=url, hint="it looks like ws://127.0.0.1:49134"
    )


def not_connected(url: str, error: Exception) -> StateError:
    """Nobody answers at `url`."""
    return ConnectionFailed(
        f"cannot connect to {url}: {_reason(error)}",
        url=url,
        hint="is the server running? `iii-state serve` starts one",
    )


def no_host(url: str, status: int) -> StateError:
    """Somebody answered with an HTTP status instead of opening a WebSocket."""
    if status in HTTP_UNAUTHORIZED:
        return _unauthorized(url, f"HTTP status {status}")
    return ConnectionFailed(f"{url} is no iii host: it answered with HTTP status {status}", url=url)


def closed(url: str, payload: bytes) -> StateError:
    """The host sent a close frame with this payload: a code of two bytes and a text, or nothing."""
    code = int.from_bytes(payload[:2], "big") or NO_CODE
    reason = payload[2:].decode("utf-8", "replace")
    if code == UNAUTHORIZED:
        return _unauthorized(url, reason)
    if code == MESSAGE_TOO_BIG:
        return LimitExceeded(
            f"{url} takes no message that large, nothing of it was carried out: {reason}",
            url=url,
            hint=_SPLIT,
        )
    why = f"{code} {reason}".rstrip()
    return ConnectionFailed(f"{url} closed the connection ({why})", url=url)


def lost(url: str, *, is_sending: bool) -> StateError:
    """The connection broke. With `is_sending`, while much that was sent was under way.

    That happens, too, to a message which the host finds too large, when the close frame that says
    so is overtaken by the end of the connection.
    """
    if not is_sending:
        return ConnectionFailed(f"the connection to {url} was lost", url=url)
    return ConnectionFailed(
        f"the connection to {url} was lost while a large message was under way",
        url=url,
        hint=f"if it is too large for the server: {_SPLIT}",
    )


def _reason(error: Exception) -> str:
    if isinstance(error, socket.gaierror):
        return f"{error.strerror}"
    # asyncio puts words of its own in the place of the system's.
    if isinstance(error, OSError) and error.errno:
        return os.strerror(error.errno)
    return str(error)


def _unauthorized(url: str, reason: str) -> StateError:
    return Unauthorized(
        f"{url} refused the connection: {reason or 'unauthorized'}",
        url=url,
        hint="give the server's token with --token-file or III_STATE_TOKEN",
    )
