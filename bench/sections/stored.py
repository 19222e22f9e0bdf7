"""With much stored: open, recover, and what one request then costs."""

from functools import partial

from bench.cells import LOOP_S, Cell, Measure, Options, closed
from bench.closed_loop import kafka_fetch, kafka_produce
from bench.peers import Peer
from bench.sections.life import until_answered
from bench.stage import Stage
from bench.stats import Sample

LITTLE_GB = 0.001
"""To compare with."""
FILL_S_PER_GB = 20.0
"""About what it takes to fill both."""
RESTART_S = 10.0
"""About what it takes to stop one and start it, in the mean of both."""


def stored(options: Options) -> list[Cell]:
    cells = []
    for size in (LITTLE_GB, *options.stored_gb):
        label = f"stored-{size:g}"
        cells += [
            Cell(
                "stored",
                f"{what} of one 1000 B record per request, 1 connection, with {size:g} GB stored",
                partial(_begin_request, options, size, what),
                label=label,
                reads_stored=True,
                rank=2,
                client_s=LOOP_S,
            )
            for what in ("produce", "fetch")
        ]
        if size == LITTLE_GB:
            continue
        cells += [
            Cell(
                "stored",
                f"{how} with {size:g} GB stored, to the first record fetched",
                partial(_begin_restart, size, how),
                headline="seconds",
                label=label,
                reads_stored=True,
                rank=1 if how.startswith("kill") else 2,
                # All of them read one topic; this cell is the last to be left out.
                setup_s=size * FILL_S_PER_GB if how.startswith("kill") else 0,
                client_s=RESTART_S,
            )
            for how in ("stop and start", "kill -9 and start")
        ]
    return cells


def _fill(stage: Stage, peer: Peer, size_gb: float) -> str:
    return stage.filled_topic(peer, 1000, "none", int(size_gb * 1e6))


def _begin_request(
    options: Options, size_gb: float, what: str, stage: Stage, peers: list[Peer]
) -> Measure:
    names = {id(peer): _fill(stage, peer, size_gb) for peer in peers}

    def run(peer: Peer) -> Sample:
        topic = names[id(peer)]
        # The last that was stored, alone: the offset index is asked, and one batch read.
        last = int(size_gb * 1e6) - 1
        if what == "produce":
            request = kafka_produce(topic, 1000, acks=-1)
        else:
            request = kafka_fetch(topic, last, size_max=1)
        return closed(peer, [(peer.port, request)], 1, options.seconds)

    for peer in peers:
        run(peer)
    return run


def _begin_restart(size_gb: float, how: str, stage: Stage, peers: list[Peer]) -> Measure:
    names = {id(peer): _fill(stage, peer, size_gb) for peer in peers}

    def run(peer: Peer) -> Sample:
        if how.startswith("kill"):
            peer.kill()
        else:
            peer.stop()
        return until_answered(peer, kafka_fetch(names[id(peer)], 0))

    return run
