"""A server that wants a token."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from e2e.sdks import Sdk
from e2e.servers import Server
from e2e.workers import CallError, Starter


@pytest.fixture
def guarded(tmp_path: Path) -> Iterator[Server]:
    """A server whose token is `open-sesame`."""
    (tmp_path / "token").write_text("open-sesame\n")
    with Server(tmp_path / "data", "--token-file", str(tmp_path / "token")) as started:
        yield started


def test_only_a_worker_with_the_token_is_served(
    sdk: Sdk, guarded: Server, start_worker: Starter, scope: str
) -> None:
    stranger = start_worker(sdk, guarded.address, worker_name="stranger")
    headers = {"Authorization": "Bearer open-sesame"}
    friend = start_worker(sdk, guarded.address, worker_name="friend", headers=headers)

    friend.call("state::set", {"scope": scope, "key": "k", "value": 1})
    friend.serve(f"{scope}::echo", "echo")

    workers = friend.call("engine::workers::list", {"runtime": sdk.runtime})["workers"]
    assert [worker["name"] for worker in workers] == ["friend"]
    with pytest.raises(CallError) as failed:
        stranger.call("state::get", {"scope": scope, "key": "k"}, timeout_ms=500)
    assert failed.value.code == "TIMEOUT"
    # Old SDKs do not end themselves while they try to connect again and again.
    stranger.kill()
