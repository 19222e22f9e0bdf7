"""Beginning to lead, while what has to be known first is hard to come by."""

from pathlib import Path

import anyio
import pytest
from structlog.testing import capture_logs

from broker.controller import leases as leases_module
from broker.controller.windows import Windows
from broker.replication.peers import PeerUnreachable
from engine.producer_state import ProducerState
from raft.state import Topic
from tests.broker.one_node import put, running


async def test_who_holds_the_segment_before_is_looked_up_again_at_each_try(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Those who held it at first may be away for long, and another node has got its copy since."""
    asked: list[Topic] = []

    async def before_last(self: Windows, topic: Topic) -> ProducerState:
        asked.append(topic)
        if topic.configs:
            return ProducerState()
        raise PeerUnreachable("nobody who held it at first is there")

    async with running(tmp_path) as node:
        partition = await node.topic()
        await put(partition, b"x")
        leases, topic_id = node.broker.leading.leases, partition.metadata.topic_id
        copy = leases._copies.get(topic_id, partition.metadata.last.sid)
        assert copy is not None
        copy.window = None
        del leases.partitions[topic_id]
        monkeypatch.setattr(Windows, "before_last", before_last)
        monkeypatch.setattr(leases_module, "UNREADY_S", -1.0)
        leases._sync_all()
        with anyio.fail_after(10), capture_logs() as said:
            while not asked:
                await anyio.sleep(0.01)
            await node.controller.configure(
                partition.topic.topic_id, lambda _: {"retention.ms": "5"}, validate_only=False
            )
            await leases.settled()
        assert leases.partitions[topic_id].bucket is not None
        assert [one["why"] for one in said if one["event"] == "not ready to lead"] == [
            "nobody who held it at first is there"
        ], "an operator is told, and once"
