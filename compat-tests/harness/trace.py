"""The system calls of a running server, in order, by strace."""

import re
import signal
import subprocess
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Self

CALLS = (
    "recvfrom,recvmsg,read,sendto,sendmsg,write,writev,pwrite64,pwritev,pwritev2,"
    "fsync,fdatasync,sync_file_range,io_uring_enter"
)

_LINE = re.compile(r"(\d+) +(?:<\.\.\. (\w+) resumed>|(\w+)\()(.*)")


@dataclass(frozen=True, slots=True)
class Call:
    """One system call; `begin` and `end` are line numbers, and so an order of all calls."""

    name: str
    text: str
    begin: int
    end: int

    @property
    def file(self) -> str:
        """What the first argument's descriptor is, as `7</path>` or `9<TCP:…>`."""
        return self.text.partition(">")[0]


class Trace:
    """`with Trace(pid, path) as trace: …`, then `trace.calls()`."""

    def __init__(self, pid: int, path: Path) -> None:
        self.path = path
        self.process = subprocess.Popen(
            [
                "strace",
                "-f",
                "-yy",
                "-s",
                "400",
                "-e",
                f"trace={CALLS}",
                "-o",
                path,
                "-p",
                str(pid),
            ],
            stderr=subprocess.PIPE,
            text=True,
        )

    def __enter__(self) -> Self:
        assert self.process.stderr is not None
        said = self.process.stderr.readline()
        assert "attached" in said, f"strace may not look: {said}"
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.process.send_signal(signal.SIGINT)
        self.process.communicate(timeout=30)

    def calls(self) -> list[Call]:
        """Finished calls in the order of their beginnings. Only after the `with` block."""
        begun: dict[tuple[str, str], tuple[int, str]] = {}
        found = []
        for number, line in enumerate(self.path.read_text(errors="replace").splitlines()):
            match = _LINE.match(line)
            if match is None:
                continue
            thread, resumed, name, rest = match.groups()
            if resumed:
                begin, text = begun.pop((thread, resumed), (number, ""))
                found.append(Call(resumed, text + rest, begin, number))
            elif rest.endswith("<unfinished ...>"):
                begun[thread, name] = (number, rest.removesuffix("<unfinished ...>"))
            else:
                found.append(Call(name, rest, number, number))
        return sorted(found, key=lambda call: call.begin)


def first(calls: list[Call], after: int, test: Callable[[Call], bool], what: str) -> Call:
    """The first call that begins after line `after` and passes. Raises AssertionError."""
    for call in calls:
        if call.begin > after and test(call):
            return call
    raise AssertionError(f"there is no {what} after line {after}")
