"""Clients in processes of their own, which tell what happens to them, one event a line.

The fields of an event are parted by tabs, the first is its kind:

    assigned, revoked   the topics a member now has, by commas; when
    read                topic, offset, value
    committed           topic, offset, when it began and ended
    acked               topic, offset, value
    closed              it ended as it should

Moments are seconds of the machine's monotonic clock.
"""

import subprocess
import threading
from collections.abc import Mapping, Sequence
from pathlib import Path

from harness.groups import until

EXIT_S_MAX = 40.0


class Client:
    """A program that tells events. It ends when its input does, or is killed."""

    def __init__(
        self,
        command: Sequence[str],
        log_path: Path,
        environment: Mapping[str, str] | None = None,
    ) -> None:
        self.log_path = log_path
        with log_path.open("ab") as log:
            self.process = subprocess.Popen(
                command,
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=log,
                text=True,
                cwd=log_path.parent,
                env=environment,
            )
        self.events: list[list[str]] = []
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()

    def _run(self) -> None:
        assert self.process.stdout is not None
        for line in self.process.stdout:
            if line.endswith("\n"):  # else it was killed within it
                self.events.append(line.rstrip("\n").split("\t"))

    def of(self, *kinds: str) -> list[list[str]]:
        """The events of these kinds, without the kind."""
        return [event[1:] for event in list(self.events) if event[0] in kinds]

    def values(self) -> list[str]:
        return [value for _, _, value in self.of("read")]

    @property
    def assigned(self) -> set[str]:
        """The topics it has now."""
        changes = self.of("assigned", "revoked")
        return {topic for topic in changes[-1][0].split(",") if topic} if changes else set()

    def has_ended(self) -> bool:
        return self.process.poll() is not None

    def said(self) -> str:
        return f"{self.log_path.read_text(errors='replace')}\n{self.events[-20:]}"

    def kill(self) -> None:
        """No LeaveGroup, no goodbye."""
        self.process.kill()
        self._end()

    def close(self) -> None:
        """End its input, and expect a clean end."""
        assert self.process.stdin is not None
        self.process.stdin.close()
        self.wait()

    def wait(self) -> None:
        """Raises AssertionError unless it ends by itself and well."""
        until(self.has_ended, f"its end; it said {self.said()}", EXIT_S_MAX)
        self._end()
        assert self.process.returncode == 0, self.said()
        assert self.events[-1:] == [["closed"]], self.said()

    def discard(self) -> None:
        """Whatever state it is in, leave nothing behind."""
        if not self.has_ended():
            self.kill()
        self._end()

    def _end(self) -> None:
        self.process.wait(EXIT_S_MAX)
        self._thread.join(EXIT_S_MAX)
        for stream in (self.process.stdin, self.process.stdout):
            assert stream is not None
            stream.close()


def share_is_even(members: Sequence[Client], topics: Sequence[str]) -> bool:
    """Every topic has one reader, and nobody is idle."""
    found = [topic for member in members for topic in sorted(member.assigned)]
    return sorted(found) == sorted(topics) and all(member.assigned for member in members)


def read_in_order(members: Sequence[Client]) -> bool:
    """Does no member's reading of a topic skip an offset or go back?

    Between two assignments one member reads each topic's offsets one by one.
    """
    for member in members:
        last: dict[str, int] = {}
        for kind, *fields in list(member.events):
            if kind in ("assigned", "revoked"):
                last.clear()
            elif kind == "read":
                topic, offset = fields[0], int(fields[1])
                if offset != last.get(topic, offset - 1) + 1:
                    return False
                last[topic] = offset
    return True
