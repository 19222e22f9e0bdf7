"""Blocking jobs of one segment, one at a time and in order, off the caller's thread."""

from collections import deque
from collections.abc import Callable
from functools import partial
from typing import Any, TypeVar

from engine.backends import Backend

T = TypeVar("T")


class JobQueue:
    """So that two changes of one segment's small files never race."""

    def __init__(self, backend: Backend) -> None:
        self._backend = backend
        self._waiting: deque[tuple[Callable[[], Any], Callable[[Any], None]]] = deque()
        self._is_running = False

    @property
    def is_idle(self) -> bool:
        return not self._is_running

    def run(self, job: Callable[[], T], on_done: Callable[[T | Exception], None]) -> None:
        """After all jobs queued before. `on_done` gets the result, or the exception as a value."""
        self._waiting.append((job, on_done))
        if not self._is_running:
            self._start()

    def _start(self) -> None:
        job, on_done = self._waiting.popleft()
        self._is_running = True
        self._backend.run(job, partial(self._finished, on_done))

    def _finished(self, on_done: Callable[[Any], None], result: Any) -> None:
        self._is_running = False
        if self._waiting:
            self._start()
        on_done(result)
