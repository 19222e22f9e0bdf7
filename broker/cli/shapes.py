"""What several commands have in common: an address as an argument, a table as an answer."""

from collections.abc import Sequence

import click


class Address(click.ParamType[tuple[str, int]]):
    """HOST:PORT; an IPv6 host stands in brackets."""

    name = "HOST:PORT"

    def __init__(self, example: str) -> None:
        self._example = example

    def convert(
        self, value: object, param: click.Parameter | None, ctx: click.Context | None
    ) -> tuple[str, int]:
        if isinstance(value, tuple):
            return value
        host, colon, port = str(value).rpartition(":")
        if not (colon and host and port.isascii() and port.isdigit() and 0 < int(port) < 65536):
            self.fail(f"{value!r} is no HOST:PORT, such as {self._example}", param, ctx)
        return host.removeprefix("[").removesuffix("]"), int(port)


def table(rows: Sequence[tuple[str, ...]]) -> list[str]:
    """The lines of a table: columns as wide as their widest cell."""
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    return [
        "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip()
        for row in rows
    ]
