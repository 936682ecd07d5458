"""What all sockets of the server have in common: how they are kept alive, answered and ended.

picows parses frames and answers what breaks the rules of framing by itself: it sends the close
frame and ends the connection 10 ms later, so that a client which is still sending may see the
connection reset instead. The last valid frame before an illegal one in the same read is not taken;
whoever sent it gets no answer to it, as with any connection that breaks.
"""

from __future__ import annotations

import asyncio
import logging
import socket
from collections.abc import Callable
from contextlib import suppress
from typing import cast

from picows import WSCloseCode, WSFrame, WSListener, WSMsgType, WSTransport

log = logging.getLogger("iii_state.host")

LINGER_S = 1.0
"""How long a closed connection is read on, and may take what was sent."""

KEEP_ALIVE = {
    "TCP_KEEPIDLE": 60,
    "TCP_KEEPINTVL": 15,
    "TCP_KEEPCNT": 4,
    "TCP_USER_TIMEOUT": 120_000,
}
"""Options of TCP that end a connection whose other side vanished, within two minutes."""


class Socket(WSListener):
    """One WebSocket. `sockets` holds it from its handshake until its TCP connection has ended.

    `is_open` tells whether messages may pass; `is_behind` whether the peer reads slower than it is
    sent to. A peer that is waited for (`_watch`) may take nothing for `stall_timeout_s`.
    """

    def __init__(self, sockets: set[Socket], stall_timeout_s: float) -> None:
        super().__init__()
        self.is_open = False
        self.is_behind = False
        self._sockets = sockets
        self._stall_timeout_s = stall_timeout_s
        self._written_bytes = 0
        self._has_left = False
        self._transport: WSTransport
        self._tcp: asyncio.Transport
        self._timer: asyncio.TimerHandle | None = None

    def on_ws_connected(self, transport: WSTransport) -> None:
        """The handshake is done."""
        self._transport = transport
        self._tcp = transport.underlying_transport
        self.is_open = True
        self._sockets.add(self)
        _keep_alive(self._tcp.get_extra_info("socket"))
        self._opened()

    def on_ws_disconnected(self, transport: WSTransport) -> None:
        """The TCP connection is gone, however it ended."""
        handshake = transport.close_handshake
        if self.is_open and handshake is not None and handshake.sent is not None:
            code, reason = handshake.sent.code, handshake.sent.reason
            log.info("%s: closed with %d: %s", self._label, code, reason)
        self._sockets.discard(self)
        self._stop_timer()
        self._leave()

    def on_ws_frame(self, transport: WSTransport, frame: WSFrame) -> None:
        """One frame has arrived."""
        kind = frame.msg_type
        if kind is WSMsgType.CLOSE:
            self._closed_by_peer(frame)
        elif kind is WSMsgType.PING:
            self._answer_ping(frame)

    def pause_writing(self) -> None:
        """More waits for the peer than it should."""
        self.is_behind = True

    def resume_writing(self) -> None:
        """The peer has caught up."""
        self.is_behind = False

    def close(self, code: int, reason: str) -> None:
        """Send a close frame behind all that was sent, then end the connection."""
        if not self.is_open:
            return
        self.flush()
        self._leave()
        self._transport.send_close(cast(WSCloseCode, code), reason.encode())
        # Ending the connection with unread bytes would reset it, and the close frame be lost: say
        # that nothing more comes, and read on for a moment.
        self._tcp.resume_reading()
        with suppress(OSError):  # it may have been reset already
            self._tcp.write_eof()
        self._abort_later()

    def abort(self) -> None:
        """End the connection without a close frame."""
        self.is_open = False
        self._transport.disconnect(graceful=False)

    def _closed_by_peer(self, frame: WSFrame) -> None:
        """End the connection; what was sent may still be read. Older SDKs expect no close frame."""
        self.flush()
        self._leave()
        self._transport.disconnect()
        self._abort_later()

    def _answer_ping(self, frame: WSFrame) -> None:
        """A peer that does not read would not see the pong either: then none is kept for it."""
        if self.is_open and not self.is_behind:
            self._transport.send_pong(frame.get_payload_as_bytes())

    def _abort_later(self) -> None:
        self._start_timer(LINGER_S, self._transport.disconnect, False)

    def _watch(self, taken_before: int | None = None) -> None:
        """Look from time to time whether the peer still takes something; if not, it has stalled."""
        taken = self._written_bytes - self._tcp.get_write_buffer_size()
        if taken == taken_before:
            self._stalled()
        else:
            self._start_timer(self._stall_timeout_s, self._watch, taken)

    def _start_timer(self, delay_s: float, callback: Callable[..., object], *args: object) -> None:
        self._stop_timer()
        self._timer = asyncio.get_running_loop().call_later(delay_s, callback, *args)

    def _stop_timer(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _leave(self) -> None:
        """No message may pass any more."""
        self.is_open = False
        if not self._has_left:
            self._has_left = True
            self._closed()

    @property
    def _label(self) -> str:
        """What it is called in the log."""
        return "a socket"

    def flush(self) -> None:
        """Write what was sent so far."""

    def _opened(self) -> None:
        """Do what belongs to the beginning."""

    def _closed(self) -> None:
        """Do what belongs to the end; called once."""

    def _stalled(self) -> None:
        """The peer takes nothing any more."""
        self.abort()


class Refusal(Socket):
    """Completes the upgrade, then closes: an HTTP error would leave older SDKs stuck."""

    def __init__(self, sockets: set[Socket], code: int, reason: str) -> None:
        super().__init__(sockets, LINGER_S)
        self._code = code
        self._reason = reason

    def _opened(self) -> None:
        self.close(self._code, self._reason)


class Telemetry(Socket):
    """The `/otel` socket: takes what SDKs send there, and drops it."""


def _keep_alive(tcp: socket.socket) -> None:
    tcp.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
    for name, value in KEEP_ALIVE.items():
        option = getattr(socket, name, None)  # not every system has all of them
        if option is not None:
            tcp.setsockopt(socket.IPPROTO_TCP, option, value)
