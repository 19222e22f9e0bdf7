"""What the page says of the machine is what the machine tells."""

import pytest

from bench.machine import build_flags


@pytest.mark.parametrize(
    ("configured", "said"),
    [
        (
            "'--enable-optimizations' '--with-lto=full' 'LDFLAGS=-Wl'",
            "build flags: --enable-optimizations --with-lto=full",
        ),
        ("'--enable-shared' 'LDFLAGS=--with-lto'", "build flags: none of optimization named"),
        ("", "build flags: none of optimization named"),
    ],
)
def test_a_python_that_was_built_without_optimizations(configured: str, said: str) -> None:
    assert build_flags(configured) == said
