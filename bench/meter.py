"""What a server has used, from /proc, and what it asked of the kernel, by perf.

A server is its process and all its descendants.
"""

import os
import select
import shutil
import signal
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from bench.readings import perf_stat
from bench.stats import Sample

_TICK: Final = os.sysconf("SC_CLK_TCK")

SYNC_EVENTS: Final = (
    "syscalls:sys_enter_fsync",
    "syscalls:sys_enter_fdatasync",
    "syscalls:sys_enter_msync",
)
_RING_EVENT: Final = "io_uring:io_uring_submit_req"
_RING_FSYNC: Final = "opcode==3"
_PERF_S_MAX: Final = 30.0
_CALLS: Final = "raw_syscalls:sys_enter"


def descendants(pid: int) -> list[int]:
    """`pid` and what it has started, as far as it still runs."""
    found = [pid]
    for one in found:
        for task in Path(f"/proc/{one}/task").glob("*/children"):
            # A thread may end while it is looked at.
            with suppress(OSError):
                found += [int(child) for child in task.read_text().split()]
    return found


@dataclass(frozen=True, slots=True)
class Usage:
    """Since the process began."""

    cpu_s: float
    written_bytes: int

    @classmethod
    def of(cls, pid: int) -> "Usage":
        cpu_ticks = written = 0
        for one in descendants(pid):
            fields = Path(f"/proc/{one}/stat").read_text().rpartition(")")[2].split()
            cpu_ticks += int(fields[11]) + int(fields[12])
            io = dict(line.split(": ") for line in Path(f"/proc/{one}/io").read_text().splitlines())
            written += int(io["write_bytes"])
        return cls(cpu_ticks / _TICK, written)


def forget_peak_memory(pid: int) -> None:
    """Begin the peak anew at what is resident now."""
    for one in descendants(pid):
        Path(f"/proc/{one}/clear_refs").write_text("5")


def memory_mb(pid: int, name: str = "VmHWM") -> float:
    """Resident memory: `VmHWM` at its peak, `VmRSS` now."""
    total_kb = 0
    for one in descendants(pid):
        for line in Path(f"/proc/{one}/status").read_text().splitlines():
            if line.startswith(name):
                total_kb += int(line.split()[1])
    return total_kb / 1024


@contextmanager
def metered(pid: int, sample: Sample) -> Iterator[None]:
    """Put what the server uses meanwhile into `sample`."""
    forget_peak_memory(pid)
    before = Usage.of(pid)
    yield
    after = Usage.of(pid)
    sample["cpu_s"] = after.cpu_s - before.cpu_s
    sample["written_mb"] = (after.written_bytes - before.written_bytes) / 1e6
    sample["memory_peak_mb"] = memory_mb(pid)


def can_count() -> bool:
    """Whether perf is here and may look at the kernel's tracepoints."""
    if shutil.which("perf") is None:
        return False
    command = ["perf", "stat", "-e", _CALLS, "-e", _RING_EVENT, "--filter", _RING_FSYNC, "true"]
    return subprocess.run(command, capture_output=True, check=False).returncode == 0


@contextmanager
def counted(pid: int, sample: Sample) -> Iterator[None]:
    """Put system calls and syncs, those by io_uring included, into `sample`. It slows the server
    down."""
    with tempfile.TemporaryDirectory() as folder:
        out, control, said = (Path(folder) / name for name in ("out", "control", "said"))
        os.mkfifo(control)
        os.mkfifo(said)
        events = [part for event in (_CALLS, *SYNC_EVENTS, _RING_EVENT) for part in ("-e", event)]
        command = ["perf", "stat", "-x,", "-o", str(out), *events, "--filter", _RING_FSYNC]
        command += ["-D", "-1", f"--control=fifo:{control},{said}"]
        # Opened for both directions, so that neither side waits for the other to open.
        speak, listen = os.open(control, os.O_RDWR), os.open(said, os.O_RDWR)
        command += ["-p", ",".join(map(str, descendants(pid)))]
        perf = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        try:
            os.write(speak, b"enable\n")
            if not select.select([listen], [], [], _PERF_S_MAX)[0]:
                raise RuntimeError("perf does not begin to count")
            yield
        finally:
            perf.send_signal(signal.SIGINT)
            perf.wait(30)
            os.close(speak)
            os.close(listen)
        counts = perf_stat(out.read_text())
    sample["system_calls"] = counts[_CALLS]
    sample["syncs"] = sum(counts[event] for event in (*SYNC_EVENTS, _RING_EVENT))
