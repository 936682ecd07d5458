"""The listener: which path is what, who may connect, and an orderly stop."""

from __future__ import annotations

import asyncio
import logging
import secrets
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import cast
from urllib.parse import urlsplit

from picows import (
    WSCloseCode,
    WSFrame,
    WSListener,
    WSMsgType,
    WSTransport,
    WSUpgradeRequest,
    WSUpgradeResponse,
    WSUpgradeResponseWithListener,
    ws_create_server,
)

from iii_state.clock import wall_clock_ms
from iii_state.core.store import Store
from iii_state.engine.engine import Engine, random_ids
from iii_state.host.channels import PATH as CHANNELS_PATH
from iii_state.host.channels import ChannelSocket, ChannelSockets
from iii_state.host.connection import Connection, Outbox
from iii_state.settings import Settings

log = logging.getLogger("iii_state.host")

SERVICE_RESTART = 1012
TRY_AGAIN_LATER = 1013
UNAUTHORIZED = 4401
"""Close codes. Never 1000 or 1001: older SDKs do not come back after these."""


class Refusal(WSListener):
    """Completes the upgrade, then closes: an HTTP error would leave older SDKs stuck."""

    def __init__(self, code: int, reason: str) -> None:
        super().__init__()
        self._code = code
        self._reason = reason

    def on_ws_connected(self, transport: WSTransport) -> None:
        """Say no."""
        transport.send_close(cast(WSCloseCode, self._code), self._reason.encode())
        transport.disconnect()


class Telemetry(WSListener):
    """The `/otel` socket: takes what SDKs send there, and drops it."""

    def on_ws_frame(self, transport: WSTransport, frame: WSFrame) -> None:
        """Nothing is kept; a close ends the connection."""
        if frame.msg_type is WSMsgType.CLOSE:
            transport.disconnect()


class Server:
    """A listening server. `address` is where it can be reached."""

    def __init__(self, engine: Engine, settings: Settings) -> None:
        self.engine = engine
        self._settings = settings
        self._outbox = Outbox()
        self._connections: set[Connection] = set()
        self._channels = ChannelSockets(engine.channels, settings.message_bytes_max)
        self._listener: asyncio.Server
        self.address = ""

    async def listen(self) -> None:
        """Begin to accept connections.

        Raises:
            OSError: the address cannot be bound.
        """
        settings = self._settings
        self._listener = await ws_create_server(
            self.accept,
            settings.host,
            settings.port,
            websocket_handshake_timeout=settings.handshake_timeout_s,
            max_frame_size=settings.frame_bytes_max,
            logger_name=_quiet_logger(),
            # The loop's own transport lets us write a turn's messages at once.
            use_aiofastnet=False,
        )
        host, port = self._listener.sockets[0].getsockname()[:2]
        self.address = f"ws://[{host}]:{port}" if ":" in host else f"ws://{host}:{port}"

    async def stop(self) -> None:
        """Answer what is in flight, give workers a little time, then close everything.

        Connections are closed with 1012, after which every SDK comes back by itself.
        """
        self._listener.close()
        await self.engine.drain(self._settings.stop_grace_s)
        for socket in self._sockets():
            socket.close(SERVICE_RESTART, "the server stops")
        await self._wait_closed()

    async def _wait_closed(self) -> None:
        """Let what was sent reach those who read; a second is enough for them."""
        until = time.monotonic() + 1.0
        while self._sockets() and time.monotonic() < until:
            await asyncio.sleep(0.01)
        for socket in self._sockets():
            socket.abort()
        await asyncio.sleep(0)

    def _sockets(self) -> list[Connection | ChannelSocket]:
        return [*self._connections, *self._channels.sockets]

    def accept(
        self, request: WSUpgradeRequest
    ) -> WSListener | WSUpgradeResponseWithListener | None:
        """Decide what a request to upgrade gets; None means 404."""
        target = urlsplit(request.path.decode("latin-1"))
        if not self._origin_is_allowed(request):
            log.warning("refused a connection from the web page %.200r", request.headers["origin"])
            body = b"This origin may not connect; see the setting allowed_origins."
            return WSUpgradeResponseWithListener(
                WSUpgradeResponse.create_error_response(403, body), None
            )
        if target.path == "/otel":
            return Telemetry()
        if target.path.startswith(CHANNELS_PATH):
            return self._channels.accept(target)
        return self._accept_worker(request) if target.path == "/" else None

    def _accept_worker(self, request: WSUpgradeRequest) -> WSListener:
        if not self._token_is_right(request):
            log.warning("refused a connection without the right token")
            return Refusal(UNAUTHORIZED, "the token is missing or wrong")
        if len(self._connections) >= self._settings.connections_max:
            log.warning("refused a connection: connections_max = %d", len(self._connections))
            return Refusal(TRY_AGAIN_LATER, "connections_max is reached")
        return Connection(self.engine, self._outbox, self._settings, self._connections)

    def _origin_is_allowed(self, request: WSUpgradeRequest) -> bool:
        """Only browsers send an origin; a page of another site must not reach a local server."""
        origin = request.headers.get("origin")
        if origin is None:
            return True
        allowed = self._settings.allowed_origins
        own = urlsplit(origin).netloc == request.headers.get("host")
        return own or "*" in allowed or origin in allowed

    def _token_is_right(self, request: WSUpgradeRequest) -> bool:
        token = self._settings.token
        if token is None:
            return True
        given = request.headers.get("authorization", "")
        return secrets.compare_digest(given.encode(), f"Bearer {token}".encode())


@asynccontextmanager
async def open_server(settings: Settings, store: Store) -> AsyncIterator[Server]:
    """Serve a store until the context is left; then stop in order. The store stays open."""
    engine = Engine(store, settings, wall_clock_ms, random_ids())
    server = Server(engine, settings)
    engine.start()
    try:
        await server.listen()
        try:
            yield server
        finally:
            await server.stop()
    finally:
        await engine.stop()


def _quiet_logger() -> logging.Logger:
    """Picows tells of every connection at info; only its warnings are ours to show."""
    logger = logging.getLogger("picows.server")
    logger.setLevel(logging.WARNING)
    return logger
