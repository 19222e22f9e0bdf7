"""A snapshot is whole or refused, and an old one stays readable."""

import random

import msgspec
import pytest

from raft import commands as c
from raft import snapshot
from raft.errors import CorruptSnapshotError
from raft.members import Members
from raft.snapshot import SNAPSHOT_NAME, Snapshot
from raft.state import state_hash
from tests.raft.support import seeded, topic_id, world
from tests.raft.test_commands import golden
from tests.sim.raft.disk import PowerCut, SimDisk


def lived_in(rolls: int = 3) -> Snapshot:
    at = world(2)
    at.create(1, "a", (1, 2))
    at.create(2, "b", (2, 1))
    at.create(3, "c", (2,))
    for end in range(10, 10 * (rolls + 1), 10):
        at.roll(end)
    at.ok(c.BeginSeal(topic_id(2), 1, 1, 1))
    at.ok(c.DeleteTopic(topic_id(3)))
    at.ok(c.AllocateProducerIds(1000))
    return Snapshot(at.state.revision, 4, Members(("x", "y"), ("z",)), at.state)


def data_of(taken: Snapshot) -> bytes:
    return b"".join(snapshot.encode(taken))


def test_a_snapshot_comes_back_as_it_was() -> None:
    disk = SimDisk(seeded(1))
    taken = lived_in()
    assert snapshot.load(disk) is None
    size = snapshot.write(disk, taken)
    back = snapshot.load(disk.after_power_cut())
    assert back is not None
    assert size == len(disk.read(SNAPSHOT_NAME) or b"")
    assert (back.index, back.term, back.members) == (taken.index, 4, Members(("x", "y"), ("z",)))
    assert state_hash(back.state) == state_hash(taken.state)
    assert back.state == taken.state
    assert data_of(back) == data_of(taken)


def test_a_snapshot_of_many_writes_and_syncs_comes_back_as_it_was() -> None:
    at = world(2)
    for number in range(1, 41):
        at.create(number, f"t{number}", (1, 2))
        at.ok(c.ChangeConfig(topic_id(number), 0, {"k": "v" * 30_000}))
    taken = Snapshot(at.state.revision, 4, Members(("x",)), at.state)
    disk = SimDisk(seeded(1))
    assert snapshot.write(disk, taken) > snapshot.SYNC_SIZE
    assert snapshot.load(disk.after_power_cut()) == taken


def test_configs_of_groups_come_back_as_they_were() -> None:
    at = world()
    at.ok(c.ChangeGroupConfig("g", {}, {"b": "1", "a": "2"}))
    at.ok(c.ChangeGroupConfig("f", {}, {"a": "3"}))
    taken = Snapshot(at.state.revision, 4, Members(("x",), ()), at.state)
    back = snapshot.decode(data_of(taken), "test")
    assert back.state == taken.state
    assert state_hash(back.state) == state_hash(taken.state) != state_hash(world().state)


def test_a_snapshot_says_which_entry_it_is_of() -> None:
    taken = lived_in()
    assert snapshot.index_of(data_of(taken), "test") == taken.index
    for wrong in (b"", data_of(taken)[:14], b"".join(list(snapshot.encode(taken))[::2])):
        with pytest.raises(CorruptSnapshotError):
            snapshot.index_of(wrong, "test")


def test_every_flipped_bit_and_every_missing_byte_is_noticed() -> None:
    data = data_of(lived_in(rolls=1))
    for position in range(len(data)):
        flipped = bytearray(data)
        flipped[position] ^= 1 << (position % 8)
        with pytest.raises(CorruptSnapshotError, match="snapshot, position"):
            snapshot.decode(bytes(flipped), "snapshot")
        with pytest.raises(CorruptSnapshotError, match="snapshot, position"):
            snapshot.decode(data[:position], "snapshot")


@pytest.mark.parametrize("drop", range(6))
def test_a_missing_chunk_is_noticed(drop: int) -> None:
    pieces = list(snapshot.encode(lived_in()))
    del pieces[drop]
    with pytest.raises(CorruptSnapshotError):
        snapshot.decode(b"".join(pieces), "snapshot")


def test_good_checksums_over_nonsense_are_noticed() -> None:
    head, *rest = snapshot.encode(lived_in())
    for kind, value in (("topic", 5), ("what", 5), ("end", "x"), (7, 5)):
        data = head + snapshot._chunk(kind, value) + b"".join(rest)  # type: ignore[arg-type]
        with pytest.raises(CorruptSnapshotError, match="no sense"):
            snapshot.decode(data, "snapshot")


def test_dying_at_every_disk_operation_leaves_the_old_snapshot_or_the_new() -> None:
    rng = seeded(random.randrange(2**32))
    old, new = lived_in(1), lived_in(5)
    for die_at in range(30):
        disk = SimDisk(rng)
        snapshot.write(disk, old)
        left = die_at

        def count(_operation: str) -> None:
            nonlocal left
            left -= 1
            if left < 0:
                raise PowerCut

        disk.on_operation = count
        try:
            snapshot.write(disk, new)
            return
        except PowerCut:
            pass
        disk.on_operation = lambda _operation: None
        for survivor in (disk.after_kill(), *(disk.after_power_cut() for _ in range(10))):
            back = snapshot.load(survivor)
            assert back is not None
            assert data_of(back) in (data_of(old), data_of(new))
    pytest.fail("the snapshot has more operations than this test expects")


def test_old_snapshots_stay_readable() -> None:
    taken = lived_in()
    back = snapshot.decode(golden("snapshot-v1-2.hex", data_of(taken)), "golden")
    assert back == msgspec.structs.replace(taken, state=back.state)
    # The trail is a hash of encodings, and those grow.
    same_trail = msgspec.structs.replace(back.state, trail=taken.state.trail)
    assert same_trail == taken.state
    # Written before segments remembered when they were closed; the trail covers that field, too.
    older = snapshot.decode(golden("snapshot-v1.hex", b""), "golden")
    assert older.state == msgspec.structs.replace(taken.state, trail=older.state.trail)


def test_a_snapshot_of_a_later_format_is_not_guessed_at() -> None:
    data = bytearray(data_of(lived_in()))
    data[8] = 2
    with pytest.raises(CorruptSnapshotError, match="format 2"):
        snapshot.decode(bytes(data), "snapshot")
