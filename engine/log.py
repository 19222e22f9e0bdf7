"""One topic's segments on this disk."""

from collections.abc import Callable
from functools import partial
from pathlib import Path

from engine.batch import BatchHeader, Offset, Position, Size
from engine.errors import CorruptSegmentError
from engine.format import DELETED_SUFFIX, META_NAME, SegmentEnd, SegmentMeta, SegmentState
from engine.index import SegmentIndex
from engine.recovery import Scan, Visit, recover, truncate_at
from engine.segment import Found, Segment
from engine.segment_files import MetaFile, SegmentFiles, TopicDirectory, WindowFile, remove_tree
from engine.services import Services


class TopicLog:
    """The segments of one topic by id. Which of them belong to the topic is the owner's knowledge,
    not ours."""

    def __init__(self, directory: Path, services: Services) -> None:
        self._directory = directory
        self._services = services
        self._made = TopicDirectory(services.backend.fs, directory)
        self._segments: dict[int, Segment] = {}
        self._emptied: set[int] = set()

    @property
    def directory(self) -> Path:
        return self._directory

    def get(self, sid: int) -> Segment | None:
        return self._segments.get(sid)

    def segments(self) -> tuple[Segment, ...]:
        """In the order of their ids."""
        return tuple(self._segments[sid] for sid in sorted(self._segments))

    def open(self, sid: int, base_offset: Offset, epoch: int, head: Callable[[], bytes]) -> Segment:
        """A new segment. Its files appear at the first append or promise.

        `head()` is called at that moment, before the batch counts, and its result is durable before
        the batch is. b"" means that it is not known yet, and it is asked again: what only promises
        has not heard from the writer.
        """
        found = Found(end=_empty(base_offset), index=self._index(base_offset))
        return self._add(sid, base_offset, epoch, found, head)

    def recover(
        self,
        sid: int,
        base_offset: Offset,
        epoch: int,
        visit: Callable[[BatchHeader], object],
        *,
        head: Callable[[], bytes] | None = None,
        keep_prefix: bool = False,
    ) -> Segment:
        """Blocking. A segment that was not sealed, after a restart: read it all, cut a torn tail
        (`torn_size` of the result), `visit` every batch in order. An empty segment if there is no
        directory. `head` is for one that has no head yet: see `open`. It takes the place of one
        that has failed, once that one is at rest (`Segment.rest`).

        `keep_prefix` gives up what lies behind a corruption instead of refusing, and keeps the
        bytes as a `.cut` file: for the only copy of a disk that may have lost unsynced writes.
        Raises CorruptSegmentError, FormatVersionError and OSError.
        """
        files = self._files(sid, base_offset, epoch)
        if not files.exists():
            found = Found(end=_empty(base_offset), index=self._index(base_offset))
            return self._add(sid, base_offset, epoch, found, head)
        cut_size = self._cut_corruption(sid, base_offset, epoch) if keep_prefix else 0
        files.settle()
        index = self._index(base_offset)

        def visit_both(position: Position, header: BatchHeader) -> None:
            index.add(header, position)
            visit(header)

        scan, meta = self._scan(files, base_offset, epoch, visit_both)
        found = Found(
            end=scan.end,
            index=index,
            promised_epoch=meta.promised_epoch,
            sealed=meta.state is SegmentState.SEALED,
            torn_size=cut_size + scan.torn_size,
            zeros_size=scan.zeros_size,
        )
        is_headed = files.has_head()
        return self._add(sid, base_offset, epoch, found, None if is_headed else head)

    def _scan(
        self, files: SegmentFiles, base_offset: Offset, epoch: int, visit: Visit
    ) -> tuple[Scan, SegmentMeta]:
        """Read a log file back, cut a torn tail. Raises CorruptSegmentError."""
        fs, meta = self._services.backend.fs, files.meta()
        is_sealed = meta.state is SegmentState.SEALED
        file = files.open_log()
        try:
            scan = recover(
                fs,
                files.log_path,
                file,
                base_offset=base_offset,
                epoch=epoch,
                ack_mark=meta.sealed_end if is_sealed else meta.ack_mark,
                visit=visit,
            )
        finally:
            fs.close(file)
        if is_sealed and meta.end != scan.end:
            raise CorruptSegmentError(
                files.log_path,
                scan.end.size,
                f"it was sealed as {meta.end} and is {scan.end}",
                "Restore the file from another copy",
            )
        return scan, meta

    def _cut_corruption(self, sid: int, base_offset: Offset, epoch: int) -> Size:
        """The bytes given up; 0 if there was no corruption."""
        files = self._files(sid, base_offset, epoch)
        try:
            self._scan(files, base_offset, epoch, lambda position, header: None)
        except CorruptSegmentError as error:
            fs = self._services.backend.fs
            size = fs.path_size(files.log_path)
            if files.meta().state is SegmentState.SEALED or error.path != files.log_path:
                raise
            if error.position < size:
                truncate_at(files.log_path, error.position, fs=fs)
            else:
                # Nothing is damaged, but acknowledged records are missing at the end.
                MetaFile(fs, files.directory / META_NAME).write_lower_ack_mark()
            return size - error.position
        return 0

    def is_sealed_on_disk(self, sid: int) -> bool:
        """Blocking. Whether this copy was closed before the process ended; False if there is none.

        Raises CorruptSegmentError, FormatVersionError and OSError.
        """
        fs, directory = self._services.backend.fs, self._directory / str(sid)
        if not fs.exists(directory):
            return False
        return MetaFile(fs, directory / META_NAME).read().state is SegmentState.SEALED

    def adopt(self, sid: int, base_offset: Offset, end: SegmentEnd) -> Segment:
        """Blocking, but only a look at the size. A sealed segment after a restart.

        Raises CorruptSegmentError if the log file is missing or its size is not that of `end`.
        """
        files = self._files(sid, base_offset, None)
        try:
            size = self._services.backend.fs.path_size(files.log_path)
        except FileNotFoundError:
            size = -1
        if size != end.size:
            why = "it is missing" if size < 0 else f"it has {size} bytes, sealed were {end.size}"
            raise CorruptSegmentError(
                files.log_path, max(0, min(size, end.size)), why, "Restore it from another copy"
            )
        found = Found(end=end, index=None, sealed=True)
        return self._add(sid, base_offset, None, found, None)

    def set_aside(self, sid: int) -> Path:
        """Blocking, after a restart. A copy that may not be trusted is out of the way, and can be
        made anew. Where it is now. Raises OSError."""
        self._segments.pop(sid, None)
        return self._files(sid, 0, None).set_aside()

    # -- emptied: only a window is left

    def is_emptied(self, sid: int) -> bool:
        """The window of this segment is durable here."""
        return sid in self._emptied

    def find_window(self, sid: int) -> bool:
        """Blocking, after a restart: `is_emptied` from here on, if the disk has it. Raises OSError,
        FormatVersionError."""
        if self._window(sid).read() is not None:
            self._emptied.add(sid)
        return sid in self._emptied

    def window(self, sid: int) -> bytes | None:
        """Blocking. What `empty` was given. Raises OSError, FormatVersionError."""
        return self._window(sid).read()

    def empty(self, sid: int, window: bytes, on_done: Callable[[Exception | None], None]) -> None:
        """Keep `window` of the segment, durably, and then delete its files."""

        def written(result: None | Exception) -> None:
            if isinstance(result, Exception):
                on_done(result)
            else:
                self._emptied.add(sid)
                self._remove_segment(sid, on_done)

        self._services.backend.run(partial(self._window(sid).write, window), written)

    # -- deletion

    def drop(self, sid: int, on_done: Callable[[Exception | None], None]) -> None:
        """Delete all that is left of the segment, durably, open or not. Appends still queued are
        forgotten."""
        self._emptied.discard(sid)

        def removed(result: Exception | None) -> None:
            if isinstance(result, Exception):
                on_done(result)
            else:
                self._services.backend.run(self._window(sid).remove, partial(_removed, on_done))

        self._remove_segment(sid, removed)

    def _remove_segment(self, sid: int, on_done: Callable[[Exception | None], None]) -> None:
        segment = self._segments.pop(sid, None)
        if segment is not None:
            segment.stop(partial(segment.remove, partial(_removed, on_done)))
        else:
            # Files of a segment that was never opened: only their directory matters.
            files = self._files(sid, 0, None)
            self._services.backend.run(files.remove, partial(_removed, on_done))

    def delete(self, on_done: Callable[[Exception | None], None]) -> None:
        """Delete the whole topic directory, durably. The log is of no use afterwards."""
        segments, self._segments = self.segments(), {}
        remaining = len(segments)

        def stopped() -> None:
            nonlocal remaining
            remaining -= 1
            if remaining <= 0:
                for segment in segments:
                    segment.forget_file()
                self._services.backend.run(self._remove, partial(_removed, on_done))

        for segment in segments:
            segment.stop(stopped)
        if not segments:
            stopped()

    def _remove(self) -> None:
        """In a job: renamed first, so that what is half deleted is never mistaken for data."""
        fs = self._services.backend.fs
        doomed = self._directory.with_name(self._directory.name + DELETED_SUFFIX)
        if fs.exists(doomed):
            remove_tree(fs, doomed)
        if fs.exists(self._directory):
            fs.rename(self._directory, doomed)
            fs.fsync_dir(doomed.parent)
            remove_tree(fs, doomed)

    def _add(
        self,
        sid: int,
        base_offset: Offset,
        epoch: int | None,
        found: Found,
        head: Callable[[], bytes] | None,
    ) -> Segment:
        before = self._segments.get(sid)
        assert before is None or before.failed is not None, f"segment {sid} is open already"
        segment = Segment(
            self._services,
            self._files(sid, base_offset, epoch),
            sid=sid,
            base_offset=base_offset,
            epoch=epoch,
            found=found,
            make_head=head,
        )
        self._segments[sid] = segment
        return segment

    def _files(self, sid: int, base_offset: Offset, epoch: int | None) -> SegmentFiles:
        fs = self._services.backend.fs
        return SegmentFiles(fs, self._made, sid, base_offset, epoch)

    def _window(self, sid: int) -> WindowFile:
        return WindowFile(self._services.backend.fs, self._made, sid)

    def _index(self, base_offset: Offset) -> SegmentIndex:
        return SegmentIndex(base_offset, interval=self._services.index_interval)


def _removed(on_done: Callable[[Exception | None], None], result: None | Exception) -> None:
    assert result is None or isinstance(result, OSError), result
    on_done(result)


def _empty(base_offset: Offset) -> SegmentEnd:
    return SegmentEnd(base_offset, 0, 0, -1)
