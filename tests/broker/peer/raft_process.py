"""A member of a metadata cluster as a process: `python -m tests.broker.peer.raft_process DIRECTORY
VOTER PORT PEERS`.

PEERS is `voter=port,…`; the secret comes in the environment. Lines in: `ids N COUNT` proposes N
commands at once, `time N` one after another, `status`, `hand_over`, `stop`. Lines out are JSON."""

import asyncio
import json
import os
import random
import sys
import threading
import time
from pathlib import Path
from typing import Any

import anyio
import structlog

from broker.peer import Identity, PeerPort, RaftLinks
from raft import commands as c
from raft.commands import Applied
from raft.errors import RaftError
from raft.node import RaftNode
from raft.state import state_hash


def say(**fields: Any) -> None:
    print(json.dumps(fields), flush=True)


class Process:
    """One node, and the answers it got."""

    def __init__(self, directory: Path, voter: str, port: int, peers: dict[str, int]) -> None:
        self.peers = peers
        identity = Identity(voter, 1, "", "127.0.0.1", port)
        self.port = PeerPort(lambda: identity, os.environ.get("SECRET", "").encode())
        self.links = RaftLinks(self.port, random.Random())
        self.node = RaftNode(
            directory=directory,
            voter_id=voter,
            peers=tuple(peers),
            link=self.links,
            rng=random.Random(),
            compact_entries=500,
            debug=True,
            on_failure=lambda failure: say(failed=repr(failure)),
        )
        self.bind = port

    async def run(self) -> None:
        await asyncio.to_thread(self.node.start)
        async with anyio.create_task_group() as tasks:
            await tasks.start(self.links.run, self.node)
            self.links.set_addresses(frozenset(("127.0.0.1", p) for p in self.peers.values()))
            await tasks.start(self.port.listen, "127.0.0.1", self.bind)
            say(ready=True)
            await asyncio.to_thread(self.read)
            await asyncio.to_thread(self.node.stop)
            tasks.cancel_scope.cancel()

    def read(self) -> None:
        """Commands until `stop` or the end."""
        for line in sys.stdin:
            words = line.split()
            match words:
                case ["ids", number, count]:
                    self.ids(int(number), int(count))
                case ["time", number]:
                    self.time(int(number))
                case ["status"]:
                    status = self.node.status()
                    say(
                        status=status,
                        hash=state_hash(self.node.state),
                        revision=self.node.state.revision,
                    )
                case ["hand_over"]:
                    self.node.transfer()
                case ["stop"]:
                    return

    def ids(self, number: int, count: int) -> None:
        left = threading.Semaphore(0)
        firsts: list[int] = []
        errors: list[str] = []

        def on_done(outcome: Applied | RaftError) -> None:
            if isinstance(outcome, Applied) and not outcome.refusal:
                firsts.append(outcome.value)
            else:
                errors.append(repr(outcome))
            left.release()

        started = time.perf_counter()
        for _ in range(number):
            self.node.submit(c.AllocateProducerIds(count), on_done, timeout_s=5.0)
        for _ in range(number):
            left.acquire()
        say(firsts=firsts, errors=errors, seconds=time.perf_counter() - started)

    def time(self, number: int) -> None:
        times: list[float] = []
        for _ in range(number):
            done = threading.Event()
            started = time.perf_counter()
            self.node.submit(c.Barrier(), lambda _outcome, done=done: done.set())  # type: ignore[misc]
            done.wait()
            times.append(time.perf_counter() - started)
        times.sort()
        say(p50_ms=times[number // 2] * 1e3, p99_ms=times[number * 99 // 100] * 1e3)


def main() -> None:
    directory, voter, port, peers = sys.argv[1:5]
    others = dict(each.split("=") for each in peers.split(",") if each)
    process = Process(
        Path(directory), voter, int(port), {name: int(port) for name, port in others.items()}
    )
    structlog.configure(logger_factory=structlog.PrintLoggerFactory(sys.stderr))
    anyio.run(process.run)


if __name__ == "__main__":
    main()
