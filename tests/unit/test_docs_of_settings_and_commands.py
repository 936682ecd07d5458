"""The documentation says what the program does."""

from __future__ import annotations

import runpy
from collections.abc import Callable
from pathlib import Path

import pytest

from iii_state.cli import exits
from iii_state.settings import SETTINGS

DOCS = Path(__file__).parents[2] / "docs"


@pytest.fixture(scope="module")
def generated() -> Callable[[str], str]:
    function: Callable[[str], str] = runpy.run_path(str(DOCS / "generate.py"))["generated"]
    return function


@pytest.mark.parametrize("page", ["configuration.md", "cli.md"])
def test_the_generated_parts_are_up_to_date(page: str, generated: Callable[[str], str]) -> None:
    text = (DOCS / page).read_text("utf-8")

    assert generated(text) == text, "run: python docs/generate.py"


def test_every_setting_has_its_row(generated: Callable[[str], str]) -> None:
    text = (DOCS / "configuration.md").read_text("utf-8")

    for row in SETTINGS:
        assert text.count(f"\n| `{row.name}` | {row.show(row.default)} |") == 1


def test_every_exit_code_is_explained() -> None:
    text = (DOCS / "cli.md").read_text("utf-8")
    codes = {
        value for name, value in vars(exits).items() if name.isupper() and value.__class__ is int
    }

    assert all(f"\n| {code} |" in text for code in codes)
    assert len(codes) == text.split("| exit code |")[1].split("\n\n")[0].count("\n| ")
