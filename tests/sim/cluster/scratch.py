"""A topic that is made, written, read, deleted and made again under the same name, while the
cluster is in trouble. Nothing of an earlier life may be seen in a later one."""

from functools import partial
from uuid import UUID

import anyio

from broker.errors import TopicExists, UnknownTopic, UnknownTopicId
from broker.ports import ACKS_ALL
from tests.sim.cluster.clients import Client, make_batch, records_of
from tests.sim.cluster.node import Process
from tests.sim.cluster.world import World
from tests.sim.history import History

NAME = "scratch"
BATCHES_MAX = 20
READS_MAX = 100


class ScratchTopic(Client):
    """One life after the other."""

    def __init__(self, world: World, history: History, name: str) -> None:
        super().__init__(world, history, name)
        self._gone: set[UUID] = set()

    async def run(self) -> None:
        while not self.is_stopping:
            topic_id = await self.insist(partial(_create, self._gone))
            await self._live(topic_id)
            await self.insist(partial(_delete, topic_id))
            self._gone.add(topic_id)

    async def _live(self, topic_id: UUID) -> None:
        known: dict[int, bytes] = {}
        for number in range(self.rng.randint(1, BATCHES_MAX)):
            await anyio.sleep(self.rng.expovariate(20.0))
            value = b"%s.%d" % (topic_id.hex.encode(), number)
            offset = await self.anyone(partial(_produce, topic_id, value))
            if offset is not None:
                known[offset] = value
        for _ in range(READS_MAX):
            found = dict(await self.insist(partial(_read, topic_id)))
            if known.items() <= found.items():
                break
            await self.pause()  # Whoever answered may not know yet that it leads no more.
        self.history.note("scratch", sorted(found.items()))
        for offset, value in found.items():
            if not value.startswith(topic_id.hex.encode()):
                self.history.anomaly("scratch", f"{value!r} at {offset} is of an earlier life")
        for offset, value in known.items():
            if found.get(offset) != value:
                self.history.anomaly("scratch", f"{value!r}, acknowledged at {offset}, is lost")


async def _create(gone: set[UUID], process: Process) -> UUID | None:
    """None from a node that does not know yet what was deleted."""
    try:
        view = await process.controller.create_topic(NAME, configs={})
    except TopicExists:
        view = process.controller.topic(NAME)
    return None if view.topic_id in gone else view.topic_id


async def _delete(topic_id: UUID, process: Process) -> bool:
    """Whoever does not know it, once it knows what was so when it was asked, says the truth."""
    await process.controller.caught_up()
    try:
        await process.controller.delete_topic(topic_id)
    except (UnknownTopic, UnknownTopicId):
        pass  # An earlier attempt, whose answer was lost.
    return True


async def _produce(topic_id: UUID, value: bytes, process: Process) -> int:
    """Where it is led; a request that reaches another node has the broker look for that."""
    topic = process.controller.topic_by_id(topic_id)
    partition = process.controller.anywhere(topic, resends=False)
    appended = await partition.append(make_batch([value]), acks=ACKS_ALL)
    await partition.committed(appended.end_offset, acks=ACKS_ALL, timeout_s=3.0)
    return appended.base_offset


async def _read(topic_id: UUID, process: Process) -> list[tuple[int, bytes]]:
    topic = process.controller.topic_by_id(topic_id)
    partition = process.controller.anywhere(topic)
    found: list[tuple[int, bytes]] = []
    while data := await partition.read(found[-1][0] + 1 if found else 0, size_max=1000):
        found += records_of(data)
    return found
