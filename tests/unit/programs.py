"""The installed command as a process, for tests: started, read line by line, stopped."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any

COMMAND = str(Path(sys.executable).parent / "iii-state")
DEADLINE_S = 20


def environment(**more: str) -> dict[str, str]:
    """The environment without what would change a command's behaviour."""
    kept = {k: v for k, v in os.environ.items() if not k.startswith(("III_", "NO_COLOR", "FORCE_"))}
    return kept | more


def _take_interrupts() -> None:
    """As a terminal would start it; what runs the tests in the background ignores interrupts."""
    signal.signal(signal.SIGINT, signal.SIG_DFL)


class Program:
    """A running process whose standard error is read line by line."""

    def __init__(self, *args: str, env: Mapping[str, str] | None = None) -> None:
        self.process = subprocess.Popen(
            [COMMAND, *args],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            env=dict(env or environment()),
            text=True,
            preexec_fn=_take_interrupts,  # noqa: PLW1509 (no thread runs here)
        )

    @property
    def output(self) -> IO[str]:
        assert self.process.stdout is not None
        return self.process.stdout

    @property
    def errors(self) -> IO[str]:
        assert self.process.stderr is not None
        return self.process.stderr

    def error_line(self, containing: str) -> str:
        """The next line of standard error with a text in it; fails when the process ends first."""
        said = []
        for line in self.errors:
            if containing in line:
                return line
            said.append(line)
        raise AssertionError(f"ended without saying {containing!r}:\n{''.join(said)}")

    def stop(self) -> int:
        """SIGTERM, and the exit code."""
        self.process.terminate()
        return self.finish()

    def finish(self) -> int:
        """Wait for the end by itself, and the exit code."""
        code = self.process.wait(DEADLINE_S)
        self.output.close()
        self.errors.close()
        return code


@contextmanager
def program(*args: str, env: Mapping[str, str] | None = None) -> Iterator[Program]:
    """A process that is gone when the context is left."""
    running = Program(*args, env=env)
    try:
        yield running
    finally:
        if running.process.returncode is None:
            running.process.kill()
            running.finish()


@contextmanager
def server(*args: str, env: Mapping[str, str] | None = None) -> Iterator[tuple[Program, str]]:
    """A server on a free port, and its address."""
    flags = ("serve", "--port", "0", "--log-format", "json", *args)
    with program(*flags, env=env) as running:
        facts: dict[str, Any] = json.loads(running.error_line("listening"))
        yield running, facts["address"]
