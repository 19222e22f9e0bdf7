"""Reading one segment: where to start, with which descriptor, and what to do when an index lies.

An open segment keeps its index in memory. That of a sealed one is read from its files at the first
need, or made from the log if they are missing or turn out to be wrong.
"""

from collections.abc import Callable
from functools import partial
from typing import NamedTuple

from engine.backends import FilePart
from engine.batch import HEADER_SIZE, BatchHeader, Buffer, Offset, Position, Size
from engine.batch_run import find_run
from engine.errors import CorruptBatchError, CorruptSegmentError
from engine.format import SegmentEnd
from engine.index import SegmentIndex
from engine.jobs import JobQueue
from engine.open_files import LogFile
from engine.reader import BatchRead, CachedReads, Reads
from engine.recovery import scan_log
from engine.segment_files import SegmentFiles
from engine.services import Services

RESUME_COUNT_MAX = 64
"""Places at which sequential readers of a segment are expected next."""

LENT_SIZE_MIN: Size = 160 * 1024
"""From here on a part of the file costs less than a copy (docs/performance.md)."""

ReadDone = Callable[[Buffer | Exception], None]


class _Wanted(NamedTuple):
    """One read. Nothing that belongs to it may refer to itself: the cycle collector, which stops
    every client, would have to clear up after each fetch."""

    offset: Offset
    size_max: Size
    end_offset: Offset
    limit: Position
    on_done: ReadDone


class SegmentReader:
    """The reading half of a Segment: its index, and its users of the log's descriptor."""

    def __init__(
        self,
        services: Services,
        files: SegmentFiles,
        log: LogFile,
        jobs: JobQueue,
        base_offset: Offset,
        index: SegmentIndex | None,
        sealed_end: SegmentEnd | None,
    ) -> None:
        """Without an `index`, the segment must be sealed."""
        self.index = index
        self.sealed_end = sealed_end
        self._services = services
        self._cached = CachedReads(services.backend)
        self._files = files
        self._log = log
        self._jobs = jobs
        self._base_offset = base_offset
        self._resume: dict[Offset, Position] = {}

    def read(
        self,
        offset: Offset,
        *,
        size_max: Size,
        end_offset: Offset,
        limit: Position,
        on_done: ReadDone,
    ) -> None:
        """See Segment.read. `offset` is below `end_offset`, and that is written before `limit`."""

        wanted = _Wanted(offset, size_max, end_offset, limit, on_done)
        self._with_file(partial(self._start, wanted, True), on_done)

    def read_now(
        self, offset: Offset, *, size_max: Size, end_offset: Offset, limit: Position
    ) -> Buffer | None:
        """`read` without waiting; None where it would have to wait, or fail."""
        if self.index is None:
            return None
        file = self._services.open_files.take(self._log)
        if file is None:
            return None
        results: list[Buffer | Exception] = []
        wanted = _Wanted(offset, size_max, end_offset, limit, results.append)
        self._read(wanted, self._cached, file, self._place(offset), self._done_now)
        (result,) = results
        return None if isinstance(result, Exception) else result or None

    def _done_now(
        self, wanted: _Wanted, result: Buffer | Exception, following: tuple[Offset, Position] | None
    ) -> None:
        self._services.open_files.release(self._log)
        self._remember(following)
        wanted.on_done(result)

    def fetch_now(
        self, offset: Offset, *, size_max: Size, end_offset: Offset, limit: Position
    ) -> Buffer | FilePart | None:
        """`read_now` for a socket: what is large comes as a part of the file."""
        if size_max >= LENT_SIZE_MIN and self.index is not None:
            position = self._place(offset)
            if limit - position >= LENT_SIZE_MIN:
                found = self._lend_now(
                    offset,
                    self.index,
                    position=position,
                    size_max=size_max,
                    end_offset=end_offset,
                    limit=limit,
                )
                if found is not None:
                    return found if found.is_cached() else None
        return self.read_now(offset, size_max=size_max, end_offset=end_offset, limit=limit)

    def _lend_now(
        self,
        offset: Offset,
        index: SegmentIndex,
        *,
        position: Position,
        size_max: Size,
        end_offset: Offset,
        limit: Position,
    ) -> FilePart | None:
        """None where `read_now` has to see to it."""
        file = self._services.open_files.take(self._log)
        if file is None:
            return None
        backend = self._services.backend
        try:
            run = find_run(
                partial(backend.cached, file),
                index,
                position=position,
                limit=limit,
                offset=offset,
                end_offset=end_offset,
                size_max=size_max,
            )
            if run is None or run.size < LENT_SIZE_MIN:
                return None
            part = backend.lend(file, run.position, run.size)
        except CorruptBatchError:
            return None
        finally:
            self._services.open_files.release(self._log)
        if part is not None:
            self._remember((run.next_offset, run.position + run.size))
        return part

    def load(
        self,
        offset: Offset,
        size_max: Size,
        limit: Position,
        on_done: Callable[[None | Exception], None],
    ) -> None:
        """See Segment.load. `offset` is written before `limit`."""

        def use(file: int) -> None:
            assert self.index is not None
            backend = self._services.backend
            position = self._place(offset)
            size = min(size_max + self.index.interval + HEADER_SIZE, limit - position)
            part = backend.lend(file, position, size) if size >= LENT_SIZE_MIN else None
            self._services.open_files.release(self._log)
            if part is None or part.is_cached():
                on_done(None)
            else:
                backend.run(part.load, lambda _: on_done(None))

        self._with_file(use, lambda _: on_done(None))

    def _start(self, wanted: _Wanted, may_rebuild: bool, file: int) -> None:
        place = self._place(wanted.offset)
        done = partial(self._done, place, may_rebuild)
        self._read(wanted, self._services.backend, file, place, done)

    def _place(self, offset: Offset) -> Position:
        """Of a batch at or before `offset`."""
        assert self.index is not None
        return self._resume.get(offset) or self.index.position_before(offset)

    def _read(
        self,
        wanted: _Wanted,
        backend: Reads,
        file: int,
        position: Position,
        done: Callable[[_Wanted, Buffer | Exception, tuple[Offset, Position] | None], None],
    ) -> None:
        assert self.index is not None
        BatchRead(
            backend,
            file,
            self.index,
            position=position,
            limit=wanted.limit,
            offset=wanted.offset,
            end_offset=wanted.end_offset,
            size_max=wanted.size_max,
            on_done=partial(done, wanted),
        ).start()

    def _done(
        self,
        position: Position,
        may_rebuild: bool,
        wanted: _Wanted,
        result: Buffer | Exception,
        following: tuple[Offset, Position] | None,
    ) -> None:
        self._services.open_files.release(self._log)
        if result == b"":
            result = CorruptBatchError(f"no batch reaches offset {wanted.offset}")
        if not isinstance(result, CorruptBatchError):
            self._remember(following)
            wanted.on_done(result)
        elif may_rebuild and self.sealed_end is not None:
            # An index is a hint: follow a fresh one before the log itself is blamed.
            self.index = None
            self._resume.clear()
            start = partial(self._start, wanted, False)
            self._with_file(start, wanted.on_done, rebuild=True)
        else:
            wanted.on_done(self._corrupt(position, result.reason))

    def load_index(self, on_done: Callable[[Exception | None], None]) -> None:
        """Have the index in memory; at once if it is."""

        def loaded(_: int) -> None:
            self._services.open_files.release(self._log)
            on_done(None)

        if self.index is not None:
            on_done(None)
        else:
            self._with_file(loaded, on_done)

    def sealed(self, end: SegmentEnd, index: SegmentIndex) -> None:
        """The segment was sealed at `end`, and perhaps cut."""
        self.index = index
        self.sealed_end = end
        self._resume.clear()

    # -- the descriptor

    def _with_file(
        self,
        use: Callable[[int], None],
        on_error: Callable[[Exception], None],
        *,
        rebuild: bool = False,
    ) -> None:
        """Call `use` with the open log and the index in memory. `use` releases the file."""
        if self.index is not None:
            file = self._services.open_files.take(self._log)
            if file is not None:
                use(file)
                return

        open_files = self._services.open_files

        def prepared(result: tuple[int, SegmentIndex] | Exception) -> None:
            if isinstance(result, Exception):
                open_files.give_up()
                on_error(result)
                return
            file, index = result
            if self.index is None:
                self.index = index
            use(open_files.add(self._log, file))

        prepare = partial(self._prepare, self.index, rebuild)
        open_files.when_room(partial(self._jobs.run, prepare, prepared))

    # -- in jobs

    def _prepare(self, index: SegmentIndex | None, rebuild: bool) -> tuple[int, SegmentIndex]:
        """Open the log; have an index."""
        if index is None:
            end = self.sealed_end
            assert end is not None
            if not rebuild:
                index = self._files.index(end.size, self._services.index_interval)
            if index is None:
                index = self.make_index(end)
        return self._files.open_log(), index

    def make_index(self, end: SegmentEnd) -> SegmentIndex:
        """Blocking. From the log up to `end`. Raises CorruptSegmentError if the log is not what
        `end` says, and OSError."""
        fs = self._services.backend.fs
        epoch = self._files.meta().epoch
        index = SegmentIndex(self._base_offset, interval=self._services.index_interval)

        def visit(position: Position, header: BatchHeader) -> None:
            index.add(header, position)

        file = self._files.open_log()
        try:
            scan = scan_log(
                fs, file, base_offset=self._base_offset, epoch=epoch, visit=visit, size=end.size
            )
        finally:
            fs.close(file)
        if scan.end != end:
            raise self._corrupt(scan.end.size, scan.why_torn or f"{scan.end} is not {end}")
        return index

    def _remember(self, place: tuple[Offset, Position] | None) -> None:
        """A consumer has read up to here and will ask for what follows: no index is as exact."""
        if place is not None:
            self._resume[place[0]] = place[1]
            if len(self._resume) > RESUME_COUNT_MAX:
                del self._resume[next(iter(self._resume))]

    def _corrupt(self, position: Position, why: str) -> CorruptSegmentError:
        return CorruptSegmentError(
            self._files.log_path, position, why, "Restore the file from another copy"
        )
