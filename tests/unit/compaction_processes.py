"""The processes of compaction that a server has, and jobs that do not come to an end.

A hint that is a named pipe holds up whoever reads it, until somebody opens it to write: by that a
test knows that a job is going on, and that it does not end by itself.
"""

from __future__ import annotations

import os
import select
from contextlib import suppress
from pathlib import Path

from iii_state.stores.disk.hints import HINT_SUFFIX

DEADLINE_S = 20


def processes(server: int | str = "self") -> set[int]:
    """The processes of compaction that a server has, alive or not waited for."""
    found = set()
    for children in Path(f"/proc/{server}/task").glob("*/children"):
        with suppress(FileNotFoundError, ProcessLookupError):  # a thread or process ends meanwhile
            for pid in children.read_text().split():
                command = Path(f"/proc/{pid}/cmdline").read_bytes()
                if not command or b"iii_state.stores.disk" in command:
                    found.add(int(pid))
    return found


def process(server: int | str = "self") -> int:
    """The one that it has."""
    (pid,) = processes(server)
    return pid


def niceness(pid: int) -> int:
    """That of a process; 0 is this one."""
    return os.getpriority(os.PRIO_PROCESS, pid)


def await_end(pidfd: int) -> None:
    """Wait for the end of a process."""
    ended, _, _ = select.select([pidfd], [], [], DEADLINE_S)
    os.close(pidfd)
    assert ended


def hold_up(directory: Path) -> list[Path]:
    """Make pipes of all hints, and return them in the order of their segments."""
    pipes = sorted(directory.glob(f"*{HINT_SUFFIX}"))
    for pipe in pipes:
        pipe.unlink()
        os.mkfifo(pipe)
    return pipes


def await_reader(pipe: Path) -> None:
    """Wait until a job reads a hint, and let it go on to the next one."""
    os.close(os.open(pipe, os.O_WRONLY))


def let_pass(pipes: list[Path]) -> None:
    """Let the next jobs do without hints."""
    for pipe in pipes:
        pipe.unlink()
