"""The servers of one run: started when first needed, shared by the cells, stopped together."""

from itertools import count
from pathlib import Path

from confluent_kafka.admin import AdminClient, NewTopic

from bench.java import produce
from bench.matrix import ProducerCell
from bench.peers import Kafka, Peer, Walrus

WARM_UP_COUNT = 150_000
"""Messages that a server gets before anything is measured: a JVM compiles meanwhile."""


class Stage:
    """Servers and topics."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._peers: dict[tuple[type[Peer], str, str], Peer] = {}
        self._numbers = count(1)

    def peer(self, kind: type[Peer], durability: str, label: str = "shared") -> Peer:
        """A running server. One with a `label` of its own shares its data with no other cell."""
        key = kind, durability, label
        if key not in self._peers:
            peer = self._peers[key] = kind(self.folder / label, durability)
            peer.start()
            if label == "shared" and isinstance(peer, Kafka | Walrus):
                self._warm_up(peer)
        return self._peers[key]

    def topics(self, peer: Peer, count: int = 1) -> list[str]:
        """New ones, with one partition each."""
        names = [f"bench-{next(self._numbers)}" for _ in range(count)]
        admin = AdminClient({"bootstrap.servers": peer.address})
        for begin in range(0, count, 100):
            wanted = [NewTopic(name, 1, 1) for name in names[begin : begin + 100]]
            for future in admin.create_topics(wanted).values():
                future.result()
        return names

    def close(self) -> None:
        for peer in self._peers.values():
            peer.stop()

    def _warm_up(self, peer: Peer) -> None:
        share = 1 if peer.durability == "cache" else 20
        for size in (100, 1000):
            cell = ProducerCell("java", "none", size, 0, 16_384, "all", peer.durability)
            produce(peer.address, self.topics(peer)[0], cell, WARM_UP_COUNT // share)
