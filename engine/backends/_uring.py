"""io_uring: all writes of a group commit in one system call, each with its sync (RWF_DSYNC).

What is peculiar about it:
  * liburing's waiting calls keep the GIL, so nobody waits: the ring signals an eventfd, and `reap`
    peeks.
  * `Iovec` takes the addresses of bytes and bytearrays and keeps neither alive; an operation does,
    until its last completion, and the view it holds also keeps a bytearray from being resized.
  * `Iovec` takes memoryviews too, but leaks a reference to each (liburing 2026.3.30). So a view of
    a whole object is passed as that object, and a view of a part is copied: the one copy here.
  * A write with a sync is one entry and one completion. Two linked ones, the write and an
    fdatasync, would wake the owner twice. Of a short write the rest is queued as one of its own.
  * Such a write is always handed to the kernel's threads: a file system that takes buffered writes
    at once would sync in the caller's turn.
  * A write without a sync goes to the page cache in the caller's turn (`InTurn`): ext4 makes the
    ring hand it to a thread.
  * Reads come from the page cache or go to a thread (`_base`): the ring would cost more than it
    saves.
  * The completion queue never overflows: at most OPERATION_COUNT_MAX operations are in the ring,
    one entry each.
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
ENTRY_COUNT = OPERATION_COUNT_MAX
"""Of the submission queue; the completion queue has twice as many."""

_PROBE_TIMEOUT_S = 5.0


class _Operation:
    """One write, one sync, or a write with its sync."""

    __slots__ = ("buffers", "file", "in_flight", "on_done", "position", "size", "sync")

    def __init__(
        self,
        file: int,
        position: int,
        buffers: Sequence[Buffer],
        sync: bool,
        on_done: WriteDone,
    ) -> None:
        self.file = file
        self.position = position
        self.buffers = buffers
        """What is not written yet; none of them is empty."""
        self.size = sum(map(len, buffers))
        """Their bytes."""
        self.sync = sync
        self.on_done = on_done
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
        if not all(buffers):
            buffers = [buffer for buffer in buffers if buffer]
        self._queued.append(_Operation(file, position, buffers, sync, on_done))

    def sync(self, file: int, on_done: WriteDone) -> None:
        self._queued.append(_Operation(file, 0, [], True, on_done))

    def submit(self) -> None:
        try:
            self._in_turn.run()
        except BaseException:
            self._completions.put(self.submit)
            raise
        if not self._queued and not self._is_late:
            return
        while self._queued and len(self._operations) < OPERATION_COUNT_MAX:
            self._prepare(self._queued.popleft())
        self._is_late = bool(self._queued)
        try:
            ring_api.io_uring_submit(self._ring)
        except OSError as error:
            if error.errno not in (errno.EAGAIN, errno.EBUSY, errno.EINTR):
                raise
        if ring_api.io_uring_sq_ready(self._ring):
            # For want of memory or room: `reap` tries again.
            self._is_late = True
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
        """Fill one submission entry: the next IOV_COUNT_MAX buffers, or a sync if there are
        none."""
        buffers = operation.buffers
        if not buffers and not operation.sync:
            self._completions.put(partial(operation.on_done, None))
            return
        entry = ring_api.io_uring_get_sqe(self._ring)
        assert entry is not None, "the submission queue has room for every operation"
        if buffers:
            memory = list(map(_addressable, buffers[:IOV_COUNT_MAX]))
            iovec = ring_api.Iovec(memory)
            operation.in_flight = (iovec, [memoryview(each) for each in memory])
            flags = os.RWF_DSYNC if operation.sync else 0
            ring_api.io_uring_prep_writev(entry, operation.file, iovec, operation.position, flags)
            if flags:
                ring_api.io_uring_sqe_set_flags(entry, ring_api.IOSQE_ASYNC)
        else:
            ring_api.io_uring_prep_fsync(entry, operation.file, ring_api.IORING_FSYNC_DATASYNC)
        self._next_id = key = self._next_id + 1
        ring_api.io_uring_sqe_set_data64(entry, key)
        self._operations[key] = operation

    def _reap_ring(self, *, call_back: bool = True) -> None:
        for _ in range(ring_api.io_uring_cq_ready(self._ring)):
            ring_api.io_uring_peek_cqe(self._ring, self._cqe)
            entry = self._cqe[0]
            key: int = entry.user_data
            size, error = 0, None
            try:
                size = entry.res
            except OSError as refused:
                error = refused
            # Given back before any callback runs: one that raises must not see it twice.
            ring_api.io_uring_cq_advance(self._ring, 1)
            self._completed(key, size, error, call_back)

    def _completed(self, key: int, size: int, error: OSError | None, call_back: bool) -> None:
        operation = self._operations.pop(key)
        operation.in_flight = None
        if error is None and size != operation.size:
            if size:
                self._go_on(operation, size)
                return
            error = OSError(errno.EIO, "the kernel wrote nothing")
        if call_back:
            operation.on_done(error)

    def _go_on(self, operation: _Operation, size: int) -> None:
        """After a write of which only `size` bytes are done."""
        operation.position += size
        operation.size -= size
        operation.buffers = skip([memoryview(buffer) for buffer in operation.buffers], size)
        self._queued.append(operation)
        self._is_late = True

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


def _addressable(buffer: Buffer) -> bytes | bytearray:
    """The bytes of `buffer` as an object whose address `Iovec` takes."""
    whole = buffer.obj if isinstance(buffer, memoryview) else buffer
    if isinstance(whole, (bytes, bytearray)) and len(whole) == len(buffer):
        return whole
    return bytes(buffer)


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
