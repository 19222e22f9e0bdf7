"""What a node does with a Produce, by whichever of its three ways."""

from collections.abc import Awaitable, Callable
from functools import partial

import anyio

from broker.controller.partition import LocalPartition
from broker.errors import BatchRefused, RequestError
from broker.ports import ACKS_ALL, Appended
from tests.sim.cluster.node import Process
from tests.sim.cluster.troubles import TOPIC


async def produce(
    batches: list[bytes], acks: int, wait_s: float, process: Process
) -> list[int | RequestError]:
    """As the produce handler: append all in order, then wait for each. Offsets, or why not."""
    waits: list[Callable[[], Awaitable[int]]] = []
    for batch in batches:
        try:
            partition = process.controller.partition(process.controller.topic(TOPIC))
            is_quick = process.world.takes_quick_way()
            if is_quick and not process.world.takes_quick_way():
                soon = _Soon(process, partition, acks)
                if partition.append_soon(bytearray(batch), soon, acks=acks, timeout_s=wait_s):
                    waits.append(soon.wait)
                    continue
            written = _append_now(partition, batch, acks) if is_quick else None
            if written is None:
                written = await partition.append(bytearray(batch), acks=acks)
        except RequestError as error:
            waits.append(partial(_raise, error))
        else:
            committed = _committed_now if is_quick else _committed
            waits.append(committed(process, partition, written, acks, wait_s))
    outcomes: list[int | RequestError] = []
    for wait in waits:
        try:
            outcomes.append(await wait())
        except RequestError as error:
            outcomes.append(error)
    return outcomes


def _append_now(partition: LocalPartition, batch: bytes, acks: int) -> Appended | None:
    """None if the general way is to be gone, which may know what to do."""
    try:
        return partition.append_now(bytearray(batch), acks=acks)
    except BatchRefused:
        raise
    except RequestError:
        return None


def _committed(
    process: Process, partition: LocalPartition, written: Appended, acks: int, wait_s: float
) -> Callable[[], Awaitable[int]]:
    """Waits when it is called."""

    async def wait() -> int:
        await partition.committed(written.end_offset, acks=acks, timeout_s=wait_s)
        return _acknowledged(process, partition, written, acks)

    return wait


def _committed_now(
    process: Process, partition: LocalPartition, written: Appended, acks: int, wait_s: float
) -> Callable[[], Awaitable[int]]:
    """Is told of it from now on."""
    soon = _Soon(process, partition, acks)
    soon.appended = written
    partition.when_committed(written.end_offset, soon.committed, acks=acks, timeout_s=wait_s)
    return soon.wait


class _Soon:
    """Who waits for one batch without a task."""

    def __init__(self, process: Process, partition: LocalPartition, acks: int) -> None:
        self._process = process
        self._partition = partition
        self._acks = acks
        self._told: list[Exception | None] = []
        self._done = anyio.Event()
        self.appended: Appended | None = None

    def refused(self, error: Exception) -> None:
        self.committed(error)

    def committed(self, failure: Exception | None) -> None:
        self._told.append(failure)
        self._done.set()

    async def wait(self) -> int:
        await self._done.wait()
        if len(self._told) > 1:
            what = f"an append was answered {len(self._told)} times: {self._told}"
            self._process.world.violated(what)
        if (failure := self._told[0]) is not None:
            raise failure
        assert self.appended is not None
        return _acknowledged(self._process, self._partition, self.appended, self._acks)


def _acknowledged(process: Process, partition: LocalPartition, written: Appended, acks: int) -> int:
    if acks == ACKS_ALL:
        topic_id = partition.topic.topic_id.bytes
        process.world.committed(topic_id, written.end_offset, "a producer was acknowledged")
    return written.base_offset


async def _raise(error: RequestError) -> int:
    raise error
