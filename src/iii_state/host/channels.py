"""The sockets of channels: `/ws/channels/{channel_id}?key={access_key}&dir=read|write`.

Source: docs/protocol.md, channels.
"""

from __future__ import annotations

import asyncio
from typing import cast
from urllib.parse import SplitResult, parse_qs, unquote

from picows import (
    WSCloseCode,
    WSFrame,
    WSListener,
    WSMsgType,
    WSTransport,
    WSUpgradeResponse,
    WSUpgradeResponseWithListener,
)

from iii_state.engine.channels import Channel, Channels, Message
from iii_state.host.assembly import INVALID_TEXT, PROTOCOL_ERROR, Assembly, Violation

PATH = "/ws/channels/"
CUT_OFF = 1011
"""A close code. Source: RFC 6455 section 7.4."""

CLOSE_REPLY_S = 10.0
"""How long the other side may take to answer a close frame."""

_DATA = (WSMsgType.TEXT, WSMsgType.BINARY, WSMsgType.CONTINUATION)


class ChannelSocket(WSListener):
    """The socket at one end of a channel."""

    def __init__(self, sockets: set[ChannelSocket]) -> None:
        super().__init__()
        self._sockets = sockets
        self._transport: WSTransport
        self._closing: asyncio.TimerHandle | None = None

    def on_ws_connected(self, transport: WSTransport) -> None:
        """The handshake is done; the end is taken, unless somebody has it."""
        self._transport = transport
        self._sockets.add(self)
        if not self._take():
            self.close()

    def on_ws_disconnected(self, transport: WSTransport) -> None:
        """The connection is gone, however it ended."""
        self._sockets.discard(self)
        if self._closing is not None:
            self._closing.cancel()
        self._left()

    def on_ws_frame(self, transport: WSTransport, frame: WSFrame) -> None:
        """One frame has arrived. Pings are answered below."""
        if frame.msg_type is WSMsgType.CLOSE:
            self._on_close(frame)
        elif frame.msg_type in _DATA and self._closing is None:
            self._on_data(frame)

    def pause_writing(self) -> None:
        """The peer reads slower than we send."""

    def resume_writing(self) -> None:
        """The peer has caught up."""

    def close(self, code: int | None = None, reason: str = "") -> None:
        """Send a close frame, and end the connection once it is answered, or after a while.

        Ending it at once could lose what the peer has not read yet.
        """
        if self._closing is not None:
            return
        if code is None:
            self._transport.send(WSMsgType.CLOSE, b"")
        else:
            self._transport.send_close(cast(WSCloseCode, code), reason.encode())
        loop = asyncio.get_running_loop()
        self._closing = loop.call_later(CLOSE_REPLY_S, self._transport.disconnect)

    def abort(self) -> None:
        """End the connection without a close frame."""
        self._transport.disconnect(graceful=False)

    def _on_close(self, frame: WSFrame) -> None:
        if self._closing is None:
            self._transport.send(WSMsgType.CLOSE, frame.get_payload_as_bytes())
        self._transport.disconnect()

    def _take(self) -> bool:
        raise NotImplementedError

    def _left(self) -> None:
        raise NotImplementedError

    def _on_data(self, frame: WSFrame) -> None:
        raise NotImplementedError


class ReaderSocket(ChannelSocket):
    """The reading end. What it sends is ignored."""

    def __init__(self, sockets: set[ChannelSocket], channel: Channel) -> None:
        super().__init__(sockets)
        self._channel: Channel | None = channel

    def send(self, message: Message) -> None:
        """See `Reader.send`."""
        kind = WSMsgType.TEXT if message.is_text else WSMsgType.BINARY
        self._transport.send(kind, message.payload)

    def finish(self, *, complete: bool) -> None:
        """See `Reader.finish`. An empty close frame is the end that SDKs know."""
        if complete:
            self.close()
        else:
            self.close(CUT_OFF, "the writer was cut off: the stream is not complete")

    def pause_writing(self) -> None:
        """The peer reads slower than the writer writes."""
        if self._channel is not None:
            self._channel.reader_ready(False)

    def resume_writing(self) -> None:
        """The peer has caught up."""
        if self._channel is not None:
            self._channel.reader_ready(True)

    def _take(self) -> bool:
        if self._channel is not None and not self._channel.take_reader(self):
            self._channel = None
        return self._channel is not None

    def _left(self) -> None:
        if self._channel is not None:
            self._channel.reader_left()

    def _on_data(self, frame: WSFrame) -> None:
        pass


class WriterSocket(ChannelSocket):
    """The writing end."""

    def __init__(
        self, sockets: set[ChannelSocket], channel: Channel, message_bytes_max: int
    ) -> None:
        super().__init__(sockets)
        self._channel: Channel | None = channel
        self._assembly = Assembly(message_bytes_max)
        self._complete = False

    def pause_reading(self) -> None:
        """See `Writer.pause_reading`."""
        self._transport.underlying_transport.pause_reading()

    def resume_reading(self) -> None:
        """See `Writer.resume_reading`."""
        self._transport.underlying_transport.resume_reading()

    def _on_close(self, frame: WSFrame) -> None:
        self._complete = self._closing is None and not self._assembly.is_open
        super()._on_close(frame)

    def _take(self) -> bool:
        if self._channel is not None and not self._channel.take_writer(self):
            self._channel = None
        return self._channel is not None

    def _left(self) -> None:
        if self._channel is not None:
            self._channel.writer_left(complete=self._complete)

    def _on_data(self, frame: WSFrame) -> None:
        try:
            message = self._message_of(frame)
        except Violation as violation:
            self.close(violation.code, violation.reason)
            return
        if message is not None and self._channel is not None:
            self._channel.write(message)

    def _message_of(self, frame: WSFrame) -> Message | None:
        if frame.rsv1 or frame.rsv2 or frame.rsv3:
            raise Violation(PROTOCOL_ERROR, "reserved bits are set")
        payload = self._assembly.add(frame)
        if payload is None:
            return None
        message = Message(self._assembly.is_text, payload)
        if message.is_text:
            try:
                payload.decode()
            except UnicodeDecodeError as error:
                raise Violation(INVALID_TEXT, "a text message is not valid UTF-8") from error
        return message


class ChannelSockets:
    """Lets those who have the key take the end of a channel. `sockets` are those that are open."""

    def __init__(self, channels: Channels, message_bytes_max: int) -> None:
        self._channels = channels
        self._message_bytes_max = message_bytes_max
        self.sockets: set[ChannelSocket] = set()

    def accept(self, target: SplitResult) -> WSListener | WSUpgradeResponseWithListener | None:
        """Decide what a request for a path below `PATH` gets; None means 404."""
        query = parse_qs(target.query, keep_blank_values=True)
        keys, directions = query.get("key", []), query.get("dir", [])
        if len(keys) != 1 or directions not in (["read"], ["write"]):
            body = b"A channel is opened with key=<access key> and dir=read or dir=write."
            return WSUpgradeResponseWithListener(
                WSUpgradeResponse.create_error_response(400, body), None
            )
        channel = self._channels.find(unquote(target.path.removeprefix(PATH)), keys[0])
        if channel is None:
            return None
        if directions == ["read"]:
            return ReaderSocket(self.sockets, channel)
        return WriterSocket(self.sockets, channel, self._message_bytes_max)
