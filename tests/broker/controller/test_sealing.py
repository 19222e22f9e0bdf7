"""Who seals what: the process that the metadata has given an attempt to, and no later one."""

from types import SimpleNamespace
from typing import cast

import anyio
import pytest

from broker.controller.metadata import Metadata
from broker.controller.sealing import Sealing
from broker.replication.recoverer import Patient, Recoverer
from broker.replication.seal import Superseded
from raft import commands as c
from raft.state import ClusterState
from tests.raft.support import World, world

pytestmark = pytest.mark.anyio


class Recoveries:
    """Notes what it is asked to seal, as epochs."""

    def __init__(self) -> None:
        self.begun: list[int] = []

    async def recover(self, patient: Patient) -> Superseded:
        self.begun.append(patient.seal_epoch)
        return Superseded(patient.seal_epoch + 1)


def _seal(at: World) -> ClusterState:
    topic = at.topic(1)
    at.ok(c.BeginSeal(topic.topic_id, topic.last.sid, topic.epoch, recoverer=1))
    return at.state


async def test_an_attempt_of_an_earlier_process_is_not_taken_up() -> None:
    """It may have chosen another end, and have copies repaired to it."""
    at = world(2)
    at.create(1, "a", (2, 1))
    metadata, recoveries = SimpleNamespace(state=_seal(at)), Recoveries()
    sealing = Sealing(
        node=1,
        metadata=cast(Metadata, metadata),
        recoverer=cast(Recoverer, recoveries),
        now_ms=lambda: 0,
    )
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(sealing.run)
        await anyio.wait_all_tasks_blocked()
        assert recoveries.begun == []
        before, metadata.state = metadata.state, _seal(at)
        sealing.on_change(before, metadata.state)
        await anyio.wait_all_tasks_blocked()
        assert recoveries.begun == [3]
        tasks.cancel_scope.cancel()
