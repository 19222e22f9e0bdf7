"""The documents: one title each, links that lead somewhere, and commands that exist."""

import json
import re
import tomllib
from collections.abc import Iterator
from pathlib import Path
from statistics import median

import pytest

ROOT = Path(__file__).parents[1]

DOCUMENTS = sorted([*ROOT.glob("*.md"), *(ROOT / "docs").rglob("*.md")])

SOURCES = [
    path.relative_to(ROOT).as_posix()
    for folder in ("broker", "engine", "raft", "tests", "compat-tests", "bench", "spec")
    for path in (ROOT / folder).rglob("*.py")
]

LINK = re.compile(r"\[[^\]]*\]\(([^)\s]+)\)")

each_document = pytest.mark.parametrize(
    "path", DOCUMENTS, ids=[path.relative_to(ROOT).as_posix() for path in DOCUMENTS]
)


def _prose(path: Path) -> Iterator[str]:
    """The lines outside of fenced code."""
    in_code = False
    for line in path.read_text(encoding="utf-8").splitlines():
        if line.lstrip().startswith("```"):
            in_code = not in_code
        elif not in_code:
            yield line
    assert not in_code, f"{path.name}: a code block that never ends"


def _anchor(heading: str) -> str:
    """The name a heading gets from the usual renderers."""
    words = re.sub(r"[^\w\- ]", "", heading.lstrip("#").strip().lower())
    return words.replace(" ", "-")


@each_document
def test_document_with_more_or_less_than_one_title(path: Path) -> None:
    titles = [line for line in _prose(path) if line.startswith("# ")]
    assert len(titles) == 1, titles


@each_document
def test_link_to_nowhere(path: Path) -> None:
    for line in _prose(path):
        for target in LINK.findall(line):
            if re.match(r"[a-z]+:", target):
                continue
            name, _, anchor = target.partition("#")
            document = path.parent / name if name else path
            assert document.exists(), f"{path.name} links to {target}"
            if anchor:
                headings = {_anchor(line) for line in _prose(document) if line.startswith("#")}
                assert anchor in headings, f"{path.name} links to {target}; there is {headings}"


def test_page_that_no_page_leads_to() -> None:
    linked = {
        (path.parent / target.partition("#")[0]).resolve()
        for path in DOCUMENTS
        for target in LINK.findall(path.read_text(encoding="utf-8"))
    }
    lost = [path.name for path in (ROOT / "docs").rglob("*.md") if path.resolve() not in linked]
    assert not lost


@each_document
def test_file_that_only_the_page_knows(path: Path) -> None:
    for name in re.findall(r"`([\w/]+\.py)`", path.read_text(encoding="utf-8")):
        assert any(f"/{one}".endswith(f"/{name}") for one in SOURCES), name


@each_document
def test_make_target_that_does_not_exist(path: Path) -> None:
    makefile = (ROOT / "Makefile").read_text(encoding="utf-8")
    targets = set(re.findall(r"^([a-z-]+):", makefile, re.MULTILINE))
    named = set(
        re.findall(
            r"(?:`|^\s*)make ([a-z]+(?:-[a-z]+)*)", path.read_text(encoding="utf-8"), re.MULTILINE
        )
    )
    assert named <= targets


def test_version_without_a_change_log_entry() -> None:
    version = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["version"]
    headings = [
        line for line in (ROOT / "CHANGELOG.md").read_text().splitlines() if line.startswith("## ")
    ]
    assert any(f"[{version}]" in heading for heading in headings), headings


def test_a_first_page_that_promises_more_than_was_measured() -> None:
    promise = "50 MB that has acknowledged its first record less than 0.4 s after its start"
    assert promise in " ".join((ROOT / "README.md").read_text().split())

    cells = json.loads((ROOT / "docs/bench/result.json").read_text())["cells"]
    ours = {cell["name"]: cell["samples"]["walrus"] for cell in cells if cell["section"] == "life"}
    started = [run["seconds"] for run in ours["start to the first acknowledged produce"]]
    assert median(started) < 0.4
    assert median(run["memory_mb"] for run in ours["idle"]) < 55
