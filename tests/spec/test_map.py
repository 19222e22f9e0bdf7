"""The map from the specification to the code: it names what exists, and leaves nothing out."""

import ast
import re
from functools import cache
from pathlib import Path

import pytest

from spec.mutants import MUTANTS
from spec.run import CONFIGS, property_kinds

ROOT = Path(__file__).parents[2]
SPEC = ROOT / "spec"

NAME = re.compile(r"`(\w+)`")
PLACE = re.compile(r"`([\w/]+\.py) ([\w.]+)`")


def _read(path: Path) -> str:
    return path.read_text(encoding="utf-8")


def _rows(heading: str) -> dict[str, str]:
    """The table below a heading of the README: first cell to the rest of its row."""
    section = _read(SPEC / "README.md").split(f"\n## {heading}\n")[1].split("\n## ")[0]
    rows = [
        line.strip("|").split("|", 1) for line in section.splitlines() if line.startswith("| `")
    ]
    return {match.group(1): rest for first, rest in rows if (match := NAME.search(first))}


@cache
def _functions(path: Path) -> frozenset[str]:
    """Functions, classes and methods of a module, methods with their class."""
    names = set()
    for node in ast.parse(_read(path)).body:
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
            names.add(node.name)
        if isinstance(node, ast.ClassDef):
            names |= {
                f"{node.name}.{member.name}"
                for member in node.body
                if isinstance(member, ast.FunctionDef | ast.AsyncFunctionDef)
            }
    return frozenset(names)


def _actions() -> set[str]:
    """Everything that `Next` calls."""
    next_step = _read(SPEC / "Replication.tla").split("\nNext ==\n")[1].split("\nSpec ==")[0]
    return (
        set(re.findall(r"\b([A-Z]\w+)(?=\(|\s|$)", next_step))
        - {"Nodes", "Sids", "Epochs"}
        - {"Last"}
    )


def _properties() -> set[str]:
    return {name for path in CONFIGS.glob("*.cfg") for name in property_kinds(_read(path))}


@pytest.mark.parametrize("heading", ["Actions", "Properties"])
def test_map_to_a_function_that_does_not_exist(heading: str) -> None:
    for name, row in _rows(heading).items():
        places = PLACE.findall(row)
        for path, function in places:
            assert (ROOT / path).is_file(), f"{name}: {path}"
            assert function in _functions(ROOT / path), f"{name}: {path} has no {function}"


def test_action_that_is_in_no_code() -> None:
    """A mistake and a fault of the world need no code; every other action does."""
    rows = _rows("Actions")
    assert set(rows) == _actions()
    placeless = {name for name, row in rows.items() if not PLACE.search(row)}
    assert placeless <= {"Crash", "LoseDisk", "TruncateToChosen"}


def test_action_that_the_simulation_does_not_know() -> None:
    """A mistake is no step of the code, and what the world does needs no method."""
    rows = _rows("The simulation takes only these steps")
    methods = _functions(ROOT / "tests/sim/cluster/model.py")
    named = {
        action: match.group(1)
        for action in _actions() - {"TruncateToChosen"}
        if (match := re.match(r" `(\w+)`", rows[action]))
    }
    assert {f"Model.{method}" for method in named.values()} <= methods
    assert _actions() - named.keys() == {"TruncateToChosen", "Read", "Crash", "LoseDisk"}


def test_property_that_nobody_explains() -> None:
    assert set(_rows("Properties")) == _properties()


def test_property_that_is_defined_and_never_checked() -> None:
    text = _read(SPEC / "Properties.tla")
    defined = set(re.findall(r"^(\w+) ==", text, re.MULTILINE))
    helpers = {"Symmetry", "Offered", "Taken", "Fairness", "FairSpec", "Exhausted"}
    assert defined - helpers == _properties()


def test_mutant_without_a_row() -> None:
    rows = _rows("Mutants")
    assert set(rows) == {mutant.mutation for mutant in MUTANTS}
    for mutant in MUTANTS:
        assert f"`{mutant.violates}`" in rows[mutant.mutation], mutant.mutation


def test_configuration_without_a_row() -> None:
    assert set(re.findall(r"^\| ([a-z-]+) \|", _read(SPEC / "README.md"), re.MULTILINE)) == {
        path.stem for path in CONFIGS.glob("*.cfg")
    }
