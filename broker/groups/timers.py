"""When which group wants to be looked at: one heap, one sleeper."""

from collections.abc import Callable
from heapq import heappop, heappush
from itertools import count

import anyio

from broker.groups.group import Group
from broker.ports import Clock


class Timers:
    """A group has at most one moment that counts, its earliest. Most moments never come: a
    heartbeat moves the end of a session, and the group is looked at when the old one is over."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._heap: list[tuple[int, int, Group]] = []
        self._due_ms: dict[Group, int] = {}
        self._serial = count()
        self._earlier = anyio.Event()

    def now_ms(self) -> int:
        """The clock that groups live by: it never goes back."""
        return int(self._clock.monotonic() * 1000)

    def set(self, group: Group) -> None:
        """The group may have become due earlier."""
        due_ms, known_ms = group.wake_ms, self._due_ms.get(group)
        if due_ms is None or (known_ms is not None and known_ms <= due_ms):
            return
        if not self._heap or due_ms < self._heap[0][0]:
            self._earlier.set()
        self._due_ms[group] = due_ms
        heappush(self._heap, (due_ms, next(self._serial), group))

    def due(self) -> list[Group]:
        """The groups whose moment has come; each has to be `set` again."""
        now_ms = self.now_ms()
        found = []
        while self._heap and self._heap[0][0] <= now_ms:
            due_ms, _, group = heappop(self._heap)
            if self._due_ms.get(group) == due_ms:
                del self._due_ms[group]
                found.append(group)
        return found

    async def run(self, fire: Callable[[Group], None]) -> None:
        """Call `fire` for each group that is due, for ever."""
        while True:
            for group in self.due():
                fire(group)
            self._earlier = anyio.Event()
            wait_s = (self._heap[0][0] - self.now_ms()) / 1000 if self._heap else float("inf")
            with anyio.move_on_after(max(wait_s, 0.001)):
                await self._earlier.wait()
