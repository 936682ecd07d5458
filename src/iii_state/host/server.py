"""The listener: which path is what, who may connect, and an orderly stop."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from picows import WSListener, WSUpgradeRequest, ws_create_server

from iii_state.engine.engine import Engine
from iii_state.host.connection import Connection, Outbox


class Server:
    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self._outbox = Outbox()

    def accept(self, request: WSUpgradeRequest) -> WSListener | None:
        if request.path.split(b"?")[0] == b"/":
            return Connection(self._engine, self._outbox, "", 64 << 20, 128 << 20)
        return None


@asynccontextmanager
async def open_server(engine: Engine, host: str, port: int) -> AsyncIterator[asyncio.Server]:
    server = Server(engine)
    listener = await ws_create_server(
        server.accept,
        host,
        port,
        max_frame_size=16 << 20,
        use_aiofastnet=False,
        websocket_handshake_timeout=10,
    )
    engine.start()
    try:
        yield listener
    finally:
        listener.close()
        await engine.stop()
