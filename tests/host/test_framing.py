"""WebSocket frames, as they should be and as they should not."""

from __future__ import annotations

import asyncio

import pytest
from server_bench import (
    BINARY,
    CLOSE,
    CONTINUATION,
    PATIENCE_S,
    PING,
    PONG,
    TEXT,
    Client,
    call,
    frame,
    header,
    serving,
)
from websockets.asyncio.client import connect

LIST = call("state::list_groups", {}, "list")
SET = call("state::set", {"scope": "s", "key": "k", "value": 1}, "set")
KIB = 1024


async def answers_list(client: Client) -> None:
    """The next answer is that to `LIST`."""
    answer = await client.got("invocationresult")
    assert answer["invocation_id"] == "list"
    assert "groups" in answer["result"]


@pytest.mark.parametrize(
    ("frames", "code"),
    [
        (frame(TEXT, LIST, masked=False), 1002),
        (frame(3, LIST), 1002),
        (frame(7, LIST), 1002),
        (frame(11), 1002),
        (frame(15), 1002),
        (frame(TEXT, LIST, rsv=4), 1002),
        (frame(TEXT, LIST, rsv=2), 1002),
        (frame(BINARY, LIST, rsv=1), 1002),
        (frame(TEXT, LIST, fin=False, rsv=4), 1002),
        (frame(PING, b"x", rsv=1), 1002),
        (frame(PING, b"x", fin=False), 1002),
        (frame(PING, b"x" * 126), 1002),
        (frame(CLOSE, b"x" * 126), 1002),
        (frame(CLOSE, b"\x03\xe8" + b"\xff"), 1007),
        (frame(CLOSE, b"\x03"), 1002),
        (frame(CONTINUATION, LIST), 1002),
        (frame(CONTINUATION), 1002),
        (frame(TEXT, b"{", fin=False) + frame(TEXT, LIST), 1002),
        (frame(TEXT, b"{", fin=False) + frame(BINARY, LIST), 1002),
        (frame(BINARY, b"{", fin=False) + frame(BINARY, LIST, fin=False), 1002),
        (frame(TEXT, b"\xff"), 1007),
        (frame(TEXT, b'"\xed\xa0\x80"'), 1007),
        (frame(TEXT, b"\xe2\x82"), 1007),
        (frame(TEXT, b"\xe2", fin=False) + frame(CONTINUATION, b"\x28"), 1007),
        (frame(TEXT, b"ab", fin=False) + frame(CONTINUATION, b"\xe2\x82"), 1007),
        (b"\x81\xfe\x00\x05" + bytes(4) + b"12345", 1002),
        (b"\x81\xff\x80" + bytes(7) + bytes(4), 1002),
    ],
)
async def test_damage_closes_and_is_not_carried_out(frames: bytes, code: int) -> None:
    async with serving() as bench:
        client = await bench.worker()

        client.write(frames)

        assert await client.end_code() == code
        await bench.workers(0)
        await bench.answers_rightly()


async def test_what_came_before_the_damage_is_carried_out_and_what_comes_after_is_not() -> None:
    async with serving() as bench:
        client = await bench.worker()
        later = call("state::set", {"scope": "later", "key": "k", "value": 1})
        client.write(frame(TEXT, SET))
        await client.got("invocationresult")
        client.write(frame(TEXT, b"\xff"), frame(TEXT, later), frame(TEXT, LIST))

        assert await client.end_code() == 1007
        other = await bench.worker()
        assert await other.result("state::list_groups", {}) == {"groups": ["s"]}


async def test_an_illegal_frame_after_others_in_one_read_closes_all_the_same() -> None:
    """Picows looks ahead one frame: the one right before the illegal one is not taken."""
    async with serving() as bench:
        client = await bench.worker()
        client.write(frame(TEXT, LIST), frame(TEXT, SET), frame(TEXT, LIST, masked=False))

        assert await client.end_code() == 1002
        assert bench.server.engine.store.revision == 0
        await bench.answers_rightly()


async def test_a_frame_of_the_bound_is_taken_and_one_byte_more_is_not() -> None:
    async with serving(frame_bytes_max=KIB) as bench:
        client = await bench.worker()
        client.write(frame(TEXT, LIST.ljust(KIB)))
        await answers_list(client)
        client.write(frame(TEXT, SET.ljust(KIB + 1)))

        assert await client.end_code() == 1009
        assert bench.server.engine.store.revision == 0


async def test_a_frame_too_large_is_refused_before_it_is_there() -> None:
    async with serving() as bench:
        client = await bench.worker()
        client.write(header(TEXT, 100 << 20))

        assert await client.end_code() == 1009
        await bench.answers_rightly()


async def test_a_message_of_the_bound_is_taken_and_one_byte_more_is_not() -> None:
    async with serving(message_bytes_max=KIB) as bench:
        client = await bench.worker()
        text = LIST.ljust(KIB)
        parts = [text[at : at + 100] for at in range(0, KIB, 100)]
        client.write(*as_fragments(parts))
        await answers_list(client)
        client.write(*as_fragments([*parts, b" "]))

        assert await client.end_code() == 1009


async def test_the_message_bound_holds_for_a_single_frame_too() -> None:
    async with serving(message_bytes_max=KIB, frame_bytes_max=1 << 20) as bench:
        client = await bench.worker()
        client.write(frame(TEXT, LIST.ljust(KIB + 1)))
        assert await client.end_code() == 1009


def as_fragments(parts: list[bytes], opcode: int = TEXT) -> list[bytes]:
    """One message in several frames."""
    last = len(parts) - 1
    return [
        frame(CONTINUATION if at else opcode, part, fin=at == last) for at, part in enumerate(parts)
    ]


async def test_the_code_reaches_a_client_that_goes_on_sending() -> None:
    async with serving(message_bytes_max=64 * KIB) as bench:
        client = await bench.worker()

        async def send_on() -> None:
            client.write(frame(TEXT, bytes(8 * KIB), fin=False))
            while not client.writer.is_closing():
                client.write(frame(CONTINUATION, bytes(8 * KIB), fin=False))
                await client.writer.drain()
                await asyncio.sleep(0)

        sending = asyncio.create_task(send_on())
        assert await client.end_code() == 1009
        client.vanish()
        async with asyncio.timeout(PATIENCE_S):
            await asyncio.gather(sending, return_exceptions=True)
        await bench.answers_rightly()


@pytest.mark.parametrize("opcode", [TEXT, BINARY])
async def test_pings_between_fragments_are_answered_and_disturb_nothing(opcode: int) -> None:
    async with serving() as bench:
        client = await bench.worker()
        first, *rest = as_fragments([LIST[:5], b"", LIST[5:6], LIST[6:]], opcode)
        client.write(first)
        for number, part in enumerate(rest):
            client.write(frame(PING, b"%d" % number), frame(PONG, b"unasked"), part)

        for number in range(len(rest)):
            assert await client.next_frame() == (PONG, True, b"%d" % number)
        await answers_list(client)


@pytest.mark.parametrize("size", [0, 1, 125])
@pytest.mark.parametrize("path", ["/", "/otel"])
async def test_pings_are_answered_with_what_they_hold(path: str, size: int) -> None:
    async with serving() as bench:
        client = await bench.upgraded(path)
        if path == "/":
            await client.next_message()
        client.write(frame(PING, b"p" * size))
        assert await client.next_frame() == (PONG, True, b"p" * size)


@pytest.mark.parametrize(
    "message",
    [LIST, b"  " + LIST + b"\n", LIST.replace(b'"data"', b'"d\\u0061ta"')],
)
async def test_json_may_come_in_binary_frames(message: bytes) -> None:
    async with serving() as bench:
        client = await bench.worker()
        client.write(frame(BINARY, message), *as_fragments([message[:9], message[9:]], BINARY))
        await answers_list(client)
        await answers_list(client)


@pytest.mark.parametrize(
    "ignored",
    [
        frame(TEXT),
        frame(TEXT, b" \n\t"),
        frame(BINARY),
        frame(BINARY, b"\x00\xff\xfe"),
        frame(BINARY, b"OTLP{"),
        frame(BINARY, b"LOGS\xff"),
        frame(BINARY, b"MTRC" + LIST),
        frame(TEXT, b"OTLP{}"),
        frame(TEXT, b"", fin=False) + frame(CONTINUATION, b""),
        frame(BINARY, b"OT", fin=False) + frame(CONTINUATION, b"LP"),
        frame(PONG, b"unasked"),
        frame(TEXT, b'{"type":"pong"}'),
        frame(TEXT, b"{}{}"),
        frame(TEXT, b'\xef\xbb\xbf{"type":"ping"}'),
        frame(TEXT, b"\x00"),
    ],
)
async def test_what_says_nothing_is_dropped_and_the_connection_stays(ignored: bytes) -> None:
    async with serving() as bench:
        client = await bench.worker()
        client.write(ignored, frame(TEXT, LIST))
        await answers_list(client)
        assert client.messages == []


async def test_bytes_may_arrive_one_by_one() -> None:
    async with serving() as bench:
        client = await bench.worker()
        for byte in frame(TEXT, LIST):
            client.write(bytes([byte]))
            await asyncio.sleep(0)
        await answers_list(client)


async def test_a_client_may_close_amid_a_message() -> None:
    async with serving() as bench:
        client = await bench.worker()
        client.write(frame(TEXT, SET[:9], fin=False), frame(CLOSE, b"\x03\xe8"))
        assert await client.end() is None
        assert bench.server.engine.store.revision == 0


async def test_what_was_sent_before_a_close_is_carried_out_and_answered() -> None:
    async with serving() as bench:
        client = await bench.worker()
        client.write(frame(TEXT, SET), frame(CLOSE, b"\x03\xe8"), frame(TEXT, LIST))
        assert (await client.got("invocationresult"))["invocation_id"] == "set"
        assert await client.next_frame() is None
        assert bench.server.engine.store.revision == 1


async def test_a_client_that_half_closes_is_let_go() -> None:
    async with serving() as bench:
        client = await bench.worker()
        client.writer.write_eof()
        assert await client.end() is None
        await bench.workers(0)


async def test_a_client_that_closes_and_does_not_read_is_let_go() -> None:
    async with serving() as bench:
        client = await bench.worker(window=4 * KIB)
        big = {"scope": "s", "key": "k", "value": "x" * 200_000}
        for _ in range(40):
            client.write(frame(TEXT, call("state::set", big)))
        client.write(frame(CLOSE, b"\x03\xe8"))
        await client.drain()
        await bench.workers(0)
        async with asyncio.timeout(PATIENCE_S):
            while bench.server._sockets:
                await asyncio.sleep(0.01)


async def test_a_client_that_breaks_a_rule_and_does_not_read_is_let_go() -> None:
    async with serving() as bench:
        client = await bench.worker(window=4 * KIB)
        big = {"scope": "s", "key": "k", "value": "x" * 200_000}
        for _ in range(40):
            client.write(frame(TEXT, call("state::set", big)))
        client.write(frame(TEXT, b"\xff"))
        await client.drain()
        await bench.workers(0)
        async with asyncio.timeout(PATIENCE_S):
            while bench.server._sockets:
                await asyncio.sleep(0.01)


async def test_a_broken_rule_is_told_once_with_the_name_of_the_worker(
    caplog: pytest.LogCaptureFixture,
) -> None:
    caplog.set_level("INFO")
    async with serving() as bench:
        client = await bench.worker()
        await client.settled()
        client.write(*[frame(TEXT, LIST, masked=False)] * 50)
        assert await client.end_code() == 1002
        await bench.workers(0)

    said = [line for line in caplog.messages if "1002" in line]
    assert len(said) == 1
    assert said[0].startswith("worker w: closed with 1002")


async def test_the_library_that_sdks_use_gets_on_with_it() -> None:
    async with serving() as bench, connect(bench.server.address, max_size=None) as client:
        await client.recv()
        await client.send(SET.decode())
        assert '"invocation_id":"set"' in str(await client.recv())
        await client.send([LIST[:7].decode(), LIST[7:].decode()])
        assert '"groups":["s"]' in str(await client.recv())
        await (await client.ping("are you there"))
        await client.send(b"\xff", text=True)
        await client.wait_closed()
        assert client.close_code == 1007
