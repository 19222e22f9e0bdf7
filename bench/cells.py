"""What a cell is, one row of the result and the same work for every peer; and what all need."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial

from bench.closed_loop import ClosedLoop, Request
from bench.meter import metered
from bench.peers import Kafka, Peer, Walrus
from bench.stage import Stage
from bench.stats import Sample

KAFKA_PAIR: tuple[type[Peer], ...] = (Walrus, Kafka)

CALIBRATION = {"cache": 20_000, "sync": 1_000}
"""Messages of the first, unreported run, which tells how many the others send."""

CLIENT_S = 2.5
"""To start a client and make a topic."""
LOOP_S = 0.3
"""The same for what the harness itself sends."""


@dataclass(frozen=True, slots=True)
class Options:
    """How much of everything."""

    seconds: float = 3.0
    """Of each run, by the slower peer."""
    producer_cells: int = 16
    connections: tuple[int, ...] = (1, 100, 1000)
    topics: tuple[int, ...] = (1, 100, 10, 1000)
    shares: tuple[float, ...] = (0.5, 0.1, 0.8)
    """Of the peak rate, for end-to-end latency."""
    stored_gb: tuple[float, ...] = (1.0,)


Measure = Callable[[Peer], Sample]


@dataclass(frozen=True, slots=True)
class Cell:
    """One row of the result. `begin` prepares all peers and answers what one run is."""

    section: str
    name: str
    begin: Callable[[Stage, list[Peer]], Measure]
    durability: str = "cache"
    peers: tuple[type[Peer], ...] = KAFKA_PAIR
    headline: str = "messages_per_s"
    label: str = "shared"
    """The servers it runs on: see `Stage.peer`."""
    is_warm: bool = True
    """Servers are worked before they are measured: a JVM compiles meanwhile."""
    reads_stored: bool = False
    """It asks for what was stored before. Where none does, that leaves the page cache before each
    run, which so finds no pages to be written and as much free memory as the one before."""
    is_counted: bool = False
    """Its system calls are counted, in a run of their own."""
    rank: int = 1
    """What is left out first for want of time: the highest."""
    setup_s: float = 0.0
    """About what `begin` takes, beside three runs."""
    client_s: float = CLIENT_S
    """About what a run takes beside the time that is measured."""

    def expected_s(self, seconds: float, repeats: int) -> float:
        """About how long it takes."""
        runs = 3 + repeats + (1 if self.is_counted else 0)
        return self.setup_s + len(self.peers) * runs * (seconds + self.client_s)


def common_count(rates: list[float], seconds: float) -> int:
    """Messages that the slowest sends in `seconds`, in round numbers."""
    count = int(min(rates) * seconds)
    return max(count - count % 100, 100)


def calibrated(
    run: Callable[[int, Peer], Sample],
    peers: Sequence[Peer],
    seconds: float,
    first: int,
    *,
    count_min: int = 0,
) -> int:
    """Messages that the slowest sends in `seconds`, by two runs of each. The one with `first` is
    that of a client, or of topics, that have hardly begun."""
    count = first
    for wanted_s in (seconds / 3, seconds):
        rates = [run(count, peer)["messages_per_s"] for peer in peers]
        count = max(common_count(rates, wanted_s), count_min)
    return count


def with_cost(peer: Peer, messages: float | None, run: Callable[[], Sample]) -> Sample:
    """One run and what it cost the server, per million messages. `messages`: None where the run
    itself says how many."""
    cost: Sample = {}
    with metered(peer.pids, cost):
        sample = run()
    if messages is not None:
        sample["messages"] = messages
    cost["cpu_s_per_million"] = cost["cpu_s"] / sample["messages"] * 1e6
    return sample | cost


def closed(
    peer: Peer, targets: Sequence[tuple[int, Request]], count: int, seconds: float
) -> Sample:
    """`count` connections, each with one request at a time: see `ClosedLoop`."""
    with ClosedLoop(*targets, connections=count) as loop:
        return with_cost(peer, None, partial(loop.run, seconds))
