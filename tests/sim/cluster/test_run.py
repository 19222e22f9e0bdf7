"""The simulation of whole clusters: reproducible, clean on a handful of seeds, and able to find
what is wrong. `make sim` runs many more.
"""

import subprocess
import sys
from pathlib import Path

import pytest

from tests.sim.cluster.clients import Client
from tests.sim.cluster.run import Run
from tests.sim.damaged import MUTANTS

ROOT = Path(__file__).parents[3]


def simulate(*arguments: str) -> "subprocess.CompletedProcess[str]":
    """In a process of its own, for the hashes' sake."""
    command = [sys.executable, "-m", "tests.sim.cluster", "--jobs", "1", *arguments]
    return subprocess.run(command, cwd=ROOT, stdout=subprocess.PIPE, text=True, check=False)


@pytest.mark.timeout(240)
def test_a_few_seeds_are_clean() -> None:
    done = simulate("--first", "1", "--seeds", "5", "--duration", "3")
    assert done.returncode == 0, done.stdout


@pytest.mark.timeout(120)
def test_a_seed_says_everything() -> None:
    lines = [
        simulate("--first", "2", "--seeds", "1", "--duration", "3", "--verbose").stdout.splitlines()
        for _ in range(2)
    ]
    assert lines[0][0] == lines[1][0]
    assert "acknowledged" in lines[0][0]


def test_there_is_no_kind_of_client_that_no_run_ever_has() -> None:
    there: set[type[Client]] = set()
    for seed in range(1, 40):
        run = Run(seed)
        run.make_clients()
        run.loop.close()
        there |= {type(client) for client in run.clients}
    assert there == set(Client.__subclasses__())


FOUND_AT = {
    "acknowledge-before-sync": 1,
    "one-copy-is-enough": 2,
    "a-seal-keeps-its-epoch": 13,
}
"""Mutants that show soon, by the first seed that is tried; docs/simulation.md has them all."""


@pytest.mark.timeout(240)
@pytest.mark.parametrize("mutant", FOUND_AT)
def test_a_mistake_is_found(mutant: str) -> None:
    assert mutant in MUTANTS
    first = str(FOUND_AT[mutant])
    done = simulate("--first", first, "--seeds", "5", "--stop", "--mutant", mutant)
    assert done.returncode == 0, done.stdout
