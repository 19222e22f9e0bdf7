"""The states of a group, and the limits it lives by (pure)."""

from dataclasses import dataclass
from enum import Enum
from typing import Final


class State(Enum):
    """In Kafka's words, which tools show."""

    EMPTY = "Empty"
    PREPARING = "PreparingRebalance"
    COMPLETING = "CompletingRebalance"
    STABLE = "Stable"
    DEAD = "Dead"


TRANSITIONS: Final = {
    State.EMPTY: {State.PREPARING, State.DEAD},
    State.PREPARING: {State.COMPLETING, State.EMPTY, State.DEAD},
    State.COMPLETING: {State.STABLE, State.PREPARING, State.DEAD},
    State.STABLE: {State.PREPARING, State.DEAD},
    State.DEAD: set[State](),
}


@dataclass(frozen=True, slots=True)
class GroupLimits:
    """`_ms` are milliseconds, sizes bytes."""

    session_ms_min: int = 6_000
    session_ms_max: int = 1_800_000
    """Kafka's bounds; test suites of clients ask for 6 seconds exactly."""
    initial_delay_ms: int = 100
    """How long the first member of an empty group waits for others. Kafka's 3 seconds save a large
    application a few rebalances at its start, and cost every small one 3 seconds. 100 ms still
    gather what one process starts together."""
    members_max: int = 2_000
    metadata_size_max: int = 4 * 1024 * 1024
    """Of all members together, and again for their assignments: both go into one record."""
