"""Cells that failed are measured again, and stand in the result that they failed in, which says so
(pure)."""

from collections.abc import Mapping
from typing import Any

Result = Mapping[str, Any]


def failed(result: Result) -> set[tuple[str, str]]:
    """Section and name of its cells that failed."""
    return {(row["section"], row["name"]) for row in result["cells"] if "failure" in row}


def mended(result: Result, later: Result) -> dict[str, Any]:
    """`result` with the cells of `later` in place of those of the same name."""
    rows = {(row["section"], row["name"]): row for row in later["cells"]}
    if not rows:
        return dict(result)
    names = ", ".join(name for _, name in rows)
    note = (
        f"These had failed and were measured again, by themselves, on {later['date']} at commit"
        f" {later['commit']}: {names}."
    )
    cells = [rows.get((row["section"], row["name"]), row) for row in result["cells"]]
    return {**result, "cells": cells, "note": f"{result['note']} {note}".strip()}
