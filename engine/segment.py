"""One segment copy: append, promise, seal, read.

Life of a copy: it has no file until its first append or promise; it takes batches until it is
promised, sealed, failed or dropped, and never again after that. All methods belong to one thread;
callbacks come from `Wal.reap`, except where a docstring says they may come at once.
"""

from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from typing import NoReturn

from crc32c import crc32c

from engine.appender import Appender
from engine.backends import FilePart
from engine.batch import HEADER_SIZE, LENGTH_END, Buffer, Offset, Placed, Size, placed_at
from engine.errors import CorruptSegmentError
from engine.errors import PromiseRefused as PromiseRefused
from engine.errors import SegmentClosedError as SegmentClosedError
from engine.format import SegmentEnd as SegmentEnd
from engine.head import Head
from engine.index import POSITION_MAX, SegmentIndex
from engine.jobs import JobQueue
from engine.open_files import LogFile
from engine.segment_files import SegmentFiles
from engine.segment_reader import SegmentReader
from engine.services import Services

ACK_MARK_SIZE: Size = 1024 * 1024
"""The ack mark is rewritten after this many bytes: what an undetected loss of the tail is limited
to."""


_segment_end = partial(tuple.__new__, SegmentEnd)
"""From its four fields, at every append."""


@dataclass(slots=True, kw_only=True)
class Found:
    """What a copy is when its Segment is made."""

    end: SegmentEnd
    index: SegmentIndex | None
    """None: read or rebuilt at the first need."""
    promised_epoch: int = 0
    sealed: bool = False
    torn_size: Size = 0
    zeros_size: Size = 0


def _ignore(_: object) -> None:
    return


class Segment:
    """One segment of one topic on this disk. Made by TopicLog."""

    def __init__(
        self,
        services: Services,
        files: SegmentFiles,
        *,
        sid: int,
        base_offset: Offset,
        epoch: int | None,
        found: Found,
        make_head: Callable[[], bytes] | None,
    ) -> None:
        self.sid = sid
        self.base_offset = base_offset
        self.epoch = epoch
        """None for a sealed segment that was adopted."""
        self.promised_epoch = found.promised_epoch
        """0: none. Already counted before it is durable: from then on nothing is accepted."""
        self.sealed = found.sealed
        self.failed: OSError | None = None
        self.torn_size = found.torn_size
        """Bytes that recovery cut from the end of the file."""
        self.on_durable: Callable[[Offset], None] = _ignore
        self.on_failed: Callable[[OSError], None] = _ignore
        self._end = found.end
        self._head = Head(files, make_head)
        self._closed = ""
        self._services = services
        self._files = files
        self._jobs = JobQueue(services.backend)
        self._log = LogFile()
        sealed_end = found.end if found.sealed else None
        self._reader = SegmentReader(
            services, files, self._log, self._jobs, base_offset, found.index, sealed_end
        )
        self._appender = Appender(
            services.backend,
            services.commit,
            services.open_files,
            self._log,
            end_offset=found.end.end_offset,
            size=found.end.size,
            zeros_size=found.zeros_size,
            open_log=self._open_for_append,
            on_progress=self._progressed,
            on_failed=self._fail,
        )
        self._told_durable = self.durable_offset
        self._ack_mark_size = found.end.size

    # -- where it ends

    @property
    def end(self) -> SegmentEnd:
        """All four at once, what is queued included."""
        return self._end

    @property
    def end_offset(self) -> Offset:
        """One past the last record, what is queued included; so with the three below."""
        return self._end.end_offset

    @property
    def size(self) -> Size:
        return self._end.size

    @property
    def digest(self) -> int:
        return self._end.digest

    @property
    def max_timestamp(self) -> int:
        return self._end.max_timestamp

    @property
    def durable_offset(self) -> Offset:
        """What an acknowledgement may rely on: synced under `each`, written under the other
        policies."""
        return self._appender.durable_offset

    @property
    def durable_size(self) -> Size:
        return self._appender.durable_size

    # -- append

    def append(self, batches: Sequence[Placed]) -> Offset:
        """Queue batches, each at the end of the one before; returns the new end offset.

        They must have their places already (see batch.patch) and be checked. The buffers must not
        change until the batches are durable, which they become together. Raises SegmentClosedError
        and QueueFullError; then nothing was appended.
        """
        if self.promised_epoch or self.sealed or self._closed or self.failed is not None:
            self._refuse()
        return self._enqueue(batches)

    def repair(self, batches: Sequence[Placed]) -> Offset:
        """`append` for bytes that a seal has decided on: also after a promise, until it is sealed.

        A recoverer brings shorter copies up to the end it has chosen; the promise shuts out the
        segment's writer, not the recoverer it was given to. Raises as `append` does.
        """
        if self.failed is not None or self.sealed or self._closed:
            raise SegmentClosedError(f"segment {self.sid} is {self._closed or 'sealed or failed'}")
        return self._enqueue(batches)

    def _enqueue(self, batches: Sequence[Placed]) -> Offset:
        end_offset, position, digest, max_timestamp = self._end
        epoch, start = self.epoch, position
        queued: list[Buffer] = []
        for header, buffers in batches:
            size = LENGTH_END + header.batch_length
            assert header.base_offset == end_offset, (header.base_offset, end_offset)
            assert placed_at(buffers[0]) == (end_offset, epoch), placed_at(buffers[0])
            assert size == sum(map(len, buffers))
            position += size
            end_offset += header.last_offset_delta + 1
            queued += buffers
            digest = crc32c(memoryview(buffers[0])[:HEADER_SIZE], digest)
            if header.max_timestamp > max_timestamp:
                max_timestamp = header.max_timestamp
        if position > POSITION_MAX:
            raise SegmentClosedError(f"segment {self.sid} is full: {POSITION_MAX} bytes at most")
        if end_offset - self.base_offset > POSITION_MAX:
            raise SegmentClosedError(f"segment {self.sid} is full: {POSITION_MAX} offsets at most")
        if self._head.make is not None:
            # Now, not when the file is made: by then the owner's state includes these batches.
            self._head.capture()
        self._appender.enqueue(queued, position - start, end_offset, batch_count=len(batches))
        index = self._reader.index
        assert index is not None
        for header, _ in batches:
            index.add(header, start)
            start += LENGTH_END + header.batch_length
        self._end = _segment_end((end_offset, position, digest, max_timestamp))
        return end_offset

    def note_acked(self, end_offset: Offset) -> None:
        """Everything below `end_offset` was acknowledged. Remembered on disk lazily, as far as it
        is synced."""
        if self._appender.synced_size - self._ack_mark_size < ACK_MARK_SIZE:
            return
        if self.sealed or self._closed or self.failed or not self._jobs.is_idle:
            return
        self._ack_mark_size = self._appender.synced_size
        mark = min(end_offset, self._appender.synced_offset)
        self._jobs.run(partial(self._files.mark_acked, mark), self._fail_on_error)

    # -- promise and seal

    def promise(self, epoch: int, on_done: Callable[[SegmentEnd | Exception], None]) -> None:
        """Accept nothing more, make all of it durable, remember `epoch` durably, and answer the
        end.

        `on_done` gets the SegmentEnd; PromiseRefused (at once) if a higher epoch was promised
        before; or the error that failed the segment. The same or a higher epoch is answered again.
        """
        if self._is_unusable(on_done):
            return
        if epoch < self.promised_epoch:
            on_done(PromiseRefused(self.promised_epoch))
            return
        self.promised_epoch = epoch
        self._head.capture()
        self._appender.drain(partial(self._drained, partial(self._promise, epoch), on_done))

    def _promise(self, epoch: int, on_done: Callable[[SegmentEnd | Exception], None]) -> None:
        self._jobs.run(
            partial(self._write_promise, epoch), partial(self._finish, self._promised, on_done)
        )

    def _write_promise(self, epoch: int) -> None:
        self._head.make_files(promised_epoch=epoch)
        self._files.promise(epoch)

    def _promised(self, on_done: Callable[[SegmentEnd | Exception], None]) -> None:
        self._head.stored()
        on_done(self._end)

    def seal(self, end: SegmentEnd, on_done: Callable[[Exception | None], None]) -> None:
        """Make the segment final at `end`, which the whole cluster agreed on; what is beyond it is
        cut.

        `on_done` gets None, an OSError, or CorruptSegmentError if this copy is shorter than `end`
        or differs from it.
        """
        if self._is_unusable(on_done):
            return
        if self.sealed:
            on_done(self._compare(end))
            return
        self._closed = "sealed"
        self._head.capture()
        self._appender.drain(partial(self._drained, partial(self._seal, end), on_done))

    def _seal(self, end: SegmentEnd, on_done: Callable[[Exception | None], None]) -> None:
        if end.size >= self._end.size and (differs := self._compare(end)) is not None:
            on_done(differs)
            return
        self._jobs.run(partial(self._write_seal, end), partial(self._sealed, end, on_done))

    def _write_seal(self, end: SegmentEnd) -> SegmentIndex:
        """In a job. Cut, sync, indexes, meta: in this order, so that each step can be repeated
        after a crash."""
        self._head.make_files()
        index = self._reader.index
        if end.size < self._end.size or index is None:
            index = self._reader.make_index(end)
        self._files.cut_log(end.size)
        self._files.seal(end, index)
        return index

    def _sealed(
        self,
        end: SegmentEnd,
        on_done: Callable[[Exception | None], None],
        result: SegmentIndex | Exception,
    ) -> None:
        if isinstance(result, Exception):
            self._fail_on_error(result)
            on_done(result)
            return
        self._head.stored()
        self._end = end
        self.sealed = True
        self._appender.truncated(end.end_offset, end.size)
        self._reader.sealed(end, result)
        on_done(None)

    def _compare(self, end: SegmentEnd) -> CorruptSegmentError | None:
        if end == self._end:
            return None
        return CorruptSegmentError(
            self._files.log_path,
            self._end.size,
            f"this copy ends as {self._end}, it was sealed as {end}",
            "Restore the file from another copy",
        )

    # -- read

    def read(
        self,
        offset: Offset,
        *,
        size_max: Size,
        end_offset: Offset,
        on_done: Callable[[Buffer | Exception], None],
    ) -> None:
        """Whole batches, the first being the one that contains `offset`, all below `end_offset` (a
        batch's end).

        At most `size_max` bytes, but at least one batch; b"" from `end_offset` on. The bytes are
        the file's own. `on_done` may be called before this returns; it gets an OSError or
        CorruptSegmentError on failure.
        """
        assert offset >= self.base_offset, (offset, self.base_offset)
        end_offset = min(end_offset, self._appender.written_offset)
        if offset >= end_offset:
            on_done(b"")
            return
        if self._closed == "dropped":
            on_done(SegmentClosedError(f"segment {self.sid} is dropped"))
            return
        self._reader.read(
            offset,
            size_max=size_max,
            end_offset=end_offset,
            limit=self._appender.written_size,
            on_done=on_done,
        )

    def read_now(self, offset: Offset, *, size_max: Size, end_offset: Offset) -> Buffer | None:
        """`read`, if there is something to return and it can be had without waiting for the disk;
        else None."""
        end_offset = min(end_offset, self._appender.written_offset)
        if offset >= end_offset or self._closed == "dropped":
            return None
        return self._reader.read_now(
            offset, size_max=size_max, end_offset=end_offset, limit=self._appender.written_size
        )

    def fetch_now(
        self, offset: Offset, *, size_max: Size, end_offset: Offset
    ) -> Buffer | FilePart | None:
        """`read_now` for a socket: what is large comes as a part of the file."""
        end_offset = min(end_offset, self._appender.written_offset)
        if offset >= end_offset or self._closed == "dropped":
            return None
        return self._reader.fetch_now(
            offset, size_max=size_max, end_offset=end_offset, limit=self._appender.written_size
        )

    def load(
        self, offset: Offset, size_max: Size, on_done: Callable[[None | Exception], None]
    ) -> None:
        """Have in the page cache what `fetch_now` may then return as a part of the file, if it can
        be had. What is wrong with it is for `read` to tell. May call `on_done` before this
        returns."""
        if offset >= self._appender.written_offset or self._closed == "dropped":
            on_done(None)
            return
        self._reader.load(offset, size_max, self._appender.written_size, on_done)

    def offset_before_timestamp(self, timestamp_ms: int) -> Offset:
        """An offset such that all batches wholly before it have max_timestamp < `timestamp_ms`.

        A start for a search by reading. The base offset as long as the index of a sealed segment is
        not in memory (see `load_index`).
        """
        index = self._reader.index
        return self.base_offset if index is None else index.offset_before_timestamp(timestamp_ms)

    def load_index(self, on_done: Callable[[Exception | None], None]) -> None:
        """Have the index in memory; at once if it is."""
        self._reader.load_index(on_done)

    def head(self) -> bytes | None:
        """Blocking. The head object; None if the segment has none. Raises OSError,
        CorruptSegmentError."""
        return self._head.read()

    # -- removal, for TopicLog

    def stop(self, on_done: Callable[[], None]) -> None:
        """Accept nothing more and call back once nothing of this segment is in flight except
        reads."""
        self._closed = "dropped"

        def stopped(_: Exception | None) -> None:
            self._jobs.run(lambda: None, lambda _: on_done())

        self._appender.stop(stopped)

    def rest(self, on_done: Callable[[None | Exception], None]) -> None:
        """Of a segment that has failed: call back once nothing of it is in flight except reads."""
        assert self.failed is not None
        self._jobs.run(lambda: None, on_done)

    def remove(self, on_done: Callable[[None | Exception], None]) -> None:
        """Delete the files, durably. After `stop`."""
        self.forget_file()
        self._jobs.run(self._files.remove, on_done)

    def forget_file(self) -> None:
        """Close the log as soon as nobody reads it. After `stop`."""
        self._services.open_files.forget(self._log)

    def drain(self, on_done: Callable[[], None]) -> None:
        """Write and sync everything queued and finish all jobs. For `Wal.close`."""
        self._appender.drain(lambda _: self._jobs.run(lambda: None, lambda _: on_done()))

    def cut_zeros(self) -> None:
        """Blocking. A log at rest ends where its batches do, for whoever copies or reads the file.
        After `drain`."""
        if self._appender.zeros_size and self.failed is None:
            with suppress(OSError):  # Those that stay do no harm.
                self._files.cut_log(self._end.size)

    # -- inner life

    def _refuse(self) -> NoReturn:
        """It is not open for appends any more."""
        if self.failed is not None:
            raise SegmentClosedError(f"segment {self.sid} has failed: {self.failed}")
        if self.promised_epoch:
            raise SegmentClosedError(
                f"segment {self.sid} is promised to epoch {self.promised_epoch}"
            )
        raise SegmentClosedError(f"segment {self.sid} is {self._closed or 'sealed'}")

    def _is_unusable(self, on_done: Callable[[Exception], None]) -> bool:
        """Whether the segment is failed or dropped; `on_done` has been told then."""
        if self.failed is None and self._closed != "dropped":
            return False
        on_done(self.failed or SegmentClosedError(f"segment {self.sid} is dropped"))
        return True

    def _open_for_append(self, on_done: Callable[[int | Exception], None]) -> None:
        open_files = self._services.open_files

        def opened(result: int | Exception) -> None:
            if isinstance(result, Exception):
                open_files.give_up()
            else:
                self._head.stored()
                result = open_files.add(self._log, result)
            on_done(result)

        open_files.when_room(partial(self._jobs.run, self._create_and_open, opened))

    def _create_and_open(self) -> int:
        """In a job."""
        self._head.make_files()
        return self._files.open_log()

    def _progressed(self) -> None:
        durable = self._appender.durable_offset
        if durable > self._told_durable:
            self._told_durable = durable
            self.on_durable(durable)

    def _drained(
        self,
        proceed: Callable[[Callable[..., None]], None],
        on_done: Callable[..., None],
        error: Exception | None,
    ) -> None:
        if error is not None:
            on_done(error)
        else:
            proceed(on_done)

    def _finish(
        self,
        succeed: Callable[[Callable[..., None]], None],
        on_done: Callable[..., None],
        result: object,
    ) -> None:
        if isinstance(result, Exception):
            self._fail_on_error(result)
            on_done(result)
        else:
            succeed(on_done)

    def _fail_on_error(self, result: object) -> None:
        """A job's result: what the disk refused once it is not asked again."""
        if isinstance(result, OSError) and self._closed != "dropped":
            self._appender.fail(result)

    def _fail(self, error: Exception) -> None:
        # An engine error (a head of a newer version, say) fails the segment as surely as the disk
        # does.
        self.failed = error if isinstance(error, OSError) else OSError(str(error))
        self.on_failed(self.failed)
