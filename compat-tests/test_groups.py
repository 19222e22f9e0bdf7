"""Consumer groups with real clients: joins, leaves, deaths, and offsets that never go back."""

import asyncio
import random
import time
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import aiokafka
import confluent_kafka
import pytest
from confluent_kafka import ConsumerGroupState, ConsumerGroupTopicPartitions, TopicPartition
from confluent_kafka.admin import AdminClient

from harness.clients import kcat
from harness.groups import (
    WAIT_S_MAX,
    ConfluentMember,
    KcatMember,
    create,
    describe,
    positions,
    share_is_even,
    until,
    write,
)
from harness.native import Native
from harness.server import Server

STRATEGIES = ("roundrobin", "cooperative-sticky")


Join = Callable[..., ConfluentMember]


@pytest.fixture
def join() -> Iterator[Join]:
    """Make members that do not outlive the test, however it ends."""
    members: list[ConfluentMember] = []

    def join(kafka: str, group: str, topics: Sequence[str], **settings: Any) -> ConfluentMember:
        members.append(ConfluentMember(kafka, group, topics, **settings))
        return members[-1]

    yield join
    for member in members:
        member.stop()


def six(topic: str) -> list[str]:
    """A topic has one partition, so three members share six topics."""
    return [f"{topic}-{number}" for number in range(6)]


# ---- confluent-kafka -----------------------------------------------------------------------------


@pytest.mark.confluent
@pytest.mark.parametrize("strategy", STRATEGIES)
def test_member_that_joins_or_leaves_and_takes_messages_with_it(
    join: Join, server: Server, topic: str, strategy: str
) -> None:
    topics = six(topic)
    create(server.kafka, *topics)
    written = write(server.kafka, topics, ["before"])
    settings = {"partition_assignment_strategy": strategy}
    members = [join(server.kafka, topic, topics, **settings)]
    until(lambda: share_is_even(members, topics), "one member has everything")
    for _ in range(2):
        members.append(join(server.kafka, topic, topics, **settings))
        until(lambda: share_is_even(members, topics), "the topics are shared")
        written |= write(server.kafka, topics, [f"with {len(members)}"])
    gone = members.pop(0)
    gone.close()
    until(lambda: share_is_even(members, topics), "the others take over")
    written |= write(server.kafka, topics, ["after"])
    everybody = [gone, *members]
    until(lambda: {v for m in everybody for v in m.values()} == written, "all is read")
    for member in members:
        member.close()
    assert positions(server.kafka, topic) == dict.fromkeys(topics, 4)
    count = sum(len(member.read) for member in everybody)
    assert count == len(written), "read twice, although every commit was acknowledged"


@pytest.mark.confluent
@pytest.mark.kcat
def test_killed_member_whose_topics_nobody_reads(join: Join, server: Server, topic: str) -> None:
    """Two libraries in one group; one of them is killed and does not say goodbye."""
    topics = six(topic)
    create(server.kafka, *topics)
    member = join(server.kafka, topic, topics)
    victim = KcatMember(server.kafka, topic, topics)
    until(lambda: len(member.assigned) == 3, "the topics are shared")
    written = write(server.kafka, topics, ["before"])
    until(lambda: {*member.values(), *victim.values()} == written, "both read")
    assert victim.values()
    victim.kill()
    written |= write(server.kafka, topics, ["after"])
    until(lambda: {*member.values(), *victim.values()} == written, "the survivor reads all")
    assert member.assigned == set(topics)
    member.close()


@pytest.mark.confluent
def test_static_member_whose_restart_disturbs_the_others(
    join: Join, server: Server, topic: str
) -> None:
    topics = six(topic)
    create(server.kafka, *topics)

    def member(name: str) -> ConfluentMember:
        return join(server.kafka, topic, topics, group_instance_id=name)

    first, second = member("first"), member("second")
    until(lambda: share_is_even([first, second], topics), "the topics are shared")
    had, rebalance_count = set(second.assigned), first.rebalance_count
    second.close()
    assert len(describe(server.kafka, topic).members) == 2, "it keeps its place"
    second = member("second")
    until(lambda: second.assigned == had, "it has what it had")
    assert first.rebalance_count == rebalance_count
    found = {one.group_instance_id: one for one in describe(server.kafka, topic).members}
    assert found.keys() == {"first", "second"}
    first.close()
    second.close()


@pytest.mark.confluent
@pytest.mark.crash
def test_coordinator_killed_and_offsets_that_go_back(join: Join, launch: Any) -> None:
    server = launch()
    topics = six("t")
    create(server.kafka, *topics)
    members = [join(server.kafka, "g", topics, session_timeout_ms=30_000) for _ in range(3)]
    until(lambda: share_is_even(members, topics), "the topics are shared")
    ids = {one.member_id for one in describe(server.kafka, "g").members}
    written = write(server.kafka, topics, [f"{number}" for number in range(20)])
    until(lambda: sum(len(member.read) for member in members) > 30, "they are in the middle of it")
    server.kill()
    acknowledged = {t: offset for member in members for t, offset in member.committed.items()}
    server.start()
    after = positions(server.kafka, "g")
    for name, offset in acknowledged.items():
        assert after[name] >= offset, f"{name} went back from {offset}"
    written |= write(server.kafka, topics, ["after"])
    until(lambda: {v for m in members for v in m.values()} == written, "they go on")
    assert {one.member_id for one in describe(server.kafka, "g").members} == ids
    for member in members:
        member.close()
    assert positions(server.kafka, "g") == dict.fromkeys(topics, 21)


@pytest.mark.confluent
@pytest.mark.crash
@pytest.mark.slow
def test_storm_of_rebalances_in_which_something_is_lost_or_goes_back(
    launch: Any, join: Join
) -> None:
    seed = time.time_ns()
    print(f"seed {seed}")
    rng = random.Random(seed)
    server = launch()
    topics = six("t")
    create(server.kafka, *topics)
    everybody: list[ConfluentMember] = []
    alive: list[ConfluentMember] = []
    written: set[bytes] = set()
    furthest: dict[str, int] = {}

    def look() -> None:
        for name, offset in positions(server.kafka, "g").items():
            assert offset >= furthest.get(name, 0), f"{name} went back"
            furthest[name] = offset

    for step in range(16):
        if step == 8:
            server.kill()
            server.start()
        elif len(alive) < 2 or (rng.random() < 0.5 and len(alive) < 5):
            member = join(server.kafka, "g", topics)
            alive.append(member)
            everybody.append(member)
        else:
            alive.pop(rng.randrange(len(alive))).stop()
        written |= write(server.kafka, topics, [f"{step}"])
        look()
        time.sleep(rng.uniform(0, 0.4))
    until(lambda: {v for m in everybody for v in m.values()} == written, "all is read")
    for member in everybody:
        member.close()
    look()
    assert furthest == dict.fromkeys(topics, 16)


@pytest.mark.confluent
def test_groups_that_tools_cannot_see_or_delete(join: Join, server: Server, topic: str) -> None:
    admin = AdminClient({"bootstrap.servers": server.kafka})
    create(server.kafka, topic)
    write(server.kafka, [topic], ["a", "b", "c"])
    member = join(server.kafka, topic, [topic])
    until(lambda: member.committed.get(topic) == 3, "all is read and committed")

    def listed(**filters: Any) -> dict[str, Any]:
        found = admin.list_consumer_groups(**filters).result(WAIT_S_MAX)
        assert not found.errors
        return {group.group_id: group for group in found.valid}

    assert listed()[topic].state == ConsumerGroupState.STABLE
    assert topic in listed(states={ConsumerGroupState.STABLE})
    assert topic not in listed(states={ConsumerGroupState.EMPTY})
    found = describe(server.kafka, topic)
    assert (found.state, found.partition_assignor) == (ConsumerGroupState.STABLE, "roundrobin")
    (one,) = found.members
    assert (one.client_id, one.host) == ("rdkafka", "/127.0.0.1")
    assert [part.topic for part in one.assignment.topic_partitions] == [topic]
    with pytest.raises(confluent_kafka.KafkaException, match="NON_EMPTY_GROUP"):
        admin.delete_consumer_groups([topic])[topic].result(WAIT_S_MAX)
    member.close()
    assert listed()[topic].state == ConsumerGroupState.EMPTY

    moved = ConsumerGroupTopicPartitions(topic, [TopicPartition(topic, 0, 1)])
    admin.alter_consumer_group_offsets([moved])[topic].result(WAIT_S_MAX)
    assert positions(server.kafka, topic) == {topic: 1}
    admin.delete_consumer_groups([topic])[topic].result(WAIT_S_MAX)
    assert topic not in listed()
    assert positions(server.kafka, topic) == {}
    with pytest.raises(confluent_kafka.KafkaException, match="GROUP_ID_NOT_FOUND"):
        admin.delete_consumer_groups([topic])[topic].result(WAIT_S_MAX)


@pytest.mark.confluent
def test_cursor_of_native_get_that_kafka_tools_cannot_see(server: Server, topic: str) -> None:
    with Native(server.native_port) as native:
        native.register(topic)
        for value in (b"a", b"b", b"c"):
            native.put(topic, value)
        assert native.get(topic) == b"a"
    group = f"walrus.get.{topic}"
    assert positions(server.kafka, group) == {topic: 1}
    assert describe(server.kafka, group).state == ConsumerGroupState.EMPTY
    admin = AdminClient({"bootstrap.servers": server.kafka})
    moved = ConsumerGroupTopicPartitions(group, [TopicPartition(topic, 0, 2)])
    admin.alter_consumer_group_offsets([moved])[group].result(WAIT_S_MAX)
    with Native(server.native_port) as native:
        assert native.get(topic) == b"c"


@pytest.mark.confluent
def test_transactional_producer_that_waits_for_ever(server: Server) -> None:
    """Transactions are not offered: said at once, and for good."""
    producer = confluent_kafka.Producer(
        {"bootstrap.servers": server.kafka, "transactional.id": "t"}
    )
    started = time.monotonic()
    with pytest.raises(confluent_kafka.KafkaException) as refused:
        producer.init_transactions(WAIT_S_MAX)
    assert refused.value.args[0].fatal() or not refused.value.args[0].retriable()
    assert time.monotonic() - started < WAIT_S_MAX / 2


# ---- kcat ----------------------------------------------------------------------------------------


@pytest.mark.kcat
def test_kcat_in_a_group_that_reads_twice_or_not_at_all(server: Server, topic: str) -> None:
    arguments = ("-q", "-e", "-X", "auto.offset.reset=earliest", "-G", topic, topic)
    create(server.kafka, topic)
    write(server.kafka, [topic], ["1", "2"])
    assert len(kcat(server.kafka, *arguments).stdout.splitlines()) == 2
    write(server.kafka, [topic], ["3"])
    assert kcat(server.kafka, *arguments).stdout == f"{topic}/3\n".encode()
    assert positions(server.kafka, topic) == {topic: 3}


# ---- aiokafka ------------------------------------------------------------------------------------


async def aiokafka_member(kafka: str, group: str, topics: Sequence[str], **settings: Any) -> Any:
    consumer = aiokafka.AIOKafkaConsumer(
        *topics,
        bootstrap_servers=kafka,
        group_id=group,
        **(
            {
                "auto_offset_reset": "earliest",
                "enable_auto_commit": False,
                "session_timeout_ms": 6_000,
                "heartbeat_interval_ms": 300,
            }
            | settings
        ),
    )
    await consumer.start()
    return consumer


async def aiokafka_values(consumer: Any, count: int) -> set[bytes]:
    found: set[bytes] = set()
    deadline = time.monotonic() + WAIT_S_MAX
    while len(found) < count and time.monotonic() < deadline:
        for records in (await consumer.getmany(timeout_ms=100)).values():
            found |= {record.value for record in records}
    return found


@pytest.mark.aiokafka
async def test_aiokafka_members_that_come_and_go(server: Server, topic: str) -> None:
    topics = six(topic)
    create(server.kafka, *topics)
    written = write(server.kafka, topics, ["before"])
    consumers = [await aiokafka_member(server.kafka, topic, topics)]
    assert await aiokafka_values(consumers[0], 6) == written
    await consumers[0].commit()
    consumers += [await aiokafka_member(server.kafka, topic, topics) for _ in range(2)]

    def is_shared() -> bool:
        shares = [{part.topic for part in one.assignment()} for one in consumers]
        return sorted(sum(map(sorted, shares), [])) == sorted(topics) and all(shares)

    async def shared() -> None:
        async with asyncio.timeout(WAIT_S_MAX):
            while not is_shared():
                await asyncio.gather(*(one.getmany(timeout_ms=20) for one in consumers))

    await shared()
    write(server.kafka, topics, ["with three"])
    found = await asyncio.gather(*(aiokafka_values(one, 2) for one in consumers))
    assert set.union(*found) == {f"{one}/with three".encode() for one in topics}
    for one in consumers:
        await one.commit()
    await consumers.pop().stop()
    await shared()
    for one in consumers:
        await one.stop()
    assert positions(server.kafka, topic) == dict.fromkeys(topics, 2)


@pytest.mark.aiokafka
async def test_commit_that_is_forgotten_or_changed(server: Server, topic: str) -> None:
    create(server.kafka, topic)
    write(server.kafka, [topic], [f"{number}" for number in range(10)])
    partition = aiokafka.TopicPartition(topic, 0)
    consumer = await aiokafka_member(server.kafka, topic, [topic])
    await consumer.commit({partition: aiokafka.OffsetAndMetadata(4, "a note")})
    await consumer.stop()
    consumer = await aiokafka_member(server.kafka, topic, [topic])
    assert await consumer.committed(partition) == 4
    record = await consumer.getone()
    assert record.offset == 4
    await consumer.stop()


@pytest.mark.aiokafka
async def test_commit_of_a_zombie(server: Server, topic: str) -> None:
    """A member that was thrown out must not commit over its successor."""
    create(server.kafka, topic)
    write(server.kafka, [topic], ["a"])
    zombie = await aiokafka_member(server.kafka, topic, [topic])
    await aiokafka_values(zombie, 1)
    zombie._coordinator.generation += 7  # what a member is that slept through a rebalance
    with pytest.raises(aiokafka.errors.KafkaError):
        await zombie.commit()
    await zombie.stop()
    assert positions(server.kafka, topic) == {}
