"""The peers that are programs in Rust: the Walrus engine, alone and as a cluster's node, and the
servers that no broker can be ahead of."""

from pathlib import Path
from typing import Final

from bench.closed_loop import ask, native
from bench.peers import BUILD, FSYNC, Node, Walrus
from tests.node_process import free_port

BUILT: Final = BUILD / "rust" / "target" / "release"
ENGINE: Final = BUILT / "walrus-peer"
ORIGINAL: Final = BUILD / "original"
"""A checkout of the engine, whose distributed form no registry has."""
DISTRIBUTED: Final = ORIGINAL / "distributed-walrus" / "target" / "release" / "distributed-walrus"


class NativeNode(Node):
    """The Walrus engine, which speaks the native protocol alone."""

    speaks_kafka = False

    @property
    def native_port(self) -> int:
        return self.port

    @property
    def environment(self) -> dict[str, str]:
        # It prints several lines per operation without.
        return super().environment | {"WALRUS_QUIET": "1"}


class RustEngine(NativeNode):
    """The engine itself, behind a socket: see `rust/src/main.rs`."""

    name = "walrus-rust"

    @property
    def environment(self) -> dict[str, str]:
        return super().environment | {"WALRUS_DATA_DIR": str(self.folder)}

    def command(self) -> list[str]:
        return [str(ENGINE), "serve", str(self.port)]


class RustNode(NativeNode):
    """One node of its distributed form."""

    name = "walrus-distributed"

    def __init__(self, folder: Path, durability: str) -> None:
        super().__init__(folder, durability)
        self._raft_port = free_port()

    def command(self) -> list[str]:
        ports = [f"--client-port={self.port}", f"--raft-port={self._raft_port}"]
        return [str(DISTRIBUTED), f"--data-dir={self.folder / 'data'}", *ports]

    def wait_listening(self) -> None:
        super().wait_listening()
        # It listens before it leads itself.
        self.wait_until(lambda: ask(self.port, native(b"REGISTER first")) == b"OK")


class Relay(Node):
    """Answers some requests itself, as no broker could do better, and a node of ours the rest."""

    def __init__(self, folder: Path, durability: str) -> None:
        super().__init__(folder, durability)
        self._behind = Walrus(self.folder, durability)
        self._behind.flags = [f"--kafka-advertise={self.address}"]

    def command(self) -> list[str]:
        return [str(BUILT / self.name), str(self.port), str(self._behind.port)]

    def start(self, *, wait: bool = True) -> None:
        self._behind.start()
        super().start(wait=wait)

    def stop(self) -> None:
        super().stop()
        self._behind.stop()

    def kill(self) -> None:
        super().kill()
        self._behind.kill()


class Nothing(Relay):
    """Throws away what is sent to it: see `rust/src/bin/nothing.rs`."""

    name = "nothing"


class Memory(Relay):
    """Its log is its memory: see `rust/src/bin/memory.rs`."""

    name = "memory"


class File(Relay):
    """Writes what is sent to it to a file: see `rust/src/bin/file.rs`."""

    name = "file"

    def command(self) -> list[str]:
        return [*super().command(), str(self.folder / "records"), FSYNC[self.durability]]
