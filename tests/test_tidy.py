"""Rules of style that no linter knows: sizes, purity, dead modules, names of tests, words.

What the linters do know is theirs: line length, annotations and `print` (ruff, mypy), and who may
import whom, kio, pysyncobj and liburing included (import-linter, in pyproject.toml).
"""

import ast
import re
import tomllib
from collections.abc import Iterable, Iterator
from functools import cache
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]

PACKAGES = ("broker", "engine", "raft")
TEST_FOLDERS = ("tests", "compat-tests", "bench")
PROSE_FOLDERS = ("docs", ".ci", "spec", "deploy")

FILE_LINES_SOFT, FILE_LINES_HARD = 500, 700
FUNCTION_LINES_HARD = 70

PURE = (
    "broker/codecs.py",
    "broker/controller/gathered.py",
    "broker/controller/topic_config.py",
    "broker/errors.py",
    "broker/groups/expiry.py",
    "broker/groups/generations.py",
    "broker/groups/group.py",
    "broker/groups/keyed.py",
    "broker/groups/messages.py",
    "broker/groups/records.py",
    "broker/groups/roster.py",
    "broker/groups/states.py",
    "broker/groups/subscription.py",
    "broker/groups/views.py",
    "broker/kafka_api/fetch_sessions.py",
    "broker/native_api/commands.py",
    "broker/native_api/framing.py",
    "broker/net/framing.py",
    "broker/offset_map/*.py",
    "broker/ports/*.py",
    "broker/server/idle_poll.py",
    "engine/batch.py",
    "engine/batch_run.py",
    "engine/format.py",
    "engine/index.py",
    "engine/producer_state.py",
    "engine/records.py",
    "raft/commands.py",
    "raft/frames.py",
    "raft/leases.py",
    "raft/state.py",
)
"""Modules (patterns below the root) in which bytes or values go in and come out, nothing else."""

IMPURE_IMPORTS = {"anyio", "asyncio", "socket", "ssl", "threading", "time", "random", "os"}

CLOCK_OWNERS = ("broker/telemetry/clock.py", "broker/cli/")
"""Who may ask the machine for the time or for randomness; all others are given what they use."""

CROSS_CUTTING: frozenset[str] = frozenset(
    {
        "broker/controller/test_cluster.py",
        "broker/controller/test_copies_wanted.py",
        "broker/controller/test_disks_of_a_cluster.py",
        "broker/net/test_quick_requests.py",
        "raft/test_forwarding.py",
        "raft/test_repeated_commands.py",
        "raft/test_snapshots_between_nodes.py",
    }
)
"""Tests, as paths below `tests/`, that are about no single module."""

NUMBERED = re.compile(r"k\d\d_")
"""Handlers: one file per Kafka API, named by its key."""

FORBIDDEN_WORDS = re.compile(r"\b(TODO|FIXME|XXX|NotImplementedError)\b")

MACHINE_PATHS = re.compile(r"(?<![\w.])/(home|root|work|Users|opt|mnt)/\w")

REGISTRY_HOSTS = re.compile(
    r"pypi\.org|pythonhosted|repo1?\.maven|npmjs|crates\.io|proxy\.golang|index-url https?:"
)


@cache
def _read(path: Path) -> str:
    return path.read_text(encoding="utf-8")


@cache
def _tree(path: Path) -> ast.Module:
    return ast.parse(_read(path), str(path))


def _name(path: Path) -> str:
    return path.relative_to(ROOT).as_posix()


def _python_files(*folders: str) -> list[Path]:
    return sorted(path for folder in folders for path in (ROOT / folder).rglob("*.py"))


NOT_OURS = (".coverage", ".git")
"""Files beside ours that tools write: the second one where the tree is one of several."""


def _committed_text() -> Iterator[Path]:
    """Every file a reader may open, but for this one, which quotes what it forbids."""
    yield from (path for path in ROOT.iterdir() if path.is_file() and path.name not in NOT_OURS)
    for folder in (*PACKAGES, *TEST_FOLDERS, *PROSE_FOLDERS):
        for path in (ROOT / folder).rglob("*"):
            if path.is_file() and "__pycache__" not in path.parts and path != Path(__file__):
                yield path


def _report(offenders: Iterable[str]) -> None:
    found = sorted(offenders)
    assert not found, "\n" + "\n".join(found)


def test_file_nobody_can_hold_in_mind() -> None:
    sizes = {path: _read(path).count("\n") for path in _python_files(*PACKAGES, *TEST_FOLDERS)}
    for path, line_count in sizes.items():
        if line_count > FILE_LINES_SOFT:
            print(f"{_name(path)} has {line_count} lines; {FILE_LINES_SOFT} would be kinder")
    _report(
        f"{_name(path)}: {line_count} lines, above {FILE_LINES_HARD}"
        for path, line_count in sizes.items()
        if line_count > FILE_LINES_HARD
    )


def test_function_that_does_not_fit_a_screen() -> None:
    def offenders() -> Iterator[str]:
        for path in _python_files(*PACKAGES, *TEST_FOLDERS):
            for node in ast.walk(_tree(path)):
                if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
                    line_count = (node.end_lineno or node.lineno) - node.lineno + 1
                    if line_count > FUNCTION_LINES_HARD:
                        yield f"{_name(path)}:{node.lineno}: {node.name} has {line_count} lines"

    _report(offenders())


def test_module_that_does_not_say_what_it_is() -> None:
    _report(
        f"{_name(path)}: no docstring"
        for path in _python_files(*PACKAGES, *TEST_FOLDERS)
        if _read(path).strip() and ast.get_docstring(_tree(path)) is None
    )


def _imports(path: Path) -> Iterator[tuple[int, str]]:
    """Line and dotted name of every import, `from a import b` as `a.b`."""
    for node in ast.walk(_tree(path)):
        if isinstance(node, ast.Import):
            yield from ((node.lineno, alias.name) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            base = node.module or ""
            if node.level:
                parts = path.relative_to(ROOT).with_suffix("").parts[: -node.level]
                base = ".".join((*parts, *filter(None, [base])))
            yield from ((node.lineno, f"{base}.{alias.name}") for alias in node.names)


def test_pure_module_with_a_door_to_the_world() -> None:
    def offenders() -> Iterator[str]:
        for pattern in PURE:
            paths = list(ROOT.glob(pattern))
            if not paths:
                yield f"{pattern}: in the table of pure modules, and not in the tree"
            for path in paths:
                for line, name in _imports(path):
                    if name.split(".")[0] in IMPURE_IMPORTS:
                        yield f"{_name(path)}:{line}: a pure module imports {name}"

    _report(offenders())


def test_clock_nobody_can_turn() -> None:
    """A call of the machine's clock or generator makes a module that no simulation can drive."""

    def offenders() -> Iterator[str]:
        for path in _python_files(*PACKAGES):
            if _name(path).startswith(CLOCK_OWNERS):
                continue
            for node in ast.walk(_tree(path)):
                match node:
                    case ast.Call(
                        func=ast.Attribute(
                            value=ast.Name(id="time" | "random" as module), attr=name
                        )
                    ) if name not in {"Random", "SystemRandom", "strftime", "gmtime"}:
                        yield f"{_name(path)}:{node.lineno}: {module}.{name}()"

    _report(offenders())


def test_module_that_is_on_no_map() -> None:
    """The docstring of a package names its modules, and nothing that is not there."""

    def offenders() -> Iterator[str]:
        for init in (path for path in _python_files(*PACKAGES) if path.name == "__init__.py"):
            modules = {path.stem for path in init.parent.glob("*.py")} - {"__init__", "__main__"}
            docstring = ast.get_docstring(_tree(init)) or ""
            named = set(re.findall(r"\b([a-z0-9_]+)\.py\b", docstring))
            if NUMBERED.match(min(modules, default="")):
                continue  # the listing says it
            yield from (f"{_name(init)}: does not name {name}" for name in modules - named)
            yield from (f"{_name(init)}: there is no {name}.py" for name in named - modules)

    _report(offenders())


def _module_name(path: Path) -> str:
    parts = path.relative_to(ROOT).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def _entry_points() -> set[str]:
    project = tomllib.loads(_read(ROOT / "pyproject.toml"))["project"]
    return {target.split(":")[0] for target in project["scripts"].values()}


def test_module_nobody_imports() -> None:
    used = _entry_points()
    for path in _python_files(*PACKAGES, *TEST_FOLDERS):
        for _, name in _imports(path):
            used |= {name, name.rpartition(".")[0]}
        # Commands and backends are imported late, by name.
        used |= {
            node.value
            for node in ast.walk(_tree(path))
            if isinstance(node, ast.Constant) and isinstance(node.value, str)
        }
    _report(
        f"{_name(path)}: dead, nothing imports it"
        for path in _python_files(*PACKAGES)
        if path.name not in {"__init__.py", "__main__.py"} and _module_name(path) not in used
    )


def test_test_of_nothing() -> None:
    """`tests/engine/test_index.py` is about `engine/index.py`, or it is listed as cross-cutting."""

    def offenders() -> Iterator[str]:
        for name in CROSS_CUTTING:
            if not (ROOT / "tests" / name).is_file():
                yield f"tests/{name}: listed as cross-cutting, and not in the tree"
        for package in PACKAGES:
            for path in (ROOT / "tests" / package).rglob("test_*.py"):
                below = path.relative_to(ROOT / "tests")
                subject = ROOT / below.parent / below.stem.removeprefix("test_")
                candidates = [
                    subject.with_suffix(".py"),
                    subject,
                    subject.parent / f"_{subject.name}.py",
                ]
                if below.as_posix() not in CROSS_CUTTING and not any(
                    candidate.exists() for candidate in candidates
                ):
                    yield f"tests/{below}: there is no {subject.relative_to(ROOT)}.py"

    _report(offenders())


@pytest.mark.parametrize(
    ("pattern", "why"),
    [
        pytest.param(FORBIDDEN_WORDS, "unfinished", id="unfinished"),
        pytest.param(MACHINE_PATHS, "the path of somebody's machine", id="machine-path"),
        pytest.param(REGISTRY_HOSTS, "the host of a package registry", id="registry"),
    ],
)
def test_words_that_must_not_be_committed(pattern: re.Pattern[str], why: str) -> None:
    def offenders() -> Iterator[str]:
        for path in _committed_text():
            try:
                text = _read(path)
            except UnicodeDecodeError:
                continue
            for number, line in enumerate(text.splitlines(), 1):
                if match := pattern.search(line):
                    yield f"{_name(path)}:{number}: {why}: {match.group()}"

    _report(offenders())
