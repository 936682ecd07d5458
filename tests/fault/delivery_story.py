"""Whether what a journal tells of deliveries amid kills is what durable triggers promise.

A journal has one order for all processes, and each line was written before what it made possible.
So nothing below depends on timing:

* `connecting` comes before a connection is made, `connected` after; `lost` once nothing more of it
  will be handled.
* `killing` of a process, or of the server, comes before the signal, `killed` after the end.
* `delivered` comes before `answering`, and that before the answer is sent.
* `wrote` comes after a write was acknowledged.
"""

from __future__ import annotations

from bisect import bisect_right
from collections import defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from itertools import pairwise
from operator import attrgetter
from typing import Any

from journal import Entry

SERVER = "server"

Json = dict[str, Any]
Place = tuple[str, int]
"""A connection: whose, and its number."""


@dataclass
class Connection:
    """Between which lines of the journal it was made."""

    tried_at: int
    made_at: int


@dataclass
class Kill:
    """Between which lines a process was killed, or the server."""

    begun_at: int
    ended_at: int


@dataclass
class Delivery:
    """One call of a handler. `answered_at` and `is_done` are as the handler says."""

    at: int
    group: str
    place: Place
    event: Json
    answered_at: int | None = None
    is_done: bool = False

    def __str__(self) -> str:
        shown = {name: self.event[name] for name in ("scope", "key", "revision", "attempt")}
        return f"{shown} at line {self.at}, on {self.place}, answered at {self.answered_at}"


class Story:
    """What happened, by connection, kill and delivery. Deliveries are in order."""

    def __init__(self, entries: Iterable[Entry]) -> None:
        self.connections: dict[Place, Connection] = {}
        self.kills: dict[str, Kill] = {}
        """Of handlers and writers, by name."""
        self.server_kills: list[Kill] = []
        self.lost: list[tuple[int, Place]] = []
        self.writes: list[Entry] = []
        self.deliveries: list[Delivery] = []
        self._tried: dict[Place, int] = {}
        self._killing: dict[str, int] = {}
        self._calls: dict[tuple[Place, int, int], Delivery] = {}
        for at, entry in enumerate(entries):
            self._take(at, entry)

    def _take(self, at: int, entry: Entry) -> None:
        who, place = entry["who"], (entry["who"], entry.get("connection", 0))
        match entry["what"]:
            case "connecting":
                self._tried[place] = at
            case "connected":
                self.connections[place] = Connection(self._tried[place], at)
            case "lost":
                self.lost.append((at, place))
            case "killing":
                self._killing[who] = at
            case "killed":
                kill = Kill(self._killing[who], at)
                if who == SERVER:
                    self.server_kills.append(kill)
                else:
                    self.kills[who] = kill
            case "wrote":
                self.writes.append(entry)
            case "delivered":
                delivery = Delivery(at, entry["group"], place, entry["event"])
                self.deliveries.append(delivery)
                self._calls[place, entry["revision"], entry["attempt"]] = delivery
            case "answering":
                call = self._calls[place, entry["revision"], entry["attempt"]]
                call.answered_at, call.is_done = at, entry["is_done"]

    def require_witnessed(self, changes: Mapping[int, Json]) -> None:
        """Whether each write that was acknowledged is in the log, and none came in twice."""
        assert sorted(changes) == list(range(1, len(changes) + 1)), "revisions are missing"
        for write in self.writes:
            change = changes.get(write["revision"])
            assert change is not None, f"an acknowledged write is gone: {write}"
            found = (change["scope"], change["key"], change["new_value"])
            assert found == (write["scope"], write["key"], write["value"]), write
        values = [change["new_value"] for change in changes.values() if change["new_value"]]
        assert len(values) == len(set(values)), "a write was carried out twice"

    def require_reliable(self, group: str, expected: Mapping[int, Json]) -> int:
        """Whether the deliveries to this group of handlers are as promised.

        `expected` has by revision, ascending, the changes that were to be delivered. Returns how
        many deliveries were repetitions.
        """
        of_revision: dict[int, list[Delivery]] = defaultdict(list)
        for delivery in self.deliveries:
            if delivery.group == group:
                of_revision[delivery.event["revision"]].append(delivery)
        missing = expected.keys() - of_revision.keys()
        assert not missing, f"{group}: never delivered: {_short(expected, missing)}"
        spurious = of_revision.keys() - expected.keys()
        assert not spurious, f"{group}: delivered, and not in the log: {sorted(spurious)[:5]}"
        for revision, change in expected.items():
            self._require_same(change, of_revision[revision])
            assert self._acknowledged_at(of_revision[revision]) is not None, (
                f"{group}: delivered, never acknowledged, and not delivered again: "
                f"{_lines(of_revision[revision])}"
            )
            for pair in pairwise(of_revision[revision]):
                self._require_reason(*pair)
        self._require_order(of_revision, expected)
        return sum(len(deliveries) - 1 for deliveries in of_revision.values())

    def require_kept_connections(self) -> None:
        """Whether no connection was lost but those to a server that was killed."""
        for at, place in self.lost:
            assert self._can_be_cut_off(place, at), (
                f"the connection {place} was lost at line {at}, without a kill"
            )

    def _require_same(self, change: Json, deliveries: list[Delivery]) -> None:
        """An event is what the log has, also when it is repeated, but for the attempt."""
        for delivery in deliveries:
            told = {**delivery.event, "attempt": change["attempt"]}
            assert told == change, f"the log has {change}, but the event was {delivery.event}"

    def _acknowledged_at(self, deliveries: list[Delivery]) -> int | None:
        """The first answer that can have reached the server; None if there is none."""
        reached = (
            delivery.answered_at
            for delivery in deliveries
            if delivery.is_done
            and delivery.answered_at is not None
            and not self._is_dead(delivery.place, delivery.answered_at)
        )
        return min(reached, default=None)

    def _is_dead(self, place: Place, at: int) -> bool:
        """Whether the server at the other end was certainly dead then."""
        kill = self._server_kill_after(self.connections[place].made_at)
        return kill is not None and kill.ended_at < at

    def _can_be_cut_off(self, place: Place, at: int) -> bool:
        """Whether a kill of the server can have ended a connection before then."""
        kill = self._server_kill_after(self.connections[place].tried_at)
        return kill is not None and kill.begun_at < at

    def _server_kill_after(self, at: int) -> Kill | None:
        """The first kill of the server that ended after a line."""
        following = bisect_right(self.server_kills, at, key=attrgetter("ended_at"))
        return self.server_kills[following] if following < len(self.server_kills) else None

    def _require_reason(self, first: Delivery, again: Delivery) -> None:
        """What was delivered again had failed, or a kill had cut it off.

        The attempt is a higher one, unless the server was killed.
        """
        has_failed = not first.is_done and (first.answered_at or again.at) < again.at
        is_of_another_server = self._can_be_cut_off(first.place, again.at)
        handler_kill = self.kills.get(first.place[0])
        was_cut_off = first.place != again.place and (
            is_of_another_server or (handler_kill is not None and handler_kill.begun_at < again.at)
        )
        told = _lines([first, again])
        assert has_failed or was_cut_off, f"delivered twice without a reason: {told}"
        attempts = first.event["attempt"], again.event["attempt"]
        assert is_of_another_server or attempts[0] < attempts[1], f"not another attempt: {told}"

    def _require_order(
        self, of_revision: Mapping[int, list[Delivery]], expected: Mapping[int, Json]
    ) -> None:
        """The next event of a key comes after the one before was acknowledged.

        And on one connection none comes after a later one, not even again.
        """
        latest: dict[tuple[str, str], int] = {}
        for revision, change in expected.items():
            lane = change["scope"], change["key"]
            if lane in latest:
                before = of_revision[latest[lane]]
                acknowledged_at = self._acknowledged_at(before) or 0
                assert acknowledged_at < of_revision[revision][0].at, (
                    f"overtaken: {_lines([*before, *of_revision[revision]])}"
                )
            latest[lane] = revision
        seen: dict[tuple[Place, str, str], Delivery] = {}
        every = (delivery for deliveries in of_revision.values() for delivery in deliveries)
        for delivery in sorted(every, key=lambda delivery: delivery.at):
            of_key = delivery.place, delivery.event["scope"], delivery.event["key"]
            former = seen.get(of_key, delivery)
            assert former.event["revision"] <= delivery.event["revision"], (
                f"back in time: {_lines([former, delivery])}"
            )
            seen[of_key] = delivery


def _lines(deliveries: list[Delivery]) -> str:
    return "".join(f"\n  {delivery}" for delivery in deliveries)


def _short(expected: Mapping[int, Json], revisions: Iterable[int]) -> str:
    few = [expected[revision] for revision in sorted(revisions)[:5]]
    return "".join(f"\n  {change}" for change in few)
