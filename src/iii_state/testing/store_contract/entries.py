"""One key at a time: what reads, writes and updates promise."""

from __future__ import annotations

import json

import pytest

from iii_state.core.changes import Change, Entry, Origin
from iii_state.core.commands import Delete, Get, Set
from iii_state.testing.store_contract.rig import Contract, Rig, json_text, update_of

HOSTILE_NAMES = {
    "empty": "",
    "space": " ",
    "nul": "\0",
    "newline": "a\nb",
    "emoji": "🦊👩‍👩‍👧",
    "right-to-left": "\u202e\u05d0",
    "parent-directory": "../x",
    "absolute-path": "/etc/passwd",
    "dots": "a.b",
    "dot": ".",
    "star": "*",
    "greater-than": ">",
    "colon": "a:b",
    "braces": "{a}",
    "percent": "%00",
    "quotes": "\"'\\",
    "dunder": "__proto__",
    "last-code-point": "\U0010ffff",
    "one-mebibyte": "k" * (1 << 20),
}
"""Names that mean something to file systems, subjects, globs, shells and encoders."""

ODD_TEXTS = {
    "null": b"null",
    "false": b"false",
    "zero": b"0",
    "empty-text": b'""',
    "empty-object": b"{}",
    "spaces": b'{ "b" : 1 ,\n"a":[ ] }',
    "members-unsorted": b'{"b":1,"a":2,"B":3}',
    "member-twice": b'{"a":1,"a":2}',
    "trailing-zeros": b"1.500",
    "negative-zero": b"-0.0",
    "beyond-64-bits": b"123456789012345678901234567890",
    "exponent": b"1E+2",
    "escapes": rb'"\u00e9\ud83e\udd8a\/"',
    "raw-utf-8": '"é🦊"'.encode(),
    "nested": b"[" * 100 + b"]" * 100,
}
"""JSON texts that do not survive being decoded and encoded again."""

hostile_names = pytest.mark.parametrize(
    "name", list(HOSTILE_NAMES.values()), ids=list(HOSTILE_NAMES)
)
odd_texts = pytest.mark.parametrize("text", list(ODD_TEXTS.values()), ids=list(ODD_TEXTS))


class ReadContract(Contract):
    """Reads tell what was executed before them, and change nothing."""

    async def test_an_absent_key_holds_no_entry(self, rig: Rig) -> None:
        await rig.set("there", b"1")

        assert await rig.get("elsewhere") is None
        assert await rig.get("there", scope=f"not {rig.scope}") is None

    async def test_null_is_a_value(self, rig: Rig) -> None:
        await rig.set("k", b"null")

        assert await rig.value("k") == b"null"

    async def test_an_entry_tells_its_revisions_and_times(self, rig: Rig) -> None:
        made_at = rig.clock.now_ms
        made = await rig.set("k", b"1")
        rig.clock.advance(5)
        overwritten = await rig.set("k", b"2")

        assert await rig.get("k") == Entry(
            b"2", overwritten.revision, made.revision, made_at, made_at + 5
        )

    async def test_a_read_sees_the_write_executed_before_it(self, rig: Rig) -> None:
        _, read = await rig.run(Set(rig.scope, "k", b"1"), Get(rig.scope, "k"))

        assert read.entry is not None
        assert read.entry.value == b"1"

    async def test_a_read_sees_the_delete_executed_before_it(self, rig: Rig) -> None:
        await rig.set("k", b"1")

        _, read = await rig.run(Delete(rig.scope, "k"), Get(rig.scope, "k"))

        assert read.entry is None

    async def test_a_read_does_not_see_what_is_executed_after_it(self, rig: Rig) -> None:
        await rig.set("k", b"1")

        first, _, second, _, third = await rig.run(
            Get(rig.scope, "k"),
            Set(rig.scope, "k", b"2"),
            Get(rig.scope, "k"),
            Delete(rig.scope, "k"),
            Get(rig.scope, "k"),
        )

        assert first.entry is not None
        assert first.entry.value == b"1"
        assert second.entry is not None
        assert second.entry.value == b"2"
        assert third.entry is None

    async def test_reading_makes_neither_a_revision_nor_a_scope(self, rig: Rig) -> None:
        start = rig.store.revision

        await rig.get("k")
        await rig.values()
        await rig.scopes()
        await rig.store.commit()

        assert rig.store.revision == start
        assert rig.scope not in await rig.scopes()


class WriteContract(Contract):
    """A write takes effect, whatever the names and values, and reports what it replaced."""

    async def test_the_first_write_creates_the_key(self, rig: Rig) -> None:
        start = rig.store.revision

        change = await rig.set("k", b"1")

        now = rig.clock.now_ms
        entry = Entry(b"1", start + 1, start + 1, now, now)
        assert change == Change(start + 1, rig.scope, "k", None, entry, now)
        assert change.event_type == "state:created"

    async def test_an_overwrite_reports_what_it_replaced(self, rig: Rig) -> None:
        made_at = rig.clock.now_ms
        made = await rig.set("k", b"1")
        rig.clock.advance(7)

        change = await rig.set("k", b"2")

        assert (change.before, change.after) == (b"1", b"2")
        assert change.replaced == made.entry
        assert change.entry == Entry(b"2", change.revision, made.revision, made_at, made_at + 7)
        assert change.timestamp_ms == made_at + 7
        assert change.event_type == "state:updated"

    async def test_overwriting_null_updates_and_does_not_create(self, rig: Rig) -> None:
        await rig.set("k", b"null")

        change = await rig.set("k", b"1")

        assert change.before == b"null"
        assert change.event_type == "state:updated"

    async def test_writing_the_same_value_again_is_a_change(self, rig: Rig) -> None:
        first = await rig.set("k", b"1")

        second = await rig.set("k", b"1")

        assert second.revision == first.revision + 1
        assert (second.before, second.after) == (b"1", b"1")

    async def test_a_delete_reports_what_it_removed(self, rig: Rig) -> None:
        made = await rig.set("k", b"1")
        last = await rig.set("k", b"null")

        change = await rig.delete("k")

        assert (change.before, change.after) == (b"null", None)
        assert change.replaced == last.entry
        assert last.entry is not None
        assert last.entry.created_revision == made.revision
        assert change.event_type == "state:deleted"
        assert await rig.get("k") is None

    async def test_deleting_an_absent_key_is_a_change_too(self, rig: Rig) -> None:
        start = rig.store.revision

        change = await rig.delete("k")

        assert change == Change(start + 1, rig.scope, "k", None, None, rig.clock.now_ms)
        assert change.event_type == "state:deleted"

    async def test_the_second_of_two_deletes_finds_nothing(self, rig: Rig) -> None:
        await rig.set("k", b"1")

        first, second = await rig.write(Delete(rig.scope, "k"), Delete(rig.scope, "k"))

        assert (first.before, second.before) == (b"1", None)
        assert second.revision == first.revision + 1

    async def test_a_key_made_again_after_a_delete_is_a_new_one(self, rig: Rig) -> None:
        await rig.set("k", b"1")
        await rig.delete("k")
        rig.clock.advance(3)

        change = await rig.set("k", b"2")

        assert change.event_type == "state:created"
        now = rig.clock.now_ms
        assert change.replaced is None
        assert change.entry == Entry(b"2", change.revision, change.revision, now, now)

    async def test_the_same_key_in_two_scopes_is_two_keys(self, rig: Rig) -> None:
        other = f"{rig.scope}:a"
        await rig.write(Set(rig.scope, "a:b", b"1"), Set(other, "b", b"2"))

        await rig.delete("a:b")

        assert await rig.value("b", scope=other) == b"2"

    async def test_names_that_look_alike_are_different(self, rig: Rig) -> None:
        names = ["a", "A", "a ", " a", "a\0", "\uff41", "\u00e9", "e\u0301", "1", "01"]

        await rig.fill(names)

        assert [await rig.value(name) for name in names] == [json_text(name) for name in names]
        assert await rig.values() == [json_text(name) for name in names]

    @hostile_names
    async def test_any_text_is_a_key(self, rig: Rig, name: str) -> None:
        created = await rig.set(name, b"1")
        updated = await rig.set(name, b"2")
        found = await rig.value(name)
        deleted = await rig.delete(name)

        assert [change.key for change in (created, updated, deleted)] == [name] * 3
        assert (updated.before, found, deleted.before) == (b"1", b"2", b"2")
        assert await rig.values() == []

    @hostile_names
    async def test_any_text_is_a_scope(self, rig: Rig, name: str) -> None:
        (created,) = await rig.write(Set(name, "k", b"1"))
        names = await rig.scopes()
        found = await rig.values(name)
        await rig.write(Delete(name, "k"))

        assert created.scope == name
        assert name in names
        assert found == [b"1"]
        assert name not in await rig.scopes()

    @odd_texts
    async def test_values_are_kept_byte_for_byte(self, rig: Rig, text: bytes) -> None:
        start = rig.store.revision

        await rig.set("k", text)
        replaced = await rig.set("k", text)

        assert await rig.value("k") == text
        assert await rig.values() == [text]
        assert (replaced.before, replaced.after) == (text, text)
        assert [change.after for change in rig.feed(start)] == [text, text]

    async def test_a_large_value_comes_back_whole(self, rig: Rig) -> None:
        large = json_text("".join(map(chr, range(32, 127))) * 55_000)
        assert len(large) > 5 << 20

        await rig.set("large", large)
        await rig.set("small", b"1")

        assert await rig.value("large") == large
        assert await rig.values() == [large, b"1"]
        assert (await rig.delete("large")).before == large

    async def test_the_writer_is_known_to_all_who_hear_of_the_change(self, rig: Rig) -> None:
        origin = Origin("worker-7", "orders::place", 3)
        start = rig.store.revision

        (change,) = await rig.write(Set(rig.scope, "k", b"1", origin))

        assert change.origin == origin
        assert [heard.origin for heard in rig.feed(start)] == [origin]


class UpdateContract(Contract):
    """The operations' own tests are elsewhere; here, that stores hand the right value to them."""

    async def test_an_update_starts_from_what_the_key_holds(self, rig: Rig) -> None:
        await rig.set("k", b'{"n":1,"kept":true}')

        outcome = await rig.update("k", {"type": "increment", "path": "n", "by": 2})

        assert outcome.errors == ()
        assert outcome.change is not None
        assert outcome.change.before == b'{"n":1,"kept":true}'
        assert outcome.change.event_type == "state:updated"
        assert json.loads(outcome.change.after or b"") == {"n": 3, "kept": True}
        assert await rig.value("k") == outcome.change.after

    async def test_an_update_of_an_absent_key_creates_it(self, rig: Rig) -> None:
        outcome = await rig.update("k", {"type": "set", "path": "a", "value": 1})

        assert outcome.change is not None
        assert outcome.change.before is None
        assert outcome.change.event_type == "state:created"
        assert json.loads(await rig.value("k") or b"") == {"a": 1}
        assert rig.scope in await rig.scopes()

    async def test_an_update_starts_from_a_null_that_is_stored(self, rig: Rig) -> None:
        await rig.set("k", b"null")

        outcome = await rig.update("k")

        assert outcome.change is not None
        assert (outcome.change.before, outcome.change.after) == (b"null", b"null")

    async def test_failed_operations_are_reported_and_the_others_take_effect(
        self, rig: Rig
    ) -> None:
        await rig.set("k", b'{"text":"x"}')

        outcome = await rig.update(
            "k",
            {"type": "increment", "path": "text", "by": 1},
            {"type": "increment", "path": "n", "by": 1},
        )

        assert [error.op_index for error in outcome.errors] == [0]
        assert json.loads(await rig.value("k") or b"") == {"text": "x", "n": 1}

    async def test_an_update_without_effect_is_a_change(self, rig: Rig) -> None:
        made = await rig.set("k", b"[1]")

        outcome = await rig.update("k")

        assert outcome.change is not None
        assert outcome.change.revision == made.revision + 1
        assert (outcome.change.before, outcome.change.after) == (b"[1]", b"[1]")

    async def test_updates_of_one_commit_build_on_each_other(self, rig: Rig) -> None:
        merge = update_of(rig.scope, "k", {"type": "merge", "path": "", "value": {"m": 1}})
        add = update_of(rig.scope, "k", {"type": "increment", "path": "n", "by": 1})

        outcomes = await rig.run(add, merge, add, Delete(rig.scope, "k"), add)

        after = [outcome.change.after for outcome in outcomes if outcome.change]
        assert [text and json.loads(text) for text in after] == [
            {"n": 1},
            {"n": 1, "m": 1},
            {"n": 2, "m": 1},
            None,
            {"n": 1},
        ]
