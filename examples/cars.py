"""State inside a Python program: counts cars by their origin while they are being stored.

`python examples/cars.py`, with `iii-state` and `vega-datasets` installed. No server is needed.
"""

from __future__ import annotations

import asyncio
import json
import sys
import tempfile
from collections import Counter
from pathlib import Path
from typing import Any

from vega_datasets import local_data

import iii_state


async def main(cars: list[dict[str, Any]], directory: str) -> int:
    """Store, count, open again, compare; 0 when all is equal."""
    async with iii_state.open(directory) as state:

        @state.on(scope="cars")
        async def count(event: iii_state.Event) -> None:
            car = event.new_value
            await state.update(
                "origins",
                car["Origin"],
                {"type": "increment", "path": "cars", "by": 1},
                {"type": "increment", "path": f"with {car['Cylinders']} cylinders", "by": 1},
            )

        await asyncio.gather(*(state.set("cars", str(n), car) for n, car in enumerate(cars)))
        print(f"{len(cars)} cars stored")

    # Leaving the context waited for the reactions. All is on disk, so it is there again.
    async with iii_state.open(directory) as state:
        counted = {key: await state.get("origins", key) for key in await state.list_keys("origins")}
    for origin, counts in counted.items():
        print(f"{origin}: {counts}")
    expected = Counter(car["Origin"] for car in cars)
    return 0 if {origin: n["cars"] for origin, n in counted.items()} == expected else 1


if __name__ == "__main__":
    with tempfile.TemporaryDirectory() as data_dir:
        data = json.loads(Path(local_data.cars.filepath).read_text())
        sys.exit(asyncio.run(main(data, data_dir)))
