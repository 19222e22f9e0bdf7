"""Nodes as processes of their own on loopback, as an operator would start them."""

import json
import os
import random
import signal
import socket
import struct
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[2]

START_S_MAX = 60.0
STOP_S_MAX = 60.0

_FIRST_PORT, _LAST_PORT = 20_000, 32_000
"""Below the range from which the kernel takes ports for outgoing connections: while a node is down,
no client's own socket may take its port."""

_random = random.Random(os.getpid() ^ time.time_ns())
_given: set[int] = set()


def free_port() -> int:
    """A port on which nobody listens, and which this process has not given before."""
    while True:
        port = _random.randint(_FIRST_PORT, _LAST_PORT)
        if port in _given:
            continue
        with socket.socket() as probe:
            try:
                probe.bind(("0.0.0.0", port))
            except OSError:
                continue
            _given.add(port)
            return port


def wait_until(condition: Callable[[], object], what: str, *, timeout_s: float = 60.0) -> None:
    """Raises AssertionError that names `what` when it does not come true in time."""
    deadline = time.monotonic() + timeout_s
    while not condition():
        assert time.monotonic() < deadline, f"not within {timeout_s:.0f} s: {what}"
        time.sleep(0.05)


@dataclass
class Node:
    """One node. It binds and advertises other peer addresses when a proxy stands in between."""

    node_id: int
    folder: Path
    join: str = ""
    environment: Mapping[str, str] = field(default_factory=dict)
    raft_host: str = "127.0.0.1"
    raft_advertise_host: str = "127.0.0.1"
    native_port: int = field(default_factory=free_port)
    kafka_port: int = field(default_factory=free_port)
    admin_port: int = field(default_factory=free_port)
    raft_port: int = field(default_factory=free_port)
    process: subprocess.Popen[bytes] | None = None

    @property
    def kafka(self) -> str:
        return f"127.0.0.1:{self.kafka_port}"

    @property
    def peer(self) -> str:
        """Where other nodes dial it."""
        return f"{self.raft_advertise_host}:{self.raft_port}"

    @property
    def log_path(self) -> Path:
        return self.folder / "node.log"

    def command(self) -> list[str]:
        flags = {
            "node-id": self.node_id,
            "data-dir": self.folder / "data",
            "client-port": self.native_port,
            "kafka-port": self.kafka_port,
            "admin-port": self.admin_port,
            "raft-port": self.raft_port,
            "raft-host": self.raft_host,
            "raft-advertise-host": self.raft_advertise_host,
        }
        if self.join:
            flags["join"] = self.join
        given = [part for name, value in flags.items() for part in (f"--{name}", str(value))]
        return [sys.executable, "-m", "broker.cli.main", "serve", *given]

    # -- its life

    def start(self) -> None:
        """Begin; `wait_ready` waits."""
        assert not self.is_running, f"node {self.node_id} is running"
        self.folder.mkdir(parents=True, exist_ok=True)
        kept = {name: text for name, text in os.environ.items() if not name.startswith("WALRUS_")}
        with self.log_path.open("ab") as log:
            self.process = subprocess.Popen(
                self.command(),
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                cwd=self.folder,
                env=kept | {"PYTHONPATH": str(ROOT)} | dict(self.environment),
                start_new_session=True,
            )

    def wait_ready(self) -> None:
        """Raises AssertionError with the end of its log."""
        deadline = time.monotonic() + START_S_MAX
        while not self.is_ready():
            assert self.is_running, f"node {self.node_id} ended:\n{self.log_tail()}"
            assert time.monotonic() < deadline, f"node {self.node_id} waits:\n{self.log_tail()}"
            time.sleep(0.05)

    @property
    def is_running(self) -> bool:
        return self.process is not None and self.process.poll() is None

    @property
    def pid(self) -> int:
        assert self.process is not None
        return self.process.pid

    def is_ready(self) -> bool:
        try:
            return self.get("/readyz")[0] == 200
        except OSError:
            return False

    def signal(self, number: signal.Signals) -> None:
        assert self.process is not None
        self.process.send_signal(number)

    def kill(self) -> None:
        """No goodbye."""
        self.signal(signal.SIGKILL)
        assert self.process is not None
        self.process.wait(STOP_S_MAX)

    def stop(self) -> int:
        """SIGTERM; the exit code."""
        self.signal(signal.SIGTERM)
        assert self.process is not None
        return self.process.wait(STOP_S_MAX)

    def close(self) -> None:
        """Whatever state it is in."""
        if self.is_running:
            self.kill()

    # -- what can be seen of it

    def log_tail(self) -> str:
        return "\n".join(self.log_path.read_text(errors="replace").splitlines()[-30:])

    def get(self, path: str) -> tuple[int, str]:
        """Status and text of an admin page. Raises OSError when nobody answers."""
        address = f"http://127.0.0.1:{self.admin_port}{path}"
        try:
            with urllib.request.urlopen(address, timeout=2) as response:
                return response.status, response.read().decode()
        except urllib.error.HTTPError as error:
            with error:
                return error.code, error.read().decode()

    def json(self, path: str) -> Any:
        return json.loads(self.get(path)[1])

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
        node = Node(node_id, self.folder / f"node-{node_id}", join, self.environment)
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
                node.wait_ready()
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
