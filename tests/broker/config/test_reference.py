"""The reference page that says something else than the program."""

from pathlib import Path

import pytest

from broker.config import SETTINGS
from broker.config.reference import reference, rewrite, size_text

PAGE = Path(__file__).parents[3] / "docs" / "configuration.md"


def test_the_page_is_what_the_table_says() -> None:
    text = PAGE.read_text(encoding="utf-8")
    assert rewrite(text) == text, "run: python -m broker.config.reference docs/configuration.md"


def test_every_setting_has_name_flag_and_variable_there() -> None:
    text = reference()
    for setting in SETTINGS:
        for name in (setting.name, setting.flag, setting.variable):
            assert f"`{name}`" in text


def test_a_page_without_markers_is_not_touched() -> None:
    with pytest.raises(ValueError, match="settings"):
        rewrite("# Something else\n")


@pytest.mark.parametrize(
    ("size", "text"), [(0, "0"), (1000, "1000"), (1024, "1KiB"), (3 * 2**20, "3MiB")]
)
def test_sizes_are_shown_as_they_may_be_written(size: int, text: str) -> None:
    assert size_text(size) == text
