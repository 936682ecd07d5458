"""One WebSocket of a worker: frames to text, text to frames, and what is kept in bounds.

picows parses frames; reassembling fragments, checking UTF-8 and bounding messages and the unsent
bytes of a slow reader is done here. What is sent during a turn of the event loop leaves in one
write: `Outbox` gathers it.
"""

from __future__ import annotations

import asyncio
import logging
from typing import cast

from picows import WSCloseCode, WSFrame, WSListener, WSMsgType, WSTransport

from iii_state.engine.engine import Engine
from iii_state.engine.workers import Worker
from iii_state.host.assembly import INVALID_TEXT, PROTOCOL_ERROR, Assembly, Violation
from iii_state.settings import Settings
from iii_state.wire.framing import TEXT, frame_header

log = logging.getLogger("iii_state.host")

LINGER_S = 1.0
"""How long a closed connection is read to its end."""

_TEXT = WSMsgType.TEXT
_CLOSE = WSMsgType.CLOSE
_CONTROL = (WSMsgType.PING, WSMsgType.PONG)
_TELEMETRY = (b"OTLP", b"LOGS", b"MTRC")


class Outbox:
    """Writes what connections have to send, once per turn of the event loop."""

    def __init__(self) -> None:
        self._due: list[Connection] = []
        self._loop = asyncio.get_running_loop()

    def add(self, connection: Connection) -> None:
        """Have a connection's pending messages written at the end of this turn."""
        if not self._due:
            self._loop.call_soon(self._write)
        self._due.append(connection)

    def _write(self) -> None:
        due, self._due = self._due, []
        for connection in due:
            connection.write_pending()


class Connection(WSListener):
    """A worker's connection; the `Peer` that the engine sends through."""

    def __init__(
        self,
        engine: Engine,
        outbox: Outbox,
        settings: Settings,
        connected: set[Connection],
    ) -> None:
        super().__init__()
        self._engine = engine
        self._outbox = outbox
        self._assembly = Assembly(settings.message_bytes_max)
        self._outbound_bytes_max = settings.outbound_bytes_max
        self._connected = connected
        self._pending: list[bytes] = []
        self._pending_bytes = 0
        self._open = False
        self._transport: WSTransport
        self._worker: Worker

    def on_ws_connected(self, transport: WSTransport) -> None:
        """The handshake is done."""
        self._transport = transport
        self._open = True
        self._connected.add(self)
        peer_name = transport.underlying_transport.get_extra_info("peername")
        self._worker = self._engine.connect(self, peer_name[0] if peer_name else "")

    def on_ws_disconnected(self, transport: WSTransport) -> None:
        """The connection is gone, however it ended."""
        self._open = False
        self._connected.discard(self)
        self._engine.disconnect(self._worker)

    def on_ws_frame(self, transport: WSTransport, frame: WSFrame) -> None:
        """One frame has arrived."""
        if not self._open:
            return
        kind = frame.msg_type
        if frame.rsv1 or frame.rsv2 or frame.rsv3:
            self.close(PROTOCOL_ERROR, "reserved bits are set")
        elif kind is _TEXT and frame.fin and not self._assembly.is_open:
            try:
                text = frame.get_payload_as_utf8_text()
            except UnicodeDecodeError:
                self.close(INVALID_TEXT, "a text message is not valid UTF-8")
                return
            self._engine.receive(self._worker, text)
        elif kind is _CLOSE:
            self._open = False
            transport.disconnect()
        elif kind not in _CONTROL:
            self._collect(frame)

    def send(self, text: bytes) -> None:
        """See `Peer.send`."""
        if not self._open:
            return
        if not self._pending:
            self._outbox.add(self)
        self._pending.append(frame_header(TEXT, len(text)))
        self._pending.append(text)
        self._pending_bytes += len(text)
        if self._pending_bytes > self._outbound_bytes_max:
            self._cut_off()

    def close(self, code: int, reason: str) -> None:
        """See `Peer.close`."""
        if not self._open:
            return
        self.write_pending()
        self._open = False
        self._transport.send_close(cast(WSCloseCode, code), reason.encode()[:120])
        # Ending the connection with unread bytes would reset it, and the close frame be lost: say
        # that nothing more comes, and read on for a moment.
        transport = self._transport.underlying_transport
        transport.resume_reading()
        transport.write_eof()
        asyncio.get_running_loop().call_later(LINGER_S, self._transport.disconnect)

    def abort(self) -> None:
        """See `Peer.abort`."""
        self._open = False
        self._transport.disconnect(graceful=False)

    def pause_reading(self) -> None:
        """See `Peer.pause_reading`."""
        if self._open:
            self._transport.underlying_transport.pause_reading()

    def resume_reading(self) -> None:
        """See `Peer.resume_reading`."""
        if self._open:
            self._transport.underlying_transport.resume_reading()

    def pause_writing(self) -> None:
        """The peer reads slower than we send; `send` bounds what is kept for it."""

    def resume_writing(self) -> None:
        """The peer has caught up."""

    def write_pending(self) -> None:
        """Write what was sent during this turn of the event loop, at once."""
        pending, self._pending, self._pending_bytes = self._pending, [], 0
        if not pending or not self._open:
            return
        transport = self._transport.underlying_transport
        transport.write(b"".join(pending))
        if transport.get_write_buffer_size() > self._outbound_bytes_max:
            self._cut_off()

    def _cut_off(self) -> None:
        log.warning(
            "worker %s does not read: more than outbound_bytes_max = %d bytes wait for it; "
            "its connection is cut off",
            self._worker.label,
            self._outbound_bytes_max,
        )
        self._pending.clear()
        self.abort()

    def _collect(self, frame: WSFrame) -> None:
        """Take a frame of a fragmented or binary message; receive it when it is complete."""
        try:
            payload = self._assembly.add(frame)
        except Violation as violation:
            self.close(violation.code, violation.reason)
            return
        if payload is not None:
            self._receive(payload)

    def _receive(self, payload: bytes) -> None:
        is_text = self._assembly.is_text
        if not is_text and payload.startswith(_TELEMETRY):
            return
        try:
            text = payload.decode()
        except UnicodeDecodeError:
            if is_text:
                self.close(INVALID_TEXT, "a text message is not valid UTF-8")
            else:
                log.info("worker %s sent a binary message that is no text", self._worker.label)
            return
        self._engine.receive(self._worker, text)
