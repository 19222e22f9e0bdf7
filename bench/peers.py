"""The servers that are compared: processes on 127.0.0.1, each with its data in its own folder."""

import os
import signal
import socket
import subprocess
import sys
import time
from abc import ABC, abstractmethod
from pathlib import Path
from typing import ClassVar, Final

from harness.server import free_port

ROOT: Final = Path(__file__).parents[1]
BUILD: Final = ROOT / "build" / "bench"
KAFKA_JARS: Final = BUILD / "kafka"
RUST_PEER: Final = BUILD / "rust" / "target" / "release" / "walrus-peer"

START_S_MAX: Final = 120.0
STOP_S_MAX: Final = 60.0

JVM_FLAGS: Final = (
    "-XX:MetaspaceSize=96m -XX:+UseG1GC -XX:MaxGCPauseMillis=20"
    " -XX:InitiatingHeapOccupancyPercent=35 -XX:G1HeapRegionSize=16M"
    " -XX:MinMetaspaceFreeRatio=50 -XX:MaxMetaspaceFreeRatio=80 -XX:+ExplicitGCInvokesConcurrent"
).split()
"""What Kafka's documentation recommends for its JVM, but for the heap, which is an option."""


class Peer(ABC):
    """One server. `start` may be called again after `stop`: same ports, same data."""

    name: ClassVar[str]

    def __init__(self, folder: Path, durability: str) -> None:
        self.folder = folder / f"{self.name}-{durability}"
        self.durability = durability
        self.port = free_port()
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
        return f"127.0.0.1:{self.port}"

    @property
    def pid(self) -> int:
        assert self._process is not None
        return self._process.pid

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
        deadline = time.monotonic() + START_S_MAX
        while wait and not self._listens():
            self.check()
            if time.monotonic() > deadline:
                raise TimeoutError(f"{self.name} does not listen after {START_S_MAX:.0f} s")
            time.sleep(0.02)

    def check(self) -> None:
        """Raises RuntimeError if it has ended."""
        assert self._process is not None
        if self._process.poll() is not None:
            text = (self.folder / "log").read_text(errors="replace")
            raise RuntimeError(
                f"{self.name} ended with {self._process.returncode}:\n{text[-2000:]}"
            )

    def stop(self) -> None:
        if self._process is None:
            return
        self._process.send_signal(signal.SIGTERM)
        try:
            self._process.wait(STOP_S_MAX)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        self._process = None

    def kill(self) -> None:
        """As `kill -9` does."""
        assert self._process is not None
        self._process.kill()
        self._process.wait()

    def _listens(self) -> bool:
        with socket.socket() as probe:
            return probe.connect_ex(("127.0.0.1", self.port)) == 0


class Walrus(Peer):
    """This project, from this checkout."""

    name = "walrus"

    def __init__(self, folder: Path, durability: str) -> None:
        super().__init__(folder, durability)
        self.native_port, self.admin_port, self.raft_port = (free_port() for _ in range(3))

    def command(self) -> list[str]:
        flags = {
            "data-dir": self.folder / "data",
            "kafka-port": self.port,
            "client-port": self.native_port,
            "admin-port": self.admin_port,
            "raft-port": self.raft_port,
            "fsync": {"cache": "none", "sync": "each"}[self.durability],
        }
        walrus = str(Path(sys.executable).with_name("walrus"))
        return [walrus, "serve", *(f"--{name}={value}" for name, value in flags.items())]


class Kafka(Peer):
    """Apache Kafka, one node of KRaft."""

    name = "kafka"
    heap = "1g"
    """The default of its own start script."""

    def __init__(self, folder: Path, durability: str) -> None:
        super().__init__(folder, durability)
        self._controller_port = free_port()

    def command(self) -> list[str]:
        return [*self._java(), "kafka.Kafka", str(self._properties)]

    def start(self, *, wait: bool = True) -> None:
        if not self._properties.exists():
            self.folder.mkdir(parents=True)
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
        sync = "log.flush.interval.messages=1\n" if self.durability == "sync" else ""
        return sync + (
            "process.roles=broker,controller\nnode.id=1\n"
            f"controller.quorum.voters=1@127.0.0.1:{self._controller_port}\n"
            f"listeners=PLAINTEXT://{self.address},CONTROLLER://127.0.0.1:{self._controller_port}\n"
            f"advertised.listeners=PLAINTEXT://{self.address}\n"
            "controller.listener.names=CONTROLLER\n"
            "listener.security.protocol.map=CONTROLLER:PLAINTEXT,PLAINTEXT:PLAINTEXT\n"
            f"log.dirs={self.folder / 'data'}\n"
            "num.partitions=1\noffsets.topic.num.partitions=1\n"
            "offsets.topic.replication.factor=1\n"
            "transaction.state.log.replication.factor=1\ntransaction.state.log.min.isr=1\n"
            "share.coordinator.state.topic.replication.factor=1\n"
            "share.coordinator.state.topic.min.isr=1\n"
            "group.initial.rebalance.delay.ms=0\n"
        )


class RustEngine(Peer):
    """The Walrus engine behind the native protocol: see `rust/src/main.rs`."""

    name = "walrus-rust"

    @property
    def native_port(self) -> int:
        return self.port

    @property
    def environment(self) -> dict[str, str]:
        # It prints several lines per operation without the second.
        return super().environment | {"WALRUS_DATA_DIR": str(self.folder), "WALRUS_QUIET": "1"}

    def command(self) -> list[str]:
        return [str(RUST_PEER), "serve", str(self.port)]
