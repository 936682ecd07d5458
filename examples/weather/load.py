"""Writes four years of weather into state, waits for the summaries, compares them with the data.

`python load.py seattle-weather.csv`, with the workers `totals.py` and `summaries.mjs` running.
"""

from __future__ import annotations

import csv
import os
import queue
import sys
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from iii import InitOptions, register_worker

worker = register_worker(
    os.environ.get("III_URL", "ws://127.0.0.1:49134"), InitOptions(worker_name="load")
)
finished: queue.SimpleQueue[dict[str, Any]] = queue.SimpleQueue()


def main() -> int:
    """Load, wait, compare; 0 when all is equal."""
    with open(sys.argv[1], newline="") as file:
        days = {row["date"].replace("/", "-"): _day(row) for row in csv.DictReader(file)}
    worker.register_function("load::on_summary", finished.put)
    worker.register_trigger(
        {"type": "state", "function_id": "load::on_summary", "config": {"scope": "summaries"}}
    )
    with ThreadPoolExecutor(16) as pool:
        list(pool.map(_write, days, days.values()))
    print(f"load (Python): {len(days)} days written")
    expected = _expected(days)
    events = [finished.get(timeout=60) for _ in expected]
    found = {event["key"]: event["new_value"] for event in events}
    for year in sorted(found):
        verdict = "as in the data" if found[year] == expected[year] else "WRONG"
        print(f"{year}: {found[year]} {verdict}")
    worker.shutdown()
    return 0 if found == expected else 1


def _day(row: dict[str, str]) -> dict[str, Any]:
    """Whole numbers, which `increment` adds without rounding."""
    return {
        "weather": row["weather"],
        "rain_tenths_mm": round(float(row["precipitation"]) * 10),
        "wind_tenths_ms": round(float(row["wind"]) * 10),
    }


def _write(date: str, day: dict[str, Any]) -> None:
    payload = {"scope": "weather", "key": date, "value": day}
    worker.trigger({"function_id": "state::set", "payload": payload})


def _expected(days: dict[str, dict[str, Any]]) -> dict[str, dict[str, Any]]:
    """The summaries, computed without any of the other programs."""
    count, rain, sun, storms = Counter[str](), Counter[str](), Counter[str](), Counter[str]()
    for date, day in days.items():
        year = date[:4]
        count[year] += 1
        rain[year] += day["rain_tenths_mm"]
        sun[year] += day["weather"] == "sun"
        storms[year] += day["wind_tenths_ms"] >= 80
    return {
        year: {
            "days": count[year],
            "rain_mm": rain[year] / 10,
            "sunny_days": sun[year],
            "storms": storms[year],
        }
        for year in count
    }


if __name__ == "__main__":
    sys.exit(main())
