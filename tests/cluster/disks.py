"""A small disk of its own for a node's data: one that can be filled."""

import errno
import subprocess
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import pytest

_BIG_SIZE = 1 << 20
_PAGE_SIZE = 4096


@contextmanager
def mounted(path: Path, size: int) -> Iterator[Path]:
    """A file system of `size` bytes at `path`. Raises OSError where nobody may mount one."""
    path.mkdir(parents=True)
    command = ["mount", "-t", "tmpfs", "-o", f"size={size}", "tmpfs", str(path)]
    done = subprocess.run(command, check=False, capture_output=True, text=True)
    if done.returncode:
        raise OSError(done.stderr.strip())
    try:
        yield path
    finally:
        subprocess.run(["umount", "--lazy", str(path)], check=True)


@contextmanager
def small_disk(path: Path, size: int) -> Iterator[Path]:
    """The same for a test, which is skipped where nobody may mount."""
    with ExitStack() as stack:
        try:
            disk = stack.enter_context(mounted(path, size))
        except OSError as error:
            pytest.skip(f"NOT TESTED: mounting a small disk needs root: {error}")
        yield disk


def fill(disk: Path) -> Path:
    """A file that takes all there is left, also of what others free or take meanwhile; delete it to
    make room."""
    ballast = disk / "ballast"
    with ballast.open("wb", buffering=0) as file:
        for size in (_BIG_SIZE, _PAGE_SIZE):
            try:
                while file.write(bytes(size)):
                    pass
            except OSError as error:
                if error.errno != errno.ENOSPC:
                    raise
    return ballast
