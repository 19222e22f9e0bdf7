"""Nodes as processes of their own on loopback, as an operator would start them."""

import json
import socket
import struct
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from signal import Signals
from typing import Any, Self, TypeVar

from tests.node_process import NodeProcess

T = TypeVar("T")


def wait_until(condition: Callable[[], T | None], what: str, *, timeout_s: float = 60.0) -> T:
    """What `condition` answers, once that is true. Raises AssertionError that names `what` when it
    does not come true in time."""
    deadline = time.monotonic() + timeout_s
    while not (answer := condition()):
        assert time.monotonic() < deadline, f"not within {timeout_s:.0f} s: {what}"
        time.sleep(0.05)
    return answer


@dataclass
class Node(NodeProcess):
    """One of several. It binds and advertises other peer addresses when a proxy stands in
    between."""

    page_s_max = 2.0

    node_id: int
    join: str = ""
    raft_host: str = "127.0.0.1"
    raft_advertise_host: str = "127.0.0.1"

    @property
    def peer(self) -> str:
        """Where other nodes dial it."""
        return f"{self.raft_advertise_host}:{self.raft_port}"

    def flags(self) -> dict[str, object]:
        flags = super().flags() | {
            "node_id": self.node_id,
            "raft_host": self.raft_host,
            "raft_advertise_host": self.raft_advertise_host,
        }
        return flags | {"join": self.join} if self.join else flags

    def start(self, *, wait: bool = False) -> Self:
        """It may be ready only when others are started, too."""
        return super().start(wait=wait)

    def signal(self, number: Signals) -> None:
        assert self.process is not None
        self.process.send_signal(number)

    def native(self, command: bytes, *, timeout_s: float = 20.0) -> bytes:
        """One native command on a connection of its own. Raises OSError."""
        with socket.create_connection(("127.0.0.1", self.native_port), timeout=timeout_s) as stream:
            stream.sendall(struct.pack("<I", len(command)) + command)
            with stream.makefile("rb") as reader:
                head = reader.read(4)
                size = struct.unpack("<I", head)[0] if len(head) == 4 else -1
                reply = reader.read(max(size, 0))
        if len(reply) != size:
            raise ConnectionError("the node closed the connection")
        return reply

    def state(self, topic: str) -> Any:
        """STATE: the topic's chain of segments."""
        reply = self.native(b"STATE " + topic.encode())
        assert not reply.startswith(b"ERR"), reply
        return json.loads(reply)

    def topic(self, name: str) -> Any:
        """What `/v1/status` says about a topic; None when there is none."""
        topics = self.json("/v1/status")["topics"]
        return next((topic for topic in topics if topic["name"] == name), None)


class Cluster:
    """Nodes 1 to `count`; the first forms the cluster, the others join it."""

    def __init__(
        self,
        folder: Path,
        count: int = 3,
        environment: Mapping[str, str] | None = None,
        *,
        behind_proxy: bool = False,
    ) -> None:
        self.folder = folder
        self.environment = dict(environment or {})
        self.behind_proxy = behind_proxy
        self.nodes: dict[int, Node] = {}
        for _ in range(count):
            self.add()

    def add(self) -> Node:
        """One more, not started."""
        node_id = len(self.nodes) + 1
        join = self.nodes[1].peer if self.nodes else ""
        node = Node(self.folder / f"node-{node_id}", node_id, join, environment=self.environment)
        if self.behind_proxy:
            # All of 127/8 is loopback: a proxy listens where the node says it can be dialled.
            node.raft_host, node.raft_advertise_host = f"127.0.1.{node_id}", f"127.0.2.{node_id}"
        self.nodes[node_id] = node
        return node

    def start(self) -> None:
        """All of them; returns when every one serves and knows all others."""
        for node in self.nodes.values():
            node.start()
        self.wait_ready()

    def wait_ready(self) -> None:
        for node in self.nodes.values():
            if node.is_running:
                node.wait_until_ready()
        wait_until(self.is_whole, "every running node knows every other")

    def is_whole(self) -> bool:
        """Does every running node see as many live nodes as there are running?"""
        running = [node for node in self.nodes.values() if node.is_running]
        try:
            for node in running:
                metrics = json.loads(node.native(b"METRICS"))
                known = metrics["membership_config"]["membership"]["nodes"]
                if len(known) != len(running):
                    return False
        except (OSError, ValueError, KeyError):
            return False
        return True

    def has_all_copies(self, by: Node) -> bool:
        """Does `by` see every node alive and a voter, and every copy where it should be?"""
        try:
            found = by.json("/v1/cluster")
        except (OSError, ValueError):
            return False
        nodes = found["nodes"]
        return (
            len(nodes) == len(self.nodes)
            and all(node["is_alive"] and node["raft_role"] == "voter" for node in nodes)
            and not any(topic["under_replicated_segments"] for topic in found["topics"])
        )

    def close(self) -> None:
        for node in self.nodes.values():
            node.close()

    @property
    def bootstrap(self) -> str:
        """What Kafka clients call bootstrap servers."""
        return ",".join(node.kafka for node in self.nodes.values())

    def leader(self, topic: str) -> Node | None:
        """Who writes the topic, as any node that answers says; None while nobody does."""
        for node in self.nodes.values():
            if not node.is_running:
                continue
            try:
                found = node.topic(topic)
            except (OSError, ValueError, KeyError):
                continue
            if found is not None and found["leader_id"] in self.nodes:
                return self.nodes[found["leader_id"]]
        return None

    def register(self, topic: str) -> None:
        """Create it; returns when it has a writer."""
        reply = self.nodes[1].native(b"REGISTER " + topic.encode())
        assert reply == b"OK", reply
        wait_until(lambda: self.leader(topic), f"a writer of {topic}")

    def raft_leader(self) -> Node | None:
        for node in self.nodes.values():
            if node.is_running:
                try:
                    if json.loads(node.native(b"METRICS", timeout_s=2))["state"] == "Leader":
                        return node
                except (OSError, ValueError, KeyError):
                    continue
        return None
