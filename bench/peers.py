"""The servers that are compared: processes on 127.0.0.1, each with its data in its own folder.

A peer is one process, or a cluster of three of the same kind.
"""

import os
import signal
import socket
import subprocess
import sys
import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import ClassVar, Final

from tests.node_process import free_port

ROOT: Final = Path(__file__).parents[1]
BUILD: Final = ROOT / "build" / "bench"
KAFKA_JARS: Final = BUILD / "kafka"

START_S_MAX: Final = 120.0
STOP_S_MAX: Final = 60.0

FSYNC: Final = {"cache": "none", "sync": "each"}
"""What we call the durabilities that are compared."""

JVM_FLAGS: Final = (
    "-XX:MetaspaceSize=96m -XX:+UseG1GC -XX:MaxGCPauseMillis=20"
    " -XX:InitiatingHeapOccupancyPercent=35 -XX:G1HeapRegionSize=16M"
    " -XX:MinMetaspaceFreeRatio=50 -XX:MaxMetaspaceFreeRatio=80 -XX:+ExplicitGCInvokesConcurrent"
).split()
"""What Kafka's documentation recommends for its JVM, but for the heap, which is an option."""


class Peer(ABC):
    """One server or cluster. `start` may be called again after `stop`: same ports, same data."""

    name: ClassVar[str]
    replicas: ClassVar[int] = 1
    """Copies of each topic."""
    node_count: ClassVar[int] = 1
    speaks_kafka: ClassVar[bool] = True

    def __init__(self, folder: Path, durability: str) -> None:
        self.folder = folder
        self.durability = durability

    @property
    @abstractmethod
    def address(self) -> str:
        """Where clients find it, as `bootstrap.servers`."""

    @property
    def port(self) -> int:
        """On 127.0.0.1; of a cluster, the first node's."""
        return int(self.address.partition(",")[0].rpartition(":")[2])

    @property
    @abstractmethod
    def pids(self) -> list[int]:
        """Of its processes, without what they started."""

    @abstractmethod
    def start(self, *, wait: bool = True) -> None:
        """`wait`: until it takes connections. Raises TimeoutError, RuntimeError."""

    @abstractmethod
    def check(self) -> None:
        """Raises RuntimeError if it has ended."""

    @abstractmethod
    def stop(self) -> None:
        """As its operator would."""

    @abstractmethod
    def kill(self) -> None:
        """As `kill -9` does."""


class Node(Peer):
    """One process. `command` may assume that `folder` is there."""

    def __init__(self, folder: Path, durability: str) -> None:
        super().__init__(folder / f"{self.name}-{durability}", durability)
        self._port = free_port()
        """Where its clients connect: of the Kafka protocol, if it speaks that."""
        self._process: subprocess.Popen[bytes] | None = None

    @abstractmethod
    def command(self) -> list[str]:
        """What to run."""

    @property
    def environment(self) -> dict[str, str]:
        return {name: value for name, value in os.environ.items() if not name.startswith("WALRUS")}

    @property
    def address(self) -> str:
        return f"127.0.0.1:{self._port}"

    @property
    def pids(self) -> list[int]:
        assert self._process is not None
        return [self._process.pid]

    def start(self, *, wait: bool = True) -> None:
        self.folder.mkdir(parents=True, exist_ok=True)
        with (self.folder / "log").open("ab") as log:
            self._process = subprocess.Popen(
                self.command(),
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                cwd=self.folder,
                env=self.environment,
            )
        if wait:
            self.wait_listening()

    def wait_listening(self) -> None:
        self.wait_until(self._listens)

    def wait_until(self, is_ready: Callable[[], bool]) -> None:
        """Raises TimeoutError, RuntimeError."""
        deadline = time.monotonic() + START_S_MAX
        while not is_ready():
            self.check()
            if time.monotonic() > deadline:
                raise TimeoutError(f"{self.name} does not serve after {START_S_MAX:.0f} s")
            time.sleep(0.02)

    def check(self) -> None:
        assert self._process is not None
        if self._process.poll() is not None:
            text = (self.folder / "log").read_text(errors="replace")
            raise RuntimeError(
                f"{self.name} ended with {self._process.returncode}:\n{text[-2000:]}"
            )

    def ask_to_stop(self) -> None:
        if self._process is not None:
            self._process.send_signal(signal.SIGTERM)

    def stop(self) -> None:
        if self._process is None:
            return
        self.ask_to_stop()
        try:
            self._process.wait(STOP_S_MAX)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        self._process = None

    def kill(self) -> None:
        assert self._process is not None
        self._process.kill()
        self._process.wait()

    def _listens(self) -> bool:
        with socket.socket() as probe:
            return probe.connect_ex(("127.0.0.1", self.port)) == 0


class Walrus(Node):
    """This project, from this checkout."""

    name = "walrus"

    def __init__(self, folder: Path, durability: str) -> None:
        super().__init__(folder, durability)
        self.native_port, self.admin_port, self.raft_port = (free_port() for _ in range(3))
        self.flags: list[str] = []
        """More of them, of a node that is not alone."""

    def command(self) -> list[str]:
        settings = {
            "data-dir": self.folder / "data",
            "kafka-port": self.port,
            "client-port": self.native_port,
            "admin-port": self.admin_port,
            "raft-port": self.raft_port,
            "fsync": FSYNC[self.durability],
        }
        walrus = str(Path(sys.executable).with_name("walrus"))
        words = [f"--{name}={value}" for name, value in settings.items()]
        return [walrus, "serve", *words, *self.flags]


class Kafka(Node):
    """Apache Kafka, a node of KRaft that is broker and controller."""

    name = "kafka"
    heap = "1g"
    """The default of its own start script."""

    def __init__(self, folder: Path, durability: str) -> None:
        super().__init__(folder, durability)
        self.node_id = 1
        self.controller = f"127.0.0.1:{free_port()}"
        self.voters = [self]
        """All nodes of its cluster."""

    def command(self) -> list[str]:
        return [*self._java(), "kafka.Kafka", str(self._properties)]

    def start(self, *, wait: bool = True) -> None:
        if not self._properties.exists():
            self.folder.mkdir(parents=True, exist_ok=True)
            self._properties.write_text(self._settings())
            tool = [*self._java(), "kafka.tools.StorageTool", "format"]
            cluster = ["-t", "AAAAAAAAAAAAAAAAAAAAAQ", "-c", str(self._properties)]
            subprocess.run([*tool, *cluster], check=True, capture_output=True)
        super().start(wait=wait)

    @property
    def _properties(self) -> Path:
        return self.folder / "server.properties"

    def _java(self) -> list[str]:
        heap = [f"-Xms{self.heap}", f"-Xmx{self.heap}"]
        return ["java", *heap, *JVM_FLAGS, "-cp", f"{KAFKA_JARS}/*"]

    def _settings(self) -> str:
        count = len(self.voters)
        voters = ",".join(f"{node.node_id}@{node.controller}" for node in self.voters)
        sync = "log.flush.interval.messages=1\n" if self.durability == "sync" else ""
        return sync + (
            f"process.roles=broker,controller\nnode.id={self.node_id}\n"
            f"controller.quorum.voters={voters}\n"
            f"listeners=PLAINTEXT://{self.address},CONTROLLER://{self.controller}\n"
            f"advertised.listeners=PLAINTEXT://{self.address}\n"
            "controller.listener.names=CONTROLLER\n"
            "listener.security.protocol.map=CONTROLLER:PLAINTEXT,PLAINTEXT:PLAINTEXT\n"
            f"log.dirs={self.folder / 'data'}\n"
            "num.partitions=1\noffsets.topic.num.partitions=1\n"
            f"default.replication.factor={count}\nmin.insync.replicas={count // 2 + 1}\n"
            f"offsets.topic.replication.factor={count}\n"
            f"transaction.state.log.replication.factor={count}\n"
            "transaction.state.log.min.isr=1\n"
            f"share.coordinator.state.topic.replication.factor={count}\n"
            "share.coordinator.state.topic.min.isr=1\n"
            "group.initial.rebalance.delay.ms=0\n"
        )


class Cluster(Peer):
    """Several nodes of one kind: three, with three copies, unless a kind says otherwise."""

    replicas = 3
    node_count = 3

    def __init__(self, folder: Path, durability: str) -> None:
        super().__init__(folder / f"{self.name}-{durability}", durability)
        self._nodes: Sequence[Node] = self._members()

    @abstractmethod
    def _members(self) -> Sequence[Node]:
        """Each in a folder of its own, and told of the others."""

    @property
    def address(self) -> str:
        return ",".join(node.address for node in self._nodes)

    @property
    def pids(self) -> list[int]:
        return [pid for node in self._nodes for pid in node.pids]

    def start(self, *, wait: bool = True) -> None:
        for node in self._nodes:
            node.start(wait=False)
        for node in self._nodes if wait else ():
            node.wait_listening()

    def check(self) -> None:
        for node in self._nodes:
            node.check()

    def stop(self) -> None:
        for node in self._nodes:
            node.ask_to_stop()
        for node in self._nodes:
            node.stop()

    def kill(self) -> None:
        for node in self._nodes:
            node.kill()


class WalrusCluster(Cluster):
    """Three of ours; acks=all is a majority."""

    name = "walrus"

    def _members(self) -> Sequence[Node]:
        numbers = range(1, self.node_count + 1)
        nodes = [Walrus(self.folder / str(number), self.durability) for number in numbers]
        for number, node in zip(numbers, nodes, strict=True):
            others = ",".join(f"127.0.0.1:{one.raft_port}" for one in nodes if one is not node)
            node.flags = [f"--node-id={number}", f"--join={others}"]
        nodes[0].flags.append("--bootstrap")
        return nodes


class WalrusPair(WalrusCluster):
    """Two of ours, for two cores; each topic is on one of them."""

    replicas = 1
    node_count = 2


class KafkaCluster(Cluster):
    """Three combined nodes; acks=all is every replica in sync, of which two must be."""

    name = "kafka"

    def _members(self) -> Sequence[Node]:
        numbers = range(1, self.node_count + 1)
        nodes = [Kafka(self.folder / str(number), self.durability) for number in numbers]
        for number, node in zip(numbers, nodes, strict=True):
            node.node_id, node.voters = number, nodes
        return nodes
