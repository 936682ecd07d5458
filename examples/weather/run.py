"""Runs the whole example: a server, a Python worker, a Node worker, and a loader that checks them.

`make example` does it with the SDK packages below `.cache/sdk`. By hand, with `iii-state`,
`iii-sdk` and `vega-datasets` installed for Python and `iii-sdk` for Node in this directory:
`python examples/weather/run.py`.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import subprocess
import sys
import tempfile
import threading
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import IO

from vega_datasets import local_data

HERE = Path(__file__).parent
PROGRAM = Path(sys.executable).parent / "iii-state"


def main() -> int:
    """Run; 0 when the summaries are as the data says."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--python", default=sys.executable, help="a Python that has iii-sdk")
    parser.add_argument("--node-modules", type=Path, help="where Node finds iii-sdk")
    options = parser.parse_args()
    with ExitStack() as stack:
        directory = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        address = stack.enter_context(_server(directory / "data"))
        print(f"server: {address}", flush=True)
        environment = _environment(address)
        node_program = _node_program(directory, options.node_modules)
        for command in ([options.python, str(HERE / "totals.py")], ["node", node_program]):
            stack.enter_context(_worker(command, environment))
        data = local_data.seattle_weather.filepath
        load = [options.python, str(HERE / "load.py"), data]
        return subprocess.run(load, env=environment, check=False).returncode


@contextmanager
def _server(data_dir: Path) -> Iterator[str]:
    """A server on a free port; its address."""
    command = [str(PROGRAM), "serve", "--port", "0", "--data-dir", str(data_dir)]
    command += ["--log-format", "json"]
    with _ended(subprocess.Popen(command, stderr=subprocess.PIPE, text=True)) as process:
        assert process.stderr is not None
        for line in process.stderr:
            record = json.loads(line)
            if record["message"] == "listening":
                yield record["address"]
                break
        else:
            raise SystemExit("the server did not start")


def _environment(address: str) -> dict[str, str]:
    """Where the server is; and no telemetry, as nobody looks at it here."""
    return os.environ | {"III_URL": address, "OTEL_ENABLED": "false"}


@contextmanager
def _worker(command: list[str], environment: dict[str, str]) -> Iterator[None]:
    """A worker that has said that it is ready. What it prints goes on to our output."""
    process = subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, text=True)
    ready = threading.Event()
    reader = threading.Thread(target=_pass_on, args=(process.stdout, ready))
    with _ended(process):
        reader.start()
        if not ready.wait(30) or process.poll() is not None:
            raise SystemExit(f"{command} did not start")
        yield
    reader.join()


def _pass_on(output: IO[str], ready: threading.Event) -> None:
    for line in output:
        print(line, end="", flush=True)
        if line.endswith("ready\n"):
            ready.set()
    ready.set()


@contextmanager
def _ended(process: subprocess.Popen[str]) -> Iterator[subprocess.Popen[str]]:
    """Ends a process in order, whatever happens meanwhile."""
    with process:
        try:
            yield process
        finally:
            process.terminate()


def _node_program(directory: Path, node_modules: Path | None) -> str:
    """Node looks for packages beside the program, so the program goes where they are."""
    if node_modules is None:
        return str(HERE / "summaries.mjs")
    (directory / "node_modules").symlink_to(node_modules.absolute())
    return str(shutil.copy(HERE / "summaries.mjs", directory))


if __name__ == "__main__":
    sys.exit(main())
