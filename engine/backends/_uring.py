"""io_uring: write and fdatasync as one linked pair, all pairs of a group commit in one system call.

What is peculiar about it:
  * liburing's waiting calls keep the GIL, so nobody waits: the ring signals an eventfd, and `reap`
    peeks.
  * `Iovec` takes the addresses of bytes and bytearrays and keeps neither alive; an operation does,
    until its last completion, and the view it holds also keeps a bytearray from being resized.
  * `Iovec` takes memoryviews too, but leaks a reference to each (liburing 2026.3.30). So a view of
    a whole object is passed as that object, and a view of a part is copied: the one copy here.
  * A short write breaks the link (the sync answers ECANCELED); the rest is queued as a pair of its
    own.
  * A link holds within one submission only. When the kernel takes but a part of one, a sync may
    have run beside its write; whatever was under way is then synced once more.
  * A write without a sync goes to the page cache in the caller's turn (`InTurn`): ext4 makes the
    ring hand it to a thread.
  * Reads come from the page cache or go to a thread (`_base`): the ring would cost more than it
    saves.
  * The completion queue never overflows: at most OPERATION_COUNT_MAX operations are in the ring,
    two entries each.
"""

import errno
import os
import select
from collections import deque
from collections.abc import Sequence
from functools import partial

import liburing as ring_api

from engine.backends import IOV_COUNT_MAX, BackendUnavailableError, Monotonic, WriteDone
from engine.backends._base import RealBackend
from engine.backends._posix import skip
from engine.batch import Buffer

OPERATION_COUNT_MAX = 512
ENTRY_COUNT = 2 * OPERATION_COUNT_MAX
"""Of the submission queue; the completion queue has twice as many."""

_PROBE_TIMEOUT_S = 5.0
_IS_SYNC = 1
"""Lowest bit of user_data: the completion is of the sync, not of the write."""


class _Operation:
    """One write, one sync, or a write with its sync."""

    __slots__ = (
        "buffers",
        "error",
        "file",
        "in_flight",
        "is_unlinked",
        "on_done",
        "pending",
        "position",
        "sync",
    )

    def __init__(
        self,
        file: int,
        position: int,
        buffers: list[memoryview],
        sync: bool,
        on_done: WriteDone,
    ) -> None:
        self.file = file
        self.position = position
        self.buffers = buffers
        """What is not written yet."""
        self.sync = sync
        self.on_done = on_done
        self.pending = 0
        """Completions to come."""
        self.error: OSError | None = None
        self.is_unlinked = False
        """Its sync may not have come after its write."""
        self.in_flight: object = None
        """The memory that the kernel reads."""


class UringBackend(RealBackend):
    """`Backend` on io_uring. See the protocol for the rules."""

    name = "io_uring"

    def __init__(self, *, reason: str, monotonic: Monotonic | None = None) -> None:
        """Raises BackendUnavailableError, in words, if the ring cannot be made or does not work."""
        self._ring = ring_api.Ring()
        try:
            ring_api.io_uring_queue_init(ENTRY_COUNT, self._ring, 0)
        except OSError as error:
            raise BackendUnavailableError(_refused(error)) from error
        super().__init__(reason=reason, monotonic=monotonic)
        ring_api.io_uring_register_eventfd(self._ring, self._completions.eventfd)
        self._cqe = ring_api.Cqe()
        self._queued: deque[_Operation] = deque()
        self._operations: dict[int, _Operation] = {}
        self._next_id = 0
        self._is_late = False
        """`reap` must submit, though nobody will ask for it."""
        try:
            self._probe()
        except BackendUnavailableError:
            self._workers.close()
            ring_api.io_uring_queue_exit(self._ring)
            self._completions.close()
            raise

    # -- Backend

    def reap(self) -> None:
        self._completions.clear_signal()
        try:
            self._reap_ring()
            if self._is_late:
                # The ring was full, a write was short, or the kernel took only a part.
                self.submit()
            self._completions.run()
        except BaseException:
            self._completions.signal()
            raise

    def _queue_write(
        self, file: int, position: int, buffers: Sequence[Buffer], on_done: WriteDone, *, sync: bool
    ) -> None:
        views = [memoryview(buffer) for buffer in buffers if len(buffer)]
        self._queued.append(_Operation(file, position, views, sync, on_done))

    def sync(self, file: int, on_done: WriteDone) -> None:
        self._queued.append(_Operation(file, 0, [], True, on_done))

    def submit(self) -> None:
        try:
            self._in_turn.run()
        except BaseException:
            self._completions.put(self.submit)
            raise
        self._is_late = False
        while self._queued and len(self._operations) < OPERATION_COUNT_MAX:
            self._prepare(self._queued.popleft())
        self._is_late = bool(self._queued)
        if not ring_api.io_uring_sq_ready(self._ring):
            return
        try:
            ring_api.io_uring_submit(self._ring)
        except OSError as error:
            if error.errno not in (errno.EAGAIN, errno.EBUSY, errno.EINTR):
                raise
        if ring_api.io_uring_sq_ready(self._ring):
            # For want of memory or room: `reap` tries again.
            self._is_late = True
            for operation in self._operations.values():
                operation.is_unlinked = operation.sync
            self._completions.signal()

    def close(self) -> None:
        self._in_turn.run(call_back=False)
        while self._queued or self._operations:
            self.submit()
            self._completions.wait()
            self._completions.clear_signal()
            self._reap_ring(call_back=False)
        self._workers.close()
        ring_api.io_uring_queue_exit(self._ring)
        self._completions.close()

    # -- the ring

    def _prepare(self, operation: _Operation) -> None:
        """Fill one or two submission entries: the next IOV_COUNT_MAX buffers, and the sync if these
        are the last."""
        self._next_id += 1
        key = self._next_id << 1
        chunk = operation.buffers[:IOV_COUNT_MAX]
        is_last = len(chunk) == len(operation.buffers)
        if chunk:
            memory = [_addressable(view) for view in chunk]
            iovec = ring_api.Iovec(memory)
            operation.in_flight = (iovec, memory)
            entry = ring_api.io_uring_get_sqe(self._ring)
            assert entry is not None, "the submission queue has room for every operation"
            ring_api.io_uring_prep_writev(entry, operation.file, iovec, operation.position, 0)
            ring_api.io_uring_sqe_set_data64(entry, key)
            if is_last and operation.sync:
                ring_api.io_uring_sqe_set_flags(entry, ring_api.IOSQE_IO_LINK)
            operation.pending += 1
        if is_last and operation.sync:
            entry = ring_api.io_uring_get_sqe(self._ring)
            assert entry is not None, "the submission queue has room for every operation"
            ring_api.io_uring_prep_fsync(entry, operation.file, ring_api.IORING_FSYNC_DATASYNC)
            ring_api.io_uring_sqe_set_data64(entry, key | _IS_SYNC)
            operation.pending += 1
        if operation.pending:
            self._operations[key] = operation
        else:
            self._completions.put(partial(operation.on_done, None))

    def _reap_ring(self, *, call_back: bool = True) -> None:
        for _ in range(ring_api.io_uring_cq_ready(self._ring)):
            ring_api.io_uring_peek_cqe(self._ring, self._cqe)
            entry = self._cqe[0]
            data: int = entry.user_data
            size, error = 0, None
            try:
                size = entry.res
            except OSError as refused:
                error = refused
            # Given back before any callback runs: one that raises must not see it twice.
            ring_api.io_uring_cq_advance(self._ring, 1)
            self._completed(data, size, error, call_back)

    def _completed(self, data: int, size: int, error: OSError | None, call_back: bool) -> None:
        key = data & ~_IS_SYNC
        operation = self._operations[key]
        operation.pending -= 1
        if error is None and not data & _IS_SYNC:
            operation.position += size
            operation.buffers = skip(operation.buffers, size)
            if size == 0:
                operation.error = OSError(errno.EIO, "the kernel wrote nothing")
        elif error is not None and error.errno == errno.ECANCELED:
            operation.is_unlinked = True
        elif error is not None and operation.error is None:
            operation.error = error
        if operation.pending:
            return
        del self._operations[key]
        operation.in_flight = None
        if operation.error is None and (operation.buffers or operation.is_unlinked):
            operation.is_unlinked = False
            self._queued.append(operation)
            self._is_late = True
        elif call_back:
            operation.on_done(operation.error)

    def _probe(self) -> None:
        """A sandbox may allow the set-up and refuse the work: write and sync something once."""
        outcome: list[OSError | None] = []
        file = os.memfd_create("walrus-probe")
        try:
            self.write(file, 0, [b"walrus"], sync=True, on_done=outcome.append)
            self.submit()
            while not outcome:
                ready, _, _ = select.select([self.fileno()], [], [], _PROBE_TIMEOUT_S)
                if not ready:
                    raise BackendUnavailableError("io_uring accepted a write and never finished it")
                self.reap()
            if outcome[0] is not None:
                raise BackendUnavailableError(_refused(outcome[0]))
            if os.pread(file, 16, 0) != b"walrus":
                raise BackendUnavailableError("io_uring did not write what it was given")
        except OSError as error:
            raise BackendUnavailableError(_refused(error)) from error
        finally:
            os.close(file)


def _addressable(view: memoryview) -> bytes | bytearray:
    """The bytes of `view` as an object whose address `Iovec` takes."""
    whole = view.obj
    if isinstance(whole, bytes | bytearray) and len(whole) == view.nbytes:
        return whole
    return bytes(view)


def _refused(error: OSError) -> str:
    code = errno.errorcode.get(error.errno or 0, str(error.errno))
    hints = {
        errno.EPERM: "a seccomp profile or the sysctl kernel.io_uring_disabled forbids it",
        errno.EACCES: "the sandbox forbids it",
        errno.ENOSYS: "this kernel has none",
        errno.ENOMEM: "the limit of locked memory is too low",
    }
    hint = hints.get(error.errno or 0, error.strerror or "")
    return f"io_uring refused ({code}: {hint})"
