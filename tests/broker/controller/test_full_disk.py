"""A node whose disk is full: others go on, and it comes back without a restart."""

import errno
from collections.abc import Callable
from pathlib import Path

import anyio
import pytest

from broker.errors import NotLeader, RequestError, StorageFailed
from broker.replication.space import Space
from engine.format import topic_directory
from raft.state import SegmentState
from tests.broker.cluster import Cluster, cluster
from tests.broker.controller.cluster_checks import acknowledged, check, settled_copies
from tests.broker.one_node import TOPICS, put

FULL = errno.ENOSPC


@pytest.fixture(autouse=True)
def _looks_often(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("broker.replication.space.CHECK_S", 0.02)


async def until(condition: Callable[[], object]) -> None:
    with anyio.fail_after(20):
        while not condition():
            await anyio.sleep(0.01)


async def leader_of(made: Cluster) -> int:
    return (await made.leader()).topic.leader_id


async def test_another_node_goes_on_where_a_write_did_not_fit(tmp_path: Path) -> None:
    async with cluster(tmp_path) as made:
        await made.controller(1).create_topic("t", configs={})
        known = await acknowledged(made, 10)
        full = await leader_of(made)
        made.free_sizes[full] = 0
        made.disks[full].fail_next("write", FULL, path=".log")
        known |= await acknowledged(made, 10, b"full")
        assert await leader_of(made) != full
        await check(made, known)
        made.free_sizes[full] = 1000
        known |= await acknowledged(made, 10, b"room")
        await settled_copies(made)
        await check(made, known)


async def test_a_follower_that_was_full_catches_up_by_itself(tmp_path: Path) -> None:
    async with cluster(tmp_path) as made:
        await made.controller(1).create_topic("t", configs={})
        known = await acknowledged(made, 5)
        full = await leader_of(made) % 3 + 1
        topic_id = (await made.leader()).metadata.topic_id
        log = made.network.nodes[full].store.log("t", topic_id)
        sid = made.raft.state.topics[topic_id].segments[-1].sid
        await until(lambda: log.get(sid) is not None)
        before = log.get(sid)
        made.disks[full].fail_next("write", FULL, path=".log", partial=7)
        known |= await acknowledged(made, 20, b"full")
        end_offset = max(known) + 1
        await until(
            lambda: (
                (after := log.get(sid)) is not None
                and after is not before
                and after.durable_offset == end_offset
            )
        )
        await check(made, known)


async def test_a_lone_node_takes_records_again_when_there_is_room(tmp_path: Path) -> None:
    async with cluster(tmp_path, 1) as made:
        await made.controller(1).create_topic("t", configs={})
        known = await acknowledged(made, 5)
        made.free_sizes[1] = 0
        made.disks[1].fail_next("write", FULL, path=".log", partial=30)
        partition = await made.leader()
        for _ in range(2):
            with pytest.raises(StorageFailed):
                await put(partition, b"refused")
        await check(made, known)
        made.free_sizes[1] = 1000
        known |= await acknowledged(made, 5, b"room")
        assert len(await check(made, known)) == 10
        chain = made.raft.state.topics[partition.metadata.topic_id].segments
        assert [segment.state for segment in chain] == [SegmentState.SEALED, SegmentState.OPEN]


async def test_a_node_short_of_space_hands_over_before_a_write_fails(tmp_path: Path) -> None:
    async with cluster(tmp_path, monitor_interval_ms=20) as made:
        await made.controller(1).create_topic("t", configs={})
        known = await acknowledged(made, 5)
        short = await leader_of(made)
        partition = made.controller(short).partition(made.controller(short).topic("t"))
        made.free_sizes[short] = 99
        await until(lambda: made.controller(1).topic("t").leader_id != short)
        with pytest.raises(NotLeader):
            made.controller(short).partition(partition.topic)
        known |= await acknowledged(made, 10, b"short")
        log = made.network.nodes[short].store.log("t", partition.metadata.topic_id)
        assert sum(segment.end_offset - segment.base_offset for segment in log.segments()) == 5
        made.free_sizes[short] = 1000
        await until(lambda: log.segments()[-1].durable_offset == max(known) + 1)
        await check(made, known)


async def test_with_all_disks_full_nothing_is_taken_and_reading_goes_on(tmp_path: Path) -> None:
    async with cluster(tmp_path) as made:
        await made.controller(1).create_topic("t", configs={})
        known = await acknowledged(made, 5)
        made.free_sizes |= dict.fromkeys((1, 2, 3), 99)
        partition = await made.leader()
        await until(lambda: made.network.nodes[partition.topic.leader_id].store.space.is_short)
        with pytest.raises(RequestError):
            await put(partition, b"refused")
        await check(made, known)
        made.free_sizes.clear()
        known |= await acknowledged(made, 5, b"room")
        await check(made, known)


async def test_deletions_that_make_room_do_not_wait_for_copies_that_need_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("broker.controller.housekeeping.JOBS_MAX", 1)
    async with cluster(tmp_path) as made:
        for name in ("t", "large"):
            await made.controller(1).create_topic(name, configs={})
        known = await acknowledged(made, 5)
        await made.put(b"x" * 1000, "large")
        short = await leader_of(made) % 3 + 1
        node, fs = made.network.nodes[short], made.disks[short].fs
        large = made.controller(1).topic("large").topic_id
        path = TOPICS / topic_directory("large", large.bytes)
        await until(lambda: fs.exists(path / "1"))
        made.free_sizes[short] = 0
        await until(lambda: node.store.space.is_short)
        known |= await acknowledged(made, 5, b"short")
        leader = await made.leader()
        assert await made.broker(leader.topic.leader_id).leading.roll(leader, "to be sealed")
        await until(lambda: not node.broker._replicas._housekeeping.is_idle)
        await made.controller(leader.topic.leader_id).delete_topic(large)
        await until(lambda: not fs.exists(path))
        assert node.store.space.is_short
        made.free_sizes.clear()
        await settled_copies(made)
        await check(made, known)


async def test_a_shortage_that_ends_in_the_same_moment_is_heard_of() -> None:
    """A write has failed on it, and somebody has to read that copy back."""
    space, heard = Space(), anyio.Event()

    async def listen() -> None:
        await space.until(is_short=True)
        heard.set()

    async with anyio.create_task_group() as tasks:
        tasks.start_soon(listen)
        tasks.start_soon(space.run)
        await anyio.wait_all_tasks_blocked()
        space.note_full()
        space._set(False)
        with anyio.fail_after(10):
            await heard.wait()
        tasks.cancel_scope.cancel()


@pytest.mark.parametrize(
    ("operation", "path"),
    [("sync", ".log"), ("write", "meta"), ("truncate", ".log")],
    ids=["while it is read back", "while it is promised", "while its torn end is cut"],
)
async def test_a_disk_that_is_full_again_while_its_copies_are_mended_is_lived_through(
    tmp_path: Path, operation: str, path: str
) -> None:
    """Somebody else fills it, empties it, and fills it again."""
    async with cluster(tmp_path, 1) as made:
        await made.controller(1).create_topic("t", configs={})
        known = await acknowledged(made, 5)
        made.free_sizes[1] = 0
        made.disks[1].fail_next("write", FULL, path=".log", partial=30)
        with pytest.raises(StorageFailed):
            await put(await made.leader(), b"refused")
        made.disks[1].fail_next(operation, FULL, path=path)
        made.free_sizes[1] = 1000
        known |= await acknowledged(made, 5, b"room")
        assert len(await check(made, known)) == 10
