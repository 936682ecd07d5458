"""What the figures depend on: machine, disk, versions, commit."""

from __future__ import annotations

import os
import platform
import subprocess
import sys
import time
from datetime import UTC, datetime
from importlib import metadata
from pathlib import Path

PROJECT = Path(__file__).resolve().parent.parent
SYNCS = 300
LIBRARIES = ("picows", "msgspec", "uvloop")
BUSY_LOAD = 0.5


def facts(directory: Path) -> dict[str, str]:
    """Names and values to print beside the figures; `directory` is where the data lies."""
    return {
        "date": datetime.now(UTC).strftime("%Y-%m-%d %H:%M UTC"),
        "commit": commit(),
        "machine": f"{processor()}, {os.cpu_count()} cores, {memory_gib():.0f} GiB",
        "system": f"{distribution()}, Linux {platform.release()}",
        "disk": f"{filesystem(directory)}; {sync_times(directory)}",
        "load before": f"{os.getloadavg()[0]:.2f}" + (" (busy)" if is_busy() else ""),
        "iii-state": versions(),
        "redis": first_line(["redis-server", "--version"]),
        "load generators": f"wsload ({first_line(['gcc', '--version'])} -O2), "
        + first_line(["redis-benchmark", "--version"]),
    }


def is_busy() -> bool:
    """Whether other work was going on in the last minute."""
    return os.getloadavg()[0] > BUSY_LOAD


def busy_seconds() -> float:
    """Processor seconds so far, on all cores, of everything that ran."""
    user, nice, system, _idle, _wait, *interrupts = map(
        int, Path("/proc/stat").read_text().partition("\n")[0].split()[1:9]
    )
    return (user + nice + system + sum(interrupts)) / os.sysconf("SC_CLK_TCK")


def commit() -> str:
    """The commit measured, and whether the program differs from it."""
    name = first_line(["git", "-C", str(PROJECT), "rev-parse", "--short=12", "HEAD"])
    changed = first_line(["git", "-C", str(PROJECT), "status", "--porcelain", "--", "src"])
    return f"{name} with local changes" if changed else name


def versions() -> str:
    """This program's version and those of the libraries on its fast path."""
    found = [f"{metadata.version('iii-state')}, Python {platform.python_version()}"]
    for name in LIBRARIES:
        try:
            found.append(f"{name} {metadata.version(name)}")
        except metadata.PackageNotFoundError:
            continue
    return ", ".join(found)


def processor() -> str:
    """The processor's own name for itself."""
    for line in Path("/proc/cpuinfo").read_text().splitlines():
        if line.startswith("model name"):
            return line.partition(":")[2].strip()
    return platform.machine()


def memory_gib() -> float:
    """Physical memory."""
    return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30


def distribution() -> str:
    """The system's name."""
    try:
        return platform.freedesktop_os_release()["PRETTY_NAME"]
    except (OSError, KeyError):
        return sys.platform


def filesystem(directory: Path) -> str:
    """Type and device of the file system that holds `directory`."""
    number = directory.stat().st_dev
    device = f"{os.major(number)}:{os.minor(number)}"
    for line in Path("/proc/self/mountinfo").read_text().splitlines():
        fields = line.split()
        if fields[2] == device:
            after = fields[fields.index("-") + 1 :]
            return f"{after[0]} on {after[1]}"
    return "unknown file system"


def sync_times(directory: Path) -> str:
    """What one small durable write costs here: overwrite 256 bytes in place, then fdatasync."""
    path = directory / "sync-probe"
    path.write_bytes(bytes(256 * SYNCS))
    times = []
    with path.open("r+b", buffering=0) as file:
        os.fsync(file)
        for i in range(SYNCS):
            began = time.perf_counter()
            os.pwrite(file.fileno(), b"x" * 256, i * 256)
            os.fdatasync(file)
            times.append((time.perf_counter() - began) * 1e6)
    path.unlink()
    times.sort()
    p50, p99 = times[SYNCS // 2], times[SYNCS * 99 // 100]
    return f"256 B + fdatasync {p50:.0f} us (p99 {p99:.0f})"


def first_line(command: list[str]) -> str:
    """The first line that a command prints; nothing when it fails."""
    try:
        done = subprocess.run(command, capture_output=True, text=True, check=False)
    except OSError:
        return ""
    return done.stdout.partition("\n")[0].strip()
