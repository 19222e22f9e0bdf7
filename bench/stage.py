"""The servers of one run: started when first needed, shared by the cells, stopped together."""

import shutil
import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Future
from itertools import count
from pathlib import Path
from typing import Any, TypeVar

from confluent_kafka.admin import AdminClient, NewTopic

from bench import java
from bench.matrix import ProducerCell
from bench.peers import START_S_MAX, Peer

T = TypeVar("T")

WARM_UP_COUNT = 150_000
"""Messages of each of two sizes that a server gets before anything is measured: a JVM compiles
meanwhile."""
CLUSTER_ROUNDS = 4
"""So many times as much for a cluster: its nodes share the processors, their compilers too."""
WARM_UP_S_MAX = 90.0
"""No more is begun after that."""


class Stage:
    """Servers and topics."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._peers: dict[tuple[type[Peer], str, str], Peer] = {}
        self._numbers = count(1)
        self._filled: dict[tuple[Peer, int, str], tuple[str, int]] = {}

    def peer(self, kind: type[Peer], durability: str, label: str, *, is_warm: bool) -> Peer:
        """A running server. One with a `label` of its own shares its data with no other cell.
        `is_warm`: a new one is worked before it is measured."""
        key = kind, durability, label
        if key not in self._peers:
            peer = self._peers[key] = kind(self.folder / label, durability)
            peer.start()
            if peer.speaks_kafka:
                _wait_for_brokers(peer)
                if is_warm:
                    self._warm_up(peer)
        return self._peers[key]

    def release(self, label: str) -> None:
        """Stop the servers of `label` and delete their data: no later cell needs them."""
        for key in [key for key in self._peers if key[2] == label]:
            peer = self._peers.pop(key)
            peer.stop()
            shutil.rmtree(peer.folder)

    def delete_topics(self) -> None:
        """Of all servers, with their records: no later cell reads them, and a disk has an end."""
        self._filled.clear()
        for peer in self._peers.values():
            if not peer.speaks_kafka:
                continue
            admin = AdminClient({"bootstrap.servers": peer.address})
            found = admin.list_topics(timeout=START_S_MAX).topics
            names = [name for name in found if not name.startswith("__")]
            _in_parts(admin.delete_topics, names)

    def topics(self, peer: Peer, count: int = 1) -> list[str]:
        """New ones, with one partition each."""
        names = [f"bench-{next(self._numbers)}" for _ in range(count)]
        admin = AdminClient({"bootstrap.servers": peer.address})
        _in_parts(admin.create_topics, [NewTopic(name, 1, peer.replicas) for name in names])
        return names

    def leader_ports(self, peer: Peer, topics: Sequence[str]) -> list[int]:
        """Of each of `topics`, in their order: where its records are sent, on 127.0.0.1."""
        known = AdminClient({"bootstrap.servers": peer.address}).list_topics(timeout=START_S_MAX)
        leaders = [known.topics[topic].partitions[0].leader for topic in topics]
        return [known.brokers[leader].port for leader in leaders]

    def filled_topic(self, peer: Peer, record_size: int, codec: str, count: int) -> str:
        """One with at least `count` records, for consumers; others may read it, too."""
        key = (peer, record_size, codec)
        topic, filled = self._filled.get(key, ("", 0))
        if filled < count:
            (topic,) = self.topics(peer)
            java.fill(peer.address, topic, codec, record_size, count)
            self._filled[key] = (topic, count)
        return topic

    def close(self) -> None:
        for peer in self._peers.values():
            peer.stop()

    def _warm_up(self, peer: Peer) -> None:
        share = 1 if peer.durability == "cache" else 20
        until = time.monotonic() + WARM_UP_S_MAX
        for size in (100, 1000) * (CLUSTER_ROUNDS if peer.replicas > 1 else 1):
            if time.monotonic() > until:
                break
            cell = ProducerCell("java", "none", size, 0, 16_384, "all", peer.durability)
            java.produce(peer.address, self.topics(peer)[0], cell, WARM_UP_COUNT // share)


def _in_parts(ask: Callable[[list[T]], Mapping[Any, Future[None]]], wanted: list[T]) -> None:
    """A hundred at a time, and wait for each. Raises what the server answers."""
    for begin in range(0, len(wanted), 100):
        for future in ask(wanted[begin : begin + 100]).values():
            future.result()


def _wait_for_brokers(peer: Peer) -> None:
    """Until every node of a cluster is known, so that topics get all their copies."""
    admin = AdminClient({"bootstrap.servers": peer.address})
    deadline = time.monotonic() + START_S_MAX
    while len(admin.list_topics(timeout=START_S_MAX).brokers) < peer.node_count:
        peer.check()
        if time.monotonic() > deadline:
            raise TimeoutError(f"{peer.name} is not complete after {START_S_MAX:.0f} s")
        time.sleep(0.2)
