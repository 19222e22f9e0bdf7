"""What a server has used, from /proc, and what it asked of the kernel, by perf.

A server is its processes and all their descendants.
"""

import os
import select
import shutil
import signal
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
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
_RING_SYNC: Final = "opcode==3 || (opcode==2 && flags & 0x10)"
"""An fsync, or a write that is handed to the kernel's threads because it syncs."""
_PERF_S_MAX: Final = 30.0
_CALLS: Final = "raw_syscalls:sys_enter"


class Watch:
    """Of a client, from its making: how long, and how much of the processors it took. `used_s`
    tells what it has used, in seconds."""

    def __init__(self, used_s: Callable[[], float]) -> None:
        self._used_s = used_s
        self._began, self._used_before_s = time.perf_counter(), used_s()

    def cores(self) -> float:
        """How many processors were kept busy."""
        return (self._used_s() - self._used_before_s) / self._took_s()

    def read(self, count: int) -> Sample:
        """The rate of `count` messages, and the processors that were kept busy for them."""
        return {"messages_per_s": count / self._took_s(), "client_cores": self.cores()}

    def _took_s(self) -> float:
        return time.perf_counter() - self._began


def descendants(pids: Iterable[int]) -> list[int]:
    """`pids` and what they have started, as far as it still runs."""
    found = list(pids)
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
    def of(cls, pids: Iterable[int]) -> "Usage":
        cpu_ticks = written = 0
        for one in descendants(pids):
            fields = Path(f"/proc/{one}/stat").read_text().rpartition(")")[2].split()
            cpu_ticks += int(fields[11]) + int(fields[12])
            io = dict(line.split(": ") for line in Path(f"/proc/{one}/io").read_text().splitlines())
            written += int(io["write_bytes"])
        return cls(cpu_ticks / _TICK, written)


def forget_peak_memory(pids: Iterable[int]) -> None:
    """Begin the peak anew at what is resident now."""
    for one in descendants(pids):
        Path(f"/proc/{one}/clear_refs").write_text("5")


def memory_mb(pids: Iterable[int], name: str = "VmHWM") -> float:
    """Resident memory: `VmHWM` at its peak, `VmRSS` now."""
    total_kb = 0
    for one in descendants(pids):
        for line in Path(f"/proc/{one}/status").read_text().splitlines():
            if line.startswith(name):
                total_kb += int(line.split()[1])
    return total_kb / 1024


@contextmanager
def metered(pids: Sequence[int], sample: Sample) -> Iterator[None]:
    """Put what the server uses meanwhile into `sample`."""
    forget_peak_memory(pids)
    before = Usage.of(pids)
    yield
    after = Usage.of(pids)
    sample["cpu_s"] = after.cpu_s - before.cpu_s
    sample["written_mb"] = (after.written_bytes - before.written_bytes) / 1e6
    sample["memory_peak_mb"] = memory_mb(pids)


class Bystanders:
    """How much of the machine others took since this was made: whatever ran that we did not
    start, and what the host of a virtual machine kept for itself."""

    def __init__(self) -> None:
        self._began = time.monotonic()
        self._before_s = _others_s()

    def percent(self) -> float:
        """Of all its cores."""
        room_s = (time.monotonic() - self._began) * (os.cpu_count() or 1)
        return max(0.0, (_others_s() - self._before_s) / room_s * 100)


def _others_s() -> float:
    """CPU seconds of the machine that are not ours."""
    user, nice, system, _, _, interrupt, soft, stolen = map(
        int, Path("/proc/stat").read_text().split("\n", 1)[0].split()[1:9]
    )
    ours = 0
    for one in descendants([os.getpid()]):
        with suppress(OSError):
            fields = Path(f"/proc/{one}/stat").read_text().rpartition(")")[2].split()
            ours += sum(map(int, fields[11:15]))  # With those it waited for.
    return (user + nice + system + interrupt + soft + stolen - ours) / _TICK


def can_count() -> bool:
    """Whether perf is here and may look at the kernel's tracepoints."""
    if shutil.which("perf") is None:
        return False
    command = ["perf", "stat", "-e", _CALLS, "-e", _RING_EVENT, "--filter", _RING_SYNC, "true"]
    return subprocess.run(command, capture_output=True, check=False).returncode == 0


@contextmanager
def counted(pids: Sequence[int], sample: Sample) -> Iterator[None]:
    """Put system calls and syncs, those by io_uring included, into `sample`. It slows the server
    down."""
    with tempfile.TemporaryDirectory() as folder:
        out, control, said = (Path(folder) / name for name in ("out", "control", "said"))
        os.mkfifo(control)
        os.mkfifo(said)
        events = [part for event in (_CALLS, *SYNC_EVENTS, _RING_EVENT) for part in ("-e", event)]
        command = ["perf", "stat", "-x,", "-o", str(out), *events, "--filter", _RING_SYNC]
        command += ["-D", "-1", f"--control=fifo:{control},{said}"]
        # Opened for both directions, so that neither side waits for the other to open.
        speak, listen = os.open(control, os.O_RDWR), os.open(said, os.O_RDWR)
        command += ["-p", ",".join(map(str, descendants(pids)))]
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
