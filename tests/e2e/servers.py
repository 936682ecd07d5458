"""The installed program `iii-state serve`, started and ended by a test."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path
from types import TracebackType

from e2e.lines import PATIENCE_S, Line, Lines

PROGRAM = Path(sys.executable).parent / "iii-state"


class Server:
    """A server process with its data in a directory. Started on entry, stopped on exit.

    `address` is where it listens: the same again after a restart.
    """

    def __init__(self, data_dir: Path, *flags: str) -> None:
        self._data_dir = data_dir
        self._flags = flags
        self.address = ""

    def __enter__(self) -> Server:
        self.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if self._process.poll() is None:
            self.stop()

    @property
    def port(self) -> int:
        """The port it listens on; 0 before the first start."""
        return int(self.address.rpartition(":")[2] or "0")

    def start(self) -> None:
        """Start, and wait until it listens."""
        command = [str(PROGRAM), "serve", "--port", str(self.port), "--log-format", "json"]
        command += ["--data-dir", str(self._data_dir), *self._flags]
        environment = {k: v for k, v in os.environ.items() if not k.startswith("III_")}
        self._process = subprocess.Popen(
            command, stderr=subprocess.PIPE, text=True, env=environment
        )
        assert self._process.stderr is not None
        self.log = Lines(self._process.stderr)
        try:
            [listening] = self.log.wait_for(
                lambda line: line.get("message") == "listening", what="the server listening"
            )
        except AssertionError:
            self.kill()
            raise
        self.address = str(listening["address"])

    def stop(self) -> None:
        """End it by SIGTERM; it must end in order."""
        self.begin_stop()
        self.finish_stop()

    def begin_stop(self) -> None:
        """Send SIGTERM, and wait until it has begun to stop."""
        self._process.send_signal(signal.SIGTERM)
        self.log.wait_for(lambda line: line.get("message") == "stopping", what="stopping")

    def finish_stop(self) -> None:
        """Wait until it has ended, in order."""
        assert self._process.wait(PATIENCE_S) == 0, self.complaints()
        self.log.join()

    def kill(self) -> None:
        """End it by SIGKILL."""
        self._process.kill()
        self._process.wait(PATIENCE_S)
        self.log.join()

    def complaints(self) -> list[Line]:
        """What it logged as an error, and lines that are no log records."""
        return self.log.matching(lambda line: line.get("level") not in ("debug", "info", "warning"))
