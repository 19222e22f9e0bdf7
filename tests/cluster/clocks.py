"""Wall clocks that somebody sets while a node runs. Monotonic clocks go on as they were."""

import struct
import subprocess
from collections.abc import Mapping
from pathlib import Path

_SOURCE = Path(__file__).with_name("wall_clock.c")


def build_clock(folder: Path) -> Path:
    """The library that a process must be started with. Raises OSError without a C compiler, and
    CalledProcessError when it does not build."""
    library = folder / "wall_clock.so"
    folder.mkdir(parents=True, exist_ok=True)
    subprocess.run(["gcc", "-shared", "-fPIC", "-O2", "-o", library, _SOURCE], check=True)
    return library


class WallClock:
    """What one process takes for the time of day: that of the machine plus an offset."""

    def __init__(self, library: Path, path: Path) -> None:
        self._library = library
        self._path = path
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(bytes(8))

    def set(self, offset_s: int) -> None:
        """Jump there, at once."""
        with self._path.open("r+b") as file:
            file.write(struct.pack("=q", offset_s))

    def environment(self) -> Mapping[str, str]:
        """What a process must be started with."""
        return {"LD_PRELOAD": str(self._library), "WALL_CLOCK": str(self._path)}
