"""A deterministic asyncio event loop: virtual time, no threads, no sockets, seeded order.

Time stands still while anything can run and then jumps to the next timer. The callbacks of one turn
run in an order that the seed decides. Work handed to a thread happens a little later instead. A
loop on which nothing is scheduled is a deadlock, and says so.

Callbacks belong to whoever is in the `OWNER` variable of their context. An owner can be frozen, as
SIGSTOP freezes a process: what would have run then runs when it is thawed, in the same order.
"""

import asyncio
import contextvars
import heapq
import itertools
import random
import uuid
from collections.abc import Callable, Coroutine, Iterator, MutableSet
from contextlib import ExitStack, contextmanager
from typing import Any, TypeVar, cast
from unittest.mock import patch

import anyio
import anyio.to_thread
from anyio._backends import _asyncio as anyio_asyncio

from broker.controller.partition import LocalPartition

T = TypeVar("T")

OWNER: contextvars.ContextVar[int] = contextvars.ContextVar("owner", default=0)
"""Whose callback it is: a node, or 0 for the world outside of all nodes."""

NOBODY = contextvars.Context()
"""The context of what belongs to no node: wires, disks, clients, troubles."""

START_S = 1000.0
TURNS_WITHOUT_TIME_MAX = 200_000


class Stuck(Exception):
    """Nothing is scheduled, or time does not move any more."""


class SimTask(asyncio.Task[Any]):
    """Hashed by its number: sets of tasks have the same order in every run."""

    number = 0

    def __hash__(self) -> int:
        return self.number


class SimLoop(asyncio.base_events.BaseEventLoop):
    """See the module. `seed` decides the order of callbacks, `shuffles` whether it differs from
    that of their registration."""

    def __init__(self, seed: int, *, shuffles: bool = True) -> None:
        super().__init__()
        self.rng = random.Random(f"{seed} loop")
        self.turns = 0
        self._now = START_S
        self._shuffles = shuffles
        self._stalled = 0
        self._frozen: dict[int, list[asyncio.Handle]] = {}
        self._readers: dict[int, tuple[Callable[[], None], contextvars.Context]] = {}
        numbers = itertools.count(1)

        def make(_: Any, coro: Coroutine[Any, Any, Any], **options: Any) -> SimTask:
            task = SimTask(coro, loop=self, **options)
            task.number = next(numbers)
            return task

        self.set_task_factory(cast(Any, make))

    def time(self) -> float:
        return self._now

    def _write_to_self(self) -> None:
        """There is no other thread that would have to wake this one."""

    def _run_once(self) -> None:
        loop: Any = self
        ready, scheduled = loop._ready, loop._scheduled
        self.turns += 1
        self._stalled += 1
        while scheduled and scheduled[0]._cancelled:
            heapq.heappop(scheduled)._scheduled = False
        if not ready and not loop._stopping:
            if not scheduled:
                raise Stuck("nothing is scheduled")
            if scheduled[0]._when > self._now:
                self._now = scheduled[0]._when
                self._stalled = 0
        if self._stalled > TURNS_WITHOUT_TIME_MAX:
            self._stalled = 0
            raise Stuck("time does not move")
        while scheduled and scheduled[0]._when <= self._now:
            handle = heapq.heappop(scheduled)
            handle._scheduled = False
            ready.append(handle)
        turn = list(ready)
        ready.clear()
        if self._shuffles and len(turn) > 1:
            self.rng.shuffle(turn)
        for handle in turn:
            self._run(handle)

    def _run(self, handle: Any) -> None:
        if handle._cancelled:
            return
        if self._frozen:
            owner = handle._context.get(OWNER, 0)
            if owner in self._frozen:
                self._frozen[owner].append(handle)
                return
        handle._run()

    # ---- the world's side ------------------------------------------------------------------------

    def after(self, delay_s: float, callback: Callable[[], object]) -> None:
        """Call back outside of all nodes."""
        self.call_later(max(0.0, delay_s), callback, context=NOBODY)

    def freeze(self, owner: int) -> None:
        self._frozen.setdefault(owner, [])

    def thaw(self, owner: int) -> None:
        for handle in self._frozen.pop(owner, []):
            if not handle.cancelled():
                handle._loop._ready.append(handle)  # type: ignore[attr-defined]

    # ---- readable descriptors, which are only numbers here ---------------------------------------

    def add_reader(self, fd: Any, callback: Any, *_: Any) -> None:  # type: ignore[override]
        self._readers[fd] = (callback, contextvars.copy_context())

    def remove_reader(self, fd: Any) -> bool:
        return self._readers.pop(fd, None) is not None

    def readable(self, fd: int) -> None:
        """Something can be read from `fd`: tell who listens, if anybody does."""
        if fd in self._readers:
            callback, context = self._readers[fd]
            self.call_soon(callback, context=context)


class _OrderedSet(MutableSet[Any]):
    """A set that remembers its order, for objects whose hash is an address."""

    def __init__(self) -> None:
        self._items: dict[Any, None] = {}

    def __contains__(self, item: object) -> bool:
        return item in self._items

    def __iter__(self) -> Iterator[Any]:
        return iter(tuple(self._items))

    def __len__(self) -> int:
        return len(self._items)

    def add(self, value: Any) -> None:
        self._items[value] = None

    def discard(self, value: Any) -> None:
        self._items.pop(value, None)


@contextmanager
def deterministic(loop: SimLoop) -> Iterator[None]:
    """Take away what would differ from run to run: threads, random ids, the order of addresses."""
    rng = random.Random(loop.rng.random())

    async def run_sync(job: Callable[..., T], *args: Any, **_: Any) -> T:
        await anyio.sleep(rng.uniform(0.0001, 0.003))
        return job(*args)

    def ordered(cls: type, name: str) -> Callable[..., None]:
        init = cls.__init__  # type: ignore[misc]

        def __init__(self: Any, *args: Any, **options: Any) -> None:
            init(self, *args, **options)
            setattr(self, name, _OrderedSet())

        return __init__

    scope = anyio_asyncio.CancelScope
    with ExitStack() as stack:
        for target, name, value in (
            (anyio.to_thread, "run_sync", run_sync),
            (uuid, "uuid4", lambda: uuid.UUID(int=rng.getrandbits(128))),
            (scope, "__init__", ordered(scope, "_child_scopes")),
            (LocalPartition, "__init__", ordered(LocalPartition, "_watchers")),
        ):
            stack.enter_context(patch.object(target, name, value))
        yield
