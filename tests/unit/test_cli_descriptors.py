"""File descriptors: the limit is raised as far as it goes, and connections fit into it."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
from programs import COMMAND, environment


def room(soft: int, hard: int, connections: int) -> tuple[int, int]:
    """What `make_room` answers in a process with these limits, and the soft limit after it."""
    program = (
        "import resource\n"
        "from iii_state.cli.descriptors import make_room\n"
        f"resource.setrlimit(resource.RLIMIT_NOFILE, ({soft}, {hard}))\n"
        f"print(make_room({connections}), resource.getrlimit(resource.RLIMIT_NOFILE)[0])\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", program], check=True, capture_output=True, text=True
    )
    taken, limit = done.stdout.split()
    return int(taken), int(limit)


@pytest.mark.parametrize(
    ("soft", "hard", "connections", "expected"),
    [
        (256, 4096, 1024, (1024, 1280)),
        (2048, 4096, 1024, (1024, 2048)),
        (256, 512, 1024, (256, 512)),
        (200, 200, 1024, (1, 200)),
    ],
)
def test_the_limit_is_raised_and_connections_fit_into_it(
    soft: int, hard: int, connections: int, expected: tuple[int, int]
) -> None:
    assert room(soft, hard, connections) == expected


@pytest.mark.parametrize("limit", [9, 12, 16, 20])
def test_a_server_without_descriptors_says_so(tmp_path: Path, limit: int) -> None:
    shell = 'ulimit -n "$2"; exec "$0" serve --port 0 --data-dir "$1"'

    done = subprocess.run(
        ["sh", "-c", shell, COMMAND, str(tmp_path), str(limit)],
        env=environment(),
        check=False,
        capture_output=True,
        text=True,
    )

    assert done.returncode == 1
    assert "Traceback" not in done.stderr
    assert "code: TOO_MANY_FILES" in done.stderr
    assert "raise the limit (`ulimit -n`), and start again" in done.stderr


def test_without_a_descriptor_nothing_listens_and_it_is_said() -> None:
    program = """
import asyncio, resource
from iii_state.clock import wall_clock_ms
from iii_state.host.server import open_server
from iii_state.settings import Settings
from iii_state.stores.memory import MemoryStore

async def main():
    async with open_server(Settings(port=0), MemoryStore(wall_clock_ms)):
        pass  # all is imported now
    with open("/dev/null") as file:
        resource.setrlimit(resource.RLIMIT_NOFILE, (file.fileno(), file.fileno()))
    try:
        async with open_server(Settings(port=0), MemoryStore(wall_clock_ms)):
            print("listens")
    except OSError as error:
        print(error)

asyncio.run(main())
"""

    done = subprocess.run(
        [sys.executable, "-c", program], check=True, capture_output=True, text=True
    )

    assert "a file descriptor" in done.stdout
