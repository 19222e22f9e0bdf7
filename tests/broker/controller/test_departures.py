"""Who leaves the cluster for good, and who was told to stay when it was too late."""

from typing import cast

import anyio
import pytest

from broker.controller.departures import Departures
from broker.controller.metadata import Metadata
from raft import commands as c
from raft.members import Members
from raft.state import ClusterState
from tests.broker.no_peers import NoPeers
from tests.raft.support import DISKS, world

pytestmark = pytest.mark.anyio


class Raft:
    """Metadata of which the members may be changed."""

    def __init__(self, state: ClusterState, *voters: bytes) -> None:
        self.state = self.newest = state
        """As this node knows it, and as it is."""
        self.members = Members(tuple(voter.hex() for voter in voters))
        self.connected = frozenset(one.disk.hex() for one in state.brokers.values())
        self.admitted: list[str] = []

    async def propose(self, command: c.AnyCommand) -> c.Applied:
        assert isinstance(command, c.Barrier)
        self.state = self.newest
        return c.Applied(refusal="", revision=0)

    async def admit(self, voter: str) -> None:
        self.admitted.append(voter)
        self.members = Members(self.members.voters, (voter,))


async def looked_through(raft: Raft) -> list[str]:
    """Whom the leader lets in."""
    departures = Departures(
        node=1,
        metadata=cast(Metadata, raft),
        peers=NoPeers(),
        leader=lambda: 1,
        on_removed=lambda: None,
    )
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(departures.run)
        await anyio.wait_all_tasks_blocked()
        tasks.cancel_scope.cancel()
    return raft.admitted


async def test_a_node_that_is_told_to_stay_by_one_that_does_not_know_that_it_is_out() -> None:
    """Itself, for one: it hears of nothing any more. It would stay in name, be named as the writer
    of topics, and never know."""
    at = world(3)
    at.ok(c.MarkLeaving(3, leaving=True))
    at.ok(c.MarkLeaving(3, leaving=False))
    assert await looked_through(Raft(at.state, DISKS[1], DISKS[2])) == [DISKS[3].hex()]


async def test_a_lost_disk_is_not_let_in_again_while_the_new_one_takes_its_place() -> None:
    """It would be a member for ever, and count in every majority."""
    at = world(3)
    at.ok(c.FenceBroker(3, at.state.brokers[3].incarnation))
    assert await looked_through(Raft(at.state, DISKS[1], DISKS[2], b"n" * 16)) == []


async def test_a_disk_that_is_not_there_is_not_let_in() -> None:
    """It may be lost, and its cluster recovered without it."""
    raft = Raft(world(3).state, DISKS[1])
    raft.connected = frozenset({DISKS[3].hex()})
    assert await looked_through(raft) == [DISKS[3].hex()]


async def test_a_node_that_was_taken_out_comes_back_in_what_a_new_leader_remembers() -> None:
    """It would be a member that nobody is, until an operator takes it off the list."""
    at = world(3)
    raft = Raft(at.state, DISKS[1], DISKS[2])
    at.ok(c.MarkLeaving(3, leaving=True))
    at.ok(c.RemoveBroker(3, DISKS[3]))
    raft.newest = at.state
    assert await looked_through(raft) == []
