"""Where and with what a run was made."""

import os
import platform
import re
import shlex
import subprocess
import sysconfig
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from typing import Any

from bench.peers import KAFKA_JARS, ROOT, Kafka
from bench.rust_peers import DISTRIBUTED, ORIGINAL

_PACKAGES = ("confluent-kafka", "aiokafka", "kio", "liburing")

_OPTIMIZING = {"--enable-optimizations", "--with-lto", "--enable-bolt"}


def describe(command: str) -> dict[str, Any]:
    """For the head of the result."""
    cpu = re.search(r"model name\s*: (.*)", Path("/proc/cpuinfo").read_text())
    memory = re.search(r"MemTotal:\s*(\d+)", Path("/proc/meminfo").read_text())
    kafka = next(KAFKA_JARS.glob("kafka_2.13-*.jar"), None)
    return {
        "date": datetime.now(UTC).isoformat(timespec="seconds"),
        "command": command,
        "commit": _commit(),
        "machine": {
            "cpu": f"{os.cpu_count()} x {cpu.group(1) if cpu else platform.machine()}",
            "memory_gb": round(int(memory.group(1)) / 1e6) if memory else None,
            "kernel": platform.release(),
            "file_system": _said("findmnt", "-no", "FSTYPE", "-T", str(ROOT)),
        },
        "versions": {
            "python": f"{platform.python_version()} ({build_flags(_configured())})",
            "java": _said("java", "-version").partition("\n")[0],
            "kafka": kafka.stem.removeprefix("kafka_2.13-") if kafka else None,
            "walrus-rust": _rust_version(),
            "walrus-distributed": _distributed_version(),
            **{name: version(name) for name in _PACKAGES},
        },
        "kafka_heap": Kafka.heap,
    }


def _commit() -> str:
    """Of this checkout, and whether something in it was never committed."""
    git = ("git", "-C", str(ROOT))
    changed = " with changes" if _said(*git, "status", "--porcelain", "-uno") else ""
    return _said(*git, "rev-parse", "--short", "HEAD") + changed


def build_flags(configured: str) -> str:
    """Those of `configured`, the arguments of Python's `configure`, that make it faster. A
    distribution may optimize without naming them there, so that "none named" is not "none"."""
    names = {word: word.partition("=")[0] for word in shlex.split(configured)}
    found = [word for word, name in names.items() if name in _OPTIMIZING]
    return f"build flags: {' '.join(found) or 'none of optimization named'}"


def _configured() -> str:
    """Of the Python that runs this, which also runs our server."""
    return sysconfig.get_config_var("CONFIG_ARGS") or ""


def load_average() -> float:
    """Of the last minute: what else the machine did, when taken before a run."""
    return os.getloadavg()[0]


def _rust_version() -> str | None:
    found = re.search(r'walrus-rust = "=(.*)"', (ROOT / "bench/rust/Cargo.toml").read_text())
    return found.group(1) if found else None


def _distributed_version() -> str | None:
    if not DISTRIBUTED.exists():
        return None
    return _said("git", "-C", str(ORIGINAL), "rev-parse", "--short", "HEAD")


def _said(*command: str) -> str:
    try:
        done = subprocess.run(
            command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, check=False
        )
    except OSError:
        return "unknown"
    return done.stdout.strip()
