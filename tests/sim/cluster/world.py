"""What the machines of a simulated cluster share, as they see it."""

import random
from typing import TYPE_CHECKING, Protocol

import anyio.abc

from broker.controller.monitor import RollLimits
from tests.sim.cluster.network import DataNetwork
from tests.sim.loop import SimLoop
from tests.sim.raft.network import Network as RaftNetwork

if TYPE_CHECKING:
    from tests.sim.cluster.node import Machine


class World(Protocol):
    """What the machines share."""

    seed: int
    loop: SimLoop
    rng: random.Random
    data: DataNetwork
    raft: RaftNetwork
    machines: dict[int, "Machine"]
    tasks: anyio.abc.TaskGroup
    limits: RollLimits
    fsync: str
    monitor_interval_ms: int
    retention_interval_ms: int
    lost_outcomes_rate: float
    command_delay_s: float
    lull_until: float

    @property
    def damage(self) -> "Damages":
        """What befell the logs."""

    @property
    def ruin(self) -> "Ruins":
        """What befell the small files."""

    @property
    def losses(self) -> "Losses":
        """What an operator has accepted."""

    def takes_quick_way(self) -> bool:
        """Where there is a way without a task beside the general one."""

    def violated(self, what: str) -> None:
        """Something that must never happen has."""

    def committed(self, topic_id: bytes, end_offset: int, what: str) -> None:
        """A client was told of everything below `end_offset`."""

    def log_start_offset(self) -> int:
        """What was deleted on purpose lies below it."""

    def may_lose(self, machine: "Machine") -> bool:
        """Its disk, without losing what was promised."""


class Damages(Protocol):
    """See `damage.Damage`."""

    def befall(self, machine: "Machine", rng: random.Random) -> None: ...
    def noticed(self, error: Exception) -> None: ...


class Ruins(Protocol):
    """See `ruin.Ruin`."""

    def befall_raft(self, machine: "Machine", rng: random.Random) -> None: ...
    def befall_copy(self, machine: "Machine", rng: random.Random, *, may_refuse: bool) -> None: ...
    def opened_raft(self, machine: "Machine") -> None: ...
    def started(self, machine: "Machine") -> None: ...
    def refused(self, machine: "Machine", error: BaseException) -> bool: ...


class Losses(Protocol):
    """See `losses.Losses`."""

    async def befall(self, rng: random.Random) -> None: ...
    def end_before(self, position: int) -> int | None: ...
