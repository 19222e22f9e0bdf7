"""Replies: the records that leave are the very object that was read, or memory doubles."""

from broker.kafka_api.framing import BORROW_SIZE_MIN
from tests.broker.kafka_api.fakes import batch
from tests.broker.kafka_api.harness import Node


async def test_records_are_passed_along_and_not_copied(node: Node) -> None:
    partition = await node.create("t")
    await partition.append(batch(b"x" * 100_000), acks=-1)
    records = await partition.read(0, size_max=2**20)

    async def read(offset: int, *, size_max: int) -> bytes:
        return records

    partition.read = read  # type: ignore[method-assign]
    for version in (11, 12):
        asked = await node.connect().send_fetch("t", 0, version)
        reply = await asked.finish()
        assert any(buffer is records for buffer in reply)
        assert len(reply) <= 3
        assert asked.one(await asked.answer())["records"] == records


async def test_small_records_travel_in_one_buffer(node: Node) -> None:
    partition = await node.create("t")
    await partition.append(batch(b"x"), acks=-1)
    asked = await node.connect().send_fetch("t", 0)
    assert len(await asked.finish()) == 1


async def test_records_at_the_very_border(node: Node) -> None:
    for size in range(BORROW_SIZE_MIN - 90, BORROW_SIZE_MIN + 10):
        partition = await node.create(f"t{size}")
        await partition.append(batch(b"x" * size), acks=-1)
        assert (await node.connect().fetch(f"t{size}", 0))["records"] == partition.batches[0][2]
