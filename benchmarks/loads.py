"""Runs the load generators: wsload for this server, redis-benchmark for Redis."""

from __future__ import annotations

import csv
import json
import os
import subprocess
import time
from collections.abc import Callable
from pathlib import Path

import msgspec

from benchmarks.machine import busy_seconds
from benchmarks.rows import (
    BIG_SCOPE,
    LONG_KEY_DIGITS,
    LONG_KEY_PREFIX,
    CatchUp,
    Load,
    Rest,
    Run,
    Start,
)
from benchmarks.samples import Sample
from benchmarks.servers import Server, peak

WSLOAD = Path(__file__).with_name("wsload")
LONG_KEYS = ("--key-prefix", LONG_KEY_PREFIX, "--key-width", str(LONG_KEY_DIGITS))
MIXES = {"set": "100/0/0", "get": "0/100/0", "update": "0/0/100", "mix": "50/40/10"}
FILL_VALUE_BYTES = 200
FILL_SHAPE = ("-c", "8", "-d", "64")
REST_S = 2.0
REDIS_DISK_MB_MAX = 2000.0
"""Redis starts anew past this, since its file is not rewritten while it is measured."""


class LoadError(Exception):
    """A load generator did not do its work."""


class Generator:
    """Measures runs: loads come from the processors `cores` and last `seconds` after `warmup`."""

    def __init__(self, cores: frozenset[int], seconds: float, warmup: float) -> None:
        self._cores = cores
        self._seconds = seconds
        self._warmup = warmup
        self._rates: dict[Run, float] = {}
        self._written: set[tuple[int, str, int]] = set()

    def measure(self, server: Server, run: Run) -> Sample:
        """Do the run once.

        Raises:
            LoadError: The generator failed, or could not fill the server.
            ServerError: The server went away.
        """
        self._fill(server)
        if server.target.kind == "redis" and server.disk_mb() > REDIS_DISK_MB_MAX:
            server.renew()
            self._written = {what for what in self._written if what[0] != server.port}
        os.sync()  # a run must not pay for what an earlier one left unwritten
        began, before = time.perf_counter(), self._cpu_of_others(server)
        sample = self._sample(server, run)
        elapsed = time.perf_counter() - began
        others = (self._cpu_of_others(server) - before) / elapsed
        return msgspec.structs.replace(sample, other_cpu=others)

    def _sample(self, server: Server, run: Run) -> Sample:
        match run.action:
            case Start():
                server.stop()
                return Sample(seconds=server.start())
            case Rest():
                with peak(server.memory_mb) as memory:
                    time.sleep(REST_S)
                return Sample(memory_mb=memory[0], disk_mb=server.disk_mb())
            case CatchUp() as behind:
                self._fall_behind(server, behind)
                return self._with_cpu(server, lambda: self._catch_up(server, behind))
            case Load() as load:
                if load.operation != "set":
                    self._write_keys(server, load)
                sample = self._with_cpu(server, lambda: self._put(server, run, load))
                if load.durable:  # the next run must not begin with what this one left undelivered
                    server.remove_trigger(load.durable)
                return sample

    @staticmethod
    def _cpu_of_others(server: Server) -> float:
        """Processor seconds so far of all that is neither the server nor the load."""
        return busy_seconds() - sum(os.times()[:4]) - sum(server.cpu_seconds())

    def _put(self, server: Server, run: Run, load: Load) -> Sample:
        if server.target.kind == "redis":
            return self._redis(server, run, load)
        if not server.target.fill:
            return self._state(server, load)
        with peak(server.memory_mb) as memory:
            sample = self._state(server, load)
        watched = {"memory_mb": memory[0], "disk_mb": server.disk_mb()}
        return msgspec.structs.replace(sample, **watched)

    @staticmethod
    def _with_cpu(server: Server, measure: Callable[[], Sample]) -> Sample:
        """The sample, with what the server and its children used meanwhile."""
        own, helpers = server.cpu_seconds()
        began = time.perf_counter()
        sample = measure()
        elapsed = time.perf_counter() - began
        own_after, helpers_after = server.cpu_seconds()
        return msgspec.structs.replace(
            sample,
            server_cpu=(own_after - own) / elapsed,
            helper_cpu=(helpers_after - helpers) / elapsed,
        )

    def _state(self, server: Server, load: Load) -> Sample:
        shape = ["-c", str(load.connections), "-d", str(load.depth)]
        times = ["-t", str(load.seconds or self._seconds), "-w", str(self._warmup)]
        data = ["-m", MIXES[load.operation], "-v", str(load.value_bytes), "-k", str(load.keys)]
        keys = ["--scope", load.scope, *(LONG_KEYS if load.long_keys else ())]
        if load.rate:
            shape += ["--rate", str(load.rate)]
        handler = ["--handler", "--triggers", str(load.triggers)] if load.handler else []
        if load.durable:
            handler += ["--durable", load.durable]
        if load.others:
            handler += ["--triggers", "0", "--others", str(load.others)]
        if load.with_revision:
            data.append("--with-revision")
        told = self._wsload(server, [*shape, *times, *data, *keys, *handler])
        return Sample(
            rate=told["rps"],
            p50=told["p50"],
            p99=told["p99"],
            p999=told["p999"],
            worst=told["max"],
            errors=int(told["errs"]),
            client_cpu=told["ccpu"],
            event_rate=told.get("events_per_s", 0.0),
            lag_p50=told.get("lag_p50", 0.0),
            lag_p99=told.get("lag_p99", 0.0),
            lag_worst=told.get("lag_max", 0.0),
        )

    def _fall_behind(self, server: Server, behind: CatchUp) -> None:
        """Bind the trigger and leave, then write what its handler is not there for."""
        self._wsload(server, [*durable_handler(behind), "-t", "0.01", "-w", "0"])
        writes = ["--load", str(behind.changes), "-k", str(behind.keys), "--scope", behind.scope]
        told = self._wsload(server, [*FILL_SHAPE, *writes])
        if told["errs"]:
            raise LoadError(f"writing what is to be caught up: {told['errs']:.0f} errors")

    def _catch_up(self, server: Server, behind: CatchUp) -> Sample:
        """Come back; a change that is missing, or comes twice, makes it fail or count errors."""
        told = self._wsload(server, [*durable_handler(behind), "--catch-up", str(behind.changes)])
        return Sample(
            event_rate=told["events_per_s"], errors=int(told["errs"]), client_cpu=told["ccpu"]
        )

    def _redis(self, server: Server, run: Run, load: Load) -> Sample:
        """The first round also finds how many requests fill the time; each warms up first."""
        rate = self._rates.get(run)
        if rate is None:
            requests = 2 * load.connections * load.depth
            while (sample := self._redis_benchmark(server, load, requests))[1] < self._warmup:
                requests *= 3
            rate = sample[0].rate
        else:
            self._redis_benchmark(server, load, int(rate * self._warmup))
        sample = self._redis_benchmark(server, load, int(rate * self._seconds))
        self._rates[run] = sample[0].rate
        return sample[0]

    def _redis_benchmark(self, server: Server, load: Load, requests: int) -> tuple[Sample, float]:
        """What it measured, and how many seconds it ran."""
        shape = ["-c", str(load.connections), "-P", str(load.depth), "-n", str(requests)]
        data = ["-t", load.operation, "-d", str(load.value_bytes), "-r", str(load.keys)]
        port = ["redis-benchmark", "-p", str(server.port), "--csv"]
        output, elapsed, cpu = self._run([*port, *shape, *data])
        told = next(csv.DictReader(output.splitlines()))
        times = {name: float(told[f"{name}_latency_ms"]) * 1000 for name in ("p50", "p99", "max")}
        sample = Sample(
            rate=float(told["rps"]),
            p50=times["p50"],
            p99=times["p99"],
            worst=times["max"],
            client_cpu=cpu / elapsed,
        )
        return sample, elapsed

    def _fill(self, server: Server) -> None:
        """Write, once, the keys that the server's target asks for, in order."""
        if not server.target.fill or server.filled:
            return
        what = ["--load", str(server.target.fill), "-v", str(FILL_VALUE_BYTES)]
        told = self._wsload(server, [*FILL_SHAPE, *what, "--scope", BIG_SCOPE, *LONG_KEYS])
        if told["errs"]:
            raise LoadError(f"filling {server.target.name}: {told['errs']:.0f} errors")
        server.filled = True

    def _write_keys(self, server: Server, load: Load) -> None:
        """Write, once, every key that a reading load may ask for."""
        what = (server.port, load.scope, load.value_bytes)
        if what in self._written or (server.target.fill and load.scope == BIG_SCOPE):
            return
        self._written.add(what)
        if server.target.kind == "redis":
            writes = msgspec.structs.replace(load, operation="set", connections=8, depth=16)
            self._redis_benchmark(server, writes, 10 * load.keys)  # misses 1 key in 20,000
            return
        options = ["--load", str(load.keys), "-v", str(load.value_bytes), "--scope", load.scope]
        self._wsload(server, [*FILL_SHAPE, *options])

    def _wsload(self, server: Server, options: list[str]) -> dict[str, float]:
        output, _, _ = self._run([str(WSLOAD), "-p", str(server.port), *options])
        told: dict[str, float] = json.loads(output)
        return told

    def _run(self, command: list[str]) -> tuple[str, float, float]:
        """Output, seconds and processor seconds of a command on the load's processors."""
        pin = ["taskset", "-c", ",".join(map(str, sorted(self._cores)))]
        began = time.perf_counter()
        before = os.times()
        done = subprocess.run([*pin, *command], capture_output=True, text=True, check=False)
        after = os.times()
        elapsed = time.perf_counter() - began
        if done.returncode:
            raise LoadError(f"{' '.join(command)}: exit {done.returncode}: {done.stderr[-1000:]}")
        cpu = after.children_user + after.children_system
        return done.stdout, elapsed, cpu - before.children_user - before.children_system


def durable_handler(behind: CatchUp) -> list[str]:
    """Flags of a handler that brings no load and keeps its place."""
    return ["--handler", "--durable", behind.scope, "--scope", behind.scope, "-c", "0"]
