"""Random bytes, frames and ends: whatever comes, others are served and nothing is left behind."""

from __future__ import annotations

import asyncio
from contextlib import suppress
from random import Random

import pytest
from server_bench import PATIENCE_S, TEXT, Bench, call, frame, serving, upgrade

MESSAGES = [
    call("state::get", {"scope": "s", "key": "k"}),
    call("state::list_groups", {}, None),
    call("f", 1),
    call("engine::channels::create", {}),
    b'{"type":"registerfunction","id":"f"}',
    b'{"type":"unregisterfunction","id":"f"}',
    b'{"type":"registertriggertype","id":"t"}',
    b'{"type":"registertrigger","id":"b","trigger_type":"t","function_id":"f"}',
    b'{"type":"registertrigger","id":"b","trigger_type":"state","function_id":"f","config":{}}',
    b'{"type":"invocationresult","invocation_id":"1","result":2}',
    b'{"type":"ping"}',
    b"{}",
    b"\xff\xfe",
    b"",
]


def noise(random: Random) -> bytes:
    """Something to send: mostly frames, at times damaged."""
    kind = random.random()
    if kind < 0.05:
        return random.randbytes(random.randrange(40))
    text = bytearray(random.choice(MESSAGES))
    if kind < 0.3 and text:
        text[random.randrange(len(text))] = random.randrange(256)
    opcode = random.choice([TEXT] * 12 + [0, 2, 2, 8, 9, 10, 3, 15])
    is_odd = random.random() < 0.02
    return frame(
        opcode,
        bytes(text[:125]) if opcode > 7 else bytes(text),
        fin=random.random() < 0.9,
        rsv=random.randrange(8) if is_odd else 0,
        masked=not is_odd,
    )


async def pester(bench: Bench, random: Random) -> None:
    """One connection that does as it likes, and ends in some way."""
    client = await bench.tcp(window=random.choice([None, 4096]))
    request = bytearray(upgrade(random.choice(["/", "/", "/", "/otel", "/x"])))
    if random.random() < 0.1:
        request[random.randrange(len(request))] = random.randrange(256)
    client.write(bytes(request))
    for _ in range(random.randrange(60)):
        client.write(noise(random))
        if random.random() < 0.3:
            await asyncio.sleep(0)
    end = random.random()
    if end < 0.4:
        client.vanish()
    elif end < 0.8 and client.writer.can_write_eof() and not client.writer.is_closing():
        with suppress(OSError):
            client.writer.write_eof()


@pytest.mark.parametrize("seed", range(4))
async def test_any_bytes_disturb_nobody(seed: int) -> None:
    random = Random(seed)
    async with serving(registrations_max=50, in_flight_max=20, connections_max=10_000) as bench:
        witness = await bench.worker()
        for _ in range(12):
            await asyncio.gather(*(pester(bench, random) for _ in range(10)))
            assert await witness.result("state::list_groups", {}) == {"groups": []}
        bench.hang_up()
        await bench.workers(0)
        async with asyncio.timeout(PATIENCE_S):
            while bench.server._sockets:
                await asyncio.sleep(0.001)
        engine = bench.server.engine
        assert engine.triggers.active() == []
        assert [f for f in engine.functions.all() if f.id == "f"] == []
        await bench.answers_rightly()
