"""The native protocol, and the storage engines alone, against the Walrus engine in Rust."""

import subprocess
import time
from functools import partial

from bench import load
from bench.cells import LOOP_S, Cell, Measure, Options, closed
from bench.closed_loop import ClosedLoop, ask, native
from bench.peers import Peer, Walrus
from bench.rust_peers import DISTRIBUTED, ENGINE, NativeNode, RustEngine, RustNode
from bench.stage import Stage
from bench.stats import Sample


def natives(options: Options) -> list[Cell]:
    """The distributed form is compared where it is built."""
    node = _verbs(options, RustNode, ", distributed form") if DISTRIBUTED.exists() else []
    return _verbs(options, RustEngine, "") + node + _engines()


def _verbs(options: Options, kind: type[Peer], suffix: str) -> list[Cell]:
    return [
        Cell(
            "native",
            f"{verb} 1000 B, {count} connections, sync{suffix}",
            partial(_begin_native, options, verb, count),
            "sync",
            (Walrus, kind),
            reads_stored=verb == "GET",
            is_counted=verb == "PUT",  # Before each GET the topic is filled, by calls of its own.
            rank=1 if (verb, count) == ("PUT", 16) else 2,
            client_s=LOOP_S,
        )
        for count in (16, 1, 100)
        for verb in ("PUT", "GET")
    ]


def _engines() -> list[Cell]:
    return [
        Cell(
            "native",
            f"engine alone: durable batches of {entries} x 1000 B",
            partial(_begin_batches, entries),
            "sync",
            (Walrus, RustEngine),
            rank=1 if entries > 1 else 2,
        )
        for entries in (100, 1)
    ]


def _begin_native(
    options: Options, verb: str, count: int, stage: Stage, peers: list[Peer]
) -> Measure:
    topic = f"{peers[-1].name}-{count}"

    put = native(f"PUT {topic} {'x' * 1000}".encode())
    request = put if verb == "PUT" else native(f"GET {topic}".encode())

    def run(peer: Peer) -> Sample:
        assert isinstance(peer, Walrus | NativeNode)
        if verb == "GET":  # Otherwise it would soon find nothing.
            with ClosedLoop((peer.native_port, put), connections=100) as filling:
                filling.run(options.seconds)
        return closed(peer, [(peer.native_port, request)], count, options.seconds)

    for peer in peers:
        assert isinstance(peer, Walrus | NativeNode)
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
        assert isinstance(peer, RustEngine)
        folder.mkdir()
        done = subprocess.run(
            [ENGINE, "batches", str(count), str(entries), "1000"],
            env=peer.environment | {"WALRUS_DATA_DIR": str(folder)},
            capture_output=True,
            check=True,
        )
        return {"messages_per_s": count * entries / float(done.stdout)}

    return run
