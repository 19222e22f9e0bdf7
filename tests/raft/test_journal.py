"""Torn writes, flipped bits, power cuts, kills: the journal forgets nothing that was promised."""

import random
from collections.abc import Callable
from pathlib import Path

import pytest

from raft import frames
from raft.disk import OsDisk
from raft.errors import CorruptJournalError
from raft.frames import FORMAT_VERSION
from raft.journal import BUFFER_SIZE_MAX, JOURNAL_NAME, Entry, Journal
from tests.raft.support import seeded
from tests.raft.test_commands import golden
from tests.sim.raft.disk import PowerCut, SimDisk

Memory = tuple[list[Entry], int, str | None]


def memory(journal: Journal) -> Memory:
    """All that Raft relies on. The commit index is only ever a lower bound."""
    return journal[:], journal.getCurrentTerm(), journal.getVotedForNodeId()


def filled(disk: SimDisk | OsDisk, entries: int = 5) -> Journal:
    """One frame for each entry, a vote before them, and a closing frame behind."""
    journal = Journal(disk)
    journal.setCurrentTerm(3, "b")
    journal.sync()
    for index in range(2, 2 + entries):
        journal.add(b"\x00command %d" % index, index, 3)
        journal.sync()
    return journal


def content(disk: SimDisk) -> bytes:
    data = disk.read(JOURNAL_NAME)
    assert data is not None
    return data


def test_a_new_journal_remembers_across_a_restart(tmp_path: Path) -> None:
    journal = filled(OsDisk(tmp_path / "deep" / "raft"))
    journal.setRaftCommitIndex(4)
    journal.flush()
    journal.close()
    again = Journal(OsDisk(tmp_path / "deep" / "raft"))
    assert memory(again) == memory(journal)
    assert again.getRaftCommitIndex() == 4
    assert (again.first_index, again.last_index, again.cut_size) == (1, 6, 0)
    assert (again.term_at(6), again.term_at(7), again.term_at(0)) == (3, None, None)


def test_term_and_vote_can_be_made_durable_without_waiting_for_entries() -> None:
    disk = SimDisk(seeded(1))
    journal = filled(disk)
    journal.add(b"\x00later", 7, 3)
    before = content(disk)
    journal.sync_vote()
    assert content(disk) == before
    journal.setCurrentTerm(4, "c")
    journal.sync_vote()
    assert memory(Journal(disk.after_power_cut()))[1:] == (4, "c")


def test_a_vote_given_later_in_a_term_is_remembered() -> None:
    disk = SimDisk(seeded(1))
    journal = filled(disk)
    journal.setCurrentTerm(4, None)
    journal.sync()
    journal.setCurrentTerm(4, "c")
    journal.sync_vote()
    assert memory(Journal(disk.after_power_cut()))[1:] == (4, "c")


def test_what_was_not_synced_is_not_promised() -> None:
    disk = SimDisk(seeded(1))
    journal = filled(disk)
    before = memory(journal)
    journal.add(b"\x00lost", 7, 3)
    assert memory(Journal(disk.after_kill())) == ([*before[0]], 3, "b")


def test_truncated_entries_stay_away() -> None:
    disk = SimDisk(seeded(1))
    journal = filled(disk)
    journal.deleteEntriesFrom(3)
    journal.add(b"\x00other", 4, 4)
    journal.sync()
    again = Journal(disk.after_kill())
    assert memory(again) == memory(journal)
    assert again[-1] == (b"\x00other", 4, 4)


def test_a_journal_torn_at_every_byte_keeps_what_was_synced_before() -> None:
    disk = SimDisk(seeded(1))
    journal = Journal(disk)
    journal.setCurrentTerm(1, "a")
    journal.sync()
    synced = {len(content(disk)): memory(journal)}
    for index in range(2, 6):
        journal.add(b"\x00" + bytes(index), index, 1)
        journal.sync()
        synced[len(content(disk))] = memory(journal)
    whole = content(disk)
    for size in range(min(synced), len(whole) + 1):
        torn = SimDisk(disk.rng)
        torn.write(JOURNAL_NAME, whole[:size])
        reopened = Journal(torn)
        durable = max(at for at in synced if at <= size)
        assert memory(reopened) == synced[durable]
        assert reopened.cut_size == size - durable
        assert len(content(torn)) == durable


@pytest.mark.parametrize("tail", [bytes(3), bytes(1000), b"\xff" * 1000])
def test_an_unwritten_tail_is_cut(tail: bytes) -> None:
    disk = SimDisk(seeded(1))
    before = memory(filled(disk))
    disk.write(JOURNAL_NAME, content(disk) + tail)
    assert memory(Journal(disk)) == before
    assert memory(Journal(disk)) == before


def test_a_flipped_bit_is_noticed_wherever_it_is() -> None:
    """Before the last frame it is corruption; in the last frame it looks like a torn write, and
    only that frame goes."""
    disk = SimDisk(seeded(1))
    journal = filled(disk, entries=3)
    last_frame = len(content(disk))
    journal.add(b"\x00last", 5, 3)
    expected = memory(filled(SimDisk(seeded(1)), entries=3))
    journal.sync()
    whole = content(disk)
    for position in range(len(whole)):
        flipped = bytearray(whole)
        flipped[position] ^= 1 << (position % 8)
        damaged = SimDisk(disk.rng)
        damaged.write(JOURNAL_NAME, bytes(flipped))
        if position < last_frame:
            with pytest.raises(CorruptJournalError, match="disk/journal, position"):
                Journal(damaged)
        else:
            assert memory(Journal(damaged)) == expected


def test_a_closed_last_frame_cannot_pass_for_a_torn_write() -> None:
    disk = SimDisk(seeded(1))
    journal = filled(disk)
    end = len(content(disk))
    journal.setRaftCommitIndex(6)
    journal.onOneSecondTimer()
    flipped = bytearray(content(disk))
    flipped[end - 1] ^= 1
    disk.write(JOURNAL_NAME, bytes(flipped))
    with pytest.raises(CorruptJournalError, match="a good one behind it"):
        Journal(disk)


def test_an_idle_journal_writes_nothing() -> None:
    """A frame without records would look like the end, and what follows it like corruption."""
    disk = SimDisk(seeded(1))
    journal = filled(disk)
    journal.setRaftCommitIndex(6)
    journal.onOneSecondTimer()
    before = content(disk)
    journal.onOneSecondTimer()
    journal.sync()
    assert content(disk) == before


def test_a_copy_of_a_frame_inside_a_command_is_no_frame() -> None:
    disk = SimDisk(seeded(1))
    journal = filled(disk, entries=1)
    stolen = content(disk)[-60:]
    end = len(content(disk))
    journal.add(b"\x00" + stolen * 3, 3, 3)
    journal.sync()
    disk.write(JOURNAL_NAME, content(disk)[:-1])
    assert Journal(disk).last_index == 2
    assert len(content(disk)) == end


def test_what_the_disk_still_has_of_an_earlier_file_is_no_frame() -> None:
    """A file that took over another one's blocks, and lost power before its own were written."""
    disk = SimDisk(seeded(1))
    journal = Journal(disk)
    size = journal.size
    for index in (2, 3):
        journal.add(b"\x00overruled", index, 1)
        journal.sync()
    earlier = content(disk)
    journal.reset(1, 0)
    assert journal.size == size
    disk.write(JOURNAL_NAME, content(disk) + earlier[size:])
    assert memory(Journal(disk)) == memory(journal)


NONSENSE = {
    "gap": frames.entry_record(b"\x00", 8, 3),
    "past term": frames.entry_record(b"\x00", 7, 2),
    "half an entry": frames.entry_record(b"\x00", 7, 3)[:9],
    "truncates what is committed": frames.truncate_record(4),
    "truncates what is not there": frames.truncate_record(8),
    "commits what is not there": frames.commit_record(7),
    "takes a commit back": frames.commit_record(3),
    "unknown kind": b"\x09",
}


@pytest.mark.parametrize("records", NONSENSE.values(), ids=NONSENSE)
def test_a_good_checksum_over_nonsense_is_noticed(records: bytes) -> None:
    """A bug wrote it, not a disk: better no vote than one with a hole in its memory."""
    disk = SimDisk(seeded(1))
    journal = filled(disk)
    journal.setRaftCommitIndex(4)
    journal.flush()
    disk.write(JOURNAL_NAME, content(disk) + frames.frame(1, journal.size, records))
    with pytest.raises(CorruptJournalError, match="contradicts"):
        Journal(disk)


def test_a_journal_of_a_later_format_is_not_guessed_at() -> None:
    disk = SimDisk(seeded(1))
    filled(disk)
    header = frames.header(1, version=FORMAT_VERSION + 1)
    disk.write(JOURNAL_NAME, header + content(disk)[len(header) :])
    with pytest.raises(CorruptJournalError, match="format 2"):
        Journal(disk)


@pytest.mark.parametrize(
    "data", [b"", b"WALRUSRJ", b"X" * 100, bytes(20)], ids=["empty", "short", "alien", "zeros"]
)
def test_a_file_that_is_no_journal_is_refused(data: bytes) -> None:
    disk = SimDisk(seeded(1))
    disk.write(JOURNAL_NAME, data)
    with pytest.raises(CorruptJournalError, match="position 0"):
        Journal(disk)


def test_a_journal_cut_to_its_header_is_refused() -> None:
    disk = SimDisk(seeded(1))
    filled(disk)
    disk.write(JOURNAL_NAME, content(disk)[:20])
    with pytest.raises(CorruptJournalError, match="first frame"):
        Journal(disk)


def test_compaction_keeps_the_suffix_the_vote_and_the_commit() -> None:
    disk = SimDisk(seeded(1))
    journal = filled(disk)
    journal.setRaftCommitIndex(5)
    journal.compact_to(4)
    assert journal[:] == [(b"\x01", 4, 3), (b"\x00command 5", 5, 3), (b"\x00command 6", 6, 3)]
    again = Journal(disk.after_power_cut())
    assert memory(again) == memory(journal)
    assert (again.first_index, again.getRaftCommitIndex()) == (4, 5)
    journal.compact_to(3)
    assert journal.first_index == 4


def test_what_waits_for_its_sync_while_the_log_is_compacted_is_there_once() -> None:
    disk = SimDisk(seeded(1))
    journal = filled(disk)
    journal.setRaftCommitIndex(5)
    journal.add(b"\x00waits", 7, 3)
    journal.setCurrentTerm(4, "c")
    journal.compact_to(4)
    assert memory(Journal(disk.after_power_cut())) == memory(journal)
    journal.add(b"\x00next", 8, 4)
    journal.sync()
    assert memory(Journal(disk.after_power_cut())) == memory(journal)


def test_a_snapshot_from_elsewhere_begins_a_new_log() -> None:
    disk = SimDisk(seeded(1))
    journal = filled(disk)
    journal.reset(100, 9)
    journal.add(b"\x00next", 101, 9)
    journal.sync()
    again = Journal(disk.after_kill())
    assert again[:] == [(b"\x01", 100, 9), (b"\x00next", 101, 9)]
    assert memory(again) == memory(journal)


def grow(journal: Journal) -> None:
    journal.add(b"\x00more", journal.last_index + 1, 9)
    journal.sync()


def shrink(journal: Journal) -> None:
    journal.setRaftCommitIndex(5)
    journal.compact_to(4)


def restart(journal: Journal) -> None:
    journal.reset(100, 9)


@pytest.mark.parametrize("change", [grow, shrink, restart], ids=lambda each: each.__name__)
@pytest.mark.parametrize("power", [False, True], ids=["kill", "power cut"])
def test_dying_at_every_disk_operation_leaves_the_old_log_or_the_new(
    change: Callable[[Journal], None], power: bool
) -> None:
    rng = seeded(random.randrange(2**32))
    for die_at in range(1, 20):
        for _ in range(20 if power else 1):
            disk = SimDisk(rng)
            journal = filled(disk)
            before = memory(journal)
            if not _dies(disk, journal, change, die_at):
                return
            after = memory(_changed(change))
            survivor = Journal(disk.after_power_cut() if power else disk.after_kill())
            assert memory(survivor) in (before, after)
            grow(survivor)
            assert memory(Journal(survivor._disk.after_kill())) == memory(survivor)  # type: ignore[attr-defined]
    pytest.fail("the change has more operations than this test expects")


@pytest.mark.parametrize("change", [grow, shrink, restart], ids=lambda each: each.__name__)
def test_a_power_cut_takes_nothing_that_a_restart_has_read_back(
    change: Callable[[Journal], None],
) -> None:
    """A process is killed between a write, or a rename, and its sync; the next one votes and
    acknowledges by what it finds in the page cache, and then the power goes."""
    rng = seeded(random.randrange(2**32))
    for die_at in range(1, 20):
        for _ in range(20):
            disk = SimDisk(rng)
            journal = filled(disk)
            if not _dies(disk, journal, change, die_at):
                return
            read_back = Journal(killed := disk.after_kill())
            assert memory(Journal(killed.after_power_cut())) == memory(read_back)
            grow(read_back)
            assert memory(Journal(killed.after_power_cut())) == memory(read_back)
    pytest.fail("the change has more operations than this test expects")


def _changed(change: Callable[[Journal], None]) -> Journal:
    journal = filled(SimDisk(random.Random(1)))
    change(journal)
    return journal


def _dies(disk: SimDisk, journal: Journal, change: Callable[[Journal], None], die_at: int) -> bool:
    """Whether the change was still under way at its operation number `die_at`."""
    left = die_at

    def count(_operation: str) -> None:
        nonlocal left
        left -= 1
        if left <= 0:
            raise PowerCut

    disk.on_operation = count
    try:
        change(journal)
    except PowerCut:
        return True
    finally:
        disk.on_operation = lambda _operation: None
    return False


def test_a_disk_that_failed_once_is_never_asked_again() -> None:
    disk = SimDisk(seeded(1))
    journal = filled(disk)

    def fail(operation: str) -> None:
        if operation.startswith("sync"):
            raise OSError("I/O error")

    journal.setRaftCommitIndex(6)
    disk.on_operation = fail
    journal.add(b"\x00x", 7, 3)
    with pytest.raises(OSError, match="I/O error"):
        journal.sync()
    disk.on_operation = lambda _operation: None
    before = content(disk)
    for step in (journal.sync, journal.sync_vote, lambda: journal.setRaftCommitIndex(7)):
        with pytest.raises(OSError, match="failed before"):
            step()
    journal.flush()
    assert content(disk) == before


@pytest.mark.parametrize("change", [shrink, restart], ids=lambda each: each.__name__)
def test_a_journal_that_could_not_be_replaced_is_never_written_to_again(
    change: Callable[[Journal], None],
) -> None:
    """Its name belongs to another file by now, perhaps: nobody would find what is written."""
    disk = SimDisk(seeded(1))
    journal = filled(disk)

    def fail(operation: str) -> None:
        if operation == "sync directory":
            raise OSError("I/O error")

    disk.on_operation = fail
    with pytest.raises(OSError, match="I/O error"):
        change(journal)
    disk.on_operation = lambda _operation: None
    journal.setCurrentTerm(9, "c")
    with pytest.raises(OSError, match="failed before"):
        journal.sync()


def test_nothing_out_of_order_gets_in() -> None:
    journal = filled(SimDisk(seeded(1)))
    with pytest.raises(AssertionError):
        journal.add(b"\x00gap", 8, 3)
    with pytest.raises(AssertionError):
        journal.add(b"\x00past", 7, 2)
    journal.setRaftCommitIndex(4)
    with pytest.raises(AssertionError, match="committed"):
        journal.deleteEntriesFrom(3)
    with pytest.raises(AssertionError, match="not committed"):
        journal.compact_to(5)


def test_the_commit_index_moves_only_over_what_is_durable() -> None:
    disk = SimDisk(seeded(1))
    journal = filled(disk)
    journal.add(b"\x00x", 7, 3)
    journal.setRaftCommitIndex(7)
    assert Journal(disk.after_power_cut()).last_index == 7
    journal.setRaftCommitIndex(3)
    assert journal.getRaftCommitIndex() == 7


def test_a_big_burst_goes_to_disk_in_pieces(monkeypatch: pytest.MonkeyPatch) -> None:
    """None of them above what a start will read."""
    monkeypatch.setattr(frames, "FRAME_SIZE_MAX", BUFFER_SIZE_MAX + 100_000)
    disk = SimDisk(seeded(1))
    journal = filled(disk)
    for index in range(7, 50):
        journal.add(b"\x00" + bytes(60_000), index, 3)
    assert len(content(disk)) > BUFFER_SIZE_MAX
    journal.setRaftCommitIndex(49)
    journal.compact_to(6)
    assert memory(Journal(disk.after_power_cut())) == memory(journal)


def test_old_journals_stay_readable() -> None:
    disk = SimDisk(seeded(1))
    journal = filled(disk)
    journal.deleteEntriesFrom(4)
    journal.setRaftCommitIndex(4)
    journal.setCurrentTerm(4, None)
    journal.sync()
    stored = SimDisk(disk.rng)
    stored.write(JOURNAL_NAME, golden("journal-v1.hex", content(disk)))
    again = Journal(stored)
    assert memory(again) == memory(journal)
    assert again.getRaftCommitIndex() == 4
