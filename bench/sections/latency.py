"""From a producer to a consumer, at a part of what the slower system can do."""

from functools import partial

from bench import load
from bench.cells import CALIBRATION, Cell, Measure, Options, common_count, with_cost
from bench.peers import Peer
from bench.stage import Stage
from bench.stats import Sample

LINGERS_MS = (5, 0)
"""librdkafka's default, of which most of the latency is, and none: it sends a request as soon as it
can, and one that keeps up gets small ones."""


def end_to_end(options: Options) -> list[Cell]:
    return [
        Cell(
            "end to end",
            f"confluent 1000 B linger {linger_ms} acks all {durability} at {share:.0%} of the peak",
            partial(begin_end_to_end, options, share, linger_ms),
            durability,
            headline="p99_ms",
            rank=1 if share == 0.5 else 2,
        )
        for share in options.shares
        for linger_ms in LINGERS_MS
        for durability in ("cache", "sync")
    ]


def begin_end_to_end(
    options: Options, share: float, linger_ms: int, stage: Stage, peers: list[Peer]
) -> Measure:
    """The peak is that of the slower one, so that both get the same load."""

    def run(count: int, rate: float, peer: Peer) -> Sample:
        (topic,) = stage.topics(peer)
        work = {"address": peer.address, "topic": topic, "count": count}
        return with_cost(peer, count, lambda: _send_and_read(work, rate, linger_ms))

    calibration = 2 * CALIBRATION[peers[0].durability]
    peak = min(run(calibration, 0, peer)["messages_per_s"] for peer in peers)
    return partial(run, common_count([peak * share], options.seconds), peak * share)


def _send_and_read(work: dict[str, object], rate: float, linger_ms: int) -> Sample:
    """In a process each: two threads of one would take turns, and not by what has arrived."""
    reader = load.begin("read_stamped", **work)
    try:
        reader.wait_ready()
        settings = {"linger.ms": linger_ms}
        load.run("send_stamped", **work, rate=rate, record_size=1000, **settings)
        return reader.sample()
    finally:
        reader.end()
