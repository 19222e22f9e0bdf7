"""What is known of producers, when it comes from somewhere else."""

from pathlib import Path

import pytest
from msgspec.structs import replace

from broker.controller.windows import Windows
from broker.replication.peers import PeerUnreachable
from engine.producer_state import ProducerState
from raft.state import Segment, Topic
from tests.broker.one_node import DISK, NODE, put, running


@pytest.mark.parametrize(
    "window", [b"", b"not a window", bytes(64)], ids=["empty", "text", "zeros"]
)
async def test_a_window_that_cannot_be_read_here_is_asked_for_again_and_ends_no_node(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, window: bytes
) -> None:
    """While nodes are upgraded one by one, a holder may tell it in words of its own."""

    async def at_end(self: Windows, topic: Topic, segment: Segment) -> bytes:
        return window

    async with running(tmp_path) as node:
        partition = await node.topic()
        await put(partition, b"x")
        assert await node.broker.leading.roll_in_place(partition, "the test")
        monkeypatch.setattr(Windows, "at_end", at_end)
        windows = node.broker._replicas.windows
        with pytest.raises(PeerUnreachable):
            await windows.before_last(partition.metadata)


async def test_a_segment_whose_disks_are_all_replaced_keeps_nobody_from_leading(
    tmp_path: Path,
) -> None:
    """Nobody will ever tell its window. While one of the disks may come back, it is waited for."""
    async with running(tmp_path) as node:
        partition = await node.topic()
        await put(partition, b"x")
        assert await node.broker.leading.roll_in_place(partition, "the test")
        topic = partition.metadata
        elsewhere = replace(topic.segments[-2], sid=99)
        windows = node.broker._replicas.windows
        lost = replace(elsewhere, holders=((NODE, b"the disk before."),))
        assert await windows.at_end(topic, lost) == ProducerState().snapshot()
        away = replace(elsewhere, holders=((NODE, b"the disk before."), (NODE, DISK)))
        with pytest.raises(PeerUnreachable):
            await windows.at_end(topic, away)
