"""The files of one segment copy, and the order in which they become durable. Everything here
blocks.

A segment directory is made under another name, filled, synced and then renamed: one that exists is
complete. One that is deleted is renamed first: half of it is never mistaken for data.
"""

import errno
from dataclasses import replace
from pathlib import Path

from engine.backends import Fs
from engine.batch import Buffer, Size
from engine.errors import CorruptSegmentError
from engine.format import (
    DAMAGED_SUFFIX,
    DELETED_SUFFIX,
    HEAD_NAME,
    META_NAME,
    META_SIZE,
    META_SLOT_SIZE,
    NEW_SUFFIX,
    WINDOW_SUFFIX,
    FormatError,
    SegmentEnd,
    SegmentMeta,
    SegmentState,
    index_name,
    log_name,
    new_meta,
    pack_head,
    pack_meta,
    time_index_name,
    unpack_head,
    unpack_meta,
)
from engine.index import SegmentIndex

_RESTORE = (
    "Restore it from a copy of this very disk, not from that of another node; in a cluster, empty"
    " the data directory and let the node join again, so that it copies everything anew"
)
"""Another node's copy of an open segment may be shorter than what this one has acknowledged."""


class MetaFile:
    """The two-slot meta file. A write never touches the slot that was synced last, so one slot is
    always whole."""

    def __init__(self, fs: Fs, path: Path) -> None:
        self._fs = fs
        self._path = path
        self._current: tuple[SegmentMeta, int] | None = None
        self._synced_slot: int | None = None
        """None: read from a disk that a killed process may have left unsynced."""

    def read(self) -> SegmentMeta:
        """Raises OSError, CorruptSegmentError, FormatVersionError."""
        if self._current is None:
            file = self._fs.open(self._path)
            try:
                meta, slot = unpack_meta(self._fs.pread(file, 0, META_SIZE))
            except FormatError as error:
                raise CorruptSegmentError(self._path, 0, str(error), _RESTORE) from error
            finally:
                self._fs.close(file)
            self._current = meta, slot
            self._synced_slot = None
        return self._current[0]

    def settle(self) -> None:
        """What `read` gives is durable when this returns. Raises as `read` does."""
        self.read()
        if self._synced_slot is None:
            assert self._current is not None
            file = self._fs.open(self._path)
            try:
                self._fs.fsync(file)
            finally:
                self._fs.close(file)
            self._synced_slot = self._current[1]

    def write(self, meta: SegmentMeta, *, sync: bool) -> None:
        """`meta` is a changed copy of what `read` gave; its counter is set here. Raises OSError."""
        meta = replace(meta, counter=self.read().counter + 1)
        self.settle()
        assert self._synced_slot is not None
        file = self._fs.open(self._path)
        try:
            slot = 1 - self._synced_slot
            self._fs.pwrite(file, slot * META_SLOT_SIZE, pack_meta(meta))
            if sync:
                self._fs.fsync(file)
                self._synced_slot = slot
        finally:
            self._fs.close(file)
        self._current = meta, slot

    def write_lower_ack_mark(self) -> None:
        """Forget what was acknowledged, if there is a meta file: an operator gives up records."""
        if self._fs.exists(self._path):
            meta = self.read()
            self.write(replace(meta, ack_mark=meta.base_offset), sync=True)


class TopicDirectory:
    """The directory of a topic, made when its first segment needs it."""

    def __init__(self, fs: Fs, path: Path) -> None:
        self._fs = fs
        self.path = path
        self._is_durable = False

    def make(self) -> None:
        """Durably there when it returns. Raises OSError."""
        if not self._is_durable:
            self._fs.mkdir(self.path)
            # Not only when it is new: whoever made it may not have come to this line yet.
            self._fs.fsync_dir(self.path.parent)
            self._is_durable = True


class SegmentFiles:
    """One segment directory."""

    def __init__(
        self, fs: Fs, topic: TopicDirectory, sid: int, base_offset: int, epoch: int | None
    ) -> None:
        """`epoch` None: not known, so not checked; such a directory cannot be created."""
        self._fs = fs
        self._topic = topic
        self.directory = directory = topic.path / str(sid)
        self.log_path = directory / log_name(base_offset)
        self._base_offset = base_offset
        self._epoch = epoch
        self._meta = MetaFile(fs, directory / META_NAME)

    def exists(self) -> bool:
        return self._fs.exists(self.directory)

    def create(self, head: bytes | None, *, promised_epoch: int = 0) -> None:
        """Make the directory with an empty log, durably. Raises OSError; then nothing of that name
        exists."""
        assert self._epoch is not None
        fs = self._fs
        self._topic.make()
        unfinished = self.directory.with_name(self.directory.name + NEW_SUFFIX)
        if fs.exists(unfinished):
            remove_tree(fs, unfinished)
        fs.mkdir(unfinished)
        meta = replace(
            new_meta(self._base_offset, self._epoch), counter=1, promised_epoch=promised_epoch
        )
        if head is not None:
            self._write(unfinished / HEAD_NAME, pack_head(head))
        self._write(unfinished / META_NAME, pack_meta(meta).ljust(META_SIZE, b"\0"))
        # Its name is what counts: there is nothing in it before the first write has its own sync.
        fs.close(fs.open(unfinished / self.log_path.name, create=True))
        fs.fsync_dir(unfinished)
        fs.rename(unfinished, self.directory)
        fs.fsync_dir(self._topic.path)

    def settle(self) -> None:
        """The names, and what was promised, are durable when this returns: whoever wrote them may
        have been killed before the sync that it owed. Raises as `meta` does."""
        self._meta.settle()
        self._fs.fsync_dir(self.directory)
        self._fs.fsync_dir(self.directory.parent)

    def add_head(self, head: bytes) -> None:
        """To a directory that was made without one. Durable, and whole, when it returns."""
        path = self.directory / HEAD_NAME
        if not self._fs.exists(path):
            unfinished = path.with_name(HEAD_NAME + NEW_SUFFIX)
            self._write(unfinished, pack_head(head))
            self._fs.rename(unfinished, path)
            self._fs.fsync_dir(self.directory)

    def open_log(self) -> int:
        return self._fs.open(self.log_path)

    def cut_log(self, size: Size) -> None:
        """Durably no longer than `size` when it returns."""
        file = self.open_log()
        try:
            if self._fs.size(file) > size:
                self._fs.truncate(file, size)
                self._fs.fsync(file)
        finally:
            self._fs.close(file)

    def meta(self) -> SegmentMeta:
        """Raises OSError, FormatVersionError, and CorruptSegmentError also for another segment's
        meta file."""
        meta = self._meta.read()
        epoch = meta.epoch if self._epoch is None else self._epoch
        if (meta.base_offset, meta.epoch) != (self._base_offset, epoch):
            why = f"it is of base offset {meta.base_offset}, epoch {meta.epoch}"
            path = self.directory / META_NAME
            wanted = f"{why}, not {self._base_offset}, {epoch}"
            raise CorruptSegmentError(path, 0, wanted, _RESTORE)
        return meta

    def promise(self, epoch: int) -> None:
        """Durable when it returns."""
        meta = self.meta()
        if epoch > meta.promised_epoch:
            self._meta.write(replace(meta, promised_epoch=epoch), sync=True)

    def mark_acked(self, end_offset: int) -> None:
        """Without a sync: losing it only makes the mark lower."""
        meta = self.meta()
        if end_offset > meta.ack_mark:
            self._meta.write(replace(meta, ack_mark=end_offset), sync=False)

    def seal(self, end: SegmentEnd, index: SegmentIndex) -> None:
        """The log has been cut to `end` and synced; make everything else final."""
        offsets, times = index.pack()
        self._write(self.directory / index_name(self._base_offset), offsets)
        self._write(self.directory / time_index_name(self._base_offset), times)
        self._fs.fsync_dir(self.directory)
        sealed = replace(
            self.meta(),
            state=SegmentState.SEALED,
            sealed_end=end.end_offset,
            sealed_size=end.size,
            digest=end.digest,
            max_timestamp=end.max_timestamp,
        )
        self._meta.write(sealed, sync=True)

    def has_head(self) -> bool:
        return self._fs.exists(self.directory / HEAD_NAME)

    def head(self) -> bytes | None:
        """None if there is none. Raises OSError, CorruptSegmentError, FormatVersionError."""
        path = self.directory / HEAD_NAME
        if not self._fs.exists(path):
            return None
        try:
            return unpack_head(self._read(path))
        except FormatError as error:
            raise CorruptSegmentError(path, 0, str(error), _RESTORE) from error

    def index(self, size: int, interval: int) -> SegmentIndex | None:
        """As written at the seal; None if it is missing or cannot be true."""
        try:
            offsets = self._read(self.directory / index_name(self._base_offset))
            times = self._read(self.directory / time_index_name(self._base_offset))
        except FileNotFoundError:
            return None
        return SegmentIndex.unpack(self._base_offset, offsets, times, size=size, interval=interval)

    def set_aside(self) -> Path:
        """Out of the way, durably, for whoever wants to look at it; an earlier one goes. Where it
        is now. Raises OSError."""
        aside = self.directory.with_name(self.directory.name + DAMAGED_SUFFIX)
        if self._fs.exists(aside):
            remove_tree(self._fs, aside)
        self._fs.rename(self.directory, aside)
        self._fs.fsync_dir(self.directory.parent)
        return aside

    def remove(self) -> None:
        """Durably gone when it returns, with what was set aside of it; nothing happens if it never
        was. Raises OSError."""
        aside = self.directory.with_name(self.directory.name + DAMAGED_SUFFIX)
        if self._fs.exists(aside):
            remove_tree(self._fs, aside)
        doomed = self.directory.with_name(self.directory.name + DELETED_SUFFIX)
        if self._fs.exists(doomed):
            remove_tree(self._fs, doomed)
        if self._fs.exists(self.directory):
            try:
                self._fs.rename(self.directory, doomed)
                self._fs.fsync_dir(self.directory.parent)
                remove_tree(self._fs, doomed)
            except FileNotFoundError:
                # The whole topic is being deleted at the same time.
                return

    def _write(self, path: Path, data: Buffer) -> None:
        _write(self._fs, path, data)

    def _read(self, path: Path) -> bytes:
        return _read(self._fs, path)


class WindowFile:
    """What is left of a segment that is emptied: one opaque object of the owner."""

    def __init__(self, fs: Fs, topic: TopicDirectory, sid: int) -> None:
        self._fs = fs
        self._topic = topic
        self._path = topic.path / f"{sid}{WINDOW_SUFFIX}"

    def write(self, window: bytes) -> None:
        """Durable when it returns. One that is half written is taken for none: the segment's
        directory is there until this is done."""
        self._topic.make()
        _write(self._fs, self._path, pack_head(window))
        self._fs.fsync_dir(self._topic.path)

    def read(self) -> bytes | None:
        """None if there is none, or none that is whole."""
        if not self._fs.exists(self._path):
            return None
        try:
            return unpack_head(_read(self._fs, self._path))
        except FormatError:
            return None

    def remove(self) -> None:
        """Nothing happens if there is none."""
        if self._fs.exists(self._path):
            self._fs.unlink(self._path)
            self._fs.fsync_dir(self._path.parent)


def _write(fs: Fs, path: Path, data: Buffer) -> None:
    file = fs.open(path, create=True)
    try:
        fs.truncate(file, 0)
        fs.pwrite(file, 0, data)
        fs.fsync(file)
    finally:
        fs.close(file)


def _read(fs: Fs, path: Path) -> bytes:
    file = fs.open(path)
    try:
        return fs.pread(file, 0, fs.size(file))
    finally:
        fs.close(file)


def remove_tree(fs: Fs, directory: Path) -> None:
    """Delete a directory and all that is in it, then sync its parent. Raises
    OSError."""
    _remove_contents(fs, directory)
    fs.rmdir(directory)
    fs.fsync_dir(directory.parent)


def _remove_contents(fs: Fs, directory: Path) -> None:
    for name in fs.listdir(directory):
        path = directory / name
        try:
            fs.unlink(path)
        except FileNotFoundError:
            continue
        except OSError as error:
            # It is a directory: EISDIR on Linux, EPERM by POSIX.
            if error.errno not in (errno.EISDIR, errno.EPERM):
                raise
            _remove_contents(fs, path)
            fs.rmdir(path)
