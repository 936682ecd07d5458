"""The other process of compaction serves one job after the other, and ends with the server."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import msgspec
import pytest
from compaction_processes import (
    await_end,
    await_reader,
    hold_up,
    let_pass,
    niceness,
    process,
    processes,
)

from iii_state.core.commands import Set
from iii_state.errors import StorageError
from iii_state.stores.disk.compaction import Job, perform
from iii_state.stores.disk.compactor import Compactor
from iii_state.stores.disk.files import Files
from iii_state.stores.disk.lock import LOCK
from iii_state.stores.disk.maintenance import NICE, NICE_BEHIND
from iii_state.stores.disk.store import DiskStore
from iii_state.testing.clocks import FakeClock
from iii_state.testing.executors import InlineExecutor

SEGMENTS = [f"{number:010}-{number:010}.seg" for number in (1, 2, 3)]
RUN = SEGMENTS[:2]
MANY = 10_000
"""Segments whose names a pipe does not take at once."""

SERVER = """
import os
import signal
import sys
from pathlib import Path
import msgspec
from iii_state.stores.disk.compaction import Job
from iii_state.stores.disk.compactor import Compactor
from iii_state.stores.disk.files import Files

directory, files = Path(sys.argv[1]), Files()
files.enter(directory, "LOCK")
compactor = Compactor(directory, files)
for line in sys.stdin:
    if line == "fork\\n":
        forked = os.fork()
        if not forked:
            signal.pause()
        print(forked, flush=True)
        continue
    compactor.perform(msgspec.json.decode(line, type=Job), 10)
    print("done", flush=True)
"""


@pytest.fixture
async def directory(tmp_path: Path) -> Path:
    """Some sealed segments with their hints."""
    store = await DiskStore.open(
        tmp_path,
        clock_ms=FakeClock(),
        segment_bytes=16 << 10,
        history_bytes=1 << 30,
        executor=InlineExecutor,
    )
    for n in range(60):
        store.execute(Set("s", f"{n % 7}", b'"%01000d"' % n))
        await store.commit()
    await store.compact()
    await store.close()
    return tmp_path


def hint_job(directory: Path, target: str = SEGMENTS[0], names: int = 0) -> Job:
    """A job that writes a hint; so many names, which it does not need, make it larger."""
    return Job(str(directory), [], SEGMENTS[2:] * names, 0, 0, 0, target, "hint.tmp")


def merge_job(directory: Path, tag: int = 7) -> Job:
    return Job(str(directory), RUN, SEGMENTS[2:], 1 << 40, 0, tag, "merged.tmp", "hint.tmp")


@contextmanager
def compactor_in(directory: Path, kind: type[Compactor] = Compactor) -> Iterator[Compactor]:
    files = Files()
    fd = files.enter(directory, LOCK)
    compactor = kind(directory, files)
    try:
        yield compactor
    finally:
        compactor.close()
        compactor.end()
        files.close(fd)


# -- one process ----------------------------------------------------------------------------------


def test_it_is_started_with_the_first_job_and_performs_the_next_ones(directory: Path) -> None:
    expected = []
    for job in (hint_job(directory), merge_job(directory)):
        perform(job, Files())
        expected.append((directory / "hint.tmp").read_bytes())
    expected.append((directory / "merged.tmp").read_bytes())

    with compactor_in(directory) as compactor:
        assert processes() == set()
        compactor.perform(hint_job(directory), NICE)
        made, pid = [(directory / "hint.tmp").read_bytes()], process()
        for _ in range(3):
            compactor.perform(merge_job(directory), NICE)
        made.append((directory / "hint.tmp").read_bytes())
        made.append((directory / "merged.tmp").read_bytes())
        assert process() == pid

    assert made == expected
    assert processes() == set()


def test_a_job_may_name_many_segments(directory: Path) -> None:
    with compactor_in(directory) as compactor:
        compactor.perform(hint_job(directory, names=MANY), NICE)
        compactor.perform(hint_job(directory), NICE)


def test_a_job_that_fails_says_why_and_leaves_the_process_to_the_next_one(directory: Path) -> None:
    damaged = directory / SEGMENTS[1]
    data = bytearray(damaged.read_bytes())
    data[len(data) // 2] ^= 1
    damaged.write_bytes(data)

    with compactor_in(directory) as compactor:
        with pytest.raises(OSError, match="No such file or directory: 'absent'"):
            compactor.perform(hint_job(directory, "absent"), NICE)
        pid = process()
        with pytest.raises(StorageError, match=f"{damaged} is damaged at offset"):
            compactor.perform(hint_job(directory, damaged.name), NICE)
        compactor.perform(hint_job(directory), NICE)
        assert process() == pid


def test_a_fault_of_our_own_is_told_and_fails_one_job(directory: Path) -> None:
    with compactor_in(directory) as compactor:
        before = len(os.listdir("/dev/fd"))
        with pytest.raises(OSError, match=r"ended with status 1: Traceback(.|\n)*struct\.error"):
            compactor.perform(merge_job(directory, tag=1 << 32), NICE)
        assert processes() == set()
        assert len(os.listdir("/dev/fd")) == before
        compactor.perform(merge_job(directory), NICE)


def test_a_smaller_niceness_needs_another_process_and_a_higher_one_does_not(
    directory: Path,
) -> None:
    with compactor_in(directory) as compactor:
        compactor.perform(hint_job(directory), NICE)
        first = process()
        seen = [niceness(first)]
        compactor.perform(hint_job(directory), NICE_BEHIND)
        second = process()
        seen.append(niceness(second))
        compactor.perform(hint_job(directory), NICE)
        seen.append(niceness(second))

        assert process() == second != first
    assert seen == [NICE, NICE_BEHIND, NICE]


@contextmanager
def server_of(directory: Path, *command: str) -> Iterator[subprocess.Popen[bytes]]:
    """A program that performs the jobs which it reads."""
    with subprocess.Popen(
        [*command, sys.executable, "-c", SERVER, str(directory)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
    ) as server:
        try:
            yield server
        finally:
            server.kill()


def send(server: subprocess.Popen[bytes], job: Job) -> None:
    assert server.stdin is not None
    server.stdin.write(msgspec.json.encode(job) + b"\n")
    server.stdin.flush()


def await_done(server: subprocess.Popen[bytes]) -> None:
    assert server.stdout is not None
    assert server.stdout.readline() == b"done\n"


def test_it_is_never_less_nice_than_the_server(directory: Path) -> None:
    """Only root could have that."""
    with server_of(directory, "nice", "-n", "14") as server:
        send(server, hint_job(directory))
        await_done(server)

        assert niceness(process(server.pid)) == niceness(server.pid) >= 14


# -- its end --------------------------------------------------------------------------------------


def test_it_ends_when_the_server_is_killed(directory: Path) -> None:
    with server_of(directory) as server:
        send(server, hint_job(directory))
        await_done(server)
        pidfd = os.pidfd_open(process(server.pid))

        server.kill()

        await_end(pidfd)


def test_it_ends_when_the_server_is_killed_during_a_job(directory: Path) -> None:
    pipes = hold_up(directory)
    with server_of(directory) as server:
        send(server, merge_job(directory))
        await_reader(pipes[0])
        pidfd = os.pidfd_open(process(server.pid))

        server.kill()

        await_end(pidfd)


def test_it_ends_with_the_server_though_what_that_forked_lives_on(directory: Path) -> None:
    with server_of(directory) as server:
        send(server, hint_job(directory))
        await_done(server)
        pidfd = os.pidfd_open(process(server.pid))
        assert server.stdin is not None
        assert server.stdout is not None
        server.stdin.write(b"fork\n")
        server.stdin.flush()
        forked = int(server.stdout.readline())
        try:
            server.kill()

            await_end(pidfd)
        finally:
            os.kill(forked, signal.SIGKILL)


async def test_one_that_is_killed_fails_only_the_job_it_had(directory: Path) -> None:
    pipes = hold_up(directory)
    with compactor_in(directory) as compactor:
        work = asyncio.create_task(asyncio.to_thread(compactor.perform, merge_job(directory), NICE))
        await asyncio.to_thread(await_reader, pipes[0])
        os.kill(process(), signal.SIGKILL)
        with pytest.raises(OSError, match="compaction ended with status -9"):
            await work
        assert processes() == set()
        let_pass(pipes)

        compactor.perform(merge_job(directory), NICE)


def test_one_that_is_killed_between_jobs_fails_none(directory: Path) -> None:
    with compactor_in(directory) as compactor:
        compactor.perform(hint_job(directory), NICE)
        pidfd = os.pidfd_open(process())
        os.kill(process(), signal.SIGKILL)
        await_end(pidfd)

        compactor.perform(hint_job(directory), NICE)


class ShortLived(Compactor):
    """Its process is killed before it has a job."""

    def _start(self) -> subprocess.Popen[bytes]:
        process = super()._start()
        process.kill()
        os.waitid(os.P_PID, process.pid, os.WEXITED | os.WNOWAIT)
        return process


def test_one_that_is_killed_before_it_has_its_job_fails_it(directory: Path) -> None:
    with (
        compactor_in(directory, ShortLived) as compactor,
        pytest.raises(OSError, match="compaction ended with status -9"),
    ):
        compactor.perform(hint_job(directory), NICE)


def test_none_is_there_after_the_end_until_the_next_job(directory: Path) -> None:
    with compactor_in(directory) as compactor:
        compactor.perform(hint_job(directory), NICE)
        compactor.end()
        assert processes() == set()
        compactor.perform(hint_job(directory), NICE)


@pytest.mark.parametrize("names", [0, MANY])
def test_a_closed_one_performs_nothing(directory: Path, names: int) -> None:
    with compactor_in(directory) as compactor:
        compactor.close()
        with pytest.raises(OSError, match="compaction ended with status -9"):
            compactor.perform(hint_job(directory, names=names), NICE)
        assert processes() == set()
