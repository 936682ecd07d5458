"""File descriptors: each connection and each file of the store takes one."""

from __future__ import annotations

import errno
import os
import resource
from contextlib import ExitStack

from iii_state.errors import TooManyFiles

LEAST = 20
"""Without so many the server cannot start; the event loop alone would fail half-way."""

OWN = 256
"""Kept free for the files of the store, and for what the program opens for itself."""


def make_room(connections: int) -> int:
    """Raise the limit of this process for so many connections; returns how many there is room for.

    The hard limit is the system's, and only raised from outside (`ulimit -Hn`, `LimitNOFILE=`).
    """
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = connections + OWN
    if soft != resource.RLIM_INFINITY and soft < wanted:
        soft = wanted if hard == resource.RLIM_INFINITY else min(wanted, hard)
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
    if soft == resource.RLIM_INFINITY:
        return connections
    return min(connections, max(1, soft - OWN))


def require_descriptors() -> None:
    """Look whether there are descriptors enough to start.

    Raises:
        TooManyFiles: there are not.
    """
    with ExitStack() as opened:
        try:
            for _ in range(LEAST):
                opened.callback(os.close, os.open(os.devnull, os.O_RDONLY))
        except OSError as error:
            if error.errno not in {errno.EMFILE, errno.ENFILE}:
                raise
            raise TooManyFiles(
                "the server cannot start, the process may open no more files: close some, or raise "
                "the limit (`ulimit -n`), and start again"
            ) from error
