"""One run: a seed decides the kinds of trouble, their rates, and every detail."""

import hashlib
import random
from dataclasses import dataclass
from functools import partial
from unittest.mock import patch

from raft import leading, transfer
from tests.sim.raft.cluster import Cluster, SimNode
from tests.sim.raft.oracle import Violation
from tests.sim.raft.troubles import Troubles, is_feud

HEAL_S = 20.0
CHUNK_SIZE = 256 * 1024
"""Bytes of snapshot in a message, where nobody is heard for long."""


@dataclass(frozen=True)
class Outcome:
    """What a run was worth. `violation` is "" when nothing went wrong."""

    seed: int
    violation: str
    commits: int
    answers: int
    digest: str
    """Of every message: equal for equal seeds, or the run is not deterministic."""


class Run:
    """A cluster of `size` in trouble for `duration_s`, then healed and checked."""

    def __init__(
        self,
        seed: int,
        *,
        size: int = 3,
        duration_s: float = 60.0,
        node_class: type[SimNode] = SimNode,
        debug: bool = False,
    ) -> None:
        self.seed = seed
        self.duration_s = duration_s
        self.rng = random.Random(f"{seed} troubles")
        self.cluster = Cluster(seed, size, node_class=node_class, debug=debug)
        self.command_s = self.rng.choice([0.05, 0.1, 0.3])
        sizes = (16, 16, 100) if is_feud(seed) else (16, 100, 256 * 1024)
        self.batch_size = self.rng.choice(sizes)
        """Small ones make many messages of what one could carry, and trouble comes between them."""
        self.chunk_size = CHUNK_SIZE if is_feud(seed) else self.batch_size * 10
        self._digest = hashlib.blake2b(digest_size=8)

    def go(self) -> Outcome:
        violation = ""
        self.cluster.network.on_message = self._note
        try:
            with (
                patch.object(leading, "BATCH_SIZE", self.batch_size),
                patch.object(transfer, "BATCH_SIZE", self.chunk_size),
            ):
                self._go()
        except Violation as found:
            violation = str(found)
        oracle, cluster = self.cluster.oracle, self.cluster
        digest = self._digest.hexdigest()
        return Outcome(self.seed, violation, oracle.commits, cluster.answers, digest)

    def _go(self) -> None:
        scheduler = self.cluster.scheduler
        end = scheduler.now + self.duration_s
        troubles = Troubles(self.cluster, self.rng, end)
        self.cluster.start()
        self._command(end)
        troubles.go_on()
        scheduler.run_until(end)
        self.cluster.heal()
        scheduler.run_until(end + HEAL_S - 1.0)
        for member in self.cluster.live():
            self.cluster.ask(member)
        scheduler.run_until(end + HEAL_S)
        self.cluster.check_healed()

    def _note(self, source: str, target: str, data: bytes) -> None:
        self._digest.update(b"%a" % self.cluster.scheduler.now)
        self._digest.update(source.encode() + target.encode() + data)

    def _command(self, end: float) -> None:
        scheduler = self.cluster.scheduler
        if scheduler.now < end:
            for _ in range(self.rng.choice([1, 1, 1, 5])):
                live = self.cluster.live()
                if live:
                    self.cluster.ask(self.rng.choice(live))
            scheduler.after(self.rng.expovariate(1 / self.command_s), partial(self._command, end))
