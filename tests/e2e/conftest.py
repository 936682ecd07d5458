"""One server and one worker for each SDK serve most tests; names keep these apart."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest

from e2e.choices import parameters
from e2e.proxies import CuttingProxy, RecordingProxy
from e2e.sdks import NEWEST_NODE, NEWEST_PYTHON, SDKS, Sdk
from e2e.servers import Server
from e2e.workers import Starter, Worker


@pytest.fixture(scope="session")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """A server that stays for all tests."""
    with Server(tmp_path_factory.mktemp("data")) as started:
        yield started
        started.stop()
        assert started.complaints() == []


@pytest.fixture(scope="session", params=parameters(SDKS))
def sdk(request: pytest.FixtureRequest) -> Sdk:
    """Each SDK package in turn."""
    chosen = request.param
    assert isinstance(chosen, Sdk)
    assert (chosen.directory / ".installed").exists(), "run `make sdks` (or `make e2e-all`) first"
    return chosen


@pytest.fixture(scope="session")
def worker(server: Server, sdk: Sdk, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Worker]:
    """A worker of the SDK in turn."""
    with Worker(sdk, server.address, tmp_path_factory.mktemp("worker")) as started:
        yield started


@pytest.fixture(scope="session")
def newest(server: Server, tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, Worker]]:
    """One worker of the newest SDK for each runtime, by runtime."""
    with ExitStack() as stack:
        workers = {}
        for sdk in (NEWEST_PYTHON, NEWEST_NODE):
            directory, name = tmp_path_factory.mktemp("other"), f"other-{sdk}"
            other = Worker(sdk, server.address, directory, worker_name=name)
            workers[sdk.runtime] = stack.enter_context(other)
        yield workers


@pytest.fixture
def other(sdk: Sdk, newest: dict[str, Worker]) -> Worker:
    """A worker of the other runtime: Node for Python, Python for Node."""
    return newest["node" if sdk.runtime == "python" else "python"]


@pytest.fixture
def start_worker(tmp_path: Path) -> Iterator[Starter]:
    """Starts workers that end with the test: `start_worker(sdk, address, **options)`."""
    count = itertools.count()
    with ExitStack() as stack:

        def start(sdk: Sdk, address: str, **options: Any) -> Worker:
            directory = tmp_path / f"worker-{next(count)}"
            return stack.enter_context(Worker(sdk, address, directory, **options))

        yield start


@pytest.fixture
def cutting_proxy(server: Server) -> Iterator[CuttingProxy]:
    """A way to the server for all that is cut at will. Ask for it before `start_worker`."""
    with CuttingProxy(server.address) as proxy:
        yield proxy


@pytest.fixture
def recording_proxy(server: Server) -> Iterator[RecordingProxy]:
    """A way to the server for all that is written down. Ask for it before `start_worker`."""
    with RecordingProxy(server.address) as proxy:
        yield proxy


@pytest.fixture
def own_server(tmp_path: Path) -> Iterator[Server]:
    """A server for this test alone, to be stopped and killed."""
    with Server(tmp_path / "data") as started:
        yield started
    assert started.complaints() == []


@pytest.fixture
def scope() -> str:
    """A name that no other test uses."""
    return f"scope-{uuid4()}"
