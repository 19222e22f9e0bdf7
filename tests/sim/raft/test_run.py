"""The simulator: reproducible, clean on a handful of seeds, and able to find what is missing.

`make sim` runs many more.
"""

import subprocess
import sys
from pathlib import Path

import pytest

from tests.sim.raft.faults import FAULTS
from tests.sim.raft.reigns import REIGNS_SIZE
from tests.sim.raft.run import Run
from tests.sim.raft.troubles import ABSENCES_FROM, FEUDS_FROM, REIGNS_FROM

ROOT = Path(__file__).parents[3]


@pytest.mark.parametrize("size", [1, 3, 5])
def test_a_few_seeds_are_clean_with_every_invariant_checked(size: int) -> None:
    for seed in (*range(4), FEUDS_FROM, REIGNS_FROM, ABSENCES_FROM):
        assert Run(seed, size=size, duration_s=15.0, debug=True).go().violation == ""


def test_a_seed_says_everything_even_to_another_process() -> None:
    """Whatever order that process gives its sets."""
    lines = set()
    for hash_seed in ("1", "2"):
        command = [sys.executable, "-m", "tests.sim.raft", "--first", "3", "--seeds", "1"]
        run = subprocess.run(
            [*command, "--duration", "10", "--verbose"],
            cwd=ROOT,
            env={"PYTHONHASHSEED": hash_seed},
            stdout=subprocess.PIPE,
            text=True,
            check=True,
        )
        lines.add(run.stdout.splitlines()[0])
    assert len(lines) == 1
    assert "messages" in lines.pop()


FOUND_AT = {
    "NeverSyncsFiles": 0,
    "TrimsBeforeTheSnapshot": 1,
    "NeverTruncates": 0,
    "VotesForTheOutdated": 0,
    "GuessesOutcomes": 0,
    "AnswersBarriersAtOnce": 0,
    "ListensToThePast": FEUDS_FROM,
    "KeepsALogThatDiffers": FEUDS_FROM,
    "CountsAcksOfThePast": REIGNS_FROM,
    "BelievesItsOwnLog": ABSENCES_FROM,
}
"""Faults that show at once, by seed; the others take more, and longer (docs/metadata.md)."""


@pytest.mark.parametrize("fault", FOUND_AT)
def test_what_is_taken_away_is_missed(fault: str) -> None:
    first = FOUND_AT[fault]
    size = REIGNS_SIZE if first == REIGNS_FROM else 3
    for seed in range(first, first + 20):
        if Run(seed, size=size, duration_s=30.0, node_class=FAULTS[fault]).go().violation:
            return
    pytest.fail(f"{fault} went unnoticed")
