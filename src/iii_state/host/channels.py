"""The sockets of channels: `/ws/channels/{channel_id}?key={access_key}&dir=read|write`.

Source: docs/protocol.md, channels.
"""

from __future__ import annotations

from typing import cast
from urllib.parse import parse_qs, unquote

from picows import (
    WSCloseCode,
    WSFrame,
    WSMsgType,
    WSTransport,
    WSUpgradeResponse,
    WSUpgradeResponseWithListener,
)

from iii_state.engine.channels import Channel, Channels, Message
from iii_state.host.assembly import INVALID_TEXT, PROTOCOL_ERROR, Assembly, Violation
from iii_state.host.sockets import Socket
from iii_state.settings import Settings

PATH = "/ws/channels/"
CUT_OFF = 1011
"""A close code. Source: RFC 6455 section 7.4."""

_DATA = (WSMsgType.TEXT, WSMsgType.BINARY, WSMsgType.CONTINUATION)


class ChannelSocket(Socket):
    """The socket at one end of a channel."""

    def __init__(self, sockets: set[Socket], channel: Channel, settings: Settings) -> None:
        super().__init__(sockets, settings.stall_timeout_s)
        self._channel: Channel | None = channel

    def on_ws_frame(self, transport: WSTransport, frame: WSFrame) -> None:
        """One frame has arrived."""
        if frame.msg_type not in _DATA:
            super().on_ws_frame(transport, frame)
        elif self.is_open and not transport.is_close_frame_sent:
            self._on_data(frame)

    def close(self, code: int, reason: str) -> None:
        """Close this end with all other sockets; then the other end needs not hear of it."""
        self._channel = None
        super().close(code, reason)

    def finish_with(self, code: int | None = None, reason: str = "") -> None:
        """Send a close frame, and end the connection once it is answered.

        What was sent before may take the peer as long as it needs, unless it stalls.
        """
        if not self.is_open:
            return
        self._leave()
        if code is None:
            self._transport.send(WSMsgType.CLOSE, b"")
        else:
            self._transport.send_close(cast(WSCloseCode, code), reason.encode())
        self._watch()

    def _closed_by_peer(self, frame: WSFrame) -> None:
        """Answer the close frame, unless it is the answer to ours."""
        if self.is_open:
            self._transport.send(WSMsgType.CLOSE, frame.get_payload_as_bytes())
        super()._closed_by_peer(frame)

    def _opened(self) -> None:
        if not self._take():
            self.finish_with()

    def _closed(self) -> None:
        self._left()

    def _take(self) -> bool:
        raise NotImplementedError

    def _left(self) -> None:
        raise NotImplementedError

    def _on_data(self, frame: WSFrame) -> None:
        raise NotImplementedError


class ReaderSocket(ChannelSocket):
    """The reading end. What it sends is ignored."""

    def send(self, message: Message) -> None:
        """See `Reader.send`."""
        kind = WSMsgType.TEXT if message.is_text else WSMsgType.BINARY
        self._transport.send(kind, message.payload)

    def finish(self, *, complete: bool) -> None:
        """See `Reader.finish`. An empty close frame is the end that SDKs know."""
        if complete:
            self.finish_with()
        else:
            self.finish_with(CUT_OFF, "the writer was cut off: the stream is not complete")

    def pause_writing(self) -> None:
        """The peer reads slower than the writer writes."""
        super().pause_writing()
        if self._channel is not None:
            self._channel.reader_ready(False)

    def resume_writing(self) -> None:
        """The peer has caught up."""
        super().resume_writing()
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

    def __init__(self, sockets: set[Socket], channel: Channel, settings: Settings) -> None:
        super().__init__(sockets, channel, settings)
        self._assembly = Assembly(settings.message_bytes_max)
        self._complete = False

    def pause_reading(self) -> None:
        """See `Writer.pause_reading`."""
        self._tcp.pause_reading()

    def resume_reading(self) -> None:
        """See `Writer.resume_reading`."""
        self._tcp.resume_reading()

    def _closed_by_peer(self, frame: WSFrame) -> None:
        self._complete = self.is_open and not self._assembly.is_open
        super()._closed_by_peer(frame)

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
            self.finish_with(violation.code, violation.reason)
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


def accept(
    path: str, query: str, channels: Channels, sockets: set[Socket], settings: Settings
) -> Socket | WSUpgradeResponseWithListener | None:
    """Let those who have the key take the end of a channel; None means 404."""
    members = parse_qs(query, keep_blank_values=True)
    keys, directions = members.get("key", []), members.get("dir", [])
    if len(keys) != 1 or directions not in (["read"], ["write"]):
        body = b"A channel is opened with key=<access key> and dir=read or dir=write."
        response = WSUpgradeResponse.create_error_response(400, body)
        return WSUpgradeResponseWithListener(response, None)
    channel = channels.find(unquote(path.removeprefix(PATH)), keys[0])
    if channel is None:
        return None
    end = ReaderSocket if directions == ["read"] else WriterSocket
    return end(sockets, channel, settings)
