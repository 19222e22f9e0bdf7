"""The page cache, and what it holds of a server's data."""

import os
from contextlib import suppress
from pathlib import Path

SIZE_MIN = 1 << 20
"""Bytes on the disk, below which a file is not worth the calls: a thousand topics have thousands of
them."""


def forget_pages(folder: Path) -> None:
    """Of the large files in there: what was written is put to disk, and its memory is free."""
    for parent, _, names in os.walk(folder):  # Which does not mind a folder that is gone.
        for path in (Path(parent, name) for name in names):
            with suppress(FileNotFoundError):  # The server deletes when it likes.
                if path.is_file() and path.stat().st_blocks * 512 >= SIZE_MIN:
                    _forget(path)


def _forget(path: Path) -> None:
    file = os.open(path, os.O_RDONLY)
    os.fsync(file)
    os.posix_fadvise(file, 0, 0, os.POSIX_FADV_DONTNEED)
    os.close(file)
