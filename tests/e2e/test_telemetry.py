"""The telemetry socket, which SDKs open by default."""

from __future__ import annotations

from e2e.proxies import RecordingProxy
from e2e.sdks import Sdk
from e2e.servers import Server
from e2e.workers import Starter

PREFIXES = (b"OTLP", b"LOGS", b"MTRC")


def test_telemetry_is_taken_without_complaints(
    sdk: Sdk, recording_proxy: RecordingProxy, start_worker: Starter, scope: str
) -> None:
    worker = start_worker(sdk, recording_proxy.address)
    worker.serve(f"{scope}::echo", "echo")
    worker.call(f"{scope}::echo", 1)
    telemetry = recording_proxy.conversation("/otel")
    worker.shut_down()

    for who, message in telemetry.messages:
        assert who == "W"
        assert isinstance(message, bytes)
        assert message[:4] in PREFIXES
    for word in ("refused", "404", "Traceback", "failed"):
        assert word not in worker.log()


def test_telemetry_sockets_are_not_workers(server: Server, sdk: Sdk, start_worker: Starter) -> None:
    worker = start_worker(sdk, server.address, worker_name=f"telemetry-{sdk}")
    worker.serve(f"telemetry::{sdk}")

    listed = worker.call("engine::workers::list", {"search": f"telemetry-{sdk}"})["workers"]

    assert len(listed) == 1
