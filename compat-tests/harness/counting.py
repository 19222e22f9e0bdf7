"""A program run with a counter of the interpreter's instructions: `python counting.py PROGRAM …`.

SIGUSR1 begins to count the main thread's instructions, SIGUSR2 ends it and writes them as JSON, by
function, to the file that COUNTS names. Each signal is answered by a line on the standard output.
"""

import json
import os
import runpy
import signal
import sys
from collections import Counter
from pathlib import Path
from types import CodeType, FrameType
from typing import Any

_counts: Counter[CodeType] = Counter()


def _enter(frame: FrameType, event: str, argument: object) -> Any:
    frame.f_trace_opcodes = True
    frame.f_trace_lines = False
    return _step


def _step(frame: FrameType, event: str, argument: object) -> Any:
    if event == "opcode":
        _counts[frame.f_code] += 1
    return _step


def _begin(number: int, frame: FrameType | None) -> None:
    _counts.clear()
    sys.settrace(_enter)
    print("counting", flush=True)


def _end(number: int, frame: FrameType | None) -> None:
    sys.settrace(None)
    by_name: Counter[str] = Counter()
    for code, count in _counts.items():
        by_name[f"{code.co_filename}:{code.co_qualname}"] += count
    Path(os.environ["COUNTS"]).write_text(json.dumps(by_name))
    print("counted", flush=True)


if __name__ == "__main__":
    signal.signal(signal.SIGUSR1, _begin)
    signal.signal(signal.SIGUSR2, _end)
    sys.argv = sys.argv[1:]
    runpy.run_path(sys.argv[0], run_name="__main__")
