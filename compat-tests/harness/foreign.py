"""Clients in other languages, each behind the same command line, as processes.

`make compat-go`, `compat-js` and `compat-rust` build them. A program says JSON lines, and does one
of these:

    write KAFKA TOPIC CODEC        each line of its input is a record: says `acked` or `refused`
    read KAFKA TOPIC COUNT         the first COUNT records, in no group: says `read`
    join KAFKA GROUP NAME TOPIC…   reads and commits until its input ends: says `read`
    admin KAFKA TOPIC GROUP        creates, looks at, changes and deletes: says a `step` for each
"""

import json
import os
import subprocess
import tempfile
import threading
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from harness.clients import CODECS
from harness.programs import FOREIGN, ROOT

WAIT_S_MAX = 60.0


@dataclass(frozen=True, slots=True)
class Foreign:
    """One library. What it has: codecs, and whether a record that is sent twice is stored once."""

    name: str
    language: str
    command: tuple[str, ...]
    codecs: tuple[str, ...] = CODECS
    is_idempotent: bool = True

    def run(self, *arguments: object) -> "Program":
        """Start one command of it."""
        return Program([*self.command, *map(str, arguments)])

    def write(self, kafka: str, topic: str, codec: str, values: Iterable[str]) -> dict[str, int]:
        """Write them all; the offset of each that was acknowledged."""
        with self.run("write", kafka, topic, codec) as program:
            program.send(values)
            program.finish()
            return program.acked()

    def read(self, kafka: str, topic: str, count: int) -> list[str]:
        """The values of the first `count` records. Raises AssertionError where offsets skip."""
        with self.run("read", kafka, topic, count) as program:
            program.finish()
            found = program.said("read")
        assert [one["offset"] for one in found] == list(range(count))
        return [one["value"] for one in found]


def _go(name: str, **has: Any) -> Foreign:
    return Foreign(name, "go", (str(FOREIGN / "go" / name),), **has)


CLIENTS = (
    _go("franz"),
    _go("sarama"),
    _go("segmentio", is_idempotent=False),
    Foreign(
        "kafkajs",
        "js",
        ("node", str(ROOT / "compat-tests" / "js" / "main.js")),
        codecs=("none", "gzip", "snappy"),
    ),
    Foreign("rdkafka", "rust", (str(FOREIGN / "rust" / "target" / "debug" / "walrus-compat"),)),
)


class Program:
    """A command that runs: what it says is collected while it does."""

    def __init__(self, command: Sequence[str]) -> None:
        self._errors = tempfile.TemporaryFile()
        self._process = subprocess.Popen(
            command,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._errors,
            env={**os.environ, "NODE_PATH": str(FOREIGN / "js" / "node_modules")},
        )
        self._events: list[dict[str, Any]] = []
        self._thread = threading.Thread(target=self._collect, daemon=True)
        self._thread.start()

    def _collect(self) -> None:
        assert self._process.stdout is not None
        for line in self._process.stdout:
            self._events.append(json.loads(line))

    def __enter__(self) -> "Program":
        return self

    def __exit__(self, *_: object) -> None:
        self.kill()

    def send(self, lines: Iterable[str]) -> None:
        """Give it input. Not for commands that read none."""
        assert self._process.stdin is not None
        self._process.stdin.write("".join(f"{line}\n" for line in lines).encode())
        self._process.stdin.flush()

    def finish(self) -> None:
        """End its input and wait for a good end. Raises AssertionError with its complaints."""
        assert self._process.stdin is not None
        self._process.stdin.close()
        try:
            code = self._process.wait(WAIT_S_MAX)
        except subprocess.TimeoutExpired:
            raise AssertionError(f"it does not end:\n{self.complaints()}") from None
        assert code == 0, f"it ended with {code}:\n{self.complaints()}"
        self._thread.join(WAIT_S_MAX)

    def kill(self) -> None:
        """No goodbye. Harmless for one that has ended."""
        self._process.kill()
        self._process.wait(WAIT_S_MAX)
        self._thread.join(WAIT_S_MAX)
        for stream in (self._process.stdin, self._process.stdout):
            if stream is not None:
                stream.close()
        if not self._errors.closed:
            self._errors.close()

    def is_running(self) -> bool:
        return self._process.poll() is None

    def said(self, event: str) -> list[dict[str, Any]]:
        """Every event of that kind so far, in order."""
        return [one for one in list(self._events) if one["event"] == event]

    def acked(self) -> dict[str, int]:
        """The offset of every acknowledged value. Raises AssertionError if one was refused."""
        refused = self.said("refused")
        assert not refused, refused[:3]
        return {one["value"]: one["offset"] for one in self.said("acked")}

    def complaints(self) -> str:
        """The end of what it wrote to its standard error."""
        self._errors.seek(0)
        return self._errors.read()[-4000:].decode(errors="replace")
