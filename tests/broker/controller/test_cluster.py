"""Three nodes: nodes die, leadership moves, and what was acknowledged stays at its offset."""

import random
from collections.abc import Callable
from pathlib import Path

import anyio
import pytest

from broker.controller.metadata import Metadata
from broker.errors import InvalidRequest, MetadataUnavailable
from broker.ports import ACKS_ALL
from broker.replication import messages
from broker.replication.writer import Writer
from engine.backends._memory import MemoryBackend
from raft.commands import AnyCommand, Applied, BeginSeal, BeginSealMany, FenceBroker
from tests.broker.cluster import NetPeers, cluster
from tests.broker.controller.cluster_checks import (
    acknowledged,
    asked,
    check,
    emptied,
    settled_copies,
)
from tests.broker.one_node import batch, put, read_all, values


async def test_a_record_is_on_two_disks_when_it_is_acknowledged(tmp_path: Path) -> None:
    async with cluster(tmp_path) as made:
        await made.controller(1).create_topic("t", configs={})
        known = await acknowledged(made, 20)
        partition = await made.leader()
        holders = [
            node
            for node, member in made.network.nodes.items()
            if (segment := member.store.log("t", partition.metadata.topic_id).get(1)) is not None
            and segment.durable_offset >= len(known)
        ]
        assert len(holders) >= 2


@pytest.mark.parametrize("mode", ["kill", "random"])
async def test_the_leader_dies_and_another_goes_on(tmp_path: Path, mode: str) -> None:
    async with cluster(tmp_path) as made:
        made.raft_leader = 1
        await made.controller(1).create_topic("t", configs={})
        known = await acknowledged(made, 10)
        for _ in range(3):
            leader = (await made.leader()).topic.leader_id
            if leader == made.raft_leader:
                made.raft_leader = leader % 3 + 1
            made.kill(leader, mode, random.Random(1))
            known |= await acknowledged(made, 5, b"after%d-" % leader)
            await check(made, known)
            await made.start(leader)
        known |= await acknowledged(made, 5, b"end")
        assert len(await check(made, known)) == len(set(known.values()))


async def test_planned_rolls_rotate_the_leader_and_lose_nothing(tmp_path: Path) -> None:
    async with cluster(tmp_path, entries_max=5, monitor_interval_ms=20) as made:
        await made.controller(1).create_topic("t", configs={})
        known = await acknowledged(made, 60)
        await check(made, known)
        topic = made.controller(1).topic("t")
        assert len(topic.segments) > 3
        assert {segment.writer for segment in topic.segments} == {1, 2, 3}
        await settled_copies(made)


async def test_a_node_that_was_away_catches_up(tmp_path: Path) -> None:
    async with cluster(tmp_path, entries_max=7, monitor_interval_ms=20) as made:
        await made.controller(1).create_topic("t", configs={})
        known = await acknowledged(made, 10)
        made.kill(3)
        known |= await acknowledged(made, 30, b"away")
        await made.start(3)
        known |= await acknowledged(made, 10, b"back")
        await check(made, known)
        await settled_copies(made)


@pytest.mark.parametrize("fate", ["leader dies", "twice", "all restart", "others lead"])
async def test_a_deleted_batch_that_is_sent_again_is_not_written_again(
    tmp_path: Path, fate: str
) -> None:
    """Its producer lost the answer, DeleteRecords took every record, and then the leader died."""
    async with cluster(tmp_path, count=5 if fate == "others lead" else 3) as made:
        await made.controller(1).create_topic("t", configs={}, replication_factor=3)
        partition = await made.leader()
        for sequence in range(3):
            await put(partition, b"v", producer=(7, 0, sequence))
        await made.controller(partition.topic.leader_id).delete_records(partition.topic, 3)
        await emptied(made)
        match fate:
            case "leader dies":
                made.kill(partition.topic.leader_id)
            case "twice":
                for _ in range(2):
                    leader = (await made.leader()).topic.leader_id
                    made.kill(leader, "random", random.Random(1))
                    await made.start(leader)
            case "all restart":
                for node in list(made.disks):
                    made.kill(node, "random", random.Random(node))
                async with anyio.create_task_group() as tasks:
                    for node in made.disks:
                        tasks.start_soon(made.start, node)
            case "others lead":
                holders = partition.topic.replicas
                made.raft_leader = next(node for node in made.disks if node not in holders)
                for node in holders:
                    await made.leader()
                    made.kill(node)
                await made.start(holders[0])
        partition = await made.leader()
        again = await partition.append(batch(b"v", producer=(7, 0, 2)), acks=ACKS_ALL)
        assert (again.is_duplicate, again.base_offset) == (True, 2)
        assert (await put(partition, b"next", producer=(7, 0, 3))).base_offset == 3


async def test_an_isolated_leader_acknowledges_nothing_more(tmp_path: Path) -> None:
    async with cluster(tmp_path) as made:
        await made.controller(1).create_topic("t", configs={})
        known = await acknowledged(made, 5)
        old = await made.leader()
        isolated = old.topic.leader_id
        made.raft_leader = isolated % 3 + 1
        made.network.isolate(isolated)
        with anyio.fail_after(20):
            while (await made.leader()).topic.leader_id == isolated:
                await anyio.sleep(0.02)
        known |= await acknowledged(made, 5, b"majority")
        made.network.heal()
        known |= await acknowledged(made, 5, b"healed")
        await check(made, known)


async def test_without_a_quorum_nothing_is_acknowledged_and_with_it_all_goes_on(
    tmp_path: Path,
) -> None:
    async with cluster(tmp_path) as made:
        await made.controller(1).create_topic("t", configs={})
        known = await acknowledged(made, 5)
        made.kill(2)
        made.kill(3)
        with pytest.raises(TimeoutError), anyio.fail_after(2):
            await made.put(b"nobody hears this")
        await made.start(2)
        known |= await acknowledged(made, 5, b"again")
        await check(made, known)


async def test_a_promise_outlives_the_process_that_gave_it(tmp_path: Path) -> None:
    """Else an attempt to seal that was superseded would be answered after its successor, and could
    lengthen what that one was told."""
    async with cluster(tmp_path) as made:
        await made.controller(1).create_topic("t", configs={})
        await made.put(b"v")
        partition = await made.leader()
        node = partition.topic.leader_id % 3 + 1
        topic_id, sid = partition.metadata.topic_id, partition.metadata.last.sid
        later = await asked(made, node, messages.SealAsk(topic_id, sid, seal_epoch=9))
        assert later.kind == "definite"
        made.kill(node, "random", random.Random(0))
        await made.start(node)
        earlier = await asked(made, node, messages.SealAsk(topic_id, sid, seal_epoch=8))
        assert (earlier.kind, earlier.promised_epoch) == ("refused", 9)


async def test_what_a_process_that_is_gone_still_says_counts_for_nobody(tmp_path: Path) -> None:
    """It would count for the disk that has replaced its own: that would be called a holder of what
    it has never seen."""
    async with cluster(tmp_path) as made:
        await made.controller(1).create_topic("t", configs={})
        await made.put(b"v")
        partition = await made.leader()
        leader, last = partition.topic.leader_id, partition.metadata.last
        made.raft_leader = leader
        node = leader % 3 + 1
        gone = made.raft.state.brokers[node].incarnation
        made.kill(node)
        made.disks[node], made.disk_ids[node] = MemoryBackend(), b"n" * 16
        with anyio.fail_after(20):
            while not made.raft.state.brokers[node].fenced:
                await anyio.sleep(0.02)
        await made.start(node)
        late = await NetPeers(node, made.network).converse(leader)
        topic_id = partition.metadata.topic_id
        follow = messages.Follow(1, topic_id, last.sid, last.epoch, last.base_offset, gone)
        await late.send(messages.encode(follow))
        with anyio.fail_after(20):
            answer, _ = messages.decode_to_follower(await late.receive())
        assert isinstance(answer, messages.Refuse)


async def test_a_node_that_was_taken_for_dead_does_not_doubt_what_it_has_written_since(
    tmp_path: Path,
) -> None:
    """Its machine had lost power, before: a pause of the network would make it doubtful again, and
    with another node down no topic it holds could be sealed."""
    async with cluster(tmp_path) as made:
        made.is_clean = False
        made.kill(3, "random", random.Random(0))
        broker = (await made.start(3)).broker
        made_topics = [await made.controller(1).create_topic(name, configs={}) for name in "tuvw"]
        followed = next(topic for topic in made_topics if topic.leader_id != 3)
        before = broker.incarnation
        made.network.isolate(3)
        with anyio.fail_after(20):
            while not made.raft.state.brokers[3].fenced:
                await anyio.sleep(0.02)
            made.network.heal()
            while broker.incarnation == before:
                await anyio.sleep(0.02)
        last = made.raft.state.topics[followed.topic_id.bytes].last
        assert last.sid == 1
        assert 3 in last.replicas
        assert not last.void


async def test_a_node_that_has_lost_its_vote_is_not_told_to_stay(tmp_path: Path) -> None:
    """It would stay in name, and never hear of the metadata again."""
    async with cluster(tmp_path) as made:
        made.raft_leader = 0  # Nobody goes on with it.
        departures = made.broker(1).departures
        await departures.mark(3, leaving=True)
        assert made.raft.members.voters == (made.raft.voter_id,)
        with pytest.raises(InvalidRequest, match="only come back as a new one"):
            await departures.mark(3, leaving=False)
        assert made.raft.state.brokers[3].leaving


async def test_a_follower_with_a_slow_disk_follows_on_when_it_has_caught_up(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """More came than may wait for its disk. It takes the rest as soon as there is room, for the
    topic has no other copy when the next node dies."""
    monkeypatch.setattr("broker.replication.store.WRITE_QUEUE_SIZE_MAX", 1000)
    async with cluster(tmp_path) as made:
        await made.controller(1).create_topic("t", configs={})
        await made.put(b"first")
        leader = await made.leader()
        slow = leader.topic.leader_id % 3 + 1
        store, held = made.network.nodes[slow].store, list[Callable[[], None]]()
        store.wal._commit._queue_size_max = 1000
        log, sid = store.log("t", leader.metadata.topic_id), leader.metadata.last.sid
        with anyio.fail_after(20):
            while (copy := log.get(sid)) is None or copy.durable_offset < 1:
                await anyio.sleep(0.01)
        made.disks[slow].schedule = lambda operation, size, ready: held.append(ready)
        for number in range(30):
            await made.put(b"%d" % number * 50)
        made.disks[slow].schedule = None
        for ready in held:
            ready()
        with anyio.fail_after(20):
            while copy.durable_offset < 31:
                await anyio.sleep(0.01)


async def test_what_a_seal_has_committed_is_read_on_the_leader_that_goes_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The leader was deposed and called back, and hears of both at once. Its last record was
    committed by the seal, though no follower ever told it so."""
    on_durable, is_deaf = Writer.on_durable, False

    def mine_only(writer: Writer, replica: int, end_offset: int) -> bool:
        return (not is_deaf or replica == writer.node) and on_durable(writer, replica, end_offset)

    monkeypatch.setattr(Writer, "on_durable", mine_only)
    async with cluster(tmp_path) as made:
        await made.controller(1).create_topic("t", configs={})
        await made.put(b"first")
        partition = await made.leader()
        node, topic_id = partition.topic.leader_id, partition.metadata.topic_id
        is_deaf = True
        appended = await partition.append(batch(b"second"), acks=ACKS_ALL)
        others = [member for number, member in made.network.nodes.items() if number != node]
        with anyio.fail_after(20):
            while not all(
                (copy := member.store.log("t", topic_id).get(1)) and copy.durable_offset == 2
                for member in others
            ):
                await anyio.sleep(0.01)
        metadata = made.controller(node)._metadata
        made.network.cut.add((others[0].node, others[1].node))  # so that the leader is a holder
        with monkeypatch.context() as deaf:
            deaf.setattr(metadata, "_refresh", lambda: None)
            others_metadata = others[0].controller._metadata
            topic = made.raft.state.topics[topic_id]
            await others_metadata.propose(BeginSeal(topic_id, 1, topic.epoch, others[0].node))
            with anyio.fail_after(20):
                while made.raft.state.topics[topic_id].last.sid == 1:
                    await anyio.sleep(0.01)
        assert made.raft.state.topics[topic_id].last.writer == node
        metadata._refresh()
        await partition.committed(appended.end_offset, acks=ACKS_ALL, timeout_s=10)
        assert values(await read_all(await made.leader())) == [b"first", b"second"]


async def test_a_node_that_is_taken_for_dead_while_it_starts_comes_up(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It has its segments sealed, and no majority answers in time; meanwhile it was found silent
    and has registered anew."""
    async with cluster(tmp_path) as made:
        await made.controller(1).create_topic("t", configs={})
        known = await acknowledged(made, 5)
        made.raft_leader = 3
        made.kill(1)
        propose, is_first = Metadata.propose, True

        async def without_answer(metadata: Metadata, command: AnyCommand) -> Applied:
            nonlocal is_first
            if isinstance(command, BeginSealMany) and is_first:
                is_first = False
                await propose(metadata, FenceBroker(1, command.incarnation))
                while made.raft.state.brokers[1].incarnation == command.incarnation:
                    await anyio.sleep(0.01)
                raise MetadataUnavailable("no majority answered in time")
            return await propose(metadata, command)

        monkeypatch.setattr(Metadata, "propose", without_answer)
        await made.start(1)
        assert not is_first
        known |= await acknowledged(made, 5, b"after")
        await check(made, known)
