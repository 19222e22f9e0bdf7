"""The end of one segment's log: its one write in flight, and what waits behind it.

At most one operation per segment is under way, so writes need no order among themselves and an
error stops everything behind it. After an error nothing is written any more: a failed sync is never
repeated, since the kernel may have dropped the pages and the second one would lie ("fsyncgate").
"""

from collections.abc import Callable, Sequence
from functools import partial

from engine.backends import Backend, only_os_errors
from engine.batch import Buffer, Offset, Size
from engine.durability import GroupCommit
from engine.errors import SegmentClosedError
from engine.open_files import LogFile, OpenFiles
from engine.write_queue import Write, WriteQueue

Done = Callable[[Exception | None], None]


class Appender:
    """Where a segment's log ends: queued, written and synced."""

    def __init__(
        self,
        backend: Backend,
        commit: GroupCommit,
        files: OpenFiles,
        log: LogFile,
        *,
        end_offset: Offset,
        size: Size,
        zeros_size: Size,
        open_log: Callable[[Callable[[int | Exception], None]], None],
        on_progress: Callable[[], None],
        on_failed: Callable[[Exception], None],
    ) -> None:
        """The log has `size` bytes, all synced, and so many zeros behind them. `open_log` is called
        when `log` is not open, or was never made; it gets a descriptor to use, and to release."""
        self._backend = backend
        self._commit = commit
        self._is_each = commit.policy.is_each
        self._syncs_alone = commit.policy.interval_ms is not None
        self._files = files
        self._log = log
        self._open_log = open_log
        self._on_progress = on_progress
        self._on_failed = on_failed
        self._file: int | None = None
        """The descriptor while it is in use: until what was written is synced, if the policy says
        when. That the kernel could not write it, it tells whoever has the file open, and perhaps
        nobody else."""
        self.failed: Exception | None = None
        self.written_offset = self.synced_offset = end_offset
        self.written_size = self.synced_size = size
        self._queue = WriteQueue(zeros_size, may_use_zeros=self._is_each)
        self._busy = False
        self._sync_wanted = False
        self._is_made = False
        """The log is known to be there, with its head."""
        self._draining: list[Done] = []
        self._stopping: list[Done] = []

    @property
    def durable_offset(self) -> Offset:
        """What an acknowledgement may rely on under the policy."""
        return self.synced_offset if self._is_each else self.written_offset

    @property
    def durable_size(self) -> Size:
        return self.synced_size if self._is_each else self.written_size

    @property
    def zeros_size(self) -> Size:
        """Bytes of the file behind what was written."""
        return self._queue.zeros_size

    def enqueue(
        self, buffers: Sequence[Buffer], size: Size, end_offset: Offset, *, batch_count: int
    ) -> None:
        """Raises QueueFullError."""
        self._commit.reserve(size)
        self._queue.add(buffers, size, end_offset, batch_count=batch_count)
        self._commit.mark_dirty(self)

    def drain(self, on_done: Done) -> None:
        """Call back once everything queued is written and synced, whatever the policy; at once if
        it is."""
        if self.failed is not None:
            on_done(self.failed)
        elif not self._busy and not self._queue and self.synced_size == self.written_size:
            on_done(None)
        else:
            self._draining.append(on_done)
            self._commit.mark_dirty(self)

    def stop(self, on_done: Done) -> None:
        """Take nothing more, forget what is queued; call back once nothing is in flight. For a
        deletion."""
        if self.failed is None:
            self.failed = SegmentClosedError("the segment is being deleted")
        self._discard()
        self._finish_draining(self.failed)
        if self._busy:
            self._stopping.append(on_done)
        else:
            self._let_go()
            on_done(None)

    def want_sync(self) -> None:
        """Sync what was written without."""
        self._sync_wanted = True
        self._commit.mark_dirty(self)

    def truncated(self, end_offset: Offset, size: Size) -> None:
        """The drained log was cut, durably."""
        assert not self._busy and not self._queue
        self.written_offset = self.synced_offset = end_offset
        self.written_size = self.synced_size = size
        self._queue.zeros_are_cut()

    def step(self) -> None:
        """Start the next operation, if there is any and none is under way. Only from
        GroupCommit."""
        if self._busy or self.failed is not None:
            return
        must_sync = bool(self._draining) or self._sync_wanted or self._is_each
        is_synced = self.synced_size == self.written_size
        wants_sync = not is_synced and (self._sync_wanted or (must_sync and not self._queue))
        if not wants_sync and not self._queue:
            self._sync_wanted = False
            self._finish_draining(None)
        elif (file := self._take()) is None:
            self._busy = True
            self._open_log(self._opened)
        elif wants_sync:
            self._sync(file)
        elif self._queue.must_cut_zeros:
            self._cut_zeros(file)
        else:
            # A write's own sync is of its bytes alone.
            self._write(file, sync=must_sync and is_synced)

    def _take(self) -> int | None:
        """The descriptor, if the log is there and open."""
        if self._file is None and self._is_made:
            self._file = self._files.take(self._log)
        return self._file

    def _let_go(self) -> None:
        if self._file is not None:
            self._file = None
            self._files.release(self._log)

    def _sync(self, file: int) -> None:
        self._busy = True
        self._sync_wanted = False
        self._backend.sync(file, partial(self._synced, self.written_offset))

    def _opened(self, result: int | Exception) -> None:
        self._busy = False
        if isinstance(result, Exception):
            self.fail(result)
        else:
            self._file, self._is_made = result, True
            self._commit.mark_dirty(self)
        if self.failed is not None:
            self._finish_operation()

    def _write(self, file: int, *, sync: bool) -> None:
        write = self._queue.take(self.written_size)
        self._busy = True
        if sync:
            self._sync_wanted = False
        done = partial(self._written, write, sync)
        self._backend.write(file, self.written_size, write.buffers, sync=sync, on_done=done)

    def _cut_zeros(self, file: int) -> None:
        fs, size = self._backend.fs, self.written_size

        def cut() -> None:
            fs.truncate(file, size)
            # Else a power cut could undo it, and show what was written there meanwhile.
            fs.fsync(file)

        self._busy = True
        self._backend.run(cut, partial(only_os_errors, self._cut))

    def _cut(self, error: OSError | None) -> None:
        self._busy = False
        if error is not None:
            self.fail(error)
        else:
            self._queue.zeros_are_cut()
            self._commit.mark_dirty(self)
        self._finish_operation()

    def _written(self, write: Write, sync: bool, error: OSError | None) -> None:
        self._busy = False
        self._commit.release(write.size)
        if error is not None:
            self.fail(error)
        else:
            self.written_offset = write.end_offset
            self.written_size += write.size
            self._queue.written(write)
            if sync:
                self.synced_offset, self.synced_size = write.end_offset, self.written_size
            else:
                self._commit.mark_unsynced(self)
            self._progressed()
        self._finish_operation()

    def _synced(self, end_offset: Offset, error: OSError | None) -> None:
        self._busy = False
        if error is not None:
            self.fail(error)
        else:
            # Nothing was written meanwhile: one operation at a time.
            self.synced_offset, self.synced_size = end_offset, self.written_size
            self._progressed()
        self._finish_operation()

    def _progressed(self) -> None:
        if self._queue or self._sync_wanted:
            self._commit.mark_dirty(self)
        elif self._draining:
            if self.synced_size == self.written_size:
                self._finish_draining(None)
            else:
                self._commit.mark_dirty(self)
        self._on_progress()

    def fail(self, error: Exception) -> None:
        """The first error is final."""
        if self.failed is not None:
            return
        self.failed = error
        self._discard()
        if not self._busy:
            self._let_go()
        self._finish_draining(error)
        self._on_failed(error)

    def _discard(self) -> None:
        self._commit.release(self._queue.size)
        self._queue.clear()

    def _finish_draining(self, error: Exception | None) -> None:
        draining, self._draining = self._draining, []
        for on_done in draining:
            on_done(error)

    def _finish_operation(self) -> None:
        is_synced = self.synced_size == self.written_size
        if is_synced or not self._syncs_alone or self.failed is not None:
            self._let_go()
        elif self._files.waiting_count:
            self.want_sync()
        stopping, self._stopping = self._stopping, []
        for on_done in stopping:
            on_done(None)
