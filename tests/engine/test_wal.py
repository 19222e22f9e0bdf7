"""The public face: what is on disk, what is left over, and closing."""

import asyncio
import subprocess
import sys
import threading
from functools import partial
from pathlib import Path

import pytest

from engine.backends import choose
from engine.backends._memory import MemoryBackend
from engine.batch import iter_headers
from tests.engine.support import DISK, EPOCH, TOPIC_ID, Rig, make_batch

ROOT = Path(__file__).parent.parent.parent


def test_stored_lists_segments_whatever_the_metadata_says() -> None:
    backend = MemoryBackend()
    rig = Rig(backend)
    for name, topic_id in (("orders", TOPIC_ID), ("x" * 249, bytes(16))):
        log = rig.wal.log(name, topic_id)
        for sid in (1, 12):
            segment = log.open(sid, 0, EPOCH, lambda: b"")
            rig.append(segment)
            rig.settle(segment)
    found = Rig(backend.crash_clone("none")).wal.stored()
    assert [(each.name, each.topic_id, each.sid) for each in found] == [
        ("orders", TOPIC_ID, 1),
        ("orders", TOPIC_ID, 12),
        ("x" * 200, bytes(16), 1),
        ("x" * 200, bytes(16), 12),
    ]


def test_half_made_and_half_deleted_directories_are_cleared_and_strangers_left_alone() -> None:
    backend = MemoryBackend()
    rig = Rig(backend)
    segment = rig.open()
    rig.append(segment)
    rig.settle(segment)
    fs, topic = backend.fs, DISK / f"orders-{TOPIC_ID.hex()}"
    for path in (topic / "2.new", topic / "3.deleted", DISK / f"gone-{bytes(16).hex()}.deleted"):
        fs.mkdir(path)
        fs.close(fs.open(path / "meta", create=True))
        fs.mkdir(path / "7")
        fs.close(fs.open(path / "7" / "x.log", create=True))
    fs.mkdir(DISK / "lost+found")
    fs.mkdir(topic / "notes")
    assert [each.sid for each in rig.wal.stored()] == [1]
    assert sorted(fs.listdir(DISK)) == ["lost+found", topic.name]
    assert sorted(fs.listdir(topic)) == ["1", "notes"]


def test_close_writes_and_syncs_what_is_queued_under_every_policy() -> None:
    for policy in ("each", "none", "50"):
        backend = MemoryBackend()
        rig = Rig(backend, policy=policy)
        segment, idle, failed = rig.open(), rig.open(2, 100), rig.open(3, 200)
        rig.append(failed)
        backend.fail_next("mkdir", 5)
        rig.until(partial(getattr, failed, "failed"))
        for _ in range(5):
            rig.append(segment)
        rig.wal.close()
        assert idle.end_offset == 100
        assert Rig(backend.crash_clone("none")).recover().end_offset == 5
        assert backend.fs.open_count == 0


def test_log_of_a_topic_is_one_object() -> None:
    rig = Rig(MemoryBackend())
    assert rig.wal.log("orders", TOPIC_ID) is rig.log
    with pytest.raises(ValueError, match="no topic directory"):
        rig.wal.log("../etc", bytes(16))


@pytest.mark.parametrize("prefer", ["pread", None])
def test_real_files_come_back_after_a_restart(prefer: str | None, tmp_path: Path) -> None:
    backend = choose(prefer=prefer)
    rig = Rig(backend, tmp_path / "data")
    segment = rig.open()
    batches = []
    for i in range(200):
        batches.append(rig.append(segment, size=i * 10))
        if i % 10 == 0:
            rig.wal.flush()
    rig.settle(segment)
    rig.wal.close()
    backend.close()
    backend = choose(prefer=prefer)
    rig = Rig(backend, tmp_path / "data")
    segment = rig.recover()
    assert segment.end_offset == 200
    assert rig.read(segment, 0, size_max=10**7) == b"".join(batches)
    assert rig.seal(segment) is None
    assert rig.read(segment, 150, size_max=1) == batches[150]
    assert rig.result(rig.log.delete) is None
    assert list((tmp_path / "data").iterdir()) == []
    rig.wal.close()
    backend.close()


WRITER = """
import sys
from pathlib import Path
from engine.backends import choose
from tests.engine.support import Rig

rig = Rig(choose(prefer=sys.argv[1] or None), Path(sys.argv[2]))
segment = rig.open()
segment.on_durable = lambda end: sys.stdout.write(f"{end}\\n") and sys.stdout.flush()
while True:
    for i in range(7):
        rig.append(segment, size=i * 500)
    rig.settle(segment)
"""


@pytest.mark.parametrize("prefer", ["pread", ""], ids=["pread", "best"])
def test_killed_process_keeps_what_it_called_durable(prefer: str, tmp_path: Path) -> None:
    for count in (1, 5, 40):
        directory = tmp_path / str(count)
        command = [sys.executable, "-c", WRITER, prefer, str(directory)]
        with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, cwd=ROOT) as writer:
            assert writer.stdout is not None
            durable = [int(writer.stdout.readline()) for _ in range(count)]
            writer.kill()
            durable += [int(line) for line in writer.stdout if line.endswith("\n")]
        backend = choose(prefer="pread")
        rig = Rig(backend, directory)
        segment = rig.recover()
        assert segment.end_offset >= durable[-1]
        data = rig.read(segment, 0, size_max=10**9)
        assert sum(header.record_count for _, header in iter_headers(data)) == segment.end_offset
        rig.wal.close()
        backend.close()


@pytest.mark.anyio
async def test_wal_under_an_event_loop_never_blocks_it(tmp_path: Path) -> None:
    """Driven as the broker drives it; the test suite's guard fails on blocking calls."""
    loop = asyncio.get_running_loop()
    backend = await asyncio.to_thread(choose)
    rig = await asyncio.to_thread(Rig, backend, tmp_path / "data")
    rig.on_wake = partial(loop.call_soon, rig.wal.flush)
    loop.add_reader(rig.wal.fileno(), rig.wal.reap)
    segment = rig.open()
    done = asyncio.Event()
    threads = set()

    def durable(end_offset: int) -> None:
        threads.add(threading.current_thread())
        if end_offset == 500:
            done.set()

    segment.on_durable = durable
    for i in range(500):
        header, batch = make_batch(segment.end_offset, size=1000)
        segment.append([(header, [batch])])
        if i % 50 == 0:
            await asyncio.sleep(0)
    await asyncio.wait_for(done.wait(), 30)
    read: asyncio.Future[object] = loop.create_future()
    segment.read(499, size_max=1, end_offset=500, on_done=read.set_result)
    assert isinstance(await read, bytes)
    assert threads == {threading.main_thread()}
    loop.remove_reader(rig.wal.fileno())
    await asyncio.to_thread(rig.wal.close)
    await asyncio.to_thread(backend.close)


def test_operations_take_simulated_time_when_a_schedule_is_given() -> None:
    waiting: list[tuple[str, int, object]] = []
    ready: list[object] = []
    backend = MemoryBackend(
        schedule=lambda operation, size, run: waiting.append((operation, size, run)),
        on_ready=lambda: ready.append(1),
    )
    rig = Rig(backend)
    segment = rig.open()
    rig.append(segment)
    rig.wal.flush()
    rig.wal.reap()
    assert [each[0] for each in waiting] == ["run"]
    assert not ready
    while segment.durable_offset == 0:
        waiting.pop(0)[2]()  # type: ignore[operator]
        rig.wal.reap()
        rig.wal.flush()
    assert len(ready) == 2


@pytest.mark.parametrize("policy", ["each", "none", "60000"])
def test_more_topics_than_descriptors_are_written_and_read(policy: str) -> None:
    """Those who find all logs in use wait for their turn; what is written and not yet synced is
    synced before its log gives way."""
    backend = MemoryBackend()
    rig = Rig(backend, policy=policy, open_count_max=3)
    topics = [rig.wal.log(f"t{i}", bytes([i]) * 16) for i in range(20)]
    segments = [topic.open(1, 0, EPOCH, lambda: b"head") for topic in topics]
    opened = 0
    for _ in range(2):
        for segment in segments:
            rig.append(segment, count=2)
        while any(segment.durable_offset < segment.end_offset for segment in segments):
            rig.wal.flush()
            rig.backend.wait()
            rig.wal.reap()
            opened = max(opened, rig.wal.open_files.count)
    assert opened == 3
    results: list[object] = []
    for segment in segments:
        segment.read(0, size_max=10**6, end_offset=4, on_done=results.append)
    rig.until(lambda: len(results) == len(segments))
    assert all(isinstance(result, bytes | memoryview) and len(result) for result in results)
    assert rig.wal.open_files.count == 3 and rig.wal.open_files.waiting_count == 0
    for segment in segments:
        assert rig.seal(segment) is None
    rig.wal.close()
    assert backend.fs.open_count == 0


def test_a_topic_that_is_deleted_while_its_log_waits_for_a_descriptor() -> None:
    backend = MemoryBackend()
    rig = Rig(backend, policy="none", open_count_max=1)
    first, second = (rig.wal.log(f"t{i}", bytes([i]) * 16) for i in range(2))
    segments = [topic.open(1, 0, EPOCH, lambda: b"head") for topic in (first, second)]
    for segment in segments:
        rig.append(segment)
    rig.wal.flush()
    assert rig.wal.open_files.waiting_count == 1
    assert rig.result(second.delete) is None
    rig.settle(segments[0])
    assert [each.topic_id[0] for each in rig.wal.stored()] == [0]
    assert rig.wal.open_files.waiting_count == 0
