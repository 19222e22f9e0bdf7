"""Consumers: from the beginning, with the page cache warm and cold, and at the tail."""

import time
from concurrent.futures import ThreadPoolExecutor
from functools import partial

from bench import java, load
from bench.cells import CALIBRATION, Cell, Measure, Options, common_count, with_cost
from bench.pages import forget_pages
from bench.peers import Peer
from bench.stage import Stage
from bench.stats import Sample

RATES = {"java": 300_000, "confluent": 200_000, "aiokafka": 40_000}
"""Messages per second that such a client reads, roughly."""


def consumers(options: Options) -> list[Cell]:
    from_beginning: list[tuple[str, int, str, int, bool, int]] = [
        ("java", 1000, "none", 1, True, 1),
        ("confluent", 1000, "none", 5, True, 1),
        ("confluent", 1000, "none", 1, True, 2),
        ("java", 1000, "none", 1, False, 2),
        ("java", 100, "none", 1, True, 2),
        ("java", 1000, "lz4", 1, True, 3),
        ("confluent", 1000, "none", 5, False, 3),
        ("aiokafka", 1000, "none", 1, True, 3),
        ("confluent", 100, "zstd", 1, True, 3),
    ]
    at_tail = [(1, 1), (5, 2)]
    return [
        Cell(
            "consumer",
            f"{client} x{count} {size} B {codec} from the beginning,"
            f" page cache {'warm' if is_warm else 'cold'}",
            partial(_begin_from_beginning, options, client, size, codec, count, is_warm),
            reads_stored=True,
            is_counted=True,
            rank=rank,
            setup_s=5 * options.seconds,
        )
        for client, size, codec, count, is_warm, rank in from_beginning
    ] + [
        Cell(
            "consumer",
            f"confluent x{count} 1000 B at the tail, while a producer sends all it can",
            partial(begin_at_tail, options, count),
            is_counted=True,
            rank=rank,
        )
        for count, rank in at_tail
    ]


def _begin_from_beginning(
    options: Options,
    client: str,
    size: int,
    codec: str,
    consumer_count: int,
    is_warm: bool,
    stage: Stage,
    peers: list[Peer],
) -> Measure:
    full = int(max(RATES.values()) * options.seconds * (1 if size == 1000 else 2))
    names = {id(peer): stage.filled_topic(peer, size, codec, full) for peer in peers}
    count = int(full * RATES[client] / max(RATES.values()) / consumer_count)

    def read(peer: Peer) -> Sample:
        topic = names[id(peer)]
        if client == "java":
            return java.consume(peer.address, topic, count)
        work = {"address": peer.address, "topic": topic, "count": count, "group": _group(topic)}
        return load.run(f"consume_{client}", **work)

    def run(peer: Peer) -> Sample:
        if not is_warm:
            forget_pages(peer.folder)
        return with_cost(peer, None, lambda: _together(consumer_count, partial(read, peer)))

    return run


def begin_at_tail(
    options: Options, consumer_count: int, stage: Stage, peers: list[Peer]
) -> Measure:
    """Consumers wait for a topic into which a producer then sends all it can."""

    def run(count: int, peer: Peer) -> Sample:
        (topic,) = stage.topics(peer)
        work = {"address": peer.address, "topic": topic, "count": count}
        return with_cost(peer, consumer_count * count, lambda: _follow(consumer_count, work))

    calibration = 2 * CALIBRATION[peers[0].durability]
    rates = [run(calibration, peer)["messages_per_s"] / consumer_count for peer in peers]
    return partial(run, common_count(rates, options.seconds))


def _follow(consumer_count: int, work: dict[str, object]) -> Sample:
    readers = [
        load.begin("consume_confluent", **work, group=_group(f"{work['topic']}-{number}"))
        for number in range(consumer_count)
    ]
    try:
        for reader in readers:
            reader.wait_ready()
        load.run("produce_confluent", **_sending(work), record_size=1000)
        return _sum([reader.sample() for reader in readers])
    finally:
        for reader in readers:
            reader.end()


def _sending(work: dict[str, object]) -> dict[str, object]:
    return {"address": work["address"], "topics": [work["topic"]], "count": work["count"]}


def _group(topic: str) -> str:
    return f"{topic}-{time.monotonic_ns()}"


def _together(count: int, read: "partial[Sample]") -> Sample:
    """Several at once: what they get in sum."""
    with ThreadPoolExecutor(count) as pool:
        return _sum([future.result() for future in [pool.submit(read) for _ in range(count)]])


def _sum(samples: list[Sample]) -> Sample:
    return {name: sum(sample[name] for sample in samples) for name in samples[0]}
