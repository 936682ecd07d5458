"""Proxies between a worker and the server: one cuts connections, one writes down what is said."""

from __future__ import annotations

import socket
import struct
import threading
from contextlib import suppress
from dataclasses import dataclass, field
from types import TracebackType

from websockets.exceptions import ConnectionClosed
from websockets.sync.client import ClientConnection, connect
from websockets.sync.server import ServerConnection, serve

from e2e.lines import PATIENCE_S

MESSAGE_BYTES_MAX = 1 << 26
RESET = struct.pack("ii", 1, 0)
"""SO_LINGER of no time: closing resets the connection, as a peer that vanishes does."""


@dataclass
class Passage:
    """One connection of a client, and ours to the server for it."""

    client: socket.socket
    server: socket.socket
    passes_ends: bool = True

    def pump(self, source: socket.socket, target: socket.socket) -> None:
        with suppress(OSError):
            while data := source.recv(65_536):
                target.sendall(data)
            if self.passes_ends:
                target.shutdown(socket.SHUT_WR)


class CuttingProxy:
    """Passes TCP connections on to a server. `address` is what clients connect to."""

    def __init__(self, server_address: str) -> None:
        self._server_port = int(server_address.rpartition(":")[2])
        self._passages: list[Passage] = []
        self._lock = threading.Lock()
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.address = f"ws://127.0.0.1:{self._listener.getsockname()[1]}"
        self._threads = [threading.Thread(target=self._accept, daemon=True)]

    def __enter__(self) -> CuttingProxy:
        self._threads[0].start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._listener.shutdown(socket.SHUT_RDWR)
        self._threads[0].join()
        self._listener.close()
        self.cut()
        for thread in self._threads:
            thread.join()

    def cut(self) -> None:
        """Reset all connections, towards both sides. New ones are passed on as before."""
        with self._lock:
            passages, self._passages = self._passages, []
        for passage in passages:
            _reset(passage.client)
            _reset(passage.server)

    def vanish(self) -> None:
        """Reset all connections towards the clients; the server hears nothing of it."""
        with self._lock:
            passages = list(self._passages)
        for passage in passages:
            passage.passes_ends = False
            _reset(passage.client)

    def _accept(self) -> None:
        while True:
            try:
                client, _ = self._listener.accept()
            except OSError:
                return
            try:
                server = socket.create_connection(("127.0.0.1", self._server_port))
            except OSError:
                _reset(client)
                continue
            passage = Passage(client, server)
            with self._lock:
                self._passages.append(passage)
            for ends in ((client, server), (server, client)):
                thread = threading.Thread(target=passage.pump, args=ends, daemon=True)
                self._threads.append(thread)
                thread.start()


def _reset(end: socket.socket) -> None:
    with suppress(OSError):
        end.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, RESET)
        # Wakes the thread that reads from it; closing then sends the reset.
        end.shutdown(socket.SHUT_RD)
    end.close()


@dataclass
class Conversation:
    """What was said on one WebSocket, in the order in which it came by."""

    path: str
    worker: ServerConnection
    messages: list[tuple[str, str | bytes]] = field(default_factory=list)
    """`W` (worker to host) or `H` (host to worker), and the message."""


class RecordingProxy:
    """Passes WebSocket messages on to a server, and keeps them."""

    def __init__(self, server_address: str) -> None:
        self._server_address = server_address
        self._conversations: list[Conversation] = []
        self._changed = threading.Condition()
        self._server = serve(
            self._handle, "127.0.0.1", 0, max_size=MESSAGE_BYTES_MAX, ping_interval=None
        )
        self.address = f"ws://127.0.0.1:{self._server.socket.getsockname()[1]}"
        self._thread = threading.Thread(target=self._server.serve_forever, daemon=True)

    def __enter__(self) -> RecordingProxy:
        self._thread.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._server.shutdown()
        self._thread.join()

    def conversation(self, path: str, number: int = 0) -> Conversation:
        """Wait until the server has taken a connection to a path; by default the first one."""
        with self._changed:
            assert self._changed.wait_for(lambda: len(self._at(path)) > number, PATIENCE_S), path
            return self._at(path)[number]

    def _at(self, path: str) -> list[Conversation]:
        return [each for each in self._conversations if each.path == path]

    def _handle(self, worker: ServerConnection) -> None:
        assert worker.request is not None
        conversation = Conversation(worker.request.path, worker)
        address = self._server_address + worker.request.path
        with connect(address, max_size=MESSAGE_BYTES_MAX, ping_interval=None) as host:
            with self._changed:
                self._conversations.append(conversation)
                self._changed.notify_all()
            back = threading.Thread(target=_pass_on, args=(host, worker, conversation, "H"))
            back.start()
            _pass_on(worker, host, conversation, "W")
            host.close()
            back.join()


def _pass_on(
    source: ServerConnection | ClientConnection,
    target: ServerConnection | ClientConnection,
    conversation: Conversation,
    who: str,
) -> None:
    with suppress(ConnectionClosed):
        for message in source:
            conversation.messages.append((who, message))
            target.send(message)
