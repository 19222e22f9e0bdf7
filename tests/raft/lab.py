"""A few members on a bench: the test moves the time and decides which message arrives when."""

import random
from collections import deque
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, ClassVar

from raft import commands as c
from raft import messages
from raft.commands import Applied
from raft.errors import RaftError
from raft.ground import NEVER
from raft.messages import AnyMessage
from raft.node import RaftNode
from tests.sim.raft.disk import SimDisk

STEP_S = 0.01


class _Link:
    def __init__(self, lab: "Lab", name: str) -> None:
        self._lab = lab
        self._name = name

    def send(self, voter: str, data: bytes) -> bool:
        if (self._name, voter) not in self._lab.cut:
            self._lab.wires[self._name, voter].append(data)
        return True


class Lab:
    """Nodes by name, connected all to all. A cut link loses what is sent; a held one keeps it
    back."""

    node_class: ClassVar[type[RaftNode]] = RaftNode

    def __init__(self, names: Sequence[str], **options: Any) -> None:
        self.names = tuple(names)
        self.now = 1000.0
        self.options = options
        self._lives = 0
        self.disks = {name: SimDisk(random.Random(name)) for name in names}
        self.nodes: dict[str, RaftNode] = {}
        self.wires = {(a, b): deque[bytes]() for a in names for b in names}
        self.cut: set[tuple[str, str]] = set()
        self.held: set[tuple[str, str]] = set()
        for name in names:
            self.start(name)

    def add(self, name: str) -> None:
        """One more machine, with an empty disk."""
        self.names = (*self.names, name)
        self.disks[name] = SimDisk(random.Random(name))
        for other in self.names:
            self.wires[name, other] = deque()
            self.wires[other, name] = deque()

    def start(self, name: str, *, joins: bool = False) -> RaftNode:
        self._lives += 1
        node = self.node_class(
            directory=Path(name),
            voter_id=name,
            peers=self.names,
            joins=joins,
            link=_Link(self, name),
            clock=lambda: self.now,
            rng=random.Random(f"{name} {self._lives}"),
            disk=self.disks[name],
            debug=True,
            **{"spawn": _inline, **self.options},
        )
        node.open()
        self.nodes[name] = node
        for other in self.names:
            if other != name:
                node.connected(other)
        self.calm(name)
        return node

    def kill(self, name: str, *, power: bool = False) -> None:
        """The process, or the machine, is gone, and so is what was under way to and from it."""
        del self.nodes[name]
        disk = self.disks[name]
        self.disks[name] = disk.after_power_cut() if power else disk.after_kill()
        for (source, target), wire in self.wires.items():
            if name in (source, target):
                wire.clear()

    # ---- time and messages -----------------------------------------------------------------------

    def deliver(self) -> None:
        for wire, queue in self.wires.items():
            while queue and wire not in self.held:
                data = queue.popleft()
                if wire not in self.cut and wire[1] in self.nodes:
                    self.nodes[wire[1]].receive(wire[0], data)

    def run(self, seconds: float) -> None:
        end = self.now + seconds
        while self.now < end:
            self.now += STEP_S
            self.deliver()
            for node in list(self.nodes.values()):
                node.tick()

    def inject(self, source: str, target: str, message: AnyMessage) -> None:
        """`target` gets this from `source` now."""
        self.nodes[target].receive(source, messages.encode(message))
        self.nodes[target].tick()

    def isolate(self, name: str) -> None:
        for other in self.names:
            self.cut |= {(name, other), (other, name)}

    # ---- elections -------------------------------------------------------------------------------

    def calm(self, name: str) -> None:
        """This node will not stand for election by itself."""
        self.nodes[name]._raft._postpone_election = lambda: None  # type: ignore[method-assign]
        self.nodes[name]._raft._election_at = NEVER

    def elect(self, name: str, seconds: float = 0.3) -> RaftNode:
        """Let this node stand now, whether or not it is wise."""
        raft = self.nodes[name]._raft
        for node in self.nodes.values():
            node._raft._heard_leader_at = -NEVER
        raft._SyncObj__raftElectionDeadline = -1.0
        self.nodes[name].tick()
        raft._SyncObj__raftElectionDeadline = NEVER
        self.run(seconds)
        return self.nodes[name]

    def leaders(self) -> list[tuple[str, int]]:
        return [(name, node.term) for name, node in self.nodes.items() if node.is_leader]

    # ---- commands --------------------------------------------------------------------------------

    def ask(self, name: str, command: c.AnyCommand | None = None) -> list[Applied | RaftError]:
        """Propose; the list fills when there is an answer."""
        outcomes: list[Applied | RaftError] = []
        self.nodes[name].submit(command or c.AllocateProducerIds(1), outcomes.append, timeout_s=60)
        self.nodes[name].tick()
        return outcomes

    def append(self, name: str, count: int) -> None:
        """Entries in this leader's log that nobody waits for, and nobody will propose again."""
        for _ in range(count):
            self.nodes[name]._raft.propose(b"\xc1")
            self.nodes[name].tick()

    def log(self, name: str) -> list[tuple[int, int, bytes]]:
        """(index, term, command)."""
        return [(i, t, command) for command, i, t in self.nodes[name]._raft.log[1:]]

    def next_ids(self) -> dict[str, int]:
        return {name: node.state.next_producer_id for name, node in self.nodes.items()}


def _inline(work: Callable[[], None]) -> Callable[[], None]:
    work()
    return lambda: None
