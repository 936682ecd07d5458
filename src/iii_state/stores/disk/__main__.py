"""The process that performs one compaction job: `python -m iii_state.stores.disk JOB FD`.

Started by the server, which gives it a low priority; `JOB` is the job as JSON, `FD` the open
directory. It ends when its standard input does, so that it never outlives the server.
"""

from __future__ import annotations

import os
import sys
import threading
from pathlib import Path

import msgspec

from iii_state.errors import StateError
from iii_state.stores.disk.compaction import DAMAGED, Job, perform
from iii_state.stores.disk.files import Files


def main(arguments: list[str]) -> int:
    """Perform the job. Says what is wrong on standard error.

    Returns 0, 1 when the file system fails, `DAMAGED` when a segment cannot be read.
    """
    threading.Thread(target=_end_with_server, daemon=True).start()
    try:
        job = msgspec.json.decode(arguments[0].encode(), type=Job)
        files = Files()
        files.take_over(Path(job.directory), int(arguments[1]))
        perform(job, files)
    except OSError as error:
        print(error, file=sys.stderr)
        return 1
    except StateError as error:
        print(error.message, file=sys.stderr)
        return DAMAGED
    return 0


def _end_with_server() -> None:
    # Not through `sys.stdin`: its lock would be held when the interpreter ends.
    os.read(0, 1)
    os._exit(1)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
