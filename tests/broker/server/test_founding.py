"""A node that is started with the words of the first one, and is not always the first one."""

from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from pathlib import Path

import anyio
import pytest

from broker.config import Config
from broker.config.values import HostPort
from broker.controller.data_dir import DataDir
from broker.peer import Channel, Identity, PeerPort
from broker.peer.links import RAFT_CHANNEL
from broker.server.founding import settle

NOBODY_THERE = HostPort("127.0.0.1", 1)


@asynccontextmanager
async def _peer(cluster_id: str) -> AsyncIterator[HostPort]:
    """Another node of that cluster; "" for none yet."""
    port = PeerPort(lambda: Identity("0" * 32, 2, cluster_id, "127.0.0.1", 1), b"")
    port.serve(RAFT_CHANNEL, _hang_up)
    async with anyio.create_task_group() as tasks:
        yield HostPort("127.0.0.1", await tasks.start(port.listen, "127.0.0.1", 0))
        tasks.cancel_scope.cancel()


async def _hang_up(channel: Channel) -> None:
    await channel.aclose()


async def _settled(data: DataDir, *join: HostPort, patience_s: float = 30) -> bool | None:
    """Whether it forms a cluster; None: it is still undecided."""
    config = Config(data_dir=data.path, join=join, bootstrap=True)
    with anyio.move_on_after(patience_s):
        assert await settle(config, data)
        return not data.identity.joins
    return None


@pytest.fixture
def data(tmp_path: Path) -> Iterator[DataDir]:
    data = DataDir(tmp_path, node_id=1, joins=True)
    yield data
    data.release()


def test_a_first_node_that_is_back_with_a_new_disk_forms_no_second_cluster(data: DataDir) -> None:
    async def case() -> None:
        async with _peer("") as newcomer, _peer("c1") as member:
            assert await _settled(data, newcomer, member) is False

    anyio.run(case)


@pytest.mark.parametrize("others_up", [1, 2])
def test_the_first_start_of_all_forms_a_cluster_with_one_node_still_missing(
    data: DataDir, others_up: int
) -> None:
    async def case() -> None:
        async with _peer("") as one, _peer("") as two:
            others = (one, two) if others_up == 2 else (NOBODY_THERE, two)
            assert await _settled(data, *others)

    anyio.run(case)


def test_a_new_disk_that_is_up_before_the_others_waits_and_then_joins_them(data: DataDir) -> None:
    async def case() -> None:
        assert await _settled(data, NOBODY_THERE, NOBODY_THERE, patience_s=1) is None
        async with _peer("c1") as member:
            assert await _settled(data, NOBODY_THERE, member) is False

    anyio.run(case)


def test_what_was_decided_once_stays(data: DataDir, tmp_path: Path) -> None:
    assert data.is_undecided

    async def case() -> None:
        async with _peer("") as other:
            assert await _settled(data, other)

    anyio.run(case)
    data.release()
    again = DataDir(tmp_path, node_id=1, joins=True)
    assert not again.is_undecided
    assert not again.identity.joins
    again.release()
