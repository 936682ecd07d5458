"""The table of settings, and what text means as a value."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from iii_state.errors import ConfigurationError
from iii_state.settings import BY_NAME, SETTINGS, Settings


@pytest.mark.parametrize(
    ("name", "given", "value"),
    [
        ("port", "80", 80),
        ("port", 0, 0),
        ("cache_bytes", "64MiB", 64 << 20),
        ("cache_bytes", "1.5 KiB", 1536),
        ("cache_bytes", "2kB", 2000),
        ("cache_bytes", "12b", 12),
        ("cache_bytes", 7, 7),
        ("stop_grace_s", "0.25", 0.25),
        ("stop_grace_s", 3, 3.0),
        ("in_memory", "yes", True),
        ("in_memory", "0", False),
        ("in_memory", True, True),
        ("durability", "none", "none"),
        ("allowed_origins", "https://a.example, https://b.example", None),
        ("allowed_origins", ["*"], ("*",)),
        ("allowed_origins", "", ()),
        ("data_dir", "~x/y", Path("~x/y")),
        ("token", 1234, "1234"),
        ("max_value_bytes", None, None),
        ("max_value_bytes", "", None),
    ],
)
def test_a_value_is_read_as_what_it_says(name: str, given: object, value: Any) -> None:
    if value is None and given:
        value = ("https://a.example", "https://b.example")

    assert BY_NAME[name].parse(given, "here") == value


@pytest.mark.parametrize(
    ("name", "given", "allowed"),
    [
        ("port", "65536", "a whole number from 0 to 65535"),
        ("port", "-1", "a whole number from 0 to 65535"),
        ("port", "80.5", "a whole number"),
        ("port", "80KiB", "a whole number"),
        ("port", True, "a whole number"),
        ("port", float("nan"), "a whole number"),
        ("port", float("inf"), "a whole number"),
        ("port", None, "a whole number"),
        ("port", "", "a whole number"),
        ("cache_bytes", "64M", "like 64MiB"),
        ("cache_bytes", "1.5", "a whole number of bytes"),
        ("ops_max", 0, "a whole number, at least 1"),
        ("in_memory", "maybe", "true or false"),
        ("durability", "always", "one of commit, interval, none"),
        ("data_dir", "", "a path"),
        ("data_dir", "a\0b", "a path"),
        ("allowed_origins", [1], "with commas"),
        ("host", ["a"], "text"),
    ],
)
def test_a_wrong_value_is_refused_with_its_name_place_and_what_is_allowed(
    name: str, given: object, allowed: str
) -> None:
    with pytest.raises(ConfigurationError) as caught:
        BY_NAME[name].parse(given, "config.yaml:7")

    assert caught.value.message.startswith(f"config.yaml:7: {name} is ")
    assert allowed in caught.value.message
    assert caught.value.details["setting"] == name


def test_every_default_is_itself_allowed() -> None:
    for row in SETTINGS:
        assert row.parse(row.default, "default") == row.default


def test_every_default_can_be_written_as_it_is_shown() -> None:
    for row in SETTINGS:
        shown = row.show(row.default)
        text = {"unset": "", "none": row.default if row.kind == "choice" else ""}.get(shown, shown)

        assert row.parse(text, "shown") == row.default


def test_the_table_and_the_struct_have_the_same_rows() -> None:
    assert tuple(row.name for row in SETTINGS) == Settings.__struct_fields__


def test_every_row_says_what_it_is_for_in_a_sentence() -> None:
    for row in SETTINGS:
        assert row.about.help.endswith(".")
        assert row.variable == "III_STATE_" + row.name.upper()


def test_settings_print_themselves_without_the_token() -> None:
    shown = repr(Settings(token="hunter2"))

    assert "hunter2" not in shown
    assert "token=***" in shown


def test_a_wrong_secret_is_not_repeated_in_the_error() -> None:
    with pytest.raises(ConfigurationError) as caught:
        BY_NAME["token"].parse(["hunter2"], "here")

    assert "hunter2" not in caught.value.message
