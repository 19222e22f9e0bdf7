"""The list of metrics that says something else than the program."""

from pathlib import Path

import pytest

from broker.telemetry.metrics import FAMILIES
from broker.telemetry.reference import reference, rewrite

PAGE = Path(__file__).parents[3] / "docs" / "operations.md"


def test_the_page_is_what_the_table_says() -> None:
    text = PAGE.read_text(encoding="utf-8")
    assert rewrite(text) == text, "run: python -m broker.telemetry.reference docs/operations.md"


def test_every_metric_is_listed() -> None:
    text = reference()
    assert all(f"| `{family.name}` |" in text for family in FAMILIES)


def test_a_page_without_markers_is_not_touched() -> None:
    with pytest.raises(ValueError, match="metrics"):
        rewrite("# Something else\n")
