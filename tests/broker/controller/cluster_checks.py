"""What several nodes together must have kept, for tests."""

from collections.abc import Callable

import anyio

from broker.replication import messages
from raft.state import SegmentState
from tests.broker.cluster import Cluster
from tests.broker.one_node import TOPICS, read_all, values


async def acknowledged(made: Cluster, count: int, prefix: bytes = b"v") -> dict[int, bytes]:
    """Put `count` values; what was acknowledged, by offset."""
    known: dict[int, bytes] = {}
    for number in range(count):
        value = b"%s%d" % (prefix, number)
        known[await made.put(value)] = value
    return known


async def check(made: Cluster, known: dict[int, bytes]) -> list[bytes | None]:
    """Everything acknowledged is at its offset."""
    found = await read_all(await made.leader())
    by_offset = dict(found)
    for offset, value in known.items():
        assert by_offset.get(offset) == value, f"offset {offset}"
    return values(found)


async def settled_copies(made: Cluster) -> None:
    """Wait until every live node has sealed and registered its copies of closed segments."""
    with anyio.fail_after(20):
        while True:
            state = made.raft.state
            if all(
                {node for node, _ in segment.holders}
                >= set(segment.replicas) & set(made.network.nodes)
                for topic in state.topics.values()
                for segment in topic.segments
                if segment.state is SegmentState.SEALED
            ):
                return
            await anyio.sleep(0.02)


async def asked(made: Cluster, node: int, seal: messages.SealAsk) -> messages.SealReply:
    """What a recoverer is told."""
    frame = b"".join(await made.broker(node).answer(seal, memoryview(b"")))
    answer, _ = messages.decode_reply(memoryview(frame))
    assert isinstance(answer, messages.SealReply)
    return answer


async def emptied(made: Cluster) -> None:
    """Wait until no disk has a log file of the topic."""
    with anyio.fail_after(20):
        while any(
            name.endswith(".log")
            for disk in made.disks.values()
            for topic in disk.fs.listdir(TOPICS)
            if topic.startswith("t-")
            for sid in disk.fs.listdir(TOPICS / topic)
            if sid.isdecimal()
            for name in disk.fs.listdir(TOPICS / topic / sid)
        ):
            await anyio.sleep(0.02)


async def until(condition: Callable[[], bool]) -> None:
    with anyio.fail_after(20):
        while not condition():
            await anyio.sleep(0.01)
