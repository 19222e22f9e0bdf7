"""Every mutant replaces something that is there: one that has lost its target finds nothing."""

import pytest

from tests.sim.deletions import MUTANTS


@pytest.mark.parametrize("name", MUTANTS)
def test_a_mutant_can_be_put_in_and_is_gone_afterwards(name: str) -> None:
    with MUTANTS[name]():
        pass
