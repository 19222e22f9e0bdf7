"""The Raft log on disk: entries, term and vote, commit index. Its bytes are drawn in `frames.py`.

A frame is everything that one `sync` made durable, in one write; and it is written only after the
frame before it was durable. So a bad frame at the very end is a torn write that nobody was told
about, and is cut off. A bad frame with a good one behind it was durable once: that is corruption,
and the node refuses to start rather than vote with a hole in its memory.

The mixed-case methods are the interface that pysyncobj asks of a journal.
"""

import struct
from typing import overload

from crc32c import crc32c

from raft import frames
from raft.disk import NEW, Disk, File, write_whole
from raft.errors import REMEDY, CorruptJournalError

Entry = tuple[bytes, int, int]
"""(command, index, term), as pysyncobj wants it."""

JOURNAL_NAME = "journal"
FIRST_INDEX, FIRST_TERM = 1, 0
"""Every log begins after this entry, which nobody ever sends."""
PLACEHOLDER = b"\x01"
"""Command of the entry that the log begins after: pysyncobj's no-op. Its real command is in the
snapshot."""

BUFFER_SIZE_MAX = 1024 * 1024
"""Bytes that may wait for a sync; beyond it the journal syncs by itself."""


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
        self._pending += frames.entry_record(command, idx, term)
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
        self._pending += frames.truncate_record(index)

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
            self._pending += frames.commit_record(self._commit_index)
        frame = frames.frame(self._generation, self._size, bytes(self._pending))
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
        chunks = [frames.header(self._generation)]
        self._size = len(chunks[0])
        records = bytearray(self._hard_record())
        records += frames.base_record(*self._entries[0][1:])
        for entry in self._entries[1:]:
            records += frames.entry_record(*entry)
            if len(records) > BUFFER_SIZE_MAX:
                chunks.append(frames.frame(self._generation, self._size, bytes(records)))
                self._size += len(chunks[-1])
                records.clear()
        records += frames.commit_record(self._commit_index)
        chunks.append(frames.frame(self._generation, self._size, bytes(records)))
        self._size += len(chunks[-1])
        write_whole(self._disk, self._name, chunks)
        self._pending.clear()
        self._commit_is_pending = self._vote_is_pending = False
        return self._disk.open(self._name)

    def _hard_record(self) -> bytes:
        return frames.hard_record(self._term, self._vote)

    # ---- recovery ------------------------------------------------------------------------------

    def _recover(self, data: bytes) -> None:
        self._generation = self._read_header(data)
        end = frames.HEADER.size
        while (records := frames.frame_at(data, end, self._generation)) is not None:
            self._replay(records, end)
            end += frames.FRAME.size + len(records)
        if end == frames.HEADER.size:
            raise self._corrupt(
                end, "the first frame, which is durable before the file has its name, is bad"
            )
        if (good := frames.good_frame_behind(data, end, self._generation)) is not None:
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
        if len(data) < frames.HEADER.size:
            raise self._corrupt(0, "shorter than its header")
        magic, version, generation, crc = frames.HEADER.unpack_from(data)
        if magic != frames.MAGIC or crc != crc32c(data[: frames.HEADER.size - 4]):
            raise self._corrupt(0, "the header is bad")
        if version != frames.FORMAT_VERSION:
            raise self._corrupt(
                8, f"format {version}, and this program reads {frames.FORMAT_VERSION}"
            )
        return int(generation)

    def _replay(self, records: bytes, position: int) -> None:
        """One frame's records. Raises CorruptJournalError when a good CRC covers nonsense: a bug,
        not a bad disk."""
        try:
            for kind, index, term, extra in frames.records_of(records):
                self._replay_one(kind, index, term, extra)
        except (struct.error, ValueError, AssertionError, IndexError) as wrong:
            raise self._corrupt(
                position, f"a frame that contradicts the ones before it ({wrong})"
            ) from wrong

    def _replay_one(self, kind: int, index: int, term: int, extra: bytes) -> None:
        if kind == frames.HARD:
            self._term, self._vote = term, extra.decode() or None
        elif kind == frames.BASE:
            self._entries = [(PLACEHOLDER, index, term)]
            self._commit_index = index
        elif kind == frames.ENTRY:
            if index != self.last_index + 1 or term < self._entries[-1][2]:
                raise ValueError(f"entry {index} of term {term} after entry {self.last_index}")
            self._entries.append((extra, index, term))
        elif kind == frames.TRUNCATE:
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
