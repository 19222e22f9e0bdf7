"""Who seals what: the process that the metadata has given an attempt to, and no later one. And who
is named as having all of it."""

from types import SimpleNamespace
from typing import cast

import anyio
import pytest
from structlog.testing import capture_logs

from broker.controller.metadata import Metadata
from broker.controller.sealing import Sealing
from broker.errors import MetadataUnavailable
from broker.replication.recoverer import Patient, Recoverer
from broker.replication.seal import Commit, Superseded
from engine.format import SegmentEnd
from raft import commands as c
from raft.pmap import PMap
from raft.state import ClusterState
from tests.raft.support import DISKS, World, world

pytestmark = pytest.mark.anyio


class Recoveries:
    """Notes what it is asked to seal, as epochs."""

    def __init__(self) -> None:
        self.begun: list[int] = []

    async def recover(self, patient: Patient) -> Superseded:
        self.begun.append(patient.seal_epoch)
        return Superseded(patient.seal_epoch + 1)


class Answers:
    """Both replicas have answered, and one of them takes its time for the rest."""

    def __init__(self) -> None:
        self.are_there = anyio.Event()

    async def recover(self, _: Patient) -> Commit:
        await self.are_there.wait()
        return Commit(SegmentEnd(3, 300, 7, 5), (1, 2))


class Proposals:
    """Metadata that takes what is proposed, and never answers."""

    def __init__(self, state: ClusterState) -> None:
        self.state = state
        self.proposed: list[c.AnyCommand] = []

    async def propose(self, command: c.AnyCommand) -> c.Applied:
        self.proposed.append(command)
        await anyio.sleep_forever()
        raise AssertionError


def _seal(at: World) -> ClusterState:
    topic = at.topic(1)
    at.ok(c.BeginSeal(topic.topic_id, topic.last.sid, topic.epoch, recoverer=1))
    return at.state


def of_node_1(metadata: object, recoverer: object) -> Sealing:
    return Sealing(
        node=1,
        metadata=cast(Metadata, metadata),
        recoverer=cast(Recoverer, recoverer),
        now_ms=lambda: 0,
    )


async def test_an_attempt_of_an_earlier_process_is_not_taken_up() -> None:
    """It may have chosen another end, and have copies repaired to it."""
    at = world(2)
    at.create(1, "a", (2, 1))
    metadata, recoveries = SimpleNamespace(state=_seal(at)), Recoveries()
    sealing = of_node_1(metadata, recoveries)
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(sealing.run)
        await anyio.wait_all_tasks_blocked()
        assert recoveries.begun == []
        before, metadata.state = metadata.state, _seal(at)
        sealing.on_change(before, metadata.state)
        await anyio.wait_all_tasks_blocked()
        assert recoveries.begun == [3]
        tasks.cancel_scope.cancel()


async def test_topics_that_wait_for_nodes_do_not_double_while_there_is_no_majority(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Two of three nodes die one after the other. One topic could go on with what the first left;
    of another, that one alone has everything."""
    monkeypatch.setattr("broker.controller.sealing.RETRY_PAUSE_S", 0.001)
    at = world(3)
    for number, name in ((1, "goes on"), (2, "waits")):
        topic = at.create(number, name, (2, 1, 3))
        at.ok(c.BeginSeal(topic.topic_id, topic.last.sid, topic.epoch, recoverer=1))
    at.ok(c.FenceBroker(2, at.state.brokers[2].incarnation))
    proposed = 0

    async def propose(command: c.CommitSealMany) -> c.Applied:
        nonlocal proposed
        proposed += 1
        assert len(command.items) == 1
        raise MetadataUnavailable("no majority")

    async def recover(patient: Patient) -> Commit:
        holders = (1, 3) if patient.topic == "goes on" else (2,)
        return Commit(SegmentEnd(0, 0, 0, -1), holders)

    empty = SimpleNamespace(topics=PMap(), brokers={})
    metadata = SimpleNamespace(state=empty, propose=propose)
    sealing = of_node_1(metadata, SimpleNamespace(recover=recover))
    with capture_logs() as logs, anyio.fail_after(20):
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(sealing.run)
            await anyio.wait_all_tasks_blocked()
            metadata.state = at.state
            sealing.on_change(cast(ClusterState, empty), at.state)
            while proposed < 10:
                await anyio.sleep(0.001)
            tasks.cancel_scope.cancel()
    waited = [log for log in logs if log["event"] == "too few live nodes to go on"]
    assert 1 <= len(waited) <= 2 * proposed


async def test_a_disk_that_is_replaced_after_it_has_answered_is_no_holder() -> None:
    """What it vouched for went with it, and the one that has come in its place holds nothing."""
    at = world(2)
    at.create(1, "a", (2, 1))
    metadata, answers = Proposals(_seal(at)), Answers()
    sealing = of_node_1(metadata, answers)
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(sealing.run)
        await anyio.wait_all_tasks_blocked()
        before, metadata.state = metadata.state, _seal(at)
        sealing.on_change(before, metadata.state)
        await anyio.wait_all_tasks_blocked()
        at.ok(c.FenceBroker(2, at.state.brokers[2].incarnation))
        at.register(2, disk=b"n" * 16)
        before, metadata.state = metadata.state, at.state
        sealing.on_change(before, metadata.state)
        answers.are_there.set()
        await anyio.wait_all_tasks_blocked()
        (command,) = metadata.proposed
        assert isinstance(command, c.CommitSealMany)
        assert command.items[0].holders == ((1, DISKS[1]), (2, DISKS[2]))
        tasks.cancel_scope.cancel()
