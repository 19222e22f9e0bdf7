"""The Raft log on disk: entries, term and vote, commit index.

    file   := header frame*
    header := magic(8) version(u32) generation(u32) crc(u32)
    frame  := size(u32) crc(u32) record*         size of the records together, in bytes
    record := HARD term vote | BASE index term | ENTRY index term command
            | TRUNCATE index | COMMIT index

A frame is everything that one `sync` made durable, in one write; and it is written only after the
frame before it was durable. So a bad frame at the very end is a torn write that nobody was told
about, and is cut off. A bad frame with a good one behind it was durable once: that is corruption,
and the node refuses to start rather than vote with a hole in its memory. The CRC covers the file's
generation and the frame's position, so that neither stale bytes nor bytes inside a command can pass
for a frame.

Byte order is little-endian. The layout is drawn in docs/formats/metadata.md. The mixed-case methods
are the interface that pysyncobj asks of a journal.
"""

import struct
from collections.abc import Iterator
from typing import overload

from crc32c import crc32c

from raft.disk import NEW, Disk, File, write_whole
from raft.errors import REMEDY, CorruptJournalError

Entry = tuple[bytes, int, int]
"""(command, index, term), as pysyncobj wants it."""

JOURNAL_NAME = "journal"
FORMAT_VERSION = 1
FIRST_INDEX, FIRST_TERM = 1, 0
"""Every log begins after this entry, which nobody ever sends."""
PLACEHOLDER = b"\x01"
"""Command of the entry that the log begins after: pysyncobj's no-op. Its real command is in the
snapshot."""

FRAME_SIZE_MAX = 16 * 1024 * 1024
BUFFER_SIZE_MAX = 1024 * 1024
"""Bytes that may wait for a sync; beyond it the journal syncs by itself."""

_MAGIC = b"WALRUSRJ"
_HEADER = struct.Struct("<8sIII")
_FRAME = struct.Struct("<II")
_SEED = struct.Struct("<IQI")

_HARD, _BASE, _ENTRY, _TRUNCATE, _COMMIT = range(1, 6)
_HARD_HEAD = struct.Struct("<BQB")
_BASE_HEAD = struct.Struct("<BQQ")
_ENTRY_HEAD = struct.Struct("<BQQI")
_INDEX_HEAD = struct.Struct("<BQ")


class Journal:
    """The log in memory, and its copy on disk.

    Everything but the syncs, `flush` and the two compactions only touches memory. Raises OSError
    from those; the journal is unusable from then on, because nobody can know what of the last frame
    is on the disk.
    """

    def __init__(self, disk: Disk, name: str = JOURNAL_NAME) -> None:
        """Open or create. Raises CorruptJournalError, OSError."""
        self._disk = disk
        self._name = name
        self._entries: list[Entry] = [(PLACEHOLDER, FIRST_INDEX, FIRST_TERM)]
        self._term = 0
        self._vote: str | None = None
        self._commit_index = FIRST_INDEX
        self._pending = bytearray()
        self._commit_is_pending = False
        self._vote_is_pending = False
        self._failed = False
        self._generation = 0
        self._size = 0
        self.cut_size = 0
        """Bytes of a torn last write that were cut off at the start."""
        disk.remove(name + NEW)
        # An earlier process may have been killed between a rename and this.
        disk.sync_directory()
        data = disk.read(name)
        if data is None:
            self._file: File = self._rewrite()
        else:
            self._recover(data)

    # ---- what pysyncobj asks for ---------------------------------------------------------------

    def add(self, command: bytes, idx: int, term: int) -> None:
        last = self._entries[-1]
        if idx != last[1] + 1 or term < last[2]:
            raise AssertionError(
                f"entry {idx} of term {term} after entry {last[1]} of term {last[2]}"
            )
        self._entries.append((command, idx, term))
        self._pending += _entry_record(command, idx, term)
        if len(self._pending) > BUFFER_SIZE_MAX:
            self.sync()

    def deleteEntriesFrom(self, entryFrom: int) -> None:
        """Drop the entries from list position `entryFrom` on; never one that is committed."""
        index = self._entries[entryFrom][1]
        if index <= self._commit_index:
            raise AssertionError(
                f"entry {index} is committed up to {self._commit_index} and cannot go"
            )
        del self._entries[entryFrom:]
        self._pending += _INDEX_HEAD.pack(_TRUNCATE, index)

    @overload
    def __getitem__(self, at: int) -> Entry: ...
    @overload
    def __getitem__(self, at: slice) -> list[Entry]: ...
    def __getitem__(self, at: int | slice) -> Entry | list[Entry]:
        return self._entries[at]

    def __len__(self) -> int:
        return len(self._entries)

    def setRaftCommitIndex(self, raftCommitIndex: int) -> None:
        """Only what is durable here counts as a copy, so the log is synced before the commit index
        moves."""
        if raftCommitIndex > self._commit_index:
            self.sync()
            self._commit_index = raftCommitIndex
            self._commit_is_pending = True

    def getRaftCommitIndex(self) -> int:
        return self._commit_index

    def setCurrentTerm(self, term: int, votedForNodeId: str | None) -> None:
        if (term, votedForNodeId) != (self._term, self._vote):
            self._term, self._vote = term, votedForNodeId
            self._pending += self._hard_record()
            self._vote_is_pending = True

    def getCurrentTerm(self) -> int:
        return self._term

    def getVotedForNodeId(self) -> str | None:
        return self._vote

    def onOneSecondTimer(self) -> None:
        self.flush()

    def _destroy(self) -> None:
        self.close()

    # ---- durability ----------------------------------------------------------------------------

    @property
    def size(self) -> int:
        """Bytes on disk."""
        return self._size

    @property
    def first_index(self) -> int:
        """Index of the entry that the log begins after; it is here in name only."""
        return self._entries[0][1]

    @property
    def last_index(self) -> int:
        return self._entries[-1][1]

    def term_at(self, index: int) -> int | None:
        """Term of the entry at `index`; None when it is not (or no longer) here."""
        at = index - self.first_index
        return self._entries[at][2] if 0 <= at < len(self._entries) else None

    def sync(self) -> None:
        """Everything said so far is durable when this returns. Costs nothing when nothing is new.

        The commit index alone is no reason to write: Raft finds it again by itself.
        """
        if self._failed:
            raise OSError("the journal failed before and is not to be trusted")
        if self._pending:
            self._write_frame()

    def sync_vote(self) -> None:
        """Term and vote are durable when this returns; entries written since may not be yet."""
        if self._vote_is_pending or self._failed:
            self.sync()

    def flush(self) -> None:
        """As `sync`, with the commit index. It closes the last frame: a frame behind it proves it
        was durable."""
        if self._commit_is_pending and not self._failed:
            self._write_frame()

    def close(self) -> None:
        self._file.close()

    def compact_to(self, index: int) -> None:
        """Let the log begin after entry `index`, which a durable snapshot holds. Entries behind it
        stay."""
        at = index - self.first_index
        if at <= 0:
            return
        assert index <= self._commit_index, f"entry {index} is not committed"
        self._entries = [(PLACEHOLDER, *self._entries[at][1:]), *self._entries[at + 1 :]]
        self._replace_file()

    def reset(self, index: int, term: int) -> None:
        """Let the log begin after entry `index` of `term`, empty: a durable snapshot says so."""
        self._entries = [(PLACEHOLDER, index, term)]
        self._commit_index = max(self._commit_index, index)
        self._replace_file()

    # ---- writing -------------------------------------------------------------------------------

    def _write_frame(self) -> None:
        if self._commit_is_pending:
            self._pending += _INDEX_HEAD.pack(_COMMIT, self._commit_index)
        frame = _frame(self._generation, self._size, bytes(self._pending))
        self._failed = True  # Until both calls have returned.
        self._file.append(frame)
        self._file.sync()
        self._failed = False
        self._size += len(frame)
        self._pending.clear()
        self._commit_is_pending = self._vote_is_pending = False

    def _replace_file(self) -> None:
        self._failed = True
        self._file.close()
        self._file = self._rewrite()
        self._failed = False

    def _rewrite(self) -> File:
        """Write the whole log into a new file. A crash leaves the old file or the new one, each of
        them true."""
        self._generation += 1
        head = _HEADER.pack(_MAGIC, FORMAT_VERSION, self._generation, 0)[:-4]
        chunks = [head + struct.pack("<I", crc32c(head))]
        self._size = len(chunks[0])
        records = bytearray(self._hard_record())
        records += _BASE_HEAD.pack(_BASE, *self._entries[0][1:])
        for entry in self._entries[1:]:
            records += _entry_record(*entry)
            if len(records) > BUFFER_SIZE_MAX:
                chunks.append(_frame(self._generation, self._size, bytes(records)))
                self._size += len(chunks[-1])
                records.clear()
        records += _INDEX_HEAD.pack(_COMMIT, self._commit_index)
        chunks.append(_frame(self._generation, self._size, bytes(records)))
        self._size += len(chunks[-1])
        write_whole(self._disk, self._name, chunks)
        self._pending.clear()
        self._commit_is_pending = self._vote_is_pending = False
        return self._disk.open(self._name)

    def _hard_record(self) -> bytes:
        vote = (self._vote or "").encode()
        return _HARD_HEAD.pack(_HARD, self._term, len(vote)) + vote

    # ---- recovery ------------------------------------------------------------------------------

    def _recover(self, data: bytes) -> None:
        self._generation = self._read_header(data)
        end = _HEADER.size
        while (records := _frame_at(data, end, self._generation)) is not None:
            self._replay(records, end)
            end += _FRAME.size + len(records)
        if end == _HEADER.size:
            raise self._corrupt(
                end, "the first frame, which is durable before the file has its name, is bad"
            )
        if (good := _good_frame_behind(data, end, self._generation)) is not None:
            raise self._corrupt(
                end, f"a bad frame, but there is a good one behind it, at position {good}"
            )
        self._file = self._disk.open(self._name)
        self.cut_size = len(data) - end
        if self.cut_size:
            self._file.truncate(end)
        # Also without a cut: what a killed process wrote but never synced is answered for from now.
        self._file.sync()
        self._size = end

    def _read_header(self, data: bytes) -> int:
        if len(data) < _HEADER.size:
            raise self._corrupt(0, "shorter than its header")
        magic, version, generation, crc = _HEADER.unpack_from(data)
        if magic != _MAGIC or crc != crc32c(data[: _HEADER.size - 4]):
            raise self._corrupt(0, "the header is bad")
        if version != FORMAT_VERSION:
            raise self._corrupt(8, f"format {version}, and this program reads {FORMAT_VERSION}")
        return int(generation)

    def _replay(self, records: bytes, position: int) -> None:
        """One frame's records. Raises CorruptJournalError when a good CRC covers nonsense: a bug,
        not a bad disk."""
        try:
            for kind, index, term, extra in _records(records):
                self._replay_one(kind, index, term, extra)
        except (struct.error, ValueError, AssertionError, IndexError) as wrong:
            raise self._corrupt(
                position, f"a frame that contradicts the ones before it ({wrong})"
            ) from wrong

    def _replay_one(self, kind: int, index: int, term: int, extra: bytes) -> None:
        if kind == _HARD:
            self._term, self._vote = term, extra.decode() or None
        elif kind == _BASE:
            self._entries = [(PLACEHOLDER, index, term)]
            self._commit_index = index
        elif kind == _ENTRY:
            if index != self.last_index + 1 or term < self._entries[-1][2]:
                raise ValueError(f"entry {index} of term {term} after entry {self.last_index}")
            self._entries.append((extra, index, term))
        elif kind == _TRUNCATE:
            if not self._commit_index < index <= self.last_index:
                raise ValueError(
                    f"truncation to {index} outside {self._commit_index}..{self.last_index}"
                )
            del self._entries[index - self.first_index :]
        else:
            if not self._commit_index <= index <= self.last_index:
                raise ValueError(f"commit {index} outside {self._commit_index}..{self.last_index}")
            self._commit_index = index

    def _corrupt(self, position: int, text: str) -> CorruptJournalError:
        return CorruptJournalError(
            f"{self._disk.describe(self._name)}, position {position}: {text}. The metadata journal"
            f" was damaged after it was written. {REMEDY}"
        )


def _entry_record(command: bytes, index: int, term: int) -> bytes:
    return _ENTRY_HEAD.pack(_ENTRY, index, term, len(command)) + command


def _frame(generation: int, position: int, records: bytes) -> bytes:
    return _FRAME.pack(len(records), _frame_crc(generation, position, records)) + records


def _frame_crc(generation: int, position: int, records: bytes) -> int:
    return crc32c(records, crc32c(_SEED.pack(generation, position, len(records))))


def _frame_at(data: bytes, position: int, generation: int) -> bytes | None:
    """The records of the frame at `position`; None when there is no good frame."""
    if position + _FRAME.size > len(data):
        return None
    size, crc = _FRAME.unpack_from(data, position)
    start = position + _FRAME.size
    if not 0 < size <= min(FRAME_SIZE_MAX, len(data) - start):
        return None
    records = data[start : start + size]
    return records if _frame_crc(generation, position, records) == crc else None


def _good_frame_behind(data: bytes, bad: int, generation: int) -> int | None:
    """Any position counts: the size field of the bad frame may be what is bad."""
    for position in range(bad + 1, len(data) - _FRAME.size):
        if _frame_at(data, position, generation) is not None:
            return position
    return None


def _records(data: bytes) -> Iterator[tuple[int, int, int, bytes]]:
    """(kind, index, term, rest) of each record; fields a kind does not have are 0 or empty."""
    at = 0
    while at < len(data):
        kind = data[at]
        if kind == _HARD:
            _, term, size = _HARD_HEAD.unpack_from(data, at)
            at += _HARD_HEAD.size + size
            yield kind, 0, term, data[at - size : at]
        elif kind == _BASE:
            _, index, term = _BASE_HEAD.unpack_from(data, at)
            at += _BASE_HEAD.size
            yield kind, index, term, b""
        elif kind == _ENTRY:
            _, index, term, size = _ENTRY_HEAD.unpack_from(data, at)
            at += _ENTRY_HEAD.size + size
            yield kind, index, term, data[at - size : at]
        elif kind in (_TRUNCATE, _COMMIT):
            _, index = _INDEX_HEAD.unpack_from(data, at)
            at += _INDEX_HEAD.size
            yield kind, index, 0, b""
        else:
            raise ValueError(f"record of unknown kind {kind}")
