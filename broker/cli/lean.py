"""Imports of a node that take no more than they must.

Half of a node's start is importing. Two things make it longer than it needs to be, and neither is
ours to change where it is made; so this is the one place that is about it.
"""

import gc
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from types import ModuleType
from typing import Final, cast

NOT_WANTED: Final = ("cryptography", "hypothesis", "rich")
"""Packages that a library imports if they are there, for something that a node does not do, or not
there: pysyncobj could encrypt what it sends, kio registers its types for property tests, structlog
could colour tracebacks. Where all are installed, 220 ms of CPU and 20 MB."""


@contextmanager
def lean_imports() -> Iterator[None]:
    """Import inside what a node needs, as if nothing else were installed, and without looking for
    garbage among code, of which there is none: a tenth of the time."""
    modules = cast(dict[str, ModuleType | None], sys.modules)
    hidden = [name for name in NOT_WANTED if name not in modules]
    modules.update(dict.fromkeys(hidden))  # To import what is None fails as if it were absent.
    gc.disable()
    try:
        yield
    finally:
        gc.enable()
        for name in hidden:
            del modules[name]
