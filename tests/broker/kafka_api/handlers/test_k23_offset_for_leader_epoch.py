"""OffsetForLeaderEpoch: an end that is too low makes consumers report lost data that is there."""

from dataclasses import replace
from typing import Any

import pytest

from broker.ports import SegmentView
from tests.broker.kafka_api.admin_layouts import OFFSET_FOR_LEADER_EPOCH
from tests.broker.kafka_api.fakes import batch
from tests.broker.kafka_api.harness import Node


async def end_of(
    node: Node, epoch: int, version: int = 4, name: str = "t", **wanted: Any
) -> tuple[int, int, int]:
    """(error, epoch, end offset)."""
    topics = [{"topic": name, "partitions": [{"partition": 0, "leader_epoch": epoch, **wanted}]}]
    answer = await node.connect().ask(OFFSET_FOR_LEADER_EPOCH, version, topics=topics)
    ((found,),) = [topic["partitions"] for topic in answer["topics"]]
    assert found["partition"] == wanted.get("partition", 0)
    return found["error"], found["leader_epoch"], found["end_offset"]


async def chain(node: Node, *, log_start_offset: int = 0) -> None:
    """Epoch 2 wrote 0-9, 3 nothing, 4 wrote 10-19, 5 nothing, 6 writes from 20 on; eight so far."""
    partition = await node.create("t")
    for number in range(28):
        await partition.append(batch(b"%d" % number), acks=-1)
    segments = (
        SegmentView(1, 0, 10, 1, 2, 70),
        SegmentView(3, 10, 20, 2, 4, 70),
        SegmentView(5, 20, None, 1, 6, None),
    )
    partition.view = replace(
        partition.view,
        leader_epoch=6,
        log_start_offset=log_start_offset,
        segments=tuple(one for one in segments if (one.end_offset or 99) > log_start_offset),
    )


@pytest.mark.parametrize("version", range(2, 5))
@pytest.mark.parametrize(
    ("epoch", "expected"),
    [
        (6, (0, 6, 28)),
        (5, (0, 4, 20)),
        (4, (0, 4, 20)),
        (3, (0, 2, 10)),
        (2, (0, 2, 10)),
        (1, (0, 1, 0)),
        (0, (0, 0, 0)),
        (7, (0, -1, -1)),
        (-1, (0, -1, -1)),
    ],
)
async def test_every_epoch_has_its_end(
    node: Node, version: int, epoch: int, expected: tuple[int, int, int]
) -> None:
    await chain(node)
    assert await end_of(node, epoch, version) == expected


@pytest.mark.parametrize(("epoch", "expected"), [(2, (0, 2, 15)), (4, (0, 4, 20)), (6, (0, 6, 28))])
async def test_epochs_whose_records_are_deleted_end_at_the_log_start(
    node: Node, epoch: int, expected: tuple[int, int, int]
) -> None:
    await chain(node, log_start_offset=15)
    assert await end_of(node, epoch) == expected


async def test_the_current_epoch_ends_at_what_consumers_can_see(node: Node) -> None:
    await chain(node)
    partition = node.controller.partitions["t"]
    partition.is_held = True
    await partition.append(batch(b"x"), acks=1)
    assert await end_of(node, 6) == (0, 6, 28)


@pytest.mark.parametrize(("current", "error"), [(-1, 0), (6, 0), (5, 74), (7, 75)])
async def test_what_the_client_believes_is_checked(node: Node, current: int, error: int) -> None:
    await chain(node)
    assert (await end_of(node, 4, current_leader_epoch=current))[0] == error


async def test_only_the_leader_answers(node: Node) -> None:
    await chain(node)
    assert await end_of(node, 2, partition=1) == (3, -1, -1)
    assert await end_of(node, 2, name="missing") == (3, -1, -1)
    node.depose("t")
    assert await end_of(node, 2) == (6, -1, -1)
