"""Fetch: whole batches, no lost records or wake-ups, never a number that kills a consumer."""

import time
import uuid
from collections.abc import Awaitable, Callable
from dataclasses import replace
from typing import Any

import anyio
import anyio.lowlevel
import pytest
from kio.schema.errors import ErrorCode

from broker.errors import (
    InvalidRequest,
    Loading,
    NotLeader,
    OutcomeUnknown,
    RequestError,
    StorageFailed,
)
from broker.kafka_api.wire import load
from broker.ports import SegmentView
from tests.broker.kafka_api.fakes import FakePartition, batch
from tests.broker.kafka_api.harness import Node, Way
from tests.broker.kafka_api.layouts import FETCH


@pytest.fixture(params=[Way.GENERAL, Way.ALONE])
async def way(request: pytest.FixtureRequest) -> Way:
    """Both ways of a Fetch tell the same."""
    for version in range(4, 18):
        await load(1, version)
    return Way(request.param)


ZSTD = 4
LONG_MS = 30_000


async def filled(node: Node, *batches: bytes, name: str = "t") -> FakePartition:
    partition = await node.create(name)
    for data in batches:
        await partition.append(data, acks=-1)
    return partition


async def woken_by(
    node: Node,
    act: Callable[[], Awaitable[None]],
    offset: int = 0,
    **values: Any,
) -> dict[str, Any]:
    """On a connection of its own."""
    return await node.connect().fetch_woken_by(act, offset, **values)


class TestWhatIsReturned:
    async def test_a_fetch_in_the_middle_of_a_batch_returns_that_batch(self, node: Node) -> None:
        """The next batch would lose the records between."""
        partition = await filled(node, batch(b"a", b"b", b"c"), batch(b"d"))
        answer = await node.connect().fetch("t", 1)
        assert answer["records"] == partition.batches[0][2] + partition.batches[1][2]

    async def test_one_batch_above_every_limit_is_still_returned(self, node: Node) -> None:
        """Or the consumer never gets past it."""
        partition = await filled(node, batch(b"x" * 5000), batch(b"y"))
        answer = await node.connect().fetch("t", 0, max_bytes=1, partition={"max_bytes": 1})
        assert answer["records"] == partition.batches[0][2]

    async def test_only_the_first_partition_that_has_data_may_exceed_the_limit(
        self, node: Node
    ) -> None:
        """The limit of the request is shared."""
        await filled(node, name="empty")
        a = await filled(node, batch(b"x" * 5000), name="a")
        await filled(node, batch(b"y" * 5000), name="b")
        topics = [
            {"topic": name, "partitions": [{"partition": 0, "fetch_offset": 0}]}
            for name in ("empty", "a", "b")
        ]
        answer = await node.connect().ask(FETCH, 11, max_bytes=10, topics=topics)
        records = [topic["partitions"][0]["records"] for topic in answer["topics"]]
        assert records == [b"", a.batches[0][2], b""]
        assert [topic["partitions"][0]["error"] for topic in answer["topics"]] == [0, 0, 0]

    async def test_the_node_has_a_limit_of_its_own(self, node: Node) -> None:
        node.configure(fetch_size_max=1000)
        partition = await filled(node, *(batch(b"x" * 400) for _ in range(5)))
        answer = await node.connect().fetch("t", 0)
        assert answer["records"] == partition.batches[0][2] + partition.batches[1][2]

    @pytest.mark.parametrize("version", [4, 11, 17])
    async def test_empty_records_are_empty_and_never_null(self, node: Node, version: int) -> None:
        """To librdkafka null is a broken protocol, in errors too."""
        partition = await filled(node)
        topic: Any = partition.view.topic_id if version >= 13 else "t"
        connection = node.connect()
        assert (await connection.fetch(topic, 0, version))["records"] == b""
        missing: Any = uuid.uuid4() if version >= 13 else "missing"
        answer = await connection.fetch(missing, 0, version)
        assert answer["records"] == b""
        assert answer["error"] in {3, 100}

    async def test_the_watermark_is_never_below_what_is_returned_or_asked(self, node: Node) -> None:
        """kafka-go takes it for a broken connection."""
        partition = await filled(node, batch(b"a"))
        connection = node.connect()
        at_end = await connection.fetch("t", 1)
        assert (at_end["error"], at_end["records"], at_end["high_watermark"]) == (0, b"", 1)
        partition.is_held = True
        await partition.append(batch(b"b"), acks=1)
        ahead = await connection.fetch("t", 2)
        assert (ahead["error"], ahead["records"], ahead["high_watermark"]) == (0, b"", 2)
        answer = await connection.fetch("t", 0)
        assert answer["records"] == partition.batches[0][2], "not committed, not visible"
        assert answer["high_watermark"] == answer["last_stable_offset"] == 1
        assert answer["log_start_offset"] == 0

    @pytest.mark.parametrize("offset", [-1, 2, 1000])
    async def test_an_offset_outside_the_log_is_out_of_range(self, node: Node, offset: int) -> None:
        await filled(node, batch(b"a"))
        answer = await node.connect().fetch("t", offset, max_wait_ms=LONG_MS)
        assert answer["error"] == ErrorCode.offset_out_of_range

    async def test_every_partition_asked_is_answered_in_order(self, node: Node) -> None:
        await filled(node, batch(b"a"))
        wanted = [
            {"topic": "t", "partitions": [{"partition": 1}, {"partition": 0}]},
            {"topic": "missing", "partitions": [{"partition": 0}]},
            {"topic": "t", "partitions": [{"partition": 0}]},
        ]
        answer = await node.connect().ask(FETCH, 11, topics=wanted)
        told = [
            (topic["topic"], one["partition"], one["error"], bool(one["records"]))
            for topic in answer["topics"]
            for one in topic["partitions"]
        ]
        assert told == [
            ("t", 1, 3, False),
            ("t", 0, 0, True),
            ("missing", 0, 3, False),
            ("t", 0, 0, True),
        ]

    async def test_aborted_transactions_are_null_unless_asked_for(self, node: Node) -> None:
        await filled(node, batch(b"a"))
        connection = node.connect()
        assert (await connection.fetch("t", 0))["aborted"] is None
        assert (await connection.fetch("t", 0, isolation_level=1))["aborted"] == []


class TestTheQuickWay:
    @pytest.mark.parametrize("version", range(4, 18))
    async def test_records_that_are_in_memory_need_no_task(
        self, node: Node, way: Way, version: int
    ) -> None:
        partition = await filled(node, batch(b"a", b"b"), batch(b"c"))
        topic = "t" if version < 13 else partition.view.topic_id
        answer = await node.connect().fetch(topic, 1, version)
        assert answer["records"] == partition.batches[0][2] + partition.batches[1][2]
        assert (answer["error"], answer["high_watermark"]) == (0, 3)
        assert partition.quick_count == (bool(way) and version >= 10)
        assert node.counters.requests.of("Fetch").outcomes == {"NONE": 1}

    async def test_what_has_to_wait_for_the_disk_or_for_room_is_left_to_a_task(
        self, node: Node, way: Way
    ) -> None:
        partition = await filled(node, batch(b"a"))
        partition.must_wait = True
        assert (await node.connect().fetch("t", 0))["records"]
        assert (partition.quick_count, partition.read_count) == (0, 1)

    async def test_the_id_of_another_topic_of_that_name_is_not_read(self, node: Node) -> None:
        """Deleted and made again between two looks at the metadata."""
        partition = await filled(node, batch(b"a"))
        old_view = partition.view
        node.controller.topic_by_id = lambda topic_id: old_view  # type: ignore[method-assign]
        partition.view = replace(old_view, topic_id=uuid.uuid4())
        await node.connect().fetch(old_view.topic_id, 0, 13)
        assert partition.quick_count == 0


class TestCompression:
    async def test_an_old_client_gets_the_batches_before_the_first_zstd_one(
        self, node: Node
    ) -> None:
        partition = await filled(node, batch(b"a"), batch(b"b" * 50, codec=ZSTD), batch(b"c"))
        connection = node.connect()
        answer = await connection.fetch("t", 0, version=9)
        assert (answer["error"], answer["records"]) == (0, partition.batches[0][2])
        answer = await connection.fetch("t", 1, version=9)
        assert (answer["error"], answer["records"]) == (76, b"")

    async def test_a_newer_client_gets_zstd_as_it_is(self, node: Node) -> None:
        partition = await filled(node, batch(b"b" * 50, codec=ZSTD))
        answer = await node.connect().fetch("t", 0, version=10)
        assert answer["records"] == partition.batches[0][2]


class TestTopicIds:
    async def test_a_topic_is_found_by_its_id(self, node: Node) -> None:
        partition = await filled(node, batch(b"a"))
        asked = await node.connect().send_fetch(partition.view.topic_id, 0, version=13)
        answer = await asked.answer()
        assert answer["topics"][0]["topic_id"] == partition.view.topic_id
        assert asked.one(answer)["records"]

    @pytest.mark.parametrize("topic_id", [uuid.UUID(int=0), uuid.UUID(int=7)])
    async def test_an_id_nobody_has_is_an_unknown_id(self, node: Node, topic_id: uuid.UUID) -> None:
        answer = await node.connect().fetch(topic_id, 0, version=17, max_wait_ms=LONG_MS)
        assert answer["error"] == ErrorCode.unknown_topic_id

    async def test_the_id_of_a_deleted_topic_does_not_read_its_successor(self, node: Node) -> None:
        old = await filled(node, batch(b"old"))
        await node.controller.delete_topic(old.view.topic_id)
        await filled(node, batch(b"new"))
        answer = await node.connect().fetch(old.view.topic_id, 0, version=16)
        assert (answer["error"], answer["records"]) == (100, b"")


class TestEpochs:
    @pytest.mark.parametrize(("epoch", "error"), [(-1, 0), (3, 0), (2, 74), (4, 75)])
    async def test_a_leader_epoch_is_checked(self, node: Node, epoch: int, error: int) -> None:
        await filled(node, batch(b"a"))
        answer = await node.connect().fetch("t", 0, partition={"current_leader_epoch": epoch})
        assert answer["error"] == error


class TestErrors:
    @pytest.mark.parametrize(
        ("raised", "error"),
        [
            (NotLeader("moved"), 6),
            (StorageFailed("EIO"), 56),
            (OutcomeUnknown("7 here would make Java throw IllegalStateException"), 6),
            (Loading("14 here would too"), 6),
            (InvalidRequest("and 42"), 6),
        ],
    )
    async def test_no_number_that_consumers_choke_on(
        self, node: Node, raised: RequestError, error: int
    ) -> None:
        partition = await filled(node, batch(b"a"))
        partition.error = raised
        answer = await node.connect().fetch("t", 0, max_wait_ms=LONG_MS)
        assert (answer["error"], answer["records"]) == (error, b"")

    async def test_another_nodes_topic_is_not_leader_and_nothing_else(self, node: Node) -> None:
        partition = await filled(node, batch(b"a"))
        partition.view = replace(partition.view, leader_id=2)
        answer = await node.connect().fetch("t", 0, max_wait_ms=LONG_MS)
        assert answer["error"] == ErrorCode.not_leader_or_follower


class TestSessions:
    """More of them in test_fetch_sessions.py."""

    async def test_the_last_fetch_of_a_closing_consumer_is_answered_at_once(
        self, node: Node
    ) -> None:
        """No topics, epoch -1."""
        answer = await node.connect().ask(FETCH, 12, session_epoch=-1, max_wait_ms=LONG_MS)
        assert (answer["error"], answer["topics"]) == (0, [])


class TestLongPoll:
    async def test_a_fetch_at_the_end_is_parked_and_woken_by_the_append(
        self, node: Node, way: Way
    ) -> None:
        partition = await filled(node, batch(b"a"))

        async def act() -> None:
            await partition.append(batch(b"b"), acks=-1)

        answer = await woken_by(node, act, offset=1)
        assert answer["records"] == partition.batches[1][2]
        if way:
            assert (partition.read_count, partition.quick_count) == (0, 2), "and no task"
        else:  # before and after it subscribed, and when it was woken
            assert partition.read_count == 3
        assert partition.watcher_count == 0

    async def test_a_node_that_stops_answers_those_who_wait(self, node: Node) -> None:
        await filled(node, batch(b"a"))

        async def act() -> None:
            node.stopping.set()

        answer = await woken_by(node, act, offset=1)
        assert (answer["error"], answer["records"]) == (0, b"")

    async def test_min_bytes_counts_committed_bytes_only(self, node: Node) -> None:
        """An append that is not committed must not end the wait."""
        partition = await filled(node)
        partition.is_held = True

        async def act() -> None:
            await partition.append(batch(b"a"), acks=-1)
            partition.wake()
            await anyio.wait_all_tasks_blocked()
            assert partition.watcher_count == 1, "answered without committed data"
            partition.release()

        answer = await woken_by(node, act)
        assert answer["records"] == partition.batches[0][2]

    async def test_it_waits_until_min_bytes_are_there(self, node: Node) -> None:
        partition = await filled(node, batch(b"x" * 100))

        async def act() -> None:
            await partition.append(batch(b"y" * 100), acks=-1)

        answer = await woken_by(node, act, min_bytes=250)
        assert len(answer["records"]) > 250

    async def test_many_small_appends_do_not_make_it_read_everything_again_each_time(
        self, node: Node
    ) -> None:
        """A client that asks for a megabyte would else have it read once per message."""
        partition = await filled(node)
        batches = [batch(b"%d" % index) for index in range(200)]
        size = sum(map(len, batches))

        async def act() -> None:
            for data in batches:
                await partition.append(data, acks=-1)
                await anyio.lowlevel.checkpoint()
            await anyio.wait_all_tasks_blocked()

        answer = await woken_by(node, act, min_bytes=size)
        assert len(answer["records"]) == size
        assert partition.read_count < 100

    async def test_min_bytes_above_what_may_be_returned_does_not_wait(self, node: Node) -> None:
        partition = await filled(node, batch(b"x" * 100))
        answer = await node.connect().fetch(
            "t", 0, min_bytes=10_000, max_bytes=50, max_wait_ms=LONG_MS
        )
        assert answer["records"] == partition.batches[0][2]

    async def test_when_time_is_over_there_is_an_empty_answer_and_no_error(
        self, node: Node
    ) -> None:
        partition = await filled(node)
        answer = await node.connect().fetch("t", 0, max_wait_ms=5)
        assert (answer["error"], answer["records"]) == (0, b"")
        assert partition.watcher_count == 0

    @pytest.mark.parametrize(
        "values", [{"max_wait_ms": 0}, {"max_wait_ms": LONG_MS, "min_bytes": 0}]
    )
    async def test_who_does_not_want_to_wait_does_not(
        self, node: Node, values: dict[str, Any]
    ) -> None:
        await filled(node)
        assert (await node.connect().fetch("t", 0, **values))["records"] == b""

    async def test_a_client_cannot_park_for_ever(self, node: Node) -> None:
        node.configure(fetch_wait_ms_max=1)
        await filled(node)
        answer = await node.connect().fetch("t", 0, max_wait_ms=2**31 - 1)
        assert answer["error"] == 0

    async def test_an_error_in_one_partition_is_told_at_once(self, node: Node) -> None:
        await filled(node)
        topics = [
            {"topic": name, "partitions": [{"partition": 0, "fetch_offset": 0}]}
            for name in ("t", "missing")
        ]
        answer = await node.connect().ask(FETCH, 11, max_wait_ms=LONG_MS, topics=topics)
        assert [one["partitions"][0]["error"] for one in answer["topics"]] == [0, 3]

    async def test_losing_the_leadership_wakes_the_fetch(self, node: Node) -> None:
        partition = await filled(node)

        async def act() -> None:
            partition.view = replace(partition.view, leader_id=2)
            partition.wake()

        assert (await woken_by(node, act))["error"] == ErrorCode.not_leader_or_follower

    async def test_deleting_the_topic_wakes_the_fetch(self, node: Node) -> None:
        partition = await filled(node)

        async def act() -> None:
            await node.controller.delete_topic(partition.view.topic_id)

        assert (await woken_by(node, act))["error"] == ErrorCode.unknown_topic_or_partition

    async def test_data_that_ends_with_a_sealed_segment_is_not_held_back(self, node: Node) -> None:
        """The rest lies in the next segment, and no append may ever come."""
        partition = await filled(node, batch(b"a"))
        segments = (SegmentView(0, 0, 1, 1, 3, 70), SegmentView(1, 1, None, 1, 3, None))
        partition.view = replace(partition.view, segments=segments)
        answer = await node.connect().fetch("t", 0, min_bytes=10_000, max_wait_ms=LONG_MS)
        assert answer["records"] == partition.batches[0][2]

    @pytest.mark.parametrize("way", [Way.GENERAL])
    async def test_an_append_between_reading_and_waiting_is_not_slept_over(
        self, node: Node
    ) -> None:
        """The wake-up that everybody loses: subscribe first, then read."""
        partition = await filled(node)
        plain_read = partition.read

        async def read_then_append(offset: int, *, size_max: int) -> bytes:
            records = await plain_read(offset, size_max=size_max)
            if not partition.batches:
                await partition.append(batch(b"in between"), acks=-1)
            return records

        partition.read = read_then_append  # type: ignore[method-assign]
        with anyio.fail_after(5):
            answer = await node.connect().fetch("t", 0, max_wait_ms=LONG_MS)
        assert b"in between" in answer["records"]

    async def test_a_disconnected_client_leaves_no_watcher_behind(self, node: Node) -> None:
        partition = await filled(node)
        asked = await node.connect().send_fetch("t", 0, max_wait_ms=LONG_MS)
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(asked.reply)
            await anyio.wait_all_tasks_blocked()
            assert partition.watcher_count == 1
            tasks.cancel_scope.cancel()
        assert partition.watcher_count == 0

    @pytest.mark.parametrize("way", [Way.GENERAL])
    async def test_the_deadline_is_fixed_when_the_request_arrives(self, node: Node) -> None:
        """Replies wait for their turn; that time counts."""
        await filled(node)
        now = time.monotonic()
        node.clock.monotonic = lambda: now  # type: ignore[method-assign]
        asked = await node.connect().send_fetch("t", 0, max_wait_ms=LONG_MS)
        node.clock.monotonic = lambda: now + LONG_MS / 1000  # type: ignore[method-assign]
        with anyio.fail_after(5):
            assert asked.one(await asked.answer())["records"] == b""


class TestOldSegments:
    """KIP-392: sealed segments may be read from any replica that holds them."""

    async def test_the_client_is_sent_to_the_replica_that_has_them(self, node: Node) -> None:
        partition = await filled(node, batch(b"a"))
        partition.preferred = 2
        answer = await node.connect().fetch("t", 0, version=12, rack_id="a")
        assert (answer["error"], answer["preferred_read_replica"]) == (0, 2)
        assert not answer["records"] and answer["high_watermark"] == 1

    @pytest.mark.parametrize(
        ("version", "rack"), [(10, {}), (11, {"rack_id": "a"}), (12, {"rack_id": ""})]
    )
    async def test_a_consumer_that_does_not_go_where_it_is_sent_starves(
        self, node: Node, version: int, rack: dict[str, Any]
    ) -> None:
        """aiokafka without a rack does not look at the preferred replica: it would ask the leader
        for ever, and get nothing. kafkajs (up to v11) goes, but then does not come back."""
        partition = await filled(node, batch(b"a"))
        partition.preferred = 2
        answer = await node.connect().fetch("t", 0, version=version, **rack)
        assert answer["records"] == partition.batches[0][2]

    async def test_an_incremental_session_is_told_where_to_go_though_nothing_else_is_new(
        self, node: Node
    ) -> None:
        partition = await filled(node, batch(b"a"))
        connection = node.connect()
        asked = {"partition": 0, "fetch_offset": 1, "max_bytes": 1000}
        topic = {"topic": "t", "partitions": [asked]}
        first = await connection.ask(FETCH, 12, session_epoch=0, topics=[topic], rack_id="a")
        partition.preferred = 2
        session = {"session_id": first["session_id"], "session_epoch": 1}
        again = await connection.ask(FETCH, 12, **session, rack_id="a", max_wait_ms=1)
        (told,) = again["topics"][0]["partitions"]
        assert told["preferred_read_replica"] == 2

    async def test_a_replica_serves_what_it_holds(self, node: Node) -> None:
        partition = await filled(node, batch(b"a"))
        node.controller.sealed["t"] = partition
        partition.view = replace(partition.view, leader_id=2)
        assert (await node.connect().fetch("t", 0, version=11))["records"]
        refused = await node.connect().fetch("t", 0, version=10)
        assert refused["error"] == ErrorCode.not_leader_or_follower

    async def test_a_replica_that_holds_nothing_sends_the_client_back(self, node: Node) -> None:
        partition = await filled(node, batch(b"a"))
        partition.view = replace(partition.view, leader_id=2)
        refused = await node.connect().fetch("t", 0, version=11)
        assert refused["error"] == ErrorCode.not_leader_or_follower
