"""Starts, watches and stops the measured servers, each on a free loopback port."""

from __future__ import annotations

import json
import os
import shutil
import socket
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from types import TracebackType

from websockets.exceptions import InvalidHandshake
from websockets.sync.client import connect

from benchmarks.rows import BIG_SCOPE, LONG_KEY_DIGITS, LONG_KEY_PREFIX, Target

FIRST_KEY = {"scope": BIG_SCOPE, "key": LONG_KEY_PREFIX + "0" * LONG_KEY_DIGITS}
START_TIMEOUT_S = 60.0
STOP_TIMEOUT_S = 30.0
TICKS_PER_SECOND = os.sysconf("SC_CLK_TCK")


class ServerError(Exception):
    """A measured server did not start, or did not stay."""


class Server:
    """One measured server, with its data in a directory of its own under `parent`.

    `program` is the iii-state to start when the target is one; `cores` are the processors it may
    use. Use it as a context manager: leaving stops it and removes its data.
    """

    def __init__(self, target: Target, program: Path, parent: Path, cores: frozenset[int]) -> None:
        self.target = target
        self.port = free_port()
        self.filled = False
        self._program = program
        self._directory = parent / target.name.replace(" ", "-").replace(",", "")
        self._data = self._directory / "data"
        self._cores = cores
        self._process: subprocess.Popen[bytes] | None = None

    def __enter__(self) -> Server:
        self._data.mkdir(parents=True)
        self.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.stop()
        shutil.rmtree(self._directory, ignore_errors=True)

    @property
    def pid(self) -> int:
        """The server's process.

        Raises:
            ServerError: It is not running.
        """
        if self._process is None or self._process.poll() is not None:
            raise ServerError(f"{self.target.name} is not running; its log ends:\n{self._log()}")
        return self._process.pid

    def start(self) -> float:
        """Start it and return the seconds until it answered a request."""
        environment = os.environ | dict(self.target.environment)
        began = time.perf_counter()
        with (self._directory / "log").open("ab") as log:
            self._process = subprocess.Popen(
                self._command(), env=environment, stdout=log, stderr=log, cwd=self._directory
            )
        os.sched_setaffinity(self._process.pid, self._cores)
        answers = self._state_answers if self.target.kind == "state" else self._redis_answers
        while not answers():
            if time.perf_counter() - began > START_TIMEOUT_S:
                raise ServerError(f"{self.target.name} did not answer:\n{self._log()}")
            _ = self.pid
            time.sleep(0.002)
        return time.perf_counter() - began

    def stop(self) -> None:
        """Stop it as a service manager would: SIGTERM, and SIGKILL for one that does not go."""
        if self._process is None:
            return
        self._process.terminate()
        try:
            self._process.wait(STOP_TIMEOUT_S)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        self._process = None

    def renew(self) -> None:
        """Stop it, remove its data, and start it with none."""
        self.stop()
        shutil.rmtree(self._data)
        self._data.mkdir()
        self.start()

    def remove_trigger(self, name: str) -> None:
        """Remove a durable trigger, with what it has not delivered.

        Raises:
            ServerError: It could not be.
        """
        command = [str(self._program), "triggers", "rm", name]
        command += ["--url", f"ws://127.0.0.1:{self.port}"]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        if done.returncode:
            raise ServerError(f"{self.target.name}: {name} cannot be removed: {done.stderr}")

    def memory_mb(self) -> float:
        """Resident memory of the server and its children; a page that n share counts 1/n each."""
        return sum(proportional_bytes(pid) for pid in self._tree()) / 1e6

    def cpu_seconds(self) -> tuple[float, float]:
        """Processor time so far of the server, and of its living and ended children."""
        fields = stat_fields(self.pid)
        living = sum(sum(stat_fields(pid)[11:13]) for pid in self._tree()[1:])
        own, ended = sum(fields[11:13]), sum(fields[13:15])
        return own / TICKS_PER_SECOND, (living + ended) / TICKS_PER_SECOND

    def disk_mb(self) -> float:
        """Space that its data takes on disk."""
        files = (path for path in self._data.rglob("*") if path.is_file())
        return sum(allocated_bytes(path) for path in files) / 1e6

    def _command(self) -> list[str]:
        port, flags, data = str(self.port), self.target.flags, str(self._data)
        if self.target.kind == "redis":
            log = ["--appendonly", "yes", "--auto-aof-rewrite-percentage", "0", "--save", ""]
            place = ["--bind", "127.0.0.1", "--port", port, "--dir", data]
            return ["redis-server", *place, *log, *flags]
        return [str(self._program), "serve", "--port", port, "--data-dir", data, *flags]

    def _state_answers(self) -> bool:
        call = {"type": "invokefunction", "invocation_id": "ready", "function_id": "state::get"}
        try:
            with connect(f"ws://127.0.0.1:{self.port}", compression=None, proxy=None) as socket_:
                socket_.send(json.dumps(call | {"data": FIRST_KEY}))
                while True:
                    reply = json.loads(socket_.recv(START_TIMEOUT_S))
                    if reply.get("invocation_id") == "ready":
                        return not self.filled or "result" in reply
        except (OSError, TimeoutError, InvalidHandshake):
            return False

    def _redis_answers(self) -> bool:
        try:
            with socket.create_connection(("127.0.0.1", self.port), 1) as connection:
                connection.sendall(b"PING\r\n")
                return connection.recv(64) == b"+PONG\r\n"
        except OSError:
            return False

    def _tree(self) -> list[int]:
        pids = [self.pid]
        for pid in pids:
            with suppress(OSError):
                children = Path(f"/proc/{pid}/task/{pid}/children").read_text()
                pids.extend(int(child) for child in children.split())
        return pids

    def _log(self) -> str:
        return (self._directory / "log").read_text(errors="replace")[-2000:]


def free_port() -> int:
    """A loopback port that nobody listens on now."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def stat_fields(pid: int) -> list[int]:
    """The numbers of `/proc/PID/stat` from the parent's id on, which has index 1; [] if gone."""
    try:
        text = Path(f"/proc/{pid}/stat").read_text()
    except OSError:
        return []
    return [0, *map(int, text.rpartition(")")[2].split()[1:])]


def proportional_bytes(pid: int) -> int:
    """The process's resident bytes, shared pages divided by those who share them; 0 if gone."""
    try:
        lines = Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines()
    except OSError:
        return 0
    return sum(int(line.split()[1]) * 1024 for line in lines if line.startswith("Pss:"))


def allocated_bytes(path: Path) -> int:
    """The file's blocks on disk; 0 for one that was removed meanwhile."""
    try:
        return path.stat().st_blocks * 512
    except OSError:
        return 0


@contextmanager
def peak(figure: Callable[[], float], interval_s: float = 0.25) -> Iterator[list[float]]:
    """Sample `figure` on a thread; the list holds its largest value when the block ends."""
    largest = [0.0]
    done = threading.Event()

    def sample() -> None:
        while True:
            largest[0] = max(largest[0], figure())
            if done.wait(interval_s):
                return

    thread = threading.Thread(target=sample)
    thread.start()
    try:
        yield largest
    finally:
        done.set()
        thread.join()
