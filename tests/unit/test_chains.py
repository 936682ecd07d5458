"""Writes of handlers know how deep in a chain they stand, and endless chains are cut."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any

import pytest
from engine_bench import Client, EngineBench, running_engine

from iii_state.engine.chains import DEPTH_MAX, Chains


@pytest.fixture
async def bench() -> AsyncIterator[EngineBench]:
    async with running_engine() as bench:
        yield bench


@pytest.fixture
def client(bench: EngineBench) -> Client:
    client = bench.client("shop")
    client.send("registerfunction", id="f")
    client.bind(function_id="f")
    return client


def set_key(client: Client, **trace: Any) -> None:
    client.call("state::set", {"scope": "s", "key": "k", "value": 1}, **trace)


async def test_a_write_of_a_handler_stands_one_deeper(bench: EngineBench, client: Client) -> None:
    set_key(client)
    await bench.turn()
    [first] = client.got("invokefunction")
    _, trace, _, flags = first["traceparent"].split("-")
    set_key(client, traceparent=f"00-{trace}-00000000000000ab-{flags}")
    client.reply(first, result=None)
    await bench.turn()

    [second] = client.got("invokefunction")

    assert (first["data"]["depth"], second["data"]["depth"]) == (0, 1)


async def chain(bench: EngineBench, client: Client) -> int:
    """Write for every event; how many there are until it is cut."""
    set_key(client)
    fired = 0
    while True:
        await bench.turn()
        calls = client.got("invokefunction")
        if not calls:
            return fired
        fired += 1
        set_key(client, traceparent=calls[0]["traceparent"])
        client.reply(calls[0], result=None)


async def test_an_endless_chain_is_cut_and_told(bench: EngineBench, client: Client) -> None:
    fired = await chain(bench, client)

    [letter], _ = bench.engine.reactions.dead_letters()
    assert fired == 16
    assert letter.fault.code == "CHAIN_TOO_DEEP"
    assert "raise the setting max_chain_depth" in letter.fault.message


async def test_how_long_a_chain_may_be_is_a_setting() -> None:
    async with running_engine(max_chain_depth=3) as bench:
        client = bench.client("shop")
        client.send("registerfunction", id="f")
        client.bind(function_id="f")

        assert await chain(bench, client) == 3


async def test_the_depth_goes_along_from_worker_to_worker(
    bench: EngineBench, client: Client
) -> None:
    other = bench.client("helper")
    other.send("registerfunction", id="g")
    set_key(client)
    await bench.turn()
    [event] = client.got("invokefunction")
    client.call("g", {}, traceparent=event["traceparent"])
    [call] = other.got("invokefunction")
    set_key(other, traceparent=call["traceparent"], baggage=call["baggage"])
    client.reply(event, result=None)
    await bench.turn()

    [told] = client.got("invokefunction")

    assert (told["data"]["depth"], told["data"]["function"]) == (1, "g")


@pytest.mark.parametrize(
    "traceparent",
    ["", "00-", "nonsense", "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01", "٣" * 55],
)
async def test_other_traces_begin_no_chain(
    bench: EngineBench, client: Client, traceparent: str
) -> None:
    set_key(client, traceparent=traceparent)
    await bench.turn()

    assert client.got("invokefunction")[0]["data"]["depth"] == 0


def test_a_mark_that_was_tampered_with_is_no_depth(client: Client) -> None:
    chains = Chains()
    trace = chains.traceparent(3)
    mark = trace[:19]

    depths = [
        chains.origin(client.worker, text, None).depth
        for text in (trace, mark, f"{mark}zzzz", f"{mark}00", f"{mark}00-1")
    ]

    assert depths == [3, 0, 0, 0, 0]


def test_a_depth_has_its_bound(client: Client) -> None:
    chains = Chains()

    origin = chains.origin(client.worker, chains.traceparent(DEPTH_MAX + 5), None)

    assert origin.depth == DEPTH_MAX
