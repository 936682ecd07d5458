"""What real SDKs said, fed to an engine, must be answered as when it was recorded, byte for byte.

The transcripts come from `tests/e2e/record_transcripts.py`. Ids and times that the host makes up
differ from run to run, so each of the engine's is taken for the recorded one in its place.
"""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest
from engine_bench import EngineBench, RecordingPeer, running_engine

from iii_state.engine.workers import Worker

TRANSCRIPTS = sorted((Path(__file__).parents[1] / "vectors" / "transcripts").glob("*.jsonl"))
MADE_UP = re.compile(
    r'"(?:worker_id|_caller_worker_id|reattach_token|invocation_id|event_id|channel_id|access_key'
    r'|timestamp_ms|traceparent)":("[^"]+"|\d+)'
)

Line = tuple[int, str, str]


class TextPeer(RecordingPeer):
    """A connection that keeps the texts that are sent through it."""

    def __init__(self) -> None:
        super().__init__()
        self.texts: list[str] = []

    def send(self, text: bytes) -> None:
        super().send(text)
        self.texts.append(text.decode())


class Replay:
    """One transcript, said again to an engine.

    A connection that the SDK says it replaces is left as it is, half dead; others end before.
    """

    def __init__(self, bench: EngineBench, lines: list[Line]) -> None:
        self._bench = bench
        self._lines = lines
        self._ids: dict[str, str] = {}
        self.says_whom_it_replaces = any(who == "W" and '"reattach"' in x for _, who, x in lines)
        self.peers: list[TextPeer] = []
        self._workers: list[Worker] = []

    async def run(self) -> None:
        """Say what the worker said; after each message let the engine do what follows."""
        for connection, who, text in self._lines:
            if connection == len(self.peers):
                if self._workers and not self.says_whom_it_replaces:
                    self._bench.engine.disconnect(self._workers[-1])
                self.peers.append(TextPeer())
                self._workers.append(self._bench.engine.connect(self.peers[-1], "127.0.0.1"))
            self._learn_ids(connection)
            if who == "W":
                self._bench.engine.receive(self._workers[connection], self._with_our_ids(text))
                await self._bench.turn()
                # No two changes at one time, so that times can be told apart too.
                self._bench.clock.advance(1)

    def recorded(self, connection: int) -> list[str]:
        """What the host said on a connection when it was recorded."""
        return [text for each, who, text in self._lines if (each, who) == (connection, "H")]

    def said(self, connection: int) -> list[str]:
        """What the engine said now, with the recorded ids and times in place of its own."""
        texts = self.peers[connection].texts
        for recorded, ours in self._ids.items():
            texts = [text.replace(ours, recorded) for text in texts]
        return texts

    def _learn_ids(self, connection: int) -> None:
        pairs = zip(self.recorded(connection), self.peers[connection].texts, strict=False)
        for recorded, ours in pairs:
            self._ids |= zip(MADE_UP.findall(recorded), MADE_UP.findall(ours), strict=False)

    def _with_our_ids(self, text: str) -> str:
        # Some SDKs put a space behind a colon, and none into an id.
        for recorded, ours in self._ids.items():
            text = text.replace(recorded, ours)
        return text


def read(path: Path) -> list[Line]:
    return [tuple(json.loads(line)) for line in path.read_text().splitlines()]


@pytest.mark.parametrize("path", TRANSCRIPTS, ids=lambda path: path.stem)
async def test_an_sdk_is_answered_as_recorded(path: Path) -> None:
    async with running_engine() as bench:
        replay = Replay(bench, read(path))

        await replay.run()

        for connection in (0, 1):
            assert replay.said(connection) == replay.recorded(connection)
            assert replay.recorded(connection)


@pytest.mark.parametrize("path", TRANSCRIPTS, ids=lambda path: path.stem)
async def test_an_sdk_that_knows_how_retires_the_connection_it_had(path: Path) -> None:
    async with running_engine() as bench:
        replay = Replay(bench, read(path))

        await replay.run()

        assert replay.peers[0].aborted == replay.says_whom_it_replaces


def test_every_sdk_version_has_a_transcript() -> None:
    assert len(TRANSCRIPTS) == 8
