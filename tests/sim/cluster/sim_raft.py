"""Raft on the simulated loop: no thread, and commands and answers that come late."""

import contextvars
import queue
from collections.abc import Callable
from functools import partial

from raft.commands import AnyCommand, RegisterBroker
from raft.errors import OutcomeUnknown
from raft.node import RaftNode
from raft.proposals import OnDone
from tests.sim.cluster.world import World


class Inbox:
    """The queue of a raft node's thread; that thread is woken by the loop here."""

    def __init__(self, wake: Callable[[], None]) -> None:
        self._items: list[Callable[[], None]] = []
        self._wake = wake

    def put(self, item: Callable[[], None]) -> None:
        self._items.append(item)
        self._wake()

    def get_nowait(self) -> Callable[[], None]:
        if not self._items:
            raise queue.Empty
        return self._items.pop(0)


class SimRaft(RaftNode):
    """Sometimes a command comes late, and what it was made of is no longer so. And sometimes its
    outcome does not reach the one who asked for it."""

    world: World

    def submit(self, command: AnyCommand, on_done: OnDone, *, timeout_s: float = 10.0) -> None:
        world, rng = self.world, self.world.rng
        submit = partial(self._submit, command, on_done, timeout_s=timeout_s)
        if not world.command_delay_s or rng.random() < 0.5:
            submit()
        else:
            delay_s = rng.uniform(0.0, world.command_delay_s)
            owner = contextvars.copy_context()
            world.loop.call_later(delay_s, self._unless_stopped, submit, context=owner)

    def _submit(self, command: AnyCommand, on_done: OnDone, *, timeout_s: float) -> None:
        world, rng = self.world, self.world.rng
        if isinstance(command, RegisterBroker) or rng.random() >= world.lost_outcomes_rate:
            super().submit(command, on_done, timeout_s=timeout_s)
            return
        late = partial(super().submit, command, lambda _: None, timeout_s=timeout_s)
        owner = contextvars.copy_context()
        if rng.random() < 0.5:
            late()
        else:
            world.loop.call_later(rng.uniform(0.0, 3.0), self._unless_stopped, late, context=owner)
        lost = OutcomeUnknown("the answer was lost")
        world.loop.call_later(rng.uniform(0.0, 1.0), self._inbox.put, lambda: on_done(lost))

    def _unless_stopped(self, late: Callable[[], None]) -> None:
        if not self.is_stopped:
            late()
