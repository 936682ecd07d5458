"""`state::changes` and `state::history` over a log on disk: restarts, and damage."""

from __future__ import annotations

from pathlib import Path

from feed_bench import (
    ask,
    error_of,
    keys,
    open_disk,
    running,
)

from iii_state.core.commands import Set
from iii_state.engine.feed_scans import SLICE_CHANGES_MAX


async def test_both_read_what_was_written_before_a_restart(tmp_path: Path) -> None:
    store = await open_disk(tmp_path)
    for number in range(5 * SLICE_CHANGES_MAX):
        store.execute(Set("s", f"k{number % 7}", b"%d" % number))
        if number % 3 == 0:
            await store.commit()
    await store.close()

    store = await open_disk(tmp_path)
    async with running(store) as bench:
        client = bench.client()
        changes = await ask(bench, client, "changes", after=0, key="k3", limit=1000)
        history = await ask(bench, client, "history", scope="s", key="k3", limit=1000)
    await store.close()

    values = [event["new_value"] for event in changes["changes"]]
    assert values == list(range(3, 5 * SLICE_CHANGES_MAX, 7))
    assert [event["old_value"] for event in changes["changes"]] == [None, *values[:-1]]
    assert [version["value"] for version in history["versions"]] == values[::-1]


async def test_damage_in_the_log_is_told(tmp_path: Path) -> None:
    store = await open_disk(tmp_path)
    for number in range(4):
        store.execute(Set("s", "k", b'"%b"' % (b"%d" % number * 100_000)))
        await store.commit()
    await store.close()
    store = await open_disk(tmp_path)
    spoil(tmp_path, b"1" * 100)

    async with running(store) as bench:
        client = bench.client()
        changes = await error_of(bench, client, "changes", after=1)
        history = await ask(bench, client, "history", scope="s", key="k")
        rest = await error_of(bench, client, "history", scope="s", key="k", before=4)
        none = await error_of(bench, client, "history", scope="s", key="none")
    await store.close()

    assert {error["code"] for error in (changes, rest, none)} == {"STORE_DAMAGED"}
    assert [version["revision"] for version in history["versions"]] == [4]
    assert history["next_before"] == 4


async def test_what_was_found_before_the_damage_is_told(tmp_path: Path) -> None:
    store = await open_disk(tmp_path)
    store.execute(Set("s", "k", b"1"))
    for number in range(1, SLICE_CHANGES_MAX + 1):
        store.execute(Set("other", f"k{number}", b"1"))
        await store.commit()
    store.execute(Set("other", "k", b'"%b"' % (b"x" * 100)))
    await store.close()
    store = await open_disk(tmp_path)
    spoil(tmp_path, b"x" * 100)

    async with running(store) as bench:
        client = bench.client()
        found = await ask(bench, client, "changes", after=0, scope="s")
        error = await error_of(bench, client, "changes", after=found["last_revision"])
    await store.close()

    assert (keys(found), found["last_revision"]) == (["k"], SLICE_CHANGES_MAX)
    assert error["code"] == "STORE_DAMAGED"


def spoil(directory: Path, text: bytes) -> None:
    """Change what the log of a store in a directory says."""
    [segment] = directory.glob("*.seg")
    with segment.open("r+b") as file:
        file.seek(segment.read_bytes().index(text))
        file.write(b"?")
