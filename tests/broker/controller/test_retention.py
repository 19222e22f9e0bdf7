"""Retention: what is due goes from every disk, what is not due stays, and a wrong clock deletes
nothing."""

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import anyio
import anyio.lowlevel
import pytest
from hypothesis import given
from hypothesis import strategies as st
from structlog.testing import capture_logs

from broker.controller.housekeeping import Housekeeping
from broker.controller.partition import LocalPartition
from broker.controller.retention import HIGH_WATERMARK, delete_records, due
from broker.controller.topic_config import TopicConfig
from broker.errors import NotLeader, OffsetOutOfRange, UnknownTopic
from broker.ports import ACKS_ALL
from engine.backends._memory import MemoryBackend
from raft.state import Segment, SegmentState, Topic
from tests.broker.cluster import Cluster, cluster
from tests.broker.one_node import TOPICS, OneNode, batch, put, read_all, running

T0 = 1_700_000_000_000
DAY_MS = 86_400_000


def topic(*sealed: tuple[int, int, int], internal: bool = False, **configs: str) -> Topic:
    """A chain of segments of ten records, each of (size, largest timestamp, time of the last
    append), and an open one."""

    def segment(sid: int, size: int, newest_ms: int, appended_ms: int) -> Segment:
        is_sealed = sid <= len(sealed)
        return Segment(
            sid=sid, state=SegmentState.SEALED if is_sealed else SegmentState.OPEN, epoch=sid,
            writer=1, writer_incarnation=1, replicas=(1,), void=(), base_offset=(sid - 1) * 10,
            end_offset=sid * 10 if is_sealed else -1, size=size, digest=0,
            max_timestamp=newest_ms, holders=(), seal_epoch=0, recoverer=-1,
            appended_ms=appended_ms,
        )  # fmt: skip

    chain = [segment(number, *one) for number, one in enumerate((*sealed, (-1, -1, -1)), 1)]
    return Topic(
        topic_id=bytes(16), name="t",
        configs={key.replace("_", "."): value for key, value in configs.items()},
        config_revision=0, replication_factor=1, internal=internal, pinned=internal,
        epoch=len(chain), next_sid=len(chain) + 1, log_start_offset=0, segments=tuple(chain),
        deleted_up_to_sid=0, created_revision=1,
    )  # fmt: skip


def due_now(made: Topic, now_ms: int = T0, open_size: int = 0) -> int | None:
    return due(made, TopicConfig.of(made.configs), now_ms=now_ms, open_size=open_size)


class TestTheDecision:
    @pytest.mark.parametrize(
        ("retention_ms", "log_start_offset"),
        [("-1", None), ("31", None), ("30", None), ("29", 10), ("10", 20), ("9", 30), ("0", 30)],
    )
    def test_segments_go_by_the_age_of_their_newest_record(
        self, retention_ms: str, log_start_offset: int | None
    ) -> None:
        made = topic(
            (1, T0 - 30, -1), (1, T0 - 20, -1), (1, T0 - 10, -1), retention_ms=retention_ms
        )
        assert due_now(made) == log_start_offset

    @pytest.mark.parametrize(
        ("retention_bytes", "open_size", "log_start_offset"),
        [
            ("-1", 10**9, None), ("301", 0, None), ("201", 0, None), ("200", 0, 10),
            ("101", 0, 10), ("0", 0, 30), ("200", 99, 10), ("200", 100, 20), ("1", 10**9, 30),
        ],
    )  # fmt: skip
    def test_segments_go_by_size_while_enough_remains(
        self, retention_bytes: str, open_size: int, log_start_offset: int | None
    ) -> None:
        made = topic(*[(100, T0, T0)] * 3, retention_bytes=retention_bytes, retention_ms="-1")
        assert due_now(made, open_size=open_size) == log_start_offset

    def test_old_times_do_not_delete_records_that_came_today(self) -> None:
        made = topic((1, 5, T0 - 1), retention_ms="1000")
        assert due_now(made) is None
        assert due_now(made, T0 + 1000) == 10

    def test_a_young_segment_protects_what_is_behind_it(self) -> None:
        """What stays is one range of offsets."""
        made = topic((1, T0, T0), (1, T0 - 99, T0 - 99), retention_ms="10")
        assert due_now(made) is None

    @pytest.mark.parametrize("policy", ["compact", ""])
    def test_what_only_compacts_stays(self, policy: str) -> None:
        made = topic((1, 0, 0), cleanup_policy=policy, retention_ms="0", retention_bytes="0")
        assert due_now(made) is None

    def test_what_compacts_and_deletes_is_deleted(self) -> None:
        assert due_now(topic((1, 0, 0), cleanup_policy="compact,delete", retention_ms="0")) == 10

    def test_internal_topics_are_left_alone(self) -> None:
        assert due_now(topic((1, 0, 0), internal=True, retention_ms="0")) is None

    @given(
        st.lists(st.tuples(st.integers(1, 99), st.integers(-1, 99), st.integers(-1, 99))),
        st.integers(-1, 99), st.integers(-1, 999), st.integers(0, 200), st.integers(0, 99),
    )  # fmt: skip
    def test_nothing_goes_that_neither_limit_gives_up(
        self,
        sealed: list[tuple[int, int, int]],
        retention_ms: int,
        retention_bytes: int,
        now_ms: int,
        open_size: int,
    ) -> None:
        made = topic(*sealed, retention_ms=str(retention_ms), retention_bytes=str(retention_bytes))
        log_start_offset = due_now(made, now_ms, open_size) or 0
        assert log_start_offset % 10 == 0
        for segment in made.segments[:-1]:
            if segment.end_offset <= log_start_offset:
                newest_ms = max(segment.max_timestamp, segment.appended_ms)
                is_expired = 0 <= retention_ms < now_ms - newest_ms
                later = open_size + sum(size for size, _, _ in sealed[segment.sid :])
                assert is_expired or 0 <= retention_bytes <= later


def topic_files(backend: MemoryBackend) -> list[str]:
    """The log files on this disk, but for those of internal topics."""
    fs = backend.fs
    return [
        f"{topic}/{sid}/{name}"
        for topic in fs.listdir(TOPICS)
        if not topic.startswith("__")
        for sid in fs.listdir(TOPICS / topic)
        if sid.isdecimal()
        for name in fs.listdir(TOPICS / topic / sid)
        if name.endswith(".log")
    ]


async def until(holds: Callable[[], bool]) -> None:
    with anyio.fail_after(20):
        while not holds():
            await anyio.sleep(0.01)


async def fill(partition: LocalPartition, count: int) -> None:
    for number in range(count):
        await put(partition, b"%d" % number, timestamp_ms=T0)


async def rolled(node: OneNode, partition: LocalPartition, count: int = 30) -> None:
    """`count` records in segments of ten, the last one empty."""
    for end_offset in range(10, count + 1, 10):
        await fill(partition, 10)
        await until(lambda: partition.metadata.last.base_offset == end_offset)  # noqa: B023


async def test_expired_segments_leave_the_disk_and_readers_are_told(tmp_path: Path) -> None:
    async with running(
        tmp_path, entries_max=10, monitor_interval_ms=10, retention_interval_ms=10
    ) as node:
        partition = await node.topic(retention_ms=str(DAY_MS))
        await rolled(node, partition)
        node.clock.wall_ms = T0 + DAY_MS // 2
        await put(partition, b"young")
        assert len(topic_files(node.backend)) == 4
        node.clock.wall_ms = T0 + DAY_MS + 1
        await until(lambda: partition.log_start_offset == 30)
        await until(lambda: len(topic_files(node.backend)) == 1)
        with pytest.raises(OffsetOutOfRange):
            await partition.read(29, size_max=1000)
        assert await read_all(partition) == [(30, b"young")]


async def test_a_log_that_is_too_large_gives_up_its_oldest_segments(tmp_path: Path) -> None:
    async with running(
        tmp_path, entries_max=10, monitor_interval_ms=10, retention_interval_ms=10
    ) as node:
        partition = await node.topic(retention_bytes="1")
        other = await node.topic("kept")
        await rolled(node, other)
        await rolled(node, partition)
        await put(partition, b"x")
        await until(lambda: partition.log_start_offset == 30)
        assert other.log_start_offset == 0


async def test_an_idle_topic_is_emptied_too(tmp_path: Path) -> None:
    """Its only segment is open and would else never be old enough: Kafka's way to purge a topic."""
    async with running(tmp_path, retention_interval_ms=10) as node:
        partition = await node.topic(retention_ms="1000")
        await fill(partition, 5)
        epoch = partition.leader_epoch
        node.clock.wall_ms += 1001
        await until(lambda: partition.log_start_offset == 5)
        await until(lambda: not topic_files(node.backend))
        assert await read_all(partition) == []
        appended = await put(partition, b"next")
        assert appended.base_offset == 5
        assert partition.leader_epoch == epoch + 1, "an empty segment is not rolled again"


async def test_compacted_and_internal_topics_keep_everything(tmp_path: Path) -> None:
    async with running(tmp_path, retention_interval_ms=10) as node:
        kept = await node.topic("kept", cleanup_policy="compact", retention_ms="0")
        gone = await node.topic("gone", retention_ms="0")
        await put(kept, b"v", key=b"k")
        await put(gone, b"v")
        node.clock.wall_ms += 10
        await until(lambda: gone.log_start_offset == 1)
        assert kept.log_start_offset == 0


async def test_a_segment_rolls_when_it_is_too_old(tmp_path: Path) -> None:
    async with running(tmp_path, monitor_interval_ms=10) as node:
        partition = await node.topic(segment_ms="5000")
        idle = await node.topic("idle", segment_ms="5000")
        await put(partition, b"a")
        node.clock.wall_ms += 4999
        await put(partition, b"b")
        assert len(partition.topic.segments) == 1
        node.clock.wall_ms += 1
        await until(lambda: len(partition.topic.segments) == 2)
        assert idle.leader_epoch == 1, "an empty segment has no age"


class TestDeleteRecords:
    @pytest.mark.parametrize("offset", [3, 10, 17, 25, HIGH_WATERMARK])
    async def test_the_log_begins_where_it_was_told_to(self, tmp_path: Path, offset: int) -> None:
        async with running(tmp_path, entries_max=10, monitor_interval_ms=10) as node:
            partition = await node.topic()
            await rolled(node, partition, 20)
            await fill(partition, 5)
            epoch = partition.leader_epoch
            delete = node.controller.delete_records
            expected = 25 if offset == HIGH_WATERMARK else offset
            assert await delete(partition.topic, offset) == expected
            assert partition.log_start_offset == expected
            assert await delete(partition.topic, 1) == expected, "it never goes back"
            partition.check_epoch(epoch)  # the leader is still the same one
            with pytest.raises(OffsetOutOfRange):
                await partition.read(expected - 1, size_max=100)
            found = await read_all(partition)
            assert [at for at, _ in found] == list(range(expected, 25))
            await until(lambda: len(topic_files(node.backend)) <= 3 - expected // 10)
            assert (await put(partition, b"next")).base_offset == 25

    @pytest.mark.parametrize("offset", [6, -2, 2**62])
    async def test_what_nobody_has_seen_cannot_be_deleted(
        self, tmp_path: Path, offset: int
    ) -> None:
        async with running(tmp_path) as node:
            partition = await node.topic()
            await fill(partition, 5)
            with pytest.raises(OffsetOutOfRange):
                await node.controller.delete_records(partition.topic, offset)
            assert partition.log_start_offset == 0

    async def test_a_topic_that_is_deleted_meanwhile_is_not_said_to_begin_somewhere(
        self, tmp_path: Path
    ) -> None:
        async with running(tmp_path) as node:
            partition = await node.topic()
            await fill(partition, 5)

            async def roll(led: LocalPartition, reason: str) -> bool:
                is_closed = await node.broker.leading.roll_in_place(led, reason)
                await node.controller.delete_topic(led.topic.topic_id)
                return is_closed

            with pytest.raises(UnknownTopic):
                await delete_records(partition, node.broker._metadata, HIGH_WATERMARK, roll=roll)

    async def test_a_topic_that_moves_meanwhile_is_not_said_to_begin_where_it_did(
        self, tmp_path: Path
    ) -> None:
        async with running(tmp_path) as node:
            partition = await node.topic()
            await fill(partition, 5)

            async def roll(led: LocalPartition, reason: str) -> bool:
                is_closed = await node.broker.leading.roll_in_place(led, reason)
                node.broker.leading.leases.partitions.pop(led.topic.topic_id.bytes)
                led.close(NotLeader("it has moved"))
                return is_closed

            metadata = node.broker._metadata
            assert await delete_records(partition, metadata, HIGH_WATERMARK, roll=roll) == 5

    async def test_a_client_that_gives_up_leaves_a_topic_that_takes_records(
        self, tmp_path: Path
    ) -> None:
        held: list[Callable[[], None]] = []
        is_held = False

        def schedule(operation: str, size: int, ready: Callable[[], None]) -> None:
            if is_held and operation == "write":
                held.append(ready)
            else:
                ready()

        async with running(tmp_path, MemoryBackend(schedule=schedule)) as node:
            partition = await node.topic()
            await put(partition, b"committed")
            is_held = True
            waiting = await partition.append(batch(b"not committed yet"), acks=ACKS_ALL)
            with anyio.move_on_after(0.1) as patience:
                await node.controller.delete_records(partition.topic, HIGH_WATERMARK)
            assert patience.cancelled_caught
            is_held = False
            held.pop()()
            with anyio.fail_after(10):
                await partition.committed(waiting.end_offset, acks=ACKS_ALL, timeout_s=10)
                await put(partition, b"after")

    async def test_the_log_start_survives_a_restart(self, tmp_path: Path) -> None:
        backend = MemoryBackend()
        async with running(tmp_path, backend) as node:
            partition = await node.topic()
            await fill(partition, 5)
            await node.controller.delete_records(partition.topic, 3)
        async with running(tmp_path, backend.kill_clone()) as node:
            partition = await node.topic()
            assert [at for at, _ in await read_all(partition)] == [3, 4]

    async def test_under_load(self, tmp_path: Path) -> None:
        async with running(tmp_path, entries_max=10, monitor_interval_ms=10) as node:
            partition = await node.topic()
            is_done = False

            async def write() -> None:
                while not is_done:
                    await put(partition, b"x")

            async with anyio.create_task_group() as tasks:
                for _ in range(4):
                    tasks.start_soon(write)
                for _ in range(20):
                    await anyio.sleep(0.01)
                    await node.controller.delete_records(partition.topic, HIGH_WATERMARK)
                is_done = True
            found = [at for at, _ in await read_all(partition)]
            assert found == list(range(partition.log_start_offset, partition.high_watermark))


def found(lines: Sequence[Mapping[str, object]], others_are_there: bool) -> list[object]:
    """What a look says of the time."""
    if others_are_there:
        return [line for line in lines if line["event"] == "the wall clock is wrong: others differ"]
    return [line for line in lines if str(line["event"]).startswith("no other node tells")]


class TestSeveralNodes:
    async def test_every_holder_deletes_its_files(self, tmp_path: Path) -> None:
        async with cluster(
            tmp_path, entries_max=5, monitor_interval_ms=20, retention_interval_ms=20
        ) as made:
            await made.controller(1).create_topic("t", configs={"retention.ms": "1000"})
            for _ in range(30):
                await made.put(b"old")
            made.clock.wall_ms += 1001
            await until(lambda: made.controller(1).topic("t").log_start_offset >= 30)
            await self.all_hold_what_is_kept(made)
            offset = await made.put(b"new")
            assert [at for at, _ in await read_all(await made.leader())] == [offset]

    @pytest.mark.parametrize("others_are_there", [True, False])
    async def test_a_leader_whose_clock_is_years_ahead_deletes_nothing(
        self, tmp_path: Path, others_are_there: bool
    ) -> None:
        """However often it looks: what it deletes is gone from all disks."""
        async with cluster(tmp_path, retention_interval_ms=20) as made:
            await made.controller(1).create_topic("t", configs={"retention.ms": str(DAY_MS)})
            await made.put(b"young")
            partition = await made.leader()
            node = partition.topic.leader_id
            await made.broker(node).leading.roll_in_place(partition, "a test")
            made.ahead_ms[node] = 4000 * DAY_MS
            if not others_are_there:
                made.network.isolate(node)
            with capture_logs() as lines:
                await until(lambda: len(found(lines, others_are_there)) > 2)
            assert partition.log_start_offset == 0
            made.network.heal()
            made.clock.wall_ms += DAY_MS + 1
            await until(lambda: made.controller(1).topic("t").log_start_offset == 1)

    async def test_a_node_that_was_away_deletes_when_it_is_back(self, tmp_path: Path) -> None:
        async with cluster(tmp_path, entries_max=5, monitor_interval_ms=20) as made:
            await made.controller(1).create_topic("t", configs={})
            for _ in range(20):
                await made.put(b"old")
            away = made.controller(1).topic("t").leader_id % 3 + 1
            made.kill(away)
            leader = await made.leader()
            await self.delete_all(made)
            assert leader.metadata.name == "t"
            await made.start(away)
            await self.all_hold_what_is_kept(made)

    async def test_what_is_deleted_while_its_copy_is_being_completed_goes_too(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr("broker.controller.housekeeping.CHECK_S", 3600.0)
        finish, deleted, is_late = Housekeeping._finish, anyio.Event(), False

        async def late(self: Housekeeping, topic: Topic, segment: Segment) -> None:
            nonlocal is_late
            await finish(self, topic, segment)
            if self._node == 2 and not is_late:
                is_late = True
                await deleted.wait()

        monkeypatch.setattr(Housekeeping, "_finish", late)
        async with cluster(tmp_path) as made:
            await made.controller(1).create_topic("t", configs={})
            await made.put(b"old")
            await self.delete_all(made)
            await until(lambda: is_late and not made.controller(2).topic("t").segments[:-1])
            deleted.set()
            await self.all_hold_what_is_kept(made)

    async def delete_all(self, made: Cluster) -> None:
        with anyio.fail_after(20):
            while True:
                partition = await made.leader()
                controller = made.controller(partition.topic.leader_id)
                try:
                    await controller.delete_records(partition.topic, HIGH_WATERMARK)
                except NotLeader:
                    continue
                return

    async def all_hold_what_is_kept(self, made: Cluster) -> None:
        """Asked anew each time: the topic may roll meanwhile, onto the node that is back."""
        controller = made.controller(next(iter(made.network.nodes)))

        def holds() -> bool:
            topic = controller.topic("t")
            kept = {segment.sid for segment in topic.segments}
            return all(
                {segment.sid for segment in member.store.log("t", topic.topic_id.bytes).segments()}
                <= kept
                for member in made.network.nodes.values()
            )

        await until(holds)


async def test_deleting_and_making_a_topic_again_under_load(tmp_path: Path) -> None:
    """Nothing of an earlier topic of the same name shows in a later one."""
    async with running(tmp_path, entries_max=10, monitor_interval_ms=10) as node:
        stop = anyio.Event()
        acknowledged: dict[bytes, dict[int, bytes]] = {}
        await node.topic()

        async def write(name: int) -> None:
            number = 0
            while not stop.is_set():
                number += 1
                value = b"%d:%d" % (name, number)
                try:
                    partition = node.controller.partition(node.controller.topic("t"))
                    topic_id = partition.metadata.topic_id
                    offset = (await put(partition, value)).base_offset
                except Exception as error:  # noqa: BLE001 - judged below
                    errors.add(type(error).__name__)
                    await anyio.lowlevel.checkpoint()
                else:
                    acknowledged.setdefault(topic_id, {})[offset] = value

        errors: set[str] = set()
        async with anyio.create_task_group() as tasks:
            for name in range(4):
                tasks.start_soon(write, name)
            for _ in range(10):
                await anyio.sleep(0.03)
                await node.controller.delete_topic(node.controller.topic("t").topic_id)
                await node.topic()
            await anyio.sleep(0.03)
            stop.set()
        assert errors <= {"UnknownTopic", "UnknownTopicId", "NotLeader", "LeaderMoved"}, errors
        partition = await node.topic()
        assert len(acknowledged) > 5
        found = dict(await read_all(partition))
        assert found == acknowledged.get(partition.metadata.topic_id, {})
