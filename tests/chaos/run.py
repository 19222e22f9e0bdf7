"""One run: a cluster, clients of three kinds, faults for some minutes, and the verdict."""

import asyncio
import platform
import time
from collections import Counter
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime
from itertools import pairwise
from pathlib import Path
from random import Random
from typing import Any

from tests.chaos.clients import (
    AiokafkaWriter,
    ConfluentWriter,
    History,
    NativeWriter,
    Reader,
)
from tests.chaos.faults import Fault, Faults
from tests.chaos.network import Network
from tests.chaos.verdict import (
    Verdict,
    delays_ms,
    first_ack_after,
    judge,
    longest_gaps,
    percentile,
    read_all,
)
from tests.cluster.clocks import WallClock, build_clock
from tests.cluster.disks import mounted
from tests.cluster.processes import Cluster

SEGMENT_ENTRIES = 500
"""Small, so that planned rolls happen between faults too."""

DISK_SIZE = 512 << 20
"""Of each node: enough for an hour of it."""

QUIET_S_MAX = 8.0
"""The longest pause between two faults."""

DISTURBED_S = 3.0
"""After a fault has healed: what clients notice until then is its doing."""

_EXAMPLES_MAX = 5

Writer = ConfluentWriter | AiokafkaWriter | NativeWriter


@dataclass
class Plan:
    """What to run. `faults` empty: all."""

    folder: Path
    seconds: float
    seed: int
    faults: Sequence[str] = ()
    rate: float = 150.0
    """Messages per second and writer, at most."""
    node_count: int = 3


@dataclass
class Report:
    """Everything a reader of the figures needs."""

    seed: int
    seconds: float
    machine: str
    faults: dict[str, int] = field(default_factory=dict)
    processes_killed: int = 0
    verdicts: list[Verdict] = field(default_factory=list)
    errors: dict[str, int] = field(default_factory=dict)
    """What applications were told, by fault under way."""
    longest_unavailable_s: float = 0.0
    gaps: list[str] = field(default_factory=list)
    """The longest times without an acknowledgement, and what was going on."""
    failover_ms: dict[str, float] = field(default_factory=dict)
    failover_with_raft_leader_ms: dict[str, float] = field(default_factory=dict)
    planned_roll_added_ms: dict[str, dict[str, float]] = field(default_factory=dict)
    """By client: following a new leader is its work, and each has its own pause for that."""
    between_rolls_added_ms: dict[str, dict[str, float]] = field(default_factory=dict)
    """The same figure half-way between two rolls: what the machine adds by itself."""

    @property
    def is_clean(self) -> bool:
        """Nothing lost, moved, doubled, reordered, invented or changed; and something was done."""
        return all(verdict.is_clean and verdict.acked for verdict in self.verdicts)

    def as_json(self) -> dict[str, Any]:
        """For a file; long lists of examples are cut and counted."""
        row = asdict(self)
        for verdict in row["verdicts"]:
            for name, found in verdict.items():
                if isinstance(found, list):
                    verdict[name] = {"count": len(found), "examples": found[:_EXAMPLES_MAX]}
        return {"clean": self.is_clean} | row


async def run(plan: Plan) -> Report:
    """Raises AssertionError when the cluster does not come back by itself."""
    rng = Random(plan.seed)
    environment = {
        "WALRUS_MAX_SEGMENT_ENTRIES": str(SEGMENT_ENTRIES),
        "WALRUS_MONITOR_CHECK_MS": "500",
        "WALRUS_DISK_RESERVE_BYTES": str(DISK_SIZE // 32),
    }
    cluster = Cluster(plan.folder, plan.node_count, environment, behind_proxy=True)
    network = Network(cluster.nodes)
    clocks = _clocks(cluster)
    mounts = ExitStack()
    await network.start()
    try:
        disks = _disks(cluster, mounts)
        await asyncio.to_thread(cluster.start)
        histories = await asyncio.to_thread(_make_topics, cluster)
        writers = _writers(histories, cluster, plan.rate)
        readers = [Reader(history, cluster.bootstrap) for history in histories]
        for client in (*writers, *readers):
            client.start()
        topics = [history.topic for history in histories]
        faults = Faults(cluster, network, topics, rng, clocks, disks)
        await _disturb(plan, faults, rng)
        for writer in writers:
            await writer.stop()
        await _read_to_end(histories, cluster)
        for reader in readers:
            await reader.stop()
        return await asyncio.to_thread(_report, plan, cluster, histories, faults.happened)
    finally:
        await asyncio.to_thread(cluster.close)
        await network.close()
        mounts.close()


def _clocks(cluster: Cluster) -> dict[int, WallClock]:
    """A wall clock of its own for each node."""
    library = build_clock(cluster.folder)
    clocks = {}
    for node_id, node in cluster.nodes.items():
        clocks[node_id] = WallClock(library, node.folder / "clock")
        node.environment = {**node.environment, **clocks[node_id].environment()}
    return clocks


def _disks(cluster: Cluster, mounts: ExitStack) -> dict[int, Path]:
    """A disk of its own for each node's data; none, said out loud, where nobody may mount."""
    try:
        return {
            node_id: mounts.enter_context(mounted(node.folder / "data", DISK_SIZE))
            for node_id, node in cluster.nodes.items()
        }
    except OSError as error:
        print(f"NOT TESTED: full disks, which need root to mount: {error}", flush=True)
        return {}


def _make_topics(cluster: Cluster) -> list[History]:
    histories = [
        History("confluent-writes", "confluent-kafka"),
        History("aiokafka-writes", "aiokafka"),
        History("native-writes", "native PUT"),
    ]
    for history in histories:
        cluster.register(history.topic)
    return histories


def _writers(histories: list[History], cluster: Cluster, rate: float) -> list[Writer]:
    confluent, aiokafka, native = histories
    return [
        ConfluentWriter(confluent, cluster.bootstrap, rate),
        AiokafkaWriter(aiokafka, cluster.bootstrap, rate),
        NativeWriter(native, list(cluster.nodes.values()), rate),
    ]


async def _disturb(plan: Plan, faults: Faults, rng: Random) -> None:
    """One fault after the other, each kind as often as the others, until the time is up."""
    table = faults.table()
    names = list(plan.faults or table)
    deadline = time.monotonic() + plan.seconds
    await asyncio.sleep(min(QUIET_S_MAX, plan.seconds / 10))
    while time.monotonic() < deadline:
        rng.shuffle(names)
        for name in names:
            if time.monotonic() >= deadline:
                break
            print(f"{deadline - time.monotonic():6.0f} s to go: {name}", flush=True)
            await table[name]()
            await asyncio.sleep(rng.uniform(0.5, QUIET_S_MAX))


async def _read_to_end(histories: list[History], cluster: Cluster) -> None:
    """Let the live readers reach what was acknowledged last, for a while."""
    deadline = time.monotonic() + 30
    for history in histories:
        last = max((sent.offset for sent in history.acked), default=-1)
        while last not in history.read and last >= 0 and time.monotonic() < deadline:
            await asyncio.sleep(0.1)


def _report(
    plan: Plan, cluster: Cluster, histories: list[History], happened: list[Fault]
) -> Report:
    report = Report(plan.seed, plan.seconds, _machine())
    report.faults = dict(Counter(fault.name for fault in happened))
    report.processes_killed = sum(fault.killed for fault in happened)
    disturbed = [(fault.begun_at - 0.5, fault.ended_at + DISTURBED_S) for fault in happened]
    for history in histories:
        stored = read_all(cluster.bootstrap, history.topic)
        report.verdicts.append(judge(history, stored))
        bases = _bases(cluster, history.topic)
        halfway = [(a + b) // 2 for a, b in pairwise(bases)]
        rolls = delays_ms(history, stored, bases, disturbed)
        between = delays_ms(history, stored, halfway, disturbed)
        report.planned_roll_added_ms[history.client] = _figures(rolls)
        report.between_rolls_added_ms[history.client] = _figures(between)
    gaps = sorted(
        ((*gap, history) for history in histories for gap in longest_gaps(history, _EXAMPLES_MAX)),
        key=lambda found: -found[0],
    )
    report.longest_unavailable_s = round(gaps[0][0], 3) if gaps else 0.0
    report.gaps = [_describe(*gap, happened) for gap in gaps[:_EXAMPLES_MAX]]
    report.errors = _errors(histories, happened)
    takeovers = [
        (fault.was_raft_leader, 1000 * first_ack_after(history, fault.begun_at))
        for fault in happened
        if fault.name in ("kill-leader", "kill-raft-leader", "kill-any", "lose-disk")
        for history in histories
        if history.topic in fault.leads
    ]
    report.failover_ms = _figures([value for both, value in takeovers if not both])
    report.failover_with_raft_leader_ms = _figures([value for both, value in takeovers if both])
    return report


def _describe(gap_s: float, began_at: float, history: History, happened: list[Fault]) -> str:
    """A gap in words: with wall time, to be looked up in the nodes' logs."""
    during = [
        f"{fault.name} of node {fault.node_id} from {fault.begun_at - began_at:+.1f} s"
        f" to {fault.ended_at - began_at:+.1f} s"
        for fault in happened
        if fault.begun_at < began_at + gap_s and fault.ended_at > began_at - DISTURBED_S
    ]
    wall = datetime.fromtimestamp(time.time() - time.monotonic() + began_at, UTC)
    return f"{gap_s:.2f} s for {history.client} from {wall:%H:%M:%S}: {'; '.join(during) or 'calm'}"


def _bases(cluster: Cluster, topic: str) -> list[int]:
    """The base offset of every segment but the first."""
    state = cluster.nodes[1].state(topic)
    bases, base = [], 0
    for _, size in sorted((int(sid), size) for sid, size in state["sealed_segments"].items()):
        base += size
        bases.append(base)
    return bases


def _errors(histories: list[History], happened: list[Fault]) -> dict[str, int]:
    """What applications were told, counted by client and by the fault it came with."""
    found: Counter[str] = Counter()
    for history in histories:
        for moment, why in history.errors:
            during = [fault.name for fault in happened if fault.begun_at <= moment]
            found[f"{history.client} after {during[-1] if during else 'nothing'}: {why}"] += 1
    return dict(found)


def _figures(values: list[float]) -> dict[str, float]:
    if not values:
        return {"count": 0}
    return {
        "count": len(values),
        "p50": round(percentile(values, 50), 1),
        "p99": round(percentile(values, 99), 1),
        "max": round(max(values), 1),
    }


def _machine() -> str:
    cpu = Path("/proc/cpuinfo").read_text()
    model = next(
        (line.partition(":")[2].strip() for line in cpu.splitlines() if "model name" in line), "?"
    )
    return f"{model}, {cpu.count('processor')} CPUs, Linux {platform.release()}"
