"""What is read stays as it was while somebody holds it, however often buffers are used."""

import random
from collections.abc import Iterator
from pathlib import Path

import pytest

from engine.backends._page_cache import (
    SHARED_COUNT_MAX,
    SHARED_SIZE,
    SHARED_SIZE_MIN,
    PageCache,
)
from engine.batch import Buffer

SIZES = (1, SHARED_SIZE_MIN - 1, SHARED_SIZE_MIN, 300_000, SHARED_SIZE, SHARED_SIZE + 1)
DATA = random.Random(1).randbytes(3 * SHARED_SIZE)


@pytest.fixture
def file(tmp_path: Path) -> Iterator[int]:
    """Whose pages are cached; skips where the file system cannot say so."""
    path = tmp_path / "data"
    path.write_bytes(DATA)
    with path.open("rb") as opened:
        opened.read()
        if PageCache().read(opened.fileno(), 0, 1) is None:
            pytest.skip("this file system does not read without waiting")
        yield opened.fileno()


def read(cache: PageCache, file: int, position: int, size: int) -> Buffer:
    data = cache.read(file, position, size)
    assert data is not None
    return data


@pytest.mark.parametrize("seed", range(20))
def test_what_is_held_is_not_overwritten(file: int, seed: int) -> None:
    print(f"seed {seed}")
    rng = random.Random(seed)
    cache = PageCache()
    held: list[tuple[int, Buffer]] = []
    for _ in range(100):
        size = rng.choice(SIZES)
        position = rng.randrange(len(DATA) - size)
        data = read(cache, file, position, size)
        assert len(data) == size
        start = rng.randrange(size)
        # As a reply that is on its way: a view of a part.
        held.append((position + start, memoryview(data)[start:]))
        del data
        rng.shuffle(held)
        del held[rng.randrange(12) :]
        for where, view in held:
            assert view == DATA[where : where + len(view)]


def test_one_buffer_serves_reads_that_come_one_after_the_other(file: int) -> None:
    cache = PageCache()
    objects = set()
    for position in range(10):
        data = read(cache, file, position, 1_000_000)
        assert isinstance(data, memoryview)
        objects.add(id(data.obj))
        del data
    assert len(objects) == 1


def test_those_for_whom_no_shared_buffer_is_free_have_one_of_their_own(file: int) -> None:
    cache = PageCache()
    count = SHARED_COUNT_MAX + 2
    held = [read(cache, file, position, 1_000_000) for position in range(count)]
    assert [bytes(data) for data in held] == [DATA[i : i + 1_000_000] for i in range(count)]


def test_what_ends_early_is_not_there(file: int) -> None:
    assert PageCache().read(file, len(DATA) - 10, SHARED_SIZE_MIN) is None
