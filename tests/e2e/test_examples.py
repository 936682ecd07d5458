"""The examples run, arrive at what their data says, and say what the documentation shows."""

from __future__ import annotations

import subprocess
import sys

from e2e.sdks import NEWEST_NODE, NEWEST_PYTHON, REPOSITORY


def test_the_weather_example_arrives_at_the_totals_of_its_data() -> None:
    python = NEWEST_PYTHON.directory / "bin" / "python"
    node_modules = NEWEST_NODE.directory / "node_modules"
    command = [sys.executable, "examples/weather/run.py", "--python", str(python)]
    command += ["--node-modules", str(node_modules)]

    done = subprocess.run(command, cwd=REPOSITORY, capture_output=True, text=True, check=False)

    assert done.returncode == 0, done.stdout + done.stderr
    assert "load (Python): 1461 days written" in done.stdout
    years = [line for line in done.stdout.splitlines() if line.endswith("as in the data")]
    assert [line[:4] for line in years] == ["2012", "2013", "2014", "2015"]
    for year in ("2012", "2013", "2014", "2015"):
        assert f"summaries (Node): {year} is complete" in done.stdout


def test_the_embedded_example_counts_what_it_stores() -> None:
    command = [sys.executable, "examples/cars.py"]

    done = subprocess.run(command, cwd=REPOSITORY, capture_output=True, text=True, check=False)

    assert done.returncode == 0, done.stdout + done.stderr
    assert "USA: {'cars': 254" in done.stdout
