"""Keeps running totals of the weather, a year at a time. A worker of the iii Python SDK.

Every day that somebody writes to the scope `weather` calls `totals::on_day`, which adds the day to
the totals of its year: several operations on one value, in one atomic step.
"""

from __future__ import annotations

import os
import signal
from typing import Any

from iii import InitOptions, register_worker

worker = register_worker(
    os.environ.get("III_URL", "ws://127.0.0.1:49134"), InitOptions(worker_name="totals")
)


async def on_day(event: dict[str, Any]) -> None:
    """Add a new day to its year."""
    if event["event_type"] != "state:created":
        return
    day = event["new_value"]
    operations = [
        {"type": "increment", "path": "days", "by": 1},
        {"type": "increment", "path": "rain_tenths_mm", "by": day["rain_tenths_mm"]},
        {"type": "merge", "path": ["latest"], "value": {"date": event["key"]}},
        {"type": "increment", "path": day["weather"], "by": 1},
    ]
    if day["wind_tenths_ms"] >= 80:
        storm = {"date": event["key"], "wind_tenths_ms": day["wind_tenths_ms"]}
        operations.append({"type": "append", "path": "storms", "value": storm})
    address = {"scope": "totals", "key": event["key"][:4]}
    await worker.trigger_async(
        {"function_id": "state::update", "payload": {**address, "ops": operations}}
    )


worker.register_function("totals::on_day", on_day)
worker.register_trigger(
    {"type": "state", "function_id": "totals::on_day", "config": {"scope": "weather"}}
)
# Registrations are not answered, but what comes behind them is.
worker.trigger({"function_id": "state::list_groups", "payload": {}})
print("totals (Python): ready", flush=True)

signal.sigwait({signal.SIGTERM, signal.SIGINT})
worker.shutdown()
