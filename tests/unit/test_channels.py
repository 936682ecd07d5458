"""What passes through a channel, and how its ends end."""

from __future__ import annotations

from typing import Any

import pytest
from engine_bench import EngineBench, running_engine

from iii_state.engine.channels import BUFFER_BYTES_MAX, CHANNELS_MAX, Channel, Message

CREATE = "engine::channels::create"


def text(content: str) -> Message:
    return Message(True, content.encode())


class RecordingReader:
    """A reading end. It takes `room` messages, then no more until told so."""

    def __init__(self, channel: Channel, room: int = 1000) -> None:
        self.channel = channel
        self.room = room
        self.got: list[Message] = []
        self.finished: bool | None = None

    def send(self, message: Message) -> None:
        assert self.finished is None
        assert self.room > 0
        self.got.append(message)
        self.room -= 1
        if self.room == 0:
            self.channel.reader_ready(False)

    def make_room(self, room: int) -> None:
        self.room = room
        self.channel.reader_ready(True)

    def finish(self, *, complete: bool) -> None:
        self.finished = complete


class RecordingWriter:
    """A writing end."""

    def __init__(self) -> None:
        self.paused = False
        self.aborted = False

    def pause_reading(self) -> None:
        self.paused = True

    def resume_reading(self) -> None:
        assert self.paused
        self.paused = False

    def abort(self) -> None:
        self.aborted = True


def channel_of(size: int = 4) -> tuple[Channel, RecordingReader, RecordingWriter]:
    channel = Channel("key", size, 0.0)
    return channel, RecordingReader(channel), RecordingWriter()


def test_messages_pass_in_order_whichever_end_comes_first() -> None:
    for reader_first in (True, False):
        channel, reader, writer = channel_of()
        if reader_first:
            channel.take_reader(reader)
        channel.take_writer(writer)
        sent = [text("a"), Message(False, b"\0"), text(""), Message(False, b"")]
        for message in sent[:2]:
            channel.write(message)
        if not reader_first:
            assert channel.take_reader(reader)
        for message in sent[2:]:
            channel.write(message)
        assert reader.got == sent
        assert reader.finished is None


def test_a_writer_may_finish_before_the_reader_comes() -> None:
    channel, reader, writer = channel_of()
    channel.take_writer(writer)
    channel.write(text("a"))
    channel.writer_left(complete=True)
    assert not channel.is_over
    channel.take_reader(reader)
    assert (reader.got, reader.finished) == ([text("a")], True)
    assert channel.is_over


def test_each_end_can_be_taken_once_even_after_it_was_left() -> None:
    channel, reader, writer = channel_of()
    assert channel.take_reader(reader)
    assert not channel.take_reader(RecordingReader(channel))
    assert not channel.is_taken
    assert channel.take_writer(writer)
    assert not channel.take_writer(RecordingWriter())
    assert channel.is_taken
    channel.reader_left()
    channel.writer_left(complete=True)
    assert not channel.take_reader(RecordingReader(channel))
    assert not channel.take_writer(RecordingWriter())


def test_a_full_buffer_pauses_the_writer_until_the_reader_takes_something() -> None:
    channel, reader, writer = channel_of(2)
    reader.room = 1
    channel.take_reader(reader)
    channel.take_writer(writer)
    channel.write(text("1"))
    channel.write(text("2"))
    assert not writer.paused
    channel.write(text("3"))
    assert writer.paused
    reader.make_room(1)
    assert not writer.paused
    reader.make_room(10)
    assert [message.payload for message in reader.got] == [b"1", b"2", b"3"]


def test_a_buffer_full_of_bytes_pauses_the_writer_too() -> None:
    channel, reader, writer = channel_of(1000)
    channel.take_writer(writer)
    channel.write(Message(False, bytes(BUFFER_BYTES_MAX - 1)))
    assert not writer.paused
    channel.write(Message(False, b"x"))
    assert writer.paused
    channel.take_reader(reader)
    assert not writer.paused


def test_the_end_comes_behind_the_rest() -> None:
    channel, reader, writer = channel_of()
    reader.room = 1
    channel.take_reader(reader)
    channel.take_writer(writer)
    for content in "123":
        channel.write(text(content))
    channel.writer_left(complete=True)
    assert len(reader.got) == 1
    reader.make_room(10)
    assert (len(reader.got), reader.finished) == (3, True)


def test_a_stream_that_was_cut_does_not_look_complete() -> None:
    channel, reader, writer = channel_of()
    channel.take_reader(reader)
    channel.take_writer(writer)
    channel.write(text("a"))
    channel.writer_left(complete=False)
    assert (reader.got, reader.finished) == ([text("a")], False)


def test_a_writer_learns_that_the_reader_left_when_it_writes() -> None:
    channel, reader, writer = channel_of(1)
    channel.take_reader(reader)
    channel.take_writer(writer)
    reader.room = 0
    channel.reader_ready(False)
    channel.write(text("a"))
    assert writer.paused
    channel.reader_left()
    assert not writer.paused
    assert not writer.aborted
    channel.write(text("b"))
    assert writer.aborted
    assert not channel.is_over
    channel.writer_left(complete=False)
    assert channel.is_over


async def create(bench: EngineBench, data: Any = None) -> Any:
    return bench.client("w").ask(CREATE, {} if data is None else data)


async def test_both_ends_have_one_id_and_one_key() -> None:
    async with running_engine() as bench:
        made = await create(bench)
        writer, reader = made["writer"], made["reader"]
        assert (writer["direction"], reader["direction"]) == ("write", "read")
        assert writer["channel_id"] == reader["channel_id"]
        assert writer["access_key"] == reader["access_key"]
        find = bench.engine.channels.find
        assert find(writer["channel_id"], writer["access_key"]) is not None
        assert find(writer["channel_id"], "wrong ä") is None
        assert find("wrong", writer["access_key"]) is None
        other = await create(bench)
        assert find(writer["channel_id"], other["writer"]["access_key"]) is None


@pytest.mark.parametrize(
    ("size", "kept"), [(None, 64), (0, 1), (1, 1), (65, 65), (1024, 1024), (10**9, 1024)]
)
async def test_the_buffer_size_is_kept_within_bounds(size: int | None, kept: int) -> None:
    async with running_engine() as bench:
        made = (await create(bench, {"buffer_size": size}))["writer"]
        channel = bench.engine.channels.find(made["channel_id"], made["access_key"])
        assert channel is not None
        writer = RecordingWriter()
        channel.take_writer(writer)
        for _ in range(kept - 1):
            channel.write(text(""))
        assert not writer.paused
        channel.write(text(""))
        assert writer.paused


@pytest.mark.parametrize("data", [None, [], *({"buffer_size": s} for s in (-1, 1.5, "1", True))])
async def test_a_wrong_buffer_size_is_refused(data: Any) -> None:
    async with running_engine() as bench:
        assert bench.client("w").error(CREATE, data) == "deserialization_error"


async def test_a_buffer_size_with_an_exponent_is_refused() -> None:
    async with running_engine() as bench:
        client = bench.client("w")
        bench.engine.receive(
            client.worker,
            '{"type":"invokefunction","invocation_id":"i","function_id":"engine::channels::create",'
            '"data":{"buffer_size":1e9}}',
        )
        assert client.answer_to("i")["error"]["code"] == "deserialization_error"


async def test_there_are_not_more_channels_than_the_bound() -> None:
    async with running_engine() as bench:
        client = bench.client("w")
        for _ in range(CHANNELS_MAX):
            client.send("invokefunction", function_id=CREATE, data={})
        error = client.answer_to(client.call(CREATE, {}))["error"]
        assert error["code"] == "LIMIT_EXCEEDED"
        assert error["details"]["limit"] == "channels_max"
        await bench.pass_time(400)
        client.ask(CREATE, {})


async def test_a_channel_that_is_not_taken_at_both_ends_ends_after_five_minutes() -> None:
    async with running_engine() as bench:
        client = bench.client("w")
        taken, read, written, free = (client.ask(CREATE, {})["writer"] for _ in range(4))

        def found(end: Any) -> Channel | None:
            return bench.engine.channels.find(end["channel_id"], end["access_key"])

        channels = [found(end) for end in (taken, read, written)]
        readers = [RecordingReader(channel) for channel in channels if channel is not None]
        writers = [RecordingWriter() for _ in channels]
        for number, channel in enumerate(channels):
            assert channel is not None
            if number != 2:
                channel.take_reader(readers[number])
            if number != 1:
                channel.take_writer(writers[number])
        await bench.pass_time(299)
        assert all(found(end) is not None for end in (taken, read, written, free))
        await bench.pass_time(61)
        assert [found(end) is None for end in (taken, read, written, free)] == [
            False,
            True,
            True,
            True,
        ]
        assert [reader.finished for reader in readers] == [None, True, None]
        assert not writers[2].aborted
        assert channels[2] is not None
        channels[2].write(text("late"))
        assert [writer.aborted for writer in writers] == [False, False, True]


async def test_a_channel_that_is_over_is_known_until_the_next_sweep() -> None:
    async with running_engine() as bench:
        made = (await create(bench))["writer"]
        channel = bench.engine.channels.find(made["channel_id"], made["access_key"])
        assert channel is not None
        channel.take_reader(RecordingReader(channel))
        channel.take_writer(RecordingWriter())
        channel.writer_left(complete=True)
        await bench.pass_time(59)
        assert bench.engine.channels.find(made["channel_id"], made["access_key"]) is channel
        await bench.pass_time(1)
        assert bench.engine.channels.find(made["channel_id"], made["access_key"]) is None


async def test_a_channel_outlives_its_creator() -> None:
    async with running_engine() as bench:
        client = bench.client("w")
        made = client.ask(CREATE, {})["writer"]
        client.disconnect()
        assert bench.engine.channels.find(made["channel_id"], made["access_key"]) is not None
