"""The WebSocket of a worker: frames to text, text to frames, and what is kept in bounds.

picows parses frames; reassembling fragments, checking UTF-8 and bounding messages and the unsent
bytes of a slow reader is done here. What is sent during a turn of the event loop leaves in one
write at its end: `Outbox` gathers it. Answers to a commit do not wait for that.

A connection is read no further while the engine asks for that, while much waits for its peer to
read it, or, until the next turn, once it had its part of this one. Messages that were read already
are held until then, in order.
"""

from __future__ import annotations

import asyncio
import logging
from collections import deque

from picows import WSFrame, WSMsgType, WSTransport

from iii_state.engine.engine import Engine
from iii_state.engine.workers import Worker
from iii_state.host.assembly import INVALID_TEXT, PROTOCOL_ERROR, Assembly, Violation
from iii_state.host.sockets import Socket
from iii_state.settings import Settings
from iii_state.wire.framing import TEXT, TEXT_HEADERS, frame_header

log = logging.getLogger("iii_state.host")

WRITE_BYTES = 256 << 10
"""What is sent during a turn is written at its end, or when it comes to this much."""

FRAMES_PER_TURN = 512
"""What one connection may send in a turn of the event loop before others get theirs. A socket gives
many buffers full of tiny frames in one turn, which would take seconds."""

_SHORT = len(TEXT_HEADERS)
_TEXT = WSMsgType.TEXT
_CONTROL = (WSMsgType.CLOSE, WSMsgType.PING, WSMsgType.PONG)
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
            connection.end_turn()


class Connection(Socket):
    """A worker's connection; the `Peer` that the engine sends through."""

    def __init__(
        self, sockets: set[Socket], engine: Engine, outbox: Outbox, settings: Settings
    ) -> None:
        super().__init__(sockets, settings.stall_timeout_s)
        self._engine = engine
        self._outbox = outbox
        self._assembly = Assembly(settings.message_bytes_max)
        self._outbound_bytes_max = settings.outbound_bytes_max
        self._pending: list[bytes] = []
        self._pending_bytes = 0
        self._held: deque[str] = deque()
        self._is_holding = False
        self._is_paused = False
        self._frames_left = FRAMES_PER_TURN
        self._will_read_on = False
        self._worker: Worker

    def on_ws_frame(self, transport: WSTransport, frame: WSFrame) -> None:
        """One frame has arrived."""
        self._frames_left -= 1
        if not self._frames_left:
            self._give_way()
        kind = frame.msg_type
        if not self.is_open or transport.is_close_frame_sent:
            super().on_ws_frame(transport, frame)
        elif frame.rsv1 or frame.rsv2 or frame.rsv3:
            self.close(PROTOCOL_ERROR, "reserved bits are set")
        elif kind is _TEXT and frame.fin and not self._assembly.is_open:
            try:
                text = frame.get_payload_as_utf8_text()
            except UnicodeDecodeError:
                self.close(INVALID_TEXT, "a text message is not valid UTF-8")
                return
            if self._is_holding:
                self._held.append(text)
            else:
                self._engine.receive(self._worker, text)
        elif kind in _CONTROL:
            super().on_ws_frame(transport, frame)
        else:
            self._collect(frame)

    def send(self, text: bytes) -> None:
        """See `Peer.send`."""
        if not self.is_open:
            return
        pending = self._pending
        if not pending:
            self._outbox.add(self)
        size = len(text)
        pending.append(TEXT_HEADERS[size] if size < _SHORT else frame_header(TEXT, size))
        pending.append(text)
        self._pending_bytes += size
        if self._pending_bytes > WRITE_BYTES:
            self.flush()

    def end_turn(self) -> None:
        """Write what was sent during this turn of the event loop."""
        self._frames_left = FRAMES_PER_TURN
        self.flush()

    def flush(self) -> None:
        """Write what was sent so far. See `Peer.flush`."""
        pending, self._pending, self._pending_bytes = self._pending, [], 0
        if not pending or not self.is_open:
            return
        if self._tcp.get_write_buffer_size() > self._outbound_bytes_max:
            self._cut_off(f"more than outbound_bytes_max = {self._outbound_bytes_max} bytes wait")
            return
        text = b"".join(pending)
        self._written_bytes += len(text)
        self._tcp.write(text)

    @property
    def has_room(self) -> bool:
        """See `Peer.has_room`."""
        return self._tcp.get_write_buffer_size() <= self._outbound_bytes_max // 2

    def pause_reading(self) -> None:
        """See `Peer.pause_reading`."""
        self._is_paused = self._is_holding = True
        self._tcp.pause_reading()

    def resume_reading(self) -> None:
        """See `Peer.resume_reading`."""
        self._is_paused = False
        self._plan_to_read_on()

    def pause_writing(self) -> None:
        """The peer reads slower than it asks; it may not ask for more before it has caught up."""
        self.is_behind = self._is_holding = True
        if self.is_open:
            self._tcp.pause_reading()
            self._watch()

    def resume_writing(self) -> None:
        """The peer has caught up."""
        self.is_behind = False
        if self.is_open:
            self._stop_timer()
            self._plan_to_read_on()

    @property
    def _label(self) -> str:
        return f"worker {self._worker.label}"

    def _opened(self) -> None:
        self._tcp.set_write_buffer_limits(self._outbound_bytes_max // 4)
        peer_name = self._tcp.get_extra_info("peername")
        self._worker = self._engine.connect(self, peer_name[0] if peer_name else "")

    def _closed(self) -> None:
        self._held.clear()
        self._pending = []
        self._engine.disconnect(self._worker)

    def _stalled(self) -> None:
        self._cut_off(f"{self._tcp.get_write_buffer_size()} bytes wait")

    def _cut_off(self, why: str) -> None:
        log.warning("%s does not read: %s; it is cut off", self._label, why)
        self.abort()

    def _give_way(self) -> None:
        """Read no further in this turn."""
        if self.is_open:
            self._is_holding = True
            self._tcp.pause_reading()
            self._plan_to_read_on()

    def _plan_to_read_on(self) -> None:
        if not self._will_read_on:
            self._will_read_on = True
            asyncio.get_running_loop().call_soon(self._read_on)

    def _read_on(self) -> None:
        """Receive what was held, a turn's part of it; when nothing speaks against it, read on."""
        self._will_read_on = False
        self._frames_left = FRAMES_PER_TURN
        for _ in range(FRAMES_PER_TURN):
            if not self.is_open or self._is_paused or self.is_behind:
                return
            if not self._held:
                self._is_holding = False
                self._tcp.resume_reading()
                return
            self._engine.receive(self._worker, self._held.popleft())
        self._plan_to_read_on()

    def _collect(self, frame: WSFrame) -> None:
        """Take a frame of a fragmented or binary message; take that when it is complete."""
        try:
            payload = self._assembly.add(frame)
        except Violation as violation:
            self.close(violation.code, violation.reason)
            return
        if payload is None:
            return
        is_text = self._assembly.is_text
        if not is_text and payload.startswith(_TELEMETRY):
            return
        try:
            text = payload.decode()
        except UnicodeDecodeError:
            if is_text:
                self.close(INVALID_TEXT, "a text message is not valid UTF-8")
            else:
                log.info("%s sent a binary message that is no text", self._label)
            return
        if self._is_holding:
            self._held.append(text)
        else:
            self._engine.receive(self._worker, text)
