"""Channels: a stream of messages from one writer to one reader, beside the calls.

`engine::channels::create` makes one; its key is all that is needed to take an end. Either end may
come first. What the reader has not taken yet waits, up to a bound; then the writer is read no
further. The sockets of the two ends are the host's; here is what passes between them.

Source: docs/protocol.md, channels.
"""

from __future__ import annotations

import logging
import secrets
import uuid
from collections import deque
from collections.abc import Callable
from typing import Annotated, Any, Protocol

import msgspec

from iii_state.engine.calls import Call
from iii_state.engine.functions import Builtin
from iii_state.engine.inprocess import engine_function
from iii_state.engine.timers import Timers
from iii_state.errors import LimitExceeded

log = logging.getLogger("iii_state.channels")

BUFFER_MESSAGES = 64
BUFFER_MESSAGES_MAX = 1024
BUFFER_BYTES_MAX = 16 << 20
CHANNELS_MAX = 10_000
UNTAKEN_S = 300.0
SWEEP_S = 60.0


class Message(msgspec.Struct, frozen=True):
    """What passes through a channel, unchanged."""

    is_text: bool
    payload: bytes


class Reader(Protocol):
    """The socket at the reading end."""

    def send(self, message: Message) -> None:
        """Send a message; may call `Channel.reader_ready` before it returns."""

    def finish(self, *, complete: bool) -> None:
        """Tell that no more will come, behind all that was sent, and end the connection."""


class Writer(Protocol):
    """The socket at the writing end."""

    def pause_reading(self) -> None:
        """Read no further for now; what was read already may still come."""

    def resume_reading(self) -> None:
        """Read on."""

    def abort(self) -> None:
        """End the connection without a close frame."""


class Channel:
    """One channel. Each end can be taken once.

    At most `buffer_messages` messages wait, or `BUFFER_BYTES_MAX`, and what one reading of the
    writer's socket brings beyond that.
    """

    def __init__(self, access_key: str, buffer_messages: int, created_at_s: float) -> None:
        self.access_key = access_key
        self.created_at_s = created_at_s
        self._buffer_messages = buffer_messages
        self._waiting: deque[Message] = deque()
        self._waiting_bytes = 0
        self._reader: Reader | None = None
        self._writer: Writer | None = None
        self._reader_taken = False
        self._writer_taken = False
        self._reader_ready = True
        self._reader_ended = False
        self._writer_ended = False
        self._paused = False
        self._complete = True

    @property
    def is_taken(self) -> bool:
        """Whether both ends have been taken."""
        return self._reader_taken and self._writer_taken

    @property
    def is_over(self) -> bool:
        """Whether nothing will pass through it any more."""
        return self._reader_ended and self._writer_ended

    def take_reader(self, reader: Reader) -> bool:
        """Read from the channel. False: somebody does, or did, already."""
        if self._reader_taken:
            return False
        self._reader_taken = True
        self._reader = reader
        self._pass_on()
        return True

    def take_writer(self, writer: Writer) -> bool:
        """Write to the channel. False: somebody does, or did, already."""
        if self._writer_taken:
            return False
        self._writer_taken = True
        self._writer = writer
        return True

    def write(self, message: Message) -> None:
        """Take a message from the writer, whose connection ends if nobody will read it."""
        if self._reader_ended:
            if self._writer is not None:
                self._writer.abort()
            return
        self._waiting.append(message)
        self._waiting_bytes += len(message.payload)
        self._pass_on()
        if self._is_full and self._writer is not None:
            self._paused = True
            self._writer.pause_reading()

    def reader_ready(self, ready: bool) -> None:
        """Note whether the reader's socket takes more."""
        self._reader_ready = ready
        if ready:
            self._pass_on()

    def writer_left(self, *, complete: bool) -> None:
        """The writer has finished; or was cut off, if not `complete`."""
        self._writer = None
        self._writer_ended = True
        self._complete = complete
        self._pass_on()

    def reader_left(self) -> None:
        """The reader has gone. The writer learns it when it writes on."""
        self._reader = None
        self._reader_ended = True
        self._drop_waiting()

    def expire(self) -> None:
        """End what waits for the other end: nobody took it in time."""
        self._drop_waiting()
        if self._reader is not None:
            self._end_reader()
        self._reader_taken = self._writer_taken = self._reader_ended = True

    @property
    def _is_full(self) -> bool:
        waiting = len(self._waiting)
        return waiting >= self._buffer_messages or self._waiting_bytes >= BUFFER_BYTES_MAX

    def _pass_on(self) -> None:
        while self._waiting and self._reader is not None and self._reader_ready:
            message = self._waiting.popleft()
            self._waiting_bytes -= len(message.payload)
            self._reader.send(message)
        if not self._is_full:
            self._resume()
        if self._writer_ended and not self._waiting and self._reader is not None:
            self._end_reader()

    def _end_reader(self) -> None:
        reader, self._reader = self._reader, None
        self._reader_ended = True
        if reader is not None:
            reader.finish(complete=self._complete)

    def _drop_waiting(self) -> None:
        self._waiting.clear()
        self._waiting_bytes = 0
        self._resume()

    def _resume(self) -> None:
        if self._paused and self._writer is not None:
            self._paused = False
            self._writer.resume_reading()


class ChannelRequest(msgspec.Struct):
    """How many messages may wait in the new channel."""

    buffer_size: Annotated[int, msgspec.Meta(ge=0)] | None = None


class Channels:
    """All channels; those that are over, or were not taken at both ends in time, are swept away."""

    def __init__(self, new_id: Callable[[], str], timers: Timers) -> None:
        self._new_id = new_id
        self._timers = timers
        self._channels: dict[str, Channel] = {}

    def functions(self) -> list[Builtin[Any]]:
        """The one function."""
        return [
            engine_function(
                "channels::create",
                "Make a channel: a stream of messages from a writer to a reader",
                ChannelRequest,
                self._create,
            )
        ]

    def find(self, channel_id: str, access_key: str) -> Channel | None:
        """The channel with this id, for those who have the key."""
        channel = self._channels.get(channel_id)
        if channel is None:
            return None
        right = secrets.compare_digest(channel.access_key.encode(), access_key.encode())
        return channel if right else None

    def _create(self, call: Call, request: ChannelRequest) -> None:
        if len(self._channels) >= CHANNELS_MAX:
            raise LimitExceeded(
                f"There are {CHANNELS_MAX} channels, as many as there may be; channels that nobody "
                f"takes end after {UNTAKEN_S:.0f} seconds",
                limit="channels_max",
                actual=len(self._channels) + 1,
                bound=CHANNELS_MAX,
            )
        size = request.buffer_size if request.buffer_size is not None else BUFFER_MESSAGES
        channel_id, access_key = self._new_id(), str(uuid.uuid4())
        if not self._channels:
            self._timers.call_later(SWEEP_S, self._sweep)
        self._channels[channel_id] = Channel(
            access_key, min(max(size, 1), BUFFER_MESSAGES_MAX), self._timers.time()
        )
        end = {"channel_id": channel_id, "access_key": access_key}
        call.answer(
            msgspec.json.encode(
                {"writer": {**end, "direction": "write"}, "reader": {**end, "direction": "read"}}
            )
        )

    def _sweep(self) -> None:
        latest = self._timers.time() - UNTAKEN_S
        for channel_id, channel in list(self._channels.items()):
            if channel.is_over:
                del self._channels[channel_id]
            elif not channel.is_taken and channel.created_at_s <= latest:
                log.info("channel %s was not taken at both ends in time; it ends", channel_id)
                del self._channels[channel_id]
                channel.expire()
        if self._channels:
            self._timers.call_later(SWEEP_S, self._sweep)
