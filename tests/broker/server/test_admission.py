"""A machine comes back with an empty disk, under the id that it had."""

from functools import partial
from typing import cast

import anyio
import pytest
from structlog.testing import capture_logs

from broker.controller.metadata import Metadata
from broker.server.admission import SAY_EVERY, Admission, MembershipError
from raft import commands as c
from raft.errors import OutcomeUnknown
from raft.membership import OnMember
from raft.node import RaftNode
from raft.state import ClusterState
from tests.raft.support import World, world

pytestmark = pytest.mark.anyio

NEW_DISK = b"n" * 16


class Cluster:
    """Of which the newcomer sees this much. Its old self counts as alive until a leader has fenced
    it, which takes a majority."""

    def __init__(self, at: World) -> None:
        self._at = at
        self.leader: str | None = at.state.brokers[2].disk.hex()
        self.voter_id = NEW_DISK.hex()
        self.members: set[str] = set()

    @property
    def state(self) -> ClusterState:
        return self._at.state

    @property
    def reaches_majority(self) -> bool:
        return self.leader is not None

    async def changed(self) -> None:
        await anyio.sleep(0.01)

    def fence(self) -> None:
        self._at.ok(c.FenceBroker(1, self._at.state.brokers[1].incarnation))

    async def take_part(self) -> None:
        await Admission(
            node=1,
            raft=cast(RaftNode, self),
            metadata=cast(Metadata, self),
            call_soon=lambda _: None,
        ).take_part(joins=True)


@pytest.fixture(autouse=True)
def _is_soon_out_of_patience(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("broker.server.admission.ID_PATIENCE_S", 0.2)
    monkeypatch.setattr("broker.server.admission.LOOK_S", 0.01)


async def test_a_lost_disk_is_waited_for_while_nobody_can_find_it_lost() -> None:
    """Two of three machines are down, one of them for good: the first that is back does not end
    itself because nobody can say yet that its old self is dead."""
    made = Cluster(world(3))
    made.leader = None
    with anyio.fail_after(20):
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(made.take_part)
            await anyio.sleep(0.5)
            made.leader = "02" * 16
            await anyio.sleep(0.05)
            made.fence()


async def test_each_leader_is_given_the_time_to_find_out() -> None:
    made = Cluster(world(3))
    with anyio.fail_after(20):
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(made.take_part)
            for leader in ("02", "03", "02", "03"):
                made.leader = leader * 16
                await anyio.sleep(0.1)
            made.fence()


async def test_an_id_that_somebody_alive_has_is_refused() -> None:
    made = Cluster(world(3))
    with anyio.fail_after(20), pytest.raises(MembershipError, match="belongs to a live node"):
        await made.take_part()


class Unreachable:
    """Nobody answers at --join until `cluster_id` is there."""

    voter_id = NEW_DISK.hex()

    def __init__(self) -> None:
        self.state = ClusterState()
        self.asked_count = 0

    def change_members(self, *, on_done: OnMember, **_: object) -> None:
        self.asked_count += 1
        on_done(OutcomeUnknown("nobody said anything"))

    async def changed(self) -> None:
        await anyio.sleep_forever()


async def test_a_node_whose_cluster_cannot_be_reached_says_so_and_not_all_the_time(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """A firewall that drops what comes refuses nothing: the node would wait without a word."""
    monkeypatch.setattr("broker.server.admission.ASK_TIMEOUT_S", 0.001)
    made = Unreachable()
    admission = Admission(
        node=1,
        raft=cast(RaftNode, made),
        metadata=cast(Metadata, made),
        call_soon=lambda call: call(),
    )
    with capture_logs() as logs, anyio.fail_after(20):
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(partial(admission.take_part, joins=True))
            while made.asked_count <= SAY_EVERY + 1:
                await anyio.sleep(0.001)
            tasks.cancel_scope.cancel()
    warnings = [line for line in logs if line["log_level"] == "warning"]
    assert len(warnings) == 2
    assert "--join" in warnings[0]["event"]
