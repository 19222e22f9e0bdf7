"""Those who ask any node for the newest: where the log ends, what position a group has.

Whoever answers may have been deposed without knowing. What was acknowledged or told to anybody
before the question is never taken back.
"""

from collections.abc import Sequence
from functools import partial

import anyio

from tests.sim.cluster.clients import Client, position
from tests.sim.cluster.keepers import Keeper
from tests.sim.cluster.node import Process
from tests.sim.cluster.troubles import TOPIC
from tests.sim.cluster.world import World
from tests.sim.history import History


class Onlooker(Client):
    """Looks after the log, and after what `keepers` keep."""

    def __init__(
        self, world: World, history: History, name: str, keepers: Sequence[Keeper]
    ) -> None:
        super().__init__(world, history, name)
        self._keepers = keepers

    async def run(self) -> None:
        while not self.is_stopping:
            await anyio.sleep(self.rng.expovariate(20.0))
            if self._keepers and self.rng.random() < 0.5:
                await self._look_at_a_group(self.rng.choice(self._keepers))
            else:
                await self._look_at_the_end()

    async def _look_at_the_end(self) -> None:
        known = self.history.end_offset
        found = await self.anyone(_end_of_log)
        if found is None:
            return
        self.history.note("end", self.name, known, found)
        known = min(known, self.history.end_offset)  # Some of it may be lost meanwhile.
        if found < known:
            self.history.anomaly(
                "stale end", f"the log ended at {known}, {self.name} is told {found}"
            )

    async def _look_at_a_group(self, keeper: Keeper) -> None:
        group = self.rng.choice(keeper.groups)
        known = keeper.known[group]
        found = await self.anyone(partial(position, group))
        if found is not None:
            keeper.told(group, known, found)


async def _end_of_log(process: Process) -> int:
    """As ListOffsets."""
    partition = process.controller.partition(process.controller.topic(TOPIC))
    await partition.confirmed()
    return partition.high_watermark
