"""The change feed: everything that happened, in order, from any revision that is still kept."""

from __future__ import annotations

import pytest

from iii_state.core.changes import Change
from iii_state.core.commands import Delete, Set
from iii_state.errors import RevisionCompacted
from iii_state.testing.store_contract.rig import Contract, Rig

VALUE_BYTES = 4096
WRITES_MAX = 2_000
"""What a short history forgets at the latest: 8 MB of values."""


class FeedContract(Contract):
    """`changes` tells what commits told, once each, in pages as small as asked for."""

    async def test_the_feed_tells_what_the_commits_told(self, rig: Rig) -> None:
        start = rig.store.revision

        made = [
            *await rig.write(Set(rig.scope, "a", b"1"), Set(rig.scope, "b", b"null")),
            *await rig.write(Set(rig.scope, "a", b"2"), Delete(rig.scope, "absent")),
            *await rig.write(Delete(rig.scope, "b"), Set(rig.scope, "b", b"3")),
        ]

        assert rig.feed(start) == made

    async def test_nothing_is_in_the_feed_before_its_commit(self, rig: Rig) -> None:
        start = rig.store.revision
        rig.store.execute(Set(rig.scope, "k", b"1"))

        before = rig.feed(start)
        await rig.store.commit()

        assert before == []
        assert [change.key for change in rig.feed(start)] == ["k"]

    async def test_the_feed_starts_after_the_revision_asked_for(self, rig: Rig) -> None:
        await rig.fill("abcdef")
        end = rig.store.revision

        assert [change.key for change in rig.feed(end - 2)] == ["e", "f"]
        assert rig.feed(end) == []
        assert rig.feed(end + 10) == []

    async def test_paging_tells_everything_once(self, rig: Rig) -> None:
        start = rig.store.revision
        await rig.fill(f"{number}" for number in range(100))
        told: list[Change] = []

        while page := rig.feed(told[-1].revision if told else start, limit=7):
            assert len(page) <= 7
            told += page

        assert [change.key for change in told] == [f"{number}" for number in range(100)]

    async def test_a_page_ends_when_its_values_pass_the_bound(self, rig: Rig) -> None:
        start = rig.store.revision
        await rig.write(*(Set(rig.scope, f"{number}", b"1" * 100) for number in range(50)))

        page = rig.feed(start, bytes_max=1000)

        assert 10 <= len(page) <= 11

    async def test_values_replaced_count_against_the_bound_of_a_page(self, rig: Rig) -> None:
        await rig.set("k", b"1" * 1000)
        start = rig.store.revision
        await rig.write(*(Delete(rig.scope, "k") for _ in range(9)))
        await rig.set("k", b"1" * 1000)
        await rig.set("k", b"1")

        page = rig.feed(start, bytes_max=1500)

        assert len(page) == 10

    async def test_a_page_has_one_change_however_large(self, rig: Rig) -> None:
        start = rig.store.revision
        await rig.write(*(Set(rig.scope, f"{number}", b"1" * 100) for number in range(3)))

        page = rig.feed(start, bytes_max=1)

        assert [change.key for change in page] == ["0"]

    async def test_the_oldest_revision_is_where_the_feed_begins(self, rig: Rig) -> None:
        await rig.fill("abc")

        oldest = rig.store.oldest_revision
        told = rig.feed(oldest)

        assert [change.revision for change in told] == list(
            range(oldest + 1, rig.store.revision + 1)
        )

    async def test_a_feed_that_was_trimmed_refuses_and_never_leaves_a_gap(self, rig: Rig) -> None:
        await write_until_trimmed(rig)
        oldest = rig.store.oldest_revision

        assert rig.feed(oldest, limit=1)[0].revision == oldest + 1
        with pytest.raises(RevisionCompacted) as refusal:
            rig.feed(oldest - 1)
        assert refusal.value.details["oldest_revision"] == oldest

    async def test_trimming_takes_neither_values_nor_their_order(self, rig: Rig) -> None:
        keys = await write_until_trimmed(rig)

        assert rig.store.info().oldest_revision == rig.store.oldest_revision
        assert (await rig.values())[0] == b'"first"'
        assert len(await rig.values()) == len(keys)
        assert await rig.value("first") == b'"first"'

    async def test_what_is_left_of_a_trimmed_feed_is_whole(self, rig: Rig) -> None:
        """The value before is known also where the change that wrote it is forgotten."""
        await write_until_trimmed(rig)
        values: dict[str, bytes | None] = {}

        for change in rig.feed(rig.store.oldest_revision):
            if change.key in values:
                assert change.before == values[change.key]
            values[change.key] = change.after

        assert {key: await rig.value(key) for key in values} == values


async def write_until_trimmed(rig: Rig) -> list[str]:
    """Reopen with a short history and write until changes are forgotten; the keys in order."""
    await rig.open(short_history=True)
    await rig.set("first", b'"first"')
    start = rig.store.oldest_revision
    keys = ["first"]
    for number in range(WRITES_MAX):
        key = f"{number % 10}"
        if key not in keys:
            keys.append(key)
        await rig.set(key, b"%04d" % (number + 1000) + b"0" * (VALUE_BYTES - 4))
        if rig.store.oldest_revision > start + 20:
            return keys
    raise AssertionError(f"the store kept all of {WRITES_MAX} changes in its short history")
