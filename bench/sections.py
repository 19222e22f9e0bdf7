"""What is measured: each section is a list of cells, each cell the same work for every peer."""

import os
import subprocess
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from bench import java, load
from bench.closed_loop import Request, ask, closed_loop, kafka_fetch, kafka_produce, native
from bench.matrix import ProducerCell, producer_cells
from bench.meter import Usage, memory_mb, metered
from bench.peers import RUST_PEER, Kafka, Peer, RustEngine, Walrus
from bench.stage import Stage
from bench.stats import Sample

KAFKA_PAIR: tuple[type[Peer], ...] = (Walrus, Kafka)
NATIVE_PAIR: tuple[type[Peer], ...] = (Walrus, RustEngine)

CALIBRATION = {"cache": 20_000, "sync": 1_000}
"""Messages of the first, unreported run, which tells how many the others send."""


@dataclass(frozen=True, slots=True)
class Options:
    """How much of everything."""

    seconds: float = 3.0
    """Of each run, by the slower peer."""
    producer_cells: int = 16
    connections: tuple[int, ...] = (1, 100, 1000)
    topics: tuple[int, ...] = (1, 10, 100, 1000)
    shares: tuple[float, ...] = (0.1, 0.5, 0.8)
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
    is_counted: bool = False
    """Its system calls are counted, in a run of their own."""


def common_count(rates: list[float], seconds: float) -> int:
    """Messages that the slowest sends in `seconds`, in round numbers."""
    count = int(min(rates) * seconds)
    return max(count - count % 100, 100)


def _with_cost(peer: Peer, messages: float | None, run: Callable[[], Sample]) -> Sample:
    """One run and what it cost the server, per million messages."""
    cost: Sample = {}
    with metered(peer.pid, cost):
        sample = run()
    sample.setdefault("messages", messages or 0)
    if messages:
        sample["messages"] = messages
    cost["cpu_s_per_million"] = cost["cpu_s"] / sample["messages"] * 1e6
    return sample | cost


# ---- producers


def producers(options: Options) -> list[Cell]:
    cells = sorted(producer_cells(options.producer_cells), key=lambda cell: cell.durability)
    return [
        Cell(
            "producer",
            cell.name,
            partial(_begin_producer, options, cell),
            cell.durability,
            is_counted=True,
        )
        for cell in cells
    ]


def _begin_producer(
    options: Options, cell: ProducerCell, stage: Stage, peers: list[Peer]
) -> Measure:
    def run(count: int, peer: Peer) -> Sample:
        (topic,) = stage.topics(peer)
        sent = count + count // 3 if cell.client == "java" else count
        return _with_cost(peer, sent, lambda: _produce(cell, peer, topic, count))

    first = [run(CALIBRATION[cell.durability], peer)["messages_per_s"] for peer in peers]
    # Once more: the first number is that of a client that has hardly begun.
    rough = common_count(first, options.seconds / 3)
    rates = [run(rough, peer)["messages_per_s"] for peer in peers]
    return partial(run, common_count(rates, options.seconds))


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
            is_counted=True,
        )
        for durability in ("cache", "sync")
        for count in options.topics
    ]


def _begin_topics(options: Options, count: int, stage: Stage, peers: list[Peer]) -> Measure:
    names = {id(peer): stage.topics(peer, count) for peer in peers}

    def run(messages: int, peer: Peer) -> Sample:
        work = {"address": peer.address, "topics": names[id(peer)], "count": messages}
        return _with_cost(
            peer, messages, lambda: load.run("produce_confluent", **work, record_size=1000)
        )

    calibration = max(CALIBRATION[peers[0].durability], 2 * count)
    rates = [run(calibration, peer)["messages_per_s"] for peer in peers]
    return partial(run, common_count(rates, options.seconds))


def connections(options: Options) -> list[Cell]:
    return [
        Cell(
            "connections",
            f"one 1000 B record per request, {count} connections, {durability}",
            partial(_begin_connections, options, count),
            durability,
            is_counted=True,
        )
        for durability in ("cache", "sync")
        for count in options.connections
    ]


def _begin_connections(options: Options, count: int, stage: Stage, peers: list[Peer]) -> Measure:
    names = {id(peer): stage.topics(peer)[0] for peer in peers}

    def run(peer: Peer) -> Sample:
        request = kafka_produce(names[id(peer)], 1000, acks=-1)
        return _closed(peer, peer.port, request, count, options.seconds)

    for peer in peers:
        run(peer)
    return run


def _closed(peer: Peer, port: int, request: Request, count: int, seconds: float) -> Sample:
    return _with_cost(
        peer, None, lambda: closed_loop(port, request, connections=count, seconds=seconds)
    )


# ---- consumers


def consumers(options: Options) -> list[Cell]:
    ways: list[tuple[str, int, str, int, bool]] = [
        ("java", 1000, "none", 1, True),
        ("java", 100, "none", 1, True),
        ("java", 1000, "lz4", 1, True),
        ("java", 1000, "none", 1, False),
        ("confluent", 1000, "none", 1, True),
        ("confluent", 100, "zstd", 1, True),
        ("confluent", 1000, "none", 5, True),
        ("aiokafka", 1000, "none", 1, True),
    ]
    return [
        Cell(
            "consumer",
            f"{client} x{count} {size} B {codec} from the beginning,"
            f" page cache {'warm' if is_warm else 'cold'}",
            partial(_begin_consumer, options, client, size, codec, count, is_warm),
            is_counted=True,
        )
        for client, size, codec, count, is_warm in ways
    ]


def _begin_consumer(
    options: Options,
    client: str,
    size: int,
    codec: str,
    consumer_count: int,
    is_warm: bool,
    stage: Stage,
    peers: list[Peer],
) -> Measure:
    # What the slowest of these clients reads in about the time that is wanted.
    rate = {"java": 300_000, "confluent": 200_000, "aiokafka": 40_000}[client] / consumer_count
    count = int(rate * options.seconds * (1 if size == 1000 else 2))
    cell = ProducerCell("java", codec, size, 5, 65_536, "all", "cache")
    names = {id(peer): stage.topics(peer)[0] for peer in peers}
    for peer in peers:
        java.produce(peer.address, names[id(peer)], cell, count)

    def read(peer: Peer) -> Sample:
        if client == "java":
            return java.consume(peer.address, names[id(peer)], count)
        group = f"{names[id(peer)]}-{time.monotonic_ns()}"
        return load.run(
            f"consume_{client}",
            address=peer.address,
            topic=names[id(peer)],
            count=count,
            group=group,
        )

    def run(peer: Peer) -> Sample:
        if not is_warm:
            _forget_pages(peer.folder / "data")
        return _with_cost(peer, None, lambda: _together(consumer_count, partial(read, peer)))

    return run


def _together(count: int, read: Callable[[], Sample]) -> Sample:
    """Several at once: what they get in sum."""
    with ThreadPoolExecutor(count) as pool:
        samples = [future.result() for future in [pool.submit(read) for _ in range(count)]]
    return {
        name: sum(sample[name] for sample in samples) for name in ("messages_per_s", "messages")
    }


def _forget_pages(folder: Path) -> None:
    for path in folder.rglob("*"):
        if path.is_file():
            file = os.open(path, os.O_RDONLY)
            os.fsync(file)
            os.posix_fadvise(file, 0, 0, os.POSIX_FADV_DONTNEED)
            os.close(file)


# ---- end to end


def end_to_end(options: Options) -> list[Cell]:
    return [
        Cell(
            "end to end",
            f"confluent 1000 B acks all {durability} at {share:.0%} of the peak",
            partial(_begin_end_to_end, options, share),
            durability,
            headline="p99_ms",
        )
        for durability in ("cache", "sync")
        for share in options.shares
    ]


def _begin_end_to_end(options: Options, share: float, stage: Stage, peers: list[Peer]) -> Measure:
    def run(count: int, rate: float, peer: Peer) -> Sample:
        (topic,) = stage.topics(peer)
        work = {"address": peer.address, "topic": topic, "count": count, "rate": rate}
        return _with_cost(peer, count, lambda: load.run("end_to_end", **work, record_size=1000))

    calibration = 2 * CALIBRATION[peers[0].durability]
    peak = min(run(calibration, 0, peer)["messages_per_s"] for peer in peers)
    return partial(run, common_count([peak * share], options.seconds), peak * share)


# ---- the native side


def natives(options: Options) -> list[Cell]:
    return [
        Cell(
            "native",
            f"{verb} 1000 B, {count} connections, sync",
            partial(_begin_native, options, verb, count),
            "sync",
            NATIVE_PAIR,
            is_counted=True,
        )
        for count in (1, 16, 100)
        for verb in ("PUT", "GET")
    ] + [
        Cell(
            "native",
            f"engine alone: durable batches of {entries} x 1000 B",
            partial(_begin_batches, entries),
            "sync",
            NATIVE_PAIR,
        )
        for entries in (1, 100)
    ]


def _begin_native(
    options: Options, verb: str, count: int, stage: Stage, peers: list[Peer]
) -> Measure:
    topic = f"native-{count}"

    put = native(f"PUT {topic} {'x' * 1000}".encode())
    request = put if verb == "PUT" else native(f"GET {topic}".encode())

    def run(peer: Peer) -> Sample:
        assert isinstance(peer, Walrus | RustEngine)
        if verb == "GET":  # Otherwise it would soon find nothing.
            closed_loop(peer.native_port, put, connections=100, seconds=options.seconds)
        return _closed(peer, peer.native_port, request, count, options.seconds)

    for peer in peers:
        assert isinstance(peer, Walrus | RustEngine)
        ask(peer.native_port, native(f"REGISTER {topic}".encode()))
        run(peer)
    return run


def _begin_batches(entries: int, stage: Stage, peers: list[Peer]) -> Measure:
    count = 1000 if entries == 1 else 300

    def run(peer: Peer) -> Sample:
        folder = stage.folder / f"batches-{peer.name}-{time.monotonic_ns()}"
        if isinstance(peer, Walrus):
            work = {"folder": str(folder), "count": count, "entries": entries}
            return load.run("engine_batches", **work, record_size=1000)
        folder.mkdir()
        done = subprocess.run(
            [RUST_PEER, "batches", str(count), str(entries), "1000"],
            env=peer.environment | {"WALRUS_DATA_DIR": str(folder)},
            capture_output=True,
            check=True,
        )
        return {"messages_per_s": count * entries / float(done.stdout)}

    return run


# ---- life


def life(options: Options) -> list[Cell]:
    stored = [
        Cell(
            "life",
            f"kill -9 with {size:g} GB stored, to the first record fetched",
            partial(_begin_recovery, size),
            headline="seconds",
            label=f"stored-{size:g}",
        )
        for size in options.stored_gb
    ]
    return [
        Cell(
            "life",
            "start to the first acknowledged produce",
            _begin_start,
            headline="seconds",
            label="start",
        ),
        Cell("life", "idle", partial(_begin_idle, options), headline="cpu_percent", label="idle"),
        *stored,
    ]


def _begin_start(stage: Stage, peers: list[Peer]) -> Measure:
    names = {id(peer): stage.topics(peer)[0] for peer in peers}

    def run(peer: Peer) -> Sample:
        peer.stop()
        return _until_answered(peer, kafka_produce(names[id(peer)], 100, acks=-1))

    return run


def _until_answered(peer: Peer, request: Request) -> Sample:
    """Start it and ask again and again until the answer is good."""
    began = time.perf_counter()
    peer.start(wait=False)
    while True:
        peer.check()
        try:
            if request.is_good(ask(peer.port, request)):
                seconds = time.perf_counter() - began
                return {"seconds": seconds, "cpu_s": Usage.of(peer.pid).cpu_s}
        except ConnectionError:
            pass
        time.sleep(0.005)


def _begin_idle(options: Options, stage: Stage, peers: list[Peer]) -> Measure:
    def run(peer: Peer) -> Sample:
        before = Usage.of(peer.pid).cpu_s
        time.sleep(options.seconds)
        used = Usage.of(peer.pid).cpu_s - before
        return {
            "cpu_percent": used / options.seconds * 100,
            "memory_mb": memory_mb(peer.pid, "VmRSS"),
        }

    return run


def _begin_recovery(size_gb: float, stage: Stage, peers: list[Peer]) -> Measure:
    names = {id(peer): stage.topics(peer)[0] for peer in peers}
    cell = ProducerCell("java", "none", 1000, 5, 262_144, "all", "cache")
    for peer in peers:
        # The tool sends a third more to warm up.
        java.produce(peer.address, names[id(peer)], cell, int(size_gb * 750_000))

    def run(peer: Peer) -> Sample:
        peer.kill()
        return _until_answered(peer, kafka_fetch(names[id(peer)]))

    return run


SECTIONS: dict[str, Callable[[Options], list[Cell]]] = {
    "producer": producers,
    "consumer": consumers,
    "end-to-end": end_to_end,
    "topics": topics,
    "connections": connections,
    "native": natives,
    "life": life,
}
