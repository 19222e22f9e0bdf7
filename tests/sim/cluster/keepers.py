"""Those who keep positions: several groups of one shard, committed at very different rates, and
read back at any node.

The one that commits seldom lives from what is carried over from segment to segment. What was
acknowledged may be answered again or be overtaken, and is never taken back.
"""

from collections.abc import Awaitable, Callable
from functools import partial
from itertools import count

import anyio

from broker.groups.shards import shard_of
from tests.sim.cluster.clients import Client, commit, coordinator, position
from tests.sim.cluster.node import Process
from tests.sim.cluster.world import World
from tests.sim.history import History

GROUP_COUNT = 3


def groups_of_one_shard(name: str) -> list[str]:
    """Names that the coordinator keeps in one log."""
    shard = shard_of(name)
    others = (f"{name}.{number}" for number in count() if shard_of(f"{name}.{number}") == shard)
    return [name, *(next(others) for _ in range(GROUP_COUNT - 1))]


class Keeper(Client):
    """Commits numbers that grow."""

    def __init__(self, world: World, history: History, name: str) -> None:
        super().__init__(world, history, name)
        self.groups = groups_of_one_shard(name)
        self._sent = dict.fromkeys(self.groups, 0)
        self.known = dict.fromkeys(self.groups, 0)
        """Acknowledged, or told to somebody."""

    async def run(self) -> None:
        for group in self.groups:
            await self._commit(group)
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(self._commit_on)
            tasks.start_soon(self._check_on)

    async def _commit_on(self) -> None:
        while not self.is_stopping:
            await anyio.sleep(self.rng.expovariate(12.0))
            await self.lull()
            await self._commit(self.rng.choices(self.groups, [20, 4, 1])[0])

    async def _check_on(self) -> None:
        """Also while a commit is under way: what is told must stay, whether it was acknowledged or
        not."""
        while not self.is_stopping:
            await anyio.sleep(self.rng.expovariate(8.0))
            await self.check(self.rng.choice(self.groups))

    async def check_all(self) -> None:
        """Once everything works again."""
        for group in self.groups:
            while not await self.check(group):
                await self.pause()

    async def _commit(self, group: str) -> None:
        self._sent[group] += 1
        offset = self._sent[group]
        if await self._ask(group, partial(commit, group, offset)) == offset:
            self.known[group] = max(self.known[group], offset)
            self.history.note("keep", group, offset)

    async def check(self, group: str) -> bool:
        """Whether there was an answer."""
        known = self.known[group]
        found = await self._ask(group, partial(position, group))
        if found is None:
            return False
        self.told(group, known, found)
        return True

    def told(self, group: str, known: int, found: int) -> None:
        """Somebody has read a position; `known` is what was known when it was asked for."""
        if not known <= found <= self._sent[group]:
            self.history.anomaly("commit lost", f"{group} had committed {known}, and reads {found}")
        self.known[group] = max(self.known[group], found)

    async def _ask(self, group: str, serve: Callable[[Process], Awaitable[int]]) -> int | None:
        leader = await self.anyone(partial(coordinator, group), timeout_s=3.0)
        return None if leader is None or leader < 0 else await self.of(leader, serve, 3.0)
