"""Producers: a pairwise selection of settings, many topics, many connections."""

from functools import partial

from bench import java, load
from bench.cells import (
    CALIBRATION,
    CLIENT_S,
    LOOP_S,
    Cell,
    Measure,
    Options,
    calibrated,
    closed,
    with_cost,
)
from bench.closed_loop import kafka_produce
from bench.matrix import ProducerCell, producer_cells
from bench.peers import Kafka, Peer, WalrusPair
from bench.stage import Stage
from bench.stats import Sample

SPREAD = 8
"""Topics that connections share out where there are several nodes of one side."""


def producers(options: Options) -> list[Cell]:
    # Every third one of a pairwise selection still meets many pairs.
    return [
        Cell(
            "producer",
            cell.name,
            partial(begin_producer, options, cell),
            cell.durability,
            is_counted=True,
            rank=2 if number % 3 else 1,
        )
        for number, cell in enumerate(producer_cells(options.producer_cells))
    ]


def begin_producer(
    options: Options, cell: ProducerCell, stage: Stage, peers: list[Peer]
) -> Measure:
    """Both send so many messages as the slower one sends in the time that is wanted."""

    def run(count: int, peer: Peer) -> Sample:
        (topic,) = stage.topics(peer)
        sent = count + count // 3 if cell.client == "java" else count
        return with_cost(peer, sent, lambda: _produce(cell, peer, topic, count))

    first = CALIBRATION[cell.durability]
    return partial(run, calibrated(run, peers, options.seconds, first))


def _produce(cell: ProducerCell, peer: Peer, topic: str, count: int) -> Sample:
    if cell.client == "java":
        return java.produce(peer.address, topic, cell, count)
    work = {
        "address": peer.address,
        "topics": [topic],
        "count": count,
        "record_size": cell.record_size,
        "acks": -1 if cell.acks == "all" else int(cell.acks),
    }
    if cell.client == "confluent":
        settings = {
            "linger.ms": cell.linger_ms,
            "batch.size": cell.batch_size,
            "compression.type": cell.codec,
        }
        return load.run("produce_confluent", **work, **settings)
    return load.run(
        "produce_aiokafka",
        **work,
        linger_ms=cell.linger_ms,
        max_batch_size=cell.batch_size,
        compression_type=None if cell.codec == "none" else cell.codec,
    )


def topics(options: Options) -> list[Cell]:
    return [
        Cell(
            "topics",
            f"confluent 1000 B to {count} topics, {durability}",
            partial(_begin_topics, options, count),
            durability,
            # What thousands of topics cost is no matter of the cells that come later.
            label="shared" if count < 1000 else f"topics-{count}",
            is_counted=True,
            rank={100: 1, 1: 2}.get(count, 3),
            setup_s=count / 50,
            client_s=CLIENT_S + count / 200,
        )
        for count in options.topics
        for durability in ("cache", "sync")
    ]


def _begin_topics(options: Options, count: int, stage: Stage, peers: list[Peer]) -> Measure:
    names = {id(peer): stage.topics(peer, count) for peer in peers}

    def run(messages: int, peer: Peer) -> Sample:
        work = {"address": peer.address, "topics": names[id(peer)], "count": messages}
        # The client sends one more to each, before its clock runs.
        return with_cost(
            peer, messages + count, lambda: load.run("produce_confluent", **work, record_size=1000)
        )

    first = max(CALIBRATION[peers[0].durability], count)
    # All of them are written to, also where that takes long.
    return partial(run, calibrated(run, peers, options.seconds, first, count_min=count))


def connections(options: Options) -> list[Cell]:
    return [
        Cell(
            "connections",
            f"one 1000 B record per request, {count} connections, {durability}",
            partial(begin_connections, options, count, 1),
            durability,
            is_counted=True,
            rank=3 if count > 100 else 1,
            client_s=LOOP_S,
        )
        for count in options.connections
        for durability in ("cache", "sync")
    ] + [
        Cell(
            "connections",
            f"one 1000 B record per request, 100 clients at once, {SPREAD} topics, cache:"
            " two nodes of ours on the machine, one of Kafka's",
            partial(begin_connections, options, 100, SPREAD),
            peers=(WalrusPair, Kafka),
            label="two-nodes",
            is_counted=True,
            rank=2,
            setup_s=30,
            client_s=LOOP_S,
        )
    ]


def begin_connections(
    options: Options, count: int, topic_count: int, stage: Stage, peers: list[Peer]
) -> Measure:
    """`count` connections share out the topics; each is to the leader of its topic, and stays
    there."""
    names = {id(peer): stage.topics(peer, topic_count) for peer in peers}

    def run(peer: Peer) -> Sample:
        topics = names[id(peer)]
        requests = [kafka_produce(topic, 1000, acks=-1) for topic in topics]
        targets = list(zip(stage.leader_ports(peer, topics), requests, strict=True))
        return closed(peer, targets, count, options.seconds)

    for peer in peers:
        run(peer)
    return run
