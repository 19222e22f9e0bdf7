"""What a node takes when nobody asks anything of it: to start, and to be there."""

import time
from functools import partial

from bench.cells import Cell, Measure, Options
from bench.closed_loop import Request, ask, kafka_produce
from bench.meter import Usage, memory_mb
from bench.peers import START_S_MAX, Peer
from bench.stage import Stage
from bench.stats import Sample

IDLE_S_MIN = 3.0
"""What happens once a second should be seen more than once."""


def life(options: Options) -> list[Cell]:
    return [
        Cell(
            "life",
            "start to the first acknowledged produce",
            _begin_start,
            headline="seconds",
            label="start",
            is_warm=False,
            setup_s=5,
        ),
        Cell(
            "life",
            "idle",
            partial(_begin_idle, max(options.seconds, IDLE_S_MIN)),
            headline="cpu_percent",
            label="idle",
            is_warm=False,
            setup_s=5,
        ),
    ]


def _begin_start(stage: Stage, peers: list[Peer]) -> Measure:
    names = {id(peer): stage.topics(peer)[0] for peer in peers}

    def run(peer: Peer) -> Sample:
        peer.stop()
        return until_answered(peer, kafka_produce(names[id(peer)], 100, acks=-1))

    return run


def until_answered(peer: Peer, request: Request) -> Sample:
    """Start it and ask again and again until the answer is good. Raises TimeoutError."""
    began = time.perf_counter()
    peer.start(wait=False)
    while True:
        peer.check()
        try:
            if request.is_good(ask(peer.port, request)):
                seconds = time.perf_counter() - began
                return {"seconds": seconds, "cpu_s": Usage.of(peer.pids).cpu_s}
        except ConnectionError:
            pass
        if time.perf_counter() - began > START_S_MAX:
            raise TimeoutError(f"{peer.name} gives no good answer {START_S_MAX:.0f} s after")
        time.sleep(0.005)


def _begin_idle(seconds: float, stage: Stage, peers: list[Peer]) -> Measure:
    def run(peer: Peer) -> Sample:
        before = Usage.of(peer.pids).cpu_s
        time.sleep(seconds)
        used = Usage.of(peer.pids).cpu_s - before
        return {
            "cpu_percent": used / seconds * 100,
            "memory_mb": memory_mb(peer.pids, "VmRSS"),
        }

    return run
