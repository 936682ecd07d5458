"""The listener: which path is what, who may connect, and an orderly stop."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

from picows import (
    WSUpgradeRequest,
    WSUpgradeResponse,
    WSUpgradeResponseWithListener,
    ws_create_server,
)

from iii_state.clock import wall_clock_ms
from iii_state.core.store import Store
from iii_state.engine.engine import Engine, random_ids
from iii_state.host import channels
from iii_state.host.admission import origin_is_allowed, repair, token_is_right
from iii_state.host.connection import Connection, Outbox
from iii_state.host.sockets import LINGER_S, Refusal, Socket, Telemetry
from iii_state.settings import Settings

log = logging.getLogger("iii_state.host")

SERVICE_RESTART = 1012
TRY_AGAIN_LATER = 1013
UNAUTHORIZED = 4401
"""Close codes. Never 1000 or 1001: older SDKs do not come back after these."""

STOPS = "the server stops"


class Server:
    """A listening server. `address` is where it can be reached."""

    def __init__(self, engine: Engine, settings: Settings) -> None:
        self.engine = engine
        self._settings = settings
        self._outbox = Outbox()
        self._sockets: set[Socket] = set()
        self._refused: set[Socket] = set()
        self._is_stopping = False
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
            max_frame_size=min(settings.frame_bytes_max, settings.message_bytes_max),
            enable_auto_pong=False,  # it would answer those that do not read, too
            logger_name=_picows_log(),
            # The loop's own transport lets us write a turn's messages at once.
            use_aiofastnet=False,
        )
        if not self._listener.sockets:  # asyncio says nothing of those that could not be made
            raise OSError("no socket can be made; is a file descriptor left (`ulimit -n`)?")
        host, port = self._listener.sockets[0].getsockname()[:2]
        self.address = f"ws://[{host}]:{port}" if ":" in host else f"ws://{host}:{port}"

    async def stop(self) -> None:
        """Answer what is in flight, give workers a little time, then close everything.

        Connections are closed with 1012, after which every SDK comes back by itself.
        """
        self._is_stopping = True
        self._listener.close()
        await self.engine.drain(self._settings.stop_grace_s)
        for socket in list(self._sockets):
            socket.close(SERVICE_RESTART, STOPS)
        await self._wait_closed()

    async def _wait_closed(self) -> None:
        """Let what was sent reach those who read; a moment is enough for them."""
        until = time.monotonic() + LINGER_S
        while (self._sockets or self._refused) and time.monotonic() < until:
            await asyncio.sleep(0.01)
        for socket in (*self._sockets, *self._refused):
            socket.abort()
        await asyncio.sleep(0)

    def accept(self, request: WSUpgradeRequest) -> Socket | WSUpgradeResponseWithListener | None:
        """Decide what a request to upgrade gets; None means 404."""
        path, _, query = request.path.decode("latin-1").partition("?")
        settings = self._settings
        repair(request)
        if not origin_is_allowed(request, settings):
            log.warning("refused a connection from the web page %.200r", request.headers["origin"])
            body = b"This origin may not connect; see the setting allowed_origins."
            response = WSUpgradeResponse.create_error_response(403, body)
            return WSUpgradeResponseWithListener(response, None)
        socket: Socket | WSUpgradeResponseWithListener | None = None
        if path == "/":
            socket = Connection(self._sockets, self.engine, self._outbox, settings)
        elif path == "/otel":
            socket = Telemetry(self._sockets, settings.stall_timeout_s)
        elif path.startswith(channels.PATH):
            socket = channels.accept(path, query, self.engine.channels, self._sockets, settings)
        if not isinstance(socket, Socket):
            return socket
        return self._refusal(socket, request) or socket

    def _refusal(self, socket: Socket, request: WSUpgradeRequest) -> Refusal | None:
        if self._is_stopping:
            return Refusal(self._refused, SERVICE_RESTART, STOPS)
        if isinstance(socket, Connection) and not token_is_right(request, self._settings):
            log.warning("refused a connection without the right token")
            return Refusal(self._refused, UNAUTHORIZED, "the token is missing or wrong")
        if self._is_full_for(socket):
            log.warning("refused a connection: connections_max is reached")
            return Refusal(self._refused, TRY_AGAIN_LATER, "connections_max is reached")
        return None

    def _is_full_for(self, socket: Socket) -> bool:
        bound = self._settings.connections_max
        if len(self._sockets) >= bound:
            return True
        # Telemetry needs no token, and must not keep the workers out.
        is_telemetry = isinstance(socket, Telemetry)
        return is_telemetry and 2 * sum(isinstance(s, Telemetry) for s in self._sockets) >= bound


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


class _PicowsLog(logging.LoggerAdapter[logging.Logger]):
    """What picows has to tell. That a client broke a rule is told once, by its socket."""

    def error(self, msg: object, *args: object, **kwargs: Any) -> None:
        """A client broke a rule; said anew for everything that it sends after."""
        self.debug(msg, *args, **kwargs)


def _picows_log() -> _PicowsLog:
    """Picows tells of every connection at info; only its warnings are ours to show."""
    logger = logging.getLogger("picows.server")
    logger.setLevel(logging.WARNING)
    return _PicowsLog(logger)
