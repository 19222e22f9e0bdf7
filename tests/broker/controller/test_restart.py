"""Kills, power cuts, restarts: what was acknowledged is there, once, at its offset."""

import random
from pathlib import Path

import anyio
import pytest

from broker.errors import DuplicateSequence, OutOfOrderSequence
from broker.ports import ACKS_ALL
from engine.backends._memory import MemoryBackend
from engine.errors import CorruptSegmentError
from engine.segment_files import TopicDirectory, WindowFile
from raft.commands import AnyCommand, BeginSealMany
from raft.errors import NoLeader, OutcomeUnknown, RaftError
from raft.node import RaftNode
from raft.proposals import OnDone
from tests.broker.one_node import TOPICS, batch, put, read_all, running, values


def files(backend: MemoryBackend) -> list[str]:
    """Everything below the topics directory."""

    def walk(path: Path) -> list[str]:
        found = []
        for name in sorted(backend.fs.listdir(path)):
            child = path / name
            try:
                found += walk(child)
            except NotADirectoryError:
                found.append(str(child.relative_to(TOPICS)))
        return found

    return walk(TOPICS)


async def test_a_killed_node_has_everything_back_at_the_same_offsets(tmp_path: Path) -> None:
    async with running(tmp_path) as node:
        partition = await node.topic()
        topic_id = partition.topic.topic_id
        for number in range(10):
            await put(partition, b"a%d" % number, b"b%d" % number)
        before = await read_all(partition)
        disk = node.backend.kill_clone()
    async with running(tmp_path, disk) as node:
        partition = await node.topic()
        assert partition.topic.topic_id == topic_id
        assert await read_all(partition) == before
        assert (await put(partition, b"next")).base_offset == 20


async def test_records_that_were_being_deleted_at_the_end_are_gone_after_the_next_start(
    tmp_path: Path,
) -> None:
    """What is kept instead of them was written already: nobody would have looked for them again."""
    async with running(tmp_path) as node:
        partition = await node.topic()
        await put(partition, b"secret", producer=(7, 0, 0))
        disk = node.backend.kill_clone()
        await node.controller.delete_records(partition.topic, 1)
        log = partition.log
        with anyio.fail_after(10):
            while not log.is_emptied(1):
                await anyio.sleep(0.01)
        window = log.window(1)
    assert window is not None
    WindowFile(disk.fs, TopicDirectory(disk.fs, log.directory), 1).write(window)
    async with running(tmp_path, disk) as node:
        assert [name for name in files(disk) if name.endswith(".log")] == []
        again = await (await node.topic()).append(
            batch(b"secret", producer=(7, 0, 0)), acks=ACKS_ALL
        )
        assert again.is_duplicate


@pytest.mark.parametrize("seed", range(20))
async def test_a_power_cut_takes_nothing_that_was_acknowledged(tmp_path: Path, seed: int) -> None:
    rng = random.Random(seed)
    disk = MemoryBackend()
    acknowledged: list[bytes] = []
    for generation in range(3):
        async with running(tmp_path, disk, entries_max=7, monitor_interval_ms=10) as node:
            partition = await node.topic()
            found = values(await read_all(partition))
            assert [v for v in found if v in acknowledged] == acknowledged, f"seed {seed}"
            assert len(found) == len(set(found)), f"seed {seed}: a record came twice"
            for number in range(rng.randrange(12)):
                value = b"%d.%d" % (generation, number)
                await put(partition, value)
                acknowledged.append(value)
            await partition.append(batch(b"unacknowledged %d" % generation), acks=ACKS_ALL)
            disk = node.backend.crash_clone("random", rng)
    async with running(tmp_path, disk) as node:
        found = values(await read_all(await node.topic()))
        assert [v for v in found if v in acknowledged] == acknowledged, f"seed {seed}"


async def test_a_hundred_restarts_of_an_idle_node_leave_no_empty_files(tmp_path: Path) -> None:
    async with running(tmp_path) as node:
        await put(await node.topic("used"), b"x")
        await node.topic("unused")
        disk = node.backend.kill_clone()
    async with running(tmp_path, disk) as node:
        first = files(node.backend)
        disk = node.backend.kill_clone()
    for _ in range(10):
        async with running(tmp_path, disk) as node:
            assert len((await node.topic("used")).topic.segments) == 2
            assert len((await node.topic("unused")).topic.segments) == 1
            disk = node.backend.kill_clone()
    async with running(tmp_path, disk) as node:
        with anyio.fail_after(10):
            while any(name.startswith("unused") for name in files(node.backend)):
                await anyio.sleep(0.01)
        assert len(files(node.backend)) <= len(first)
        assert values(await read_all(await node.topic("used"))) == [b"x"]


async def test_the_leader_epoch_grows_with_every_restart(tmp_path: Path) -> None:
    disk, epochs = None, []
    for _ in range(3):
        async with running(tmp_path, disk) as node:
            epochs.append((await node.topic()).leader_epoch)
            disk = node.backend.kill_clone()
    assert epochs == sorted(set(epochs))


async def test_a_retry_across_a_kill_is_recognised(tmp_path: Path) -> None:
    async with running(tmp_path) as node:
        partition = await node.topic()
        for sequence in range(8):
            await put(partition, b"%d" % sequence, producer=(77, 0, sequence))
        disk = node.backend.kill_clone()
    for _ in range(2):
        async with running(tmp_path, disk) as node:
            partition = await node.topic()
            repeat = await put(partition, b"7", producer=(77, 0, 7))
            assert repeat.is_duplicate
            assert repeat.base_offset == 7
            with pytest.raises(DuplicateSequence):
                await put(partition, b"0", producer=(77, 0, 0))
            with pytest.raises(OutOfOrderSequence):
                await put(partition, b"9", producer=(77, 0, 9))
            assert len(await read_all(partition)) == 8
            disk = node.backend.kill_clone()


async def test_corruption_in_the_middle_stops_the_start_and_names_the_file(tmp_path: Path) -> None:
    async with running(tmp_path) as node:
        partition = await node.topic()
        for number in range(5):
            await put(partition, b"value %d" % number)
        disk = node.backend.kill_clone()
    name = next(name for name in files(disk) if name.endswith(".log"))
    disk.fs.contents(TOPICS / name)[100] ^= 1
    with pytest.raises(ExceptionGroup) as failure:
        async with running(tmp_path, disk):
            pass
    assert failure.group_contains(CorruptSegmentError, match=r"\.log: corrupt at byte 75")


async def test_a_node_comes_up_though_the_metadata_loses_its_leader_while_it_starts(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Two of three nodes are killed; one returns, and the third is killed before that is done."""
    async with running(tmp_path) as node:
        await put(await node.topic(), b"x")
        disk = node.backend.kill_clone()
    failures: list[RaftError] = [OutcomeUnknown("no majority"), NoLeader("nobody")]
    submit = RaftNode.submit

    def submit_or_fail(self: RaftNode, command: AnyCommand, on_done: OnDone) -> None:
        if isinstance(command, BeginSealMany) and failures:
            on_done(failures.pop())
        else:
            submit(self, command, on_done)

    monkeypatch.setattr(RaftNode, "submit", submit_or_fail)
    async with running(tmp_path, disk) as node:
        assert not failures
        assert values(await read_all(await node.topic())) == [b"x"]


async def test_files_that_no_metadata_explains_are_left_alone(tmp_path: Path) -> None:
    async with running(tmp_path) as node:
        await put(await node.topic(), b"x")
        disk = node.backend.kill_clone()
    stranger = TOPICS / f"stranger-{bytes(16).hex()}"
    disk.fs.mkdir(stranger)
    disk.fs.mkdir(stranger / "1")
    async with running(tmp_path, disk) as node:
        assert disk.fs.exists(stranger / "1")


async def test_a_topic_deleted_just_before_the_kill_is_gone_after_it(tmp_path: Path) -> None:
    async with running(tmp_path) as node:
        partition = await node.topic()
        await put(partition, b"x")
        disk = node.backend.kill_clone()
        await node.controller.delete_topic(partition.topic.topic_id)
    assert files(disk)
    async with running(tmp_path, disk) as node:
        assert files(node.backend) == []
        assert node.controller.topics() == []


@pytest.mark.parametrize("seed", range(10))
async def test_without_fsync_a_power_cut_keeps_the_longest_valid_prefix(
    tmp_path: Path, seed: int
) -> None:
    async with running(tmp_path, fsync="none") as node:
        partition = await node.topic()
        for number in range(20):
            await put(partition, b"%d" % number)
        disk = node.backend.crash_clone("random", random.Random(seed))
    async with running(tmp_path, disk, fsync="none", is_trusted=False) as node:
        partition = await node.topic()
        kept = values(await read_all(partition))
        assert kept == [b"%d" % number for number in range(len(kept))], f"seed {seed}"
        assert (await put(partition, b"next")).base_offset == len(kept)
