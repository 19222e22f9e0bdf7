"""Two of three machines are gone with their disks: what the third one has is there again, and lives
on without them."""

import itertools
import re
import shutil
import subprocess
import threading
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path

import pytest
from confluent_kafka import Consumer, KafkaError, Message, Producer, TopicPartition

from broker.codecs import records_section
from engine.batch import iter_headers
from engine.errors import CorruptBatchError
from engine.records import iter_records
from raft import snapshot
from raft.apply import apply
from raft.commands import FORMAT_VERSION, CommitRoll, Envelope, Next, SealedEnd
from raft.disk import OsDisk
from raft.recovery import look
from raft.snapshot import Snapshot
from tests.chaos.verdict import read_all
from tests.cluster.clients import numbered
from tests.cluster.commands import walrus, walrus_cluster
from tests.cluster.conftest import MakeCluster
from tests.cluster.processes import Cluster, Node, wait_until

pytestmark = [pytest.mark.cluster, pytest.mark.timeout(600)]

TOPICS = ("logs", "audit")
GROUP = "readers"


def recover(node: Node, *flags: str) -> subprocess.CompletedProcess[str]:
    return walrus("recover-metadata", "--data-dir", str(node.data_dir), *flags)


def produce(bootstrap: str, topic: str, payloads: Sequence[bytes]) -> list[tuple[int, bytes]]:
    """All of them acknowledged by acks=all: (offset, value)."""
    acked: list[tuple[int, bytes]] = []

    def delivered(error: KafkaError | None, message: Message) -> None:
        assert error is None, error
        offset, value = message.offset(), message.value()
        assert offset is not None and value is not None
        acked.append((offset, value))

    producer = Producer({"bootstrap.servers": bootstrap, "enable.idempotence": True})
    for payload in payloads:
        producer.produce(topic, payload, on_delivery=delivered)
        producer.poll(0)
        if len(acked) % 7 == 0:
            producer.flush(60)
    assert producer.flush(60) == 0
    return sorted(acked)


def commit(bootstrap: str, topic: str, offset: int) -> None:
    consumer = Consumer({"bootstrap.servers": bootstrap, "group.id": GROUP})
    consumer.commit(offsets=[TopicPartition(topic, 0, offset)], asynchronous=False)
    consumer.close()


def committed(bootstrap: str, topic: str) -> int:
    consumer = Consumer({"bootstrap.servers": bootstrap, "group.id": GROUP})
    (found,) = consumer.committed([TopicPartition(topic, 0)], timeout=60)
    consumer.close()
    return int(found.offset)


def has_followed(by: Node) -> bool:
    """Everybody has all of everything."""
    topics = by.json("/v1/cluster")["topics"]
    return all(
        topic["lag"] is not None
        and not any(topic["lag"].values())
        and not topic["under_replicated_segments"]
        for topic in topics
    )


def files(folder: Path) -> dict[str, bytes]:
    return {
        path.relative_to(folder).as_posix(): path.read_bytes()
        for path in folder.rglob("*")
        if path.is_file() and path.name != "lock"
    }


def waiting(by: Node) -> list[str]:
    """Topics without a leader."""
    topics = by.json("/v1/cluster")["topics"]
    return [topic["name"] for topic in topics if topic["leader_id"] is None]


def replace_disk(node: Node, join: Node) -> Path:
    """The old one is kept; the machine begins with an empty one."""
    old = node.folder / "old-disk"
    node.data_dir.rename(old)
    node.join = join.peer
    return old


def accept_what_is_left(by: Node) -> None:
    """As the page for operators says."""
    for name in waiting(by):
        done = walrus_cluster("unclean-seal", name, "--force", name, by=by)
        assert done.returncode == 0, done.stderr
    wait_until(lambda: not waiting(by), "every topic goes on")


def test_the_last_disk_of_three_becomes_a_cluster_again(make_cluster: MakeCluster) -> None:
    cluster = make_cluster(max_segment_entries=10)
    acked = {}
    for topic in TOPICS:
        cluster.register(topic)
        acked[topic] = produce(cluster.bootstrap, topic, numbered(topic, range(75)))
    commit(cluster.bootstrap, "logs", 33)
    survivor = cluster.nodes[3]
    wait_until(lambda: has_followed(survivor), "the one that will be left has everything")
    old_id = survivor.json("/v1/cluster")["cluster_id"]
    old_disk = _lose_all_but(survivor, cluster)

    refused = recover(survivor, "--force", old_id)
    assert refused.returncode == 1
    assert "in use by another process" in refused.stderr
    survivor.kill()
    _looking_changes_nothing(survivor, old_id)
    done = recover(survivor, "--force", old_id)
    assert done.returncode == 0, done.stderr
    again = recover(survivor)
    assert again.returncode == 1
    assert "nothing to recover" in again.stderr

    survivor.start(wait=True)
    assert survivor.json("/v1/cluster")["cluster_id"] != old_id
    assert "logs" in waiting(survivor), "nothing is given up without a word"
    roles = {one["node_id"]: one["raft_role"] for one in survivor.json("/v1/cluster")["nodes"]}
    assert roles == {1: "none", 2: "none", 3: "voter"}, "lost disks take no part"
    for node_id in (1, 2):
        cluster.nodes[node_id].start()
    cluster.wait_ready()
    accept_what_is_left(survivor)
    for topic in TOPICS:
        assert read_all(cluster.bootstrap, topic) == acked[topic]
        more = produce(cluster.bootstrap, topic, numbered(f"{topic}-later", range(25)))
        assert read_all(cluster.bootstrap, topic) == acked[topic] + more
    assert committed(cluster.bootstrap, "logs") == 33
    wait_until(lambda: cluster.has_all_copies(survivor), "all copies, on all three", timeout_s=120)

    _an_old_disk_is_refused(cluster, old_disk, survivor, old_id)


def _lose_all_but(survivor: Node, cluster: Cluster) -> Path:
    """Kill the others and take their disks; node 1's comes back later."""
    others = [node for node in cluster.nodes.values() if node is not survivor]
    for node in others:
        node.kill()
    disks = [replace_disk(node, survivor) for node in others]
    shutil.rmtree(disks[1])
    return disks[0]


def _looking_changes_nothing(survivor: Node, old_id: str) -> None:
    before = files(survivor.data_dir)
    told = recover(survivor)
    assert told.returncode == 0, told.stderr
    for text in (f"Node 3 of cluster {old_id}", "gone       node 1", "unclean-seal logs", old_id):
        assert text in told.stdout
    wrong = recover(survivor, "--force", "another")
    assert wrong.returncode == 1
    assert "nothing changed" in wrong.stderr
    assert files(survivor.data_dir) == before


def _an_old_disk_is_refused(cluster: Cluster, disk: Path, survivor: Node, old_id: str) -> None:
    node = cluster.nodes[1]
    node.stop()
    node.data_dir.rename(node.folder / "new-disk")
    disk.rename(node.data_dir)
    node.start()
    refusal = f"the peer belongs to another cluster, '{old_id}'"
    wait_until(lambda: refusal in survivor.log(), "the survivor refuses it, and says why")
    wait_until(lambda: "comes in only when it has been emptied" in node.log(), "it hears so itself")
    assert not node.is_ready()
    produce(survivor.kafka, "logs", numbered("without-it", range(5)))


def on_disk(node: Node, topic: str) -> dict[int, bytes]:
    """Every record in this node's files, by offset."""
    found = {}
    (folder,) = (node.data_dir / "topics").glob(f"{topic}-*")
    for log in folder.glob("*/*.log"):
        data = memoryview(log.read_bytes())
        with suppress(CorruptBatchError):  # At the zeros behind it.
            for position, header in iter_headers(data):
                batch = data[position : position + header.size]
                for record in iter_records(records_section(batch, header), header.record_count):
                    assert record.value is not None
                    found[header.base_offset + record.offset_delta] = bytes(record.value)
    return found


def _behind_the_holes(told: str, topic: str) -> int:
    """From which offset on the topic can be read to its end. There is hardly ever a hole: the disk
    must lack the end of a segment and have the beginning of the next one."""
    of_topic = re.search(rf"^    {topic}: .*\n((?:      .*\n)*)", told, re.MULTILINE)
    assert of_topic, told
    return max(
        (int(last) + 1 for last in re.findall(r"to (\d+): not whole", of_topic[1])), default=0
    )


def _segment_count(by: Node) -> int:
    """Of the topic that has fewest."""
    return min(len(by.state(topic)["sealed_segments"]) for topic in TOPICS)


def produce_until(ended: threading.Event, bootstrap: str, topic: str) -> list[tuple[int, bytes]]:
    """Without a pause, until told to end; (offset, value) of what was acknowledged."""
    acked: list[tuple[int, bytes]] = []

    def delivered(error: KafkaError | None, message: Message) -> None:
        offset, value = message.offset(), message.value()
        if error is None and offset is not None and value is not None:
            acked.append((offset, value))

    settings = {"bootstrap.servers": bootstrap, "enable.idempotence": True, "linger.ms": 1}
    producer = Producer({**settings, "log_level": 0})
    for number in itertools.count():
        if ended.is_set():
            break
        producer.produce(topic, f"{topic}-{number}".encode(), on_delivery=delivered)
        producer.poll(0)
        if number % 5 == 0:
            producer.flush(0.05)
    producer.purge()
    producer.flush(5)
    return acked


def test_machines_that_go_in_the_middle_of_rollovers(make_cluster: MakeCluster) -> None:
    """Segments are closed and opened all the time, and none of it is everywhere at once."""
    cluster = make_cluster(max_segment_entries=10, monitor_check_ms=50)
    for topic in TOPICS:
        cluster.register(topic)
    survivor, ended = cluster.nodes[3], threading.Event()
    with ThreadPoolExecutor() as pool:
        writing = {
            topic: pool.submit(produce_until, ended, cluster.bootstrap, topic) for topic in TOPICS
        }
        try:
            wait_until(lambda: _segment_count(survivor) > 40, "segments come and go")
            old_id = survivor.json("/v1/cluster")["cluster_id"]
            _lose_all_but(survivor, cluster)
            survivor.kill()
        finally:
            ended.set()
    acked = {topic: writing[topic].result() for topic in TOPICS}
    kept = {topic: on_disk(survivor, topic) for topic in TOPICS}
    done = recover(survivor, "--force", old_id)
    assert done.returncode == 0, done.stderr
    print(done.stdout)
    for node in (survivor, cluster.nodes[1], cluster.nodes[2]):
        node.start()
    cluster.wait_ready()
    accept_what_is_left(survivor)
    for topic in TOPICS:
        assert len(acked[topic]) > 250
        more = produce(cluster.bootstrap, topic, numbered(f"{topic}-later", range(25)))
        first = _behind_the_holes(done.stdout, topic)
        expected = {(o, v) for o, v in acked[topic] if o in kept[topic]}.union(more)
        found = set(read_all(cluster.bootstrap, topic, first=first))
        assert {(o, v) for o, v in expected if o >= first} <= found, done.stdout
    if not any(_behind_the_holes(done.stdout, topic) for topic in TOPICS):
        wait_until(
            lambda: cluster.has_all_copies(survivor), "all copies, on all three", timeout_s=120
        )


def test_a_roll_whose_records_this_disk_had_not_got_yet_is_taken_back(
    make_cluster: MakeCluster,
) -> None:
    """The others closed the segment further on, opened the next one, and went with their disks."""
    cluster = make_cluster()
    cluster.register("logs")
    acked = produce(cluster.bootstrap, "logs", numbered("logs", range(13)))
    survivor = cluster.nodes[3]
    wait_until(lambda: has_followed(survivor), "the one that will be left has everything")
    old_id = survivor.json("/v1/cluster")["cluster_id"]
    _lose_all_but(survivor, cluster)
    survivor.kill()
    _hear_of_a_roll(survivor, end_offset=20)
    done = recover(survivor, "--force", old_id)
    assert "1 later segments, of which nothing is here, are given up" in done.stdout, done.stderr
    for node in (survivor, cluster.nodes[1], cluster.nodes[2]):
        node.start()
    cluster.wait_ready()
    assert waiting(survivor) == ["logs"]
    accept_what_is_left(survivor)
    more = produce(cluster.bootstrap, "logs", numbered("later", range(5)))
    assert [offset for offset, _ in more] == list(range(13, 18))
    assert read_all(cluster.bootstrap, "logs") == acked + more


def _hear_of_a_roll(node: Node, *, end_offset: int) -> None:
    """As the metadata of this stopped node would have it, a moment later."""
    disk = OsDisk(node.data_dir / "raft")
    stored = look(disk)
    assert stored is not None
    topic = stored.state.topic_named("logs")
    assert topic is not None
    others = tuple((n, one.disk) for n, one in stored.state.brokers.items() if n != node.node_id)
    roll = CommitRoll(
        topic_id=topic.topic_id,
        sid=topic.last.sid,
        open_epoch=topic.epoch,
        end=SealedEnd(end_offset, 1_000_000, 7, 5),
        holders=others,
        next=Next(1, stored.state.brokers[1].incarnation, topic.last.replicas),
    )
    index = stored.index + 1
    state, answer = apply(stored.state, index, Envelope(FORMAT_VERSION, bytes(16), 1, roll))
    assert not answer.refusal
    snapshot.write(disk, Snapshot(index, stored.term, stored.members, state))
