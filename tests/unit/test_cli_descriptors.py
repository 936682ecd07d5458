"""File descriptors: the limit is raised as far as it goes, and connections fit into it."""

from __future__ import annotations

import subprocess
import sys

import pytest


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
