"""The process that performs the larger jobs of compaction, as the server sees it.

`__main__.py` is what runs in it. Starting it takes longer than most jobs, so it stays for the next
one. It ends with the server, however that ends.
"""

from __future__ import annotations

import os
import subprocess
import sys
import threading
from contextlib import suppress
from pathlib import Path

import msgspec

from iii_state.errors import StorageError
from iii_state.stores.disk.compaction import Answer, Job
from iii_state.stores.disk.files import Files


class Compactor:
    """Started with the first job, and again with the next one after its end.

    All but `close` wait for the process, so they are called in a thread; one call waits for
    another.
    """

    def __init__(self, directory: Path, files: Files) -> None:
        self._directory = directory
        self._files = files
        self._turn = threading.Lock()
        self._process: subprocess.Popen[bytes] | None = None
        self._niceness = 0
        self._is_closed = False

    def perform(self, job: Job, niceness: int) -> None:
        """Let the process perform a job, with that niceness, or the server's if that is higher.

        Raises:
            OSError: the job failed, or the process ended.
            StorageError: a segment cannot be read.
        """
        with self._turn:
            try:
                answer = self._answer(self._ready(niceness), job)
            except BaseException:
                # What it might still say must not be taken for the next job's answer.
                self._end()
                raise
        if answer.outcome == "damaged":
            raise StorageError(answer.message)
        if answer.outcome == "failed":
            raise OSError(answer.message)

    def end(self) -> None:
        """Let there be no process until the next job."""
        with self._turn:
            self._end()

    def close(self) -> None:
        """Kill the process, also in the middle of a job, and any later one. `end` waits for it."""
        self._is_closed = True
        process = self._process
        if process is not None:
            process.kill()

    def _ready(self, niceness: int) -> subprocess.Popen[bytes]:
        """The process, with that niceness: it can be raised by everybody, lowered only by root."""
        niceness = max(niceness, os.getpriority(os.PRIO_PROCESS, 0))
        process = self._process
        if process is not None and (niceness < self._niceness or process.poll() is not None):
            self._end()
        process = self._process or self._start()
        os.setpriority(os.PRIO_PROCESS, process.pid, niceness)
        self._niceness = niceness
        return process

    def _start(self) -> subprocess.Popen[bytes]:
        directory = self._files.entered(self._directory)
        assert directory is not None, "the store has entered its directory"
        process = self._process = subprocess.Popen(
            [sys.executable, "-m", "iii_state.stores.disk", str(directory), str(os.getpid())],
            pass_fds=[directory],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
        )
        if self._is_closed:  # meanwhile, without having seen it
            process.kill()
        return process

    def _answer(self, process: subprocess.Popen[bytes], job: Job) -> Answer:
        assert process.stdin is not None
        assert process.stdout is not None
        with suppress(BrokenPipeError):  # it ended: its last words are below
            process.stdin.write(msgspec.json.encode(job) + b"\n")
            process.stdin.flush()
        said = []
        for line in process.stdout:
            try:
                return msgspec.json.decode(line, type=Answer)
            except msgspec.DecodeError:
                said.append(line.decode(errors="replace"))
        raise OSError(f"compaction ended with status {process.wait()}: {''.join(said).strip()}")

    def _end(self) -> None:
        process, self._process = self._process, None
        if process is None:
            return
        process.kill()
        assert process.stdin is not None
        assert process.stdout is not None
        with suppress(BrokenPipeError):  # a job that was not taken
            process.stdin.close()
        process.stdout.close()
        process.wait()
