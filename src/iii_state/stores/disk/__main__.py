"""The process that performs compaction jobs: `python -m iii_state.stores.disk FD PID`.

Started by the server (`compactor.py`), which gives it a low priority; `FD` is the open directory,
`PID` the server. Each line of standard input is a job as JSON, and gets its answer as a line of
standard output. It ends at once when its standard input or the server does, so that it never
outlives the server.
"""

from __future__ import annotations

import os
import select
import sys
import threading
from contextlib import suppress
from pathlib import Path
from queue import SimpleQueue
from typing import NoReturn

import msgspec

from iii_state.errors import StateError
from iii_state.stores.disk.compaction import Answer, Job, perform
from iii_state.stores.disk.files import Files


def main(arguments: list[str]) -> NoReturn:
    """Perform one job after the other. A fault of our own ends the process with a traceback."""
    directory, server = map(int, arguments)
    lines: SimpleQueue[bytes] = SimpleQueue()
    threading.Thread(target=_read, args=(lines, server), daemon=True).start()
    files = Files()
    while True:
        job = msgspec.json.decode(lines.get(), type=Job)
        files.take_over(Path(job.directory), directory)
        sys.stdout.buffer.write(msgspec.json.encode(_answer(job, files)) + b"\n")
        sys.stdout.buffer.flush()


def _answer(job: Job, files: Files) -> Answer:
    try:
        perform(job, files)
    except OSError as error:
        return Answer("failed", str(error))
    except StateError as error:
        return Answer("damaged", error.message)
    return Answer("done")


def _read(lines: SimpleQueue[bytes], server: int) -> None:
    """Read jobs, also during one, so that the end of the input or of the server is seen then."""
    ends = select.poll()
    ends.register(0, select.POLLIN)
    # A process that the server forked has the input open as well, and may stay for long.
    with suppress(OSError):  # not this system
        ends.register(_watch(server), select.POLLIN)
    # Not through `sys.stdin`: its lock would be held when the interpreter ends.
    rest = b""
    while all(fd == 0 for fd, _ in ends.poll()) and (data := os.read(0, 1 << 16)):
        *whole, rest = (rest + data).split(b"\n")
        for line in whole:
            lines.put(line)
    os._exit(1)


def _watch(server: int) -> int:
    """A descriptor that can be read once the server has ended."""
    try:
        return os.pidfd_open(server)
    except ProcessLookupError:
        os._exit(1)


if __name__ == "__main__":
    main(sys.argv[1:])
