"""Old segments read from other nodes, whose disks are not to be trusted."""

from collections.abc import Sequence

import pytest

from broker.errors import StorageFailed
from broker.ports import Buffer
from broker.replication import messages
from broker.replication.peers import Conversation, PeerUnreachable
from broker.replication.remote import RemoteReader
from engine.batch import Offset, patch
from tests.broker.one_node import batch

TOPIC_ID, SID = b"t" * 16, 1


class Holders:
    """Nodes, each with the bytes that it answers."""

    def __init__(self, answers: dict[int, bytes]) -> None:
        self.answers = answers
        self.asked: list[int] = []

    async def call(self, node: int, frame: Sequence[Buffer], *, timeout_s: float) -> memoryview:
        self.asked.append(node)
        return memoryview(b"".join(messages.encode(messages.ReadReply(), self.answers[node])))

    async def converse(self, node: int) -> Conversation:
        raise PeerUnreachable("they only answer questions")


def stored(*offsets: int) -> bytes:
    """One record at each of them."""
    batches = [bytearray(batch(b"v%d" % offset)) for offset in offsets]
    for offset, data in zip(offsets, batches, strict=True):
        patch(data, base_offset=Offset(offset), leader_epoch=4)
    return b"".join(batches)


def flipped(data: bytes, position: int) -> bytes:
    return data[:position] + bytes([data[position] ^ 1]) + data[position + 1 :]


async def read(peers: Holders) -> bytes:
    holders = tuple(peers.answers)
    reader = RemoteReader(peers)
    return await reader.read(holders, TOPIC_ID, SID, 5, size_max=1 << 20, end_offset=7)


@pytest.mark.parametrize("position", [0, 7, 20, 60, -1])
async def test_a_byte_that_has_decayed_on_the_disk_of_the_first_holder(position: int) -> None:
    """Be it in a record, in its CRC, or in the offset that no CRC covers."""
    good = stored(5, 6)
    peers = Holders({2: flipped(good, position % len(good)), 3: good})
    assert await read(peers) == good
    assert peers.asked == [2, 3]


async def test_a_batch_that_is_missing_in_the_middle() -> None:
    with pytest.raises(StorageFailed, match="node 2 is damaged"):
        await read(Holders({2: stored(5, 7)}))


async def test_when_every_copy_is_damaged_nothing_is_served() -> None:
    bad = flipped(stored(5, 6), 70)
    with pytest.raises(StorageFailed, match="node 3 is damaged"):
        await read(Holders({2: bad, 3: bad}))
