"""Log lines of workers, and the baggage of a call."""

from __future__ import annotations

import logging
from typing import Any

import pytest
from engine_bench import running_engine


@pytest.mark.parametrize(
    ("name", "level"), [("trace", 5), ("debug", 10), ("info", 20), ("warn", 30), ("error", 40)]
)
async def test_a_line_reaches_the_log(
    caplog: pytest.LogCaptureFixture, name: str, level: int
) -> None:
    caplog.set_level(1, "iii_state.workers")
    async with running_engine() as bench:
        client = bench.client("w")
        line = {"message": "100% {done}", "data": {"a": [1]}, "service_name": "svc"}
        answer = client.answer_to(client.call(f"engine::log::{name}", line))
    assert "result" not in answer
    assert "error" not in answer
    [record] = [r for r in caplog.records if r.name == "iii_state.workers"]
    assert (record.levelno, record.getMessage()) == (level, "100% {done}")
    told = vars(record)
    assert (told["worker"], told["service"], told["data"]) == ("w", "svc", {"a": [1]})
    assert "trace_id" not in told


@pytest.mark.parametrize("data", [None, {}, {"message": 5}])
async def test_a_line_needs_a_message(data: Any) -> None:
    async with running_engine() as bench:
        assert bench.client("w").error("engine::log::info", data) == "deserialization_error"


async def test_the_engine_too_may_log(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, "iii_state.workers")
    async with running_engine() as bench:
        bench.engine.invoke("default", "engine::log::info", b'{"message":"m"}', lambda *_: None)
    assert [r.getMessage() for r in caplog.records if r.name == "iii_state.workers"] == ["m"]


async def test_the_baggage_of_a_call() -> None:
    async with running_engine() as bench:
        client = bench.client("w")
        baggage = "a=1, b = 2;property=x ,c=%C3%A4,broken"
        told = client.ask("engine::baggage::get_all", {}, baggage=baggage)
        assert told == {"baggage": {"a": "1", "b": "2", "c": "ä"}}
        assert client.ask("engine::baggage::get", {"key": "a"}, baggage=baggage) == {"value": "1"}
        assert client.ask("engine::baggage::get", {"key": "x"}, baggage=baggage) == {"value": None}
        assert client.ask("engine::baggage::get", {"key": "a"}) == {"value": None}
        assert client.error("engine::baggage::get", {}) == "deserialization_error"


async def test_setting_baggage_has_no_effect() -> None:
    async with running_engine() as bench:
        client = bench.client("w")
        told = client.ask("engine::baggage::set", {"key": "a", "value": "1"})
        assert told["success"] is True
        assert isinstance(told["note"], str)
        assert client.ask("engine::baggage::get_all", {}) == {"baggage": {}}
