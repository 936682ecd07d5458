"""State inside a Python program: values, reactions, the synchronous twin."""

from __future__ import annotations

import asyncio
import subprocess
import sys
from pathlib import Path

import pytest

import iii_state
from iii_state import embedded
from iii_state.errors import (
    ConfigurationError,
    Conflict,
    InvalidRequest,
    LimitExceeded,
    StoreLocked,
)


async def test_the_six_operations_work_on_plain_values(tmp_path: Path) -> None:
    async with iii_state.open(tmp_path / "data") as state:
        assert await state.set("s", "k", {"n": 1}) == iii_state.SetResult(None, {"n": 1}, 1)
        updated = await state.update("s", "k", {"type": "increment", "path": "n", "by": 2})
        assert updated == iii_state.UpdateResult({"n": 1}, {"n": 3}, 2)
        assert await state.get("s", "k") == {"n": 3}
        assert await state.list("s") == [{"n": 3}]
        assert await state.list_groups() == ["s"]
        assert await state.list_keys("s") == ["k"]
        assert await state.delete("s", "k") == {"n": 3}
        assert await state.delete("s", "k") is None


async def test_an_absent_key_gives_the_default_and_null_is_a_value(tmp_path: Path) -> None:
    async with iii_state.open(tmp_path / "data") as state:
        await state.set("s", "null", None)

        assert await state.get("s", "absent", "default") == "default"
        assert await state.get("s", "null", "default") is None


async def test_values_survive_and_keep_exact_numbers(tmp_path: Path) -> None:
    value = {"wide": 2**200 + 1, "small": 1.1, "text": "\u0000 ü 😀"}
    async with iii_state.open(tmp_path / "data") as state:
        await state.set("s", "k", value)
        revision = state.info().revision

    async with iii_state.open(tmp_path / "data") as state:
        assert await state.get("s", "k") == value
        assert state.info().revision == revision


async def test_failed_operations_are_reported(tmp_path: Path) -> None:
    async with iii_state.open(None) as state:
        result = await state.update("s", "k", {"type": "set", "path": "__proto__", "value": 1})

        assert [error.code for error in result.errors] == ["set.path.proto_polluted"]


@pytest.mark.parametrize("value", [float("nan"), float("inf"), {1, 2}, object(), "\ud800", b"x"])
async def test_what_is_no_json_is_refused(value: object) -> None:
    async with iii_state.open(None) as state:
        with pytest.raises(InvalidRequest):
            await state.set("s", "k", value)

        assert await state.get("s", "k", "untouched") == "untouched"
        assert state.info().revision == 0


async def test_errors_of_the_store_keep_their_class_and_details() -> None:
    async with iii_state.open(None, value_bytes_max=10) as state:
        with pytest.raises(LimitExceeded) as raised:
            await state.set("s", "k", "x" * 20)

        assert raised.value.wire_code == "VALUE_TOO_LARGE"
        assert raised.value.details["bound"] == 10


async def test_reactions_hear_of_every_change_in_order(tmp_path: Path) -> None:
    heard: list[iii_state.Event] = []
    async with iii_state.open(tmp_path / "data") as state:

        @state.on(scope="orders", key="a")
        async def changed(event: iii_state.Event) -> None:
            await asyncio.sleep(0)
            heard.append(event)

        for number in range(20):
            await state.set("orders", "a", number)
            await state.set("orders", "b", number)
        await state.delete("orders", "a")

    assert [event.new_value for event in heard] == [*range(20), None]
    assert heard[0].event_type == "state:created"
    assert heard[-1].event_type == "state:deleted"
    assert heard[-1].old_value == 19


async def test_a_condition_skips_and_a_failing_reaction_is_passed_over(
    caplog: pytest.LogCaptureFixture,
) -> None:
    heard: list[object] = []
    async with iii_state.open(None) as state:

        @state.on(scope="s", condition=lambda event: event.new_value != "skip")
        def changed(event: iii_state.Event) -> None:
            if event.new_value == "bad":
                raise ValueError("cannot take it")
            heard.append(event.new_value)

        for value in ("one", "skip", "bad", "two"):
            await state.set("s", "k", value)

    assert heard == ["one", "two"]
    assert "cannot take it" in caplog.text


async def test_a_reaction_can_write() -> None:
    async with iii_state.open(None) as state:

        @state.on(scope="in")
        async def add(event: iii_state.Event) -> None:
            await state.update("out", "sum", {"type": "increment", "path": "", "by": 1})

        for number in range(10):
            await state.set("in", str(number), number)
        while await state.get("out", "sum") != 10:
            await asyncio.sleep(0)


async def test_a_second_opener_is_refused(tmp_path: Path) -> None:
    async with iii_state.open(tmp_path / "data"):
        with pytest.raises(StoreLocked):
            async with iii_state.open(tmp_path / "data"):
                pass


@pytest.mark.parametrize("settings", [{"durability": "soon"}, {"cache_byte": 1}])
async def test_wrong_settings_are_named(settings: dict[str, object]) -> None:
    with pytest.raises(ConfigurationError, match=next(iter(settings))):
        async with iii_state.open(None, **settings):
            pass


def test_the_synchronous_twin_does_the_same(tmp_path: Path) -> None:
    heard: list[object] = []
    with iii_state.open_sync(tmp_path / "data") as state:

        @state.on(scope="s")
        def changed(event: iii_state.Event) -> None:
            heard.append(event.new_value)

        assert state.set("s", "k", 1).new_value == 1
        assert state.get("s", "k") == 1
        assert state.update("s", "k", {"type": "increment", "path": "", "by": 1}).new_value == 2
        assert state.list("s") == [2]
        assert state.list_keys("s") == ["k"]
        assert state.list_groups() == ["s"]
        assert state.delete("s", "k") == 2
        assert state.info().revision == 3

    assert heard == [1, 2, None]


def test_an_error_while_the_twin_opens_leaves_nothing_running(tmp_path: Path) -> None:
    (tmp_path / "file").touch()

    with pytest.raises(iii_state.StateError), iii_state.open_sync(tmp_path / "file"):
        pass


def test_importing_has_no_side_effects() -> None:
    program = (
        "import sys, threading, iii_state; "
        "assert 'msgspec' not in sys.modules and 'asyncio' not in sys.modules; "
        "assert threading.active_count() == 1; "
        "assert iii_state.open is not open"
    )

    subprocess.run([sys.executable, "-c", program], check=True)


def test_the_package_offers_what_the_embedded_room_lists() -> None:
    offered: dict[str, object] = {}

    exec("from iii_state import *", offered)

    listed = {name: getattr(embedded, name) for name in embedded.__all__}
    assert listed.items() <= offered.items()
    assert offered["__version__"] == iii_state.__version__
    assert dir(iii_state) == sorted({*listed, "__version__"})
    assert iii_state.Conflict is Conflict


@pytest.mark.parametrize("name", ["nothing", "_nothing", "Conditions"])
def test_the_package_offers_nothing_else(name: str) -> None:
    with pytest.raises(AttributeError, match=f"'iii_state' has no attribute '{name}'"):
        getattr(iii_state, name)
