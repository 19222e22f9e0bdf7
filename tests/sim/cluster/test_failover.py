"""How long nobody can write after a writer was lost: in virtual time that depends on the code,
not on the machine."""

import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[3]


@pytest.mark.timeout(240)
def test_a_lost_writer_is_replaced_in_time() -> None:
    """In a process of its own, for the hashes' sake."""
    command = [sys.executable, "-m", "tests.sim.cluster.failover", "--seeds", "6"]
    done = subprocess.run(command, cwd=ROOT, stdout=subprocess.PIPE, text=True, check=False)
    assert done.returncode == 0, done.stdout
