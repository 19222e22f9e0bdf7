"""Kafka's own performance tools, as clients of either side."""

import os
import subprocess
from pathlib import Path

from bench.matrix import ProducerCell
from bench.meter import Watch
from bench.peers import KAFKA_JARS
from bench.readings import consumer_performance, producer_performance
from bench.stats import Sample

CLIENT_HEAP = "512m"

TOOL_S_MAX = 600.0
"""A tool that runs for so long will never end; to store 10 GB takes its time."""


def produce(address: str, topic: str, cell: ProducerCell, count: int) -> Sample:
    """`count` records after a third as many that only warm up."""
    warm_up = count // 3
    text, cores = _tool(
        "ProducerPerformance",
        *("--bootstrap-server", address, "--topic", topic, "--throughput", "-1"),
        *("--num-records", str(count + warm_up), "--warmup-records", str(warm_up)),
        *("--record-size", str(cell.record_size)),
        *("--command-property", f"acks={cell.acks}", f"linger.ms={cell.linger_ms}"),
        *(f"batch.size={cell.batch_size}", f"compression.type={cell.codec}"),
    )
    return producer_performance(text) | {"client_cores": cores}


def fill(address: str, topic: str, codec: str, record_size: int, count: int) -> None:
    """`count` records, quickly."""
    _tool(
        "ProducerPerformance",
        *("--bootstrap-server", address, "--topic", topic, "--throughput", "-1"),
        *("--num-records", str(count), "--record-size", str(record_size)),
        *("--command-property", "acks=all", "linger.ms=5", "batch.size=65536"),
        f"compression.type={codec}",
    )


def consume(address: str, topic: str, count: int) -> Sample:
    """`count` records from the beginning of the topic."""
    text, cores = _tool(
        "ConsumerPerformance",
        *("--bootstrap-server", address, "--topic", topic, "--num-records", str(count)),
    )
    return consumer_performance(text) | {"client_cores": cores}


def _tool(name: str, *arguments: str) -> tuple[str, float]:
    """What it prints, and how many processors it kept busy, its start included."""
    command = ["java", f"-Xmx{CLIENT_HEAP}", "-cp", f"{KAFKA_JARS}/*"]
    command += [f"org.apache.kafka.tools.{name}", *arguments]
    watch = Watch(_children_s)
    done = subprocess.run(
        command, capture_output=True, text=True, cwd=Path("/"), check=False, timeout=TOOL_S_MAX
    )
    if done.returncode:
        raise RuntimeError(f"{name} failed:\n{done.stdout[-1000:]}{done.stderr[-2000:]}")
    return done.stdout, watch.cores()


def _children_s() -> float:
    """Of processors, by what this process has started and waited for."""
    times = os.times()
    return times.children_user + times.children_system
