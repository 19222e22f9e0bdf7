"""A part of a log that begins or ends in the middle of a batch, or at the wrong one."""

import random

import pytest

from engine.batch import Buffer
from engine.batch_run import BatchRun, find_run
from engine.errors import CorruptBatchError
from engine.index import SegmentIndex
from tests.engine.support import make_batch

BASE = 100


class Log:
    """Random batches, their index, and what was read of them."""

    def __init__(self, rng: random.Random, *, interval: int) -> None:
        self.data = bytearray()
        self.index = SegmentIndex(BASE, interval=interval)
        self.batches: list[tuple[int, int, int, int]] = []
        """(position, end, base offset, next offset)"""
        self.read_size = 0
        self.is_cached = True
        offset = BASE
        for _ in range(rng.randint(1, 60)):
            size = rng.choice((0, 20, rng.randrange(400), rng.randrange(5000)))
            header, batch = make_batch(offset, count=rng.randint(1, 4), size=size)
            self.index.add(header, len(self.data))
            start = len(self.data)
            self.data += batch
            offset = header.next_offset
            self.batches.append((start, len(self.data), header.base_offset, offset))

    def read(self, position: int, size: int) -> Buffer | None:
        self.read_size += size
        return self.data[position : position + size] if self.is_cached else None

    def find(self, position: int, offset: int, end_offset: int, size_max: int) -> BatchRun | None:
        return find_run(
            self.read,
            self.index,
            position=position,
            limit=len(self.data),
            offset=offset,
            end_offset=end_offset,
            size_max=size_max,
        )

    def expected(self, offset: int, end_offset: int, size_max: int) -> BatchRun | None:
        run: BatchRun | None = None
        for start, end, _, next_offset in self.batches:
            if next_offset <= offset:
                continue
            if next_offset > end_offset or (run and end - run.position > size_max):
                break
            run = BatchRun(run.position if run else start, 0, next_offset)
            run = run._replace(size=end - run.position)
        return run


@pytest.mark.parametrize("seed", range(200))
def test_it_is_what_walking_through_all_batches_would_find(seed: int) -> None:
    print(f"seed {seed}")
    rng = random.Random(seed)
    log = Log(rng, interval=rng.choice((1, 100, 500, 4096)))
    for _ in range(100):
        _, _, offset, end_offset = rng.choice(log.batches)
        *_, end_offset = rng.choice([(end_offset,), *[one[3:] for one in log.batches[-20:]]])
        offset += rng.choice((0, 0, rng.randrange(4)))
        size_max = rng.choice((1, rng.randrange(1, 3000), rng.randrange(1, 100_000)))
        # A reader that goes on knows the batch; others have what the index says.
        places = [start for start, _, base, end in log.batches if base <= offset < end]
        places.append(log.index.position_before(offset))
        found = log.find(rng.choice(places), offset, end_offset, size_max)
        assert found == log.expected(offset, end_offset, size_max)


def test_only_the_headers_around_both_ends_are_read() -> None:
    log = Log(random.Random(7), interval=100)
    found = log.find(0, BASE, log.batches[-1][3], 10**9)
    assert found == (0, len(log.data), log.batches[-1][3])
    assert log.read_size <= 3 * (100 + 61) < len(log.data) // 20


def test_what_is_not_in_memory_is_not_found() -> None:
    log = Log(random.Random(1), interval=100)
    log.is_cached = False
    assert log.find(0, BASE, 10**6, 10**6) is None


def test_an_index_that_lies_is_no_wrong_record() -> None:
    log = Log(random.Random(7), interval=100)
    with pytest.raises(CorruptBatchError, match="at a place before"):
        log.find(log.batches[3][0], BASE, 10**6, 10**6)
    with pytest.raises(CorruptBatchError, match="no batch header"):
        log.find(log.batches[3][0] + 1, log.batches[3][2], 10**6, 10**6)
    # Entries are also used to jump ahead: to a batch of another offset, or into one.
    for shift in (0, 1):
        wrong = SegmentIndex(BASE, interval=100)
        for i, (_, _, base_offset, next_offset) in enumerate(log.batches[:-3]):
            header, _ = make_batch(base_offset, count=next_offset - base_offset, size=5000)
            wrong.add(header, log.batches[i + 2][0] + shift)
        log.index = wrong
        with pytest.raises(CorruptBatchError):
            log.find(0, BASE, log.batches[-1][3], len(log.data) // 2)
