"""The runner of the specification: what it checks, and what it makes of TLC's answers."""

import re
import sys
from pathlib import Path

import pytest

from spec import run
from spec.mutants import MUTANTS, Mutant

SPEC = Path(run.__file__).parent
MODULE = (SPEC / "Replication.tla").read_text(encoding="utf-8")
CONFIGS = {path.stem: path.read_text(encoding="utf-8") for path in run.CONFIGS.glob("*.cfg")}

each_mutant = pytest.mark.parametrize("mutant", MUTANTS, ids=lambda mutant: mutant.mutation)


def _fake_tlc(folder: Path, *, says: str, exits: int) -> list[str]:
    script = folder / "tlc"
    script.write_text(f"#!{sys.executable}\nimport sys\nprint({says!r})\nsys.exit({exits})\n")
    script.chmod(0o755)
    return [str(script)]


def test_mistake_that_nobody_looks_for() -> None:
    assert set(re.findall(r'Mutated\("(\w+)"\)', MODULE)) == {mutant.mutation for mutant in MUTANTS}
    assert len({mutant.mutation for mutant in MUTANTS}) == len(MUTANTS)


@each_mutant
def test_mutant_of_a_configuration_that_does_not_name_its_property(mutant: Mutant) -> None:
    mutated = run.mutate(CONFIGS[mutant.config], mutant)
    assert f'Mutations = {{"{mutant.mutation}"}}' in mutated
    assert re.findall(r"^(?:INVARIANT|PROPERT).*", mutated, re.MULTILINE) == [
        f"{run.property_kinds(CONFIGS[mutant.config])[mutant.violates]} {mutant.violates}"
    ]


def test_mutant_that_hides_behind_a_missing_constant() -> None:
    config = CONFIGS["crash"].replace("Mutations = {}", "")
    with pytest.raises(ValueError, match="Mutations"):
        run.mutate(config, MUTANTS[0])


def test_good_configuration_with_a_mistake_in_it() -> None:
    assert all("Mutations = {}\n" in config for config in CONFIGS.values())


def test_safety_property_that_one_configuration_leaves_out() -> None:
    """All of them in all safety configurations, and the two of progress in the others."""
    named = {name: frozenset(run.property_kinds(config)) for name, config in CONFIGS.items()}
    progress = {name for name in named if name.startswith("progress")}
    assert {named[name] for name in progress} == {frozenset({"RolloverProgress", "ReadProgress"})}
    assert len({named[name] for name in named.keys() - progress}) == 1


def test_liveness_under_symmetry() -> None:
    """TLC accepts it, and may then miss a violation."""
    assert not any("FairSpec" in text and "SYMMETRY" in text for text in CONFIGS.values())


def test_fast_run_that_leaves_out_a_mutant_or_takes_hours() -> None:
    fast = {check.name for check in run.checks(is_all=False)}
    every = {check.name for check in run.checks(is_all=True)}
    assert {mutant.mutation for mutant in MUTANTS} <= fast
    assert every - fast == {
        name for name, text in CONFIGS.items() if text.startswith(run.SLOW_MARK)
    }


def test_name_of_nothing_ends_the_run() -> None:
    with pytest.raises(SystemExit, match="nonsense"):
        run.checks(is_all=True, names=["crash", "nonsense"])


def test_bound_that_is_set_and_changes_nothing() -> None:
    changed = run.with_bounds(CONFIGS["crash"], ["MaxCrashes=3", "Nodes={n1, n2, n3, n4, n5}"])
    assert "\n  MaxCrashes = 3\n" in changed
    assert "\n  Nodes = {n1, n2, n3, n4, n5}\n" in changed
    for wrong in ("MaxCrash=1", "MaxCrashes", "SPECIFICATION=Spec"):
        with pytest.raises(SystemExit, match="no constant"):
            run.with_bounds(CONFIGS["crash"], [wrong])


@pytest.mark.parametrize(
    ("violates", "exits", "says", "result", "is_good"),
    [
        ("", 0, "1,234 distinct states found, 0 left", "holds", True),
        ("", 12, "Error: Invariant A is violated.", "violates A", False),
        ("A", 12, "Error: Invariant A is violated.", "violates A", True),
        ("A", 13, "Error: Action property A is violated.", "violates A", True),
        ("A", 13, "Error: Temporal properties were violated.", "violates progress", True),
        ("A", 0, "No error has been found.", "survived", False),
        ("A", 150, "Parse error", "TLC failed (150)", False),
        ("", 255, "out of memory", "TLC failed (255)", False),
    ],
)
def test_answer_of_tlc_taken_for_its_opposite(
    tmp_path: Path, violates: str, exits: int, says: str, result: str, is_good: bool
) -> None:
    check = run.Check("name", "SPECIFICATION Spec\n", violates)
    outcome = run.run(check, _fake_tlc(tmp_path, says=says, exits=exits))
    assert (outcome.result, outcome.is_good) == (result, is_good)
    assert outcome.state_count == (1234 if "1,234" in says else 0)


def test_walks_that_are_taken_for_a_proof(tmp_path: Path) -> None:
    tlc = _fake_tlc(tmp_path, says="Progress: 1,234 states checked.", exits=0)
    outcome = run.run(run.Check("name", "SPECIFICATION Spec\n", ""), tlc, walk_count=7)
    assert (outcome.result, outcome.state_count) == ("no violation met", 1234)


@pytest.mark.parametrize(("exits", "code"), [(0, 0), (12, 1)])
def test_failure_that_does_not_fail_the_build(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    exits: int,
    code: int,
) -> None:
    tlc = _fake_tlc(tmp_path, says="Invariant TypeOK is violated", exits=exits)
    monkeypatch.setattr(run, "find_tlc", lambda _: tlc)
    assert run.main(["--jobs", "1", "crash"]) == code
    assert ("not as expected" in capsys.readouterr().out.splitlines()[1]) == bool(code)


def test_missing_tlc_is_told_with_its_remedy(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(run, "_package", lambda _name: None)
    with pytest.raises(SystemExit, match=r"spec/requirements\.txt"):
        run.find_tlc()
