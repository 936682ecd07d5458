"""A contract that a broken store passes is none: each planted bug fails the test meant for it."""

from __future__ import annotations

import ast
import importlib
import inspect
import json
import pkgutil
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import msgspec
import pytest

import iii_state.stores
from iii_state.core.changes import Change, Entry
from iii_state.core.commands import (
    Command,
    Count,
    Delete,
    Get,
    GetMany,
    ListEntries,
    ListKeys,
    ListScopes,
    ListValues,
    Outcome,
    Set,
    Transact,
    Update,
)
from iii_state.core.store import Store, StoreInfo
from iii_state.core.values import encode_text
from iii_state.errors import LimitExceeded
from iii_state.stores.memory import MemoryStore
from iii_state.stores.recent import RecentChanges
from iii_state.testing.clocks import FakeClock
from iii_state.testing.store_contract import DurableStoreContract, StoreContract, open_rig


def _with_change(outcome: Outcome, altered: Callable[[Change], dict[str, Any]]) -> Outcome:
    if outcome.change:
        outcome.change = msgspec.structs.replace(outcome.change, **altered(outcome.change))
    return outcome


class ReadsNullAsAbsent(MemoryStore):
    def execute(self, command: Command) -> Outcome:
        outcome = super().execute(command)
        if outcome.entry and outcome.entry.value == b"null":
            outcome.entry = None
        return outcome


class ReadsOnlyWhatIsCommitted(MemoryStore):
    def execute(self, command: Command) -> Outcome:
        outcome = super().execute(command)
        if outcome.entry and outcome.entry.revision > self.revision:
            outcome.entry = None
        return outcome


class ListsByKey(MemoryStore):
    def __init__(self, clock_ms: FakeClock, *, history_bytes: int) -> None:
        super().__init__(clock_ms, history_bytes=history_bytes)
        self.keys: dict[str, set[str]] = {}

    def execute(self, command: Command) -> Outcome:
        if isinstance(command, Set):
            self.keys.setdefault(command.scope, set()).add(command.key)
        outcome = super().execute(command)
        if isinstance(command, ListValues):
            gets = [Get(command.scope, key) for key in sorted(self.keys.get(command.scope, ()))]
            entries = [super(ListsByKey, self).execute(get).entry for get in gets]
            outcome.values = [entry.value for entry in entries if entry]
        return outcome


class MovesOverwrittenKeysToTheEnd(MemoryStore):
    def execute(self, command: Command) -> Outcome:
        outcome = super().execute(command)
        if isinstance(command, Set):
            entries = self._scopes[command.scope]
            entries[command.key] = entries.pop(command.key)
        return outcome


class IgnoresTheBoundOfAList(MemoryStore):
    def execute(self, command: Command) -> Outcome:
        if isinstance(command, ListValues):
            command = ListValues(command.scope, 1 << 40)
        return super().execute(command)


class KeepsDrainedScopes(MemoryStore):
    def __init__(self, clock_ms: FakeClock, *, history_bytes: int) -> None:
        super().__init__(clock_ms, history_bytes=history_bytes)
        self.seen: set[str] = set()

    def execute(self, command: Command) -> Outcome:
        outcome = super().execute(command)
        if isinstance(command, Set):
            self.seen.add(command.scope)
        if isinstance(command, ListScopes):
            outcome.values = [encode_text(name) for name in sorted(self.seen)]
        return outcome


class ListsKeysInOrderOfCreation(MemoryStore):
    def execute(self, command: Command) -> Outcome:
        outcome = super().execute(command)
        if isinstance(command, ListKeys):
            outcome.values = [encode_text(key) for key in self._scopes.get(command.scope, ())]
        return outcome


class PagesInOrderOfLastWrite(MemoryStore):
    def execute(self, command: Command) -> Outcome:
        outcome = super().execute(command)
        if isinstance(command, ListEntries):
            entries = self._scopes.get(command.scope, {}).items()
            written = sorted((entry.revision, key, entry) for key, entry in entries)
            newer = [(key, entry) for revision, key, entry in written if revision > command.after]
            outcome.values = newer[: command.limit]
        return outcome


class PagesByPosition(MemoryStore):
    """Goes on behind as many keys as were shown, though some of them may be gone."""

    shown = 0

    def execute(self, command: Command) -> Outcome:
        outcome = super().execute(command)
        if isinstance(command, ListEntries):
            self.shown = self.shown if command.after else 0
            entries = [*self._scopes.get(command.scope, {}).items()]
            outcome.values = entries[self.shown : self.shown + command.limit]
            self.shown += len(outcome.values)
        return outcome


class CountsWithoutThePrefix(MemoryStore):
    def execute(self, command: Command) -> Outcome:
        return super().execute(Count(command.scope) if isinstance(command, Count) else command)


class ForgetsThatKeysComeBack(MemoryStore):
    """Reads several keys once each, however often they were asked for."""

    def execute(self, command: Command) -> Outcome:
        if isinstance(command, GetMany):
            places = tuple(dict.fromkeys(command.places))
            command = GetMany(places, command.bytes_max)
        return super().execute(command)


class SortsScopesByUtf16(MemoryStore):
    def execute(self, command: Command) -> Outcome:
        outcome = super().execute(command)
        if isinstance(command, ListScopes):
            outcome.values = sorted(
                outcome.values, key=lambda text: str(json.loads(text)).encode("utf-16-be")
            )
        return outcome


class SkipsRevisions(MemoryStore):
    def execute(self, command: Command) -> Outcome:
        return _with_change(super().execute(command), lambda c: {"revision": c.revision * 2})


class ForgetsWhatWasBefore(MemoryStore):
    def execute(self, command: Command) -> Outcome:
        return _with_change(super().execute(command), lambda _: {"replaced": None})


class CallsEveryWriteAnUpdate(MemoryStore):
    def execute(self, command: Command) -> Outcome:
        some = Entry(b"1", 1, 1, 0, 0)
        return _with_change(super().execute(command), lambda c: {"replaced": c.replaced or some})


class IsSilentAboutDeletingNothing(MemoryStore):
    def execute(self, command: Command) -> Outcome:
        if isinstance(command, Delete) and not self.execute(Get(command.scope, command.key)).entry:
            return Outcome(True)
        return super().execute(command)


class KeepsTheFirstCreationForever(MemoryStore):
    def __init__(self, clock_ms: FakeClock, *, history_bytes: int) -> None:
        super().__init__(clock_ms, history_bytes=history_bytes)
        self.created: dict[str, int] = {}

    def execute(self, command: Command) -> Outcome:
        def first(change: Change) -> dict[str, Any]:
            if change.entry is None:
                return {}
            created = self.created.setdefault(change.key, change.entry.created_revision)
            return {"entry": msgspec.structs.replace(change.entry, created_revision=created)}

        return _with_change(super().execute(command), first)


class RewritesValues(MemoryStore):
    def execute(self, command: Command) -> Outcome:
        if isinstance(command, Set):
            value = json.dumps(json.loads(command.value)).encode()
            command = Set(command.scope, command.key, value, command.origin)
        return super().execute(command)


class CarriesOutWhatTheGuardsForbid(MemoryStore):
    def execute(self, command: Command) -> Outcome:
        if isinstance(command, Transact):
            command = Transact((), command.writes)
        return super().execute(command)


class KeepsRemovedNotes(MemoryStore):
    def note(
        self, kind: int, name: str, payload: bytes | None, *, is_tied: bool = False
    ) -> Outcome:
        return super().note(kind, name, b"" if payload is None else payload)


class TrimsNames(MemoryStore):
    def execute(self, command: Command) -> Outcome:
        if isinstance(command, Set | Get | Delete):
            command = msgspec.structs.replace(command, key=command.key.strip())
        return super().execute(command)


class NeverSetsItsClockBack(MemoryStore):
    def __init__(self, clock_ms: FakeClock, *, history_bytes: int) -> None:
        self.latest_ms = 0
        self.real_clock = clock_ms
        super().__init__(self.clock, history_bytes=history_bytes)

    def clock(self) -> int:
        self.latest_ms = max(self.latest_ms, self.real_clock())
        return self.latest_ms


class TellsOfChangesBeforeTheirCommit(MemoryStore):
    def execute(self, command: Command) -> Outcome:
        outcome = super().execute(command)
        if outcome.change:
            self._revision = outcome.change.revision
            self._recent.add(self._pending, 0)
            self._pending = []
        return outcome


class TellsOfChangesTwice(MemoryStore):
    last: Sequence[Change] = ()

    async def commit(self) -> Sequence[Change]:
        told = [*self.last, *await super().commit()]
        self.last = told
        return told


class IgnoresTheLimitOfAPage(MemoryStore):
    def changes(self, after: int, limit: int, bytes_max: int) -> Sequence[Change]:
        return super().changes(after, 1 << 30, bytes_max)


class IgnoresTheBytesOfAPage(MemoryStore):
    def changes(self, after: int, limit: int, bytes_max: int) -> Sequence[Change]:
        return super().changes(after, limit, 1 << 40)


class LeavesAGapInTheFeed(MemoryStore):
    def changes(self, after: int, limit: int, bytes_max: int) -> Sequence[Change]:
        return super().changes(max(after, self.oldest_revision), limit, bytes_max)


class LeavesCallersWaitingWhenItCloses(MemoryStore):
    def execute(self, command: Command) -> Outcome:
        outcome = super().execute(command)
        if outcome.change:
            outcome.settled = False
        return outcome


class LosesWritesOfACommit(MemoryStore):
    """Runs each command against the last commit, so that of two updates only one counts."""

    def execute(self, command: Command) -> Outcome:
        outcome = super().execute(command)
        change = outcome.change
        if change and change.replaced and change.replaced.revision > self.revision:
            outcome.change = msgspec.structs.replace(change, replaced=self._at_last_commit(change))
        return outcome

    def _at_last_commit(self, change: Change) -> Entry | None:
        told = [c.entry for c in self.changes(0, 1 << 30, 1 << 40) if c.key == change.key]
        return told[-1] if told else None


class CountsWhatItRefused(MemoryStore):
    def execute(self, command: Command) -> Outcome:
        try:
            return super().execute(command)
        except LimitExceeded:
            super().execute(Delete("refused", "k"))
            raise


class UpdatesFromNothing(MemoryStore):
    def execute(self, command: Command) -> Outcome:
        if isinstance(command, Update):
            super().execute(Delete(command.scope, command.key))
        return super().execute(command)


class Shelved(MemoryStore):
    """Stands in for a durable store: settles with the commit, is found again where it was left."""

    def __init__(self, clock_ms: FakeClock, *, history_bytes: int) -> None:
        super().__init__(clock_ms, history_bytes=history_bytes)
        self.waiting: list[Outcome] = []

    def execute(self, command: Command) -> Outcome:
        outcome = super().execute(command)
        outcome.settled = False
        self.waiting.append(outcome)
        return outcome

    async def commit(self) -> Sequence[Change]:
        changes = await super().commit()
        while self.waiting:
            self.waiting.pop().settled = True
        return changes

    def info(self) -> StoreInfo:
        return msgspec.structs.replace(super().info(), durability="commit")


class SettlesBeforeTheCommit(Shelved):
    def execute(self, command: Command) -> Outcome:
        outcome = super().execute(command)
        outcome.settled = True
        return outcome


class SettlesReadsOfWhatIsPending(Shelved):
    def execute(self, command: Command) -> Outcome:
        outcome = super().execute(command)
        outcome.settled = outcome.change is None
        return outcome


class CountsFromOneAgain(Shelved):
    async def close(self) -> None:
        await super().close()
        self._revision = 0
        self._recent = RecentChanges(1 << 20, keeps_unread=True)


class BringsBackTheDeleted(Shelved):
    async def close(self) -> None:
        await super().close()
        for change in self.changes(self.oldest_revision, 1 << 30, 1 << 40):
            if change.after is None and change.before is not None:
                self.execute(Set(change.scope, change.key, change.before))


class ReopensInOrderOfLastWrite(Shelved):
    async def close(self) -> None:
        await super().close()
        for entries in self._scopes.values():
            by_revision = sorted(entries.items(), key=lambda item: item[1].revision)
            entries.clear()
            entries.update(by_revision)


PLANTED: list[tuple[type[MemoryStore], str, dict[str, Any]]] = [
    (ReadsNullAsAbsent, "null_is_a_value", {}),
    (CarriesOutWhatTheGuardsForbid, "guards_are_on_revision_value_and_absence", {}),
    (KeepsRemovedNotes, "a_note_is_replaced_and_forgotten", {}),
    (ReadsOnlyWhatIsCommitted, "a_read_sees_the_write_executed_before_it", {}),
    (ListsByKey, "a_list_is_in_order_of_creation", {}),
    (MovesOverwrittenKeysToTheEnd, "an_overwritten_key_keeps_its_place", {}),
    (IgnoresTheBoundOfAList, "a_list_over_its_bound_is_refused", {}),
    (KeepsDrainedScopes, "a_drained_scope_is_gone_at_once", {}),
    (ListsKeysInOrderOfCreation, "keys_are_sorted_by_code_point", {}),
    (PagesInOrderOfLastWrite, "entries_are_in_order_of_creation", {}),
    (PagesInOrderOfLastWrite, "pages_meet_every_key_once_whatever_is_written_between", {}),
    (PagesByPosition, "pages_meet_every_key_once_whatever_is_written_between", {}),
    (CountsWithoutThePrefix, "keys_and_the_bytes_of_their_values_are_counted", {}),
    (ForgetsThatKeysComeBack, "several_keys_are_read_as_of_one_moment", {}),
    (SortsScopesByUtf16, "scopes_are_sorted_by_code_point", {}),
    (SkipsRevisions, "revisions_grow_by_one_over_all_keys_and_scopes", {}),
    (ForgetsWhatWasBefore, "an_overwrite_reports_what_it_replaced", {}),
    (CallsEveryWriteAnUpdate, "the_first_write_creates_the_key", {}),
    (IsSilentAboutDeletingNothing, "deleting_an_absent_key_is_a_change_too", {}),
    (KeepsTheFirstCreationForever, "a_key_made_again_after_a_delete_is_a_new_one", {}),
    (RewritesValues, "values_are_kept_byte_for_byte", {"text": b'{"b":1}'}),
    (TrimsNames, "names_that_look_alike_are_different", {}),
    (TrimsNames, "any_text_is_a_key", {"name": " "}),
    (NeverSetsItsClockBack, "times_are_the_clocks_even_when_it_goes_back", {}),
    (TellsOfChangesBeforeTheirCommit, "nothing_is_in_the_feed_before_its_commit", {}),
    (TellsOfChangesBeforeTheirCommit, "the_revision_moves_with_the_commit", {}),
    (TellsOfChangesTwice, "a_commit_hands_over_its_changes_once_and_in_order", {}),
    (IgnoresTheLimitOfAPage, "paging_tells_everything_once", {}),
    (IgnoresTheBytesOfAPage, "a_page_ends_when_its_values_pass_the_bound", {}),
    (LeavesAGapInTheFeed, "a_feed_that_was_trimmed_refuses_and_never_leaves_a_gap", {}),
    (LeavesCallersWaitingWhenItCloses, "closing_settles_what_is_pending", {}),
    (LosesWritesOfACommit, "concurrent_increments_lose_nothing", {}),
    (CountsWhatItRefused, "an_update_over_its_bound_is_refused_and_takes_no_revision", {}),
    (UpdatesFromNothing, "an_update_starts_from_what_the_key_holds", {}),
    (SettlesBeforeTheCommit, "no_write_is_settled_before_its_commit", {}),
    (SettlesReadsOfWhatIsPending, "no_read_of_a_pending_write_is_settled_before_its_commit", {}),
    (CountsFromOneAgain, "revisions_go_on_after_reopening", {}),
    (BringsBackTheDeleted, "deletes_survive_reopening", {}),
    (ReopensInOrderOfLastWrite, "list_order_survives_reopening", {}),
]


class Planted(DurableStoreContract):
    """The contract around one broken store; not collected, since its name is no test's."""

    def __init__(self, store_class: type[MemoryStore]) -> None:
        self.store_class = store_class
        self.shelf: dict[tuple[Path, bool], Shelved] = {}

    @asynccontextmanager
    async def open(
        self, place: Path, clock: FakeClock, *, short_history: bool = False
    ) -> AsyncIterator[Store]:
        store = self.store_class(clock, history_bytes=(64 if short_history else 65_536) << 10)
        if isinstance(store, Shelved):
            store = self.shelf.setdefault((place, short_history), store)
        yield store
        await store.close()


@pytest.mark.parametrize(
    ("broken", "promise", "arguments"), PLANTED, ids=[f"{b.__name__}-{p}" for b, p, _ in PLANTED]
)
async def test_a_planted_bug_fails_the_test_meant_for_it(
    tmp_path: Path, broken: type[MemoryStore], promise: str, arguments: dict[str, Any]
) -> None:
    contract = Planted(broken)
    async with open_rig(contract, tmp_path) as rig:
        with pytest.raises((AssertionError, pytest.fail.Exception)):
            await getattr(contract, f"test_{promise}")(rig, **arguments)


@pytest.mark.parametrize(
    ("promise", "arguments"), [(p, a) for _, p, a in PLANTED], ids=[p for _, p, _ in PLANTED]
)
async def test_the_same_test_passes_without_the_bug(
    tmp_path: Path, promise: str, arguments: dict[str, Any]
) -> None:
    contract = Planted(Shelved)
    async with open_rig(contract, tmp_path) as rig:
        await getattr(contract, f"test_{promise}")(rig, **arguments)


def test_every_concern_of_the_contract_has_a_planted_bug() -> None:
    promises = {f"test_{promise}" for _, promise, _ in PLANTED}

    concerns = [c for c in DurableStoreContract.__mro__ if _tests_of(c)]

    assert len(concerns) == 12
    assert [c.__name__ for c in concerns if not promises & _tests_of(c)] == []


def test_no_store_overrides_a_contract_test() -> None:
    contract = _tests_of(StoreContract, inherited=True) | _tests_of(
        DurableStoreContract, inherited=True
    )

    for node in (*_contract_classes(), *_contract_classes(base="Test")):
        own = {member.name for member in ast.walk(node) if isinstance(member, FUNCTIONS)}
        assert not own & {*contract, "rig"}, node.name


def test_every_store_has_a_contract_file() -> None:
    stores = {
        member.__name__
        for found in pkgutil.walk_packages(iii_state.stores.__path__, "iii_state.stores.")
        for member in vars(importlib.import_module(found.name)).values()
        if inspect.isclass(member) and _is_a_store(member)
    }

    assert "MemoryStore" in stores
    assert stores == {node.name.removeprefix("Test") for node in _contract_classes()}


FUNCTIONS = (ast.FunctionDef, ast.AsyncFunctionDef)


def _tests_of(cls: type, *, inherited: bool = False) -> set[str]:
    names = dir(cls) if inherited else vars(cls)
    return {name for name in names if name.startswith("test_")}


def _is_a_store(cls: type) -> bool:
    return cls.__module__.startswith("iii_state.stores") and all(
        hasattr(cls, name) for name in ("execute", "commit", "changes", "info", "close")
    )


def _contract_classes(base: str = "StoreContract") -> list[ast.ClassDef]:
    """The classes in this folder that run the contract, by what is in their base's name."""
    files = sorted(Path(__file__).parent.glob("test_*.py"))
    nodes = [node for file in files for node in ast.walk(ast.parse(file.read_text()))]
    return [
        node
        for node in nodes
        if isinstance(node, ast.ClassDef)
        and node.name.startswith("Test")
        and any(base in ast.unparse(parent) for parent in node.bases)
    ]
