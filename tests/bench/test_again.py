"""A cell that was measured later than the others must not look as if it was not."""

from typing import Any

from bench.again import failed, mended


def _row(name: str, **more: Any) -> dict[str, Any]:
    return {"section": "native", "name": name, **more}


def test_only_what_failed_is_replaced_and_the_page_says_when() -> None:
    good, bad = _row("PUT", samples=1), _row("GET", failure="the disk is full")
    result = {"note": "A run.", "date": "then", "cells": [good, bad]}
    assert failed(result) == {("native", "GET")}
    later = {"date": "now", "commit": "abc", "cells": [_row("GET", samples=2)]}
    found = mended(result, later)
    assert found["cells"] == [good, _row("GET", samples=2)]
    assert found["date"] == "then"
    assert found["note"] == (
        "A run. These had failed and were measured again, by themselves, on now at commit abc: GET."
    )
    assert not failed(found)


def test_a_page_on_which_nothing_failed_stays_as_it_is() -> None:
    result = {"note": "A run.", "date": "then", "cells": [_row("PUT", samples=1)]}

    assert mended(result, {"date": "now", "commit": "abc", "cells": []}) == result
