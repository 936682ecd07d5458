"""What one run measured, and how several rounds become one figure. Pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from statistics import median

import msgspec

from benchmarks.goals import Better, Figure, Goal, Quantity
from benchmarks.rows import Run

CLIENT_BOUND = 0.9
DISTURBED = 0.25


class Sample(msgspec.Struct, frozen=True, kw_only=True):
    """One run of one load against one server.

    Times are microseconds, except `seconds`, which a start took. `lag` is the time to the handler:
    with a rate, from when a write was due to be sent until its last trigger's call had come; else
    from the event's `timestamp_ms`. `memory_mb` is the largest seen
    (1 MB = 1,000,000 bytes). The `_cpu` members are shares of a core: of the load generator, the
    server, its children, and everything else on the machine.
    """

    rate: float = 0.0
    p50: float = 0.0
    p99: float = 0.0
    p999: float = 0.0
    worst: float = 0.0
    errors: int = 0
    client_cpu: float = 0.0
    server_cpu: float = 0.0
    helper_cpu: float = 0.0
    other_cpu: float = 0.0
    memory_mb: float = 0.0
    disk_mb: float = 0.0
    seconds: float = 0.0
    event_rate: float = 0.0
    lag_p50: float = 0.0
    lag_p99: float = 0.0
    lag_worst: float = 0.0

    @property
    def is_client_bound(self) -> bool:
        """Whether the load generator, not the server, set the rate."""
        return self.client_cpu > CLIENT_BOUND

    @property
    def is_disturbed(self) -> bool:
        """Whether other programs took enough of the machine to change what was measured."""
        return self.other_cpu > DISTURBED


Results = Mapping[Run, Sequence[Sample]]


class Measured(msgspec.Struct, frozen=True):
    """A goal's figure: over all rounds, and its lowest and highest round."""

    value: float
    low: float
    high: float
    errors: int
    client_bound: bool
    disturbed: bool

    def reaches(self, bound: float, better: Better) -> bool:
        """Whether the figure is on the right side of `bound`, and was measured without errors."""
        return not self.errors and (
            self.value >= bound if better == "more" else self.value <= bound
        )


def measured(quantity: Quantity, results: Results) -> Measured | None:
    """The figure that `quantity` asks for; None when one of its runs is missing.

    A ratio is the median of the rounds' own: what was measured one after the other shares a slow
    minute. A figure is the median of its rounds, or their maximum where the goal is about the worst
    case.
    """
    runs = [quantity.run] if isinstance(quantity, Figure) else [quantity.over, quantity.under]
    samples = [results.get(run, ()) for run in runs]
    if not all(samples):
        return None
    if isinstance(quantity, Figure):
        rounds = [getattr(sample, quantity.member) * quantity.scale for sample in samples[0]]
        value = max(rounds) if quantity.worst else median(rounds)
    else:
        over, under = ([sample.rate for sample in side] for side in samples)
        rounds = [a / b for a, b in zip(over, under, strict=False) if b]
        value = median(rounds) if rounds else 0.0
    flat = [sample for side in samples for sample in side]
    return Measured(
        value,
        min(rounds, default=0.0),
        max(rounds, default=0.0),
        sum(sample.errors for sample in flat),
        any(sample.is_client_bound for sample in flat),
        any(sample.is_disturbed for sample in flat),
    )


def verdict(goal: Goal, figure: Measured | None) -> str:
    """Whether the goal's bounds hold, in a word or two."""
    if figure is None:
        return "not measured"
    if figure.errors:
        return f"invalid: {figure.errors} errors"
    if goal.aim is not None and figure.reaches(goal.aim, goal.better):
        return "aim"
    if goal.must is None:
        return "not the aim"
    return "must" if figure.reaches(goal.must, goal.better) else "**no**"


def middle(samples: Sequence[Sample]) -> Sample:
    """The member-wise median of several rounds; errors add up."""
    values = {name: median(getattr(s, name) for s in samples) for name in Sample.__struct_fields__}
    values["errors"] = sum(sample.errors for sample in samples)
    return Sample(**values)
