"""Who gets in, by which path, and what the others are told."""

from __future__ import annotations

import asyncio
import socket

import pytest
from server_bench import CLOSE, PATIENCE_S, TEXT, Bench, Client, call, frame, serving, upgrade
from websockets.asyncio.client import connect

from iii_state.host.sockets import Socket


def sockets(bench: Bench) -> set[Socket]:
    """Those that the server holds."""
    return bench.server._sockets


@pytest.mark.parametrize("path", ["/", "/?key=value", "/?", "/otel", "/otel?x=1"])
async def test_a_path_that_is_served_is_upgraded(path: str) -> None:
    async with serving() as bench:
        head = await bench.answered(upgrade(path))

    assert head.startswith(b"HTTP/1.1 101 ")
    assert b"extensions" not in head.lower()
    assert b"sec-websocket-protocol" not in head.lower()


@pytest.mark.parametrize(
    "path",
    ["/otel/", "/health", "//", "//x/", "//x/otel", "http://[", "//[", "/%2e", "/ws/channels", "*"],
)
async def test_any_other_path_is_not_found(path: str) -> None:
    async with serving() as bench:
        assert (await bench.answered(upgrade(path))).startswith(b"HTTP/1.1 404 ")
        assert sockets(bench) == set()


@pytest.mark.parametrize("method", ["POST", "HEAD", "OPTIONS", "PUT", "get"])
async def test_a_method_other_than_get_is_refused(method: str) -> None:
    """With 400 where the original says 405: picows decides this before it asks the server."""
    async with serving() as bench:
        request = upgrade().replace(b"GET", method.encode(), 1)
        assert (await bench.answered(request)).startswith(b"HTTP/1.1 400 ")


@pytest.mark.parametrize(
    "request_",
    [
        b"GET / HTTP/1.1\r\nHost: x\r\n\r\n",
        b"GET / HTTP/1.0\r\n\r\n",
        b"GET /\r\n\r\n",
        b"\r\n\r\n",
        b"\x16\x03\x01\x02\x00\x01\r\n\r\n",
        upgrade(upgrade="h2c"),
        upgrade(sec_websocket_key="short"),
        upgrade(sec_websocket_key=None),
        upgrade(sec_websocket_version="12"),
        upgrade(sec_websocket_version="\u00f3"),
        upgrade(sec_websocket_key="\u00f3"),
        upgrade(upgrade="\u00f3"),
        upgrade(connection="\u00f3"),
        upgrade(content_length="\u00f3"),
        upgrade(transfer_encoding="\u00f3"),
        upgrade(connection="keep-alive"),
        upgrade(content_length="5"),
        upgrade(**{"bad name": "x"}),
    ],
)
async def test_what_is_no_upgrade_is_refused_and_leaves_nothing_behind(request_: bytes) -> None:
    async with serving(connections_max=1) as bench:
        for _ in range(3):
            assert (await bench.answered(request_)).startswith(b"HTTP/1.1 400 ")
        assert sockets(bench) == set()
        assert bench.server.engine.workers == {}
        await bench.worker()


@pytest.mark.parametrize("words", ["keep-alive, Upgrade", "upgrade", "Upgrade,close"])
async def test_the_upgrade_may_be_one_word_of_several(words: str) -> None:
    """Firefox says `keep-alive, Upgrade`."""
    async with serving() as bench:
        await bench.worker(connection=words)


async def test_a_request_in_pieces_is_understood() -> None:
    async with serving() as bench:
        client = await bench.tcp()
        request = upgrade()
        for at in range(0, len(request) - 7, 7):
            client.write(request[at : at + 7])
            await asyncio.sleep(0)
        client.write(request[len(request) - len(request) % 7 :])
        await client.reader.readuntil(b"\r\n\r\n")
        assert (await client.next_message())["type"] == "workerregistered"


async def test_frames_may_follow_the_request_at_once() -> None:
    async with serving() as bench:
        client = await bench.tcp()
        client.write(upgrade(), frame(TEXT, call("state::list_groups", {})))
        await client.reader.readuntil(b"\r\n\r\n")
        assert (await client.next_message())["type"] == "workerregistered"
        assert (await client.next_message())["result"] == {"groups": []}


@pytest.mark.parametrize("said", [b"", b"GET / HTT", upgrade()[:-2]])
async def test_a_handshake_that_is_not_finished_in_time_is_let_go(said: bytes) -> None:
    async with serving(handshake_timeout_s=0.05) as bench:
        client = await bench.tcp()
        client.write(said)
        async with asyncio.timeout(PATIENCE_S):
            assert await client.reader.read() == b""


async def test_a_handshake_that_was_finished_is_not_let_go() -> None:
    async with serving(handshake_timeout_s=0.3) as bench:
        client = await bench.worker()
        await asyncio.sleep(0.5)
        assert await client.result("state::list_groups", {}) == {"groups": []}


async def test_headers_without_end_are_cut_off() -> None:
    async with serving() as bench:
        assert await bench.answered(upgrade(x="y" * 100_000)) == b""
        assert await bench.answered(b"GET / HTTP/1.1\r\n" + b"a: b\r\n" * 3000 + b"\r\n") == b""
        many = b"GET / HTTP/1.1\r\n" + b"a: b\r\n" * 200 + b"\r\n"
        assert (await bench.answered(many)).startswith(b"HTTP/1.1 400 ")
        await bench.answers_rightly()


async def test_compression_is_never_negotiated() -> None:
    async with serving() as bench, connect(bench.server.address, compression="deflate") as socket_:
        assert socket_.protocol.extensions == []
        assert '"workerregistered"' in str(await socket_.recv())


@pytest.mark.parametrize(
    ("allowed", "origin", "status"),
    [
        ((), "http://evil.example", 403),
        ((), "null", 403),
        ((), "http://[", 403),
        ((), "", 403),
        ((), "http://localhost:1", 403),
        ((), "http://localhost", 101),
        (("https://app.example",), "https://app.example", 101),
        (("https://app.example",), "http://app.example", 403),
        (("https://app.example",), "https://app.example.evil.example", 403),
        (("*",), "http://evil.example", 101),
    ],
)
@pytest.mark.parametrize("path", ["/", "/otel"])
async def test_web_pages_connect_only_from_allowed_origins(
    path: str, allowed: tuple[str, ...], origin: str, status: int
) -> None:
    async with serving(allowed_origins=allowed) as bench:
        head = await bench.answered(upgrade(path, origin=origin))

    assert head.startswith(b"HTTP/1.1 %d " % status)


async def test_two_origins_are_none() -> None:
    async with serving() as bench:
        twice = upgrade(origin="http://localhost").replace(
            b"\r\n\r\n", b"\r\norigin: http://evil.example\r\n\r\n"
        )
        assert (await bench.answered(twice)).startswith(b"HTTP/1.1 403 ")


@pytest.mark.parametrize(
    "authorization",
    [
        None,
        "",
        "geheim",
        "Bearer",
        "Bearer ",
        "Bearer wrong",
        "Bearer geheim2",
        "bearer geheim",
        "Bearer gehe\u00efm",
        "Basic geheim",
    ],
)
async def test_without_the_token_the_upgrade_is_completed_and_closed_with_4401(
    authorization: str | None,
) -> None:
    async with serving(token="geheim") as bench:
        client = await bench.upgraded(authorization=authorization)
        client.announce()
        client.write(frame(TEXT, call("state::set", {"scope": "s", "key": "k", "value": 1})))

        close = await client.end()

        assert close is not None
        assert close.code == 4401
        right = await bench.worker(authorization="Bearer geheim")
        assert await right.result("state::list_groups", {}) == {"groups": []}


async def test_a_token_may_hold_any_text() -> None:
    async with serving(token="gehe\u00efm \u2713") as bench:
        await bench.worker(authorization="Bearer gehe\u00efm \u2713")
        wrong = await bench.upgraded(authorization="Bearer gehe\u00efm")
        assert await wrong.end_code() == 4401


async def test_telemetry_needs_no_token() -> None:
    """SDKs before 0.24.6 send none there, and nothing can be read."""
    async with serving(token="geheim") as bench:
        client = await bench.upgraded("/otel")
        client.write(frame(TEXT, call("state::list_groups", {})))
        await client.settled()
        assert client.messages == []


async def test_past_connections_max_the_upgrade_is_completed_and_closed_with_1013() -> None:
    async with serving(connections_max=2) as bench:
        first, _ = await bench.worker(), await bench.worker()
        for _ in range(3):
            refused = await bench.upgraded()
            refused.announce()
            assert await refused.end_code() == 1013
        assert await first.result("state::list_groups", {}) == {"groups": []}
        first.vanish()
        await bench.workers(1)
        await bench.worker()


async def test_telemetry_takes_no_more_than_half_of_the_connections() -> None:
    async with serving(connections_max=4) as bench:
        for _ in range(2):
            await (await bench.upgraded("/otel")).settled()
        assert await (await bench.upgraded("/otel")).end_code() == 1013
        await bench.worker()
        await bench.worker()
        assert await (await bench.upgraded()).end_code() == 1013


async def test_ends_of_channels_count_as_connections() -> None:
    async with serving(connections_max=2) as bench:
        worker = await bench.worker()
        end = (await worker.result("engine::channels::create", {}))["writer"]
        path = f"/ws/channels/{end['channel_id']}?key={end['access_key']}"
        await (await bench.upgraded(path + "&dir=write")).settled()
        assert await (await bench.upgraded(path + "&dir=read")).end_code() == 1013


async def test_two_servers_cannot_have_one_port() -> None:
    async with serving() as bench:
        with pytest.raises(OSError, match="in use"):
            async with serving(port=bench.port):
                pass
        await bench.answers_rightly()


async def test_connections_are_quick_and_notice_peers_that_vanish() -> None:
    async with serving() as bench:
        await bench.worker()
        await (await bench.upgraded("/otel")).settled()
        for held in sockets(bench):
            tcp = held._tcp.get_extra_info("socket")
            assert tcp.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY)
            assert tcp.getsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE)
            assert tcp.getsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPIDLE) == 60
            assert tcp.getsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT) == 120_000


@pytest.mark.parametrize("payload", [b"", b"\x03\xe8", b"\x03\xe9", b"\x0f\xa0bye", b"\0\0"])
@pytest.mark.parametrize("path", ["/", "/otel"])
async def test_a_client_that_closes_gets_a_tcp_end(path: str, payload: bytes) -> None:
    """As on the original; no close frame is sent back."""
    async with serving() as bench:
        client: Client = await bench.upgraded(path)
        client.write(frame(CLOSE, payload))
        assert await client.end() is None
        await bench.workers(0)
        assert sockets(bench) == set()
