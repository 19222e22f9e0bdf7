"""OffsetCommit: acknowledged means durable, and only for those who may."""

import anyio
import pytest

from broker.errors import (
    LeaderMoved,
    NotEnoughReplicas,
    NotLeader,
    OutcomeUnknown,
    OutOfTouch,
    RequestError,
    StorageFailed,
)
from broker.groups.shards import shard_of
from tests.broker.kafka_api.group_layouts import OFFSET_COMMIT
from tests.broker.kafka_api.harness import Node
from tests.broker.kafka_api.members import (
    ILLEGAL_GENERATION,
    INVALID_COMMIT_SIZE,
    METADATA_TOO_LARGE,
    NOT_AVAILABLE,
    NOT_COORDINATOR,
    OK,
    UNKNOWN_MEMBER,
    UNKNOWN_TOPIC_OR_PARTITION,
    Member,
)


@pytest.mark.parametrize("version", range(2, 10))
async def test_a_commit_round_trips_with_its_note_and_epoch(node: Node, version: int) -> None:
    await node.create("t")
    member = await Member(node).stable()
    assert await member.commit(7, version, metadata="a note", leader_epoch=3) == OK
    found = await member.committed()
    expected_epoch = 3 if version >= 6 else -1
    assert (found["offset"], found["leader_epoch"]) == (7, expected_epoch)
    assert (found["metadata"], found["error"]) == ("a note", OK)


async def test_every_partition_has_an_answer_of_its_own_in_the_order_asked(node: Node) -> None:
    """franz-go checks the order."""
    await node.create("t")
    await node.create("u")
    partitions = [
        {"partition": 1, "offset": 1},
        {"partition": 0, "offset": 1, "metadata": "x" * 4097},
    ]
    topics = [
        {"name": "missing", "partitions": [{"partition": 0, "offset": 1}]},
        {"name": "t", "partitions": partitions},
        {"name": "u", "partitions": [{"partition": 0, "offset": 1}]},
    ]
    answer = await node.connect().ask(OFFSET_COMMIT, 8, group="g", topics=topics)
    found = [
        (topic["name"], one["partition"], one["error"])
        for topic in answer["topics"]
        for one in topic["partitions"]
    ]
    assert found == [
        ("missing", 0, UNKNOWN_TOPIC_OR_PARTITION),
        ("t", 1, UNKNOWN_TOPIC_OR_PARTITION),
        ("t", 0, METADATA_TOO_LARGE),
        ("u", 0, OK),
    ]


async def test_strangers_and_zombies(node: Node) -> None:
    await node.create("t")
    member = await Member(node).stable()
    stranger = Member(node)
    assert await stranger.commit(9) == UNKNOWN_MEMBER, "by hand, while the group has members"
    stranger.member_id = "nobody"
    assert await stranger.commit(9) == UNKNOWN_MEMBER
    member.generation += 1
    assert await member.commit(9) == ILLEGAL_GENERATION
    assert (await Member(node).committed())["offset"] == -1
    elsewhere = Member(node, "unheard")
    elsewhere.generation = 3
    assert await elsewhere.commit(9) == ILLEGAL_GENERATION


async def test_an_answer_that_overtakes_the_disk(node: Node) -> None:
    await node.create("t")
    member = Member(node)
    assert await member.commit(1) == OK
    (shard,) = [one for name, one in node.controller.partitions.items() if name.startswith("__")]
    shard.is_held = True
    wanted = {"name": "t", "partitions": [{"partition": 0, "offset": 2}]}
    asked = await member.connection.send(OFFSET_COMMIT, 8, group="g", topics=[wanted])
    with anyio.move_on_after(0.1) as scope:
        await asked.answer()
    assert scope.cancelled_caught
    with anyio.move_on_after(0.1) as scope:
        await Member(node).committed()
    assert scope.cancelled_caught, "it was told before it was durable"
    shard.release()
    assert (await Member(node).committed())["offset"] == 2


async def test_a_retention_time_of_the_clients_own(node: Node) -> None:
    await node.create("t")
    wanted = {"name": "t", "partitions": [{"partition": 0, "offset": 2}]}
    await node.connect().ask(OFFSET_COMMIT, 2, group="g", retention_ms=1000, topics=[wanted])
    node.clock.wall_ms += 999
    await node.groups.sweeper.sweep()
    assert (await Member(node).committed())["offset"] == 2
    node.clock.wall_ms += 1
    await node.groups.sweeper.sweep()
    assert (await Member(node).committed())["offset"] == -1


async def test_a_commit_larger_than_a_batch_takes_the_other_groups_of_its_shard_along(
    node: Node,
) -> None:
    other = next(name for name in map(str, range(100)) if shard_of(name) == shard_of("g"))
    member, newcomer = await Member(node, other).stable(), Member(node, other)
    await newcomer.joined(await newcomer.send_join())
    waiting = await newcomer.send_join()
    one = {"partition": 0, "offset": 1, "metadata": 4096 * "\N{SEAL}"}
    topics = [{"name": f"t{number}", "partitions": [one]} for number in range(900)]
    for topic in topics:
        await node.create(str(topic["name"]))
    answer = await node.connect().ask(OFFSET_COMMIT, 8, group="g", topics=topics)
    codes = {topic["partitions"][0]["error"] for topic in answer["topics"]}
    assert codes == {INVALID_COMMIT_SIZE}
    assert (await member.join())["error"] == OK
    assert (await newcomer.joined(waiting))["error"] == OK


@pytest.mark.parametrize(
    ("error", "expected"),
    [
        (NotLeader("another one leads"), NOT_COORDINATOR),
        (LeaderMoved("while it waited for a rollover"), NOT_COORDINATOR),
        (OutOfTouch("no majority"), NOT_COORDINATOR),
        (StorageFailed("the disk refused"), NOT_COORDINATOR),
        (NotEnoughReplicas("too few are live"), NOT_AVAILABLE),
        (OutcomeUnknown("not committed in time"), NOT_AVAILABLE),
    ],
)
async def test_a_commit_that_its_log_does_not_take_sends_nobody_away_for_good(
    node: Node, error: RequestError, expected: int
) -> None:
    """Java's consumer throws at any number that it does not expect of a coordinator, and 6 is one:
    a node that was stopped under load ended its groups' members."""
    await node.create("t")
    member = await Member(node).stable()
    (shard,) = [one for name, one in node.controller.partitions.items() if name.startswith("__")]
    shard.error = error
    assert await member.commit(7) == expected
