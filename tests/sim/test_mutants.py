"""Every mutant replaces something that is there: one that has lost its target finds nothing."""

from pathlib import Path

import pytest

from tests.sim.damaged import MUTANTS


@pytest.mark.parametrize("name", MUTANTS)
def test_a_mutant_can_be_put_in_and_is_gone_afterwards(name: str) -> None:
    with MUTANTS[name]():
        pass


def test_what_is_known_of_every_mutant_is_told() -> None:
    text = (Path(__file__).parents[2] / "docs/simulation.md").read_text()
    assert [name for name in MUTANTS if f"`{name}`" not in text] == []
