"""A server that deletes while its pages are forgotten must not cost the benchmark a cell."""

import os
import shutil
from pathlib import Path

import pytest

from bench.pages import SIZE_MIN, forget_pages


def test_a_folder_that_the_server_deletes_meanwhile(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("a", "b"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "log").write_bytes(bytes(SIZE_MIN))
    os.sync()  # What a file takes of the disk is known from then on.
    synced: list[Path] = []

    def fsync(file: int) -> None:
        synced.append(Path(f"/proc/self/fd/{file}").readlink())
        (other,) = {tmp_path / "a", tmp_path / "b"} - {synced[0].parent}
        shutil.rmtree(other)

    monkeypatch.setattr(os, "fsync", fsync)

    forget_pages(tmp_path)

    assert len(synced) == 1
