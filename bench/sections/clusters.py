"""Three nodes on this machine, three copies of every record."""

from functools import partial

from bench.cells import LOOP_S, Cell, Options
from bench.matrix import ProducerCell
from bench.peers import KafkaCluster, WalrusCluster
from bench.sections.consuming import begin_at_tail
from bench.sections.latency import LINGERS_MS, begin_end_to_end
from bench.sections.producing import begin_connections, begin_producer

PAIR = (WalrusCluster, KafkaCluster)
START_S = 180.0
"""Of both, with the messages that warm them up."""


def clusters(options: Options) -> list[Cell]:
    ways = [
        ProducerCell("confluent", "none", 1000, 5, 262_144, "all", "cache"),
        ProducerCell("confluent", "none", 1000, 5, 262_144, "all", "sync"),
        ProducerCell("java", "lz4", 100, 0, 16_384, "all", "cache"),
    ]
    producing = [
        Cell(
            "cluster",
            f"three nodes: {cell.name}",
            partial(begin_producer, options, cell),
            cell.durability,
            PAIR,
            label=f"cluster-{cell.durability}",
            is_counted=True,
            rank=1 if number == 0 else 2,
            setup_s=START_S if number < 2 else 0,
        )
        for number, cell in enumerate(ways)
    ]
    asking = [
        Cell(
            "cluster",
            f"three nodes: one 1000 B record per request, 100 connections, {durability}",
            partial(begin_connections, options, 100, 1),
            durability,
            PAIR,
            label=f"cluster-{durability}",
            is_counted=True,
            rank=2,
            client_s=LOOP_S,
        )
        for durability in ("cache", "sync")
    ]
    return [
        producing[0],
        Cell(
            "cluster",
            "three nodes: confluent 1000 B linger 5 acks all cache at 50% of the peak, end to end",
            partial(begin_end_to_end, options, 0.5, LINGERS_MS[0]),
            "cache",
            PAIR,
            headline="p99_ms",
            label="cluster-cache",
        ),
        producing[2],
        Cell(
            "cluster",
            "three nodes: confluent x1 1000 B at the tail, while a producer sends all it can",
            partial(begin_at_tail, options, 1),
            "cache",
            PAIR,
            label="cluster-cache",
            is_counted=True,
            rank=3,
        ),
        asking[0],
        producing[1],
        asking[1],
    ]
