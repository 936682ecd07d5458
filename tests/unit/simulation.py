"""What happens in a world of writers, workers, crashes and time, all of it from one seed.

`simulate` lets it happen, and raises when something contradicts what is promised.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from reaction_bench import BROKEN, STOPPED
from simulation_workers import Answer
from simulation_world import ALL, SINGLE, WINDOW_S, World, is_unheard

from iii_state.core.dead_letters import DeadLetter


class EventfulWorld(World):
    """A world in which things happen, one each step."""

    def write(self) -> None:
        self.execute(self.random.choice([1, 1, 2, 5, 12]))
        self.commit()

    def write_very_much(self) -> None:
        for _ in range(8):
            self.execute(8)
            self.commit()

    def bind_among_writes(self) -> None:
        """A binding comes between what is executed and what is durable."""
        self.execute(2)
        self.come_back()
        self.execute(2)
        self.turn()
        self.commit()

    def answer_one(self) -> None:
        calls = [call for call in self.calls if not is_unheard(call)]
        if calls:
            failures = [None, BROKEN, STOPPED]
            call = self.random.choice(calls)
            weights = [7, 3, 0 if isinstance(call.reply, Answer) else 1]
            self.answer(call, self.random.choices(failures, weights)[0])

    def pass_time(self) -> None:
        milliseconds = self.random.choice([1, 10, 40, 100, 100, 500])
        self.clock.advance(milliseconds)
        self.timers.advance(milliseconds / 1000)

    def leave(self) -> None:
        """A worker's connection is lost."""
        name = self.random.choice(SINGLE)
        if name not in self.away:
            self.away.add(name)
            for call in [call for call in self.calls if call.book.name == name]:
                self.answer(call, STOPPED)
            self.reactions.detach(name)

    def come_back(self) -> None:
        if self.away:
            self.bind(self.random.choice(sorted(self.away)))

    def be_away_for_long(self) -> None:
        self.leave()
        self.timers.advance(WINDOW_S)

    def replica_dies(self) -> None:
        if self.groups.present:
            self.end(self.random.choice(self.groups.present))

    def replica_vanishes(self) -> None:
        """A replica is there, but answers no more. Some time later its connection ends, too."""
        if self.groups.present:
            replica = self.random.choice(self.groups.present)
            if replica.is_deaf:
                self.end(replica)
            replica.is_deaf = replica.worker is not None

    def replica_comes(self) -> None:
        if self.groups.away:
            self.join(self.random.choice(self.groups.away))

    def replica_has_second_thoughts(self) -> None:
        """A replica unregisters its function or its trigger, or registers it again."""
        if not self.groups.present:
            return
        replica = self.random.choice(self.groups.present)
        if self.random.random() < 0.5:
            (self.groups.unregister if replica.runs else self.register_replica)(replica)
        elif replica.binds:
            replica.binds = False
            self.reactions.unbind(replica.binding_id)
        else:
            self.bind_replica(replica)

    def pause(self) -> None:
        known = self.known()
        if known:
            book = self.books[self.random.choice(known)]
            book.told.paused = True
            self.reactions.pause(book.name)

    def _some_letters(self) -> list[DeadLetter]:
        letters = self.reactions.dead_letters(limit=ALL)[0]
        return [letter for letter in letters if self.random.random() < 0.5]

    def redrive(self) -> None:
        letters = self._some_letters()
        known = self.known()
        for letter in letters:
            if letter.trigger in known:
                self.books[letter.trigger].resend(letter.change)
                self.seen["a letter sent again"] += 1
        self.reactions.redrive([letter.id for letter in letters])
        for letter in self.reactions.letters([letter.id for letter in letters]):
            self.books[letter.trigger].kept_back(letter.change)

    def discard(self) -> None:
        self.reactions.discard([letter.id for letter in self._some_letters()])

    def delete(self) -> None:
        """A durable binding is deleted, with its place; whoever binds it next begins anew."""
        name = self.random.choice([name for name, book in self.books.items() if book.is_durable])
        if self.books[name].has_begun:
            self.reactions.delete(name)
            self.books[name].forgotten()
            for replica in self.groups.replicas:
                replica.binds &= replica.function_id != name
            if name in SINGLE:
                self.away.add(name)

    def register_or_not(self) -> None:
        """A worker takes its function away, or brings it back."""
        name = self.random.choice(["durable", "gathered"])
        self.unserved ^= {name}
        if name not in self.unserved:
            self.reactions.registered("default", name)

    def crash(self) -> None:
        """The process is killed, and started again."""
        self.calls.clear()
        self.has_started = False
        self.store.crash()
        for book in self.books.values():
            book.crashed()
        self.start()

    def restart(self) -> None:
        """The process ends as it should, and is started again."""
        self.reactions.stop()
        self.commit()
        self.crash()

    ACTIONS: tuple[tuple[float, Callable[[Any], None]], ...] = (
        (12, write),
        (0.15, write_very_much),
        (2, bind_among_writes),
        (40, answer_one),
        (20, World.turn),
        (20, pass_time),
        (2, leave),
        (4, come_back),
        (1, be_away_for_long),
        (2, replica_dies),
        (1, replica_vanishes),
        (4, replica_comes),
        (2, replica_has_second_thoughts),
        (1, pause),
        (2, World.resume),
        (2, redrive),
        (0.5, discard),
        (1, delete),
        (1, register_or_not),
        (1, crash),
        (1, restart),
    )

    def step(self) -> None:
        """Let something happen."""
        weights = [weight for weight, _ in self.ACTIONS]
        [(_, action)] = self.random.choices(self.ACTIONS, weights)
        action(self)
        self.look()


def simulate(seed: int, steps: int = 250) -> World:
    """Let the world of a seed happen. Raises `AssertionError`, with the seed, if it is wrong."""
    try:
        world = EventfulWorld(seed)
        for _ in range(steps):
            world.step()
        world.heal()
        world.check_complete()
    except AssertionError as error:
        raise AssertionError(f"seed {seed}: {error}") from error
    return world
