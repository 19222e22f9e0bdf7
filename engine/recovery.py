"""Reading a log file back after a restart: cut a torn tail, refuse corruption in the middle.
Blocking.

A batch is good if its header is sane, it fits in the file, its base offset continues the one
before, its epoch is the segment's, and its CRC holds. The first bad one decides (source:
Protocol-Aware Recovery, FAST'18):

  * Nothing valid after it, and everything acknowledged before it: the power went. Cut it off.
  * A valid batch after it, or the end below the ack mark: this copy cannot vouch. Refuse it.

Refusing changes nothing on disk; the error names the file, the byte, and what an operator can do.
"""

from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import NamedTuple

from crc32c import crc32c

from engine.backends import Fs
from engine.batch import (
    HEADER_SIZE,
    MAGIC,
    BatchHeader,
    Offset,
    Position,
    Size,
    check_batch,
    parse_header,
)
from engine.errors import CorruptBatchError, CorruptSegmentError
from engine.format import META_NAME, NEW_SUFFIX, SegmentEnd
from engine.segment_files import MetaFile

CHUNK_SIZE: Size = 4 * 1024 * 1024
"""Read at once. Memory needed is this or the largest batch, whichever is larger."""

Visit = Callable[[Position, BatchHeader], None]


class Scan(NamedTuple):
    """What a log file holds."""

    end: SegmentEnd
    torn_size: Size
    """Bytes after the last good batch, unless all are zeros. `recover` has cut them off."""
    why_torn: str
    """"" if nothing was cut."""
    zeros_size: Size
    """Bytes after the last good batch, if all are zeros: they wait for what is written next."""


def recover(
    fs: Fs,
    path: Path,
    file: int,
    *,
    base_offset: Offset,
    epoch: int,
    ack_mark: Offset,
    visit: Visit,
) -> Scan:
    """Check every batch, `visit(position, header)` the good ones in order, cut a torn tail, and
    sync.

    Raises CorruptSegmentError, before anything is changed, and OSError.
    """
    scan = scan_log(fs, file, base_offset=base_offset, epoch=epoch, visit=visit)
    bad = scan.end.size
    if scan.torn_size:
        after = _find_batch(fs, file, bad + 1, offset_min=scan.end.end_offset, epoch=epoch)
        if after is not None:
            raise _corrupt(path, bad, f"{scan.why_torn}, but a valid batch follows at {after}")
    if scan.end.end_offset < ack_mark:
        why = scan.why_torn or "the log ends here"
        raise _corrupt(path, bad, f"{why}, but records below offset {ack_mark} were acknowledged")
    if scan.torn_size:
        fs.truncate(file, bad)
    # Also without a cut: bytes that a killed process wrote but never synced must not count as
    # durable.
    fs.fsync(file)
    return scan


def scan_log(
    fs: Fs, file: int, *, base_offset: Offset, epoch: int, visit: Visit, size: Size | None = None
) -> Scan:
    """Walk a log from its start to its first bad batch (or to `size`) and change nothing. Raises
    OSError."""
    file_size = fs.size(file) if size is None else size
    position, offset, digest, max_timestamp, why = 0, base_offset, 0, -1, ""
    walk = _Walk(fs, file, file_size)
    try:
        for position, header, chunk, start in walk:
            if header.base_offset != offset:
                raise CorruptBatchError(f"base offset {header.base_offset} instead of {offset}")
            if header.leader_epoch != epoch:
                raise CorruptBatchError(f"leader epoch {header.leader_epoch} instead of {epoch}")
            check_batch(chunk, header, start)
            digest = crc32c(chunk[start : start + HEADER_SIZE], digest)
            offset = header.next_offset
            max_timestamp = max(max_timestamp, header.max_timestamp)
            visit(position, header)
            position += header.size
    except CorruptBatchError as error:
        why = f"{error.reason} (batch at offset {offset})"
        position = walk.position
    end = SegmentEnd(offset, position, digest, max_timestamp)
    rest = file_size - position
    if is_zeros(partial(fs.pread, file), position, file_size):
        return Scan(end, 0, "", rest)
    return Scan(end, rest, why, 0)


def is_zeros(read: Callable[[Position, Size], bytes], position: Position, end: Position) -> bool:
    """Everything between the two, which `read` gives; also if that is nothing."""
    chunks = (
        read(start, min(CHUNK_SIZE, end - start)) for start in range(position, end, CHUNK_SIZE)
    )
    return all(chunk.count(0) == len(chunk) for chunk in chunks)


class _Walk:
    """Iterates (position, header, chunk, start in chunk), reading big chunks. `position` is that of
    the current batch.

    Raises CorruptBatchError at bytes that are no header or at a batch that leaves the file.
    """

    def __init__(self, fs: Fs, file: int, size: Size) -> None:
        self._fs = fs
        self._file = file
        self._size = size
        self.position: Position = 0

    def __iter__(self) -> Iterator[tuple[Position, BatchHeader, memoryview, Position]]:
        chunk, chunk_position = memoryview(b""), 0
        while self.position < self._size:
            start = self.position - chunk_position
            if len(chunk) - start < HEADER_SIZE:
                chunk, chunk_position, start = self._read(CHUNK_SIZE), self.position, 0
            header = parse_header(chunk, start)
            if header.size > self._size - self.position:
                rest = self._size - self.position
                raise CorruptBatchError(f"{rest} bytes are left of a batch of {header.size}")
            if len(chunk) - start < header.size:
                wanted = max(CHUNK_SIZE, header.size)
                chunk, chunk_position, start = self._read(wanted), self.position, 0
            yield self.position, header, chunk, start
            self.position += header.size

    def _read(self, size: Size) -> memoryview:
        size = min(size, self._size - self.position)
        return memoryview(self._fs.pread(self._file, self.position, size))


def _find_batch(
    fs: Fs, file: int, position: Position, *, offset_min: Offset, epoch: int
) -> Position | None:
    """Where a valid batch of this segment starts at or after `position`, if anywhere.

    Looks for the five bytes that every batch of the segment has, its epoch and magic, then checks
    around them.
    """
    file_size = fs.size(file)
    mark = epoch.to_bytes(4, signed=True) + bytes([MAGIC])
    mark_position = 12
    while position + HEADER_SIZE <= file_size:
        data = fs.pread(file, position, min(CHUNK_SIZE, file_size - position))
        found = data.find(mark, mark_position)
        while found >= 0:
            candidate = position + found - mark_position
            if _is_batch(fs, file, candidate, file_size, offset_min):
                return candidate
            found = data.find(mark, found + 1)
        position += max(1, len(data) - mark_position - len(mark) + 1)
    return None


def _is_batch(fs: Fs, file: int, position: Position, file_size: Size, offset_min: Offset) -> bool:
    try:
        header = parse_header(fs.pread(file, position, HEADER_SIZE))
        if header.base_offset < offset_min or header.size > file_size - position:
            return False
        check_batch(fs.pread(file, position, header.size), header)
    except CorruptBatchError:
        return False
    return True


def _corrupt(path: Path, position: Position, why: str) -> CorruptSegmentError:
    return CorruptSegmentError(
        path,
        position,
        why,
        "Restore the file from another copy; or, to give up everything from this byte on, run "
        f"`walrus truncate {path} {position}` while the node is stopped (it saves what it cuts)",
    )


def truncate_at(path: Path, position: Position, *, fs: Fs) -> Path:
    """Cut a log file by an operator's decision; the bytes go to `<file>.<position>.cut`, whose path
    is returned.

    Also forgets the segment's ack mark, which would refuse the shorter file for ever. The segment
    must not be open. Repeating an interrupted cut is fine. Raises ValueError if the file is not
    longer than `position` or something else was cut here before, and OSError.
    """
    file = fs.open(path)
    saved = path.with_name(f"{path.name}.{position}.cut")
    try:
        size = fs.size(file)
        if not 0 <= position < size:
            raise ValueError(f"{path} has {size} bytes: nothing to cut at {position}")
        if fs.exists(saved) and fs.path_size(saved) != size - position:
            raise ValueError(f"{saved} exists: move it away first")
        _copy_tail(fs, file, position, size, saved)
        fs.fsync_dir(path.parent)
        MetaFile(fs, path.parent / META_NAME).write_lower_ack_mark()
        fs.truncate(file, position)
        fs.fsync(file)
    finally:
        fs.close(file)
    return saved


def _copy_tail(fs: Fs, source: int, position: Position, size: Size, saved: Path) -> None:
    unfinished = saved.with_name(saved.name + NEW_SUFFIX)
    target = fs.open(unfinished, create=True)
    try:
        fs.truncate(target, 0)
        for start in range(position, size, CHUNK_SIZE):
            data = fs.pread(source, start, min(CHUNK_SIZE, size - start))
            fs.pwrite(target, start - position, data)
        fs.fsync(target)
    finally:
        fs.close(target)
    fs.rename(unfinished, saved)
