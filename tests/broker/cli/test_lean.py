"""What a node imports before it serves, seen in a process of its own."""

import json
import subprocess
import sys
from importlib.util import find_spec

import pytest

PROGRAM = """
import gc, json, sys
from broker.cli.lean import NOT_WANTED, lean_imports
with lean_imports():
    import broker.cli.serve, broker.cli.banner, broker.server.node
print(json.dumps({
    "modules": sorted(sys.modules),
    "collects": gc.isenabled(),
    "hidden": [name for name in NOT_WANTED if name in sys.modules],
}))
"""

SCHEMAS = {
    *("request_header.v1", "request_header.v2", "response_header.v0", "response_header.v1"),
    "api_versions.v0",
}
"""What kio itself imports, and the answer to a version that nobody knows."""


@pytest.fixture(scope="module")
def seen() -> dict[str, object]:
    command = [sys.executable, "-c", PROGRAM]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    found: dict[str, object] = json.loads(done.stdout)
    return found


def modules(seen: dict[str, object]) -> list[str]:
    assert isinstance(seen["modules"], list)
    return seen["modules"]


def test_a_start_compiles_no_schema_that_nobody_has_asked_for(seen: dict[str, object]) -> None:
    versions = {
        ".".join(parts[2:4])
        for parts in (name.split(".") for name in modules(seen) if name.startswith("kio.schema."))
        if len(parts) > 3
    }
    assert versions <= SCHEMAS


@pytest.mark.parametrize(
    "name", ["cryptography", "rich", "hypothesis", "prompt_toolkit", "pygments"]
)
def test_a_start_does_not_load_what_only_terminals_tests_and_other_nodes_need(
    seen: dict[str, object], name: str
) -> None:
    assert find_spec(name), f"{name} is not installed, so this test shows nothing"
    assert name not in modules(seen)


def test_a_start_stays_as_small_as_it_is(seen: dict[str, object]) -> None:
    """Half a millisecond each, so a hundred more are a start that somebody notices."""
    assert len(modules(seen)) < 730


def test_afterwards_everything_is_as_it_was(seen: dict[str, object]) -> None:
    assert seen["collects"]
    assert seen["hidden"] == []
